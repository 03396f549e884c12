"""The rows of a batch while they decode, and which of them advance together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from transformers.generation import logits_process, stopping_criteria

from lookahead_drafts._native import DraftRequest

Shape = Literal["hierarchical", "single"]


@dataclass
class Row:
    """A row of the batch."""

    index: int
    request: DraftRequest
    pad: int
    """Columns of padding on its left."""
    ids: Any
    """Its tokens with padding, and room for more: int64, shape (1, longest)."""
    length: int
    cached: int = 0
    """Columns of the cache that are its own, padding included."""
    is_done: bool = False

    @property
    def text(self) -> Any:
        return self.ids[:, : self.length]


@dataclass
class Group:
    """Rows that advance in step: each has as many tokens as the others, and the padding token behind its end."""

    rows: list[Row]
    ids: Any
    """Their tokens with padding, and room for more: int64, shape (rows, longest)."""
    scores: list[Any] = field(default_factory=list)
    """Those of each step, shape (rows, vocabulary)."""
    logits: list[Any] = field(default_factory=list)

    @property
    def text(self) -> Any:
        return self.ids[:, : self.rows[0].length].contiguous()

    @property
    def is_done(self) -> bool:
        return all(row.is_done for row in self.rows)

    def append(self, tokens: Any) -> None:
        length = self.rows[0].length
        self.ids[:, length] = tokens
        for row in self.rows:
            row.length += 1


class StandIn:
    """A tree that no trie made."""

    def __init__(self, tokens: list[int], parents: list[int]) -> None:
        self.tokens = np.array(tokens)
        self.parents = np.array(parents)
        self.probabilities = np.ones(len(tokens), dtype=np.float32)
        self.depths = np.zeros(len(tokens), dtype=np.int64)
        self.mask = np.eye(len(tokens), dtype=bool)
        for node in range(1, len(tokens)):
            self.depths[node] = self.depths[parents[node]] + 1
            self.mask[node] |= self.mask[parents[node]]

    def __len__(self) -> int:
        return len(self.tokens)


# Processors that make of a row's text and scores what they make of it alone, and keep nothing from step to step.
_PROCESSORS = tuple(
    getattr(logits_process, name)
    for name in (
        "EpsilonLogitsWarper",
        "EtaLogitsWarper",
        "ExponentialDecayLengthPenalty",
        "ForcedBOSTokenLogitsProcessor",
        "ForcedEOSTokenLogitsProcessor",
        "InfNanRemoveLogitsProcessor",
        "LogitNormalization",
        "MinLengthLogitsProcessor",
        "MinNewTokensLengthLogitsProcessor",
        "MinPLogitsWarper",
        "NoBadWordsLogitsProcessor",
        "NoRepeatNGramLogitsProcessor",
        "SequenceBiasLogitsProcessor",
        "SuppressTokensAtBeginLogitsProcessor",
        "SuppressTokensLogitsProcessor",
        "TemperatureLogitsWarper",
        "TopKLogitsWarper",
        "TopPLogitsWarper",
        "TypicalLogitsWarper",
    )
)


def look_at_one_row(processors: Any, criteria: Any) -> bool:
    """Whether all processors and stopping criteria treat a row as if it were alone: then rows need not advance in step."""
    has_end = any(hasattr(criterion, "eos_token_id") for criterion in criteria)
    # Without an end token plain generation goes on behind a stop string, until all rows are done.
    known: set[type] = {stopping_criteria.MaxLengthCriteria, stopping_criteria.EosTokenCriteria}
    if has_end:
        known.add(stopping_criteria.StopStringCriteria)
    return all(_is_row_wise(processor) for processor in processors) and all(type(criterion) in known for criterion in criteria)


def _is_row_wise(processor: Any) -> bool:
    if type(processor) is logits_process.RepetitionPenaltyLogitsProcessor:
        # It may know of each row's padding.
        return not isinstance(processor.prompt_ignore_length, torch.Tensor) and processor.logits_indices is None
    return type(processor) in _PROCESSORS
