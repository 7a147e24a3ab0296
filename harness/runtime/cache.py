"""Finished plans on disk, by plan key, so that an interrupted run resumes.

One file an entry, written whole or not at all::

    magic  b"TRTHPLAN"   8 bytes
    format version       4 bytes, little-endian
    length of header     4 bytes, little-endian
    SHA-256              32 bytes, over all that follows
    header               JSON: plan key, size of the plan in bytes, when it was made, facts of its maker
    plan                 the rest

Any number of processes may read, write and lock one folder at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from harness.errors import SpecError
from harness.runtime.backend.protocol import Array
from harness.spec.canonical import canonical_json

MAGIC = b"TRTHPLAN"
FORMAT = 1
_HEAD = struct.Struct("<8sII32s")


class PlanCacheWarning(UserWarning):
    """An entry was set aside, or could not be written. The plan is built again: no result suffers."""


class PlanCache:
    """A folder of plans. SpecError when it can't be made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(f"plan cache: can't make the folder {folder}: {error.strerror}: name another") from None

    def path(self, plan_key: str) -> Path:
        """Where the plan is, or would be."""
        return self.folder / f"{plan_key}.plan"

    def get(self, plan_key: str) -> Array | None:
        """The plan, uint8 of one dimension; None when there is none, or none that can be trusted.

        A damaged, foreign or older entry is renamed to ``*.bad`` with a `PlanCacheWarning` that says why.
        """
        path = self.path(plan_key)
        try:
            with path.open("rb") as file:
                data = np.fromfile(file, np.uint8)
        except FileNotFoundError:
            return None
        except OSError as error:
            _warn(f"{path} could not be read ({error.strerror}): the plan is built again")
            return None
        reason, plan = _opened(data, plan_key)
        if plan is None:
            aside = path.with_suffix(".bad")
            # Another process may have seen the same and been first.
            with contextlib.suppress(FileNotFoundError):
                path.replace(aside)
            _warn(f"{path.name} {reason}; set aside as {aside.name} and built again")
        return plan

    def put(self, plan_key: str, plan: Array, facts: Mapping[str, Any]) -> None:
        """Keep ``plan``, with JSON-able ``facts`` on what made it. A full disk is a warning, no error."""
        payload = np.ascontiguousarray(plan, np.uint8)
        header = canonical_json(
            {"plan_key": plan_key, "size": payload.nbytes, "made": time.time(), "facts": facts}
        ).encode()
        body = hashlib.sha256(header)
        body.update(payload.data)
        head = _HEAD.pack(MAGIC, FORMAT, len(header), body.digest())
        try:
            _write_whole(self.path(plan_key), head + header, payload)
        except OSError as error:
            _warn(f"{self.path(plan_key)} could not be written ({error.strerror}): the plan will be built again")

    @contextlib.contextmanager
    def lock(self, plan_key: str) -> Iterator[None]:
        """Held by one thread of one process at a time; freed by the system when its holder dies."""
        with FileLock(self.folder / f"{plan_key}.lock"):
            yield


def _opened(data: Array, plan_key: str) -> tuple[str, Array | None]:
    """Why an entry can't be used, or "" and its plan."""
    if data.nbytes < _HEAD.size:
        return f"is cut short: {data.nbytes} bytes", None
    magic, version, length, expected = _HEAD.unpack(data[: _HEAD.size].tobytes())
    if magic != MAGIC:
        return f"is no entry of a plan cache: it begins with {magic!r}", None
    if version != FORMAT:
        return f"has format {version}, and this is format {FORMAT}", None
    body = data[_HEAD.size :]
    if hashlib.sha256(body.data).digest() != expected:
        return "is damaged: its SHA-256 differs from the one written with it", None
    header = json.loads(body[:length].tobytes())
    if header["plan_key"] != plan_key:
        return f"holds another plan, {header['plan_key']}", None
    return "", body[length:]


def _write_whole(path: Path, *parts: Any) -> None:
    """Write beside ``path``, then rename: a reader sees all of it or nothing.

    Nothing waits for the disk: what a power cut leaves torn is found by its SHA-256, and built again.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                file.write(part)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _warn(message: str) -> None:
    # Shown even where warnings are errors: nothing is wrong with what the caller gets.
    with warnings.catch_warnings():
        warnings.simplefilter("always", PlanCacheWarning)
        warnings.warn(f"plan cache: {message}", PlanCacheWarning, stacklevel=3)
