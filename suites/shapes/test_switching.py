"""One context that goes from shape to shape, and from profile to profile, is as good as a new one for each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from harness.errors import RunError
from suites.shapes.which import dynamic, switching

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Arrays, Example, Explore, Handle, InputsAt, Relation, Sessions, Watched
    from harness.spec.space import Space


@pytest.mark.trt(models=dynamic, over=("model", "precision", "backend"))
def test_sequence_of_shapes(
    trt_explore: Explore,
    trt_engine: Handle,
    trt_sessions: Sessions,
    trt_spaces: tuple[Space, ...],
    trt_inputs_at: InputsAt,
    trt_relation: Relation,
) -> None:
    """The session is the same from the first example to the last; every answer is that of a new one."""

    def check(example: Example) -> None:
        session, inputs = trt_sessions(example.profile), trt_inputs_at(example)
        want = fresh(trt_engine, example, inputs)
        for smaller in smaller_ones(trt_spaces[example.profile], example):
            session.run(trt_inputs_at(smaller))
            trt_relation.require_same_bits(session.run(inputs), want, "a new session", inputs)

    trt_explore(check)


@pytest.mark.trt(models=switching, over=("model", "precision", "backend"))
def test_switched_profile(
    trt_explore: Explore,
    trt_engine: Handle,
    trt_sessions: Sessions,
    trt_spaces: tuple[Space, ...],
    trt_inputs_at: InputsAt,
    trt_relation: Relation,
) -> None:
    """Through every other profile to the example's; without its shape told again, nothing runs in it."""

    from harness.runtime.backend.protocol import asked_name

    def check(example: Example) -> None:
        session, inputs = trt_sessions(), trt_inputs_at(example)
        want = fresh(trt_engine, example, inputs)
        for space in trt_spaces:
            if space.number != example.profile:
                session.switch(space.number)
                session.run(trt_inputs_at(space.example(space.least() or {}, example.seed)))
        for tensor in trt_engine.info.inputs:
            if -1 in tensor.shape:
                session.switch(example.profile)
                refused(session, inputs, asked_name(tensor.name, inputs))
        trt_relation.require_same_bits(session.run(inputs), want, "a new session", inputs)

    trt_explore(check)


def refused(session: Watched, inputs: Arrays, name: str) -> None:
    """A run that is not told the shape of ``name`` again is none, and goes on with no other shape."""
    try:
        outputs = session.run(inputs, omit=f"shape:{name}")
    except RunError as error:
        if error.crash is None:
            return
        raise
    came = ", ".join(f"{output} {list(array.shape)}" for output, array in outputs.items())
    pytest.fail(f"{name} was not told a shape since the switch, and it ran: {came}", pytrace=False)


def smaller_ones(space: Space, example: Example) -> Iterator[Example]:
    """The least shape, and one anywhere between that and ``example``, with data of their own.

    None is larger, so that what fails does so at the size that it is told for.
    """
    least, sizes, draw = space.least() or {}, space.sizes_of(example), random.Random(example.seed)
    yield space.example(least, example.seed + 1)
    between = {name: draw.randint(min(least[name], size), size) for name, size in sizes.items()}
    if space.admits(between):  # relations may forbid it
        yield space.example(between, example.seed + 2)


def fresh(engine: Handle, example: Example, inputs: Arrays) -> Arrays:
    """What a session gives that has done nothing before."""
    session = engine.session(example.profile)
    try:
        return session.run(inputs)
    finally:
        session.close()
