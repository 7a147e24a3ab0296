"""Whether the machine is still the one that a session began on: fixed plans, measured before and after.

A canary is compared with itself, so a move is the host's: another clock, another load, another
machine. Two are enough, one bound by arithmetic and one by memory. Interleaving takes a slow drift
out of every comparison; a step does not break one either, but what was measured across it is no basis
for a verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.measure.special import stdtrit
from harness.measure.stats import ROUNDING

SURE = 0.999  # confidence of a move: one session in five hundred is given up for nothing by two canaries
MOVE = 0.01  # a move below one percent is left to the interleaving

Medians = Mapping[str, npt.ArrayLike]


@dataclass(frozen=True)
class Move:
    """A canary after a session against before: a log ratio, and its interval at `SURE`."""

    name: str
    estimate: float
    low: float
    high: float

    @property
    def moved(self) -> bool:
        return abs(self.estimate) >= MOVE and not self.low <= 0 <= self.high

    def __str__(self) -> str:
        estimate, low, high = (100 * float(np.expm1(value)) for value in (self.estimate, self.low, self.high))
        return f"canary {self.name}: {estimate:+.1f} % ({low:+.1f} to {high:+.1f}) after the session"


def moves(before: Medians, after: Medians) -> tuple[Move, ...]:
    """Every canary's move, by Welch's t over the medians of its processes (at least two before and two after).

    ValueError where the same canaries were not measured twice: a machine that nothing watched has not
    been shown to be the same.
    """
    if not before or before.keys() != after.keys():
        raise ValueError(f"canaries {sorted(before)} before and {sorted(after)} after: expected the same, at least one")
    return tuple(_move(name, np.log(np.asarray(before[name])), np.log(np.asarray(after[name]))) for name in before)


def _move(name: str, before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> Move:
    if min(before.size, after.size) < 2:
        raise ValueError(f"canary {name}: {before.size} processes before and {after.size} after, expected two or more")
    parts = [max(one.var(ddof=1), ROUNDING**2) / one.size for one in (before, after)]
    degrees = sum(parts) ** 2 / sum(part**2 / (one.size - 1) for part, one in zip(parts, (before, after), strict=True))
    half = float(stdtrit(degrees, (1 + SURE) / 2)) * sum(parts) ** 0.5
    estimate = float(after.mean() - before.mean())
    return Move(name, estimate, estimate - half, estimate + half)
