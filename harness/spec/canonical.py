"""One spelling for every value, so that equal requests have equal digests."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """``value`` as JSON's own types: dataclasses by field, sets sorted, tuples as lists.

    Fields marked ``metadata={"identity": False}`` are left out: they say how to obtain or show a
    thing, not what it is. Floats that JSON can't spell (NaN, infinities) raise ValueError in
    `canonical_json`.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.metadata.get("identity", True)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal. OSError."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no optional white space; the same text for equal values, always."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256, in hexadecimal, of `canonical_json`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_files(paths: list[Path]) -> str:
    """SHA-256 over the contents of ``paths`` in this order, each prefixed by its length.

    Names and folders do not count, so that a model keeps its digest when it moves.
    """
    total = hashlib.sha256()
    for path in paths:
        total.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()
