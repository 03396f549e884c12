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

from lookahead_drafts.transformers.chains import Chains
from lookahead_drafts.transformers.limits import positions_of
from lookahead_drafts.transformers.proof import Rehearsal
from lookahead_drafts.transformers.trees import Trees
from lookahead_drafts.transformers.ways import trees_are_exact

# Sizes that a cost curve is measured at, and passes of each: the fastest counts, as others were disturbed.
CURVE_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
CURVE_PASSES = 3

# Tokens of context that the curve is measured behind; and what a context costs, with sizes of one and of more.
SHORT, LONG = 64, 768
LONG_SIZES = (1, 8)

_curves: weakref.WeakKeyDictionary[Any, CostCurve] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class CostCurve:
    """What a forward pass over so many tokens costs, in passes over one."""

    sizes: tuple[int, ...]
    costs: tuple[float, ...]
    """Behind a short context; non-decreasing."""
    context: tuple[float, float] = (0.0, 0.0)
    """What each token of context adds to a pass over one token, and to one over several: these need a mask."""

    def __call__(self, tokens: int, context: int = 0) -> float:
        """Between the sizes measured, linear; beyond them, as between the last two."""
        if tokens > self.sizes[-1] and len(self.sizes) > 1:
            slope = (self.costs[-1] - self.costs[-2]) / (self.sizes[-1] - self.sizes[-2])
            cost = self.costs[-1] + slope * (tokens - self.sizes[-1])
        else:
            cost = float(np.interp(tokens, self.sizes, self.costs))
        return (cost + self.context[tokens > 1] * context) / (1.0 + self.context[0] * context)

    def best_size(self, probabilities: Sequence[npt.NDArray[np.float32]], context: int = 0) -> int:
        """How many nodes of each row's draft make the most expected tokens for the time, behind so many tokens of context of
        all rows: all rows get the same number."""
        longest = max(len(row) for row in probabilities)
        expected = np.zeros(longest)
        for row in probabilities:
            expected[: len(row)] += row
        rows = len(probabilities)
        # The root of each row, of probability 1, is there in any case; its token is the plain step's.
        rates = [total / self(rows * size, context) for size, total in enumerate(np.cumsum(expected), start=1)]
        return int(np.argmax(rates)) + 1


def measure_cost(model: Any, sizes: Sequence[int] = CURVE_SIZES) -> CostCurve:
    """What a pass of `model` over so many tokens costs: a second or two for a small model."""
    return _measure(model, trees_are_exact(model, 0), sizes)


def measured_cost(model: Any, with_trees: bool) -> CostCurve:
    if model not in _curves:
        _curves[model] = _measure(model, with_trees)
    return _curves[model]


@torch.no_grad()
def _measure(model: Any, with_trees: bool, sizes: Sequence[int] = CURVE_SIZES) -> CostCurve:
    way = Trees if with_trees else Chains
    seconds = [_seconds(model, way, size, SHORT) for size in sizes]
    # A pass over more tokens that was faster tells that the one over fewer was disturbed.
    for index in reversed(range(len(seconds) - 1)):
        seconds[index] = min(seconds[index], seconds[index + 1])
    one = seconds[0]
    costs = tuple(second / one for second in seconds)
    # Each pass leaves a token or two behind.
    long = min(LONG, positions_of(model) - max(LONG_SIZES) - 2 * (CURVE_PASSES + 1))
    if long <= 2 * SHORT:
        return CostCurve(tuple(sizes), costs)

    def slope(size: int) -> float:
        more = _seconds(model, way, size, long) - _seconds(model, way, size, SHORT)
        return max(more / (long - SHORT) / one, 0.0)

    alone, several = (slope(size) for size in LONG_SIZES)
    return CostCurve(tuple(sizes), costs, (alone, max(alone, several)))


def _seconds(model: Any, way: type[Trees] | type[Chains], size: int, length: int) -> float:
    """The fastest of some passes over so many tokens behind a context of this length."""
    rehearsal = Rehearsal(model, way, rows=1, length=length)
    best = float("inf")
    for _ in range(CURVE_PASSES + 1):
        _synchronize(model.device)
        start = time.perf_counter()
        rehearsal.verify([1], [1] * (size - 1), [max(node - 1, 0) for node in range(size)])
        _synchronize(model.device)
        best = min(best, time.perf_counter() - start)
        rehearsal.keep([[]], [[]])
        if not rehearsal.passes.may_draft:
            rehearsal.plain(1)
    return best


def _synchronize(device: Any) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
