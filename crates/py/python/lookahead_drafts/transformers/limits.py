"""What lookahead cannot do in Transformers, told before anything is generated."""

from __future__ import annotations

import sys
from typing import Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class UnsupportedError(ValueError):
    """What lookahead cannot do, and what to do instead."""


def refuse(model: Any, config: Any, kwargs: dict[str, Any], input_ids: Any, synced_gpus: bool, streamer: Any) -> None:
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
        raise UnsupportedError(f"lookahead needs a DynamicCache, not a {type(given).__name__}: leave cache_implementation out")
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


def longest_text(model: Any, config: Any) -> int:
    """Tokens that a text may have, padding included: the answer's bound and the model's."""
    positions = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    return min(int(config.max_length), int(positions) if positions else sys.maxsize)
