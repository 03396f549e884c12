"""What a forward pass costs by its number of tokens, measured."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from typing import Any

import torch

from lookahead_drafts._native import CostCurve
from lookahead_drafts.transformers.chains import Chains
from lookahead_drafts.transformers.limits import positions_of
from lookahead_drafts.transformers.proof import Rehearsal
from lookahead_drafts.transformers.trees import Trees
from lookahead_drafts.transformers.ways import trees_are_exact

__all__ = ["CostCurve", "measure_cost", "measured_cost"]

# Sizes that a cost curve is measured at, and passes of each: the fastest counts, as others were disturbed.
CURVE_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
CURVE_PASSES = 3

# Tokens of context that the curve is measured behind; and what a context costs, with sizes of one and of more.
SHORT, LONG = 64, 768
LONG_SIZES = (1, 8)

_curves: weakref.WeakKeyDictionary[Any, CostCurve] = weakref.WeakKeyDictionary()


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
