"""Forward passes over drafts: a 4D mask of who sees whom, positions by depth, and the cache columns of accepted paths."""

from __future__ import annotations

import inspect
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from lookahead_drafts._native import DraftRequest, DraftTree, DraftTrie

_trees: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


@dataclass
class Row:
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


class Forward:
    """Forward passes over prompts and trees."""

    def __init__(self, model: Any, with_trees: bool) -> None:
        self.model = model
        self.with_trees = with_trees
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

    def verify(self, rows: list[Row], trees: tuple[list[DraftTree], list[int]], size: int, cache: Any) -> Any:
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
        # One token behind all that is cached needs no mask, and passes without one are faster.
        if self.with_trees and (size > 1 or len(rows) > 1 or rows[0].pad):
            more["attention_mask"] = self.mask(rows, positions, torch.from_numpy(sees).to(device), cache)
        input_ids = torch.from_numpy(tokens).to(device)
        output = self.model(input_ids=input_ids, past_key_values=cache, use_cache=True, return_dict=True, **more)
        return output.logits

    def mask(self, rows: list[Row], positions: Any, sees: Any, cache: Any) -> Any:
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


def _additive(sees: Any, dtype: Any) -> Any:
    mask = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return mask.masked_fill_(~sees, torch.finfo(dtype).min)[:, None]


def keep_paths(rows: list[Row], paths: list[list[int]], size: int, cache: Any) -> None:
    """Moves the cache columns of each row's root and path behind what is its own, and drops the others."""
    before = int(cache.get_seq_length()) - size
    at, to, of = [], [], []
    for index, (row, path) in enumerate(zip(rows, paths)):
        for node in [0, *path]:
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


def drop_done(rows: list[Row], cache: Any) -> list[Row]:
    """The rows that go on; the cache is theirs alone, unless none does."""
    going = [index for index, row in enumerate(rows) if not row.is_done]
    if going and len(going) < len(rows):
        cache.batch_select_indices(torch.tensor(going, device=cache.layers[0].keys.device))
    return [rows[index] for index in going]


def takes_trees(model: Any) -> bool:
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
    forward = Forward(model, with_trees=True)
    if not forward.takes_positions:
        return False
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    prompt = torch.arange(7, device=model.device)[None] % vocabulary
    trie = DraftTrie()
    row = Row(0, trie.start([1]), 0, prompt, length=8, cached=7)

    def logits(tokens: list[int], parents: list[int]) -> Any:
        _, cache = forward.prefill(prompt, None, None)
        tree = StandIn(tokens, parents)
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


class StandIn:
    """A tree that no trie made."""

    def __init__(self, tokens: list[int], parents: list[int]) -> None:
        self.tokens = np.array(tokens)
        self.depths = np.zeros(len(tokens), dtype=np.int64)
        self.mask = np.eye(len(tokens), dtype=bool)
        for node in range(1, len(tokens)):
            self.depths[node] = self.depths[parents[node]] + 1
            self.mask[node] |= self.mask[parents[node]]
