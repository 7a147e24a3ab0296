"""A step in a series of which neighbours are correlated: how large it is, and how sure that is.

Nights are no independent draws: a machine is warm for a week. Taken as independent, most flat series of
AR(1) noise have a step somewhere. So noise is taken as AR(1), its correlation as estimated from the
series and from those beside it (`pooled`), and a step is what generalized least squares make of it: where
correlation is high, the jump itself counts for most, and where there is none, the two means do. All of it
works on logs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harness.measure.special import ndtri, stdtr, stdtrit
from harness.measure.stats import CONFIDENCE, ROUNDING

Array = npt.NDArray[np.float64]

MOST = 0.95  # a correlation that is taken for more would make of every step a drift
CAUTION = 1.0  # standard errors of the correlation of residuals, by which it is taken for more
UNLIKE = 3.0  # standard errors by which a series has to be more correlated than is believed, to be taken at its word
ROUGH = 2.0  # standard error of `correlation`, times the root of the number of nights: 1.7 to 2.4, from 0 to .8
TRIMMED = 0.1  # of squared differences, the largest: those across steps and flaky nights
HALF = 2  # nights to either side of one that say what is usual there
FLAKY = 4.0  # deviations from that, from where on a night is held back


@dataclass(frozen=True)
class Noise:
    """AR(1): correlation of neighbours, standard deviation of innovations, and the degrees of freedom of that."""

    correlation: float
    innovation: float
    degrees: int


@dataclass(frozen=True)
class Belief:
    """What is held of a series' correlation before the series itself is asked, and the standard error of that."""

    correlation: float
    error: float

    def beside(self, own: float, error: float) -> tuple[float, float]:
        """With what the series says of its ``own``: the mean weighed by precision, and its standard error.

        A series that is more correlated than believed by `UNLIKE` standard errors is believed itself.
        """
        if own - self.correlation > UNLIKE * math.hypot(self.error, error):
            return own, error
        weights = self.error**-2, error**-2
        mean = (weights[0] * self.correlation + weights[1] * own) / sum(weights)
        return mean, float(sum(weights) ** -0.5)


@dataclass(frozen=True)
class Step:
    """After less before: a difference of logs, its standard error and the degrees of freedom of that."""

    estimate: float
    error: float
    degrees: int

    @property
    def p(self) -> float:
        """Two-sided, by Student's t, of this place alone."""
        return float(2 * stdtr(self.degrees, -abs(self.estimate) / self.error))

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        half = float(stdtrit(self.degrees, (1 + confidence) / 2)) * self.error
        return self.estimate - half, self.estimate + half


def held(logs: npt.ArrayLike) -> Array:
    """``logs`` (n,) with single flaky nights drawn to what is usual around them.

    That is a running median of `HALF` either side; what deviates from it by more than `FLAKY` standard
    deviations is put there. A step stays as it is: the median goes with it.
    """
    values = np.asarray(logs, np.float64)
    if values.size < 2 * HALF + 1:
        return values.copy()
    padded = np.concatenate([np.full(HALF, np.nan), values, np.full(HALF, np.nan)])
    usual = np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, 2 * HALF + 1), axis=-1)
    off = values - usual
    # The median is one of the five itself, so that deviations are smaller than the noise: by a fifth, of white noise.
    room = FLAKY * 1.25 * max(spread(off), ROUNDING)
    return np.where(np.abs(off) > room, usual, values)


def correlation(logs: npt.ArrayLike) -> float:
    """Of neighbours, from differences, which steps of the level hardly touch: 0 to `MOST`.

    Differences of neighbours have a variance of 2 s^2 (1 - r), those of every second one of 2 s^2 (1 - r^2); so the
    ratio is 1 + r (Chakar, Lebarbier, Levy-Leduc and Robin 2017, with a trimmed variance for the median).
    """
    values = np.asarray(logs, np.float64)
    if values.size < 4:
        return 0.0
    near, far = spread(np.diff(values)), spread(values[2:] - values[:-2])
    return float(np.clip(np.square(far / near) - 1, 0.0, MOST)) if near > ROUNDING else 0.0


def rough(logs: npt.ArrayLike, belief: Belief | None = None) -> tuple[float, float]:
    """`correlation`, beside ``belief``, and its standard error: for series whose levels are not known yet."""
    own, error = correlation(logs), ROUGH * max(np.size(logs), 1) ** -0.5
    return belief.beside(own, error) if belief else (own, error)


def around(logs: npt.ArrayLike, edges: Sequence[int]) -> tuple[float, float]:
    """The correlation of ``logs`` (n,) around the levels of the segments between ``edges``, and its standard error.

    Corrected for levels having been estimated (Kendall 1954), and the error likewise.
    """
    values = np.asarray(logs, np.float64)
    left = np.concatenate([values[low:high] - values[low:high].mean() for low, high in pairwise(edges)])
    segments = len(edges) - 1
    inside = np.ones(values.size - 1, bool)
    inside[np.asarray(edges[1:-1], int) - 1] = False
    power = float(np.square(left).sum())
    own = 0.0
    if power > values.size * ROUNDING**2:
        own = float((left[1:] * left[:-1])[inside].mean()) * values.size / power
    levels = segments / values.size
    error = (1 + 3 * levels) * (max(1 - own**2, 1 - MOST**2) / values.size) ** 0.5
    return own + (1 + 3 * max(own, 0.0)) * levels, error


def noise(logs: npt.ArrayLike, edges: Sequence[int], known: npt.ArrayLike = 0.0, belief: Belief | None = None) -> Noise:
    """That of ``logs`` (n,) around the levels of the segments between ``edges`` (0, every first night, n).

    Correlation is that `around` the levels, beside ``belief``, and `CAUTION` above that, since what is taken too low
    raises false alarms; or that of `rough` less its error, where that is more, since too many segments leave no
    correlation. Without a belief, places that were chosen are corrected for as levels are. ``known`` are standard
    errors of the nights themselves: innovations are no less.
    """
    values = np.asarray(logs, np.float64)
    segments = len(edges) - 1
    own, error = around(values, edges)
    if belief:
        own, error = belief.beside(own, error)
    else:
        own += (1 + 3 * max(own, 0.0)) * (segments - 1) / values.size
    apart, margin = rough(values, belief)
    together = min(max(apart - margin, own + CAUTION * error, 0.0), MOST)
    squared = 0.0
    for low, high in pairwise(edges):
        white = whitened(values[low:high], together)
        unit = whitened(np.ones(high - low), together)
        squared += float(np.square(white - unit * (unit @ white) / (unit @ unit)).sum())
    degrees = max(values.size - segments - 1, 1)
    least = float(np.mean(np.square(known))) + ROUNDING**2
    return Noise(together, max(squared / degrees, least) ** 0.5, degrees)


def whitened(values: Array, together: float) -> Array:
    """AR(1) noise made white, with the standard deviation of its innovations."""
    white = values.copy()
    white[1:] -= together * values[:-1]
    white[:1] *= (1 - together**2) ** 0.5
    return white


def scan(logs: Array, around: Noise) -> tuple[Array, Array]:
    """Estimate and standard error of a step before each value but the first, (n - 1,) each, by least squares."""
    size, k = logs.size, 1 - around.correlation
    white = whitened(logs, around.correlation)
    after = np.arange(size - 2, -1, -1)  # nights after the first one of the step
    uu = 1 - around.correlation**2 + (size - 1) * k**2
    uv = k + k**2 * after
    vv = 1 + k**2 * after
    uy = (1 - around.correlation**2) ** 0.5 * white[0] + k * white[1:].sum()
    tail = np.cumsum(white[::-1])[::-1]
    vy = white[1:] + k * (tail[1:] - white[1:])
    information = uu * vv - uv**2
    return np.asarray((vy * uu - uv * uy) / information), around.innovation * np.sqrt(uu / information)


def step(logs: npt.ArrayLike, place: int, around: Noise) -> Step:
    """The step of ``logs`` (n,) before the value at ``place``, 1 to n - 1."""
    estimate, error = scan(np.asarray(logs, np.float64), around)
    return Step(float(estimate[place - 1]), float(error[place - 1]), around.degrees)


def spread(differences: Array, trimmed: float = TRIMMED) -> float:
    """A standard deviation without the largest squares, of numbers with mean 0; right for normal ones."""
    squares = np.sort(np.square(differences))
    kept = squares[: max(int(np.ceil(squares.size * (1 - trimmed))), 1)]
    return float(np.sqrt(kept.mean() / share(trimmed))) if kept.size else 0.0


@cache
def share(trimmed: float) -> float:
    """Of a standard normal variable's mean square, what is left without so many of the largest squares."""
    end = float(ndtri(1 - trimmed / 2))
    return float(1 - 2 * end * math.exp(-(end**2) / 2) / ((2 * math.pi) ** 0.5 * (1 - trimmed)))
