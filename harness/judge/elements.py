"""Two arrays element by element: which are off, by how much, and where."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.judge.comparison import Element, Failure, Figures, OutputComparison
from harness.judge.provenance import FLOATS
from harness.judge.tolerance import EXACT, Tolerance

Array = npt.NDArray[Any]
Wide = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

WORST = 5  # elements shown
CHUNK = 1 << 16  # elements looked at together, so that their float64 copies stay in the cache


@functools.cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """numpy works it out anew each time, which takes longer than a short comparison."""
    return str(dtype)


def wide(array: Array) -> Wide:
    """As float64, which holds every value of the narrower types."""
    return array.astype(np.float64)


def near(
    result: OutputComparison,
    got: Array,
    want: Array,
    bounds: Tolerance,
    top: Sequence[int] = (),
    *,
    wider: Wide | None = None,
) -> OutputComparison:
    """Each element within ``bounds``, with all figures. Elements that aren't finite have been found to agree.

    ``top`` asks for the agreement of the k highest along the last axis. ``wider`` says, for each element, how many
    times the absolute part of ``bounds`` it is allowed.
    """
    flat_got, flat_want = got.reshape(-1), want.reshape(-1)
    flat_wider = np.ones(1) if wider is None else wider.reshape(-1)
    sums = _Sums()
    wrong = np.zeros(want.size, np.bool_)
    candidates: list[tuple[float, int]] = []
    for start in range(0, want.size, CHUNK):
        part = slice(start, start + CHUNK)
        x, y = wide(flat_got[part]), wide(flat_want[part])
        finite = np.isfinite(y)
        x, y = np.where(finite, x, 0.0), np.where(finite, y, 0.0)
        error = np.abs(x - y)
        allowed = bounds.atol * (flat_wider if wider is None else flat_wider[part]) + bounds.rtol * np.abs(y)
        wrong[part] = error > allowed
        sums.add(x, y, error, _ulps(flat_got[part], flat_want[part], finite), int(finite.sum()))
        excess = np.divide(error, allowed, out=np.where(error > 0, np.inf, 0.0), where=allowed > 0)
        excess[~finite] = -1.0  # not among the worst
        many = min(WORST, excess.size)
        candidates += [(float(excess[i]), start + int(i)) for i in np.argpartition(excess, -many)[-many:]]
    ranked = sorted((c for c in candidates if c[0] >= 0), key=lambda c: (-c[0], c[1]))[:WORST]
    agreement = {k: _agreement(got, want, k) for k in top if want.shape[-1] > k}

    def element(place: int) -> Element:
        times = float(flat_wider[0 if wider is None else place])
        return _element(place, got, want, replace(bounds, atol=bounds.atol * times))

    return off(
        replace(result, tolerance=bounds, figures=sums.figures(agreement)),
        wrong.reshape(want.shape),
        want,
        worst=tuple(element(place) for _, place in ranked),
    )


def worst(got: Array, want: Array, bounds: Tolerance) -> Element | None:
    """The element nearest to failing; None where one is not finite, or nothing is allowed for it."""
    excess, allowed = wide(got.reshape(-1)), wide(want.reshape(-1))
    with np.errstate(all="ignore"):  # in place, as this is done for every run of thousands
        excess -= allowed
        np.abs(excess, out=excess)
        np.abs(allowed, out=allowed)
        allowed *= bounds.rtol
        allowed += bounds.atol
        excess /= allowed
    place = int(excess.argmax())  # the first NaN, where there is one: what an infinity on either side gives
    return _element(place, got, want, bounds) if math.isfinite(excess[place]) else None


def equal(
    result: OutputComparison, got: Array, want: Array, bounds: Tolerance = EXACT, excused: Mask | None = None
) -> OutputComparison:
    """Each element equal, but for those that are ``excused``."""
    differing: Mask = np.asarray(got != want)
    wrong = differing if excused is None else differing & ~excused
    spared = int(np.count_nonzero(differing)) - int(np.count_nonzero(wrong))
    note = f"{spared} doubtful elements differ" if spared else result.note
    return off(replace(result, tolerance=bounds, note=note), wrong, want, worst=first(wrong, got, want, bounds))


def same_bits(result: OutputComparison, got: Array, want: Array, bounds: Tolerance) -> OutputComparison:
    """Each bit equal: a NaN is equal to the same NaN, 0 is not -0."""
    raw = [np.ascontiguousarray(a).reshape(-1).view(np.uint8).reshape(want.size, a.itemsize) for a in (got, want)]
    wrong = (raw[0] != raw[1]).any(axis=1).reshape(want.shape)
    return off(replace(result, tolerance=bounds), wrong, want, worst=first(wrong, got, want, bounds))


def off(
    result: OutputComparison,
    wrong: Mask,
    want: Array,
    failure: Failure = Failure.MISMATCH,
    *,
    worst: tuple[Element, ...] = (),
) -> OutputComparison:
    """``result``, failed if anything is ``wrong``."""
    count = int(np.count_nonzero(wrong))
    if not count:
        return replace(result, worst=worst)
    share = f"{count} of {want.size} elements are off ({100 * count / want.size:.3g} %)"
    return replace(result, failure=failure, detail=share, wrong=count, where=places(wrong), worst=worst)


def marked(
    result: OutputComparison, failure: Failure, wrong: Mask, what: str, got: Array, want: Array
) -> OutputComparison:
    """A failure of the elements that are ``wrong``, whatever a tolerance would say."""
    count = int(np.count_nonzero(wrong))
    return replace(
        result,
        failure=failure,
        detail=f"{count} of {wrong.size} elements {what}",
        wrong=count,
        where=places(wrong),
        worst=first(wrong, got, want, EXACT) if got.shape == want.shape == wrong.shape else (),
    )


def first(wrong: Mask, got: Array, want: Array, bounds: Tolerance) -> tuple[Element, ...]:
    """The first wrong elements in the order of memory."""
    return tuple(_element(int(place), got, want, bounds) for place in np.flatnonzero(wrong)[:WORST])


def places(wrong: Mask) -> str:
    """Along which axes the wrong elements keep to a few places: what points at a row, a head, a channel."""
    told = []
    for axis, size in enumerate(wrong.shape):
        found = np.flatnonzero(wrong.any(axis=tuple(other for other in range(wrong.ndim) if other != axis)))
        if len(found) <= max(1, size // 2) and size > 1:
            shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
            told.append(f"axis {axis} at {shown} of {size}")
    return "; ".join(told)


def _element(place: int, got: Array, want: Array, bounds: Tolerance) -> Element:
    x, y = float(got.reshape(-1)[place]), float(want.reshape(-1)[place])
    index = []
    for size in reversed(want.shape):
        place, at = divmod(place, size)
        index.append(at)
    return Element(tuple(reversed(index)), x, y, abs(x - y), bounds.atol + bounds.rtol * abs(y))


def _ulps(got: Array, want: Array, usable: Mask) -> Wide:
    """How many representable numbers of the coarser type lie between; 0 where not usable."""
    if dtype_name(want.dtype) not in FLOATS or dtype_name(got.dtype) not in FLOATS:
        return np.zeros(got.shape)
    kind = min(got.dtype, want.dtype, key=lambda dtype: dtype.itemsize)
    whole, least = f"i{kind.itemsize}", np.iinfo(f"i{kind.itemsize}").min
    lines = []
    for array in (got, want):
        bits = np.ascontiguousarray(array.astype(kind)).view(whole)
        # negative floats have the sign bit set and count downwards from -0: put both signs on one line
        lines.append(np.where(bits < 0, least - bits, bits).astype(np.int64))
    x, y = lines
    apart = np.where((x < 0) == (y < 0), np.abs(x - y), 0)  # on two sides of 0 a difference may leave int64
    distance: Wide = np.where((x < 0) == (y < 0), wide(apart), np.abs(wide(x)) + np.abs(wide(y)))
    return np.where(usable, distance, 0.0)


def _agreement(got: Array, want: Array, k: int) -> float:
    """Share of rows whose ``k`` highest are the same set."""
    sets = [np.sort(np.argpartition(-wide(a), k - 1, axis=-1)[..., :k], axis=-1) for a in (got, want)]
    return float((sets[0] == sets[1]).all(axis=-1).mean())


def _dot(x: Wide, y: Wide) -> float:
    """Without BLAS, whose threads cost more than they bring on vectors of this size when all cores are busy."""
    return float(np.einsum("i,i", x, y))


class _Sums:
    """What figures are made of, over chunks."""

    def __init__(self) -> None:
        self.count = self.nonzero = 0
        self.max_abs = self.max_rel = self.max_ulp = 0.0
        self.abs = self.rel = self.ulp = self.square = self.dot = self.got = self.want = 0.0

    def add(self, x: Wide, y: Wide, error: Wide, ulps: Wide, usable: int) -> None:
        nonzero = y != 0
        relative = error[nonzero] / np.abs(y[nonzero])
        self.count += usable
        self.nonzero += relative.size
        self.max_abs = max(self.max_abs, float(error.max()))
        self.max_rel = max(self.max_rel, float(relative.max(initial=0.0)))
        self.max_ulp = max(self.max_ulp, float(ulps.max()))
        self.abs += float(error.sum())
        self.rel += float(relative.sum())
        self.ulp += float(ulps.sum())
        self.square += _dot(error, error)
        self.dot += _dot(x, y)
        self.got += _dot(x, x)
        self.want += _dot(y, y)

    def figures(self, top: Mapping[int, float]) -> Figures:
        count, nonzero = max(self.count, 1), max(self.nonzero, 1)
        norms = math.sqrt(self.got) * math.sqrt(self.want)
        cosine = self.dot / norms if norms else float(self.got == self.want)
        snr = math.inf if not self.square else 10 * math.log10(self.want / self.square) if self.want else -math.inf
        return Figures(
            max_abs=self.max_abs,
            mean_abs=self.abs / count,
            max_rel=self.max_rel,
            mean_rel=self.rel / nonzero,
            max_ulp=self.max_ulp,
            mean_ulp=self.ulp / count,
            rmse=math.sqrt(self.square / count),
            cosine=cosine,
            snr=snr,
            top=dict(top),
        )
