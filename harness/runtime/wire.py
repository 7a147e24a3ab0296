"""What an engine host and its client say to each other.

A message is its length (8 bytes, little-endian) and JSON, over a Unix socket. Arrays are not in it:
the sender copies them into an `Arena` (shared memory, one for each direction) and the message tells
type, shape and place. The receiver copies them out before it does anything else; since each side
answers only what it has read, an arena never holds two messages. Nothing is ever pickled.

JSON knows too few types, so an object with the key ``$`` stands for one that it lacks:
``{"$": "tuple", "v": [...]}``, ``{"$": "array", "v": 0}`` (the array's index), or a dataclass or
enumeration in `VALUES` by its name. Linux only (memfd).
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import fcntl
import functools
import json
import math
import mmap
import os
import socket
import struct
import threading
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import STAGES, ComparisonFailure, HarnessError, SpecError, StageError, UnsupportedError
from harness.runtime.backend.protocol import (
    Array,
    BuildRequest,
    EngineInfo,
    IOTensor,
    Plan,
    Refittable,
    Residue,
    Shape,
    ShapeRange,
    Streaming,
)
from harness.runtime.capability import Capability, Probe, State
from harness.runtime.footprint import Footprint
from harness.runtime.sampling import Repeated, Samples, Sampling, Stop
from harness.spec.build import BuildConfig
from harness.spec.precision import Recipe

VALUES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        BuildConfig,
        BuildRequest,
        Capability,
        EngineInfo,
        Footprint,
        IOTensor,
        Plan,
        Probe,
        Recipe,
        Refittable,
        Repeated,
        Residue,
        Samples,
        Sampling,
        ShapeRange,
        State,
        Stop,
        Streaming,
    )
}

PLAIN = frozenset(np.dtype(code).name for code in "?bhiqBHIQefdFD")
NARROW = {  # bytes an element; types of ml_dtypes, which unpacks even four bits to a byte
    "bfloat16": 2,
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"), 1),
    **dict.fromkeys(("float4_e2m1fn", "int4", "uint4"), 1),
}

_LENGTH = struct.Struct("<Q")
_LONGEST = 1 << 30  # bytes of JSON; more than that is not a message
_CHUNK = 1 << 16
_ALIGNMENT = 64
_SMALLEST = 1 << 20
_KEEP = 64 << 20  # bytes; what a message took beyond that goes back to the system once it is read
_JSON = frozenset((type(None), bool, int, float, str))
_to_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


# ---------------------------------------------------------------- types of arrays


@functools.cache
def dtype_of(name: str) -> np.dtype[Any]:
    """The numpy type called ``name``, a type of ml_dtypes included.

    Where ml_dtypes is not installed (an engine host needs only numpy) such a type is raw bytes that
    carry their name, so that they travel on, and back, as what they are.
    """
    if name in PLAIN:
        return np.dtype(name)
    if name not in NARROW:
        raise TypeError(f"arrays of {name} can't be sent to or from an engine host")
    try:
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    except (ImportError, AttributeError):
        dtype = np.dtype(f"V{NARROW[name]}", metadata={"name": name})
    return dtype


def name_of(dtype: np.dtype[Any]) -> str:
    """The inverse of `dtype_of`, whatever the byte order. TypeError for a type that can't travel."""
    if dtype.metadata is None:
        return _own_name(dtype)
    name: str = dtype.metadata.get("name", "")
    return name if name in NARROW else _own_name(dtype)


@functools.lru_cache(maxsize=64)  # numpy takes microseconds to tell a type's name
def _own_name(dtype: np.dtype[Any]) -> str:
    if dtype.name not in PLAIN and dtype.name not in NARROW:
        raise TypeError(f"arrays of {dtype} can't be sent to or from an engine host")
    return dtype.name


# ---------------------------------------------------------------- shared memory


class Arena:
    """Memory that one process writes arrays to and another reads them from."""

    def __init__(self, fd: int) -> None:
        """Over the memfd ``fd``, which this arena closes."""
        self.fd = fd
        self._map: mmap.mmap | None = None
        self._size = 0

    @classmethod
    def create(cls) -> Arena:
        """An empty one. It can grow and never shrink, so that no peer can pull memory from under a reader."""
        fd = os.memfd_create("trt-harness", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        return cls(fd)

    def write(self, arrays: Sequence[Array]) -> list[tuple[str, Shape, int]]:
        """Copy ``arrays``, of any layout, in, in C order; gives (type, shape, offset) of each."""
        places, end = [], 0
        for array in arrays:
            places.append((name_of(array.dtype), array.shape, end))
            end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        if end > self._size:
            size = max(_SMALLEST, 2 * self._size, -(-end // mmap.PAGESIZE) * mmap.PAGESIZE)
            os.ftruncate(self.fd, size)
        for array, (_, shape, offset) in zip(arrays, places, strict=True):
            if array.size:
                dtype = array.dtype if array.dtype.isnative else array.dtype.newbyteorder("=")
                self._view(shape, dtype, offset)[...] = array
        return places

    def read(self, places: Iterable[Sequence[Any]]) -> list[Array]:
        """Copies of what `write` put at ``places``."""
        copies, end = [], 0
        for name, shape, offset in places:
            dtype = dtype_of(name)
            copies.append(np.empty(shape, dtype) if 0 in shape else self._view(tuple(shape), dtype, offset).copy())
            end = offset + copies[-1].nbytes
        if end > _KEEP and self._map is not None:
            self._map.madvise(mmap.MADV_REMOVE, _KEEP, self._size - _KEEP)
        return copies

    def _view(self, shape: Shape, dtype: np.dtype[Any], offset: int) -> Array:
        if self._map is None or offset + math.prod(shape) * dtype.itemsize > self._size:
            self._size = os.fstat(self.fd).st_size
            self._map = mmap.mmap(self.fd, self._size)
        return np.ndarray(shape, dtype, self._map, offset)

    def close(self) -> None:
        self._map = None  # unmapped with its last view
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


# ---------------------------------------------------------------- values


def encode(value: Any, arrays: list[Array]) -> Any:
    """``value`` in JSON's types, its arrays moved to ``arrays``. TypeError for what can't travel.

    numpy's scalars become Python's numbers.
    """
    if type(value) in _JSON:
        return value
    if isinstance(value, np.ndarray):
        name_of(value.dtype)
        arrays.append(value)
        return {"$": "array", "v": len(arrays) - 1}
    if isinstance(value, np.generic):
        item = value.item()
        return item if type(item) in _JSON else float(item)
    name = type(value).__name__
    if VALUES.get(name) is type(value):
        if isinstance(value, enum.Enum):
            return {"$": name, "v": value.value}
        fields = {field.name: encode(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
        return {"$": name, "v": fields}
    if isinstance(value, list):
        return [encode(item, arrays) for item in value]
    if isinstance(value, tuple):
        return {"$": "tuple", "v": [encode(item, arrays) for item in value]}
    if isinstance(value, Mapping):
        if all(type(key) is str for key in value) and "$" not in value:
            return {key: encode(item, arrays) for key, item in value.items()}
        return {"$": "dict", "v": [[encode(key, arrays), encode(item, arrays)] for key, item in value.items()]}
    if isinstance(value, (bytes, bytearray, memoryview)):
        arrays.append(np.frombuffer(value, np.uint8))
        return {"$": "bytes", "v": len(arrays) - 1}
    if isinstance(value, Path):
        return {"$": "path", "v": str(value)}
    raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} can't be sent to or from an engine host")


def decode(value: Any, arrays: Sequence[Array]) -> Any:
    """The inverse of `encode`."""
    if isinstance(value, list):
        return [decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if "$" not in value:
        return {key: decode(item, arrays) for key, item in value.items()}
    kind, held = value["$"], value["v"]
    if kind == "array":
        return arrays[held]
    if kind == "tuple":
        return tuple(decode(item, arrays) for item in held)
    if kind == "dict":
        return {decode(key, arrays): decode(item, arrays) for key, item in held}
    if kind == "bytes":
        return arrays[held].tobytes()
    if kind == "path":
        return Path(held)
    made = VALUES[kind]
    if issubclass(made, enum.Enum):
        return made(held)
    return made(**{name: decode(item, arrays) for name, item in held.items()})


# ---------------------------------------------------------------- errors


def error_to_value(error: BaseException) -> dict[str, Any]:
    """An exception as a value: ours with all that they hold, any other with its type and traceback."""
    kind = type(error)
    if isinstance(error, StageError) and error.stage in STAGES:
        detail = {key: _or_repr(item) for key, item in error.detail.items()}
        return {
            "kind": error.stage,
            "message": error.message,
            "log": error.log,
            "crash": error.crash,
            "detail": detail,
        }
    if isinstance(error, UnsupportedError):
        return {
            "kind": "unsupported",
            "capability": error.capability,
            "evidence": error.evidence,
            "fix": error.fix,
        }
    if isinstance(error, SpecError):
        return {"kind": "spec", "message": str(error)}
    text = "".join(traceback.format_exception(kind, error, error.__traceback__))
    if isinstance(error, AssertionError):
        return {"kind": "assertion", "message": str(error), "ours": kind is ComparisonFailure, "traceback": text}
    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({where[0].filename}:{where[0].lineno} in {where[0].name})" if where else ""
    return {"kind": "fault", "message": f"{kind.__qualname__}: {error}{place}", "traceback": text}


def value_to_error(value: Mapping[str, Any]) -> Exception:
    """The inverse of `error_to_value`, to be raised.

    What is no error of ours is a HarnessError, "fault in the engine host"; the traceback from there
    is added as a note.
    """
    kind = value["kind"]
    if kind in STAGES:
        return STAGES[kind](value["message"], log=value["log"], crash=value["crash"], detail=value["detail"])
    if kind == "unsupported":
        return UnsupportedError(value["capability"], value["evidence"], value["fix"])
    if kind == "spec":
        return SpecError(value["message"])
    error: Exception
    if kind == "assertion":
        error = (ComparisonFailure if value["ours"] else AssertionError)(value["message"])
    else:
        error = HarnessError(f"fault in the engine host: {value['message']}")
    if hasattr(error, "add_note"):  # 3.11; a client is never older
        error.add_note("In the engine host:\n" + value["traceback"])
    return error


def _or_repr(value: Any) -> Any:
    """``value`` if it can travel, else how it prints: an error must arrive whatever it holds."""
    try:
        encode(value, [])
    except TypeError:
        return repr(value)
    return value


# ---------------------------------------------------------------- messages


class Channel:
    """One end of the conversation."""

    def __init__(self, connection: socket.socket, outgoing: Arena, incoming: Arena) -> None:
        """Over these, which this channel closes."""
        self._connection, self._outgoing, self._incoming = connection, outgoing, incoming
        self._received = bytearray()  # and not taken yet
        self._sending = threading.Lock()

    def send(self, message: Any, deadline: float | None = None) -> None:
        """Raise TypeError, with nothing sent, for what can't travel.

        EOFError when the other end is gone, TimeoutError at ``deadline`` (of `time.monotonic`).
        Messages that pass another on its way (progress, log) must hold no arrays.
        """
        arrays: list[Array] = []
        body = encode(message, arrays)
        with self._sending:
            places = self._outgoing.write(arrays)
            text = _to_json([body, places]).encode()
            self._wait_until(deadline)
            try:
                self._connection.sendall(_LENGTH.pack(len(text)) + text)
            except ConnectionError as error:
                raise EOFError(str(error)) from None

    def receive(self, deadline: float | None = None) -> Any:
        """The next message. EOFError and TimeoutError as in `send`."""
        (length,) = _LENGTH.unpack(self._take(_LENGTH.size, deadline))
        if length > _LONGEST:
            raise EOFError(f"not a message: {length} bytes announced")
        body, places = json.loads(self._take(length, deadline))
        return decode(body, self._incoming.read(places))

    def _take(self, count: int, deadline: float | None) -> bytes:
        while len(self._received) < count:
            self._wait_until(deadline)
            try:
                got = self._connection.recv(max(_CHUNK, count - len(self._received)))
            except ConnectionError as error:
                raise EOFError(str(error)) from None
            if not got:
                raise EOFError("the other end is closed")
            self._received += got
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _wait_until(self, deadline: float | None) -> None:
        if deadline is None:
            if self._connection.gettimeout() is not None:
                self._connection.settimeout(None)
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.close()
        self._outgoing.close()
        self._incoming.close()
