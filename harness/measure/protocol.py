"""A session of many cells in two stages: all are screened, and what looks changed is measured again.

Screening asks of every metric of every cell whether it may have changed, and lets four in a hundred of those
that have not be suspected. Confirmation knows nothing of the data that raised the suspicion: it
measures fresh blocks, in a few looks, until a suspect is confirmed, cleared, or the looks are used up.
Errors of the gate are counted over all suspects (Holm) and all looks, each of which has a share of
alpha; so alpha bounds how often a session raises any false alarm at all.

Two modes are another matter: UNSTABLE fails no gate, and what a change is suspected for says nothing of them. So
they are looked for in all that was measured of a cell. The screening shows most of them; what only hints at some is
measured step by step, until it shows them or no longer hints at any.

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
from harness.measure.modes import Groups, cuts, groups
from harness.measure.multiplicity import benjamini_hochberg_level, holm_level
from harness.measure.stats import LEVEL, block_ratios, over_blocks, over_processes, over_trimmed
from harness.measure.verdict import Outcome, Verdict, floor, unstable, weigh

Array = npt.NDArray[np.float64]
PAIRS = 2  # of a block
HINTS = 60.0, 22.0  # over the number of processes, a cell and each metric: hints that 5 % of cells of one mode give
HOPELESS = -4.0  # evidence of modes below which a metric is left in peace, though another one of the cell has some


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
    floor of 1.25 times that. The last look is for what a few processes far off still hide in 32 blocks. Before the
    looks, cells that hint at two modes get ``step`` more blocks, up to ``steps`` times.
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
    steps: int = 7

    def __post_init__(self) -> None:
        looks = (0, 1, *self.looks)
        if self.screening < 2 or list(looks) != sorted(set(looks)):
            raise ValueError(f"screening {self.screening}, looks {self.looks}: two blocks or more, looks ascending")
        if self.step < 2 or self.steps < 0:
            raise ValueError(f"step {self.step}, steps {self.steps}: two blocks at least, 0 times or more")
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
        moved, modes = self.host_changed, self._modes()
        for cell, name in enumerate(self.cells):
            for number, metric in enumerate(self.metrics):
                verdict = self.confirmed.get((cell, number))
                if verdict is None:
                    cost = metric.cost(self.screened[cell, number])
                    change = over_blocks(block_ratios(cost), metric.tick)
                    if (cell, number) in modes:
                        verdict = unstable(change, metric, modes[cell, number])
                    else:
                        verdict = weigh(cost, change, metric, worse=0, better=0)
                yield name, metric, verdict.overruled(Outcome.HOST_CHANGED, moved) if moved else verdict

    def _modes(self) -> dict[tuple[int, int], Groups]:
        """Those that the screening shows, of which one may be a single process beside modes of another metric."""
        places: list[tuple[int, int]] = [(cell, number) for cell, number in np.argwhere(self.several).tolist()]
        if not places:
            return {}
        metrics = [self.metrics[number] for _, number in places]
        cost = np.stack([metric.cost(self.screened[place]) for place, metric in zip(places, metrics, strict=True)])
        every = cuts(cost, tick=_ticks(metrics))
        found, single = every.groups(), every.groups(least=1)
        akin = found.akin(_gaps(metrics))
        return {place: found[row] if akin[row] else single[row] for row, place in enumerate(places)}


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
    """Metrics of cells, both by number, and of what they are suspected.

    ``several`` (cells, metrics) have two modes without another look. ``hinted``: the cell hints at modes, or has some.
    ``akin``: another metric of the cell has them.
    """

    cell: npt.NDArray[np.intp]
    metric: npt.NDArray[np.intp]
    worse: npt.NDArray[np.bool_]
    better: npt.NDArray[np.bool_]
    hinted: npt.NDArray[np.bool_]
    akin: npt.NDArray[np.bool_]
    several: npt.NDArray[np.bool_]

    @property
    def places(self) -> list[tuple[int, int]]:
        """Cell and metric of each."""
        return list(zip(self.cell.tolist(), self.metric.tolist(), strict=True))


def suspects(screened: Array, metrics: Sequence[Metric], stages: Stages) -> Suspects:
    """What of ``screened`` (cells, metrics, blocks, 2, 2) is worth another look: not what has two modes for sure.

    What makes modes is mostly the same for all metrics of a cell, so where one has them, less is enough of the others,
    a single process too, and all are looked at again where one hints at them, or all together do.
    """
    cost, tick, gaps = _cost(screened, metrics), _ticks(metrics), _gaps(metrics)
    change, steady = over_processes(cost, tick), over_trimmed(cost, tick)
    worse = np.minimum(change.p_worse, steady.p_worse) < stages.suspect
    better = (np.minimum(change.p_better, steady.p_better) < stages.hopeful) & ~worse
    every = cuts(cost, tick=tick)
    found, odd = every.groups(), every.groups(least=1).hinted(gaps)
    sure = found.clear(gaps)
    known = np.asarray(sure.any(axis=-1, keepdims=True))
    several = np.asarray(sure | known & (found.akin(gaps) | odd))
    together = np.where(found.apart >= gaps, np.maximum(found.hint, 0), 0).sum(axis=-1) > _enough(found, len(metrics))
    hinted = np.asarray(known | odd.any(axis=-1, keepdims=True) | together[:, None])
    cell, metric = np.nonzero((worse | better | hinted) & ~several)
    return Suspects(cell, metric, worse[cell, metric], better[cell, metric], hinted[cell, 0], known[cell, 0], several)


def _enough(found: Groups, metrics: int) -> float:
    """What the positive hints, or evidence, of all metrics of a cell come to where it is worth another look."""
    cell, each = HINTS
    return (cell + each * metrics) / (2 * found.size)


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
        """Steps, then looks until every suspect is confirmed or cleared, or there are no more looks."""
        self.p = np.ones(self.found.cell.size)
        left = np.flatnonzero(self.found.hinted)
        for number in range(self.stages.steps):
            left = self._step(left, (number + 1) * self.stages.step) if left.size else left
        left = np.flatnonzero((self.found.worse | self.found.better) & ~self.unstable)
        for look, share in zip(self.stages.looks, self.stages.shares, strict=True):
            left = self._look(left, look, share) if left.size else left

    @property
    def unstable(self) -> npt.NDArray[np.bool_]:
        """Which suspects have been shown to have modes."""
        shown = {place for place, verdict in self.verdicts.items() if verdict.outcome is Outcome.UNSTABLE}
        return np.array([place in shown for place in self.found.places], bool)

    def blocks(self, cell: int) -> int:
        """How many were measured afresh."""
        return self.fresh[cell].shape[1] if cell in self.fresh else 0

    def _step(self, left: npt.NDArray[np.intp], blocks: int) -> npt.NDArray[np.intp]:
        """Measures cells that hint at modes up to so many fresh ``blocks``, and gives what of them still does.

        What is judged is all that was measured. Where one metric has modes the cell goes on until the others have them
        too or are `HOPELESS`, else while the evidence of all is enough together.
        """
        places = self._measured(left, blocks)
        metrics = [self.metrics[number] for _, number in places]
        tick, gap = _ticks(metrics), _gaps(metrics)
        before, fresh = self._costs(places, blocks)
        change = over_blocks(block_ratios(np.concatenate([before, fresh], axis=1)), tick)
        modes = groups(before, fresh, tick=tick)
        several = self._several(left, modes, gap)
        for row, (place, metric) in enumerate(zip(places, metrics, strict=True)):
            if several[row]:
                self.verdicts[place] = unstable(change[row], metric, modes[row])
            else:
                both = np.concatenate([before[row], fresh[row]])
                self.verdicts[place] = weigh(both, change[row], metric, worse=0, better=0)
        cell = self.found.cell[left]
        evidence = np.where(modes.apart >= gap, modes.evidence, -np.inf)[~several]
        open_cells, akin = cell[~several], self.found.akin[left][~several]
        together = np.bincount(open_cells, np.maximum(evidence, 0), len(self.cells))
        hopeful = np.bincount(open_cells, evidence > HOPELESS, len(self.cells)) > 0
        more = np.where(akin, hopeful[open_cells], together[open_cells] > _enough(modes, len(self.metrics)))
        return left[~several][more]

    def _look(self, left: npt.NDArray[np.intp], look: int, share: float) -> npt.NDArray[np.intp]:
        """Measures the suspects ``left`` up to ``look`` fresh blocks, judges them, and gives those that need more."""
        worse, better, places = self.found.worse[left], self.found.better[left], self._measured(left, look)
        metrics = [self.metrics[number] for _, number in places]
        tick, gap = _ticks(metrics), _gaps(metrics)
        before, cost = self._costs(places, look)
        change, steady = over_blocks(block_ratios(cost), tick), over_trimmed(cost, tick)
        toward = np.where(worse, change.mean, -change.mean)
        shown = np.where(worse, change.p_worse, change.p_better)
        self.p[left] = np.where(toward >= floor(change.spread, tick), shown, 1.0)
        gate = worse * holm_level(self.p[self.found.worse], share * self.stages.alpha)
        rate = min(share * self.stages.rate, LEVEL)
        listed = better * benjamini_hochberg_level(self.p[self.found.better], rate)

        # Each look's own blocks are of a time of their own.
        earlier = [number for number in self.stages.looks if number < look]
        modes = groups(before, *np.split(cost, earlier, axis=1), tick=tick)
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
        return np.asarray(sure | (modes.akin(gap) & self.found.akin[left]))

    def _measured(self, left: npt.NDArray[np.intp], blocks: int) -> list[tuple[int, int]]:
        """Measures the cells of suspects ``left`` up to so many fresh ``blocks``, and gives the places of these."""
        for cell in dict.fromkeys(self.found.cell[left].tolist()):
            if (wanted := blocks - self.blocks(cell)) > 0:
                more = _measured(self.measure, self.cells[cell], len(self.metrics), wanted)
                self.fresh[cell] = np.concatenate([self.fresh[cell], more], axis=1) if cell in self.fresh else more
        places = self.found.places
        return [places[number] for number in left.tolist()]

    def _costs(self, places: Sequence[tuple[int, int]], blocks: int) -> tuple[Array, Array]:
        """What was screened, and the first fresh ``blocks``, of every place: (places, blocks, 2, 2)."""
        screened = [self.metrics[metric].cost(self.screened[cell, metric]) for cell, metric in places]
        fresh = [self.metrics[metric].cost(self.fresh[cell][metric, :blocks]) for cell, metric in places]
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
