"""A simulated year of nights: cells whose true speed is known, a host that changes, and an owner who reads the rulings.

Times are logs. A night's process of a plan on a cell takes what the plan takes, what tonight's environment adds to
that, what the night adds (the same to all processes of the cell that night), and noise of its own. Only the first is a
plan's: the gate is to find just that, however the rest moves.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.ledger import batch, decisions, history
from harness.ledger.baseline_file import read, write
from harness.ledger.baselines import Baseline, Baselines, State
from harness.ledger.gate import Gate, Question, Ruling, Tonight
from harness.ledger.host import Canary, gained, lost, moved
from harness.ledger.proposals import Proposal, Seen, proposed
from harness.ledger.store import Store
from harness.measure import protocol
from harness.measure.contest import Effort
from harness.measure.finding import Finding, Said
from harness.measure.quantity import QUANTITIES, Quantity

Array = npt.NDArray[np.float64]
NIGHTS = 365
FIRST = datetime.datetime(2026, 1, 1, 2, tzinfo=datetime.timezone.utc)
GRAPH: Quantity = next(one for one in QUANTITIES if one.name == "gpu, graph")
KNOWN_QUANTITIES = {GRAPH.name: GRAPH}
PROCESSES = 8  # of a cell, a night
NIGHTLY = 0.001  # standard deviation of what a night adds to a cell, of which `CARRIED` is left the night after
CARRIED = 0.3
FIRST_BASELINE = 5  # nights from the first to the acceptance of all baselines: that many sessions
DRIVER, SWAP, GAP = 120, 200, range(250, 257)  # a driver update, another GPU of the same product, no nights
CANARIES = ("canary_compute", "canary_memory")
CANARY_CV = 0.001


@dataclass(frozen=True)
class Cell:
    """``plan`` says by night what the candidate's plan costs, as a log, ``new`` from which nights on it is another one.

    ``environment`` says what each night's environment adds.
    """

    name: str
    scenario: str
    cv: float
    plan: Callable[[int], float] = lambda _: 0.0
    new: tuple[int, ...] = ()
    environment: Callable[[int], float] = lambda _: 0.0

    def number(self, night: int) -> int:
        """Of the plan that the candidate is."""
        return sum(night >= start for start in self.new)

    def cost(self, number: int) -> float:
        """Of a plan, by its number: what it cost on the first night that had it."""
        return self.plan(0 if number == 0 else self.new[number - 1])


def facts(night: int) -> dict[str, str]:
    """What is recorded of a night's environment."""
    return {
        "driver": "580" if night < DRIVER else "590",
        "gpu_uuid": "a" if night < SWAP else "b",
        "library": "11.0",
    }


def host(night: int) -> float:
    """What the machine adds to every cell, canaries included."""
    return 0.0 if night < SWAP else float(np.log(1.015))


def slower(percent: float, start: int, end: int = NIGHTS) -> Callable[[int], float]:
    return lambda night: float(np.log1p(percent / 100)) if start <= night < end else 0.0


def creeping(percent: float, start: int, nights: int) -> Callable[[int], float]:
    """``percent`` more each night, for so many nights."""
    return lambda night: float(np.log1p(percent / 100)) * min(max(night - start + 1, 0), nights)


WEEKLY = tuple(range(14, NIGHTS, 7))  # another plan each week, as fast
START = 60


def cells(each: int = 4) -> list[Cell]:
    """``each`` of every scenario and noise."""
    made: list[Cell] = []

    def add(scenario: str, **kinds: Any) -> None:
        for cv in (0.002, 0.005, 0.01):
            made.extend(Cell(f"{scenario} {100 * cv:g} % {n}", scenario, cv, **kinds) for n in range(each))

    add("steady", new=WEEKLY)
    add("steady, one plan")
    for percent in (1, 2, 5):
        add(f"+{percent} % that stays", plan=slower(percent, START), new=(START,))
    add("+.3 % a night, ten nights", plan=creeping(0.3, START, 10), new=tuple(range(START, START + 10)))
    for percent in (2, 5):
        add(
            f"+{percent} % for 20 nights",
            plan=slower(percent, START, START + 20),
            new=(START, START + 20),
        )
    add("-3 % that stays", plan=slower(-3, START), new=(START,))
    add("-3 %, back after 100 nights", plan=slower(-3, START, START + 100), new=(START, START + 100))
    add("driver costs 2 %", environment=lambda night: float(np.log1p(0.02)) if night >= DRIVER else 0.0)
    add("one flaky night", environment=lambda night: float(np.log1p(0.08)) if night == START else 0.0)
    add("one flaky night of another plan", new=(START,), environment=slower(8, START, START + 1))
    return made


def after_a_flaky_session(each: int = 4) -> list[Cell]:
    """Cells that get slower by 2 %, of whose first baseline one session of five was 10 % off."""
    flaky = slower(10, FIRST_BASELINE - 3, FIRST_BASELINE - 2)
    name = "+2 % that stays, after a flaky session"
    return [
        Cell(f"{name} {100 * cv:g} % {number}", name, cv, slower(2, START), (START,), flaky)
        for cv in (0.002, 0.005)
        for number in range(each)
    ]


@dataclass
class Ruled:
    """A ruling, by night and cell."""

    night: int
    cell: Cell
    ruling: Ruling


@dataclass
class Year:
    """All nights over ``cells``, through ``ledger``, which keeps sessions and baselines.

    The owner accepts the first baselines after five nights, an improvement once two sessions have it, and what a new
    environment costs after ``settling`` nights of it. A regression nobody accepts.
    """

    cells: Sequence[Cell]
    ledger: Ledger
    seed: int = 0
    settling: int = 10
    rulings: list[Ruled] = field(default_factory=list)
    pairs: int = 0
    values: dict[str, dict[int, float]] = field(default_factory=dict)  # medians, by cell and night
    before_swap: Baselines = field(default_factory=lambda: Baselines({}))
    _rng: Any = None
    _night: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        for night in range(NIGHTS):
            if night not in GAP:
                self._one(night)

    def _one(self, night: int) -> None:
        session = f"night-{night:03}"
        baselines = self.ledger.baselines()
        seen = {name: self._canary(night) for name in CANARIES}
        canaries = [Canary(name, name, GRAPH.name, tuple(values)) for name, values in seen.items()]
        tonight = {cell: self._tonight(cell, night, session) for cell in self.cells}
        rows = [*tonight.values(), *(_canary_row(name, night, session, values) for name, values in seen.items())]
        self.ledger.store(night, rows)
        since = moved(canaries, baselines), gained(canaries, baselines), lost(canaries, baselines)
        gate = Gate(baselines.policies, KNOWN_QUANTITIES, "gate", *since)
        for cell, row in tonight.items():
            rival = _Rival(self, cell, night)
            for ruling in gate.rule(row, baselines.active.get(row.key), None, rival):
                self.rulings.append(Ruled(night, cell, ruling))
        self._owner(night)

    def _tonight(self, cell: Cell, night: int, session: str) -> Tonight:
        self._night[cell.name] = CARRIED * self._night.get(cell.name, 0.0) + self._rng.normal(
            0, NIGHTLY * (1 - CARRIED**2) ** 0.5
        )
        number = cell.number(night)
        values = self.processes(cell, number, night, PROCESSES)
        self.pairs += PROCESSES // 2
        self.values.setdefault(cell.name, {})[night] = float(np.median(values))
        return Tonight(cell.name, cell.name, session, (f"{cell.name}/{number}",), facts(night), {GRAPH.name: values})

    def processes(self, cell: Cell, number: int, night: int, count: int) -> Array:
        """Seconds of ``count`` processes of a plan tonight."""
        level = cell.cost(number) + cell.environment(night) + host(night) + self._night[cell.name]
        return np.asarray(1e-3 * np.exp(level + self._rng.normal(0, cell.cv, count)))

    def _canary(self, night: int) -> Array:
        return np.asarray(
            5e-3 * np.exp(host(night) + self._rng.normal(0, NIGHTLY) + self._rng.normal(0, CANARY_CV, PROCESSES))
        )

    def _owner(self, night: int) -> None:
        """What somebody does in the morning."""
        if night + 1 == FIRST_BASELINE:
            self._accept([cell.name for cell in self.cells] + list(CANARIES), night, "the first")
        if night + 1 == SWAP:
            self.before_swap = self.ledger.baselines()
        for start in (DRIVER, SWAP):
            if night + 1 == start + self.settling:
                lately = [ruled for ruled in self.rulings if ruled.night >= start]
                names = {ruled.cell.name for ruled in lately if _elsewhere(ruled.ruling)}
                names -= {ruled.cell.name for ruled in lately if ruled.ruling.fails and not _elsewhere(ruled.ruling)}
                self._accept([*names, *CANARIES], night, "a known cost of the new environment")
        last = {ruled.cell.name: ruled.ruling for ruled in self.rulings if ruled.night == night}
        before = {ruled.cell.name: ruled.ruling for ruled in self.rulings if ruled.night == night - 1}
        faster = [
            name
            for name, ruling in last.items()
            if name in before
            and ruling.finding.said is Said.IMPROVEMENT
            and before[name].finding.said is Said.IMPROVEMENT
            and ruling.question is not Question.ENVIRONMENT
        ]
        self._accept(faster, night, "faster in two sessions", loosening=False)

    def _accept(self, names: Sequence[str], night: int, reason: str, *, loosening: bool = True) -> None:
        for name in names:
            made = proposed(name, name, self.ledger.seen(name), self.ledger.baselines(), KNOWN_QUANTITIES)
            if isinstance(made, Proposal) and (loosening or not made.loosens):
                self.ledger.accept(made, reason, FIRST + datetime.timedelta(days=night))


def _elsewhere(ruling: Ruling) -> bool:
    """Whether the environment is blamed for what a plan costs."""
    slow = ruling.finding.said in (Said.REGRESSION, Said.HOST_CHANGED)
    return slow and ruling.question is Question.ENVIRONMENT


def _canary_row(name: str, night: int, session: str, values: Array) -> Tonight:
    return Tonight(name, name, session, (name,), facts(night), {GRAPH.name: values})


@dataclass
class _Rival:
    year: Year
    cell: Cell
    night: int
    number: int | None = None  # of the plan, where it is not tonight's

    def beside(self, baseline: Baseline, _: Sequence[str]) -> Sequence[Finding] | str:
        """As `harness.measure.contest` does it, over this cell alone."""
        numbers = (int(baseline.plans[0].rpartition("/")[2]), self.cell.number(self.night))
        year = self.year

        def measure(_: str, blocks: int) -> Array:
            arms = [year.processes(self.cell, number, self.night, 2 * blocks).reshape(blocks, 2) for number in numbers]
            year.pairs += 2 * blocks
            return np.stack(arms, axis=1)[None]

        known = baseline.metrics[GRAPH.name]
        metric = replace(GRAPH.metric, tolerance=known.tolerance)
        stages = Effort().stages(len(year.cells))
        session = protocol.run([self.cell.name], [metric], measure, None, stages)
        return [
            Finding.of(self.cell.name, GRAPH, verdict, known.values[-1], known.values[-1])
            for _, _, verdict in session.verdicts()
        ]

    def again(self, metrics: Sequence[str]) -> Mapping[str, Array]:
        self.year.pairs += PROCESSES
        number = self.cell.number(self.night) if self.number is None else self.number
        return {name: self.year.processes(self.cell, number, self.night, 2 * PROCESSES) for name in metrics}

    def stayed(self, baseline: Baseline, session: str) -> tuple[Tonight, _Rival]:
        number = int(baseline.plans[0].rpartition("/")[2])
        self.year.pairs += PROCESSES // 2
        values = {GRAPH.name: self.year.processes(self.cell, number, self.night, PROCESSES)}
        name = self.cell.name
        seen = Tonight(name, name, session, baseline.plans, facts(self.night), values)
        return seen, replace(self, number=number)


@dataclass
class Ledger:
    """The real store, and the real file of baselines."""

    opened: Store
    file: Path

    def store(self, night: int, rows: Sequence[Tonight]) -> None:
        at = (FIRST + datetime.timedelta(days=night)).timestamp()
        made = []
        for row in rows:
            session = batch.Session(row.session, at)
            for name, values in row.values.items():
                series = batch.Series(row.key, row.cell, name, KNOWN_QUANTITIES[name].unit)
                spread = float(np.log(values).std(ddof=1))
                value = float(np.median(values))
                made.append(batch.Measurement(series, session, value, spread, values.size, row.environment, row.plans))
        batch.write(self.opened, batch.Batch(measurements=made))

    def baselines(self) -> Baselines:
        return read(self.file)

    def seen(self, key: str) -> Sequence[Seen]:
        return history.histories(self.opened, [key])[key].seen

    def accept(self, proposal: Proposal, reason: str, at: datetime.datetime) -> None:
        decisions.propose(self.opened, proposal, "the gate", at)
        (filed,) = decisions.filed(self.opened, State.PROPOSED)
        held = self.baselines()
        decisions.accept(
            self.opened, filed, reason, "owner", at, kept=lambda made: write(self.file, held.with_accepted(made))
        )


# Peers, on the medians of the same nights ---------------------------------------------------------------


def against_a_saved_run(values: Mapping[int, float], threshold: float = 0.05) -> list[int]:
    """Nights that pytest-benchmark's ``--benchmark-compare-fail=median:5%`` fails, against the first."""
    first = values[min(values)]
    return [night for night, value in values.items() if value > (1 + threshold) * first]


def rolling(values: Mapping[int, float], threshold: float = 0.05) -> list[int]:
    """Nights that TensorRT-LLM's rule fails (jenkins/scripts/perf/perf_utils.py, 2026), which is of throughputs.

    The baseline is the 95th percentile of three-day rolling means over the last 90 days; a regression is where the mean
    of the last five days is below that by more than 5 %.
    """
    nights = sorted(values)
    speed = np.array([1 / values[night] for night in nights])
    found = []
    for place, night in enumerate(nights):
        recent = [p for p in range(place + 1) if nights[p] > night - 90]
        window = speed[recent]
        smooth = [window[max(0, p - 2) : p + 1].mean() for p in range(window.size)]
        last = window[-min(5, max(3, window.size)) :].mean()
        if 1 - last / np.percentile(smooth, 95) > threshold:
            found.append(night)
    return found
