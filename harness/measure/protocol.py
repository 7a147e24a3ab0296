"""A session of many cells in two stages: all are screened, and what looks changed is measured again.

Screening asks of every metric of every cell whether it may have changed, and lets three in a hundred of those
that have not be suspected. Confirmation knows nothing of the data that raised the suspicion: it
measures fresh blocks, in a few looks, until a suspect is confirmed, cleared, or the looks are used up.
Errors of the gate are counted over all suspects (Holm) and all looks, each of which has a share of
alpha; so alpha bounds how often a session raises any false alarm at all.

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
from harness.measure.modes import ALONE, APART, HINTED, RARE, cuts
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
    floor of 1.25 times that. The last look is for what a few processes far off still hide in 32 blocks.
    ValueError where that makes no plan.
    """

    screening: int = 4
    suspect: float = 0.025
    hopeful: float = 0.002
    looks: tuple[int, ...] = (4, 8, 16, 32, 64)
    shares: tuple[float, ...] = (0.05, 0.15, 0.3, 0.3, 0.2)
    alpha: float = 0.0025
    rate: float = 0.05
    futile: float = 0.7

    def __post_init__(self) -> None:
        looks = (0, 1, *self.looks)
        if self.screening < 2 or list(looks) != sorted(set(looks)):
            raise ValueError(f"screening {self.screening}, looks {self.looks}: two blocks or more, looks ascending")
        if len(self.shares) != len(self.looks) or min(self.shares) < 0 or sum(self.shares) > 1 + 1e-9:
            raise ValueError(f"shares {self.shares} of looks {self.looks}: one each, together at most 1")


@dataclass(frozen=True)
class Session:
    """What was measured and concluded.

    ``screened`` is (cells, metrics, blocks, 2, 2), ``confirmed`` the verdicts on what was measured
    again, by number of cell and metric, ``pairs`` the cost of every cell in pairs of processes.
    """

    cells: tuple[str, ...]
    metrics: tuple[Metric, ...]
    moves: tuple[Move, ...]
    screened: Array = field(repr=False)
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

    def verdicts(self) -> Iterator[tuple[str, Metric, Verdict]]:
        """Of every metric of every cell: HOST_CHANGED for all where a canary moved.

        What screening left in peace is PASS or INCONCLUSIVE by its own interval, and nothing else.
        """
        moved = self.host_changed
        for cell, name in enumerate(self.cells):
            for number, metric in enumerate(self.metrics):
                verdict = self.confirmed.get((cell, number))
                if verdict is None:
                    cost = metric.cost(self.screened[cell, number])
                    change = over_blocks(block_ratios(cost), metric.tick)
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
    confirmation = _Confirmation(cells, metrics, measure, stages, suspects(screened, metrics, stages))
    confirmation.run()
    blocks = [stages.screening + confirmation.blocks(cell) for cell in range(len(cells))]
    return Session(
        tuple(cells),
        tuple(metrics),
        moves(before, canaries()) if canaries and before is not None else (),
        screened,
        confirmation.verdicts,
        tuple(PAIRS * number for number in blocks),
    )


@dataclass(frozen=True)
class Suspects:
    """Metrics of cells, both by number, and of what they are suspected; of neither, it is of having several modes."""

    cell: npt.NDArray[np.intp]
    metric: npt.NDArray[np.intp]
    worse: npt.NDArray[np.bool_]
    better: npt.NDArray[np.bool_]

    def __getitem__(self, which: npt.NDArray[np.intp]) -> Suspects:
        return Suspects(self.cell[which], self.metric[which], self.worse[which], self.better[which])

    @property
    def places(self) -> list[tuple[int, int]]:
        """Cell and metric of each."""
        return list(zip(self.cell.tolist(), self.metric.tolist(), strict=True))


def suspects(screened: Array, metrics: Sequence[Metric], stages: Stages) -> Suspects:
    """What of ``screened`` (cells, metrics, blocks, 2, 2) is worth another look."""
    cost = np.stack([metric.cost(screened[:, number]) for number, metric in enumerate(metrics)], axis=1)
    tick, gap = _ticks(metrics), _gaps(metrics)
    change, steady = over_processes(cost, tick), over_trimmed(cost, tick)
    worse = np.minimum(change.p_worse, steady.p_worse) < stages.suspect
    better = (np.minimum(change.p_better, steady.p_better) < stages.hopeful) & ~worse
    every = cuts(cost, tick)
    modes = every.groups().clear(gap, HINTED) | every.groups(least=1).clear(gap, ALONE)
    cell, metric = np.nonzero(worse | better | modes)
    return Suspects(cell, metric, worse[cell, metric], better[cell, metric])


@dataclass
class _Confirmation:
    """The second stage: what was measured afresh, by cell, and the verdicts on it, by cell and metric.

    ``p`` is what every suspect last said in its family: 0 once it is confirmed, 1 once it is cleared.
    """

    cells: Sequence[str]
    metrics: Sequence[Metric]
    measure: Measure
    stages: Stages
    found: Suspects
    fresh: dict[int, Array] = field(default_factory=dict)
    verdicts: dict[tuple[int, int], Verdict] = field(default_factory=dict)
    p: Array = field(init=False)

    def run(self) -> None:
        """Looks until every suspect is confirmed or cleared, or there are no more looks."""
        self.p = np.ones(self.found.cell.size)
        left = np.arange(self.p.size)
        for look, share in zip(self.stages.looks, self.stages.shares, strict=True):
            left = self._look(left, look, share) if left.size else left

    def blocks(self, cell: int) -> int:
        """How many were measured afresh."""
        return self.fresh[cell].shape[1] if cell in self.fresh else 0

    def _look(self, left: npt.NDArray[np.intp], look: int, share: float) -> npt.NDArray[np.intp]:
        """Measures the suspects ``left`` up to ``look`` fresh blocks, judges them, and gives those that need more."""
        suspects = self.found[left]
        for cell in dict.fromkeys(suspects.cell.tolist()):
            self._measure(cell, look)
        metrics = [self.metrics[number] for number in suspects.metric]
        tick, gap = _ticks(metrics), _gaps(metrics)
        cost = np.stack([m.cost(self.fresh[at[0]][at[1]]) for m, at in zip(metrics, suspects.places, strict=True)])
        change, steady = over_blocks(block_ratios(cost), tick), over_trimmed(cost, tick)
        toward = np.where(suspects.worse, change.mean, -change.mean)
        shown = np.where(suspects.worse, change.p_worse, change.p_better)
        self.p[left] = np.where(toward >= floor(change.spread, tick), shown, 1.0)
        gate = suspects.worse * holm_level(self.p[self.found.worse], share * self.stages.alpha)
        rate = min(share * self.stages.rate, LEVEL)
        listed = suspects.better * benjamini_hochberg_level(self.p[self.found.better], rate)

        every = cuts(cost, tick)
        modes, single = every.groups(), every.groups(least=1)
        several = modes.clear(gap)
        steadily = np.where(suspects.worse, steady.mean, -steady.mean)
        hopeless = (toward < self.stages.futile * change.spread) & (steadily < self.stages.futile * steady.spread)
        need = (suspects.worse | suspects.better) & ~hopeless
        need |= modes.clear(gap, APART) | (single.clear(gap, ALONE) & (single.size < RARE))
        self.p[left] = 1.0
        for row, (place, metric) in enumerate(zip(suspects.places, metrics, strict=True)):
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

    def _measure(self, cell: int, look: int) -> None:
        more = _measured(self.measure, self.cells[cell], len(self.metrics), look - self.blocks(cell))
        self.fresh[cell] = np.concatenate([self.fresh[cell], more], axis=1) if cell in self.fresh else more


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
