"""Where a series of nights changed its level: proposals, which a fresh comparison decides.

E-divisive (`energy`) proposes weak points, generously and by Student's t as Hunter does (Fleming et al. 2023);
the weakest are then taken away until each that is left is a step of a series with correlated neighbours
(`steps`), at a level that accounts for all nights of all series that were searched. Where others of the series have
changed, a step has less to show: it is one of few places, and nobody chose it by what this series did there.

    logs   (n,)   of one series, in order of time
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harness.measure.energy import divide
from harness.measure.special import bdtrc, chdtri, stdtr
from harness.measure.stats import CONFIDENCE, ROUNDING
from harness.measure.steps import Belief, Noise, Step, held, noise, rough, scan, step, whitened
from harness.measure.verdict import LEAST

Array = npt.NDArray[np.float64]
Where = tuple[int, int, int]  # a place and its neighbours: where the levels around it begin and end

LEVEL = 0.02  # false change points, on average, in all series that are searched together, were noise just AR(1)
WEAK = 0.01  # p of a weak point, by Student's t: ten times what Otava accepts in the end
WINDOW = 100  # nights that are divided at a time, half of them again with the next; Otava has 50
LEAST_NIGHTS = 3  # on either side
AHEAD = 5  # points that may be needed together: those of two pulses, of which one alone shows nothing
TAILS = 3  # degrees of freedom of the t by which the range of a place is told
NEAR = 8  # nights by which a place may be off that energy finds: warm ones before a step draw it there


@dataclass(frozen=True)
class Found:
    """A step before the night ``place``, which may as well be before any of ``first`` to ``last`` (at 95 %).

    ``before`` and ``after`` are the logs of the levels around it, ``p`` is adjusted for all places of all series, or,
    where others have changed, for those that all series were asked about; ``alone`` is that of this place alone.
    """

    place: int
    first: int
    last: int
    step: Step
    before: float
    after: float
    p: float
    alone: float
    nights: int  # on the new level


def find(
    logs: npt.ArrayLike,
    known: npt.ArrayLike = 0.0,
    *,
    cuts: Sequence[int] = (),
    series: int = 1,
    tick: float = 0.0,
    level: float = LEVEL,
    belief: Belief | None = None,
    asked: Sequence[int] = (),
) -> tuple[Found, ...]:
    """The change points of ``logs`` (n,), in order of time.

    ``known`` are the standard errors of the nights (n,), or one for all; ``cuts`` the first nights of epochs after the
    first, whose levels have nothing to do with each other, while their noise is one; ``series`` how many are searched
    beside each other; ``tick`` the relative step of the clock: a change is more than one; ``belief`` what is held of
    the correlation of nights (`pooled`); ``asked`` the places at which others of the series have changed, each of
    which all series are asked about. ValueError for what is no row of finite numbers.
    """
    raw = np.asarray(logs, np.float64)
    if raw.ndim != 1 or not np.all(np.isfinite(raw)):
        raise ValueError(f"logs of shape {raw.shape}: expected one row of finite numbers")
    bounds = [0, *cuts, raw.size]
    values = np.concatenate([held(raw[low:high]) for low, high in pairwise(bounds)])
    errors = np.hypot(np.broadcast_to(np.asarray(known, np.float64), values.shape), tick / 12**0.5)
    least = max(LEAST, tick * (1 + 1e-6))
    weak = [low + at for low, high in pairwise(bounds) for at in _weak(values[low:high], errors[low:high])]
    kept: list[Where] = []
    around = Noise(0.0, 1.0, 1)
    tests = values.size * series
    for edges in _models(values, weak, bounds, belief):
        model = _inner(edges, bounds)
        if len(model) > len(kept) + AHEAD:
            break
        tried = noise(values, edges, errors, belief)
        chances = (_p(values[low:high], raw[low:high], at - low, tried, least) for low, at, high in model)
        if all(p * tests < level for p in chances):
            kept, around = model, tried
    told, few = {at: tests for _, at, _ in kept}, len(asked) * series

    def steps_at(places: Iterable[int], held_by: Noise) -> list[int]:
        """Those of ``places`` that are steps still, between the others."""
        inner = _inner(sorted({*bounds, *places}), bounds)
        return [
            at
            for low, at, high in inner
            if _p(values[low:high], raw[low:high], at - low, held_by, least) * told.get(at, few) < level
        ]

    for place in asked:
        edges = sorted({*bounds, *told, place})
        where = next((one for one in _inner(edges, bounds) if one[1] == place), None)
        if place in told or where is None or min(np.diff(where)) < LEAST_NIGHTS:
            continue
        tried = noise(values, edges, errors, belief)
        low, _, high = where
        if _p(values[low:high], raw[low:high], place - low, tried, least) * few < level:
            left = steps_at([*told, place], tried)  # what was told of may have been this step, some nights off
            told, around = {at: told.get(at, few) for at in left}, tried
    model = _inner(sorted({*bounds, *told}), bounds)
    return tuple(_found(values, raw, where, around, told[where[1]], least) for where in model)


def _inner(edges: Sequence[int], bounds: Sequence[int]) -> list[Where]:
    """Every edge that is no bound, between its neighbours."""
    return [where for where in zip(edges, edges[1:], edges[2:], strict=False) if where[1] not in bounds]


def _models(values: Array, weak: Sequence[int], bounds: Sequence[int], belief: Belief | None) -> list[list[int]]:
    """The edges of nested selections of ``weak`` points, the fewest first: each is the next without its weakest."""
    around = Noise(rough(values, belief)[0], 1.0, values.size)
    known: dict[Where, tuple[int, float]] = {}  # the likeliest place near one, and its evidence
    models = []
    edges = sorted({*bounds, *weak})
    while len(edges) > len(bounds):
        evidence = []
        for number in range(1, len(edges) - 1):
            where = edges[number - 1], edges[number], edges[number + 1]
            if where[1] in bounds:
                evidence.append(np.inf)
                continue
            if where not in known:
                known[where] = _nearest(values, *where, around)
            edges[number], found = known[where]
            evidence.append(found)
        models.append(edges.copy())
        del edges[1 + int(np.argmin(evidence))]
    return models[::-1]


def _weak(values: Array, errors: Array) -> list[int]:
    """Points that may be one: of windows that overlap by half, each divided as long as Student's t lets it."""
    places: set[int] = set()
    start = 0
    while True:
        stop = min(start + WINDOW, values.size)
        pieces = [(start, stop)]
        while pieces:
            low, high = pieces.pop()
            _, first, end = divide(values[low:high], LEAST_NIGHTS)
            if not first:
                continue
            place, end = low + first, low + end
            if _plain(values[low:place], values[place:end], errors[low:end]) < WEAK:
                places.add(place)
                pieces += [(low, place), (place, high)]
        if stop == values.size:
            break
        start += WINDOW // 2
    return _apart(sorted(places), values.size)


def _apart(places: Iterable[int], size: int) -> list[int]:
    """Without those that are too near to the one before, or to an end."""
    kept = [0]
    for place in places:
        if place - kept[-1] >= LEAST_NIGHTS and size - place >= LEAST_NIGHTS:
            kept.append(place)
    return kept[1:]


def _plain(before: Array, after: Array, errors: Array) -> float:
    """p of Student's t, two-sided, as if nights were independent."""
    degrees = before.size + after.size - 2
    squared = (np.square(before - before.mean()).sum() + np.square(after - after.mean()).sum()) / degrees
    squared = max(float(squared), float(np.mean(np.square(errors))) + ROUNDING**2)
    error = (squared * (1 / before.size + 1 / after.size)) ** 0.5
    return float(2 * stdtr(degrees, -abs(after.mean() - before.mean()) / error))


def _nearest(values: Array, low: int, place: int, high: int, around: Noise) -> tuple[int, float]:
    """The likeliest place within `NEAR` of one, in errors: energy sees the levels, and not the jump."""
    estimate, error = scan(values[low:high], around)
    first, last = max(place - NEAR, low + LEAST_NIGHTS), min(place + NEAR, high - LEAST_NIGHTS)
    near = np.abs(estimate / error)[first - low - 1 : last - low]
    return (first + int(np.argmax(near)), float(near.max())) if near.size else (place, 0.0)


def _p(piece: Array, raw: Array, place: int, around: Noise, least: float) -> float:
    """Of this place alone, by Student's t and by the nights of either side; 1 for what is too small, or a drift."""
    this = step(piece, place, around)
    midway = (piece[:place].mean() + piece[place:].mean()) / 2
    if abs(this.estimate) < least or _straight(piece, place, around):
        return 1.0
    return max(this.p, _sides(np.sign(this.estimate) * (raw - midway), place))


def _found(values: Array, raw: Array, where: Where, around: Noise, tests: int, least: float) -> Found:
    low, place, high = where
    piece = values[low:high]
    first, last = _likely(piece, raw[low:high], place - low, around)
    before, after = float(values[low:place].mean()), float(values[place:high].mean())
    alone = _p(piece, raw[low:high], place - low, around, least)
    p, this = min(alone * tests, 1.0), step(piece, place - low, around)
    return Found(place, low + first, low + last, this, before, after, p, alone, high - place)


def _sides(above: Array, place: int) -> float:
    """p of so many nights being beyond midway, had they the distribution of those on the other side of the step.

    ``above`` is how far each is above midway, in the direction of the step. A binomial test of either side, which
    knows nothing of the shape of the noise: three flaky nights are no step, where one in thirty is flaky.
    """
    before, after = above[:place], above[place:]
    return max(_binomial(before > 0, after > 0), _binomial(after < 0, before < 0))


def _binomial(usual: npt.NDArray[np.bool_], now: npt.NDArray[np.bool_]) -> float:
    """Of so many ``now`` or more, at the rate of ``usual``; one more of these than were seen, which may be none."""
    count = int(now.sum())
    rate = (int(usual.sum()) + 1) / (usual.size + 1)
    return float(bdtrc(count - 1, now.size, min(rate, 1.0))) if count else 1.0


def _fitted(piece: Array, shape: Array, around: Noise) -> tuple[Array, Array]:
    """A level and how much of ``shape`` is in ``piece``, and what is left of it, white."""
    white = whitened(piece, around.correlation)
    terms = np.stack([whitened(term, around.correlation) for term in (np.ones(piece.size), shape)], axis=-1)
    sizes = np.asarray(np.linalg.lstsq(terms, white, rcond=None)[0], np.float64)
    return sizes, white - terms @ sizes


def _straight(piece: Array, place: int, around: Noise) -> bool:
    """Whether a line says as much of ``piece`` as a step does: a drift is no change point."""
    line = np.arange(piece.size, dtype=float)
    left = [_fitted(piece, shape, around)[1] for shape in (line, (line >= place).astype(float))]
    return bool(left[0] @ left[0] <= left[1] @ left[1])


def _likely(piece: Array, raw: Array, place: int, around: Noise) -> tuple[int, int]:
    """The first and the last place at which a step is not much less likely: by twice the log likelihood, chi-squared.

    By Student's t of `TAILS` degrees of freedom, since with normal tails a single far night beside the step is all
    that counts; and of the nights as they were read, as what one is held to is no witness of the side that it is on.
    """
    (level, size), _ = _fitted(piece, (np.arange(piece.size) >= place).astype(float), around)
    white = whitened(raw, around.correlation) - level * whitened(np.ones(raw.size), around.correlation)
    before, first, after = (
        -(TAILS + 1) / 2 * np.log1p(np.square((white - size * share) / around.innovation) / TAILS)
        for share in (0.0, 1.0, 1.0 - around.correlation)
    )
    likelihood = np.cumsum(before)[:-1] + first[1:] + after.sum() - np.cumsum(after)[1:]
    likely = 2 * (likelihood[place - 1] - likelihood) <= float(chdtri(1, 1 - CONFIDENCE))
    return int(np.argmax(likely)) + 1, piece.size - 1 - int(np.argmax(likely[::-1]))
