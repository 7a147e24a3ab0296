"""More than one mode in per-process (or per-build) medians: two groups instead of one.

A plan whose processes now take 110 us and now 123 has no latency to compare; an average of the two
moves with their shares. So the medians of a cell are sorted and cut in two where two normal groups of one
spread explain them best (Scott and Symons 1971; with shares of their own, Symons 1981), and that is held against
the better of two explanations without modes: all normal, or all of Student's t of 3 degrees of
freedom, which has outliers that look like a small second group. The *evidence* is by how much the two groups
are likelier, as a logarithm.

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
from scipy.special import gammaln, xlogy

from harness.measure.stats import ROUNDING, Array, log_medians

# Evidence that is needed of very many processes. A likelihood of few is fitted too well, so more is needed of them:
# 10.1 of 16, 8.3 of 24, 7.3 of 32, which at most .1 % of cells of one mode reach: normal, AR(1) of .5, t3.
SURE, FEW = 4.5, 20
HINTED = 3.15  # 7.1 of 16, a single process too: worth another look, which .4 % get with normal noise, .6 % with t3
EMPTY = 2.0  # spreads between two modes: the evidence alone takes many processes of skewed or even noise for two groups
RARE = 12  # a mode has at least every twelfth process, and two
TAILS = 3  # degrees of freedom of the t that has outliers without modes
STEPS = 30  # of its fit, by which its likelihood is settled to less than a hundredth


@dataclass(frozen=True)
class Groups:
    """The best cut of every cell's medians into two groups.

    ``evidence`` is how much likelier two groups are than one, as a logarithm (see the module), ``gap`` the empty
    stretch between them in units of the spread inside them, ``apart`` the distance of their means, in log; ``slow``
    how many processes of each arm are in the slower group, of ``size`` an arm: ``(..., 2)``.
    """

    evidence: Array
    gap: Array
    apart: Array
    slow: npt.NDArray[np.intp]
    size: int

    def __getitem__(self, place: int) -> Groups:
        """Those of one place on the first axis."""
        return Groups(self.evidence[place], self.gap[place], self.apart[place], self.slow[place], self.size)

    def __str__(self) -> str:
        """Of one cell, in words."""
        a, b = (int(count) for count in self.slow)
        return (
            f"two groups of processes {100 * float(np.expm1(self.apart)):.1f} % apart: "
            f"{a} of {self.size} of A and {b} of {self.size} of B in the slower one"
        )

    def clear(self, apart: float | Array, needed: float = SURE) -> npt.NDArray[np.bool_]:
        """Which are two modes: by more evidence than ``needed``, and more of few, `EMPTY` between, and ``apart``."""
        likely = self.evidence > needed * (1 + FEW / (2 * self.size))
        return np.asarray(likely & (self.gap > EMPTY) & (self.apart >= apart))


@dataclass(frozen=True)
class Cuts:
    """Every cut of every cell's medians into two groups, by each way to move the arms onto each other.

    ``evidence``, ``gap`` and ``apart`` as in `Groups`, ``slow`` how many processes of A, of ``size``, are above the
    cut: all (..., ways, cuts), the cuts by the number of processes below, from one on.
    """

    evidence: Array
    gap: Array
    apart: Array
    slow: npt.NDArray[np.intp]
    size: int

    def groups(self, least: int | None = None) -> Groups:
        """The best cuts with ``least`` processes or more on either side (see `RARE`)."""
        number = 2 * self.size
        least = max(2, round(number / RARE)) if least is None else least
        allowed = slice(least - 1, number - least)
        evidence = self.evidence[..., allowed]
        flat = evidence.reshape(*evidence.shape[:-2], -1)
        best = np.argmax(flat, axis=-1)[..., None]

        def at_best(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.take_along_axis(values[..., allowed].reshape(flat.shape), best, axis=-1)[..., 0]

        slow = at_best(self.slow)
        above = number - least - best[..., 0] % evidence.shape[-1]
        return Groups(
            at_best(self.evidence),
            at_best(self.gap),
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
    spread = np.sqrt(np.maximum(left / (number - 2), rounding[..., None, None]))
    gap = (moved[..., 1:] - moved[..., :-1]) / spread
    return Cuts(two - _one(parts, rounding, two)[..., None, None], gap, over / above - under / below, slow, size)


def _normal(variance: Array, number: int) -> Array:
    """The log likelihood of as many normal numbers, their means and this ``variance`` being the likeliest."""
    return np.asarray(-number / 2 * (np.log(2 * np.pi * variance) + 1))


def _one(parts: list[Array], rounding: Array, two: Array) -> Array:
    """The log likelihood of no modes: normal, or t where that is better and ``two`` would else be a hint at least."""
    number = sum(part.shape[-1] * 2 for part in parts)
    off = np.concatenate([part - part.mean(axis=-1, keepdims=True) for part in parts], axis=-1)
    one = _normal(np.square(off).mean(axis=(-2, -1)) + rounding, number)
    asked = two.max(axis=(-2, -1)) - one > HINTED * (1 + FEW / number)
    if asked.any():
        few = [part[asked] for part in parts]
        one[asked] = np.maximum(one[asked], _student(few, np.broadcast_to(rounding, one.shape)[asked]))
    return one


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
