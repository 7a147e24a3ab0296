"""More than one mode in per-process (or per-build) medians: two groups with nothing between them.

A plan whose processes now take 110 us and now 123 has no latency to compare; an average of the two
moves with their shares. So the medians of a cell are sorted and cut in two where the empty gap is
widest against the spread inside the two groups.

A change between the arms is no mode, so B is first moved onto A: by the difference of their medians,
and once more each by that of a low and of a high quantile, since an arm of which half is slow has no
median to speak of. Where all that differs is a shift, the three do the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.measure.stats import ROUNDING, log_medians

# Gaps in units of the spread inside the groups. Few processes leave wide gaps by chance, so more is needed of
# them: 6.2 of 16, 4.4 of 32, 3.4 of 64, which at most .1 % of cells of one mode reach with t3, .01 % with normal noise.
APART, FEW = 2.5, 12
HINTED = 4.0  # of 16 processes: worth another look, which .15 % of cells with normal noise get, .7 % with t3
ALONE = 10.0  # a single process may be a mode or an outlier: of normal noise none is that far away, with t3 1.4 %
RARE = 12  # a mode has at least every twelfth process, and two


@dataclass(frozen=True)
class Groups:
    """The best cut of every cell's medians into two groups.

    ``gap`` is the empty stretch between them in log, ``ratio`` that in units of the spread inside
    them (0 where no cut is allowed); ``slow`` how many processes of each arm are in the slower group,
    of ``size`` an arm: ``(..., 2)``.
    """

    ratio: npt.NDArray[np.float64]
    gap: npt.NDArray[np.float64]
    slow: npt.NDArray[np.intp]
    size: int

    def __getitem__(self, place: int) -> Groups:
        """Those of one place on the first axis."""
        return Groups(self.ratio[place], self.gap[place], self.slow[place], self.size)

    def __str__(self) -> str:
        """Of one cell, in words."""
        a, b = (int(count) for count in self.slow)
        return (
            f"two groups of processes {100 * float(np.expm1(self.gap)):.1f} % apart: "
            f"{a} of {self.size} of A and {b} of {self.size} of B in the slower one"
        )

    def clear(self, gap: float | npt.NDArray[np.float64], ratio: float | None = None) -> npt.NDArray[np.bool_]:
        """Which are two modes: further apart than ``ratio`` (`APART`, and more of few), and by at least ``gap``."""
        needed = APART * (1 + FEW / self.size) if ratio is None else ratio
        return np.asarray((self.ratio > needed) & (self.gap >= gap))


@dataclass(frozen=True)
class Cuts:
    """Every cut of every cell's medians into two groups, by each way to move the arms onto each other.

    ``ratio`` and ``gap`` as in `Groups`, ``slow`` how many processes of A, of ``size``, are above the cut: all
    (..., ways, cuts), the cuts by the number of processes below, from one on.
    """

    ratio: npt.NDArray[np.float64]
    gap: npt.NDArray[np.float64]
    slow: npt.NDArray[np.intp]
    size: int

    def groups(self, least: int | None = None) -> Groups:
        """The best cuts with ``least`` processes or more on either side (see `RARE`)."""
        number = 2 * self.size
        least = max(2, round(number / RARE)) if least is None else least
        allowed = slice(least - 1, number - least)
        ratio = self.ratio[..., allowed]
        flat = ratio.reshape(*ratio.shape[:-2], -1)
        best = np.argmax(flat, axis=-1)[..., None]

        def at_best(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.take_along_axis(values[..., allowed].reshape(flat.shape), best, axis=-1)[..., 0]

        slow = at_best(self.slow)
        above = number - least - best[..., 0] % ratio.shape[-1]
        return Groups(at_best(self.ratio), at_best(self.gap), np.stack([slow, above - slow], axis=-1), self.size)


def groups(medians: npt.ArrayLike, least: int | None = None, tick: Any = 0.0) -> Groups:
    """The best cut of `cuts` with ``least`` processes or more on either side."""
    return cuts(medians, tick).groups(least)


def cuts(medians: npt.ArrayLike, tick: Any = 0.0) -> Cuts:
    """All cuts of ``medians`` (..., blocks, 2, 2).

    ``tick`` is the relative resolution of the clock: what rounding to it hides is the least spread inside a
    group. ValueError as in `log_medians`.
    """
    logs = np.moveaxis(log_medians(medians), -2, -3)
    arms = np.sort(logs.reshape(*logs.shape[:-2], -1), axis=-1)  # (..., 2, processes)
    size = arms.shape[-1]
    number = 2 * size
    edge = size // 8
    onto = [arms[..., edge], np.median(arms, axis=-1), arms[..., -1 - edge]]
    moved = (arms[..., None, :, :] - np.stack(onto, axis=-2)[..., None]).reshape(*arms.shape[:-2], len(onto), number)
    order = np.argsort(moved, axis=-1, kind="stable")
    ranked = np.take_along_axis(moved, order, axis=-1)
    below = np.arange(1, number)
    total, squares = np.cumsum(ranked, axis=-1), np.cumsum(np.square(ranked), axis=-1)
    under, over = total[..., :-1], total[..., -1:] - total[..., :-1]
    left = squares[..., -1:] - np.square(under) / below - np.square(over) / (number - below)
    smallest = np.asarray(np.square(tick) / 12 + ROUNDING**2)[..., None, None]
    gap = ranked[..., 1:] - ranked[..., :-1]
    slow = size - np.cumsum(order < size, axis=-1)[..., :-1]
    return Cuts(gap / np.sqrt(np.maximum(left / (number - 2), smallest)), gap, slow, size)
