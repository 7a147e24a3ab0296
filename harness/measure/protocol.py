"""A session of many cells in two stages: all are screened, and what looks changed is measured again.

Screening asks of every metric of every cell whether it may have changed, and lets four in a hundred of those
that have not be suspected. Confirmation knows nothing of the data that raised the suspicion: it
measures fresh blocks, in a few looks, until a suspect is confirmed, cleared, or the looks are used up.
Errors of the gate are counted over all suspects (Holm) and all looks, each of which has a share of
alpha; so alpha bounds how often a session raises any false alarm at all.

Two modes are another matter: UNSTABLE fails no gate, and what a change is suspected for says nothing of them. So
they are looked for in all that was measured of a cell, and cost few blocks beyond the screening.

One process of a cell gives all its metrics, so cost is counted in pairs of processes a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from harness.measure.canary import Medians, Move, moves
from harness.measure.metric import Metric
from harness.measure.modes import HINTED, SURE, Groups, cuts, groups
from harness.measure.multiplicity import benjamini_hochberg_level, holm_level
from harness.measure.stats import LEVEL, block_ratios, over_blocks, over_processes, over_trimmed
from harness.measure.verdict import Outcome, Verdict, floor, unstable, weigh

Array = npt.NDArray[np.float64]
PAIRS = 2  # of a block


class Measure(Protocol):
    """Measures a cell."""

    def __call__(self, cell: str, blocks: int, /) -> npt.ArrayLike:
        """Medians of ``blocks`` more blocks, (metrics, blocks, 2, 2), of processes that no call gave before."""


@dataclass(frozen=True)
class Stages:
    """How much is measured, and how surely.

    ``screening`` blocks of every cell; suspects are what is worse at the one-sided level ``suspect``, or
    better at ``hopeful``, by the mean of all processes or by one without those far off. ``looks`` count
    fresh blocks, each look with its share of the errors: ``alpha`` is the chance that a session has any
    false regression, ``rate`` the share of false ones among its improvements, of which no look
    spends more than `LEVEL`: what is shown above that has 0 in the interval that stands beside it. A look
    clears a suspect whose change is by both means below ``futile`` times the spread of its blocks, well below the
    floor of 1.25 times that. The last look is for what a few processes far off still hide in 32 blocks. What hints
    at two modes and at no change gets ``step`` more blocks, once.
    ValueError where that makes no plan.
    """

    screening: int = 4
    suspect: float = 0.03
    hopeful: float = 0.002
    looks: tuple[int, ...] = (4, 8, 16, 32, 64)
    shares: tuple[float, ...] = (0.05, 0.15, 0.3, 0.3, 0.2)
    alpha: float = 0.0025
    rate: float = 0.05
    futile: float = 0.7
    step: int = 2

    def __post_init__(self) -> None:
        looks = (0, 1, *self.looks)
        if self.screening < 2 or list(looks) != sorted(set(looks)):
            raise ValueError(f"screening {self.screening}, looks {self.looks}: two blocks or more, looks ascending")
        if self.looks and not 2 <= self.step <= self.looks[0]:
            raise ValueError(f"step {self.step}, looks {self.looks}: two blocks at least, the first look's at most")
        if len(self.shares) != len(self.looks) or min(self.shares) < 0 or sum(self.shares) > 1 + 1e-9:
            raise ValueError(f"shares {self.shares} of looks {self.looks}: one each, together at most 1")


@dataclass(frozen=True)
class Session:
    """What was measured and concluded.

    ``screened`` is (cells, metrics, blocks, 2, 2), ``confirmed`` the verdicts on what was measured
    again, by number of cell and metric, ``pairs`` the cost of every cell in pairs of processes; ``several``
    is (cells, metrics), which of them have two modes by the screening alone.
    """

    cells: tuple[str, ...]
    metrics: tuple[Metric, ...]
    moves: tuple[Move, ...]
    screened: Array = field(repr=False)
    several: npt.NDArray[np.bool_] = field(repr=False)
    confirmed: Mapping[tuple[int, int], Verdict]
    pairs: tuple[int, ...]

    @property
    def host_changed(self) -> str:
        """The canaries that moved, in words; empty where none did."""
        return ", ".join(str(move) for move in self.moves if move.moved)

    @property
    def regressions(self) -> tuple[tuple[str, Metric, Verdict], ...]:
        """What fails the gate; nothing does where the host changed."""
        return tuple(
            (self.cells[cell], self.metrics[metric], verdict)
            for (cell, metric), verdict in self.confirmed.items()
            if verdict.outcome is Outcome.REGRESSION and not self.host_changed
        )

    @property
    def unstable(self) -> npt.NDArray[np.bool_]:
        """Which metrics of which cells have two modes, (cells, metrics), whether the host changed or not."""
        found = self.several.copy()
        for place, verdict in self.confirmed.items():
            found[place] = verdict.outcome is Outcome.UNSTABLE
        return found

    def verdicts(self) -> Iterator[tuple[str, Metric, Verdict]]:
        """Of every metric of every cell: HOST_CHANGED for all where a canary moved.

        What screening left in peace is UNSTABLE, or PASS or INCONCLUSIVE by its own interval, and nothing else.
        """
        moved = self.host_changed
        for cell, name in enumerate(self.cells):
            for number, metric in enumerate(self.metrics):
                verdict = self.confirmed.get((cell, number))
                if verdict is None:
                    cost = metric.cost(self.screened[cell, number])
                    change = over_blocks(block_ratios(cost), metric.tick)
                    if self.several[cell, number]:
                        verdict = unstable(change, metric, groups(cost, tick=metric.tick))
                    else:
                        verdict = weigh(cost, change, metric, worse=0, better=0)
                yield name, metric, verdict.overruled(Outcome.HOST_CHANGED, moved) if moved else verdict


def run(
    cells: Sequence[str],
    metrics: Sequence[Metric],
    measure: Measure,
    canaries: Callable[[], Medians] | None,
    stages: Stages | None = None,
) -> Session:
    """Screens all cells and confirms the suspects, between two measurements of the canaries.

    ``canaries`` gives medians of processes by name; with None nothing watches the machine, and a step of it is
    left to the interleaving. ValueError where ``measure`` gives another shape than
    was asked for, and as in `moves` and `log_medians`.
    """
    stages = stages or Stages()
    before = canaries() if canaries else None
    screened = np.stack([_measured(measure, cell, len(metrics), stages.screening) for cell in cells])
    found = suspects(screened, metrics, stages)
    confirmation = _Confirmation(cells, metrics, measure, stages, screened, found)
    confirmation.run()
    blocks = [stages.screening + confirmation.blocks(cell) for cell in range(len(cells))]
    return Session(
        tuple(cells),
        tuple(metrics),
        moves(before, canaries()) if canaries and before is not None else (),
        screened,
        found.several,
        confirmation.verdicts,
        tuple(PAIRS * number for number in blocks),
    )


@dataclass(frozen=True)
class Suspects:
    """Metrics of cells, both by number, and of what they are suspected; of neither, it is of having several modes.

    ``several`` (cells, metrics) have them without another look. ``akin``: another metric of the cell has them.
    """

    cell: npt.NDArray[np.intp]
    metric: npt.NDArray[np.intp]
    worse: npt.NDArray[np.bool_]
    better: npt.NDArray[np.bool_]
    akin: npt.NDArray[np.bool_]
    several: npt.NDArray[np.bool_]

    @property
    def places(self) -> list[tuple[int, int]]:
        """Cell and metric of each."""
        return list(zip(self.cell.tolist(), self.metric.tolist(), strict=True))


def suspects(screened: Array, metrics: Sequence[Metric], stages: Stages) -> Suspects:
    """What of ``screened`` (cells, metrics, blocks, 2, 2) is worth another look: not what has two modes for sure.

    What makes modes is mostly the same for all metrics of a cell, so where one has them or hints at them, the others
    are looked at as well.
    """
    cost, tick = _cost(screened, metrics), _ticks(metrics)
    change, steady = over_processes(cost, tick), over_trimmed(cost, tick)
    worse = np.minimum(change.p_worse, steady.p_worse) < stages.suspect
    better = (np.minimum(change.p_better, steady.p_better) < stages.hopeful) & ~worse
    every = cuts(cost, tick=tick)
    several, hinted = _several(every.groups(), metrics), every.groups(least=1).clear(_gaps(metrics), HINTED)
    modes = (several | hinted).any(axis=-1, keepdims=True)
    cell, metric = np.nonzero((worse | better | modes) & ~several)
    akin = np.asarray(several[cell].any(axis=-1))
    return Suspects(cell, metric, worse[cell, metric], better[cell, metric], akin, several)


def _several(found: Groups, metrics: Sequence[Metric]) -> npt.NDArray[np.bool_]:
    """Which metrics of cells have two modes: all that hint at them in a cell of which one has them for sure."""
    sure, hinted = (found.clear(_gaps(metrics), needed) for needed in (SURE, HINTED))
    return np.asarray(sure | (hinted & sure.any(axis=-1, keepdims=True)))


@dataclass
class _Confirmation:
    """The second stage: what was measured afresh, by cell, and the verdicts on it, by cell and metric.

    ``p`` is what every suspect last said in its family: 0 once it is confirmed, 1 once it is cleared.
    """

    cells: Sequence[str]
    metrics: Sequence[Metric]
    measure: Measure
    stages: Stages
    screened: Array
    found: Suspects
    fresh: dict[int, Array] = field(default_factory=dict)
    verdicts: dict[tuple[int, int], Verdict] = field(default_factory=dict)
    p: Array = field(init=False)

    def run(self) -> None:
        """Looks until every suspect is confirmed or cleared, or there are no more looks."""
        self.p = np.ones(self.found.cell.size)
        changed = self.found.worse | self.found.better
        self._step(np.flatnonzero(~changed))
        left = np.flatnonzero(changed)
        for look, share in zip(self.stages.looks, self.stages.shares, strict=True):
            left = self._look(left, look, share) if left.size else left

    def blocks(self, cell: int) -> int:
        """How many were measured afresh."""
        return self.fresh[cell].shape[1] if cell in self.fresh else 0

    def _step(self, left: npt.NDArray[np.intp]) -> None:
        """Measures what is suspected of two modes a little more, and judges it by all that was measured of it."""
        places = self._measured(left, self.stages.step)
        if not places:
            return
        metrics = [self.metrics[number] for _, number in places]
        before, fresh = self._costs(places)
        change = over_blocks(block_ratios(np.concatenate([before, fresh], axis=1)), _ticks(metrics))
        modes = groups(before, fresh, tick=_ticks(metrics))
        several = self._several(left, modes, _gaps(metrics))
        for row, (place, metric) in enumerate(zip(places, metrics, strict=True)):
            if several[row]:
                self.verdicts[place] = unstable(change[row], metric, modes[row])
            else:
                both = np.concatenate([before[row], fresh[row]])
                self.verdicts[place] = weigh(both, change[row], metric, worse=0, better=0)

    def _look(self, left: npt.NDArray[np.intp], look: int, share: float) -> npt.NDArray[np.intp]:
        """Measures the suspects ``left`` up to ``look`` fresh blocks, judges them, and gives those that need more."""
        worse, better, places = self.found.worse[left], self.found.better[left], self._measured(left, look)
        metrics = [self.metrics[number] for _, number in places]
        tick, gap = _ticks(metrics), _gaps(metrics)
        before, cost = self._costs(places)
        change, steady = over_blocks(block_ratios(cost), tick), over_trimmed(cost, tick)
        toward = np.where(worse, change.mean, -change.mean)
        shown = np.where(worse, change.p_worse, change.p_better)
        self.p[left] = np.where(toward >= floor(change.spread, tick), shown, 1.0)
        gate = worse * holm_level(self.p[self.found.worse], share * self.stages.alpha)
        rate = min(share * self.stages.rate, LEVEL)
        listed = better * benjamini_hochberg_level(self.p[self.found.better], rate)

        modes = groups(before, cost, tick=tick)
        several = self._several(left, modes, gap)
        steadily = np.where(worse, steady.mean, -steady.mean)
        need = (toward >= self.stages.futile * change.spread) | (steadily >= self.stages.futile * steady.spread)
        self.p[left] = 1.0
        for row, (place, metric) in enumerate(zip(places, metrics, strict=True)):
            if several[row]:
                verdict = unstable(change[row], metric, modes[row])
            else:
                verdict = weigh(cost[row], change[row], metric, worse=gate[row], better=listed[row])
            self.verdicts[place] = verdict
            if verdict.outcome in (Outcome.REGRESSION, Outcome.IMPROVEMENT):
                self.p[left[row]] = 0.0
            if verdict.outcome not in (Outcome.PASS, Outcome.INCONCLUSIVE):
                need[row] = False
        return left[need]

    def _several(self, left: npt.NDArray[np.intp], modes: Groups, gap: Array) -> npt.NDArray[np.bool_]:
        """Which of the suspects ``left`` have two modes, as `_several`; and keeps of which cells one has."""
        sure = modes.clear(gap)
        self.found.akin[np.isin(self.found.cell, self.found.cell[left[sure]])] = True
        return np.asarray(sure | (modes.clear(gap, HINTED) & self.found.akin[left]))

    def _measured(self, left: npt.NDArray[np.intp], blocks: int) -> list[tuple[int, int]]:
        """Measures the cells of suspects ``left`` up to so many fresh ``blocks``, and gives the places of these."""
        for cell in dict.fromkeys(self.found.cell[left].tolist()):
            if wanted := blocks - self.blocks(cell):
                more = _measured(self.measure, self.cells[cell], len(self.metrics), wanted)
                self.fresh[cell] = np.concatenate([self.fresh[cell], more], axis=1) if cell in self.fresh else more
        places = self.found.places
        return [places[number] for number in left.tolist()]

    def _costs(self, places: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
        """What was screened, and what was measured afresh, of every place: (places, blocks, 2, 2)."""
        screened = [self.metrics[metric].cost(self.screened[cell, metric]) for cell, metric in places]
        fresh = [self.metrics[metric].cost(self.fresh[cell][metric]) for cell, metric in places]
        return np.stack(screened), np.stack(fresh)


def _cost(medians: Array, metrics: Sequence[Metric]) -> Array:
    """``medians`` (cells, metrics, blocks, 2, 2) as something of which less is better."""
    return np.stack([metric.cost(medians[:, number]) for number, metric in enumerate(metrics)], axis=1)


def _ticks(metrics: Sequence[Metric]) -> Array:
    return np.array([metric.tick for metric in metrics])


def _gaps(metrics: Sequence[Metric]) -> Array:
    return np.array([metric.harmless_gap for metric in metrics])


def _measured(measure: Measure, cell: str, metrics: int, blocks: int) -> Array:
    """ValueError for another shape than was asked for."""
    medians = np.asarray(measure(cell, blocks), np.float64)
    if medians.shape != (metrics, blocks, 2, 2):
        raise ValueError(f"medians of {cell} have shape {medians.shape}, expected {(metrics, blocks, 2, 2)}")
    return medians
