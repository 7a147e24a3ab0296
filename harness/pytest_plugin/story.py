"""One cell while it runs: what it came to, where the time went, what its record will say."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import StageError
from harness.ledger.records import Record, Verdict
from harness.pytest_plugin.cells import Case
from harness.spec import Example
from harness.spec.cell import Cell

if TYPE_CHECKING:
    from harness.judge.comparison import Comparison
    from harness.pytest_plugin.exploring import Step
    from harness.pytest_plugin.run import Run
    from harness.runtime.backend.protocol import Array
    from harness.runtime.pool import BuiltPlan, Handle

STORY = pytest.StashKey["Story"]()
WAY = ("export", "parse", "build", "deserialize", "context", "run", "measure", "compare")  # of a cell, in order


@dataclass(frozen=True, eq=False)
class Judged:
    """Outputs that were judged last, what they should have been, as far as it can be said, and the verdict."""

    got: Mapping[str, Array]
    expected: Mapping[str, Array] | None
    comparison: Comparison


class Spending:
    """Adds the seconds inside to those of ``stage``: many times a cell, so that it is no generator."""

    __slots__ = ("_seconds", "_stage", "_start")

    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self._seconds, self._stage = seconds, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *raised: object) -> None:
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + time.perf_counter() - self._start


@dataclass(eq=False)
class Story:
    """Filled in by fixtures and hooks; a `Record` at the end."""

    run: Run
    case: Case
    node: str  # pytest's id
    file: Path  # of the test
    backend: str = ""  # that covers the cell: what "best" came to
    verdict: Verdict | None = None  # None: not yet known
    stage: str = ""  # that failed
    message: str = ""
    fix: str = ""
    cause: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    comparison: Comparison | None = None  # the last one
    example: Example | None = None  # that is being tried
    judged: Judged | None = None
    exploring: bool = False  # examples are being tried: nothing is to be built
    trail: list[Step] = field(default_factory=list)  # what watched sessions ran for the example
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.time)
    key: str = ""
    plan_key: str = ""
    fixture: Callable[[str], Any] = field(init=False, repr=False)  # the value of another fixture of this cell
    _handles: list[Handle] = field(default_factory=list)
    _plans: list[str] = field(default_factory=list)  # of each that was asked for alone: `BuiltPlan.unproven`

    @property
    def cell(self) -> Cell:
        """The cell, on the backend that covers it: what a known failure is looked up by."""
        return replace(self.case.cell, backend=self.backend)

    def spending(self, what: str) -> Spending:
        """The time inside goes to ``what``."""
        return Spending(self.seconds, what)

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """What fails inside, at a stage, spent the time at that stage; what does not says itself where it went."""
        start = time.perf_counter()
        try:
            yield
        except StageError as error:
            self.spend({error.stage: time.perf_counter() - start})
            raise

    def built(self, plan: BuiltPlan) -> None:
        """Count a plan's time as this cell's; the first plan is the cell's own."""
        if not self.key:
            self.key, self.plan_key = plan.key, plan.plan_key
        self.spend(plan.seconds)
        self.facts.update(plan.facts)
        self._plans.append(plan.unproven(self.run.probes[self.backend]))
        self.count("builds", not plan.cached)

    @property
    def unproven(self) -> str:
        """Why a pass would say too much: every plan that was asked for lay in the cache. "" otherwise."""
        return self._plans[0] if self._plans and all(self._plans) else ""

    def count(self, what: str, more: int) -> None:
        """Add to a fact that counts."""
        if more:
            self.facts[what] = self.facts.get(what, 0) + more

    def hold(self, handle: Handle) -> None:
        """Count an engine's time as this cell's; the first engine is the cell's own."""
        self._handles.append(handle)
        if not self.key:
            self.key, self.plan_key = handle.key, handle.plan_key

    def conclude(self, verdict: Verdict, message: str = "", *, stage: str = "", fix: str = "", cause: str = "") -> None:
        """The verdict, unless there is one: what went wrong first counts, and a pass until something does."""
        if self.verdict in (None, "passed"):
            self.verdict, self.message, self.stage, self.fix, self.cause = verdict, message, stage, fix, cause

    @contextlib.contextmanager
    def exploring_now(self) -> Iterator[None]:
        """Inside examples are tried."""
        self.exploring = True
        try:
            yield
        finally:
            self.exploring = False

    def tried(self, examples: int) -> None:
        """So many more examples were tried."""
        self.count("examples", examples)

    @property
    def reached(self) -> str:
        """The last stage that took any time; an engine loaded for an earlier cell is loaded for this one, too."""
        self._settle()
        taken = {*self.seconds, *["deserialize"] * bool(self._handles)}
        return next((stage for stage in reversed(WAY) if stage in taken), "")

    def record(self) -> Record:
        self._settle()
        comparison = None
        if self.comparison is not None:
            with self.spending("compare"):
                comparison = summary(self.comparison)
        return Record(
            cell=self.case.cell,
            node=self.node,
            verdict=self.verdict or "error",
            stage=self.stage or self.reached,
            message=self.message,
            fix=self.fix,
            cause=self.cause,
            key=self.key,
            plan_key=self.plan_key,
            environment=self.environment,
            seconds=self.seconds,
            comparison=comparison,
            facts=self.facts,
            started=self.started,
            duration=time.time() - self.started,
            run=self.run.id,
            worker=self.run.process,
        )

    def _settle(self) -> None:
        for handle in self._handles:
            self.spend(handle.timings)
            handle.timings.clear()
            self.facts.update(handle.facts)
            self.count("rebuilds" if handle.rebuilt else "builds", handle.builds)
            handle.builds = 0

    def spend(self, seconds: Mapping[str, float]) -> None:
        """Count ``seconds``, by stage, as this cell's."""
        for stage, spent in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent


def summary(comparison: Comparison) -> dict[str, Any]:
    """What a record keeps of a comparison: its worst output."""
    return {
        "oracle": comparison.oracle,
        "passed": comparison.passed,
        "outputs": len(comparison.outputs),
        "worst": comparison.worst.as_json(),
    }
