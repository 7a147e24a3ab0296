"""A stateful model of a runtime: Hypothesis draws sequences of steps, whatever the backend can do of them.

What the steps are and what must hold after each stands in `harness.strategies.sequence`.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from hypothesis.strategies import DrawFn

from harness.errors import SpecError, StageError, UnsupportedError
from harness.judge.oracle import Oracle
from harness.runtime.backend.protocol import Array, Backend
from harness.runtime.capability import Probe
from harness.spec.canonical import digest
from harness.spec.example import Example
from harness.spec.model import ModelSpec
from harness.spec.precision import Recipe
from harness.strategies.effort import Effort, settings_of
from harness.strategies.sequence import Course, Kind, Step, followed
from harness.strategies.shapes import seeds
from harness.strategies.shorten import shortened
from harness.strategies.subject import SEEDS, Subject, missing

ANY_SEED = seeds()
CONTEXTS = 2  # that may be open at a time
PATIENCE = 60.0  # seconds in which a shorter sequence is looked for; a crash or a hang takes its share of them
LENGTH: dict[Effort, tuple[int, int]] = {"dev": (8, 10), "ci": (20, 12), "nightly": (200, 25)}  # sequences, draws

WEIGHTS: Mapping[Kind, int] = {  # how often each is drawn, against the others that are possible
    "open": 2,
    "set shape": 3,
    "switch": 2,
    "write": 2,
    "run": 1,
    "run by graph": 2,
    "refit": 2,
    "reload": 1,
    "drop": 1,
    "move": 1,
}
CHANGES = ("open", "set shape", "switch", "write", "refit", "move")  # what only a run shows: one may come with it
ABILITIES: Mapping[Kind, str] = {  # of `missing`, that a step takes
    "switch": "switch",
    "run by graph": "graph",
    "refit": "refit",
    "reload": "serialize",
    "move": "move",
}


@dataclass(frozen=True)
class SequenceFailure:
    """The shortest sequence found that ends wrong, and how it does."""

    steps: tuple[str, ...]
    error: Exception
    flaky: bool = False  # the same steps did not fail again

    def __str__(self) -> str:
        """The steps, numbered, then the error."""
        again = " (not again, when they were repeated)" if self.flaky else ""
        crash = self.error.crash if isinstance(self.error, StageError) else None
        steps = [f"  {number}. {step}" for number, step in enumerate(self.steps, 1)]
        head = f"{crash or type(self.error).__name__} after these steps on an engine newly loaded{again}:"
        return "\n".join([head, *steps, str(self.error)])


@dataclass(frozen=True)
class Walk:
    """What was tried: sequences, steps by kind, what was left out and why; what was found, and seconds by stage."""

    sequences: int
    steps: Mapping[str, int]
    off: Mapping[str, str]
    failure: SequenceFailure | None
    seconds: Mapping[str, float]


def run_machine(
    backend: Backend,
    probe: Probe,
    plan: Array,
    model: ModelSpec,
    *,
    precision: Recipe,
    oracle: Oracle,
    effort: Effort = "ci",
    database: Path | None = None,
    seed: int | None = None,
    plugins: tuple[str, ...] = (),
) -> Walk:
    """Drive ``plan`` on ``backend`` through random sequences of steps, each on an engine loaded anew.

    No engine is built: what a refit changed goes with the engine that it changed. Steps that the backend,
    the plan or the model does not allow are left out, and named in `Walk.off`. ``effort`` is "dev", "ci"
    (the same sequences every time, unless ``seed`` says otherwise) or "nightly" (random; what failed is kept
    in ``database``, a folder). UnsupportedError when nothing can be run, or there is no oracle.
    """
    if model.data is not None or model.source.kind != "onnx":
        why = "its inputs are given, in one shape" if model.data is not None else f"it is a {model.source.kind}"
        raise UnsupportedError(f"sequences of shapes of {model.id}", why, "an ONNX model with profiles")
    subject = Subject(backend, probe, plan, model, precision, oracle, plugins)
    journal = _Journal(missing(subject))

    def machine() -> RuntimeMachine:
        return RuntimeMachine(subject, journal)

    seeded: Any = machine if seed is None else hypothesis.seed(seed)(machine)
    folder = database and database / f"sequences-{digest([model.id, precision.name, backend.name])[:16]}"
    chosen = settings_of(effort, database=folder)
    sequences, length = LENGTH[effort]
    phases = (Phase.reuse, Phase.generate)  # `shortened` takes the place of shrinking
    settings = hypothesis.settings(chosen, max_examples=sequences, stateful_step_count=length, phases=phases)
    failure = None
    try:
        with subject.watch.of("drawing"):
            run_state_machine_as_test(seeded, settings=settings)
    except Exception as error:  # what a step raised, or Hypothesis where that did not come again
        if journal.failed is None or not (error is journal.failed[1] or isinstance(error, FlakyFailure)):
            raise  # none of a step
        failure = _shortest(subject, journal.off, *journal.failed)
    return Walk(journal.sequences, dict(journal.steps), journal.off, failure, dict(subject.watch.seconds))


def _shortest(subject: Subject, off: Mapping[str, str], steps: tuple[Step, ...], error: Exception) -> SequenceFailure:
    """The failing sequence brought to its shortest; as it is where it does not fail again."""
    seen: dict[tuple[Step, ...], Exception] = {}
    deadline = time.monotonic() + PATIENCE

    def fails(tried: tuple[Step, ...]) -> bool:
        found = followed(subject, off, tried) if time.monotonic() < deadline else None
        if found is None or type(found) is not type(error):
            return False
        seen[tried] = found
        return True

    if not fails(steps):
        return SequenceFailure(tuple(map(str, steps)), error, flaky=True)
    best = shortened(steps, fails, subject.profiles, subject.model.relations)
    return SequenceFailure(tuple(map(str, best)), seen[best])


@dataclass(eq=False)
class _Journal:
    """What the sequences of one search leave behind."""

    off: Mapping[str, str]
    sequences: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    failed: tuple[tuple[Step, ...], Exception] | None = None  # the last one


@functools.cache
def _among(choices: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    """One of ``choices``. Kept, since making a strategy takes ten times as long as drawing from it."""
    return st.sampled_from(choices)


@st.composite
def _begun(draw: DrawFn) -> tuple[Step, ...]:
    machine: RuntimeMachine = draw(st.runner())
    return Step("open", 0, draw(machine.subject.anywhere)), *machine.runs(draw, 0)


@st.composite
def _next(draw: DrawFn) -> tuple[Step, ...]:
    machine: RuntimeMachine = draw(st.runner())
    step = machine.next(draw)
    return step, *(machine.runs(draw, step.context) if step.kind in CHANGES else ())


class RuntimeMachine(RuleBasedStateMachine):
    """One sequence: a context is opened, then steps are drawn by `WEIGHTS` from those that make sense.

    They are one rule and not a rule each, since Hypothesis leaves some rules out of whole sequences: with few
    sequences that misses one planted fault in ten, and these weights none.
    """

    def __init__(self, subject: Subject, journal: _Journal) -> None:
        super().__init__()
        self.subject: Subject = subject
        self.journal: _Journal = journal
        self._broken = False
        journal.sequences += 1
        self.course: Course = Course(subject, journal.off)

    @initialize(steps=_begun())
    def begin(self, steps: tuple[Step, ...]) -> None:
        self._take(steps)

    @rule(steps=_next())
    def go_on(self, steps: tuple[Step, ...]) -> None:
        self._take(steps)

    def teardown(self) -> None:
        """Close all; then everything has to be as it was before."""
        if self._broken:  # that is what is told, and not what comes of it
            self.course.abandon()
        else:
            self._take((Step("close everything"),))

    # What may be drawn --------------------------------------------------------------------------

    def next(self, draw: DrawFn) -> Step:
        """A step that is possible now."""
        contexts = self.course.contexts

        def possible(kind: Kind) -> bool:
            if ABILITIES.get(kind) in self.journal.off:
                return False
            return len(contexts) < CONTEXTS if kind == "open" else bool(contexts) or kind == "reload"

        kinds = filter(possible, WEIGHTS)
        kind: Kind = draw(_among(tuple(kind for kind in kinds for _ in range(WEIGHTS[kind]))))
        if kind == "reload":
            return Step(kind)
        if kind == "open":
            free = next(number for number in range(CONTEXTS) if number not in contexts)
            return Step(kind, free, draw(self.subject.anywhere))
        number = draw(_among(tuple(sorted(contexts))))
        profile = contexts[number].example.profile
        if kind == "set shape":
            return Step(kind, number, draw(self.subject.examples[profile]))
        if kind == "switch":
            others = tuple(other for other in range(len(self.subject.examples)) if other != profile)
            return Step(kind, number, draw(self.subject.examples[draw(_among(others))]))
        if kind == "write":
            return Step(kind, number, Example(seed=draw(ANY_SEED)))
        if kind == "refit":
            return Step(kind, number, seed=draw(_among(SEEDS)))
        if kind == "move":
            tensors = self.course.engine.info.tensors
            return Step(kind, number, tensor=draw(_among(tuple(tensor.name for tensor in tensors))))
        return Step(kind, number)

    def runs(self, draw: DrawFn, context: int) -> tuple[Step, ...]:
        """The runs of a context that follow a change of it at once: none, or one."""
        graphs = () if "graph" in self.journal.off else ("run by graph",) * 2
        kind: Kind | None = draw(_among((None, "run", *graphs)))
        return () if kind is None else (Step(kind, context),)

    def _take(self, steps: tuple[Step, ...]) -> None:
        """Take ``steps`` one after the other; what goes wrong is what is looked for."""
        for step in steps:
            try:
                self.course.take(step)
            except SpecError:
                self._broken = True
                raise
            except Exception as error:  # kept with the steps that led to it, and raised on
                self._broken = True
                self.journal.failed = (tuple(self.course.steps), error)
                raise
            self.journal.steps[step.kind] += 1
