"""A simulated year of nights: cells whose true speed is known, a host that changes, and an owner who reads the rulings.

Times are logs. A night's process of a plan on a cell takes what the plan takes, what tonight's environment adds to
that, what the night adds (the same to all processes of the cell that night), and noise of its own. Only the first is a
plan's: the gate is to find just that, however the rest moves.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.ledger import batch, decisions, history
from harness.ledger.baseline_file import read, write
from harness.ledger.baselines import Baseline, Baselines, State
from harness.ledger.candidate import USUAL, screening
from harness.ledger.gate import Gate, Question, Ruling, Tonight
from harness.ledger.host import Canary, gained, lost, moved
from harness.ledger.proposals import Proposal, Seen, proposed
from harness.ledger.store import Store
from harness.measure import protocol
from harness.measure.builders import Builders
from harness.measure.conditions import Bracket
from harness.measure.contest import Effort
from harness.measure.finding import Finding, Said
from harness.measure.process import Process
from harness.measure.quantity import QUANTITIES, Quantity
from harness.runtime.sampling import Samples, Sampling, Stop
from harness.runtime.telemetry import Reading

Array = npt.NDArray[np.float64]
NIGHTS = 365
FIRST = datetime.datetime(2026, 1, 1, 2, tzinfo=datetime.timezone.utc)
GRAPH: Quantity = next(one for one in QUANTITIES if one.name == "gpu, graph")
KNOWN_QUANTITIES = {GRAPH.name: GRAPH}
# Of a cell, a night, in the year of single plans: twice what the gate takes by default.
PROCESSES = int(os.environ.get("TRT_HARNESS_YEAR_PROCESSES", "8"))
NIGHTLY = 0.001  # standard deviation of what a night adds to a cell, of which `CARRIED` is left the night after
CARRIED = 0.3
FIRST_BASELINE = 5  # nights from the first to the acceptance of all baselines: that many sessions
DRIVER, SWAP, GAP = 120, 200, range(250, 257)  # a driver update, another GPU of the same product, no nights
CANARIES = ("canary_compute", "canary_memory")
CANARY_CV = 0.001
SAMPLED = 1 + 1e-6 * np.array([-2.0, 1.0, -1.0, 2.0])  # of a process, around its median


@dataclass(frozen=True)
class Cell:
    """``plan`` says by night what the candidate's plan costs, as a log, ``new`` from which nights on it is another one.

    ``environment`` says what each night's environment adds. Where it is rebuilt each night, it has so many ``builds``,
    which differ by a ``lottery``, the standard deviation of a log, and of which ``one`` of a night costs more by night.
    """

    name: str
    scenario: str
    cv: float
    plan: Callable[[int], float] = lambda _: 0.0
    new: tuple[int, ...] = ()
    environment: Callable[[int], float] = lambda _: 0.0
    builds: int = 0
    lottery: float = 0.0
    one: Callable[[int], float] = lambda _: 0.0

    def number(self, night: int) -> int:
        """Of the plan that the candidate is."""
        return sum(night >= start for start in self.new)

    def plans(self, night: int) -> tuple[str, ...]:
        """Of the candidate."""
        name = f"{self.name}/{self.number(night)}"
        return tuple(f"{name}/{night}/{build}" for build in range(self.builds)) or (name,)

    def cost(self, plan: str) -> float:
        """Of a plan: what its number cost on the first night that had it, and what it drew in the lottery."""
        number, *built = (int(part) for part in plan.removeprefix(f"{self.name}/").split("/"))
        cost = self.plan(0 if number == 0 else self.new[number - 1])
        if not built:
            return cost
        night, build = built
        drawn = self.lottery * float(np.random.default_rng([*self.name.encode(), *built]).standard_normal())
        return cost + drawn + (self.one(night) if build == night % self.builds else 0.0)


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


STEPS = tuple(range(30, 270, 30))  # nights on which a plan comes that costs a little more
RELEASE = "1.0"


def releases(each: int = 4) -> list[Cell]:
    """Cells with a release: each step below the tolerance of 1 %, in all more than the drift of 3 %, or none at all."""
    made = []
    for cv in (0.002, 0.005, 0.01):
        for scenario, percent in (("+.7 % eight times", 0.7), ("as many plans, none slower", 0.0)):
            plan = staircase(percent, STEPS)
            made += [Cell(f"{scenario} {100 * cv:g} % {n}", scenario, cv, plan, STEPS) for n in range(each)]
    return made


def staircase(percent: float, nights: Sequence[int]) -> Callable[[int], float]:
    return lambda night: float(np.log1p(percent / 100)) * sum(night >= start for start in nights)


def rebuilt(each: int = 4) -> list[Cell]:
    """Cells of which three builds a night differ by .3 %; their builder gets slower, or one build of each night is."""
    made = []

    def add(scenario: str, **kinds: Any) -> None:
        for cv in (0.002, 0.005):
            names = (f"{scenario} {100 * cv:g} % {n}" for n in range(each))
            made.extend(Cell(name, scenario, cv, builds=3, lottery=0.003, **kinds) for name in names)

    add("rebuilt, steady")
    for percent in (2, 5):
        add(f"rebuilt, +{percent} % that stays", plan=slower(percent, START), new=(START,))
        add(f"rebuilt, one build of three +{percent} %", one=slower(percent, START))
    return made


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
    environment costs after ``settling`` nights of it. A regression nobody accepts, unless there is a release: where
    ``pinned`` is its name, the first baselines are pinned, and after five nights of it whatever a new plan costs is
    accepted. ``asked`` is what ``--trt-perf-processes`` says.
    """

    cells: Sequence[Cell]
    ledger: Ledger
    seed: int = 0
    settling: int = 10
    pinned: str = ""
    asked: int = USUAL
    rulings: list[Ruled] = field(default_factory=list)
    pairs: float = 0
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
            rival = _Rival(self, cell, night, row.plans)
            for ruling in gate.rule(row, baselines.active.get(row.key), baselines.releases.get(row.key), rival):
                self.rulings.append(Ruled(night, cell, ruling))
        self._owner(night)

    def _tonight(self, cell: Cell, night: int, session: str) -> Tonight:
        self._night[cell.name] = CARRIED * self._night.get(cell.name, 0.0) + self._rng.normal(
            0, NIGHTLY * (1 - CARRIED**2) ** 0.5
        )
        plans = cell.plans(night)
        values = self.processes(cell, plans, night, screening(self.asked, plans))
        self.pairs += values.size / 2
        self.values.setdefault(cell.name, {})[night] = float(np.median(values))
        return Tonight(cell.name, cell.name, session, plans, facts(night), {GRAPH.name: values})

    def processes(self, cell: Cell, plans: Sequence[str], night: int, count: int) -> Array:
        """Seconds of ``count`` processes tonight, which take ``plans`` in turn."""
        level = cell.environment(night) + host(night) + self._night[cell.name]
        each = np.resize([cell.cost(plan) for plan in plans], count)
        return np.asarray(1e-3 * np.exp(level + each + self._rng.normal(0, cell.cv, count)))

    def _canary(self, night: int) -> Array:
        return np.asarray(
            5e-3 * np.exp(host(night) + self._rng.normal(0, NIGHTLY) + self._rng.normal(0, CANARY_CV, self.asked))
        )

    def _owner(self, night: int) -> None:
        """What somebody does in the morning."""
        if night + 1 == FIRST_BASELINE:
            self._accept([cell.name for cell in self.cells] + list(CANARIES), night, "the first")
            if self.pinned:
                self.ledger.pin([cell.name for cell in self.cells], self.pinned)
        if self.pinned:
            new = [cell.name for cell in self.cells if night + 1 - FIRST_BASELINE in cell.new]
            self._accept(new, night, "a small cost of a new plan")
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
    """``plans`` are tonight's, or those of a baseline that are measured again."""

    year: Year
    cell: Cell
    night: int
    plans: tuple[str, ...]

    def beside(self, baseline: Baseline, _: Sequence[str]) -> Sequence[Finding] | str:
        """As `harness.ledger.candidate` does it, over this cell alone: a contest of plans, or one of builders."""
        known = baseline.metrics[GRAPH.name]
        metric = replace(GRAPH.metric, tolerance=known.tolerance)
        if len(baseline.plans) > 1 or len(self.plans) > 1:
            runner: Any = _Runner(self, (baseline.plans, self.plans))
            return Builders(runner, [replace(GRAPH, metric=metric)], len(self.year.cells)).run()

        def measure(_: str, blocks: int) -> Array:
            arms = [self._processes(plans, 2 * blocks).reshape(blocks, 2) for plans in (baseline.plans, self.plans)]
            return np.stack(arms, axis=1)[None]

        stages = Effort().stages(len(self.year.cells))
        session = protocol.run([self.cell.name], [metric], measure, None, stages)
        return [
            Finding.of(self.cell.name, GRAPH, verdict, known.values[-1], known.values[-1])
            for _, _, verdict in session.verdicts()
        ]

    def again(self, metrics: Sequence[str]) -> Mapping[str, Array]:
        return {name: self._processes(self.plans, 2 * screening(self.year.asked, self.plans)) for name in metrics}

    def stayed(self, baseline: Baseline, session: str) -> tuple[Tonight, _Rival]:
        values = {GRAPH.name: self._processes(baseline.plans, screening(self.year.asked, baseline.plans))}
        name = self.cell.name
        seen = Tonight(name, name, session, baseline.plans, facts(self.night), values)
        return seen, replace(self, plans=baseline.plans)

    def _processes(self, plans: Sequence[str], count: int) -> Array:
        self.year.pairs += count / 2
        return self.year.processes(self.cell, plans, self.night, count)


class _Runner:
    """Stands for `harness.measure.runner.Runner`: the processes of both sides, whose samples are of one piece."""

    def __init__(self, rival: _Rival, plans: Sequence[Sequence[str]]) -> None:
        self._rival = rival
        self.name, self.ways = rival.cell.name, {GRAPH.way: Sampling(graph=True)}
        self.sides = [SimpleNamespace(name=name, plans=each) for name, each in zip("AB", plans, strict=True)]
        self.journal = SimpleNamespace(seed=rival.night)

    def process(self, _: int, arm: int, ordinal: int) -> Process:
        plans = self.sides[arm].plans
        (seconds,) = self._rival._processes([plans[ordinal % len(plans)]], 1)
        each = {GRAPH.source: seconds * SAMPLED}
        samples = Samples(
            each, {GRAPH.source: np.arange(SAMPLED.size) * seconds}, each, {GRAPH.source: SAMPLED.size}, GRAPH.source,
            1, Stop.PRECISE, True, 0.0, SAMPLED.size * seconds,
        )  # fmt: skip
        return Process({GRAPH.way: samples}, {}, {}, "", Bracket(Reading(), Reading()))


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

    def pin(self, keys: Sequence[str], release: str) -> None:
        held = self.baselines()
        for key in keys:
            held = held.with_release(key, release)
        write(self.file, held)

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
