"""Builds plans and runs processes of the sides of one subject, each once: what the journal has is not done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from harness.errors import StageError, UnsupportedError
from harness.judge.inputs import read_arrays
from harness.measure.conditions import Bracket
from harness.measure.finding import Finding, Said
from harness.measure.journal import Journal
from harness.measure.process import MEMORIES, ONCE, Job, Process, measured
from harness.measure.side import Side, write_arrays
from harness.runtime.backend.protocol import EngineInfo
from harness.runtime.qualify import Question
from harness.runtime.sampling import Sampling
from harness.runtime.telemetry import Monitor, Reading, monitor
from harness.spec.canonical import file_digest

Array = npt.NDArray[Any]
Tell = Callable[[str], None]
PARSE, BUILD, PLAN_SIZE = "parse", "build", "plan size"  # added to the seconds and bytes of a process


class SideFailed(Exception):
    """A side can't be built or run."""

    def __init__(self, side: Side, error: StageError | UnsupportedError) -> None:
        self.side, self.error = side, error
        super().__init__(f"{side.name}: {error}")

    def finding(self, subject: str) -> Finding:
        first, *rest = str(self.error).splitlines()
        words = f"{self.side.title}: {first}"
        return Finding(subject, f"side {self.side.name}", Said.FAILED, words, detail="\n".join(rest))


@dataclass(eq=False)
class Runner:
    """Of the subject called ``name`` (a model). ``rebuilt``: every process of a side has a build of its own.

    ``tell`` hears what is about to be done; of the ``planned`` processes, and then of those that confirm.
    """

    name: str
    sides: Sequence[Side]
    ways: Mapping[str, Sampling]
    journal: Journal
    rebuilt: bool = False
    tell: Tell = lambda _: None
    planned: int = 0
    wanted: Callable[[str], bool] = lambda _: True  # as in `Job`
    _replays: dict[str, int] = field(default_factory=dict)
    _monitors: dict[str, Monitor] = field(default_factory=dict)

    def process(self, number: int, arm: int, ordinal: int) -> Process:
        """Process ``number`` of the subject, which is the ``ordinal``-th of its side. SideFailed."""
        made = self.journal.processes.get((self.name, number))
        side = self.sides[arm]
        if made is None:
            what = f"process {number + 1} of {self.planned}"
            what = what if number < self.planned else f"process {number + 1}, to confirm"
            what = f"{self.name}: {what}: {side.name}"
            try:
                with side.lock.alone(what, self.tell):  # from the build on, which times tactics
                    self.tell(what)
                    made = self._run(side, ordinal)
            except (StageError, UnsupportedError) as error:
                self.journal.failure(self.name, side.name, str(error))
                raise SideFailed(side, error) from error
            made = self.journal.process(self.name, number, side.name, self._build_of(side, ordinal), made)
        for way, samples in made.samples.items():
            self._replays.setdefault(way, samples.replays)
        return made

    def plan(self, side: Side, build: int = 0) -> tuple[Path, dict[str, Any]]:
        """A plan of ``side`` and its facts: "seconds" by stage, "nbytes". StageError and UnsupportedError."""
        facts = self.journal.builds.get((self.name, side.name, build))
        file = self.journal.folder / "plans" / f"{self.name}-{side.name}-{build}.plan"
        if side.frozen:
            file = side.given(build)
        if facts is None or not file.is_file():
            self.tell(f"{self.name}: build {build + 1} of {side.name}")
            seconds: dict[str, float] = {}
            if not side.plans:
                built = side.build()
                seconds = dict(built.seconds)
                if not side.frozen:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    temporary = file.with_suffix(".tmp")
                    built.data.tofile(temporary)
                    temporary.replace(file)
            told = {"nbytes": file.stat().st_size, "plan": file_digest(file)}
            facts = self.journal.build(self.name, side.name, build, seconds=seconds, **told)
        return file, facts

    def outputs(self, side: Side) -> Iterator[dict[str, Array]]:
        """Whatever its runs gave, each once; the first of the first process comes first."""
        found = self.journal.folder.glob(f"outputs/{self.name}-{side.name}-*.npz")
        for path in sorted(found, key=lambda path: path.stat().st_mtime_ns):
            yield read_arrays(path)

    def inputs(self, side: Side) -> dict[str, Array] | None:
        """What its runs were given; None where there was none."""
        file = self._inputs(side)
        return read_arrays(file) if file.is_file() else None

    def close(self) -> None:
        for one in self._monitors.values():
            one.close()
        self._monitors.clear()

    # Within --------------------------------------------------------------------------------------

    def _run(self, side: Side, ordinal: int) -> Process:
        build = self._build_of(side, ordinal)
        plan, facts = self.plan(side, build)
        taken = facts["seconds"]
        seconds = {} if side.frozen else {name: float(taken[name]) for name in (PARSE, BUILD) if name in taken}
        lacking = "the plan was built elsewhere" if side.frozen else "its build does not tell it apart"
        unbuilt = {name: lacking for name in (PARSE, BUILD) if name not in seconds}
        nbytes = {PLAN_SIZE: int(facts["nbytes"])}
        why, broken = side.why_not_run(), side.broken()
        for one in self.sides:  # either's host, idle as it is, is company on the device
            one.rest()
        if broken:
            raise UnsupportedError(side.backend, broken)
        if why:
            nothing = Reading(missing={"all": why})
            missing = {**dict.fromkeys((*self.ways, *ONCE, *MEMORIES, "energy", "layers"), why), **unbuilt}
            return Process({}, seconds, nbytes, "", Bracket(nothing, nothing), missing)
        ways = {way: replace(plan_, replays=self._replays_of(way, plan_)) for way, plan_ in self.ways.items()}
        job = Job(
            plan,
            lambda info: self._question(side, info),
            ways,
            plugins=side.spec.config.plugins,
            host_code=side.spec.config.carries_code,
            inspected=ordinal == 0,
            other=side.another,
            weights=side.replacements,
            wanted=self.wanted,
        )
        made, outputs = measured(side.process(), job, self._monitor(side))
        file = self.journal.folder / "outputs" / f"{self.name}-{side.name}-{made.outputs[:16]}.npz"
        if not file.is_file():
            write_arrays(file, outputs)
        return replace(
            made,
            seconds={**made.seconds, **seconds},
            nbytes={**made.nbytes, **nbytes},
            missing={**made.missing, **unbuilt},
        )

    def _build_of(self, side: Side, ordinal: int) -> int:
        """Which build the ``ordinal``-th process of ``side`` runs."""
        return ordinal if self.rebuilt else ordinal % max(len(side.plans), 1)

    def _replays_of(self, way: str, sampling: Sampling) -> int:
        """Runs between two events: as many as in the first process, so that all can be compared."""
        return 0 if sampling.cold else self._replays.get(way, sampling.replays)

    def _question(self, side: Side, info: EngineInfo) -> Question:
        """The other side's inputs where it has been asked, and this one takes them."""
        others = [self._inputs(one) for one in self.sides if one is not side and self._inputs(one).is_file()]
        alike = len({one.spec.model.source.digest() for one in self.sides}) == 1
        question = side.question(info, None if alike or not others else others[0])
        if not self._inputs(side).is_file():
            write_arrays(self._inputs(side), question.inputs)
        return question

    def _inputs(self, side: Side) -> Path:
        return self.journal.folder / "inputs" / f"{self.name}-{side.name}.npz"

    def _monitor(self, side: Side) -> Monitor:
        if side.name not in self._monitors:
            self._monitors[side.name] = monitor(str(side.bench.probe(side.backend).environment.get("gpu_uuid", "")))
        return self._monitors[side.name]
