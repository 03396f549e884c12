"""Forward passes over chains: the model's own masks, positions and cache, as plain `generate` prepares them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, cache_utils

from lookahead_drafts.transformers.rows import Row, Shape

# Layers of a cache that make new tensors of what they had and what comes: to have kept the old ones is to have a copy.
APPENDING = {
    cache_utils.DynamicLayer,
    cache_utils.DynamicSlidingWindowLayer,
    cache_utils.DynamicIndexedLayer,
    cache_utils.DummyLayer,
}
# These do so with keys and values, and write over their states.
RECURRENT = {
    cache_utils.LinearAttentionLayer,
    cache_utils.LinearAttentionAndFullAttentionLayer,
    cache_utils.LinearAttentionAndSlidingWindowAttentionLayer,
}


class Chains:
    """Forward passes of a batch whose rows advance in step, each with a chain of drafts of the same length.

    A cache that can be cropped loses what was rejected. Of another (a recurrent state), a copy is kept while drafts are verified:
    where some are rejected the copy takes its place, and the next pass, without drafts, reads the accepted tokens again.
    """

    shape: Shape = "single"

    def __init__(self, model: Any, kwargs: dict[str, Any], config: Any) -> None:
        self.model = model
        self.config = config
        self.kwargs = kwargs
        if kwargs.get("cache") is None:
            self.kwargs = kwargs | {"cache": DynamicCache(config=model.config.get_text_config(decoder=True)), "use_cache": True}
        self.cache: Any = None
        self.can_crop = False
        self.pending = 0
        """Accepted tokens in front of the last one that the cache does not have."""
        self.size = 1
        self.before: list[dict[str, Any]] = []
        self.outputs: Any = None

    @property
    def may_draft(self) -> bool:
        return self.pending == 0

    @property
    def reads_again(self) -> bool:
        """Whether accepted tokens take another pass where drafts were rejected."""
        return not self.can_crop

    def prefill(self, input_ids: Any) -> Any:
        """Logits of the last token, shape (rows, 1, vocabulary)."""
        outputs = self.model._prefill(input_ids, self.config, self.kwargs)
        self.kwargs = self.model._update_model_kwargs_for_generation(outputs, self.kwargs)
        self._adopt()
        return outputs.logits[:, -1:]

    def verify(self, rows: list[Row], trees: Any, size: int) -> Any:
        """Logits of each node, shape (rows, size, vocabulary)."""
        text = torch.cat([row.text for row in rows])
        kwargs = dict(self.kwargs)
        if size > 1:
            drafts = np.stack([tree.tokens[1:size] for tree in trees])
            text = torch.cat([text, torch.from_numpy(drafts).to(text.device)], dim=-1)
            kwargs = self.model._update_model_kwargs_for_generation({}, kwargs, num_new_tokens=size - 1)
            if not self.can_crop:
                self.before = [_copied(layer) for layer in self.cache.layers]
        self.size = size
        passed = self.pending + size
        inputs = self.model.prepare_inputs_for_generation(text, next_sequence_length=passed, **kwargs)
        if "logits_to_keep" in inputs:
            inputs["logits_to_keep"] = size
        self.outputs = self.model(**inputs, return_dict=True)
        return self.outputs.logits[:, -size:]

    def keep(self, rows: list[Row], paths: list[list[int]]) -> None:
        """The cache has each row's root and path, and no other node; all paths are equally long."""
        accepted = len(paths[0])
        rejected = self.size - 1 - accepted
        self.kwargs = self.model._update_model_kwargs_for_generation(self.outputs, self.kwargs, num_new_tokens=accepted + 1)
        self.outputs = None
        if self.kwargs["cache"] is not self.cache:
            self._adopt()
        self.pending = 0
        if self.can_crop:
            self.cache.crop(-rejected)
        elif rejected:
            self.pending = accepted + 1
            for layer, state in zip(self.cache.layers, self.before):
                vars(layer).clear()
                vars(layer).update(state)
        self.before = []

    def drop_done(self, rows: list[Row]) -> None:
        """Rows that advance in step stay until all are done."""

    def finish(self, rows: list[Row]) -> None:
        """A cache that outlives the call has all tokens but the last, and goes on to forget what plain `generate` forgets."""
        if self.pending and (self.config.return_dict_in_generate or getattr(self.cache, "_is_user_defined", False)):
            text = torch.cat([row.text for row in rows])
            length = text.shape[-1]
            kwargs = {name: value[..., :-1] if _is_as_long(value, length) else value for name, value in self.kwargs.items()}
            inputs = self.model.prepare_inputs_for_generation(text[:, :-1], next_sequence_length=self.pending, **kwargs)
            self.model(**inputs, return_dict=True)
        for layer in self.cache.layers:
            if hasattr(layer, "record_past"):
                layer.record_past = False

    def _adopt(self) -> None:
        """Takes the cache that the model has handed back: what it forgets is recorded from now on, not during a long prompt."""
        self.cache = self.kwargs["cache"]
        self.can_crop = bool(self.cache.is_croppable)
        if self.can_crop:
            self.cache.activate_past_recording()


def _copied(layer: Any) -> dict[str, Any]:
    state = dict(vars(layer))
    if type(layer) in RECURRENT:
        state |= {name: _cloned(value) for name, value in state.items() if isinstance(value, dict)}
    return state


def _is_as_long(value: Any, length: int) -> bool:
    return isinstance(value, torch.Tensor) and value.shape[-1:] == (length,)


def _cloned(states: dict[Any, Any]) -> dict[Any, Any]:
    return {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in states.items()}
