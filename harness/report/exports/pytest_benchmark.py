"""JSON as pytest-benchmark saves it: ``pytest-benchmark compare`` reads it, and what draws its files.

Everything there is seconds. Of a throughput it has the seconds a run, so that its operations a second are the
throughput; for sizes and energy it has no place.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any

from harness.measure.quantity import SECONDS
from harness.report.measurement import Measurement, newest


def export(measured: Sequence[Measurement]) -> bytes:
    """A group a metric, a benchmark a cell, a round a process; of several sessions the last."""
    import pytest_benchmark

    found = [(one, seconds) for one in newest(measured) if (seconds := _seconds(one))]
    last = max((one.at for one, _ in found), default=0.0)
    commits = {one.commit for one, _ in found if one.commit}
    document = {
        "machine_info": _shared([one for one, _ in found]),
        "commit_info": {
            "id": ", ".join(sorted(commits)) or "unversioned",
            "time": None,
            "author_time": None,
            "dirty": False,
            "project": "trt-harness",
            "branch": "(unknown)",
        },
        "benchmarks": [_benchmark(one, seconds) for one, seconds in found],
        "datetime": datetime.datetime.fromtimestamp(last, datetime.UTC).isoformat(),
        "version": pytest_benchmark.__version__,
    }
    return json.dumps(document, indent=2, allow_nan=False).encode()


def _benchmark(one: Measurement, seconds: list[float]) -> dict[str, Any]:
    from pytest_benchmark.stats import Stats

    stats: Any = Stats()  # type: ignore[no-untyped-call]  # theirs is untyped
    for value in seconds:
        stats.update(value)
    known = {"low": one.low, "high": one.high, "p99": one.p99}
    return {
        "group": one.metric,
        "name": one.cell,
        "fullname": one.name,
        "params": dict(one.labels),
        "param": one.cell,
        "extra_info": {"key": one.key, "session": one.session, "metric": one.metric, "unit": one.unit, **known},
        "options": {},
        "stats": {**stats.as_dict(), "data": stats.data, "iterations": 1},
    }


def _seconds(one: Measurement) -> list[float]:
    if one.unit == SECONDS:
        return list(one.processes)
    return [1 / value for value in one.processes] if one.bigger_is_better and min(one.processes) > 0 else []


def _shared(measured: Sequence[Measurement]) -> dict[str, str]:
    """What they were measured on; several of a kind with commas."""
    found = {name: sorted({one.labels.get(name, "") for one in measured} - {""}) for name in _MACHINE}
    return {name: ", ".join(values) for name, values in found.items() if values}


_MACHINE = ("backend", "device", "library")
