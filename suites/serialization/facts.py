"""What an engine says of itself, held against what was asked of its builder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Handle, Interface
    from harness.runtime.backend.protocol import BuildRequest, EngineInfo, IOTensor

REFITS = frozenset({"REFIT", "REFIT_IDENTICAL", "REFIT_INDIVIDUAL"})
# Facts that a TensorRT tells, each version of it; another backend may have none of them.
ALWAYS = ("layers", "refittable", "device_memory", "aux_streams", "hardware_compatibility", "profiling_verbosity")


@pytest.fixture
def consistent(trt_interface: Interface, trt_backend: str, trt_record: dict[str, Any]) -> Callable[[Handle], None]:
    """Requires an engine to say nothing of itself that was not asked for."""

    def require(engine: Handle) -> None:
        from harness.judge.compare import NARROWER
        from harness.runtime.request import resolve

        tensorrt = trt_backend in ("tensorrt", "tensorrt_rtx")
        narrower = NARROWER.get(trt_backend, {})
        found = contradictions(engine.info, resolve(engine.spec), trt_interface, narrower, tells=tensorrt)
        trt_record["engine"] = {name: fact for name, fact in engine.info.facts.items() if name != "profile_shapes"}
        if found:
            pytest.fail("\n".join(found), pytrace=False)

    return require


def contradictions(
    info: EngineInfo, request: BuildRequest, interface: Interface, narrower: Mapping[str, str], *, tells: bool
) -> list[str]:
    """What ``info`` says otherwise than ``request`` and the model's ``interface`` have it, in words.

    ``narrower`` gives, by the model's type, the type that the backend may bind instead; ``tells``: it is a
    TensorRT, and tells `ALWAYS`.
    """
    found = [*_tensors(info, request, interface, narrower), *_options(info, request)]
    if info.profiles != max(1, len(request.profiles)):
        found.append(f"{info.profiles} profiles, asked for {len(request.profiles)}")
    if tells:
        found += [f"{name} is not told" for name in ALWAYS if name not in info.facts]
    return found


def _tensors(
    info: EngineInfo, request: BuildRequest, interface: Interface, narrower: Mapping[str, str]
) -> Iterator[str]:
    from harness.runtime.backend.protocol import asked_name

    names = {tensor.name for tensor in interface.inputs}
    bound = {("input", asked_name(tensor.name, names)): tensor for tensor in info.inputs}
    bound |= {("output", tensor.name): tensor for tensor in info.outputs}
    declared = {("input", tensor.name): tensor for tensor in interface.inputs}
    declared |= {("output", tensor.name): tensor for tensor in interface.outputs}
    for mode, name in declared.keys() - bound.keys():
        yield f"{mode} {name!r} is missing"
    for mode, name in bound.keys() - declared.keys():
        yield f"{mode} {name!r} is none of the model's"
    deciding = {name for contents in request.contents for name in contents}
    for key in declared.keys() & bound.keys():
        what, tensor, wanted = " ".join(map(repr, key)), bound[key], declared[key]
        if tensor.dtype not in (wanted.dtype, narrower.get(wanted.dtype)):
            yield f"{what} is {tensor.dtype}, the model's is {wanted.dtype}"
        if not _fits(tensor, wanted.shape):
            yield f"{what} is {list(tensor.shape)}, the model's is {list(wanted.shape)}"
        if tensor.format not in ("", "LINEAR"):
            yield f"{what} lies in memory as {tensor.format}, and LINEAR was asked for"
        if key[0] == "input" and tensor.shape_tensor != (key[1] in deciding):
            yield f"{what} lies {'on the host' if tensor.shape_tensor else 'on the device'}, and should not"


def _fits(tensor: IOTensor, declared: tuple[int | str, ...]) -> bool:
    """Sizes that the model fixes are fixed, where the engine can know them, and an input's symbols are open."""
    if len(tensor.shape) != len(declared):
        return False
    for size, wanted in zip(tensor.shape, declared, strict=True):
        if isinstance(wanted, int):
            if size != wanted and (tensor.mode == "input" or size >= 0):
                return False
        elif tensor.mode == "input" and size >= 0:
            return False
    return True


def _options(info: EngineInfo, request: BuildRequest) -> Iterator[str]:
    facts, config = info.facts, request.config
    flags = set(config.flags)
    wanted: dict[str, object] = {
        "hardware_compatibility": config.hardware_compatibility or "NONE",
        "profiling_verbosity": config.profiling_verbosity or "LAYER_NAMES_ONLY",
    }
    if "STRIP_PLAN" not in flags:  # which may make the engine refittable by itself
        wanted["refittable"] = bool(flags & REFITS) or bool(config.refittable)
    for name, value in wanted.items():
        if name in facts and facts[name] != value:
            yield f"{name} is {facts[name]}, asked for {value}"
    for name, least in (("layers", 1), ("device_memory", 0), ("aux_streams", 0), ("streamable_weights", 0)):
        if name in facts and not (isinstance(facts[name], int) and facts[name] >= least):
            yield f"{name} is {facts[name]!r}, no number from {least} on"
    if config.aux_streams is not None and facts.get("aux_streams", 0) > config.aux_streams:
        yield f"aux_streams is {facts['aux_streams']}, asked for {config.aux_streams} at most"
    if "WEIGHT_STREAMING" not in flags and facts.get("streamable_weights", 0):
        yield f"streamable_weights is {facts['streamable_weights']}, and WEIGHT_STREAMING was not asked for"
