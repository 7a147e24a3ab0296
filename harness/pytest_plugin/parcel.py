"""Reports of a worker on their way to xdist's controller: packed, since xdist sends them value by value, in Python.

A report has some sixty values, and a cell three reports: both ends spend more on taking them apart than on the rest.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable
from typing import Any

PARCEL = "trt_parcel"  # what xdist adds to a report stands beside it
FORMAT = 2  # of marshal: the same for every Python
PLAIN = frozenset({type(None), str, int, float, bool, bytes})


def packed(data: dict[str, Any]) -> dict[str, Any]:
    """``data`` in one value; as it is when it holds what is none of Python's own types, which is xdist's to refuse."""
    return {PARCEL: marshal.dumps(data, FORMAT)} if _own(data) else data


def _own(value: object) -> bool:
    """Whether it is of Python's own types throughout: of anything with a buffer, marshal would make bytes."""
    if type(value) in (list, tuple):
        return _all_own(value)  # type: ignore[arg-type]  # mypy narrows by `isinstance` alone
    if type(value) is dict:
        return _all_own(value) and _all_own(value.values())
    return type(value) in PLAIN


def _all_own(values: Iterable[object]) -> bool:
    """Most hold plain values alone, which needs no look at each."""
    return PLAIN.issuperset(map(type, values)) or all(map(_own, values))


def unpack(data: dict[str, Any]) -> None:
    """Put what `packed` took back into ``data``."""
    if PARCEL in data:
        data.update(marshal.loads(data.pop(PARCEL)))
