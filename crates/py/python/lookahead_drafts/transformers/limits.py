"""What lookahead cannot do in Transformers, told before anything is generated; and how long texts and drafts may be."""

from __future__ import annotations

import sys
from typing import Any

from transformers import DynamicCache


class UnsupportedError(ValueError):
    """What lookahead cannot do, and what to do instead."""


def refuse(model: Any, config: Any, kwargs: dict[str, Any], input_ids: Any, synced_gpus: bool, streamer: Any) -> None:
    """Raises for options that would go wrong later."""
    if input_ids.numel() == 0:
        raise UnsupportedError(
            f"input_ids is empty (shape {tuple(input_ids.shape)}): at least one token is needed to go on from"
        )
    if config.num_beams > 1:
        raise UnsupportedError(f"lookahead has no beam search: num_beams is {config.num_beams}, 1 is needed")
    if config.use_cache is False and not _is_off_by_default(model):
        raise UnsupportedError("lookahead needs the cache: leave use_cache=False out")
    if synced_gpus:
        raise UnsupportedError("lookahead does not run with synced_gpus (DeepSpeed ZeRO 3): set synced_gpus=False")
    given = kwargs.get("cache")
    if given is not None and not isinstance(given, DynamicCache) and not model.config.is_encoder_decoder:
        raise UnsupportedError(f"lookahead needs a DynamicCache, not a {type(given).__name__}: leave cache_implementation out")
    if kwargs.get("inputs_embeds") is not None:
        raise UnsupportedError("lookahead drafts from token ids: pass input_ids, not inputs_embeds")
    if config.return_dict_in_generate and (config.output_attentions or config.output_hidden_states):
        raise UnsupportedError("lookahead keeps no attentions or hidden states: output_scores and output_logits work")
    if streamer is not None and len(input_ids) > 1:
        raise UnsupportedError(f"a streamer takes one text at a time, and the batch has {len(input_ids)}")


def _is_off_by_default(model: Any) -> bool:
    """Whether the model's own settings leave the cache out, as MPT's do."""
    own = model.generation_config.use_cache, getattr(model.config.get_text_config(decoder=True), "use_cache", None)
    return False in own


def positions_of(model: Any) -> int:
    """Positions that a model has."""
    text = model.config.get_text_config(decoder=True)
    known = (getattr(text, name, None) for name in ("max_position_embeddings", "max_seq_len"))
    return next((int(positions) for positions in known if positions), sys.maxsize)


class Switches:
    """Lengths at which a model's frequencies change for a whole pass: at one with LongRoPE, at each beyond one with dynamic
    scaling. A draft that crossed it would change the tokens in front of it."""

    def __init__(self, model: Any) -> None:
        self.once: set[int] = set()
        self.growing = sys.maxsize
        for kind, length in _frequencies(model):
            if kind == "longrope":
                self.once.add(length)
            elif "dynamic" in kind:
                self.growing = min(self.growing, length)

    def are_below(self, length: int) -> bool:
        """Whether a text of this length has met one."""
        return any(switch < length for switch in self.once) or self.growing < length

    def longest_draft(self, lengths: list[int]) -> int:
        """Tokens that may be drafted behind texts of these lengths; a text counts with and without its padding."""
        room = self.growing - max(lengths)
        for switch in self.once:
            for length in lengths:
                if length <= switch + 1:  # the pass behind the switch may read all of the text again
                    room = min(room, switch - length)
        return max(room, 0)


def _frequencies(model: Any) -> list[tuple[str, int]]:
    """The kinds of rotary frequencies of all layers, with the length that they were made for."""
    text = model.config.get_text_config(decoder=True)
    positions = positions_of(model)
    given = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    each = [given, *(value for value in given.values() if isinstance(value, dict))]
    found = []
    for parameters in each:
        kind = parameters.get("rope_type", parameters.get("type"))
        length = parameters.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
        if kind is not None:
            found.append((str(kind), min(int(length or positions), positions)))
    return found
