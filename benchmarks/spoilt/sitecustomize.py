"""Makes a TensorRT that is spoilt in one known way of the one that an interpreter has.

With this folder on the path of an interpreter, and $SPOILT set there:

- ``missing``: it can't be imported;
- ``slow``: behind each enqueue a kernel spins for $SPOILT_CYCLES of the device's cycles: a number, or as JSON one for
  each engine, by the names of its tensors (`signature`);
- ``wrong``: each enqueue is followed by one that overwrites the first four bytes of one output;
- ``faithful``: nothing is spoilt, by the same detour.

Its version ends in $SPOILT_VERSION, so that it counts as another.
"""

from __future__ import annotations

import importlib.abc
import json
import os
import sys
from collections.abc import Callable
from typing import Any

HOW = os.environ.get("SPOILT", "")
VERSION = os.environ.get("SPOILT_VERSION", "")
CYCLES = json.loads(os.environ.get("SPOILT_CYCLES", "0"))
EXTENSIONS = ("tensorrt_bindings.tensorrt", "tensorrt.tensorrt")  # from 8.6 on; the second before
PACKAGES = ("tensorrt", "tensorrt_bindings")
GARBAGE = 0x41  # 12.08 as four bytes of a float


class Spoiler(importlib.abc.MetaPathFinder):
    """Finds what everybody else finds, and spoils it once it is loaded."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if HOW == "missing" and name.partition(".")[0] in ("tensorrt", "tensorrt_bindings"):
            raise ImportError("libnvinfer.so: cannot open shared object file: No such file or directory")
        if name not in (*EXTENSIONS, *PACKAGES):
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec: Any = next(found for found in others if found is not None)
        load = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            load(module)
            if name in EXTENSIONS:
                spoil(module.IExecutionContext)
            if hasattr(module, "__version__") and not module.__version__.endswith(VERSION or "\0"):
                module.__version__ += VERSION

        spec.loader.exec_module = exec_module
        return spec


def spoil(context: Any) -> None:
    """Launch something behind each enqueue of a ``context`` class."""
    enqueue, set_address = context.execute_async_v3, context.set_tensor_address
    outputs: dict[int, int] = {}  # the address of one output, by context
    behind = {"slow": spinning(), "wrong": overwriting(outputs), "faithful": lambda *_: None}[HOW]

    def set_tensor_address(self: Any, name: str, address: int) -> Any:
        if "OUTPUT" in str(self.engine.get_tensor_mode(name)):
            outputs[id(self)] = address
        return set_address(self, name, address)

    def execute_async_v3(self: Any, stream_handle: int) -> Any:
        done = enqueue(self, stream_handle)
        behind(self, stream_handle)
        return done

    context.set_tensor_address, context.execute_async_v3 = set_tensor_address, execute_async_v3


def spinning() -> Callable[[Any, int], None]:
    found: list[Any] = []

    def behind(context: Any, stream: int) -> None:
        from benchmarks.spin import kernel, launch

        if not found:
            found.append(kernel())
        launch(found[0], CYCLES.get(signature(context.engine), 0) if isinstance(CYCLES, dict) else CYCLES, stream)

    return behind


def signature(engine: Any) -> str:
    """The names of what it takes and gives, sorted: what tells engines of different models apart."""
    return ",".join(sorted(engine.get_tensor_name(number) for number in range(engine.num_io_tensors)))


def overwriting(outputs: dict[int, int]) -> Callable[[Any, int], None]:
    def behind(context: Any, stream: int) -> None:
        from cuda.bindings import runtime

        if id(context) in outputs:
            runtime.cudaMemsetAsync(outputs[id(context)], GARBAGE, 4, stream)

    return behind


if HOW:
    sys.meta_path.insert(0, Spoiler())
