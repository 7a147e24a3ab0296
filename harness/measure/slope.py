"""Whether something grows from round to round: by how much, how sure that is, and what would have been seen.

The first rounds are left out: allocators, caches and libraries that are loaded when first needed settle in them.
Over the others stands the slope of Theil and Sen, the median of the slopes between all pairs of rounds, which a
few outliers do not move (Sen 1968, J. Am. Stat. Assoc. 63). Its interval takes rounds as independent, and
memory is not: what an allocator took in one round it keeps in the next. So there is a second interval, from the floors
of up to `STRETCHES` stretches of rounds, by t over the steps from each floor to the next. It holds when noise adds up
like a random walk, and a single step, or a sawtooth that comes back to where it was, is no growth to it. What
is told is the hull of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.measure.special import stdtrit

Array = npt.NDArray[np.float64]

WARM_UP = 10  # rounds that are left out at least
SHARE = 0.1  # of all rounds that is left out
LEAST = 25  # rounds from which on anything is said
# Of each interval. A soak asks some six times about as many things, and growth has to exceed the quantum, too.
CONFIDENCE = 0.99
STRETCHES = 8
SHORTEST = 3  # rounds of a stretch
MOST = 1000  # points that are looked at in pairs


@dataclass(frozen=True)
class Slope:
    """What a round adds, in the unit of the values: ``estimate``, and its interval ``low`` to ``high``.

    ``rounds`` were judged, those after the first ``warm_up``; ``first`` and ``last`` are the floors of the first and
    the last stretch of them. ``quantum`` is how much may come and go, all in all, without being growth: the
    step by which whoever hands it out takes more.
    """

    estimate: float
    low: float
    high: float
    rounds: int
    warm_up: int
    quantum: float
    first: float
    last: float

    @property
    def leaks(self) -> bool:
        """Whether over all rounds that were judged more than the quantum was added for sure."""
        return self.low * self.rounds > self.quantum

    @property
    def creeps(self) -> bool:
        """Whether something was added for sure, and no more than the quantum."""
        return self.low > 0 and not self.leaks

    @property
    def visible(self) -> float:
        """The smallest leak a round that so many rounds, as noisy as these, would have shown."""
        return self.quantum / self.rounds + max(self.estimate - self.low, 0.0)


def slope(values: Sequence[float], quantum: float) -> Slope:
    """Of one value a round, the first rounds among them. ValueError for fewer than `LEAST`."""
    if len(values) < LEAST:
        raise ValueError(f"{len(values)} rounds: {LEAST} are the fewest of which a slope can be told")
    left_out = max(WARM_UP, int(SHARE * len(values)))
    judged = np.asarray(values[left_out:], np.float64)
    pairs, floors = _pairs(judged), _floors(judged, min(STRETCHES, judged.size // SHORTEST))
    stretch = judged.size // floors.size
    mean, half = _steps(floors)
    estimate, low, high = pairs
    return Slope(
        estimate,
        min(low, (mean - half) / stretch),
        max(high, (mean + half) / stretch),
        judged.size,
        left_out,
        quantum,
        float(floors[0]),
        float(floors[-1]),
    )


def _floors(judged: Array, stretches: int) -> Array:
    """The minima of ``stretches`` alike; the first few rounds belong to none where they don't come out even."""
    even = judged[judged.size % stretches :]
    return np.asarray(even.reshape(stretches, -1).min(axis=1))


def _steps(floors: Array) -> tuple[float, float]:
    """From each floor to the next: the mean, and half of its interval."""
    steps = np.diff(floors)
    error = float(steps.std(ddof=1)) / steps.size**0.5
    return float(steps.mean()), float(stdtrit(steps.size - 1, (1 + CONFIDENCE) / 2)) * error


def _pairs(judged: Array) -> tuple[float, float, float]:
    """Theil and Sen's slope and its interval; of very many rounds by the floors of `MOST` stretches."""
    from scipy.stats import theilslopes  # takes a second to import

    points = judged if judged.size <= MOST else _floors(judged, MOST)
    found = theilslopes(points, alpha=CONFIDENCE)
    each = judged.size // points.size
    return float(found.slope) / each, float(found.low_slope) / each, float(found.high_slope) / each
