"""What a forward pass costs by its number of tokens, and how large a draft pays by that."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lookahead_drafts._native import DraftTrie
from lookahead_drafts.transformers.forward import Forward, Row, StandIn, keep_paths, takes_trees

# Sizes that a cost curve is measured at, and passes of each: the fastest counts, as others were disturbed.
CURVE_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
CURVE_PASSES = 3

_curves: weakref.WeakKeyDictionary[Any, CostCurve] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class CostCurve:
    """What a forward pass over so many tokens costs, in passes over one: non-decreasing."""

    sizes: tuple[int, ...]
    costs: tuple[float, ...]

    def __call__(self, tokens: int) -> float:
        """Between the sizes measured, linear; beyond them, as between the last two."""
        if tokens > self.sizes[-1] and len(self.sizes) > 1:
            slope = (self.costs[-1] - self.costs[-2]) / (self.sizes[-1] - self.sizes[-2])
            return self.costs[-1] + slope * (tokens - self.sizes[-1])
        return float(np.interp(tokens, self.sizes, self.costs))

    def best_size(self, probabilities: Sequence[npt.NDArray[np.float32]]) -> int:
        """How many nodes of each row's draft make the most expected tokens for the time: all rows get the same number."""
        longest = max(len(row) for row in probabilities)
        expected = np.zeros(longest)
        for row in probabilities:
            expected[: len(row)] += row
        rows = len(probabilities)
        # The root of each row, of probability 1, is there in any case; its token is the plain step's.
        rates = [total / self(rows * size) for size, total in enumerate(np.cumsum(expected), start=1)]
        return int(np.argmax(rates)) + 1


def measure_cost(model: Any, sizes: Sequence[int] = CURVE_SIZES) -> CostCurve:
    """What a pass of `model` over so many tokens costs, behind a short context: a second or so for a small model."""
    return _measure(model, takes_trees(model), sizes)


def measured_cost(model: Any, with_trees: bool) -> CostCurve:
    if model not in _curves:
        _curves[model] = _measure(model, with_trees)
    return _curves[model]


@torch.no_grad()
def _measure(model: Any, with_trees: bool, sizes: Sequence[int] = CURVE_SIZES) -> CostCurve:
    forward = Forward(model, with_trees)
    trie = DraftTrie()
    context = torch.ones((1, 64), dtype=torch.long, device=model.device)
    row = Row(0, trie.start([1]), 0, context, length=65, cached=64)
    seconds = []
    for size in sizes:
        best = float("inf")
        tree = _chain_tree(trie, size)
        _, cache = forward.prefill(context, None, None)
        for _ in range(CURVE_PASSES + 1):
            _synchronize(model.device)
            start = time.perf_counter()
            forward.verify([row], ([tree], [size]), size, cache)
            _synchronize(model.device)
            best = min(best, time.perf_counter() - start)
            keep_paths([row], [[]], size, cache, grow=False)
        seconds.append(best)
    # A pass over more tokens that was faster tells that the one over fewer was disturbed.
    for index in reversed(range(len(seconds) - 1)):
        seconds[index] = min(seconds[index], seconds[index + 1])
    return CostCurve(tuple(sizes), tuple(second / seconds[0] for second in seconds))


def _synchronize(device: Any) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _chain_tree(trie: DraftTrie, size: int) -> Any:
    return StandIn([1] * size, [max(node - 1, 0) for node in range(size)])
