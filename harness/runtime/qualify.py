"""What a model is asked, and what it must answer: the steps that every user of an engine takes alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.errors import SpecError
from harness.judge.inputs import binding_of, check_arrays, make_inputs, read_arrays
from harness.judge.oracle import Oracle, Reference
from harness.runtime.backend.protocol import Array, EngineInfo, IOTensor
from harness.spec.model import ModelSpec, admit
from harness.spec.onnx_model import Interface
from harness.spec.profile import GIVEN, Point, Profile, Values, places
from harness.spec.tensor import Dim, TensorSpec


@dataclass(frozen=True, eq=False)
class Question:
    """Inputs at one place of one profile. ``reference`` makes what they must give, when it is called."""

    place: str  # "min", "opt", "max"; of the second profile "opt_p1"; or `GIVEN`
    profile: int
    binding: Mapping[str, int]
    inputs: Mapping[str, Array]
    reference: Callable[[], Reference]


def questions(
    model: ModelSpec, interface: Interface, points: Sequence[Point], seed: int, oracle: Oracle
) -> Iterator[Question]:
    """What ``model`` is to be judged by: its golden outputs, its own inputs, or generated ones at ``points``.

    A profile whose points are all one is asked once, at opt. SpecError when a profile or the user's
    arrays do not fit the model.
    """
    # A plan has the profiles that it was built with; what the model says of them is nothing to go by.
    fixed = model.source.kind == "plan"
    profiles = list(model.profiles) if fixed else [admit(model.id, profile, interface) for profile in model.profiles]
    if model.golden is not None:
        inputs, reference = oracle.golden(model)
        number, binding = _profile_of(model, interface, profiles, inputs)
        yield Question(GIVEN, number, binding, inputs, lambda: reference)
        return
    if model.data is not None:
        data = read_arrays(model.data)
        number, binding = _profile_of(model, interface, profiles, data)
        check_arrays(model.id, model.data, interface.inputs, data, binding)
        yield Question(GIVEN, number, binding, data, lambda: oracle.reference(model, data))
        return
    for place, number, point in places(profiles, points):
        binding = profiles[number].binding(point)
        inputs = make_inputs(model, interface, binding, profiles[number].contents(point), seed)
        yield Question(place, number, binding, inputs, lambda inputs=inputs: oracle.reference(model, inputs))  # type: ignore[misc]


def interface_of(info: EngineInfo) -> Interface:
    """What an engine takes and gives, for a model that has no file to say so."""
    return Interface(tuple(map(_tensor, info.inputs)), tuple(map(_tensor, info.outputs)))


def profiles_of(info: EngineInfo) -> tuple[Profile, ...]:
    """The profiles that an engine tells of, for a model that has no file to say so; dimensions as in `interface_of`."""
    return tuple(_profile(info.inputs, told) for told in info.facts.get("profile_shapes") or ())


def _profile(inputs: Sequence[IOTensor], told: Mapping[str, Sequence[Sequence[int]]]) -> Profile:
    ranges: dict[str, tuple[int, int, int]] = {}
    values: dict[str, Values] = {}
    for tensor in inputs:
        low, opt, high = (tuple(ends) for ends in told[tensor.name])
        if tensor.shape_tensor:
            values[tensor.name] = Values(low, opt, high)
            continue
        for axis, size in enumerate(tensor.shape):
            if size < 0:
                ranges[f"{tensor.name}:{axis}"] = (low[axis], opt[axis], high[axis])
    return Profile.of(ranges, values)


def _tensor(tensor: IOTensor) -> TensorSpec:
    shape: list[Dim] = [size if size >= 0 else f"{tensor.name}:{axis}" for axis, size in enumerate(tensor.shape)]
    return TensorSpec(tensor.name, tensor.dtype, tuple(shape))


def _profile_of(
    model: ModelSpec, interface: Interface, profiles: Sequence[Profile], inputs: Mapping[str, Array]
) -> tuple[int, dict[str, int]]:
    """The first profile that admits the shapes of ``inputs``, and those sizes by symbol."""
    binding = binding_of(interface, inputs)
    for number, profile in enumerate(profiles):
        if profile.admits(binding):
            return number, binding
    if missing := [tensor.name for tensor in interface.inputs if tensor.name not in inputs]:
        raise SpecError(
            f"{model.id}: the given inputs lack {', '.join(map(repr, missing))}; they are "
            f"{', '.join(map(repr, inputs)) or 'none'}: save with numpy.savez(path, {missing[0]}=array, ...)"
        )
    asked = ", ".join(f"{symbol} {size}" for symbol, size in sorted(binding.items()))
    known = " | ".join(map(str, profiles))
    raise SpecError(
        f"{model.id}: the given inputs have {asked or 'fixed sizes'}, which no profile admits ({known}): "
        "widen the profile, or give other inputs"
    )
