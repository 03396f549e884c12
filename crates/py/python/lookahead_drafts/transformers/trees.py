"""Forward passes over trees: a 4D mask of who sees whom, positions by depth, and the cache columns of accepted paths."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from lookahead_drafts.transformers.rows import Row, Shape


class Trees:
    """Forward passes of rows that each have a tree and a length of their own.

    All layers are kept whole, as a path is kept by column: a window is in the mask.
    """

    shape: Shape = "hierarchical"
    may_draft = True
    reads_again = False

    def __init__(self, model: Any, kwargs: dict[str, Any], config: Any) -> None:
        self.model = model
        self.config = config
        text = model.config.get_text_config(decoder=True)
        made = DynamicCache(config=text)
        windows = [layer.sliding_window for layer in made.layers if isinstance(layer, DynamicSlidingWindowLayer)]
        self.window = windows[0] if windows else None
        kinds = set(getattr(text, "layer_types", None) or ())
        self.kinds = kinds if len(kinds) > 1 else set()
        cache = kwargs.get("cache")
        if cache is None or not getattr(cache, "_is_user_defined", False):
            cache = made
            cache.layers = [_whole(layer) for layer in made.layers]
        self.cache: Any = cache
        self.layers: list[Any] = []
        self.kwargs = kwargs | {"cache": cache, "use_cache": True}
        self.size = 1

    def prefill(self, input_ids: Any) -> Any:
        """Logits of the last token, shape (rows, 1, vocabulary)."""
        logits = self.model._prefill(input_ids, self.config, self.kwargs).logits[:, -1:]
        # Layers that share another's keys have none of their own.
        self.layers = [layer for layer in self.cache.layers if layer.keys is not None]
        return logits

    def verify(self, rows: list[Row], trees: Any, size: int) -> Any:
        """Logits of each node, shape (rows, size, vocabulary). Rows with fewer nodes are filled up."""
        device = self.model.device
        tokens = np.zeros((len(rows), size), dtype=np.int64)
        depths = np.zeros((len(rows), size), dtype=np.int64)
        sees = np.zeros((len(rows), size, size), dtype=bool)
        for index, tree in enumerate(trees):
            own = min(len(tree), size)
            tokens[index, :own] = tree.tokens[:own]
            depths[index, :own] = tree.depths[:own]
            sees[index, :own, :own] = tree.mask[:own, :own]
            sees[index, range(own, size), range(own, size)] = True
        self.size = size
        more: dict[str, Any] = {}
        # The root is the row's last token: behind all that is cached.
        lengths = np.array([row.length - 1 - row.pad for row in rows])
        positions = torch.from_numpy(lengths[:, None] + depths).to(device)
        # One token behind all that is cached needs no mask, and passes without one are faster.
        if size > 1 or len(rows) > 1 or rows[0].pad:
            more["attention_mask"] = self.mask(rows, positions, torch.from_numpy(sees).to(device))
        input_ids = torch.from_numpy(tokens).to(device)
        output = self.model(
            input_ids=input_ids, position_ids=positions, cache=self.cache, use_cache=True, return_dict=True, **more
        )
        return output.logits

    def mask(self, rows: list[Row], positions: Any, sees: Any) -> Any:
        """The 4D mask, or one for each kind of layer: 0 where a node sees a column, else the least number."""
        device, dtype = sees.device, self.model.dtype
        columns = torch.arange(self.columns, device=device)
        pads = torch.tensor([row.pad for row in rows], device=device)[:, None]
        ends = torch.tensor([row.cached for row in rows], device=device)[:, None]
        own = (columns >= pads) & (columns < ends)
        sees_context = own[:, None, :].expand(-1, sees.shape[1], -1)
        whole = torch.cat([sees_context, sees], dim=-1)
        if self.window is None:
            return _additive(whole, dtype)
        column_positions = torch.cat([columns - pads, positions], dim=-1)
        near = column_positions[:, None, :] > positions[:, :, None] - self.window
        windowed = _additive(whole & near, dtype)
        if not self.kinds:
            return windowed
        return {kind: windowed if kind == "sliding_attention" else _additive(whole, dtype) for kind in self.kinds}

    @property
    def columns(self) -> int:
        return int(self.layers[0].keys.shape[-2])

    def keep(self, rows: list[Row], paths: list[list[int]]) -> None:
        """Moves the cache columns of each row's root and path behind what is its own, and drops the others."""
        before = self.columns - self.size
        at, to, of = [], [], []
        for index, (row, path) in enumerate(zip(rows, paths)):
            for node in [0, *path]:
                if row.cached != before + node:
                    at.append(index)
                    to.append(row.cached)
                    of.append(before + node)
                row.cached += 1
        device = self.layers[0].keys.device
        index_at, index_to, index_of = (torch.tensor(numbers, device=device) for numbers in (at, to, of))
        for layer in self.layers if at else []:
            for held in (layer.keys, layer.values):
                here = index_at if held.device == device else index_at.to(held.device)
                held[here, :, index_to.to(held.device)] = held[here, :, index_of.to(held.device)]
        self._crop(rows)

    def drop_done(self, rows: list[Row]) -> None:
        """The cache is left to the rows that go on."""
        going = [index for index, row in enumerate(rows) if not row.is_done]
        self.cache.batch_select_indices(torch.tensor(going, device=self.layers[0].keys.device))
        self._crop([rows[index] for index in going])

    def finish(self, rows: list[Row]) -> None:
        """Nothing is left to do: the cache has each row's tokens but the last."""

    def _crop(self, rows: list[Row]) -> None:
        """No column is left behind that of the longest row: a pass without a mask sees them all."""
        end = max(row.cached for row in rows)
        for layer in self.layers:
            layer.keys, layer.values = layer.keys[:, :, :end], layer.values[:, :, :end]


def _whole(layer: Any) -> Any:
    return DynamicLayer() if isinstance(layer, DynamicSlidingWindowLayer) else layer  # type: ignore[no-untyped-call]


def _additive(sees: Any, dtype: Any) -> Any:
    mask = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
    return mask.masked_fill_(~sees, torch.finfo(dtype).min)[:, None]
