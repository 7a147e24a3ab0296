"""Reports of a worker on their way to xdist's controller: packed, since xdist sends them value by value, in Python.

A report has some sixty values, and a cell three reports: both ends spend more on taking them apart than on the rest.
"""

from __future__ import annotations

import marshal
from typing import Any

PARCEL = "trt_parcel"  # what xdist adds to a report stands beside it
FORMAT = 2  # of marshal: the same for every Python


def packed(data: dict[str, Any]) -> dict[str, Any]:
    """``data`` in one value; as it is when it holds what is none of Python's own types, which is xdist's to refuse."""
    return {PARCEL: marshal.dumps(data, FORMAT)} if _own(data) else data


def _own(value: object) -> bool:
    """Whether it is of Python's own types throughout: of anything with a buffer, marshal would make bytes."""
    if isinstance(value, (list, tuple)):
        return type(value) in (list, tuple) and all(map(_own, value))
    if isinstance(value, dict):
        return type(value) is dict and all(_own(name) and _own(one) for name, one in value.items())
    return value is None or type(value) in (str, int, float, bool, bytes)


def unpack(data: dict[str, Any]) -> None:
    """Put what `packed` took back into ``data``."""
    if PARCEL in data:
        data.update(marshal.loads(data.pop(PARCEL)))
