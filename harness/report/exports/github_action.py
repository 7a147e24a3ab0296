"""What github-action-benchmark reads as ``customSmallerIsBetter``, and as ``customBiggerIsBetter``.

It compares by name and shows one unit a name: so times are always milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.measure.quantity import SECONDS
from harness.report.measurement import Measurement, newest

MILLI = 1e-3


def smaller_is_better(measured: Sequence[Measurement]) -> bytes:
    """Times, sizes and energy: name, unit, value, half of the interval as ``range``, and the rest as ``extra``."""
    return _list([one for one in newest(measured) if not one.bigger_is_better])


def bigger_is_better(measured: Sequence[Measurement]) -> bytes:
    """Throughputs, likewise."""
    return _list([one for one in newest(measured) if one.bigger_is_better])


def _list(measured: Sequence[Measurement]) -> bytes:
    return json.dumps([_entry(one) for one in measured], indent=2, allow_nan=False).encode()


def _entry(one: Measurement) -> dict[str, str | float]:
    scale, unit = (MILLI, "ms") if one.unit == SECONDS else (1.0, one.unit)
    entry: dict[str, str | float] = {"name": one.name, "unit": unit, "value": one.value / scale}
    if one.low is not None and one.high is not None:
        entry["range"] = f"{(one.high - one.low) / 2 / scale:.3g}"
    more = [f"p99={one.p99 / scale:.6g}"] if one.p99 is not None else []
    more += [f"processes={len(one.processes)}", *(f"{name}={value}" for name, value in one.labels.items())]
    return {**entry, "extra": "\n".join(more)}
