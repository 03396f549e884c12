#!/usr/bin/env python3
"""How long drafts take from Python, and SGLang's own corpus beside ours on the same answers.

    retrieval.py ANSWERS.jsonl [--requests 256] [--nodes 12]

A line of ANSWERS has `task`, `prompt_ids` and `output_ids`, as `lookahead generate --record` writes them. First, a batch of requests, each in the
middle of an answer, all other answers learned: milliseconds for all drafts. Then the answers one after the other, as SGLang's worker drives a
draft source: tokens a pass, and microseconds a step. SGLang's corpus is built from SGLang's sources if SGLang is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from lookahead_drafts import DraftTrie
from lookahead_drafts.settings import Settings
from lookahead_drafts.sglang import LookaheadCorpus

DEPTH = 18


def batch(answers: list[dict[str, Any]], count: int, nodes: int) -> None:
    trie = DraftTrie(1 << 30)
    for answer in answers:
        trie.warm_up(answer["output_ids"])
    requests = []
    for index in range(count):
        answer = answers[index % len(answers)]
        request = trie.start(np.array(answer["prompt_ids"]))
        said = answer["output_ids"]
        request.append(said[: len(said) * (index // len(answers) + 1) // (count // len(answers) + 2)])
        requests.append(request)
    one, chains = [], []
    for _ in range(200):
        start = time.perf_counter()
        drafts = trie.draft_trees(requests, nodes)
        one.append(time.perf_counter() - start)
    for _ in range(50):
        start = time.perf_counter()
        for request in requests:
            request.draft_tree(nodes)
        chains.append(time.perf_counter() - start)
    mean = (len(drafts.tokens) - count) / count
    times = sorted(one)
    print(
        f"{count} requests, at most {nodes} nodes each ({mean:.1f} on the average), {trie.stats()['tokens']} tokens learned: "
        f"{times[100] * 1e3:.2f} ms for all in one call (median of 200; 99 of 100 within {times[197] * 1e3:.2f} ms), "
        f"{statistics.median(chains) * 1e3:.2f} ms in {count} calls"
    )


def drive(source: Any, answers: list[dict[str, Any]], nodes: int, depth: int, whole_prompts: bool) -> dict[str, Any]:
    """Tokens and passes by task, and the seconds of each step in the source."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    seconds = []
    for number, answer in enumerate(answers):
        name, said = f"{number}", 1
        prompt, output = answer["prompt_ids"], answer["output_ids"]
        if whole_prompts:
            source.begin(name, prompt)
        while said < len(output):
            context = prompt[-depth:] + output[:said]
            start = time.perf_counter()
            source.synchronize()
            tokens, mask = source.batch_get([name], [context[-depth:]], [len(prompt) + said])
            elapsed = time.perf_counter() - start
            mask = mask.reshape(nodes, nodes)
            parents = [max(np.flatnonzero(mask[node, :node]), default=-1) for node in range(nodes)]
            at, gained = 0, 0
            while at >= 0 and said + gained < len(output):
                token = output[said + gained]
                gained += 1
                at = next((node for node in range(at + 1, nodes) if parents[node] == at and tokens[node] == token), -1)
            said += gained
            start = time.perf_counter()
            source.batch_put([(prompt[-depth:] + output[:said])[-depth:]])
            seconds.append(elapsed + time.perf_counter() - start)
            totals[answer["task"]][0] += gained
            totals[answer["task"]][1] += 1
        source.erase_match_state([name])
    return {"totals": totals, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--nodes", type=int, default=12)
    arguments = parser.parse_args()
    answers = [json.loads(line) for line in arguments.answers.read_text(encoding="utf-8").splitlines()]
    batch(answers, arguments.requests, arguments.nodes)

    sources: dict[str, Any] = {}
    ours = LookaheadCorpus(Settings(), None, arguments.nodes, max_trie_depth=DEPTH)
    sources["lookahead"] = drive(ours, answers, arguments.nodes, ours.tail, whole_prompts=True)
    try:
        from sglang.srt.speculative.cpp_ngram.ngram_corpus import NgramCorpus
    except ImportError as error:
        print(f"SGLang's corpus is not here: {error}")
    else:
        for match in ("BFS", "PROB"):
            theirs = NgramCorpus(max_trie_depth=DEPTH, draft_token_num=arguments.nodes, match_type=match)
            sources[f"SGLang {match}"] = drive(theirs, answers, arguments.nodes, DEPTH, whole_prompts=False)
    print(f"\ntokens a pass, {arguments.nodes} nodes with the root\n")
    print("| task | " + " | ".join(sources) + " |")
    print("| --- |" + " ---: |" * len(sources))
    for task in dict.fromkeys(answer["task"] for answer in answers):
        cells = [f"{source['totals'][task][0] / source['totals'][task][1]:.2f}" for source in sources.values()]
        print(f"| {task} | " + " | ".join(cells) + " |")
    whole = [[sum(pair[index] for pair in source["totals"].values()) for index in (0, 1)] for source in sources.values()]
    print("| all | " + " | ".join(f"{tokens / passes:.2f}" for tokens, passes in whole) + " |")
    medians = [statistics.median(source["seconds"]) * 1e6 for source in sources.values()]
    print("| microseconds a step, median | " + " | ".join(f"{median:.0f}" for median in medians) + " |")


if __name__ == "__main__":
    main()
