"""A soak: one process builds, loads, runs and drops again and again, and what it holds after each round is judged.

What a round takes and does not give back shows as a slope (`harness.measure.slope`). All rounds are in one engine
host, since that is the process whose memory counts; plans are built cold, whatever a cache holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from harness.errors import StageError, UnsupportedError
from harness.judge.compare import Comparison
from harness.judge.metamorphic import judge_alike
from harness.judge.oracle import Reference, digest_arrays
from harness.judge.provenance import Kind, Origin
from harness.measure.finding import Finding, Said
from harness.measure.quantity import BYTES
from harness.measure.side import Side
from harness.measure.slope import LEAST, Slope, slope
from harness.runtime.backend.hosted import HostedBackend
from harness.runtime.backend.protocol import BuildRequest, EngineInfo, Residue
from harness.runtime.footprint import Footprint
from harness.runtime.lines import LineLog
from harness.runtime.qualify import Question
from harness.runtime.telemetry import Monitor
from harness.spec.canonical import plain

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]

FILE = "soak.jsonl"
LOOK = 25  # rounds until the first look; each further one comes after twice as many

# What CPython takes at a time for its objects: ARENA_BITS 20 in Include/internal/pycore_obmalloc.h, from 3.10 on.
# glibc takes less: 128 KiB, M_TOP_PAD and M_MMAP_THRESHOLD of malloc.h.
HEAP = 1 << 20
PAGE = 2 << 20  # in which the CUDA driver gives out memory of the device (CUDA C++ Programming Guide, virtual memory)
ONE = 1.0  # of what is counted: a second one that is opened later than the first is no growth


@dataclass(frozen=True)
class Round:
    """What was there after one round, and how long its stages took, in seconds."""

    number: int  # from 1
    seconds: Mapping[str, float]
    footprint: Footprint
    residue: Residue
    outputs: str = ""  # digest; "" where nothing was run
    processes: int | None = None  # that compute on the GPU, as the driver counts them


@dataclass(frozen=True)
class Watched:
    """A number of every round, which is not to grow by more than ``quantum`` over all of them."""

    name: str
    unit: str
    quantum: float
    of: Callable[[Round], float | None]


WATCHED = (
    Watched("host memory", BYTES, HEAP, lambda one: one.footprint.private),
    Watched("heap", BYTES, HEAP, lambda one: one.footprint.heap),
    Watched("device memory", BYTES, PAGE, lambda one: one.footprint.device),
    Watched("open files", "files", ONE, lambda one: one.footprint.files),
    Watched("threads", "threads", ONE, lambda one: one.footprint.threads),
    Watched("engines and sessions", "objects", ONE, lambda one: one.residue.engines + one.residue.sessions),
    Watched("buffers", "buffers", ONE, lambda one: one.residue.buffers),
)


@dataclass(frozen=True)
class Work:
    """What a round does: builds ``request``, or takes ``plan``, which is there; loads it and runs it, unless ``idle``.

    ``idle`` says why nothing can be loaded here. ``question`` is asked for once, when the first engine is loaded;
    ``alike`` compares the outputs of a later round, which are others, with those of the first.
    """

    subject: str
    request: BuildRequest | None
    question: Callable[[EngineInfo], Question]
    alike: Callable[[Outputs, Outputs], Comparison]
    plan: Path | None = None
    plugins: tuple[str, ...] = ()
    host_code: bool = False
    idle: str = ""

    @classmethod
    def of(cls, side: Side) -> Work:
        """UnsupportedError for a plan that can't be loaded here: no round could do anything."""
        from harness.runtime.request import resolve

        idle, config = side.why_not_run(), side.spec.config
        if idle and side.frozen:
            raise UnsupportedError(f"{side.backend} deserialize", idle)
        source = side.spec.model.source
        return cls(
            side.spec.model.id,
            None if side.frozen else resolve(side.spec),
            side.question,
            lambda got, want: judge_alike(got, want, _reference(side, want), side.recipe, "round 1"),
            source.path() if side.frozen else None,
            config.plugins,
            config.carries_code,
            idle,
        )


def _reference(side: Side, want: Outputs) -> Reference:
    """The oracle's, or, where it has nothing to say, what is known of ``want`` by its types."""
    with contextlib.suppress(UnsupportedError):
        return side.reference(side.asked)
    origins = {name: Origin(Kind.FLOAT if one.dtype.kind in "fV" else Kind.EXACT) for name, one in want.items()}
    return Reference(side.spec.model.id, "round 1", want, origins)


@dataclass
class Soak:
    """``rounds`` rounds of ``work`` on ``backend``, or fewer: growth that two looks in a row show ends it.

    With ``whole`` it goes on all the same. ``lines`` takes each round as it comes, `tell` hears of looks.
    """

    backend: HostedBackend
    work: Work
    monitor: Monitor
    lines: LineLog
    rounds: int = 500
    whole: bool = False
    tell: Callable[[str], None] = lambda _: None
    done: list[Round] = field(default_factory=list)
    interrupted: bool = False
    _failures: list[Finding] = field(default_factory=list)
    _question: Question | None = None
    _first: Outputs = field(default_factory=dict)
    _others: int = 0  # rounds that gave other bits than the first, within the tolerance

    def run(self) -> None:
        """All rounds. What is refused, or dies, is among the `findings`, and so is what was done until Ctrl-C."""
        suspects: set[str] = set()
        looks = _looks(self.rounds)
        try:
            for number in range(1, self.rounds + 1):
                self.done.append(self._round(number))
                self.lines.append([json.dumps(plain(dataclasses.asdict(self.done[-1])), separators=(",", ":"))])
                if self._failures:
                    return
                if number in looks:
                    grown = {name for name, one in self.slopes().items() if one.leaks}
                    self.tell(f"{self.work.subject}: round {number} of {self.rounds}: {_names(grown)}")
                    if suspects & grown and not self.whole:
                        return
                    suspects = grown
        except (StageError, UnsupportedError) as error:
            first, *rest = str(error).splitlines()
            where = f"round {len(self.done) + 1}"
            self._failures.append(Finding(self.work.subject, where, Said.FAILED, first, detail="\n".join(rest)))
        except KeyboardInterrupt:
            self.interrupted = True

    def slopes(self) -> dict[str, Slope]:
        """Of all that is watched and there, by name; none of too few rounds."""
        if len(self.done) < LEAST:
            return {}
        found = {}
        for one in WATCHED:
            values = [one.of(done) for done in self.done]
            known = [value for value in values if value is not None]
            # A device that is asked from the first load on has no number before.
            if len(known) >= LEAST:
                found[one.name] = slope(known, one.quantum)
        return found

    def findings(self) -> list[Finding]:
        """What failed, what grows and what does not, and what was not covered."""
        subject, slopes = self.work.subject, self.slopes()
        found = [*self._failures]
        for one in WATCHED:
            if one.name in slopes:
                found.append(self._judged(one, slopes[one.name]))
            elif self.done and all(one.of(done) is None for done in self.done):
                found.append(Finding(subject, one.name, Said.NOT_COVERED, "no device is in use"))
            elif not self._failures:
                words = f"{len(self.done)} rounds, of fewer than {LEAST} no slope can be told"
                found.append(Finding(subject, one.name, Said.INCONCLUSIVE, words))
        if self.work.idle:
            found.append(Finding(subject, "load and run", Said.NOT_COVERED, self.work.idle))
        if self.work.request is None:
            found.append(Finding(subject, "build", Said.NOT_COVERED, "a plan from elsewhere, which nobody here builds"))
        if self._others:
            words = f"{self._others} of {len(self.done)} rounds gave other bits than the first, within the tolerance"
            found.append(Finding(subject, "outputs", Said.NOTED, words))
        elif self._first and not self._failures:
            found.append(Finding(subject, "outputs", Said.PASS, "every round gave the bits of the first"))
        return found

    def _judged(self, watched: Watched, slope: Slope) -> Finding:
        said = Said.LEAK if slope.leaks else Said.NOTED if slope.creeps else Said.PASS
        words = told(slope, watched.unit)
        company = max((one.processes or 0 for one in self.done), default=0)
        if watched.name == "device memory" and slope.leaks and company > 1:
            said = Said.INCONCLUSIVE
            words += f"; {company} processes computed on this GPU, and it may be another that grows"
        return Finding(self.work.subject, watched.name, said, words, slope.first, slope.last, watched.unit)

    def _round(self, number: int) -> Round:
        seconds: dict[str, float] = {}
        outputs = self._worked(seconds)
        digest = digest_arrays(outputs) if outputs else ""
        if outputs and not self._first:
            self._first = outputs
        elif self.done and digest != self.done[0].outputs:
            self._compare(number, outputs)
        del outputs
        company = self.monitor.read().processes
        return Round(
            number,
            seconds,
            self.backend.footprint(),
            self.backend.residue(),
            digest,
            None if company is None else len(company),
        )

    def _worked(self, seconds: dict[str, float]) -> dict[str, Array]:
        """The outputs of one round, of which nothing is left in the host; none where nothing is run."""
        work = self.work
        plan: Array | Path | None = work.plan
        if work.request is not None:
            with _timed(seconds, "build"):
                plan = self.backend.build(work.request).data
        assert plan is not None
        if work.idle:
            return {}
        with contextlib.ExitStack() as dropping:
            with _timed(seconds, "load"):
                engine = self.backend.load(plan, work.plugins, host_code=work.host_code)
            dropping.callback(engine.close)
            if self._question is None:
                self._question = work.question(engine.info)
            with _timed(seconds, "context"):
                session = engine.session(self._question.profile)
            dropping.callback(session.close)
            with _timed(seconds, "run"):
                outputs = session.run(self._question.inputs)
            started = time.perf_counter()
        seconds["drop"] = time.perf_counter() - started
        return outputs

    def _compare(self, number: int, outputs: Outputs) -> None:
        comparison = self.work.alike(outputs, self._first)
        if comparison.passed:
            self._others += 1
            return
        subject, where = self.work.subject, f"outputs of round {number}"
        first, *rest = comparison.message(subject, "").splitlines()[:-1]  # the last would repeat it
        words = first.removeprefix(f"{subject}: ")
        self._failures.append(Finding(subject, where, Said.FAILED, words, detail="\n".join(rest)))


def told(slope: Slope, unit: str) -> str:
    """``grows by 1.02 MB a round (0.98 to 1.06) over 45 rounds``; of what does not, what would have been seen."""
    scale, name = _scale(slope.estimate, unit)
    estimate, low, high = (f"{value / scale:,.{DIGITS[name]}f}" for value in (slope.estimate, slope.low, slope.high))
    a_round = f"{estimate} {name} a round ({low} to {high}) over {slope.rounds} rounds, the first {slope.warm_up} aside"
    if slope.leaks:
        return f"grows by {a_round}"
    seen = f"a leak of {amount(slope.visible, unit)} a round would have shown"
    if slope.creeps:
        return f"creeps by {a_round}: in all within {amount(slope.quantum, unit)}; {seen}"
    return f"flat: {a_round}; {seen}"


DIGITS = {"MB": 2, "kB": 2, BYTES: 0, **{one.unit: 3 for one in WATCHED if one.unit != BYTES}}


def amount(value: float, unit: str) -> str:
    """``1.02 MB``, ``12 bytes``, ``0.025 files``."""
    scale, name = _scale(value, unit)
    return f"{value / scale:,.{DIGITS[name]}f} {name}"


def _scale(value: float, unit: str) -> tuple[float, str]:
    """In which multiple of a unit ``value`` is told."""
    if unit != BYTES or abs(value) < 1e3:
        return 1.0, unit
    return (1e6, "MB") if abs(value) >= 1e6 else (1e3, "kB")


def _looks(rounds: int) -> set[int]:
    looks, number = {rounds}, LOOK
    while number < rounds:
        looks.add(number)
        number *= 2
    return looks


def _names(grown: set[str]) -> str:
    return f"{', '.join(sorted(grown))}: growing" if grown else "flat so far"


@contextlib.contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[what] = time.perf_counter() - started
