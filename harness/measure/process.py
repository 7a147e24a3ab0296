"""One process of a subject: a fresh engine host loads a frozen plan, is measured, and ends. It is the replicate.

What it gives can be written as JSON and read again, so that a session may go on where it was interrupted.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import RefitError, RunError, UnsupportedError
from harness.judge.oracle import digest_arrays
from harness.measure.conditions import Bracket
from harness.runtime.backend.hosted import HostedBackend
from harness.runtime.backend.protocol import (
    UNCAPTURABLE,
    Backend,
    Engine,
    EngineInfo,
    LayerWeights,
    Session,
    Weights,
)
from harness.runtime.qualify import Question
from harness.runtime.sampling import Samples, Sampling, Stop
from harness.runtime.telemetry import Monitor, Reading, fresh

Array = npt.NDArray[Any]
GRAPH, PLAIN, STREAMS = "graph", "plain", "streams"  # ways to run that are measured
CONTEXT_MEMORY = "context memory"
ONCE = ("deserialize", "context", "first run", "shape switch", "refit")  # of what takes place once
MEMORIES = ("host memory", "engine memory", f"{CONTEXT_MEMORY}, profile 0", "peak memory")
SWITCHES = 21  # of shapes, of which the median counts
WINDOW = 1.5  # seconds of runs, of which a counter that is a tenth behind shows all but a fraction
DIGITS = 9  # of a number of seconds that is written: finer than any clock


@dataclass(frozen=True)
class Process:
    """What one process gave.

    ``samples`` are by the way to run (`GRAPH`, `PLAIN`, `STREAMS`), ``seconds`` of what takes place once:
    "deserialize", "context", "first run", "shape switch" (the median of some), "refit". ``nbytes`` has "device
    memory" of a context, as the engine tells, "host memory", the peak of the process, and by what is free on the
    device "engine memory", `context_memory` by profile, and "peak memory", the most of all at any time that was looked
    at: loaded, with a context, after the first run, after each way to run. ``joules`` has "energy", of a run.
    ``missing`` says why a way to run or a number is not there.
    ``outputs`` is the digest of what the first run gave. ``told`` are the inspector's own words, None where
    nobody asked.
    """

    samples: Mapping[str, Samples]
    seconds: Mapping[str, float]
    nbytes: Mapping[str, int]
    outputs: str
    bracket: Bracket
    missing: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, Any] | None = None
    joules: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        made = {item.name: getattr(self, item.name) for item in fields(self)}
        made["samples"] = {way: _samples_as_json(samples) for way, samples in self.samples.items()}
        made["bracket"] = asdict(self.bracket)
        return made

    @classmethod
    def from_json(cls, made: Mapping[str, Any]) -> Process:
        """The inverse of `as_json`; KeyError and TypeError for anything else."""
        bracket = Bracket(*(_reading(made["bracket"][end]) for end in ("before", "after")))
        samples = {way: _samples(found) for way, found in made["samples"].items()}
        return cls(**{**made, "samples": samples, "bracket": bracket})


@dataclass(frozen=True)
class Job:
    """What a process is to do: load ``plan``, and measure runs on the inputs of the ``question`` in all ``ways``.

    The question is asked for once the engine is loaded: a plan is the only one to say what it takes. ``other``
    gives inputs of another shape of the same profile, and ``weights`` what a refit is to replace, by name and by
    place: UnsupportedError says why there are none. ``window`` is the seconds of running over which the
    energy of a run is taken.
    """

    plan: Path
    question: Callable[[EngineInfo], Question]
    ways: Mapping[str, Sampling]
    plugins: tuple[str, ...] = ()
    host_code: bool = False
    inspected: bool = False
    other: Callable[[EngineInfo, Question], Mapping[str, Array]] = lambda _info, _asked: _none("another shape")
    weights: Callable[[Engine], tuple[Weights, LayerWeights]] = lambda _: _none("weights to replace")
    window: float = WINDOW
    wanted: Callable[[str], bool] = lambda _: True  # of what takes its time beside the ways: energy, switches, a refit


def measured(backend: Backend, job: Job, monitor: Monitor) -> tuple[Process, dict[str, Array]]:
    """What ``backend``, made for this and closed by it, gives, and the outputs of its first run. StageError."""
    made = _Made()
    before = monitor.read()
    with contextlib.ExitStack() as closing:
        closing.callback(backend.close)
        memory = _DeviceMemory(backend)
        engine = backend.load(job.plan, job.plugins, host_code=job.host_code)
        closing.callback(engine.close)
        made.seconds.update(engine.info.seconds)
        made.keep_memory("engine memory", memory.more(), memory)
        question = job.question(engine.info)
        with _timed(made.seconds, "context"):
            session = engine.session(question.profile)
        closing.callback(session.close)
        made.keep_memory(context_memory(question.profile), memory.more(), memory)
        with _timed(made.seconds, "first run"):
            outputs = session.run(question.inputs)
        memory.more()
        for way, sampling in job.ways.items():
            with made.missing_where(way):
                made.samples[way] = session.measure(question.inputs, sampling)
            memory.more()
        after = monitor.read()
        made.keep_memory("peak memory", memory.most, memory)
        device = engine.info.facts.get("device_memory")
        if device:
            made.nbytes["device memory"] = int(device)
        if isinstance(backend, HostedBackend):
            made.nbytes["host memory"] = backend.peak_memory()
        else:
            made.missing["host memory"] = "it ran inside this process"
        if made.wants("energy", job):
            with made.missing_where("energy"):
                made.joules["energy"] = _energy(session, question, monitor, job.window, graph=GRAPH in made.samples)
        if made.wants("shape switch", job):
            with made.missing_where("shape switch"):
                switches = session.reshape(question.inputs, job.other(engine.info, question), SWITCHES)
                made.seconds["shape switch"] = float(np.median(switches))
        if made.wants("refit", job):
            with made.missing_where("refit"):
                _refit(engine, job, made.seconds)
        if job.inspected:
            with made.missing_where("layers"):
                made.told = engine.inspect()
        session.close()
        for profile in range(engine.info.profiles):
            if profile != question.profile:  # beside no other context, which may have the profile for itself
                memory.more()
                with contextlib.closing(engine.session(profile)):
                    made.keep_memory(context_memory(profile), memory.more(), memory)
    return made.process(digest_arrays(outputs), Bracket(before, after)), outputs


def context_memory(profile: int) -> str:
    """What the memory is called that a context on this profile takes."""
    return f"{CONTEXT_MEMORY}, profile {profile}"


@dataclass
class _Made:
    """What there is so far of a `Process`."""

    samples: dict[str, Samples] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    nbytes: dict[str, int] = field(default_factory=dict)
    joules: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    told: Mapping[str, Any] | None = None

    def process(self, outputs: str, bracket: Bracket) -> Process:
        return Process(
            self.samples, self.seconds, self.nbytes, outputs, bracket, self.missing, self.told, joules=self.joules
        )

    def wants(self, what: str, job: Job) -> bool:
        """Whether ``job`` asks for it; it is missing else."""
        if not job.wanted(what):
            self.missing[what] = "not asked for"
        return job.wanted(what)

    @contextlib.contextmanager
    def missing_where(self, what: str) -> Iterator[None]:
        """What can't be done inside is missing, with the reason."""
        try:
            yield
        except UnsupportedError as error:
            self.missing[what] = f"{error.capability}: {error.evidence}"
        except RunError as error:
            if not error.detail.get(UNCAPTURABLE):
                raise
            self.missing[what] = f"no graph can be captured: {error.message}"

    def keep_memory(self, what: str, nbytes: int, memory: _DeviceMemory) -> None:
        if nbytes > 0:
            self.nbytes[what] = nbytes
        else:
            self.missing[what] = memory.missing or "less than the steps in which the device's memory is given out"


class _DeviceMemory:
    """What is taken of the device's memory, since this was made, and since it was last looked at; in bytes."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self.missing = backend, ""
        self._first = self._last = self._look()
        self.most = 0  # taken at any look, beyond what was at first

    def more(self) -> int:
        """What came to it since the last look; 0 where it can't be asked."""
        now = self._look()
        grown, self._last = now - self._last, now
        self.most = max(self.most, now - self._first)
        return grown

    def _look(self) -> int:
        if self.missing:
            return 0
        try:
            return self._backend.taken_memory()
        except UnsupportedError as error:
            self.missing = f"{error.capability}: {error.evidence}"
            return 0


def _energy(session: Session, question: Question, monitor: Monitor, window: float, *, graph: bool) -> float:
    """Joules a run: by the GPU's own counter, from before many runs until after them."""
    before = fresh(monitor)
    if before.energy is None:
        raise UnsupportedError("energy", before.missing.get("energy", "nothing reads it"))
    repeated = session.repeat(question.inputs, window, graph=graph)
    after = fresh(monitor)
    if after.energy is None or not after.energy > before.energy:
        raise UnsupportedError("energy", f"the counter stood still for {repeated.seconds:.1f} s of runs")
    return (after.energy - before.energy) / repeated.runs


def _refit(engine: Engine, job: Job, seconds: dict[str, float]) -> None:
    """Replaces weights by themselves."""
    if not engine.info.facts.get("refittable"):
        raise UnsupportedError("refit", "the engine was built without BuilderFlag.REFIT: --build-option flags=REFIT")
    try:
        named, placed = job.weights(engine)
        with _timed(seconds, "refit"):
            engine.refit(named, layers=placed)
    except RefitError as error:
        if error.crash:
            raise
        raise UnsupportedError("refit", error.message) from error


def _none(what: str) -> Any:
    raise UnsupportedError(what, "none was given")


@contextlib.contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[what] = time.perf_counter() - started


def _samples_as_json(samples: Samples) -> dict[str, Any]:
    made = asdict(samples)
    for name in ("seconds", "at", "warmup"):
        made[name] = {metric: np.round(array, DIGITS + 3).tolist() for metric, array in made[name].items()}
    return made


def _samples(made: Mapping[str, Any]) -> Samples:
    arrays = {
        name: {metric: np.asarray(values, np.float64) for metric, values in made[name].items()}
        for name in ("seconds", "at", "warmup")
    }
    return Samples(**{**made, **arrays, "stopped": Stop(made["stopped"])})


def _reading(made: Mapping[str, Any]) -> Reading:
    listed = {name: tuple(made[name]) for name in ("held_back", "processes") if made[name] is not None}
    return Reading(**{**made, **listed})
