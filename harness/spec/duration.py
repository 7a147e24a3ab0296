"""Lengths of time, as people write them."""

from __future__ import annotations

import re

from harness.errors import SpecError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smh]?)", re.ASCII)
_WHOLE = re.compile(r"(?:\d+(?:\.\d+)?[smh])+|\d+(?:\.\d+)?", re.ASCII)


def parse_duration(value: str) -> float:
    """Seconds, 0 or more, from ``"2h"``, ``"90m"``, ``"1h30m"`` or ``"3600"``. SpecError for anything else."""
    text = value.strip().lower()
    if not _WHOLE.fullmatch(text):
        raise SpecError(f"{value!r} is not a length of time: write seconds, or numbers with h, m or s, as in 1h30m")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
