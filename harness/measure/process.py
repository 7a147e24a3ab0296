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

from harness.errors import RunError, UnsupportedError
from harness.judge.oracle import digest_arrays
from harness.measure.conditions import Bracket
from harness.runtime.backend.hosted import HostedBackend
from harness.runtime.backend.protocol import UNCAPTURABLE, Backend, EngineInfo, Session
from harness.runtime.qualify import Question
from harness.runtime.sampling import Samples, Sampling, Stop
from harness.runtime.telemetry import Monitor, Reading

Array = npt.NDArray[Any]
GRAPH, PLAIN, STREAMS = "graph", "plain", "streams"  # ways to run that are measured
DIGITS = 9  # of a number of seconds that is written: finer than any clock


@dataclass(frozen=True)
class Process:
    """What one process gave.

    ``samples`` are by the way to run (`GRAPH`, `PLAIN`, `STREAMS`), ``seconds`` of what takes place once:
    "deserialize", "context", "first run". ``nbytes`` has "device memory" of a context, as the engine tells, and
    "host memory", the peak of the process. ``missing`` says why a way to run or a number is not there.
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

    The question is asked for once the engine is loaded: a plan is the only one to say what it takes.
    """

    plan: Path
    question: Callable[[EngineInfo], Question]
    ways: Mapping[str, Sampling]
    plugins: tuple[str, ...] = ()
    host_code: bool = False
    inspected: bool = False


def measured(backend: Backend, job: Job, monitor: Monitor) -> tuple[Process, dict[str, Array]]:
    """What ``backend``, made for this and closed by it, gives, and the outputs of its first run. StageError."""
    seconds: dict[str, float] = {}
    nbytes: dict[str, int] = {}
    missing: dict[str, str] = {}
    samples: dict[str, Samples] = {}
    told = None
    before = monitor.read()
    with contextlib.ExitStack() as closing:
        closing.callback(backend.close)
        engine = backend.load(job.plan, job.plugins, host_code=job.host_code)
        closing.callback(engine.close)
        seconds.update(engine.info.seconds)
        question = job.question(engine.info)
        with _timed(seconds, "context"):
            session = engine.session(question.profile)
        closing.callback(session.close)
        with _timed(seconds, "first run"):
            outputs = session.run(question.inputs)
        for way, sampling in job.ways.items():
            found = _sampled(session, question, sampling)
            if isinstance(found, Samples):
                samples[way] = found
            else:
                missing[way] = found
        after = monitor.read()
        device = engine.info.facts.get("device_memory")
        if device:
            nbytes["device memory"] = int(device)
        if isinstance(backend, HostedBackend):
            nbytes["host memory"] = backend.peak_memory()
        else:
            missing["host memory"] = "it ran inside this process"
        if job.inspected:
            try:
                told = engine.inspect()
            except UnsupportedError as error:
                missing["layers"] = str(error)
    made = Process(samples, seconds, nbytes, digest_arrays(outputs), Bracket(before, after), missing, told)
    return made, outputs


def _sampled(session: Session, question: Question, sampling: Sampling) -> Samples | str:
    """Samples, or why there can be none."""
    try:
        return session.measure(question.inputs, sampling)
    except UnsupportedError as error:
        return f"{error.capability}: {error.evidence}"
    except RunError as error:
        if not error.detail.get(UNCAPTURABLE):
            raise
        return f"no graph can be captured: {error.message}"


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
