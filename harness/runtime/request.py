"""From what is asked to what a backend is handed: names and numbers only."""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import SpecError
from harness.runtime.backend.protocol import BuildRequest, Shape, ShapeRange
from harness.spec.engine import EngineSpec
from harness.spec.model import ModelSpec, admit, check_range
from harness.spec.onnx_model import Interface, interface
from harness.spec.profile import Point, Profile, Range
from harness.spec.source import NetworkFunction

AS_DECLARED = -1  # in a shape for a network that a callable builds: the size that the network declares

Shapes = Mapping[str, ShapeRange]


def resolve(spec: EngineSpec) -> BuildRequest:
    """The build that ``spec`` asks for, with the model converted to its precision.

    Every profile gives every input a shape at min, opt and max. A network that a callable builds
    has no inputs yet, so its profiles hold only the inputs that they name, axis by axis up to the
    last one named, with `AS_DECLARED` for those between; what follows is as declared, too.

    SpecError when a profile does not fit the model (see `harness.spec.model.admit`), when the model
    can't be had, or when there is nothing to build because the source is a plan.
    """
    from harness.judge.precision import converted

    model, source = spec.model, spec.model.source
    if isinstance(source, NetworkFunction):
        request = BuildRequest(
            name=model.id,
            recipe=spec.precision,
            config=spec.config,
            profiles=tuple(_partial_shapes(model.name, profile) for profile in spec.profiles),
            contents=tuple(_contents(profile) for profile in spec.profiles),
            network=source.target,
            network_folder="" if source.folder is None else str(source.folder),
        )
    elif source.kind == "onnx":
        declared = interface(source.path())
        request = BuildRequest(
            name=model.id,
            recipe=spec.precision,
            config=spec.config,
            profiles=tuple(_shapes(model, profile, declared) for profile in spec.profiles),
            contents=tuple(_contents(profile) for profile in spec.profiles),
            model=str(converted(model, spec.precision)),
        )
    else:
        raise SpecError(f"{model.name}: its source is a {source.kind}, which is loaded, not built")
    return request


def _contents(profile: Profile) -> Shapes:
    return {name: ShapeRange(values.min, values.opt, values.max) for name, values in profile.values}


def _shapes(model: ModelSpec, profile: Profile, declared: Interface) -> Shapes:
    admitted = admit(model.name, profile, declared)

    def at(point: Point) -> dict[str, Shape]:
        binding = admitted.binding(point)
        return {tensor.name: tensor.resolve(binding) for tensor in declared.inputs}

    shapes = _ranges(at("min"), at("opt"), at("max"))
    for name, values in admitted.values:
        for sizes in (shapes[name].min, shapes[name].opt, shapes[name].max):
            if sizes and sizes[0] != len(values.opt):  # a scalar has no sizes
                raise SpecError(
                    f"{model.name}: shape values of {name!r}: {len(values.opt)} given, where the profile makes it "
                    f"{sizes[0]} long: give the dimension one size, and as many values"
                )
    return shapes


def _partial_shapes(model: str, profile: Profile) -> Shapes:
    for name, values in profile.values:
        if not len(values.min) == len(values.opt) == len(values.max):
            raise SpecError(f"{model}: shape values of {name!r}: min, opt and max differ in length")
    axes: dict[str, dict[int, Range]] = {}
    for key, sizes in profile.ranges:
        check_range(model, key, sizes)
        tensor, _, axis = key.rpartition(":")
        if not tensor or not axis.isdigit():
            raise SpecError(
                f"{model}: dimension {key!r}: a network built by a callable names no dimensions: "
                f"write tensor:axis with an axis from 0, as in x:0"
            )
        axes.setdefault(tensor, {})[int(axis)] = sizes

    def at(point: Point) -> dict[str, Shape]:
        return {
            tensor: tuple(named[axis].at(point) if axis in named else AS_DECLARED for axis in range(max(named) + 1))
            for tensor, named in axes.items()
        }

    return _ranges(at("min"), at("opt"), at("max"))


def _ranges(low: dict[str, Shape], opt: dict[str, Shape], high: dict[str, Shape]) -> Shapes:
    return {name: ShapeRange(low[name], opt[name], high[name]) for name in low}
