"""What a context and an engine say of shapes is so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from suites.shapes.which import dynamic

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Example, Explore, Handle, InputsAt, Sessions
    from harness.spec import EngineSpec

# The precision changes no shape.
pytestmark = pytest.mark.trt(models=dynamic, precisions="fp32", over=("model", "precision", "backend"))


def test_inferred_shapes(trt_explore: Explore, trt_sessions: Sessions, trt_inputs_at: InputsAt) -> None:
    """The outputs' shapes, asked for without a run, are those that come out; -1 where only the data decide."""

    def check(example: Example) -> None:
        session, inputs = trt_sessions(example.profile), trt_inputs_at(example)
        told = session.infer(inputs)
        came = {name: array.shape for name, array in session.run(inputs).items()}
        assert told.keys() == came.keys()
        wrong = {name: (told[name], came[name]) for name in came if not agree(told[name], came[name])}
        assert not wrong, "\n".join(f"{name}: told {list(t)}, came {list(c)}" for name, (t, c) in wrong.items())

    trt_explore(check)


def test_reported_profiles(trt_engine: Handle, trt_spec: EngineSpec) -> None:
    """The engine's profiles are those that were asked for, shape by shape.

    Of a shape tensor it is the contents; what an engine takes for data, whatever the model's profiles give values
    for, has shapes as any other input. What it does not tell of is left out: 8.6 keeps contents to itself.
    """
    from harness.runtime.backend.protocol import asked_name
    from harness.runtime.request import resolve

    request = resolve(trt_spec)
    told = trt_engine.info.facts["profile_shapes"]
    assert len(told) == trt_engine.info.profiles == len(request.profiles)
    for number, reported in enumerate(told):
        shapes, contents = request.profiles[number], request.contents[number]
        asked = {}
        for tensor in trt_engine.info.inputs:
            if tensor.name in reported:
                ranges = (contents if tensor.shape_tensor else shapes)[asked_name(tensor.name, shapes)]
                asked[tensor.name] = [list(ranges.min), list(ranges.opt), list(ranges.max)]
        assert {name: [list(shape) for shape in three] for name, three in reported.items()} == asked
        dynamic_inputs = {tensor.name for tensor in trt_engine.info.inputs if -1 in tensor.shape}
        assert dynamic_inputs <= reported.keys()


def agree(told: tuple[int, ...], came: tuple[int, ...]) -> bool:
    return len(told) == len(came) and all(size in (-1, real) for size, real in zip(told, came, strict=True))
