#!/usr/bin/env python3
"""vLLM's own drafters and ours on the same prompts, one request at a time, greedily: tokens/s and accepted length.

    vllm_modes.py MODEL PROMPTS.jsonl… [--modes plain ngram:8 suffix:8 lookahead:8] [--limit 6] [--out results.jsonl]

A line of PROMPTS has `prompt` (a text) or `messages`; a file is a task. Each mode runs in a process of its own, which knows nothing at
first: the first LIMIT prompts of each task are *cold*, the next LIMIT are warm-up, the next LIMIT are *warm*. Seconds include the
prefill. EDL is tokens per forward pass, the prefill's one included. `NAME:K` drafts at most K tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

PHASES = ("cold", "warm-up", "warm")


def speculative(mode: str) -> dict[str, Any] | None:
    name, _, count = mode.partition(":")
    if name == "plain":
        return None
    config: dict[str, Any] = {"method": name, "num_speculative_tokens": int(count)}
    if name == "ngram":
        config |= {"prompt_lookup_min": 2, "prompt_lookup_max": 4}
    if name == "lookahead":
        config |= {"method": "custom_class", "model": "lookahead_drafts.vllm.LookaheadProposer"}
    return config


def text_of(row: dict[str, Any], template: Any) -> str:
    messages = row.get("messages") or [{"role": "user", "content": row["prompt"]}]
    text: str = template(messages, tokenize=False, add_generation_prompt=True)
    return text


def decode(arguments: argparse.Namespace, mode: str) -> None:
    """One mode, in this process: a JSON line for each answer."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{(os.cpu_count() or 1) - 1}")
    from vllm import LLM, SamplingParams

    llm = LLM(
        arguments.model,
        dtype="bfloat16",
        max_model_len=2048,
        max_num_seqs=8,
        speculative_config=speculative(mode),
        disable_log_stats=False,
    )
    tokenizer = llm.get_tokenizer()
    template = tokenizer.apply_chat_template
    sampling = SamplingParams(temperature=0, max_tokens=arguments.max_tokens)

    def accepted() -> int:
        name = "vllm:spec_decode_num_accepted_tokens"
        return sum(metric.value for metric in llm.get_metrics() if metric.name == name)

    llm.generate("The first request compiles and allocates.", sampling, use_tqdm=False)
    with open(arguments.out, "a", encoding="utf-8") as out:
        for number, phase in enumerate(PHASES):
            for path in arguments.prompts:
                lines = Path(path).read_text(encoding="utf-8").splitlines()
                for line in lines[number * arguments.limit : (number + 1) * arguments.limit]:
                    row = json.loads(line)
                    if arguments.random:
                        prompt: Any = {"prompt_token_ids": row["token_ids"]}
                    else:
                        prompt = text_of(row, template)
                    before, start = accepted(), time.perf_counter()
                    answer = llm.generate(prompt, sampling, use_tqdm=False)[0].outputs[0]
                    seconds, ids = time.perf_counter() - start, list(answer.token_ids)
                    record = {
                        "mode": mode,
                        "phase": phase,
                        "task": Path(path).stem,
                        "tokens": len(ids),
                        "accepted": accepted() - before,
                        "seconds": seconds,
                        "token_ids": ids,
                    }
                    out.write(json.dumps(record) + "\n")
                    out.flush()


def table(path: str, modes: list[str]) -> None:
    """Tokens/s, EDL and answers equal to plain's, by phase and task."""
    records = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    totals: dict[tuple[str, str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    answers: dict[tuple[str, str, str], list[list[int]]] = defaultdict(list)
    for record in records:
        key = (record["phase"], record["task"], record["mode"])
        for index, name in enumerate(("tokens", "seconds", "accepted")):
            totals[key][index] += record[name]
        answers[key].append(record["token_ids"])
    for phase in PHASES:
        if phase == "warm-up":
            continue
        print(f"\n{phase}: tokens/s (EDL; answers equal to plain's)\n")
        print("| task |" + "".join(f" {mode} |" for mode in modes))
        print("| --- |" + " ---: |" * len(modes))
        for task in dict.fromkeys(record["task"] for record in records):
            cells = []
            for mode in modes:
                tokens, seconds, accepted = totals[phase, task, mode]
                if not tokens:
                    cells.append("–")
                    continue
                plain = answers[phase, task, "plain"]
                equal = sum(a == b for a, b in zip(answers[phase, task, mode], plain))
                edl = tokens / (tokens - accepted)
                cells.append(f"{tokens / seconds:.1f} ({edl:.2f}; {equal}/{len(plain)})")
            print(f"| {task} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("prompts", nargs="*")
    modes = ["plain", "ngram:4", "ngram:8", "suffix:4", "suffix:8", "lookahead:8"]
    parser.add_argument("--modes", nargs="+", default=modes)
    parser.add_argument("--limit", type=int, default=6, help="prompts of a task and phase")
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--random", action="store_true", help="the lines have `token_ids` instead of texts")
    parser.add_argument("--out", default="vllm_modes.jsonl", help="answers are added to it; the table is of all in it")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        decode(arguments, arguments.one)
        return
    if arguments.prompts:
        for mode in arguments.modes:
            print(f"{mode}…", file=sys.stderr, flush=True)
            with open(arguments.out + ".log", "a", encoding="utf-8") as log:
                command = [sys.executable, __file__, *sys.argv[1:], "--one", mode]
                subprocess.run(command, check=True, stdout=log, stderr=log)
    table(arguments.out, arguments.modes)


if __name__ == "__main__":
    main()
