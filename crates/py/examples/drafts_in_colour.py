#!/usr/bin/env python3
"""Generates with drafts in Transformers and draws them: a page with the tree of every step, its nodes coloured by what became of
them.

    drafts_in_colour.py MODEL --prompt "…" [--out drafts.html] [--steps 12]

MODEL is a folder or a name of the hub. Green nodes were accepted, grey ones not; the number is the estimated probability of the
path to the node. The answer is printed, and how many tokens a pass made.
"""

from __future__ import annotations

import argparse
import html
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lookahead_drafts import DraftTrie
from lookahead_drafts.transformers import DraftStep, lookahead

COLUMN, LINE, MARGIN = 150, 26, 14
ACCEPTED, REJECTED, ROOT = "#2e9d5b", "#b8bfc6", "#3b5b92"


def rows_of(step: DraftStep) -> list[int]:
    """The line that each node is drawn on: a first child on its parent's, each other leaf below all before."""
    parents = step.tree.parents.tolist()[: step.size]
    children: dict[int, list[int]] = {}
    for node in range(1, step.size):
        children.setdefault(parents[node], []).append(node)
    rows = [0] * step.size
    below = 0
    stack = [0]
    while stack:
        node = stack.pop()
        for number, child in enumerate(children.get(node, [])):
            if number:
                below += 1
            rows[child] = rows[node] if number == 0 else below
        stack += reversed(children.get(node, []))
    return rows


def picture(step: DraftStep, words: dict[int, str]) -> str:
    """The tree of a step as SVG."""
    tokens, parents = step.tree.tokens.tolist(), step.tree.parents.tolist()
    depths, probabilities = step.tree.depths.tolist(), step.tree.probabilities.tolist()
    rows = rows_of(step)
    width = MARGIN * 2 + COLUMN * (max(depths[: step.size]) + 1)
    height = MARGIN * 2 + LINE * (max(rows) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="monospace" font-size="12">'
    ]

    def place(node: int) -> tuple[int, int]:
        return MARGIN + depths[node] * COLUMN, MARGIN + rows[node] * LINE + LINE // 2

    for node in range(1, step.size):
        (x, y), (to_x, to_y) = place(parents[node]), place(node)
        colour = ACCEPTED if node in step.accepted else REJECTED
        start = x + COLUMN - 30
        parts.append(f'<path d="M{start} {y} C{to_x - 12} {y} {start} {to_y} {to_x} {to_y}" fill="none" stroke="{colour}"/>')
    for node in range(step.size):
        x, y = place(node)
        colour = ROOT if node == 0 else ACCEPTED if node in step.accepted else REJECTED
        label = html.escape(repr(words[tokens[node]])[1:-1][:11])
        chance = "" if node == 0 else f" {probabilities[node]:.2f}"
        parts.append(f'<rect x="{x}" y="{y - 10}" width="{COLUMN - 30}" height="20" rx="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + 6}" y="{y + 4}" fill="white">{label}{chance}</text>')
    return "\n".join([*parts, "</svg>"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument(
        "--prompt", default="Write a Python function that counts the words of a text, then one that counts its lines."
    )
    parser.add_argument("--out", type=Path, default=Path("drafts.html"))
    parser.add_argument("--svg", type=Path, help="also the step with the most accepted tokens, as a picture of its own")
    parser.add_argument("--steps", type=int, default=12, help="steps to draw, those with drafts alone")
    parser.add_argument("--max-new-tokens", type=int, default=120)
    arguments = parser.parse_args()

    tokenizer: Any = AutoTokenizer.from_pretrained(arguments.model)
    model: Any = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    messages = [{"role": "user", "content": arguments.prompt}]
    inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)

    steps: list[DraftStep] = []
    # Trees of one size, whatever a pass costs here: there is more to see.
    loop = lookahead(DraftTrie(), draft_length=12, cost_curve=None, observer=steps.append)
    answer = model.generate(**inputs, custom_generate=loop, max_new_tokens=arguments.max_new_tokens)
    print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

    drawn = [step for step in steps if step.size > 1][: arguments.steps]
    words = {token: tokenizer.decode([token]) for step in drawn for token in step.tree.tokens.tolist()}
    body = "".join(f"<p>{len(step.tokens)} tokens</p>{picture(step, words)}" for step in drawn)
    arguments.out.write_text(f"<!doctype html><meta charset=utf-8><title>Drafts</title>{body}", encoding="utf-8")
    if arguments.svg and drawn:
        best = max(drawn, key=lambda step: (len(step.accepted), step.size))
        arguments.svg.write_text(picture(best, words), encoding="utf-8")
    stats = loop.stats
    print(f"\n{stats.tokens} tokens in {stats.passes} passes: {stats.edl:.2f} a pass; the drafts are in {arguments.out}")


if __name__ == "__main__":
    main()
