"""One model through every stage on the backends chosen for it, as one record a point."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.errors import ComparisonFailure, StageError, UnsupportedError
from harness.judge.compare import NARROWER, Comparison, compare
from harness.ledger.records import Record, Verdict
from harness.runtime.backend.protocol import Progress
from harness.runtime.choice import Roles, not_applied
from harness.runtime.fingerprint import environment
from harness.runtime.qualify import Question, interface_of, questions
from harness.runtime.workbench import Workbench
from harness.settings import BEST
from harness.spec import EngineSpec, Interface, Point, interface
from harness.spec.cell import Cell
from harness.spec.profile import GIVEN, places

BUILD, CHECK = "build", "check"  # what stands for the test in a record's cell
Repeat = Callable[[Cell], str]  # the command that does one cell again


@dataclass(eq=False)
class Qualification:
    """The records of one run of ``check``, in order, and the comparisons behind them, by cell."""

    bench: Workbench
    points: Sequence[Point]
    seed: int
    repeat: Repeat
    progress: Progress | None = None
    comparisons: dict[Cell, Comparison] = field(default_factory=dict)

    def cells(self, spec: EngineSpec, roles: Roles) -> Iterator[Cell]:
        """Those that `records` must leave a record of: one of the whole engine stands for all of its points."""
        model = spec.model
        whole = Cell(CHECK, model.id, spec.precision.name)
        if roles.builder:
            yield replace(whole, test=BUILD, backend=roles.builder.backend)
        if isinstance(roles.runner, UnsupportedError):
            yield replace(whole, backend=roles.asked)
            return
        given = model.data is not None or model.golden is not None
        for place in [GIVEN] if given else [place for place, *_ in places(model.profiles, self.points)]:
            yield replace(whole, point=place, backend=roles.runner.backend)

    def records(self, spec: EngineSpec, roles: Roles) -> Iterator[Record]:
        """Build where nothing but building is possible, then build, run and compare where all of it is."""
        if roles.builder:
            yield self._built(spec, roles.builder.backend)
        if isinstance(roles.runner, UnsupportedError):
            yield self._record(spec, Cell(CHECK, spec.model.id, spec.precision.name, backend=roles.asked), roles.runner)
        else:
            yield from self._checked(spec, roles.runner.backend)

    def _built(self, spec: EngineSpec, backend: str) -> Record:
        cell = Cell(BUILD, spec.model.id, spec.precision.name, backend=backend)
        started = time.time()
        try:
            plan = self.bench.pool.plan(spec, backend, progress=self.progress)
        except (StageError, UnsupportedError) as error:
            return self._record(spec, cell, error, started=started)
        made = self._record(
            spec, cell, None, stage="build", seconds=plan.seconds, started=started, plan_key=plan.plan_key
        )
        unproven = plan.unproven(self.bench.probe(backend))
        return replace(made, verdict="cached", message=unproven) if unproven else made

    def _checked(self, spec: EngineSpec, backend: str) -> Iterator[Record]:
        whole = Cell(CHECK, spec.model.id, spec.precision.name, backend=backend)
        started = time.time()
        # Inputs that can't be had are a fault of the request: found before an hour of building.
        asked = (
            None
            if spec.model.source.kind != "onnx"
            else list(self._questions(spec, interface(spec.model.source.path())))
        )
        try:
            handle = self.bench.pool.engine(spec, backend, progress=self.progress)
        except (StageError, UnsupportedError) as error:
            yield self._record(spec, whole, error, started=started)
            return
        with handle:
            for question in asked or self._questions(spec, interface_of(handle.info)):
                cell = Cell(CHECK, spec.model.id, spec.precision.name, "", question.place, backend)
                sizes = {"sizes": dict(question.binding)}
                spent: dict[str, float] = {}
                failure: Exception | None = None
                try:
                    with contextlib.closing(handle.session(question.profile)) as session:
                        got = session.run(question.inputs)
                    with _timed(spent, "oracle"):
                        reference = question.reference()
                    with _timed(spent, "compare"):
                        found = compare(got, reference, spec.precision, narrower=NARROWER.get(backend))
                    self.comparisons[cell] = found
                    found.require(cell, self.repeat(cell))
                except (StageError, UnsupportedError, ComparisonFailure) as error:
                    failure = error
                seconds = {**handle.timings, **spent}
                handle.timings.clear()  # the next point's record has its own
                more = {"seconds": seconds, "facts": sizes, "plan_key": handle.plan_key}
                yield self._record(spec, cell, failure, stage="compare", started=started, **more)
                started = time.time()

    def _questions(self, spec: EngineSpec, interface: Interface) -> Iterator[Question]:
        return questions(spec.model, interface, self.points, self.seed, self.bench.oracle)

    def _record(
        self,
        spec: EngineSpec,
        cell: Cell,
        error: Exception | None,
        *,
        stage: str = "",
        started: float = 0.0,
        **more: Any,
    ) -> Record:
        verdict: Verdict = "passed"
        message, fix = "", ""
        if isinstance(error, UnsupportedError):
            verdict, stage, message, fix = "not_covered", "", f"{error.capability}: {error.evidence}", error.fix
        elif error is not None:
            verdict, message = "failed", str(error)
            stage = error.stage if isinstance(error, StageError) else "compare"
            if isinstance(error, StageError):
                message += f"\n  repeat     {self.repeat(cell)}"
        found = self.comparisons.get(cell)
        facts = {**more.pop("facts", {}), **not_applied(cell.backend, spec.config)}
        return Record(
            cell=cell,
            verdict=verdict,
            stage=stage,
            message=message,
            fix=fix,
            key=spec.key,
            environment={} if cell.backend == BEST else environment(self.bench.probe(cell.backend)),
            comparison=found.as_json() if found else None,
            facts=facts,
            started=started or time.time(),
            duration=time.time() - started if started else 0.0,
            **more,
        )


@contextlib.contextmanager
def _timed(spent: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        spent[stage] = time.perf_counter() - started
