"""More than one mode in per-process (or per-build) medians: two groups instead of one.

A plan whose processes now take 110 us and now 123 has no latency to compare; an average of the two
moves with their shares. So the medians of a cell are sorted and cut in two where two normal groups of one
spread explain them best (Scott and Symons 1971; with shares of their own, Symons 1981), and that is held against
the best of four explanations without modes: all normal; all of Student's t of 3 degrees of freedom, which has
outliers that look like a small second group; all lognormal beyond some least or below some most, whose one long tail
looks like a wide second group; all even between two ends, which looks like two groups side by side. The *evidence* is
by how much the two groups are likelier, as a logarithm; what the first two explanations leave is a *hint*.

A change between the arms is no mode, so B is first moved onto A: by the difference of their medians,
and once more each by that of a low and of a high quantile, since an arm of which half is slow has no
median to speak of. Where all that differs is a shift, the three do the same. Nor is a step between what was
measured first and what later: without modes every batch has a mean of its own, with them it has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.measure.special import gammaln, xlogy
from harness.measure.stats import ROUNDING, Array, log_medians

SURE = 8.8  # evidence that .02 % of 16 processes of one mode reach, normal or t3, and .2 % of 8
HINTED = 7.0  # a hint that .4 to .6 % of cells of 16 processes give, of a single one too
AKIN = 36.0  # over the number of processes: evidence that is enough where another metric has modes; 5 to 10 % reach it
RARE = 12  # a mode has at least every twelfth process, and two
TAILS = 3  # degrees of freedom of the t that has outliers without modes
STEPS = 30  # of its fit, by which its likelihood is settled to less than a hundredth
SHIFTS = (0.02, 0.1, 0.3, 1.0, 2.0, 4.0)  # standard deviations from the end of a lognormal to the process nearest it
ENDS = 3.0  # what an even spread's likelihood is lowered by, since its ends are fitted; 2 is what that gains on average


@dataclass(frozen=True)
class Groups:
    """The best cut of every cell's medians into two groups.

    ``evidence`` is how much likelier two groups are than one, as a logarithm (see the module), ``hint`` how much
    likelier than one that is not skewed; ``apart`` the distance of their means, in log; ``slow`` how many processes of
    each arm are in the slower group, of ``size`` an arm: ``(..., 2)``.
    """

    evidence: Array
    hint: Array
    apart: Array
    slow: npt.NDArray[np.intp]
    size: int

    def __getitem__(self, place: int) -> Groups:
        """Those of one place on the first axis."""
        return Groups(self.evidence[place], self.hint[place], self.apart[place], self.slow[place], self.size)

    def __str__(self) -> str:
        """Of one cell, in words."""
        a, b = (int(count) for count in self.slow)
        return (
            f"two groups of processes {100 * float(np.expm1(self.apart)):.1f} % apart: "
            f"{a} of {self.size} of A and {b} of {self.size} of B in the slower one"
        )

    def clear(self, apart: float | Array) -> npt.NDArray[np.bool_]:
        """Which are two modes that are ``apart``: by more evidence than `SURE`."""
        return np.asarray((self.evidence > SURE) & (self.apart >= apart))

    def akin(self, apart: float | Array) -> npt.NDArray[np.bool_]:
        """Which are two modes if another metric of the same processes has some."""
        return np.asarray((self.evidence > AKIN / (2 * self.size)) & (self.apart >= apart))

    def hinted(self, apart: float | Array) -> npt.NDArray[np.bool_]:
        """Which may be two modes: by a hint of more than `HINTED`."""
        return np.asarray((self.hint > HINTED) & (self.apart >= apart))


@dataclass(frozen=True)
class Cuts:
    """Every cut of every cell's medians into two groups, by each way to move the arms onto each other.

    ``hint`` and ``apart`` as in `Groups`, ``slow`` how many processes of A, of ``size``, are above the cut: all
    (..., ways, cuts), the cuts by the number of processes below, from one on. ``shape`` (...) is how much likelier one
    group is if it may be skewed or even: by so much is evidence less than a hint.
    """

    hint: Array
    shape: Array
    apart: Array
    slow: npt.NDArray[np.intp]
    size: int

    def groups(self, least: int | None = None) -> Groups:
        """The best cuts with ``least`` processes or more on either side (see `RARE`)."""
        number = 2 * self.size
        least = max(2, round(number / RARE)) if least is None else least
        allowed = slice(least - 1, number - least)
        hint = self.hint[..., allowed]
        flat = hint.reshape(*hint.shape[:-2], -1)
        best = np.argmax(flat, axis=-1)[..., None]

        def at_best(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.take_along_axis(values[..., allowed].reshape(flat.shape), best, axis=-1)[..., 0]

        slow = at_best(self.slow)
        above = number - least - best[..., 0] % hint.shape[-1]
        hint = at_best(self.hint)
        return Groups(
            np.asarray(hint - self.shape),
            hint,
            at_best(self.apart),
            np.stack([slow, above - slow], axis=-1),
            self.size,
        )


def groups(*batches: npt.ArrayLike, least: int | None = None, tick: Any = 0.0) -> Groups:
    """The best cut of `cuts` with ``least`` processes or more on either side."""
    return cuts(*batches, tick=tick).groups(least)


def cuts(*batches: npt.ArrayLike, tick: Any = 0.0) -> Cuts:
    """All cuts of medians (..., blocks, 2, 2), in ``batches`` that were measured one after another.

    ``tick`` is the relative resolution of the clock: what rounding to it hides is the least spread of anything.
    ValueError as in `log_medians`.
    """
    parts = [np.moveaxis(log_medians(batch), -2, -3) for batch in batches]
    parts = [part.reshape(*part.shape[:-2], -1) for part in parts]
    arms = np.concatenate(parts, axis=-1)  # (..., 2, processes)
    size = arms.shape[-1]
    number = 2 * size
    rounding = np.asarray(np.square(tick) / 12 + ROUNDING**2)
    ranked = np.sort(arms, axis=-1)
    edge = size // 8
    onto = [ranked[..., edge], np.median(arms, axis=-1), ranked[..., -1 - edge]]
    moved = (ranked[..., None, :, :] - np.stack(onto, axis=-2)[..., None]).reshape(*arms.shape[:-2], len(onto), number)
    order = np.argsort(moved, axis=-1, kind="stable")
    moved = np.take_along_axis(moved, order, axis=-1)
    below = np.arange(1, number)
    above = number - below
    total, squares = np.cumsum(moved, axis=-1), np.cumsum(np.square(moved), axis=-1)
    under, over = total[..., :-1], total[..., -1:] - total[..., :-1]
    left = np.maximum(squares[..., -1:] - np.square(under) / below - np.square(over) / above, 0)
    shares = xlogy(below, below / number) + xlogy(above, above / number)
    two = _normal(left / number + rounding[..., None, None], number) + shares
    slow = size - np.cumsum(order < size, axis=-1)[..., :-1]
    one, shape = _one(parts, rounding, two.max(axis=(-2, -1)))
    return Cuts(two - one[..., None, None], shape, over / above - under / below, slow, size)


def _normal(variance: Array, number: int) -> Array:
    """The log likelihood of as many normal numbers, their means and this ``variance`` being the likeliest."""
    return np.asarray(-number / 2 * (np.log(2 * np.pi * variance) + 1))


def _one(parts: list[Array], rounding: Array, two: Array) -> tuple[Array, Array]:
    """The log likelihood of no modes, normal or t, and what other shapes add to it; only as far as it is below ``two``.

    ``parts`` are (..., 2, processes), each arm of each has a mean of its own.
    """
    number = sum(part.shape[-1] * 2 for part in parts)
    off = np.concatenate([part - part.mean(axis=-1, keepdims=True) for part in parts], axis=-1)
    off = off.reshape(*off.shape[:-2], number)
    one = _normal(np.square(off).mean(axis=-1) + rounding, number)
    shape, least = np.zeros_like(one), np.broadcast_to(rounding, one.shape)
    if (asked := two > one).any():
        one[asked] = np.maximum(one[asked], _student([part[asked] for part in parts], least[asked]))
    if (asked := two > one).any():
        others = np.maximum(_lognormal(off[asked], least[asked]), _even(off[asked], least[asked]))
        shape[asked] = np.maximum(others - one[asked], 0)
    return one, shape


def _even(off: Array, least: Array) -> Array:
    """The log likelihood of what is even between the ends of ``off`` (cells, number), rounded by ``least``, squared."""
    return np.asarray(-off.shape[-1] * np.log(np.ptp(off, axis=-1) + np.sqrt(12 * least)) - ENDS)


def _lognormal(off: Array, least: Array) -> Array:
    """The log likelihood of what is lognormal beyond the best of `SHIFTS`, or before it, of ``off`` (cells, number).

    ``least`` are the least squares of its spread.
    """
    number = off.shape[-1]
    spread = np.sqrt(np.maximum(off.var(axis=-1), least))[:, None]
    ends = [off - off.min(axis=-1, keepdims=True), off.max(axis=-1, keepdims=True) - off]
    logs = np.stack([np.log(end / spread + shift) for end in ends for shift in SHIFTS])
    found = _normal(logs.var(axis=-1) + least / spread[:, 0] ** 2, number) - logs.sum(axis=-1)
    return np.asarray(found.max(axis=0) - number * np.log(spread[:, 0]))


def _student(parts: list[Array], least: Array) -> Array:
    """The log likelihood of Student's t of `TAILS`, each arm of each batch with a place of its own, one scale for all.

    ``parts`` are (cells, 2, processes), ``least`` the least squares of scales. Fitted by weighting (EM: Lange, Little
    and Taylor 1989).
    """
    number = sum(part.shape[-1] * 2 for part in parts)
    off = [part - np.median(part, axis=-1, keepdims=True) for part in parts]
    squares = [np.square(one) for one in off]
    scale = np.maximum(sum(one.sum(axis=(-2, -1)) for one in squares) / number, least)
    for _ in range(STEPS):
        weights = [1 / (TAILS + one / scale[:, None, None]) for one in squares]
        off = [one - _mean(one, weight) for one, weight in zip(off, weights, strict=True)]
        squares = [np.square(one) for one in off]
        weighted = sum((weight * one).sum(axis=(-2, -1)) for weight, one in zip(weights, squares, strict=True))
        scale = np.maximum((TAILS + 1) / number * weighted, least)
    constant = gammaln((TAILS + 1) / 2) - gammaln(TAILS / 2) - np.log(TAILS * np.pi * scale) / 2
    outer = sum(np.log1p(one / (TAILS * scale[:, None, None])).sum(axis=(-2, -1)) for one in squares)
    return np.asarray(number * constant - (TAILS + 1) / 2 * outer)


def _mean(values: Array, weights: Array) -> Array:
    return np.asarray((weights * values).sum(axis=-1, keepdims=True) / weights.sum(axis=-1, keepdims=True))
