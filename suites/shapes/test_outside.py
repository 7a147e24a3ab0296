"""What lies outside of a profile, or is not given at all, is refused in words, and does no harm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from suites.shapes.refusals import Refusals, beyond, of_other_rank, resized
from suites.shapes.which import TENSORRT, dynamic

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Handle, InputsAt, Interface, Relation, Sessions
    from harness.spec.space import Space

# A shape or an address is refused before any number counts, so that the precision makes no difference.
pytestmark = pytest.mark.trt(models=dynamic, precisions="fp32", over=("model", "precision", "backend"))


@pytest.fixture
def refusals(
    trt_backend: str,
    trt_sessions: Sessions,
    trt_relation: Relation,
    trt_spaces: tuple[Space, ...],
    trt_inputs_at: InputsAt,
) -> list[Refusals]:
    """One for each profile, at its largest shape. Only TensorRT has a logger: what others say comes as an exception."""
    logged = trt_backend in TENSORRT
    return [
        Refusals(trt_sessions, trt_relation, space.number, trt_inputs_at(space.example(space.greatest() or {})), logged)
        for space in trt_spaces
    ]


def test_outside(
    refusals: list[Refusals],
    trt_engine: Handle,
    trt_spaces: tuple[Space, ...],
    trt_interface: Interface,
    trt_record: dict[str, Any],
) -> None:
    """One below the least and one above the largest, of every dimension and of all that a shape tensor holds.

    An engine may take for data what the model's profiles give values for, as 8.6 does of the number of a loop's
    steps: its own profiles know nothing of them then, and there is nothing to refuse.
    """
    for each in refusals:
        unbound = taken_for_data(trt_spaces[each.profile], trt_engine, each)
        if unbound:
            trt_record["left_out"] = f"contents of {', '.join(unbound)}: no shape tensor of this engine"
        for what, sizes in beyond(trt_spaces[each.profile], unbound):
            each.refused(what, resized(each.valid, trt_interface, sizes))
    told(refusals, trt_record)


def test_malformed(refusals: list[Refusals], trt_engine: Handle, trt_record: dict[str, Any]) -> None:
    """A dimension more, a dimension missing, and a size of -1."""
    for each in refusals:
        for name, shape in dynamic_inputs(trt_engine, each):
            for what, inputs in of_other_rank(each.valid, name):
                each.refused(what, inputs)
            each.refused(f"{name} with a size of -1", each.valid, omit=f"size:{name}:{shape.index(-1)}")
    told(refusals, trt_record)


def test_unset(refusals: list[Refusals], trt_engine: Handle, trt_record: dict[str, Any]) -> None:
    """An input without its shape; any input or output without memory.

    Left out is what needs none from us: shape tensors, which live on the host, and outputs of which only
    the data decide the size, which are allocated.
    """
    for each in refusals:
        for name, _ in dynamic_inputs(trt_engine, each):
            each.refused(f"{name} without its shape", each.valid, omit=f"shape:{name}")
        sizes = each.sessions(each.profile).infer(each.valid)
        for tensor in trt_engine.info.tensors:
            if not tensor.shape_tensor and -1 not in sizes.get(tensor.name, ()):
                each.refused(f"{tensor.name} without memory", each.valid, omit=f"address:{tensor.name}")
    told(refusals, trt_record)


def test_too_small_a_buffer(refusals: list[Refusals], trt_record: dict[str, Any]) -> None:
    """TensorRT is told an address and can't see what is behind it: our own session refuses.

    Before anything is launched, or, where only the data decide how much is needed, in the run, which may have
    written its other outputs by then.
    """
    for each in refusals:
        sizes = each.sessions(each.profile).infer(each.valid)
        for name, array in each.want.items():
            if array.nbytes:
                each.sessions(each.profile).limit(name, array.nbytes - 1)
                late = -1 in sizes.get(name, ())
                each.refused(f"{name} with a byte too few", each.valid, ours=True, lift=name, late=late)
    told(refusals, trt_record)


def dynamic_inputs(engine: Handle, each: Refusals) -> list[tuple[str, tuple[int, ...]]]:
    """Those whose shape has to be told, as the caller names them."""
    from harness.runtime.backend.protocol import asked_name

    found = [tensor for tensor in engine.info.inputs if -1 in tensor.shape and not tensor.shape_tensor]
    return [(asked_name(tensor.name, each.valid), tensor.shape) for tensor in found]


def taken_for_data(space: Space, engine: Handle, each: Refusals) -> list[str]:
    """Inputs that the profile gives values for and the engine takes for no shape tensors, as the caller names them."""
    from harness.runtime.backend.protocol import asked_name

    deciding = {asked_name(tensor.name, each.valid) for tensor in engine.info.inputs if tensor.shape_tensor}
    return [name for name, _ in space.profile.values if name not in deciding]


def told(refusals: list[Refusals], record: dict[str, Any]) -> None:
    """The test fails with all that is wrong."""
    record["refusals"] = sum(each.asked for each in refusals)
    problems = [f"profile {each.profile}: {problem}" for each in refusals for problem in each.problems]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
    assert record["refusals"], "nothing was asked for"
