"""A stateful model of a runtime: Hypothesis draws sequences of steps, whatever the backend can do of them.

What the steps are and what must hold after each stands in `harness.strategies.sequence`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

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


def _drawn(strategy: Callable[[RuntimeMachine], st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Drawn from what the machine is at that moment."""
    return st.runner().flatmap(strategy)


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

    @initialize(example=_drawn(lambda machine: machine.examples()), runs=_drawn(lambda machine: machine.runs()))
    def begin(self, example: Example, runs: tuple[Kind, ...]) -> None:
        self._take(Step("open", 0, example), runs)

    @rule(step=_drawn(lambda machine: machine.next()), runs=_drawn(lambda machine: machine.runs()))
    def go_on(self, step: Step, runs: tuple[Kind, ...]) -> None:
        self._take(step, runs if step.kind in CHANGES else ())

    def teardown(self) -> None:
        """Close all; then everything has to be as it was before."""
        if self._broken:  # that is what is told, and not what comes of it
            self.course.abandon()
        else:
            self._take(Step("close everything"))

    # What may be drawn --------------------------------------------------------------------------

    def next(self) -> st.SearchStrategy[Step]:
        """A step that is possible now."""
        contexts = self.course.contexts

        def possible(kind: Kind) -> bool:
            if ABILITIES.get(kind) in self.journal.off:
                return False
            return len(contexts) < CONTEXTS if kind == "open" else bool(contexts) or kind == "reload"

        kinds = filter(possible, WEIGHTS)
        return st.sampled_from([kind for kind in kinds for _ in range(WEIGHTS[kind])]).flatmap(self._step)

    def examples(self) -> st.SearchStrategy[Example]:
        return st.one_of(self.subject.examples)

    def runs(self) -> st.SearchStrategy[tuple[Kind, ...]]:
        """The runs that follow a change at once: none, or one."""
        graphs: list[tuple[Kind, ...]] = [] if "graph" in self.journal.off else [("run by graph",)] * 2
        return st.sampled_from([(), ("run",), *graphs])

    def _step(self, kind: Kind) -> st.SearchStrategy[Step]:
        contexts = self.course.contexts
        if kind == "reload":
            return st.just(Step(kind))
        if kind == "open":
            free = next(number for number in range(CONTEXTS) if number not in contexts)
            return st.builds(Step, st.just(kind), st.just(free), self.examples())
        if kind in ("set shape", "switch"):
            return st.one_of(
                [
                    st.builds(Step, st.just(kind), st.just(number), examples)
                    for number, context in sorted(contexts.items())
                    for profile, examples in enumerate(self.subject.examples)
                    if (profile == context.example.profile) is (kind == "set shape")
                ]
            )
        tensors = [tensor.name for tensor in self.course.engine.info.tensors]
        more: dict[Kind, dict[str, st.SearchStrategy[Any]]] = {
            "write": {"example": st.builds(Example, seed=seeds())},
            "refit": {"seed": st.sampled_from(SEEDS)},
            "move": {"tensor": st.sampled_from(tensors)},
        }
        return st.builds(Step, st.just(kind), st.sampled_from(sorted(contexts)), **more.get(kind, {}))

    def _take(self, step: Step, runs: tuple[Kind, ...] = ()) -> None:
        """Take a step, and runs of the same context after it; what goes wrong is what is looked for."""
        for each in (step, *(Step(kind, step.context) for kind in runs)):
            try:
                self.course.take(each)
            except SpecError:
                self._broken = True
                raise
            except Exception as error:  # kept with the steps that led to it, and raised on
                self._broken = True
                self.journal.failed = (tuple(self.course.steps), error)
                raise
            self.journal.steps[each.kind] += 1
