#!/usr/bin/env python3
"""Transformers: plain `generate`, its prompt lookup and ours, on the same prompts, greedily, in turn: tokens/s and EDL.

    transformers_modes.py MODEL PROMPTS.jsonl… [--limit 4] [--dtype float32] [--lookup 4 10] [--out results.jsonl]

A line of PROMPTS has `prompt` or `messages`; a file is a task. The first LIMIT prompts of each are *cold* (a draft engine that knows
nothing, for each), the next LIMIT warm one up for each task, and the next LIMIT are *warm*. For each prompt the modes run one after the
other. Decoding is what comes after the prompt's own pass; the whole has that too. Where an answer differs from plain's, the gap between the two greatest logits is shown.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lookahead_drafts import DraftTrie
from lookahead_drafts.transformers import Lookahead, lookahead, measure_cost


class Bench:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.tokenizer: Any = AutoTokenizer.from_pretrained(arguments.model)
        self.model: Any = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype))
        self.curve = measure_cost(self.model)
        costs = ", ".join(f"{size}: {cost:.2f}" for size, cost in zip(self.curve.sizes, self.curve.costs))
        alone, several = (f"{slope * 1000:.2f}" for slope in self.curve.context)
        print(f"{arguments.dtype}, a pass over so many tokens costs {costs}")
        print(f"1000 tokens of context add {alone} to a pass over one, {several} to one over several")
        self.records: list[dict[str, Any]] = []
        self.passes = 0
        self.prefilled = 0.0
        forward = self.model.forward

        def counted(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            self.passes += 1
            if self.passes == 1:
                self.prefilled = time.perf_counter()
            return output

        # The signature is what `generate` and the drafts look at.
        counted.__signature__ = __import__("inspect").signature(forward)  # type: ignore[attr-defined]
        self.model.forward = counted

    def inputs(self, row: dict[str, Any]) -> Any:
        messages = row.get("messages") or [{"role": "user", "content": row["prompt"]}]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)

    def loop(self, trie: DraftTrie) -> Lookahead:
        return lookahead(
            trie, draft_length=self.arguments.draft_length, cost_curve=None if self.arguments.fixed else self.curve
        )

    def run(self, phase: str, task: str, row: dict[str, Any], trie: DraftTrie) -> None:
        inputs = self.inputs(row)
        prompt = inputs["input_ids"].shape[1]
        options = {**inputs, "max_new_tokens": self.arguments.max_tokens, "do_sample": False}
        modes: dict[str, dict[str, Any]] = {"plain": {}}
        modes |= {f"lookup:{count}": {"prompt_lookup_num_tokens": count} for count in self.arguments.lookup}
        modes["lookahead"] = {"custom_generate": self.loop(trie)}
        plain: list[int] = []
        for mode, more in modes.items():
            self.passes, start = 0, time.perf_counter()
            ids = self.model.generate(**options, **more)[0].tolist()
            end = time.perf_counter()
            plain = plain or ids
            record = {
                "phase": phase,
                "task": task,
                "mode": mode,
                "tokens": len(ids) - prompt,
                "seconds": end - start,
                "decode_seconds": end - self.prefilled,
                "passes": self.passes,
                "prompt_ids": ids[:prompt],
                "output_ids": ids[prompt:],
                "gap": self.gap(plain, ids),
            }
            self.records.append(record)
            with open(self.arguments.out, "a", encoding="utf-8") as out:
                out.write(json.dumps(record) + "\n")

    def gap(self, plain: list[int], ids: list[int]) -> float | None:
        """Between the two greatest logits where the ids first differ; none if they do not."""
        if plain == ids:
            return None
        first = next(index for index, (one, other) in enumerate(zip([*plain, -1], [*ids, -1])) if one != other)
        with torch.no_grad():
            top = self.model(input_ids=torch.tensor([plain[:first]])).logits[0, -1].float().topk(2).values
        return float(top[0] - top[1])

    def table(self) -> None:
        modes = list(dict.fromkeys(record["mode"] for record in self.records))
        for phase in ("cold", "warm"):
            print(
                f"\n{phase}: times plain's tokens/s, decoding / whole (EDL; answers that differ, the greatest gap of their logits)\n"
            )
            print("| task | plain tokens/s, decoding / whole |" + "".join(f" {mode} |" for mode in modes[1:]))
            print("| --- | ---: |" + " ---: |" * (len(modes) - 1))
            ratios: dict[str, list[list[float]]] = defaultdict(list)
            for task in dict.fromkeys(record["task"] for record in self.records):
                cells = []
                plain: list[float] = []
                for mode in modes:
                    here = [r for r in self.records if (r["phase"], r["task"], r["mode"]) == (phase, task, mode)]
                    tokens, whole, decoding, passes = (
                        sum(r[name] for r in here) for name in ("tokens", "seconds", "decode_seconds", "passes")
                    )
                    # The first token of an answer comes with its prompt's pass.
                    rates = [(tokens - len(here)) / decoding, tokens / whole]
                    plain = plain or rates
                    ratios[mode].append([own / other for own, other in zip(rates, plain)])
                    gaps = [r["gap"] for r in here if r["gap"] is not None]
                    differ = f"{len(gaps)}/{len(here)}" + (f", {max(gaps):.1e}" if gaps else "")
                    times = "x / ".join(f"{ratio:.2f}" for ratio in ratios[mode][-1])
                    cells.append(f"{times}x ({tokens / passes:.2f}; {differ})")
                print(f"| {task} | {plain[0]:.1f} / {plain[1]:.1f} | " + " | ".join(cells[1:]) + " |")
            means = [
                "x / ".join(f"{sum(r[i] for r in ratios[mode]) / len(ratios[mode]):.2f}" for i in (0, 1)) for mode in modes[1:]
            ]
            print("| mean | | " + " | ".join(f"{mean}x" for mean in means) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("prompts", nargs="+", type=Path)
    parser.add_argument("--limit", type=int, default=4, help="prompts of a task and phase")
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--draft-length", type=int, default=32)
    parser.add_argument("--fixed", action="store_true", help="drafts as long as that, whatever a pass costs")
    parser.add_argument("--lookup", type=int, nargs="*", default=[4, 10], help="settings of prompt_lookup_num_tokens")
    parser.add_argument("--out", default="transformers_modes.jsonl", help="records are added to it")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    limit = arguments.limit
    for path in arguments.prompts:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[: 3 * limit]]
        for row in rows[:limit]:
            bench.run("cold", path.stem, row, DraftTrie())
        trie = DraftTrie()
        for row in rows[limit : 2 * limit]:
            bench.model.generate(**bench.inputs(row), max_new_tokens=arguments.max_tokens, custom_generate=bench.loop(trie))
        for row in rows[2 * limit :]:
            bench.run("warm", path.stem, row, trie)
    bench.table()


if __name__ == "__main__":
    main()
