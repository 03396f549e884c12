"""What drafted tokens cost a host, measured from its own steps.

A step is taken to last as many plain steps as `LinearCost` says. Its two costs and the duration of a plain step are fitted to the
steps seen, the older ones counting less and less, and stay near what they are thought to be until there is evidence. Times differ from process to process: ranks that must draft the same must not measure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lookahead_drafts._native import LinearCost

# What a drafted token costs before anything is measured: a forward pass that is bound by memory, on a CPU or GPU.
PRIOR_FIXED = 0.02
PRIOR_TOKEN = 0.015

# Steps that the belief above is worth, and after how many a step counts half.
PRIOR_STEPS = 8.0
HALF_LIFE = 256.0

# A step of more than so many times the expected duration was disturbed; it counts as this much.
LONGEST = 2.0


@dataclass
class StepCost:
    """The fit for batches of about one size."""

    fixed: float = PRIOR_FIXED
    token: float = PRIOR_TOKEN
    _plain: float | None = None
    _moments: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))
    _products: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))

    def add(self, seconds: float, drafted: int) -> None:
        """A step that lasted so long."""
        row = np.array([1.0, *LinearCost.terms(drafted)])
        cost = LinearCost(self.fixed, self.token)(drafted)
        if self._plain is None:
            self._plain = seconds / cost
        expected = self._plain * cost
        seconds = min(seconds, LONGEST * expected)
        decay = 0.5 ** (1.0 / HALF_LIFE)
        self._moments = decay * self._moments + np.outer(row, row)
        self._products = decay * self._products + row * seconds
        # The belief: so many plain steps' worth of evidence that both costs are what they were thought to be.
        plain = self._plain
        belief = np.diag([1e-9, PRIOR_STEPS, PRIOR_STEPS * 16.0])
        believed = np.array([0.0, PRIOR_STEPS * PRIOR_FIXED, PRIOR_STEPS * 16.0 * PRIOR_TOKEN]) * plain
        fitted = np.linalg.solve(self._moments + belief, self._products + believed)
        if fitted[0] > 0.0:
            self._plain = float(fitted[0])
            self.fixed = float(max(fitted[1] / fitted[0], 0.0))
            self.token = float(max(fitted[2] / fitted[0], 0.0))


class StepCosts:
    """Fits by size of the batch: powers of two."""

    def __init__(self) -> None:
        self._by_size: dict[int, StepCost] = {}

    def of(self, rows: int) -> StepCost:
        """The fit for batches of so many rows."""
        return self._by_size.setdefault(rows.bit_length(), StepCost())
