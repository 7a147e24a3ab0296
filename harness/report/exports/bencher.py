"""Bencher Metric Format (bencher.dev): by benchmark and measure a value and its interval.

Values are seconds, bytes, joules and runs a second. A measure's name there is of at most 64 characters, a benchmark's
of 1024.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.report.measurement import Measurement, newest, slug

BENCHMARK, MEASURE = 1024, 64


def export(measured: Sequence[Measurement]) -> bytes:
    """A benchmark a cell, a measure a metric, as in ``gpu-graph``; of several sessions the last."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for one in newest(measured):
        bounds = {"lower_value": one.low, "upper_value": one.high}
        measure = {"value": one.value} | {name: end for name, end in bounds.items() if end is not None}
        found.setdefault(_name(one), {})[slug(one.metric, "-")[:MEASURE]] = measure
    return json.dumps(found, indent=2, allow_nan=False).encode()


def _name(one: Measurement) -> str:
    if len(one.cell) <= BENCHMARK:
        return one.cell
    return f"{one.cell[: BENCHMARK - 17]} {one.key[:16]}"
