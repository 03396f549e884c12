"""A host without a model: a scheduler that hands a proposer rows without names, as vLLM does."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Propose = Callable[[list[list[int]], npt.NDArray[np.int32], npt.NDArray[np.int32]], list[list[int]]]


@dataclass
class HostRequest:
    """A request: its prompt and what its model would say, token by token."""

    prompt: list[int]
    answer: list[int]
    said: int = 0
    before: int = 0
    """What it had said before this step."""
    is_new: bool = True
    """Whether it had no row in the last step."""
    draft: list[int] = field(default_factory=list)
    wait: int = 0

    @property
    def tokens(self) -> list[int]:
        return self.prompt + self.answer[: self.said]

    @property
    def is_done(self) -> bool:
        return self.said >= len(self.answer)


class Host:
    """Runs requests in rows of a table that move: requests that end leave holes which the last rows fill, some are preempted
    and come back at the end, some are aborted, and rows are swapped now and then."""

    def __init__(self, propose: Propose, rows: int = 8, longest: int = 512, seed: int = 0) -> None:
        self.propose = propose
        self.table = np.zeros((rows, longest), dtype=np.int32)
        self.lengths = np.zeros(rows, dtype=np.int32)
        self.batch: list[HostRequest] = []
        self.preempted: list[HostRequest] = []
        self.random = random.Random(seed)
        self.steps = self.passes = self.tokens = self.drafted = 0
        self.check: Callable[[HostRequest, list[int]], None] = lambda request, draft: None

    def run(self, requests: Sequence[HostRequest], steps: int | None = None, churn: float = 0.0) -> None:
        """Until all are answered, or for so many steps; `churn` is how often something happens to a row."""
        waiting = list(requests)
        while (waiting or self.batch or self.preempted) and (steps is None or self.steps < steps):
            self.step(waiting, churn)

    def step(self, waiting: list[HostRequest], churn: float) -> None:
        self.steps += 1
        for request in self.preempted:
            request.wait -= 1
        back = [request for request in self.preempted if request.wait <= 0]
        self.preempted = [request for request in self.preempted if request.wait > 0]
        arrived: list[HostRequest] = []
        while len(self.batch) + len(arrived) < len(self.lengths) and (back or waiting):
            arrived.append((back or waiting).pop(0))
        self.preempted += back
        self.batch += arrived
        sampled = []
        for request in self.batch:
            request.before = request.said
            if any(request is other for other in arrived) and self.random.random() < churn:
                sampled.append([])  # its prompt is read in two steps
                continue
            accepted = 0
            rest = request.answer[request.said :]
            while accepted < min(len(request.draft), len(rest) - 1) and request.draft[accepted] == rest[accepted]:
                accepted += 1
            sampled.append(rest[: accepted + 1])
            self.passes += 1
            self.drafted += len(request.draft)
            self.tokens += accepted + 1
            request.said += accepted + 1
        for row, request in enumerate(self.batch):
            tokens = request.tokens
            self.table[row, : len(tokens)] = tokens
            # What stands behind a row's end is left from others, as it is in a real table.
            self.lengths[row] = len(tokens)
        drafts = self.propose(sampled, self.lengths, self.table)
        assert len(drafts) == len(self.batch)
        for request, draft in zip(self.batch, drafts):
            request.draft = draft
            self.check(request, draft)
            request.is_new = False
        self.leave(churn)

    def leave(self, churn: float) -> None:
        for row in reversed(range(len(self.batch))):
            request = self.batch[row]
            preempted = not request.is_done and self.random.random() < churn / 4
            aborted = not request.is_done and self.random.random() < churn / 16
            if preempted:
                request.wait, request.draft, request.is_new = self.random.randint(2, 9), [], True
                self.preempted.append(request)
            if request.is_done or preempted or aborted:
                self.batch[row] = self.batch[-1]  # the last row fills the hole
                self.batch.pop()
        if len(self.batch) > 1 and self.random.random() < churn:
            a, b = self.random.sample(range(len(self.batch)), 2)
            self.batch[a], self.batch[b] = self.batch[b], self.batch[a]
