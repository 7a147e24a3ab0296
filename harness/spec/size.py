"""Sizes in bytes, as people write them."""

from __future__ import annotations

import re

from harness.errors import SpecError

_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", re.ASCII)


def parse_size(value: str | int) -> int:
    """Bytes from ``"512 MiB"``, ``"2GB"`` or a plain number. SpecError for anything else."""
    match = _SIZE.fullmatch(str(value))
    if match is None or match[2].lower() not in _UNITS or isinstance(value, bool):
        raise SpecError(f"{value!r} is not a size: write bytes, or a number with KiB, MiB, GiB, KB, MB or GB")
    return int(float(match[1]) * _UNITS[match[2].lower()])
