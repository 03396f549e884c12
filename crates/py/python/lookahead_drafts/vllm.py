"""Drafts in vLLM, as a proposer of a class of its own.

    vllm serve MODEL --speculative-config \\
        '{"method": "custom_class", "model": "lookahead_drafts.vllm.LookaheadProposer", "num_speculative_tokens": 8}'

With the package installed, `"model": "lookahead.Proposer"` says the same. Settings: `lookahead_drafts.settings`.

vLLM verifies chains and names no requests: `DraftRows` recognises them by their tokens. It takes the drafts of one rank for all.
"""

from __future__ import annotations

import sys
import time
import types
from typing import Any

import numpy as np
import numpy.typing as npt

from lookahead_drafts._native import DraftRows
from lookahead_drafts.settings import Housekeeping, Settings, logger
from lookahead_drafts.step_cost import PRIOR_FIXED, PRIOR_TOKEN, StepCosts

# The name under which vLLM finds the proposer without the package's path: it takes a module and a class.
ALIAS = "lookahead"


def register() -> None:
    """vLLM's plug-in: makes `lookahead.Proposer` a name of the proposer."""
    if ALIAS not in sys.modules:
        module = types.ModuleType(ALIAS, "The name of LookaheadProposer for vLLM.")
        module.Proposer = LookaheadProposer  # type: ignore[attr-defined]
        sys.modules[ALIAS] = module


class LookaheadProposer:
    """Proposes for each row of a batch what is likely to follow, if that pays."""

    def __init__(self, vllm_config: Any) -> None:
        """Raises `SettingsError`, or an error that names the file which cannot be used."""
        settings = Settings.load()
        self._settings = settings
        self._budget = int(vllm_config.speculative_config.num_speculative_tokens)
        self._max_tokens = int(vllm_config.model_config.max_model_len)
        tokenizer = None if vllm_config.model_config.skip_tokenizer_init else vllm_config.model_config.tokenizer
        self._trie = settings.open(tokenizer, waits=settings.reload_every > 0)
        self._rows = DraftRows(self._trie, share=settings.share)
        self._housekeeping = Housekeeping(settings, self._trie)
        is_alone = int(vllm_config.parallel_config.world_size) == 1
        given = settings.fixed_cost is not None or settings.token_cost is not None
        self._costs = StepCosts() if is_alone and not given else None
        self._steps = 0
        # When the last call ended, its rows, how many requests had begun and ended, and the tokens it drafted.
        self._last: tuple[float, int, int, int] | None = None

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """There is no model to load."""

    def propose(
        self,
        sampled_token_ids: list[list[int]],
        num_tokens_no_spec: npt.NDArray[np.int32],
        token_ids_cpu: npt.NDArray[np.int32],
        slot_mappings: Any = None,
    ) -> list[list[int]]:
        """A list of tokens for each row of the batch: at most `num_speculative_tokens`, often fewer, or none."""
        started = time.perf_counter()
        rows = len(sampled_token_ids)
        decoding = sum(1 for sampled in sampled_token_ids if sampled)
        fixed, token = self._cost(decoding)
        drafts = self._rows.step(
            token_ids_cpu,
            num_tokens_no_spec[:rows],
            sampled_token_ids,
            self._budget,
            max_tokens=self._max_tokens,
            min_probability=self._settings.min_probability,
            fixed_cost=fixed,
            token_cost=token,
        )
        if self._costs is not None:
            self._measure(self._costs, started, rows, decoding, sum(map(len, drafts)))
        self._keep_house()
        return drafts

    def stats(self) -> dict[str, int]:
        """Counts since the start: steps, requests, tokens sampled, drafted and accepted."""
        return dict(self._rows.stats())  # type: ignore[arg-type]

    def _cost(self, decoding: int) -> tuple[float, float]:
        """What a step with drafts costs: what was measured, or is set, or is thought."""
        if self._costs is not None:
            cost = self._costs.of(max(decoding, 1))
            return cost.fixed, cost.token
        fixed, token = self._settings.fixed_cost, self._settings.token_cost
        return PRIOR_FIXED if fixed is None else fixed, PRIOR_TOKEN if token is None else token

    def _measure(self, costs: StepCosts, started: float, rows: int, decoding: int, drafted: int) -> None:
        """Learns how long the step lasted that the last call drafted for."""
        now = self._rows.stats()
        changes = now["requests"] + now["finished"]
        # A step in which a prompt was read, or a request ended, tells nothing about drafts.
        if self._last is not None and self._last[1:3] == (decoding, changes) and rows == decoding:
            costs.of(rows).add(started - self._last[0], self._last[3])
        self._last = (time.perf_counter(), decoding, changes, drafted)

    def _keep_house(self) -> None:
        self._steps += 1
        self._housekeeping.step(self._rows.stats()["finished"])
        if self._steps % 64 == 0:
            problem = self._rows.take_problem()
            if problem is not None:
                logger.warning("an answer is not kept: %s", problem)
