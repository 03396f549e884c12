"""What a forward pass costs by its number of tokens, measured."""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from typing import Any

import torch

from lookahead_drafts._native import CostCurve, DraftTrie
from lookahead_drafts.transformers.forward import Forward, Row, StandIn, takes_trees

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
    return _measure(model, takes_trees(model), sizes)


def measured_cost(model: Any, with_trees: bool) -> CostCurve:
    if model not in _curves:
        _curves[model] = _measure(model, with_trees)
    return _curves[model]


@torch.no_grad()
def _measure(model: Any, with_trees: bool, sizes: Sequence[int] = CURVE_SIZES) -> CostCurve:
    forward = Forward(model, with_trees)
    seconds = [_seconds(forward, size, SHORT) for size in sizes]
    # A pass over more tokens that was faster tells that the one over fewer was disturbed.
    for index in reversed(range(len(seconds) - 1)):
        seconds[index] = min(seconds[index], seconds[index + 1])
    one = seconds[0]
    costs = tuple(second / one for second in seconds)
    positions = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None) or LONG + 64
    long = min(LONG, int(positions) - max(LONG_SIZES))
    if long <= 2 * SHORT:
        return CostCurve(tuple(sizes), costs)

    def slope(size: int) -> float:
        more = _seconds(forward, size, long) - _seconds(forward, size, SHORT)
        return max(more / (long - SHORT) / one, 0.0)

    alone, several = (slope(size) for size in LONG_SIZES)
    return CostCurve(tuple(sizes), costs, (alone, max(alone, several)))


def _seconds(forward: Forward, size: int, length: int) -> float:
    """The fastest of some passes over so many tokens behind a context of this length."""
    trie = DraftTrie()
    context = torch.ones((1, length), dtype=torch.long, device=forward.model.device)
    row = Row(0, trie.start([1]), 0, context, length=length + 1, cached=length)
    tree: Any = StandIn([1] * size, [max(node - 1, 0) for node in range(size)])
    _, cache = forward.prefill(context, None, None)
    best = float("inf")
    for _ in range(CURVE_PASSES + 1):
        _synchronize(forward.model.device)
        start = time.perf_counter()
        forward.verify([row], ([tree], [size]), size, cache)
        _synchronize(forward.model.device)
        best = min(best, time.perf_counter() - start)
        cache.crop(-size)
    return best


def _synchronize(device: Any) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
