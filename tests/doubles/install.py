"""Putting a double where the vendor's module would be imported from, for as long as a test lasts."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType

import cuda.bindings

from tests.doubles import plays
from tests.doubles.cuda_runtime import Cuda
from tests.doubles.double import Double
from tests.doubles.module import make

# Modules that hold on to the vendor's module or to CUDA from the moment they are imported.
_HOLDERS = ("harness.runtime.device", "harness.runtime.backend.nv")
_NAMES = ("tensorrt", "tensorrt_rtx", "tensorrt_lean", "tensorrt_dispatch")
_IDLE: dict[
    tuple[str, bool], list[Double]
] = {}  # by version and GPU: a double takes .03 s to make, and is the same again
_VENDOR = (*_NAMES, *(f"{name}_bindings" for name in _NAMES), "cuda.bindings.runtime")


@dataclass
class Stage:
    """A double of TensorRT and the double of CUDA that it runs on."""

    trt: Double
    cuda: Cuda

    @property
    def backend(self) -> str:
        return self.trt.name

    @property
    def refusals(self) -> list[str]:
        """Every misuse so far, of either."""
        return [*self.trt.refusals, *self.cuda.refusals]


@contextlib.contextmanager
def installed(version: str, *, gpu: bool = True) -> Iterator[Stage]:
    """The doubles of ``version``, importable by the vendor's names; everything is put back afterwards.

    The harness's own modules that hold the vendor's are imported anew inside, and forgotten again.
    """
    idle = _IDLE.setdefault((version, gpu), [])
    stage = Stage(idle.pop().anew(plays) if idle else make(version, plays, gpu=gpu), Cuda(gpu=gpu))
    stage.trt.world.cuda = stage.cuda
    importlib.import_module("harness.runtime.backend")  # packages stay; only what holds a module goes
    before = {name: sys.modules[name] for name in sys.modules if _holds(name)}
    runtime = cuda.bindings.runtime
    try:
        for name in before:
            del sys.modules[name]
        _attach({})
        # None makes an import fail as if nothing were installed.
        sys.modules.update(dict.fromkeys(_VENDOR))  # type: ignore[arg-type]
        sys.modules[stage.trt.name] = stage.trt.module
        sys.modules["cuda.bindings.runtime"] = cuda.bindings.runtime = stage.cuda.module
        yield stage
    finally:
        for name in [name for name in sys.modules if _holds(name)]:
            del sys.modules[name]
        sys.modules.update(before)
        cuda.bindings.runtime = runtime
        _attach(before)
        idle.append(stage.trt)


def _attach(modules: Mapping[str, ModuleType]) -> None:
    """Let packages have those of ``modules`` that hold the vendor's, and no others: an import takes what they have."""
    for name in _HOLDERS:
        package, _, attribute = name.rpartition(".")
        if package in sys.modules:
            if name in modules:
                setattr(sys.modules[package], attribute, modules[name])
            elif hasattr(sys.modules[package], attribute):
                delattr(sys.modules[package], attribute)


def _holds(name: str) -> bool:
    return name in _VENDOR or any(name == holder or name.startswith(f"{holder}.") for holder in _HOLDERS)
