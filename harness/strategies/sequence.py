"""What sessions, engines and backends can be asked one after the other, step by step, and what must hold after each.

Each output has to be the reference's for the weights, shapes and inputs of that moment; nothing lives that was
not opened and is not yet closed; and the runtime's logger holds no error that no call took along.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.errors import SpecError, StageError, UnsupportedError
from harness.runtime.backend.protocol import Engine, Residue, Session
from harness.spec.example import Example
from harness.strategies.subject import ORIGINAL, Subject

Kind = Literal[
    "open", "set shape", "switch", "write", "run", "run by graph", "refit", "reload", "drop", "move", "close everything"
]
SHAPED = ("open", "set shape", "switch")  # their example says shapes
WHOLE = ("refit", "reload", "close everything")  # of no context
BUFFERS = 2  # allocations that a session may hold for a tensor: the one in use, and another


_NONE = Example()


@dataclass(frozen=True)
class Step:
    """One thing that is asked. ``example`` says profile, shapes and inputs; ``seed`` is of weights."""

    kind: Kind
    context: int = 0
    example: Example = _NONE
    seed: int = ORIGINAL
    tensor: str = ""

    def __str__(self) -> str:
        """As in ``set the shape of context 0: profile 0 batch=2 seed=0``."""
        context = f"context {self.context}"
        return {
            "open": f"open {context} on {self.example}",
            "set shape": f"set the shape of {context}: {self.example}",
            "switch": f"switch {context} to {self.example}",
            "write": f"write new inputs into {context}: seed={self.example.seed}",
            "run": f"run {context}",
            "run by graph": f"run {context} by a graph, captured at these shapes or replayed",
            "refit": f"refit to {weights_of(self.seed)}",
            "reload": "serialize, close everything, load what was written, open as before",
            "drop": f"drop {context}",
            "move": f"give {self.tensor!r} of {context} another address",
            "close everything": "close everything",
        }[self.kind]


def weights_of(seed: int) -> str:
    """In words."""
    return "the first weights" if seed == ORIGINAL else f"weights of seed {seed}"


def applicable(steps: Sequence[Step]) -> bool:
    """Whether every step makes sense where it stands: on an open context, or on none yet, and on its profile."""
    profiles: dict[int, int] = {}  # of the contexts that are open
    for step in steps:
        number, profile = step.context, step.example.profile
        if step.kind == "open":
            fits = number not in profiles
        elif step.kind == "switch":
            fits = profiles.get(number, profile) != profile
        elif step.kind == "set shape":
            fits = profiles.get(number) == profile
        else:
            fits = step.kind in WHOLE or number in profiles
        if not fits:
            return False
        if step.kind in SHAPED:
            profiles[number] = profile
        elif step.kind == "drop":
            del profiles[number]
    return True


@dataclass(eq=False)
class _Context:
    """A session, and what it is to run next."""

    session: Session
    example: Example


class Course:
    """A sequence under way, on an engine loaded for it alone. ``off`` has the abilities that are missing."""

    def __init__(self, subject: Subject, off: Container[str] = ()) -> None:
        self.subject, self._off = subject, off
        self.contexts: dict[int, _Context] = {}
        self.steps: list[Step] = []  # that were taken, the last one perhaps in vain
        self._weights = ORIGINAL
        self._before = subject.backend.residue()
        self._engine: Engine | None = subject.load()
        self._tensors = len(self._engine.info.tensors)

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("everything is closed: a course ends there")
        return self._engine

    def take(self, step: Step) -> None:
        """Take a step that is `applicable`, and see that all is well: whatever this raises is what is wrong.

        What turns out impossible here, such as a graph at these shapes, is no step.
        """
        self.steps.append(step)
        try:
            with self.subject.watch.of("run"):
                self._taken[step.kind](self, step)
        except UnsupportedError:
            self.steps.pop()
        with self.subject.watch.of("compare"):
            self._nothing_else_lives(self.subject.backend.residue())

    def abandon(self) -> None:
        """Close all, whatever became of it."""
        with contextlib.suppress(StageError):
            self._close()

    # Steps --------------------------------------------------------------------------------------

    def _open(self, step: Step) -> None:
        self.contexts[step.context] = _Context(self.engine.session(step.example.profile), step.example)

    def _set_shape(self, step: Step) -> None:
        """The shapes that the session foretells have to be those of the reference's outputs."""
        context = self.contexts[step.context]
        context.example = step.example
        if "infer" in self._off:
            return
        reference = self.subject.reference(context.example, self._weights)
        for name, shape in context.session.infer(self.subject.inputs(context.example)).items():
            want = reference.outputs[name].shape
            if len(shape) != len(want) or any(size not in (-1, real) for size, real in zip(shape, want, strict=True)):
                where = f"{self.subject}, context {step.context} at {context.example}"
                raise AssertionError(f"{where}: output {name!r} is inferred as {list(shape)}, expected {list(want)}")

    def _switch(self, step: Step) -> None:
        context = self.contexts[step.context]
        context.session.switch(step.example.profile)
        context.example = step.example

    def _write(self, step: Step) -> None:
        context = self.contexts[step.context]
        context.example = dataclasses.replace(context.example, seed=step.example.seed)

    def _run(self, step: Step) -> None:
        context = self.contexts[step.context]
        got = context.session.run(self.subject.inputs(context.example), graph=step.kind == "run by graph")
        where = f"context {step.context} at {context.example}, {weights_of(self._weights)}"
        self.subject.judge(got, context.example, self._weights, where)

    def _refit(self, step: Step) -> None:
        self.subject.refit(self.engine, step.seed)
        self._weights = step.seed

    def _reload(self, _: Step) -> None:
        plan = self.engine.serialize()
        before = self.contexts.copy()
        self._close()
        self._engine = self.subject.load(plan)
        for number, context in before.items():
            self.contexts[number] = _Context(self.engine.session(context.example.profile), context.example)

    def _drop(self, step: Step) -> None:
        self.contexts.pop(step.context).session.close()

    def _move(self, step: Step) -> None:
        self.contexts[step.context].session.move(step.tensor)

    def _close(self, _: Step | None = None) -> None:
        """Sessions first: TensorRT wants it so."""
        with contextlib.ExitStack() as closing:
            if self._engine is not None:
                closing.callback(self._engine.close)
            for context in self.contexts.values():
                closing.callback(context.session.close)
            self._engine = None
            self.contexts.clear()

    _taken: dict[Kind, Callable[[Course, Step], None]] = {  # noqa: RUF012 - never changed
        "open": _open,
        "set shape": _set_shape,
        "switch": _switch,
        "write": _write,
        "run": _run,
        "run by graph": _run,
        "refit": _refit,
        "reload": _reload,
        "drop": _drop,
        "move": _move,
        "close everything": _close,
    }

    # After each ---------------------------------------------------------------------------------

    def _nothing_else_lives(self, now: Residue) -> None:
        """AssertionError for anything alive that is not open here, and for an error that no call took along."""
        before, engines, sessions = self._before, int(self._engine is not None), len(self.contexts)
        for what, count, least, most in (
            ("engines", now.engines - before.engines, engines, engines),
            ("sessions", now.sessions - before.sessions, sessions, sessions),
            ("buffers", now.buffers - before.buffers, 0, BUFFERS * self._tensors * sessions),
        ):
            if not least <= count <= most:
                expected = f"{least}" if least == most else f"at most {most}"
                raise AssertionError(f"{self.subject}: {count} {what} of this sequence live, expected {expected}")
        if not sessions and now.nbytes > before.nbytes:
            rest = now.nbytes - before.nbytes
            raise AssertionError(f"{self.subject}: {rest} bytes of memory outlive the sessions that held them")
        if now.errors:
            raise AssertionError("\n  ".join([f"{self.subject}: the logger holds errors of no call:", *now.errors]))


def followed(subject: Subject, off: Container[str], steps: Sequence[Step]) -> Exception | None:
    """What goes wrong when ``steps`` are taken on an engine newly loaded; None when nothing does."""
    course = Course(subject, off)
    try:
        for step in steps:
            course.take(step)
    except SpecError:
        raise
    except Exception as error:  # whatever a step raises is what was looked for
        return error
    finally:
        course.abandon()
    return None
