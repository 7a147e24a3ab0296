"""The history of a cell: its epochs, where its level changed, and whose change it is.

What begins with another environment is the environment's, what a canary of the same sessions shows, too, is the
host's, and the rest is unexplained: a proposal to compare the commits around it afresh.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harness.measure.change_points import LEAST_NIGHTS, LEVEL, Found, find
from harness.measure.epochs import DATE, Epoch, Moved, Night, epochs
from harness.measure.metric import Metric
from harness.measure.steps import Belief, Step, held, noise, step
from harness.measure.verdict import LEAST, told

Array = npt.NDArray[np.float64]

ALONE = 0.01  # p of a step at a place that is known beforehand: where an epoch begins, and of a canary


class Cause(str, enum.Enum):
    """Whose change it is; only what is UNEXPLAINED raises an alert."""

    ENVIRONMENT = "environment"
    HOST = "host"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class ChangePoint:
    """The level of a series changed before its night ``index``.

    ``estimate``, ``low`` and ``high`` (of 95 %) are logs of ratios of cost, above 0 it got worse; ``before`` and
    ``after`` the levels, in the unit of the nights; ``p`` is adjusted for all places that were searched, not
    at all for an epoch's beginning, which was known, and ``alone`` is that of this place, as if it had been: it tells
    which is surer of changes that were found among more places and fewer. ``good`` is the last night that is before it
    and ``bad`` the first after it for sure (95 %); ``nights`` have been seen on the new level.
    """

    index: int
    cause: Cause
    estimate: float
    low: float
    high: float
    p: float
    before: float
    after: float
    good: Night
    bad: Night
    nights: int
    moved: tuple[Moved, ...] = ()  # with an environment
    canary: float | None = None  # the log ratio by which it moved in the same night, where it did
    alone: float = 1.0

    @property
    def commits(self) -> str:
        """``abc..def``, as git has it: from the last good one, which is not in it, to the first bad one."""
        return f"{self.good.commit}..{self.bad.commit}" if self.good.commit and self.bad.commit else ""

    def size(self, metric: Metric) -> str:
        """As in "slower by 2.1 % (1.8 to 2.4)"."""
        return told(metric, self.estimate, self.low, self.high)

    def proposal(self, metric: Metric) -> str:
        """As in "slower by 2.1 % (1.8 to 2.4) since night 2026-03-04 (commits abc..def), 3 nights after"."""
        size = self.size(metric)
        since = f"since night {self.bad.at:{DATE}}"
        seen = "1 night after" if self.nights == 1 else f"{self.nights} nights after"
        if self.cause is Cause.ENVIRONMENT:
            return f"{size} {since}, {seen}: with {', '.join(map(str, self.moved))}"
        if self.cause is Cause.HOST:
            moved = 100 * float(np.expm1(self.canary or 0.0))
            return f"{size} {since}, {seen}: the host's, whose canary moved by {moved:+.1f} %"
        where = f" (commits {self.commits})" if self.commits else ""
        return f"{size} {since}{where}, {seen}"


@dataclass(frozen=True)
class History:
    """``nights`` in order of time, in ``epochs``, with ``changes`` in order of time."""

    metric: Metric
    nights: tuple[Night, ...]
    epochs: tuple[Epoch, ...]
    changes: tuple[ChangePoint, ...]

    @property
    def proposals(self) -> tuple[ChangePoint, ...]:
        """What a fresh comparison has to decide."""
        return tuple(change for change in self.changes if change.cause is Cause.UNEXPLAINED)

    @property
    def segments(self) -> tuple[tuple[int, int, float], ...]:
        """First night, the one after the last, and the level between, of every stretch without a change."""
        values, edges = self.held, self.edges
        levels = [float(np.exp(values[low:high].mean())) for low, high in pairwise(edges)]
        return tuple((low, high, level) for (low, high), level in zip(pairwise(edges), levels, strict=True))

    @property
    def edges(self) -> tuple[int, ...]:
        """The first nights of stretches without a change, and how many nights there are."""
        starts = {*(epoch.start for epoch in self.epochs), *(change.index for change in self.changes)}
        return tuple(sorted({0, len(self.nights), *starts}))

    @property
    def held(self) -> Array:
        """The logs of the nights (n,), flaky ones `steps.held` by their stretch."""
        logs = np.log([night.value for night in self.nights])
        return np.concatenate([logs[:0], *(held(logs[low:high]) for low, high in pairwise(self.edges))])


def history(
    nights: Sequence[Night],
    metric: Metric,
    *,
    series: int = 1,
    level: float = LEVEL,
    belief: Belief | None = None,
    asked: Sequence[datetime] = (),
) -> History:
    """What ``nights`` of one cell come to; ``series``, ``level`` and ``belief`` as in `change_points.find`.

    ``asked`` are nights at which cells beside this one have changed (`alerts.began`), by when the first of a new level
    was measured.
    ValueError unless they are in order of time.
    """
    stretches = epochs(nights)
    logs = np.log(metric.cost([night.value for night in nights])) if nights else np.zeros(0)
    errors = np.array([night.error for night in nights])
    cell = _Series(nights, metric, logs, errors, belief)
    cuts = [epoch.start for epoch in stretches[1:]]
    times = [night.at for night in nights]
    places = [bisect_left(times, at) for at in asked]
    every = find(logs, errors, cuts=cuts, series=series, tick=metric.tick, level=level, belief=belief, asked=places)
    changes: list[ChangePoint] = []
    last = 0  # where the segment before an epoch begins
    for epoch in stretches:
        found = [one for one in every if epoch.start < one.place < epoch.stop]
        places = [one.place for one in found]
        shift = cell.environment(last, epoch, places[0] if places else epoch.stop) if epoch.start else None
        changes += [shift] if shift else []
        changes += [cell.inside(epoch, one, places) for one in found]
        last = places[-1] if places else epoch.start
    return History(metric, tuple(nights), stretches, tuple(changes))


@dataclass(frozen=True)
class _Series:
    """The nights of one cell, as logs of cost, and what is made of a step in them."""

    nights: Sequence[Night]
    metric: Metric
    logs: Array
    errors: Array
    belief: Belief | None = None

    def inside(self, epoch: Epoch, found: Found, places: Sequence[int]) -> ChangePoint:
        """A step inside an epoch: the host's as far as a canary moved with it."""
        edges = [epoch.start, *places, epoch.stop]
        place = found.place
        number = edges.index(place)
        low, high = edges[number - 1], edges[number + 1]
        ends = found.first - 1, found.last
        change = self._change(place, found.step, found.p, ends, found.nights, (found.before, found.after))
        change = replace(change, alone=found.alone)
        canary, rest = self._canary(low, place, high)
        if canary is None or rest is None or canary.p >= ALONE or canary.estimate * found.step.estimate <= 0:
            return change
        left = rest.estimate * np.sign(found.step.estimate)
        if left < max(abs(found.step.estimate) / 2, LEAST) or rest.p >= ALONE:
            return replace(change, cause=Cause.HOST, canary=canary.estimate)
        interval = rest.interval()
        return replace(change, estimate=rest.estimate, low=interval[0], high=interval[1], canary=canary.estimate)

    def _canary(self, low: int, place: int, high: int) -> tuple[Step | None, Step | None]:
        """The canary's own step, and what is left of the series' without it, where enough nights have one."""
        seen = [night for night in range(low, high) if self.nights[night].canary is not None]
        before = sum(night < place for night in seen)
        if min(before, len(seen) - before) < LEAST_NIGHTS:
            return None, None
        canary = np.log(np.array([self.nights[night].canary for night in seen], np.float64))
        edges = [0, before, len(seen)]
        own, rest = (step(logs, before, noise(logs, edges)) for logs in (held(canary), held(self.logs[seen] - canary)))
        return own, rest

    def environment(self, low: int, epoch: Epoch, high: int) -> ChangePoint | None:
        """The step with which an epoch begins, between the segments around it; None where there is none to be shown."""
        place = epoch.start
        if min(place - low, high - place) < LEAST_NIGHTS:
            return None
        logs = np.concatenate([held(self.logs[low:place]), held(self.logs[place:high])])
        this = step(logs, place - low, noise(logs, [0, place - low, high - low], self.errors[low:high], self.belief))
        if this.p >= ALONE or abs(this.estimate) < max(LEAST, self.metric.tick):
            return None
        levels = float(logs[: place - low].mean()), float(logs[place - low :].mean())
        change = self._change(place, this, this.p, (place - 1, place), high - place, levels)
        return replace(change, cause=Cause.ENVIRONMENT, moved=epoch.moved)

    def _change(
        self, place: int, this: Step, p: float, ends: tuple[int, int], nights: int, levels: tuple[float, float]
    ) -> ChangePoint:
        low, high = this.interval()
        before, after = (float(level) for level in self.metric.cost(np.exp(levels)))  # which is its own inverse
        good, bad = (self.nights[end] for end in ends)
        return ChangePoint(
            place, Cause.UNEXPLAINED, this.estimate, low, high, p, before, after, good, bad, nights=nights
        )
