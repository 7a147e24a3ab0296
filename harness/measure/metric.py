"""What a number means: which way is worse, in which words, and how much of it is tolerated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MOST = 700.0  # of a log ratio that is told


@dataclass(frozen=True)
class Metric:
    """One thing that is measured of a cell.

    ``tolerance`` is the relative loss up to which a cell passes, ``tick`` the step of its clock
    relative to what is measured (`stats.resolution`; 0 where it is fine). Log ratios count what gets
    worse as positive: where ``more_is_better`` (throughput) they are taken the other way round.
    """

    name: str
    worse: str = "slower"
    better: str = "faster"
    tolerance: float = 0.02
    tick: float = 0.0
    more_is_better: bool = False

    @property
    def harmless_gap(self) -> float:
        """Modes that are nearer than this are noise like any other: half the tolerance."""
        return self.tolerance / 2

    def percent(self, cost: float) -> float:
        """A log ratio of cost as the change of the metric that `worse` speaks of, in percent; below 0 it is better."""
        held = max(-MOST, min(MOST, cost))  # what floats can hold
        return 100 * (-math.expm1(-held) if self.more_is_better else math.expm1(held))

    def cost(self, medians: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """``medians`` as something of which less is better."""
        array = np.asarray(medians, np.float64)
        return 1 / array if self.more_is_better else array
