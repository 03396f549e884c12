"""How a call is generated: over trees, over chains, or plainly. What is not known to be exact is not done."""

from __future__ import annotations

import warnings
import weakref
from typing import Any

from transformers import DynamicCache, GenerationMixin
from transformers.cache_utils import DummyLayer, DynamicIndexedLayer, DynamicLayer, DynamicSlidingWindowLayer

from lookahead_drafts.transformers.chains import APPENDING, RECURRENT, Chains
from lookahead_drafts.transformers.limits import Switches
from lookahead_drafts.transformers.proof import takes_chains, takes_trees
from lookahead_drafts.transformers.rows import look_at_one_row
from lookahead_drafts.transformers.trees import Trees

# What `generate` hands over for a text alone.
_TEXT = {"attention_mask", "position_ids", "cache", "use_cache", "logits_to_keep"}

# Settings that speak of windows or chunks and are known: in the kinds of the layers, or of no meaning for attention.
_KNOWN = {"sliding_window", "sliding_window_pattern", "max_window_layers", "chunk_size_feed_forward"}
_WINDOWS = ("window", "chunk", "attention_types", "attn_temperature_tuning")

_told: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def verifier(model: Any, input_ids: Any, config: Any, kwargs: dict[str, Any], processors: Any, criteria: Any) -> Any:
    """What verifies the drafts of this call: `Trees`, `Chains`, or None where it has to be generated plainly."""
    reason = _needs_plain(model, config, kwargs)
    if reason is None:
        alone = len(input_ids) == 1 or look_at_one_row(processors, criteria)
        if alone and _is_plain_text(kwargs, input_ids, config) and trees_are_exact(model, int(config.max_length)):
            return Trees(model, kwargs, config)
        if takes_chains(model):
            return Chains(model, kwargs, config)
        reason = "its passes over several tokens are not those over one after the other"
    if _told.get(model) != reason:
        _told[model] = reason
        warnings.warn(f"{type(model).__name__} is generated plainly, without drafts: {reason}", stacklevel=3)
    return None


def trees_are_exact(model: Any, max_length: int) -> bool:
    """Whether a tree's nodes see what they would see as a text: by what is known of the layers, and by a try."""
    text = model.config.get_text_config(decoder=True)
    if Switches(model).are_below(max_length) or not set(getattr(text, "layer_types", None) or ()) <= _KINDS:
        return False
    try:
        layers = DynamicCache(config=text).layers
    except Exception:  # whatever a configuration lacks that no cache can be made of
        return False
    windows = {layer.sliding_window for layer in layers if isinstance(layer, DynamicSlidingWindowLayer)}
    known = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer, DummyLayer) for layer in layers)
    return known and len(windows) < 2 and not _unknown_windows(text) and takes_trees(model)


_KINDS = {"full_attention", "sliding_attention"}


def _unknown_windows(text: Any) -> list[str]:
    return [
        name
        for name, value in text.to_dict().items()
        if any(word in name for word in _WINDOWS) and name.lstrip("_") not in _KNOWN and not name.startswith("use_") and value
    ]


def _is_plain_text(kwargs: dict[str, Any], input_ids: Any, config: Any) -> bool:
    """Whether each row is a text behind padding, with nothing beside it."""
    if any(value is not None for name, value in kwargs.items() if name not in _TEXT):
        return False
    positions, mask, cache = kwargs.get("position_ids"), kwargs.get("attention_mask"), kwargs.get("cache")
    if positions is not None and positions.ndim != 2:
        return False
    if mask is not None and (bool((mask.diff(dim=-1) < 0).any()) or not bool(mask[:, -1].all())):
        return False
    if cache is None:
        return True
    if not getattr(cache, "_is_user_defined", False):
        return not cache.offloading
    if not all(type(layer) is DynamicLayer for layer in cache.layers):
        return False
    # The tokens that are cached may not be among those given; their mask is.
    whole = mask.shape[1] if mask is not None else getattr(config, "_mask_length", input_ids.shape[1])
    return cache.get_seq_length() == 0 or (len(input_ids) == 1 and whole == input_ids.shape[1])


def _needs_plain(model: Any, config: Any, kwargs: dict[str, Any]) -> str | None:
    if model.config.is_encoder_decoder:
        return "it has an encoder"
    if type(model)._sample is not GenerationMixin._sample:
        return "it has a generation loop of its own"
    cache = kwargs.get("cache")
    if cache is None and config.use_cache is not False:
        return "it keeps no cache that is known"
    text = model.config.get_text_config(decoder=True)
    layers = DynamicCache(config=text).layers if cache is None else cache.layers
    unknown = {type(layer).__name__ for layer in layers if type(layer) not in APPENDING | RECURRENT}
    if unknown:
        return f"its cache has layers of a kind that is not known ({', '.join(sorted(unknown))})"
    # Scores that are equal, as many are zero, are chosen among differently when more tokens are in a pass.
    chosen = getattr(text, "index_topk", None)
    if any(isinstance(layer, DynamicIndexedLayer) for layer in layers) and not (chosen and config.max_length <= chosen):
        return f"its attention chooses {chosen} tokens, and texts may have {config.max_length}"
    return None
