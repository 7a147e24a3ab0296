"""Where a model's bytes come from, and how they get to a file that every backend can read.

A source is cheap to make and to compare: nothing is read or built before `Source.path` is asked
for, so that thousands of cells can be collected without touching one model.
"""

from __future__ import annotations

import atexit
import functools
import inspect
import json
import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.errors import SpecError
from harness.spec.canonical import digest, digest_files

if TYPE_CHECKING:
    import onnx

EXPORT_VARIABLE = "TRT_HARNESS_EXPORTS"
EXTERNAL_FROM = 1 << 28  # bytes; a larger model keeps its weights beside itself, as protobuf ends at 2 GiB


class Source(Protocol):
    """What a model is made of."""

    @property
    def kind(self) -> str:
        """ "onnx", "plan" or "network"."""

    def path(self) -> Path:
        """The file, made on the first call. SpecError when it can't be had."""

    def digest(self) -> str:
        """SHA-256 of everything that the file consists of, external data included."""


@dataclass(frozen=True)
class OnnxFile:
    """A model that the user has as a file; external data is found beside it."""

    file: Path
    kind = "onnx"

    def path(self) -> Path:
        if not self.file.is_file():
            raise SpecError(f"{self.file}: no such file")
        return self.file

    def digest(self) -> str:
        from harness.spec.onnx_model import files_of

        return _digest_of(files_of(self.path()))


@dataclass(frozen=True)
class OnnxFunction:
    """A model that a function builds, byte for byte the same every time."""

    name: str  # unique among models and sizes; names the exported file
    build: Callable[[], onnx.ModelProto] = field(repr=False, metadata={"identity": False})
    kind = "onnx"

    def path(self) -> Path:
        return exported(f"{self.name}-{self._producer[:16]}", self.build)

    def digest(self) -> str:
        return self._digest

    @functools.cached_property
    def _producer(self) -> str:
        return producer(self.build)

    @functools.cached_property
    def _digest(self) -> str:
        from harness.spec.onnx_model import files_of

        return _digest_of(files_of(self.path()))


@dataclass(frozen=True)
class PlanFile:
    """A serialized engine that the user trusts: a plan is code."""

    file: Path
    kind = "plan"

    def path(self) -> Path:
        if not self.file.is_file():
            raise SpecError(f"{self.file}: no such file")
        return self.file

    def digest(self) -> str:
        return _digest_of([self.path()])


@dataclass(frozen=True)
class NetworkFunction:
    """A callable, by import path, that the engine host calls to fill a TensorRT network.

    It is called as ``function(network, logger)``; it returns None when it has filled ``network``,
    or the bytes of a plan. It is known by the source of its own module, when that lies in
    ``folder``; a change anywhere else needs a new ``version``.
    """

    target: str  # "package.module:function"
    folder: Path | None = None  # put first on the import path of the host
    version: str = ""  # the user's own mark of a change that the import path does not show
    kind = "network"

    def path(self) -> Path:
        raise SpecError(f"{self.target}: a network built by a callable has no model file")

    def digest(self) -> str:
        module = self.target.partition(":")[0].replace(".", "/")
        folder = self.folder or Path()
        files = [file for file in (folder / f"{module}.py", folder / module / "__init__.py") if file.is_file()]
        return digest({"target": self.target, "version": self.version, "source": digest_files(files)})


SETTLED = 100_000_000  # ns after which a file that changes has another time of modification, on any clock


def _digest_of(files: list[Path]) -> str:
    states = [path.stat() for path in files]
    if any(time.time_ns() - state.st_mtime_ns < SETTLED for state in states):
        return digest_files(files)  # it may change again, and nobody would see it
    return _digest_in_state(tuple(files), tuple((state.st_mtime_ns, state.st_size) for state in states))


@functools.lru_cache(maxsize=1024)
def _digest_in_state(files: tuple[Path, ...], _states: tuple[tuple[int, int], ...]) -> str:
    return digest_files(list(files))


MAKERS = ("numpy", "onnx", "spox")  # distributions whose version may change what a function builds


def producer(build: Callable[..., Any]) -> str:
    """SHA-256 of what stands behind ``build``: a kept export folder must not serve what an older one built.

    That is the source of its module and of those beside it in a package, the same for functions that
    it is bound to, its other arguments as far as they are plain, and the versions of `MAKERS`.
    """
    made: list[str] = [_versions()]
    pending: list[Any] = [build]
    seen: list[Any] = []  # a function may be bound to itself
    while pending:
        part = pending.pop(0)
        if any(part is one for one in seen):
            continue
        seen.append(part)
        if isinstance(part, functools.partial):
            pending += [part.func, *part.args, *(part.keywords[name] for name in sorted(part.keywords))]
        elif callable(part):
            made += [getattr(part, "__qualname__", type(part).__qualname__), _source(part.__module__)]
            pending += inspect.getclosurevars(part).nonlocals.values() if inspect.isfunction(part) else ()
        else:
            made.append(json.dumps(part, sort_keys=True, default=lambda other: type(other).__qualname__))
    return digest(made)


@functools.cache
def _source(module: str | None) -> str:
    """SHA-256 of the files that a module may be made of; without any, nothing that outlives this process."""
    found = sys.modules.get(module or "")
    file = getattr(found, "__file__", None)
    if file is None:
        return uuid.uuid4().hex
    beside = sorted(Path(file).parent.glob("*.py")) if getattr(found, "__package__", "") else [Path(file)]
    return digest_files(beside)


@functools.cache
def _versions() -> str:
    from importlib import metadata

    found = []
    for name in MAKERS:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


@functools.cache
def export_folder() -> Path:
    """Where built models are written: $TRT_HARNESS_EXPORTS, or a folder that goes with this process."""
    named = os.environ.get(EXPORT_VARIABLE)
    if named:
        folder = Path(named)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    folder = Path(tempfile.mkdtemp(prefix="trt-harness-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.lru_cache(maxsize=4096)
def _exported(folder: Path, name: str) -> Path:
    return folder / name / "model.onnx"


def exported(name: str, build: Callable[[], Any]) -> Path:
    """``<export folder>/<name>/model.onnx``, built by ``build()`` unless it is there already.

    Several processes may ask at once: each builds into a folder of its own, and the first to rename
    it into place wins; the others drop theirs, which is the same byte for byte.
    """
    from harness.spec.onnx_model import save

    path = _exported(export_folder(), name)
    if not os.access(path, os.F_OK):  # asked for every run of thousands: `Path.exists` takes twice as long
        folder = path.parent
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=export_folder()))
        try:
            save(build(), work / "model.onnx")
            work.rename(folder)
        except OSError:
            if not path.exists():
                raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return path
