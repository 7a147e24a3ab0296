"""What is run in the engine host, beside the real TensorRT."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


def surface(name: str) -> dict[str, Any]:
    """`surface_of` the module called ``name``."""
    return surface_of(importlib.import_module(name))


def surface_of(module: ModuleType) -> dict[str, Any]:
    """Public classes with their public members, and enums with their integers, of a vendor's module."""
    classes: dict[str, Any] = {}
    enums: dict[str, Any] = {}
    for name, thing in vars(module).items():
        if name.startswith("_") or not isinstance(thing, type):
            continue
        if hasattr(thing, "__members__"):
            enums[name] = {member: int(value) for member, value in thing.__members__.items()}
        else:
            # A double's buffer is a bytearray, and hides what that has.
            bases = [base for base in thing.__mro__ if base not in (object, bytearray)]
            classes[name] = sorted({member for base in bases for member in vars(base) if not member.startswith("_")})
    return {"classes": classes, "enums": enums}


def networks(name: str, paths: dict[str, str]) -> dict[str, Any]:
    """`networks_of` a new backend called ``name``."""
    from harness.runtime.backend.nv.backend import NvBackend

    return networks_of(NvBackend(name), paths)


def networks_of(backend: Any, paths: dict[str, str]) -> dict[str, Any]:
    """Inputs and outputs (name, type, shape, whether it decides shapes) of every ONNX file, by name.

    None for a file that the parser refuses.
    """
    trt = backend.dialect.trt
    found: dict[str, Any] = {}
    for label, path in paths.items():
        network = backend.builder.create_network(backend.dialect.network_flags(strongly_typed=False))
        parser = trt.OnnxParser(network, backend.logger)
        if not parser.parse_from_file(path):
            found[label] = None
            continue
        tensors = [network.get_input(i) for i in range(network.num_inputs)]
        tensors += [network.get_output(i) for i in range(network.num_outputs)]
        found[label] = [[t.name, t.dtype.name, list(t.shape), bool(t.is_shape_tensor)] for t in tensors]
    return found
