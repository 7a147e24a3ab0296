"""Bytes that are believed only when not one of them has changed since they were written.

A plan is code, and TensorRT 8.6 loads one with a flipped bit without a word. What this project keeps on
disk lies in an envelope::

    magic  b"TRTHSEAL"        8 bytes
    format version            4 bytes, little-endian
    length of the header      4 bytes, little-endian
    length of the payload     8 bytes, little-endian
    SHA-256                   32 bytes, over all other bytes of the file
    header                    JSON: what `Sealed` holds beside its payload
    payload                   the rest

The digest shows damage, not who wrote the file: whoever can write it can write a digest, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.errors import HarnessError
from harness.runtime import held
from harness.runtime.backend.protocol import Array
from harness.spec.canonical import canonical_json

MAGIC = b"TRTHSEAL"
FORMAT = 1
_BEFORE = struct.Struct("<8sIIQ")  # what the digest covers of the head, and stands before it
_DIGEST = 32
HEAD = _BEFORE.size + _DIGEST  # bytes
TEMPORARY = ".tmp"  # suffix of a file that is being written
_MOST_HEADER = 1 << 24  # bytes
_FIELDS = {"kind": str, "key": str, "producer": dict, "facts": dict, "made": float}  # of a header


class EnvelopeError(HarnessError, ValueError):
    """This is no whole envelope of this format; the message goes on after the name of a file: "is cut short"."""


@dataclass(frozen=True, eq=False)
class Sealed:
    """A payload and what is known of it. ``producer`` and ``facts`` hold what JSON can."""

    kind: str  # "plan", "timing cache"
    key: str  # what it is looked up by
    payload: Array  # uint8 of one dimension
    producer: Mapping[str, Any] = field(default_factory=dict)  # backend, versions, GPU: of what made the payload
    facts: Mapping[str, Any] = field(default_factory=dict)
    made: float = field(default_factory=time.time)  # seconds since 1970, UTC


def sealed(content: Sealed) -> tuple[bytes, Array]:
    """Head and header, and the payload: an envelope is the one after the other."""
    payload = np.ascontiguousarray(content.payload, np.uint8).reshape(-1)
    header = canonical_json({name: getattr(content, name) for name in _FIELDS}).encode()
    before = _BEFORE.pack(MAGIC, FORMAT, len(header), payload.nbytes)
    return before + _digest(before, header, payload) + header, payload


def opened(data: bytes | Array) -> Sealed:
    """What ``data`` holds. EnvelopeError unless it is, to the last byte, what `sealed` made."""
    whole = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    head = whole[:HEAD].tobytes()
    length = _length_of_header(head, whole.nbytes)
    header, payload = whole[HEAD : HEAD + length].tobytes(), whole[HEAD + length :]
    before = head[: _BEFORE.size]
    if _digest(before, header, payload) != head[_BEFORE.size :]:
        raise EnvelopeError("is damaged: its SHA-256 differs from the one written with it")
    return _described(header, payload)


def read(file: IO[bytes]) -> Sealed:
    """As `opened`, of a file that is open at its beginning; one that is none is not read beyond its head."""
    size = os.fstat(file.fileno()).st_size
    _length_of_header(file.read(HEAD), size)
    file.seek(0)
    return opened(np.fromfile(file, np.uint8))


def glimpsed(file: IO[bytes]) -> Sealed:
    """What the header says, with an empty payload: nothing of it has been verified. EnvelopeError as `read`."""
    size = os.fstat(file.fileno()).st_size
    length = _length_of_header(file.read(HEAD), size)
    return _described(file.read(length), np.zeros(0, np.uint8))


def write(path: Path, content: Sealed) -> None:
    """Write beside ``path``, then rename: a reader sees all of it or nothing. OSError when the disk is full.

    Nothing waits for the disk: what a power cut leaves torn is found by its SHA-256. A writer that is
    killed leaves a file of suffix `TEMPORARY` that nobody holds.
    """
    with _beside(path) as (temporary, file):
        head, payload = sealed(content)
        file.write(head)
        file.write(payload.data)
        file.flush()
        temporary.replace(path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new file in the folder of ``path``, held so that nobody takes it for a dead writer's; gone if all fails."""
    handle, temporary = _made_beside(path)
    try:
        with os.fdopen(handle, "wb") as file:
            yield temporary, file
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _made_beside(path: Path) -> tuple[int, Path]:
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=TEMPORARY, dir=path.parent)
        if held.take(handle) and held.is_there(handle, Path(name)):
            return handle, Path(name)
        os.close(handle)  # swept away before it was held


def _digest(before: bytes, header: bytes, payload: Array) -> bytes:
    total = hashlib.sha256(before)
    total.update(header)
    total.update(np.ascontiguousarray(payload).data)
    return total.digest()


def _length_of_header(head: bytes, size: int) -> int:
    """EnvelopeError unless ``head`` is that of an envelope of ``size`` bytes in all."""
    if len(head) < HEAD:
        raise EnvelopeError(f"is cut short: {size} bytes")
    magic, version, length, payload = _BEFORE.unpack_from(head)
    if magic != MAGIC:
        raise EnvelopeError(f"is no envelope of this project: it begins with {magic!r}")
    if version != FORMAT:
        raise EnvelopeError(f"has format {version}, and this is format {FORMAT}")
    expected = HEAD + length + payload
    if size < expected:
        raise EnvelopeError(f"is cut short: {size} bytes of {expected}")
    if size > expected or length > _MOST_HEADER:
        raise EnvelopeError(f"is damaged: {size} bytes, where its head speaks of {expected}")
    return int(length)


def _described(header: bytes, payload: Array) -> Sealed:
    """EnvelopeError for a header that `sealed` did not write, whatever its digest."""
    try:
        found = json.loads(header)
        made = Sealed(payload=payload, **found)
    except (ValueError, TypeError, RecursionError) as error:
        raise EnvelopeError(f"is foreign: its header can't be understood ({type(error).__name__})") from None
    if any(not isinstance(found.get(name), kind) for name, kind in _FIELDS.items()):
        raise EnvelopeError("is foreign: its header holds other fields than ours")
    return made
