"""Drafts in Hugging Face Transformers, as a generation loop of its own.

    trie = DraftTrie()
    model.generate(**inputs, custom_generate=lookahead(trie), max_new_tokens=200)

Each step drafts a tree for every row of the batch, runs the model once over all nodes (a 4D mask lets a node see the context and
its own ancestors), chooses at each node as plain `generate` would, follows the children that carry the choices, and keeps the
cache rows of that path. The model's logits processors, stopping criteria and `GenerationConfig` hold as ever; sampling draws the
same random numbers as plain `generate` does with the same seed.

Models that take no 4D mask or no positions get chains instead of trees, row by row; models with a recurrent state are refused.
"""

from __future__ import annotations

import inspect
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.generation.utils import GenerateDecoderOnlyOutput

from lookahead_drafts._native import DraftRequest, DraftTree, DraftTrie

__all__ = ["CostCurve", "DraftStep", "Lookahead", "LookaheadStats", "lookahead", "measure_cost"]

# Sizes that a cost curve is measured at, and passes of each: the fastest counts, as others were disturbed.
CURVE_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
CURVE_PASSES = 3


class UnsupportedError(ValueError):
    """What lookahead cannot do, and what to do instead."""


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


@dataclass
class LookaheadStats:
    """What came of the drafts, summed over all calls."""

    passes: int = 0
    """Forward passes that verified drafts, counted for each row; a prompt's own is not among them."""
    tokens: int = 0
    """Tokens that they produced."""
    drafted: int = 0
    accepted: int = 0

    @property
    def edl(self) -> float:
        """Tokens per forward pass; plain decoding has 1."""
        return self.tokens / self.passes if self.passes else 1.0


@dataclass(frozen=True)
class DraftStep:
    """One row of one step, for who watches."""

    row: int
    tree: DraftTree
    size: int
    """Nodes of the tree that were verified."""
    accepted: tuple[int, ...]
    """Nodes on the path that the model followed, the root not among them."""
    tokens: tuple[int, ...]
    """Tokens that the row gained."""


@dataclass
class _Row:
    """A row of the batch while it decodes."""

    index: int
    request: DraftRequest
    pad: int
    """Columns of padding on its left."""
    ids: Any
    """Its tokens with padding, and room for more: int64, shape (1, longest)."""
    length: int
    stripped: int = 0
    """Columns of padding that it had and has no more."""
    cached: int = 0
    """Columns of the cache that are its own, padding included."""
    is_done: bool = False
    scores: list[Any] = field(default_factory=list)
    logits: list[Any] = field(default_factory=list)

    @property
    def text(self) -> Any:
        return self.ids[:, : self.length]


def lookahead(
    trie: DraftTrie,
    *,
    draft_length: int = 32,
    min_probability: float = 0.01,
    namespace: str = "default",
    share: str = "readwrite",
    cost_curve: CostCurve | None | str = "measure",
    streamer: Any = None,
    observer: Callable[[DraftStep], None] | None = None,
) -> Lookahead:
    """A generation loop for `model.generate(..., custom_generate=…)` that drafts from `trie`.

    A tree has at most `draft_length` nodes besides its root, of an estimated probability of at least `min_probability`. With
    cost_curve="measure" the cost of a pass is measured at a model's first answer (a second or so) and each tree is as large
    as pays; a `CostCurve` of your own does the same; with None trees are as large as `draft_length` allows. `namespace` and
    `share` are those of `DraftTrie.start`. `observer` is called with each step of each row.
    """
    if isinstance(cost_curve, str) and cost_curve != "measure":
        raise ValueError(f"cost_curve is '{cost_curve}'; 'measure', a CostCurve or None is needed")
    if draft_length < 0:
        raise ValueError(f"draft_length is {draft_length}; at least 0 is needed")
    return Lookahead(trie, draft_length, min_probability, namespace, share, cost_curve, streamer, observer)


class Lookahead:
    """A generation loop; made by `lookahead`. `stats` sums over its calls."""

    def __init__(
        self,
        trie: DraftTrie,
        draft_length: int,
        min_probability: float,
        namespace: str,
        share: Any,
        cost_curve: CostCurve | None | str,
        streamer: Any,
        observer: Callable[[DraftStep], None] | None,
    ) -> None:
        self.stats = LookaheadStats()
        self._trie = trie
        self._draft_length = draft_length
        self._min_probability = min_probability
        self._namespace = namespace
        self._share = share
        self._cost_curve = cost_curve
        self._streamer = streamer
        self._observer = observer

    @torch.no_grad()
    def __call__(
        self,
        model: Any,
        input_ids: Any,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        generation_config: Any = None,
        synced_gpus: bool = False,
        streamer: Any = None,
        **model_kwargs: Any,
    ) -> Any:
        """Called by `generate`, which has prepared all of it.

        Raises `UnsupportedError` for a model or an option that it cannot serve.
        """
        streamer = streamer or _streamer_of_generate()
        if self._streamer is not None and streamer is None:
            streamer = self._streamer
            streamer.put(input_ids.cpu())
        _refuse(model, generation_config, model_kwargs, input_ids, synced_gpus, streamer)
        takes_trees = _takes_trees(model)
        curve = self._cost_curve
        if isinstance(curve, str):
            curve = _measured_cost(model, takes_trees)
        mask = model_kwargs.get("attention_mask")
        batches = [input_ids] if takes_trees or len(input_ids) == 1 else list(input_ids.split(1))
        run = _Run(self, model, logits_processor, stopping_criteria, generation_config, streamer, takes_trees, curve)
        rows: list[_Row] = []
        try:
            cache = None
            for batch in batches:
                first = len(rows)
                cache = model_kwargs.get("past_key_values")
                own_mask = None if mask is None else mask[first : first + len(batch)]
                stripped = 0
                if not takes_trees and own_mask is not None:
                    stripped = int(own_mask[0].argmax())
                    batch, own_mask = batch[:, stripped:], None
                begun = self._begin(batch, own_mask, first, stripped, generation_config)
                rows += begun
                cache = run.decode(begun, batch, own_mask, cache if len(batches) == 1 else None)
        except BaseException:
            for row in rows:
                row.request.cancel()
            raise
        for row in rows:
            row.request.finish()
        if streamer is not None:
            streamer.end()
        return _result(rows, input_ids, generation_config, cache if len(rows) == 1 else None)

    def _begin(self, input_ids: Any, mask: Any, first: int, stripped: int, config: Any) -> list[_Row]:
        longest = max(int(config.max_length), input_ids.shape[1]) + 1
        rows = []
        for index, ids in enumerate(input_ids):
            pad = 0 if mask is None else int(mask[index].argmax())
            room = torch.empty((1, longest), dtype=torch.long, device=input_ids.device)
            room[0, : len(ids)] = ids
            prompt = ids[pad:].cpu().numpy()
            request = self._trie.start(prompt, namespace=self._namespace, share=self._share)
            rows.append(_Row(first + index, request, pad, room, len(ids), stripped))
        return rows


class _Run:
    """One call of `generate`."""

    def __init__(
        self,
        owner: Lookahead,
        model: Any,
        logits_processor: Any,
        stopping_criteria: Any,
        config: Any,
        streamer: Any,
        takes_trees: bool,
        curve: CostCurve | None,
    ) -> None:
        self.owner = owner
        self.forward = _Forward(model, takes_trees)
        self.takes_trees = takes_trees
        self.curve = curve
        self.processors = logits_processor
        self.criteria = stopping_criteria
        self.config = config
        self.streamer = streamer
        self.is_plain_greedy = not config.do_sample and not logits_processor
        self.keeps_scores = bool(config.return_dict_in_generate and config.output_scores)
        self.keeps_logits = bool(config.return_dict_in_generate and config.output_logits)
        self.noise: list[Any] = []
        self.rows = 0
        self.prompt_length = 0
        self.longest = _longest_text(model, config)

    def decode(self, rows: list[_Row], input_ids: Any, mask: Any, cache: Any) -> Any:
        """Until all rows are done; returns the cache."""
        self.rows = len(rows)
        self.noise = []
        self.prompt_length = input_ids.shape[1]
        logits, cache = self.forward.prefill(input_ids, mask, cache)
        for index, row in enumerate(rows):
            row.cached = row.length
            greedy = logits[index].argmax(-1).tolist() if self.is_plain_greedy else None
            gained = self.walk(row, logits[index], greedy, {})[1]
            row.request.append(gained)
        active = _drop_done(rows, cache)
        while active:
            trees = self.draft(active)
            size = max(trees[1])
            logits = self.forward.verify(active, trees, size, cache)
            greedy_rows = logits.argmax(-1).tolist() if self.is_plain_greedy else [None] * len(active)
            paths = []
            for row, tree, own, scores, greedy in zip(active, *trees, logits, greedy_rows):
                path, gained = self.walk(row, scores, greedy, _children(tree, own))
                paths.append(path)
                row.request.append(gained)
                self.count(row, tree, own, path, gained)
            _keep_paths(active, paths, size, cache)
            active = _drop_done(active, cache)
        return cache

    def draft(self, active: list[_Row]) -> tuple[list[DraftTree], list[int]]:
        """A tree for each row, and how many of its nodes to verify."""
        owner = self.owner
        # A step gains one token more than its path is deep.
        depth = max(min(self.longest - row.length for row in active) - 1, 0)
        batch = owner._trie.draft_trees(
            [row.request for row in active],
            owner._draft_length if depth else 0,
            depth=min(depth, owner._draft_length),
            min_probability=owner._min_probability,
            shape="hierarchical" if self.takes_trees else "single",
        )
        trees = [batch[index] for index in range(len(active))]
        size = max(len(tree) for tree in trees)
        if self.curve is not None:
            size = min(size, self.curve.best_size([tree.probabilities for tree in trees]))
        return trees, [min(len(tree), size) for tree in trees]

    def walk(
        self, row: _Row, logits: Any, greedy: list[int] | None, children: dict[int, dict[int, int]]
    ) -> tuple[list[int], list[int]]:
        """Follows the model's choices from the root as far as the draft has them: nodes passed, and tokens gained."""
        node = 0
        path: list[int] = []
        gained: list[int] = []
        while True:
            token = greedy[node] if greedy is not None else self.choose(row, logits[node])
            if greedy is not None and (self.keeps_scores or self.keeps_logits):
                self.keep(row, logits[node].float()[None], logits[node].float()[None])
            gained.append(token)
            row.ids[0, row.length] = token
            row.length += 1
            row.is_done = bool(self.criteria(row.text, None).item())
            if self.streamer is not None:
                self.streamer.put(torch.tensor([token]))
            child = children.get(node, {}).get(token)
            if row.is_done or child is None:
                return path, gained
            path.append(child)
            node = child

    def choose(self, row: _Row, logits: Any) -> int:
        """The token that plain `generate` would choose behind the row's text."""
        scores = logits[None].to(copy=True, dtype=torch.float32, device=row.ids.device)
        raw = scores.clone() if self.keeps_logits else None
        scores = self.processors(row.text, scores)
        self.keep(row, scores, raw)
        if not self.config.do_sample:
            return int(scores.argmax(-1).item())
        probabilities = torch.nn.functional.softmax(scores, dim=-1)
        # What torch.multinomial does for one sample, with the noise of this step of the batch and of this row.
        noise = self.noise_of(row.length - self.prompt_length, probabilities)
        return int((probabilities[0] / noise[row.index % self.rows]).argmax().item())

    def noise_of(self, step: int, probabilities: Any) -> Any:
        """The random numbers of all rows at a step: drawn in the order of steps, as plain `generate` draws them."""
        while len(self.noise) <= step:
            shape = (self.rows, probabilities.shape[-1])
            noise = torch.empty(shape, dtype=probabilities.dtype, device=probabilities.device)
            self.noise.append(noise.exponential_(1))
            if self.rows == 1 and len(self.noise) > 1:
                self.noise[-2] = None  # no other row needs it
        return self.noise[step]

    def keep(self, row: _Row, scores: Any, raw: Any) -> None:
        if self.keeps_scores:
            row.scores.append(scores)
        if self.keeps_logits:
            row.logits.append(raw)

    def count(self, row: _Row, tree: DraftTree, size: int, path: list[int], gained: list[int]) -> None:
        stats = self.owner.stats
        stats.passes += 1
        stats.tokens += len(gained)
        stats.drafted += size - 1
        stats.accepted += len(path)
        if self.owner._observer is not None:
            self.owner._observer(DraftStep(row.index, tree, size, tuple(path), tuple(gained)))


class _Forward:
    """Forward passes over prompts and trees."""

    def __init__(self, model: Any, takes_trees: bool) -> None:
        self.model = model
        self.takes_trees = takes_trees
        parameters = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in parameters
        self.takes_one_logit = "logits_to_keep" in parameters
        text = model.config.get_text_config(decoder=True)
        kinds = set(getattr(text, "layer_types", None) or ())
        self.window = getattr(text, "sliding_window", None)
        if not getattr(text, "use_sliding_window", True):
            self.window = None
        self.kinds = kinds if len(kinds) > 1 else set()
        self.always_windowed = self.window is not None and not kinds - {"sliding_attention"}

    def prefill(self, input_ids: Any, mask: Any, cache: Any) -> tuple[Any, Any]:
        """Logits of the last token, shape (rows, 1, vocabulary), and the cache: all layers whole, as a path is kept by column."""
        known = 0
        if cache is not None and cache.get_seq_length() > 0:
            known = int(cache.get_seq_length())
        elif cache is None or any(getattr(layer, "is_sliding", False) for layer in cache.layers):
            cache = DynamicCache()
        more: dict[str, Any] = {}
        if self.takes_positions:
            whole = torch.ones_like(input_ids) if mask is None else mask
            more["position_ids"] = (whole.cumsum(-1) - 1).clamp(min=0)[:, known:]
        if self.takes_one_logit:
            more["logits_to_keep"] = 1
        tokens = input_ids[:, known:]
        output = self.model(
            input_ids=tokens, attention_mask=mask, past_key_values=cache, use_cache=True, return_dict=True, **more
        )
        return output.logits[:, -1:], cache

    def verify(self, rows: list[_Row], trees: tuple[list[DraftTree], list[int]], size: int, cache: Any) -> Any:
        """Logits of each node, shape (rows, size, vocabulary). Rows with fewer nodes are filled up."""
        device = rows[0].ids.device
        tokens = np.zeros((len(rows), size), dtype=np.int64)
        depths = np.zeros((len(rows), size), dtype=np.int64)
        sees = np.zeros((len(rows), size, size), dtype=bool)
        for index, (tree, own) in enumerate(zip(*trees)):
            tokens[index, :own] = tree.tokens[:own]
            depths[index, :own] = tree.depths[:own]
            sees[index, :own, :own] = tree.mask[:own, :own]
            sees[index, range(own, size), range(own, size)] = True
        more: dict[str, Any] = {}
        # The root is the row's last token: behind all that is cached.
        lengths = np.array([row.length - 1 - row.pad for row in rows])
        positions = torch.from_numpy(lengths[:, None] + depths).to(device)
        if self.takes_positions:
            more["position_ids"] = positions
        if self.takes_trees:
            more["attention_mask"] = self.mask(rows, positions, torch.from_numpy(sees).to(device), cache)
        input_ids = torch.from_numpy(tokens).to(device)
        output = self.model(input_ids=input_ids, past_key_values=cache, use_cache=True, return_dict=True, **more)
        return output.logits

    def mask(self, rows: list[_Row], positions: Any, sees: Any, cache: Any) -> Any:
        """The 4D mask, or one for each kind of layer: 0 where a node sees a column, else the least number."""
        device, dtype = sees.device, self.model.dtype
        columns = torch.arange(int(cache.get_seq_length()), device=device)
        pads = torch.tensor([row.pad for row in rows], device=device)[:, None]
        ends = torch.tensor([row.cached for row in rows], device=device)[:, None]
        own = (columns >= pads) & (columns < ends)
        sees_context = own[:, None, :].expand(-1, sees.shape[1], -1)
        whole = torch.cat([sees_context, sees], dim=-1)
        if self.window is None or not (self.kinds or self.always_windowed):
            return _additive(whole, dtype)
        column_positions = torch.cat([columns - pads, positions], dim=-1)
        near = column_positions[:, None, :] > positions[:, :, None] - self.window
        windowed = _additive(whole & near, dtype)
        if self.always_windowed:
            return windowed
        return {kind: windowed if kind == "sliding_attention" else _additive(whole, dtype) for kind in self.kinds}


def measure_cost(model: Any, sizes: Sequence[int] = CURVE_SIZES) -> CostCurve:
    """What a pass of `model` over so many tokens costs, behind a short context: a second or so for a small model."""
    return _measure_cost(model, _takes_trees(model), sizes)


@torch.no_grad()
def _measure_cost(model: Any, takes_trees: bool, sizes: Sequence[int] = CURVE_SIZES) -> CostCurve:
    forward = _Forward(model, takes_trees)
    trie = DraftTrie()
    context = torch.ones((1, 64), dtype=torch.long, device=model.device)
    row = _Row(0, trie.start([1]), 0, context, length=65, cached=64)
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
            _keep_paths([row], [[]], size, cache, grow=False)
        seconds.append(best)
    # A pass over more tokens that was faster tells that the one over fewer was disturbed.
    for index in reversed(range(len(seconds) - 1)):
        seconds[index] = min(seconds[index], seconds[index + 1])
    return CostCurve(tuple(sizes), tuple(second / seconds[0] for second in seconds))


def _synchronize(device: Any) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


_curves: weakref.WeakKeyDictionary[Any, CostCurve] = weakref.WeakKeyDictionary()
_trees: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def _measured_cost(model: Any, takes_trees: bool) -> CostCurve:
    if model not in _curves:
        _curves[model] = _measure_cost(model, takes_trees)
    return _curves[model]


def _takes_trees(model: Any) -> bool:
    if model not in _trees:
        try:
            _trees[model] = _verifies_a_tree(model)
        except Exception:  # whatever a model raises that is not made for such a mask
            _trees[model] = False
    return _trees[model]


@torch.no_grad()
def _verifies_a_tree(model: Any) -> bool:
    """Whether nodes see their ancestors alone, and stand at the depth that they are said to: a node's logits are those behind
    its own branch, and do not change with the token of another branch."""
    forward = _Forward(model, takes_trees=True)
    if not forward.takes_positions:
        return False
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    prompt = torch.arange(7, device=model.device)[None] % vocabulary
    trie = DraftTrie()
    row = _Row(0, trie.start([1]), 0, prompt, length=8, cached=7)

    def logits(tokens: list[int], parents: list[int]) -> Any:
        _, cache = forward.prefill(prompt, None, None)
        tree = _StandIn(tokens, parents)
        return forward.verify([row], ([tree], [len(tokens)]), len(tokens), cache)[0].float()  # type: ignore[list-item]

    one, two, three, four, five = (number % vocabulary for number in (8, 9, 10, 11, 12))
    def plain(tokens: list[int]) -> Any:
        whole = torch.cat([prompt, torch.tensor([tokens], device=model.device)], dim=-1)
        return model(input_ids=whole, use_cache=False, return_dict=True).logits[0, -2:].float()

    tree = logits([one, two, three, four], [0, 0, 0, 2])[-2:]
    other = logits([one, five, three, four], [0, 0, 0, 2])[-2:]
    branch = plain([one, three, four])
    # What it would be to see the other branch, against which sums in another order are nothing.
    seen = (plain([one, two, three, four]) - branch).abs().max()
    tolerance = torch.maximum(seen / 10, (branch.max() - branch.min()) * 1e-4)
    return bool((tree - other).abs().max() <= tolerance and (tree - branch).abs().max() <= tolerance)


class _StandIn:
    """A tree that no trie made."""

    def __init__(self, tokens: list[int], parents: list[int]) -> None:
        self.tokens = np.array(tokens)
        self.depths = np.zeros(len(tokens), dtype=np.int64)
        self.mask = np.eye(len(tokens), dtype=bool)
        for node in range(1, len(tokens)):
            self.depths[node] = self.depths[parents[node]] + 1
            self.mask[node] |= self.mask[parents[node]]


def _chain_tree(trie: DraftTrie, size: int) -> Any:
    return _StandIn([1] * size, [max(node - 1, 0) for node in range(size)])


def _additive(sees: Any, dtype: Any) -> Any:
    mask = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return mask.masked_fill_(~sees, torch.finfo(dtype).min)[:, None]


def _children(tree: DraftTree, size: int) -> dict[int, dict[int, int]]:
    """The children of each node, by their tokens."""
    children: dict[int, dict[int, int]] = {}
    tokens, parents = tree.tokens.tolist(), tree.parents.tolist()
    for node in range(1, size):
        children.setdefault(parents[node], {}).setdefault(tokens[node], node)
    return children


def _keep_paths(rows: list[_Row], paths: list[list[int]], size: int, cache: Any, grow: bool = True) -> None:
    """Moves the cache columns of each row's root and path behind what is its own, and drops the others."""
    before = int(cache.get_seq_length()) - size
    if grow:
        columns = [(index, row, [0, *path]) for index, (row, path) in enumerate(zip(rows, paths))]
    else:
        columns = []
    at, to, of = [], [], []
    for index, row, kept in columns:
        for node in kept:
            if row.cached != before + node:
                at.append(index)
                to.append(row.cached)
                of.append(before + node)
            row.cached += 1
    end = max(row.cached for row in rows)
    device = cache.layers[0].keys.device
    index_at, index_to, index_of = (torch.tensor(numbers, device=device) for numbers in (at, to, of))
    for layer in cache.layers:
        for name in ("keys", "values"):
            held = getattr(layer, name)
            if at:
                here = index_at if held.device == device else index_at.to(held.device)
                held[here, :, index_to.to(held.device)] = held[here, :, index_of.to(held.device)]
            setattr(layer, name, held[:, :, :end])


def _drop_done(rows: list[_Row], cache: Any) -> list[_Row]:
    """The rows that go on; the cache is theirs alone, unless none does."""
    going = [index for index, row in enumerate(rows) if not row.is_done]
    if going and len(going) < len(rows):
        cache.batch_select_indices(torch.tensor(going, device=cache.layers[0].keys.device))
    return [rows[index] for index in going]


def _longest_text(model: Any, config: Any) -> int:
    """Tokens that a text may have, padding included: the answer's bound and the model's."""
    positions = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    return min(int(config.max_length), int(positions) if positions else sys.maxsize)


def _streamer_of_generate() -> Any:
    """The `streamer` that `generate` was given: it puts the prompt into it, and hands it on to its own loops alone."""
    frame = sys._getframe(1)
    for _ in range(4):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        if frame.f_code.co_name == "generate" and "generation_mode" in frame.f_locals:
            return frame.f_locals.get("streamer")
    return None


def _refuse(model: Any, config: Any, kwargs: dict[str, Any], input_ids: Any, synced_gpus: bool, streamer: Any) -> None:
    """Raises for what would go wrong later."""
    if model.config.is_encoder_decoder:
        raise UnsupportedError("lookahead needs a decoder-only model; this one has an encoder: leave custom_generate out")
    cache = DynamicCache(config=model.config)
    if getattr(model, "_is_stateful", False) or not all(isinstance(layer, DynamicLayer) for layer in cache.layers):
        raise UnsupportedError(
            f"{type(model).__name__} has a recurrent state, which cannot go back behind rejected drafts: leave "
            "custom_generate out"
        )
    if config.num_beams > 1:
        raise UnsupportedError(f"lookahead has no beam search: num_beams is {config.num_beams}, 1 is needed")
    if config.use_cache is False:
        raise UnsupportedError("lookahead needs the cache: leave use_cache=False out")
    if synced_gpus:
        raise UnsupportedError("lookahead does not run with synced_gpus (DeepSpeed ZeRO 3): set synced_gpus=False")
    given = kwargs.get("past_key_values")
    if given is not None and not isinstance(given, DynamicCache):
        raise UnsupportedError(
            f"lookahead needs a DynamicCache, not a {type(given).__name__}: leave cache_implementation out"
        )
    if given is not None and given.get_seq_length() > 0:
        if any(getattr(layer, "is_sliding", False) for layer in given.layers):
            raise UnsupportedError("a cache with sliding layers cannot be gone on with: pass DynamicCache() to both calls")
        if len(input_ids) > 1:
            raise UnsupportedError("a cache can be gone on with for one text at a time, not for a batch")
    if kwargs.get("inputs_embeds") is not None:
        raise UnsupportedError("lookahead drafts from token ids: pass input_ids, not inputs_embeds")
    if config.return_dict_in_generate and (config.output_attentions or config.output_hidden_states):
        raise UnsupportedError("lookahead keeps no attentions or hidden states: output_scores and output_logits work")
    if streamer is not None and len(input_ids) > 1:
        raise UnsupportedError(f"a streamer takes one text at a time, and the batch has {len(input_ids)}")


def _result(rows: list[_Row], input_ids: Any, config: Any, cache: Any) -> Any:
    """What plain `generate` returns: shorter rows are filled up with the padding token."""
    prompt = input_ids.shape[1]
    answers = [row.ids[0, row.length - _gained(row, input_ids) : row.length] for row in rows]
    longest = max(len(answer) for answer in answers)
    pad = config._pad_token_tensor
    fill = int(pad) if pad is not None else 0
    sequences = torch.full((len(rows), prompt + longest), fill, dtype=torch.long, device=input_ids.device)
    sequences[:, :prompt] = input_ids
    for index, answer in enumerate(answers):
        sequences[index, prompt : prompt + len(answer)] = answer
    if not config.return_dict_in_generate:
        return sequences

    def steps(name: str) -> tuple[Any, ...] | None:
        kept = [getattr(row, name) for row in rows]
        if not kept[0]:
            return None
        nothing = torch.zeros_like(kept[0][0])
        return tuple(
            torch.cat([own[step] if step < len(own) else nothing for own in kept]) for step in range(longest)
        )

    whole: Any = sequences
    return GenerateDecoderOnlyOutput(
        sequences=whole, scores=steps("scores"), logits=steps("logits"), past_key_values=cache
    )


def _gained(row: _Row, input_ids: Any) -> int:
    # A row that was decoded alone has lost its padding.
    return int(row.length - (input_ids.shape[1] - row.stripped))
