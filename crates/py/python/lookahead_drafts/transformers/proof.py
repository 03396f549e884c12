"""Whether a model verifies drafts exactly: found out on the model itself, at its first answer, with a text of a few tokens.

The reference is plain decoding, token by token, of a batch of two of which one is padded.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from typing import Any

import torch
from transformers import GenerationConfig

from lookahead_drafts._native import DraftTrie
from lookahead_drafts.transformers.chains import RECURRENT, Chains
from lookahead_drafts.transformers.rows import Row, StandIn
from lookahead_drafts.transformers.trees import Trees

PROMPT = 7
PAD = 2

_Known = weakref.WeakKeyDictionary[Any, tuple[Any, bool]]
_trees: _Known = weakref.WeakKeyDictionary()
_chains: _Known = weakref.WeakKeyDictionary()


def takes_trees(model: Any) -> bool:
    """Whether nodes see their ancestors alone, stand at the depth that they are said to, and can be kept by column."""
    return _known(_trees, model, _verifies_a_tree)


def takes_chains(model: Any) -> bool:
    """Whether several tokens in a pass are as good as one after the other, and rejected ones leave no trace."""
    return _known(_chains, model, _verifies_a_chain)


def _known(known: _Known, model: Any, prove: Callable[[Any], bool]) -> bool:
    attention = model.config.get_text_config(decoder=True)._attn_implementation
    if known.get(model, (None, False))[0] != attention:
        try:
            proven = prove(model)
        except Exception:  # whatever a model raises that is not made for such a pass
            proven = False
        known[model] = attention, proven
    return known[model][1]


class Rehearsal:
    """A batch of two texts, of which one is padded, and passes over tokens behind them."""

    def __init__(self, model: Any, way: type[Trees] | type[Chains], rows: int = 2, length: int = PROMPT) -> None:
        self.vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
        prompt = torch.arange(length, device=model.device)[None].repeat(rows, 1) % self.vocabulary
        mask = torch.ones_like(prompt)
        mask[1:, :PAD] = 0
        kwargs: dict[str, Any] = {"attention_mask": mask if rows > 1 else None, "use_cache": True}
        kwargs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
        self.passes = way(model, _inputs(model, kwargs), GenerationConfig())  # type: ignore[no-untyped-call]
        trie = DraftTrie()
        self.ids = torch.cat([prompt, torch.zeros((rows, 1024), dtype=torch.long, device=model.device)], dim=-1)
        self.rows = [
            Row(index, trie.start([1]), PAD if index else 0, self.ids[index : index + 1], length, length)
            for index in range(rows)
        ]
        self.passes.prefill(prompt)

    def verify(self, roots: list[int], drafts: list[int], parents: list[int]) -> Any:
        """Logits of each node behind each row's own root, shape (rows, nodes, vocabulary)."""
        trees = []
        for row, root in zip(self.rows, roots):
            row.ids[0, row.length] = root % self.vocabulary
            row.length += 1
            trees.append(StandIn([root % self.vocabulary, *(draft % self.vocabulary for draft in drafts)], parents))
        return self.passes.verify(self.rows, trees, len(parents))

    def keep(self, paths: list[list[int]], tokens: list[list[int]]) -> None:
        for row, gained in zip(self.rows, tokens):
            for token in gained:
                row.ids[0, row.length] = token % self.vocabulary
                row.length += 1
        self.passes.keep(self.rows, paths)

    def plain(self, *tokens: int) -> Any:
        """Logits behind each of these tokens, one a pass, shape (rows, tokens, vocabulary)."""
        logits = []
        for token in tokens:
            logits.append(self.verify([token] * len(self.rows), [], [0]))
            self.keep([[] for _ in self.rows], [[] for _ in self.rows])
        return torch.cat(logits, dim=1)


def _inputs(model: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """What `generate` would hand over to this model."""
    takes = inspect.signature(model.forward).parameters
    inputs = {name: value for name, value in kwargs.items() if name in takes}
    if "logits_to_keep" in takes:
        inputs["logits_to_keep"] = 1
    return inputs


def _same(seen: Any, expected: Any, other: Any) -> bool:
    """Equal but for sums in another order. In half precision these are more; it is more yet to have seen the `other` text."""
    spread = expected.max() - expected.min()
    if expected.dtype in (torch.float32, torch.float64):
        tolerance = spread / 1000
    else:
        tolerance = torch.minimum((other - expected).abs().max() / 10, spread / 100)
    return bool((seen - expected).abs().max() <= tolerance)


@torch.no_grad()
def _verifies_a_tree(model: Any) -> bool:
    other = Rehearsal(model, Chains).plain(8, 9, 10, 11)[:, -1]
    branch = Rehearsal(model, Chains).plain(8, 10, 11, 12)
    short = Rehearsal(model, Chains).plain(8, 12)
    trees = Rehearsal(model, Trees)
    tree = trees.verify([8, 8], [9, 10, 11], [0, 0, 0, 2])
    if not _same(tree[:, 3], branch[:, 2], other):
        return False
    # One row keeps a path, the other its root alone: then their columns are not their positions.
    trees.keep([[2, 3], []], [[10, 11], []])
    second = trees.verify([12, 12], [13, 14], [0, 0, 0])
    return _same(second[0, 0], branch[0, 3], other[0]) and _same(second[1, 0], short[1, 1], other[1])


@torch.no_grad()
def _verifies_a_chain(model: Any) -> bool:
    other = Rehearsal(model, Chains).plain(8, 9, 10, 11)[:, -1]
    plain = Rehearsal(model, Chains).plain(8, 10, 11, 12, 13)
    chains = Rehearsal(model, Chains)
    first = chains.verify([8, 8], [10, 9, 9], [0, 0, 1, 2])
    chains.keep([[1], [1]], [[10], [10]])
    second = chains.verify([11, 11], [], [0])
    chains.keep([[], []], [[], []])
    third = chains.verify([12, 12], [13], [0, 0])
    chains.keep([[1], [1]], [[13], [13]])
    seen = torch.cat([first[:, :2], second, third], dim=1)
    return all(_same(seen[:, step], plain[:, step], other) for step in range(5)) and _reads_states(model, seen, plain)


def _reads_states(model: Any, seen: Any, plain: Any) -> bool:
    """Whether a pass over several tokens goes on from recurrent states, which may be too faint to be missed otherwise."""
    without = Rehearsal(model, Chains)
    states = [
        state
        for layer in without.passes.cache.layers
        if type(layer) in RECURRENT
        for state in layer.recurrent_states.values()
        if state is not None
    ]
    for state in states:
        state.zero_()
    if not states:
        return True
    missed = (without.plain(8) - plain[:, :1]).abs().max()
    return bool((seen[:, :1] - plain[:, :1]).abs().max() <= missed / 3)
