"""Two arms compared: what B costs more than A, how sure that is, and what could have been seen.

The replicate is the process and its number the median of its samples; what is inferred from is the
*block* of four interleaved processes (`interleave`), whose two pairs share what drifts. A block gives
one log ratio, the mean log median of B's processes less that of A's; with independent processes its
standard deviation is the coefficient of variation between processes. Everything here works over
leading axes, so that all cells of a session are one array:

    medians  (..., blocks, 2, 2)   block, arm (A, B), process; above 0, in any unit
    ratios   (..., blocks)         log of B over A
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.measure.special import nctdtrinc, stdtr, stdtrit

Array = npt.NDArray[np.float64]

CONFIDENCE = 0.95  # of an interval that is shown
LEVEL = (1 - CONFIDENCE) / 2  # one-sided, of a comparison that stands alone: its interval leaves out 0
POWER = 0.9  # with which a change of the smallest visible size is seen
FAR = 8.0  # robust standard deviations from the median; benchmarks/test_flaky_sessions.py says what that costs
APART = float(np.log1p(0.01))  # a log ratio: what is nearer than 1 % is no flaky one, whatever the others are like
QUARTILE = NormalDist().inv_cdf(0.75)  # of a standard normal: what its median absolute deviation is
LEAST_USUAL = 5  # values, fewer of which do not tell which one is odd
ROUNDING = 1e-9  # a relative spread below which numbers count as equal: that of float64, with room


def usual(logs: npt.ArrayLike) -> Array:
    """``logs`` (n,) of sessions without flaky ones: far from the median by both `FAR` and `APART`.

    One in four may be; where more are, the farthest are left out, and the rest are what the level is like.
    """
    values = np.asarray(logs, np.float64)
    if values.size < LEAST_USUAL:
        return values
    off = np.abs(values - np.median(values))
    room = max(FAR * float(np.median(off)) / QUARTILE, APART)
    flaky = [place for place in np.argsort(-off)[: values.size // 4] if off[place] > room]
    return np.delete(values, flaky)


@dataclass(frozen=True)
class Change:
    """What B costs more than A: the mean log ratio, its standard error and the degrees of freedom of that."""

    mean: Array
    error: Array
    blocks: int
    degrees: int

    def __getitem__(self, place: int) -> Change:
        """That of one place on the first axis."""
        return Change(self.mean[place], self.error[place], self.blocks, self.degrees)

    @property
    def spread(self) -> Array:
        """The standard deviation of one block's log ratio."""
        return np.asarray(self.error * np.sqrt(self.blocks))

    @property
    def p_worse(self) -> Array:
        """How often a mean this high or higher comes by chance, where nothing changed; one-sided, by t."""
        return np.asarray(stdtr(self.degrees, -self.mean / self.error))

    @property
    def p_better(self) -> Array:
        return np.asarray(stdtr(self.degrees, self.mean / self.error))

    def interval(self, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
        """The t interval, two-sided."""
        half = stdtrit(self.degrees, (1 + confidence) / 2) * self.error
        return np.asarray(self.mean - half), np.asarray(self.mean + half)


def process_medians(samples: Iterable[npt.ArrayLike]) -> Array:
    """The median of every process's samples, in their unit. ValueError for a process without any."""
    arrays = [np.asarray(one, np.float64).reshape(-1) for one in samples]
    for number, one in enumerate(arrays):
        if not one.size:
            raise ValueError(f"process {number} of {len(arrays)} has no samples")
    return np.array([np.median(one) for one in arrays])


def resolution(samples: npt.ArrayLike) -> float:
    """The step of the clock that raw samples were read from, relative to their median: the least difference of two.

    Of hundreds of samples that spread over a few steps; of a few, or of medians, it may be a multiple. 0
    where all are equal.
    """
    array = np.asarray(samples, np.float64).reshape(-1)
    steps = np.diff(np.unique(array))
    middle = float(np.median(array))
    steps = steps[steps > ROUNDING * middle]
    return float(steps.min()) / middle if steps.size else 0.0


def log_medians(medians: npt.ArrayLike) -> Array:
    """ValueError unless ``(..., blocks, 2, 2)``, at least 2 blocks, finite and above 0."""
    array = np.asarray(medians, np.float64)
    if array.ndim < 3 or array.shape[-2:] != (2, 2) or array.shape[-3] < 2:
        raise ValueError(
            f"medians of shape {array.shape}: expected (..., blocks, 2 arms, 2 processes), 2 blocks at least"
        )
    if not np.all((array > 0) & (array < np.inf)):
        raise ValueError("medians have to be finite and above 0: a log ratio has no meaning else")
    return np.log(array)


def block_ratios(medians: npt.ArrayLike) -> Array:
    """The log ratio of every block, B over A."""
    means = log_medians(medians).mean(axis=-1)
    return np.asarray(means[..., 1] - means[..., 0])


def over_blocks(ratios: npt.ArrayLike, tick: float | Array = 0.0) -> Change:
    """The change as its blocks tell it, each one number: n - 1 degrees of freedom.

    ``tick`` is the relative `resolution` of the clock. Medians on the same step tell less than their
    equality says, so what rounding to a step hides is added to the spread of a block: tick / sqrt(12).
    """
    array = np.asarray(ratios, np.float64)
    return _change(array, array.var(axis=-1, ddof=1), array.shape[-1] - 1, tick)


def over_processes(medians: npt.ArrayLike, tick: float | Array = 0.0) -> Change:
    """The same mean, its error from the spread of all processes around their block and arm: 3 n - 1 degrees.

    For a screening, where four blocks would say too little of their own spread. It takes processes as
    independent; what drifts inside a block makes it too wide, and correlation of neighbours moves it
    either way. Nothing that is final rests on it.
    """
    logs = log_medians(medians)
    blocks = logs.shape[-3]
    ratios = block_ratios(medians)
    half = ratios.mean(axis=-1)[..., None, None, None] / 2
    left = logs - logs.mean(axis=(-2, -1), keepdims=True) - half * np.array([[-1.0], [1.0]])
    degrees = 3 * blocks - 1
    return _change(ratios, np.square(left).sum(axis=(-3, -2, -1)) / degrees, degrees, tick)


def over_trimmed(medians: npt.ArrayLike, tick: float | Array = 0.0) -> Change:
    """The change without the lowest and the highest eighth of the processes of each arm, one at least (Yuen 1974).

    A second opinion for where single processes are far off: such a one moves the mean and widens its error, and
    hides what the others show. Blocks are not told apart, so drift widens it; nothing that is final rests on
    it either.
    """
    logs = np.moveaxis(log_medians(medians), -2, -3)
    arms = np.sort(logs.reshape(*logs.shape[:-2], -1), axis=-1)  # (..., 2, processes)
    size = arms.shape[-1]
    off = max(size // 8, 1)
    inner = arms[..., off : size - off]
    left = inner.shape[-1]
    winsorized = np.clip(arms, inner[..., :1], inner[..., -1:]).var(axis=-1, ddof=1) + np.square(tick)[..., None] / 12
    squared = ((size - 1) * winsorized / (left * (left - 1))).sum(axis=-1) + ROUNDING**2
    means = inner.mean(axis=-1)
    return Change(np.asarray(means[..., 1] - means[..., 0]), np.sqrt(squared), size // 2, 2 * (left - 1))


def _change(ratios: Array, variance: Any, degrees: int, tick: float | Array) -> Change:
    blocks = ratios.shape[-1]
    rounding = np.square(tick) / 12 + ROUNDING**2
    return Change(ratios.mean(axis=-1), np.sqrt((variance + rounding) / blocks), blocks, degrees)


def visible(
    spread: npt.ArrayLike,
    blocks: int,
    *,
    level: float = LEVEL,
    power: float = POWER,
    floor: npt.ArrayLike = 0.0,
    multiple: float = 0.0,
) -> Array:
    """The minimum detectable effect: the change that ``blocks`` of this ``spread`` show at ``level`` with ``power``.

    A change is shown by as many standard errors as ``level`` asks for, by an estimate of ``multiple`` times the
    spread that is found, and by one of ``floor`` or more. The first two have their power by the noncentral t,
    since what is found of the spread has an error of its own, the third by t.
    """
    error = np.asarray(spread) / np.sqrt(blocks)
    by_errors = _errors(blocks, level, power, multiple) * error
    by_floor = np.asarray(floor) + stdtrit(blocks - 1, power) * error
    return np.asarray(np.maximum(by_errors, by_floor))


@cache
def _errors(blocks: int, level: float, power: float, multiple: float) -> float:
    """By how many standard errors a change is visible. Kept, since the noncentral t takes 0.1 ms."""
    needed = max(float(stdtrit(blocks - 1, 1 - level)), multiple * blocks**0.5)
    return float(nctdtrinc(blocks - 1, 1 - power, needed))
