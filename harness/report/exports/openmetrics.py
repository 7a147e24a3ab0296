"""OpenMetrics 1.0 text, with the time of each measurement: to be served, or loaded into a Prometheus afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from harness.report.measurement import LABELS, Measurement

SERIES = 12  # digits of a cell's key


def export(measured: Sequence[Measurement]) -> bytes:
    """A family a metric, a gauge for each cell and ``stat``: p50, the ends of its interval (low, high), and p99.

    Labels say what stays the same from night to night: neither sessions nor commits.
    """
    families: dict[str, list[Measurement]] = {}
    for one in sorted(measured, key=lambda one: one.at):
        families.setdefault(one.variable, []).append(one)
    lines = [line for name, members in sorted(families.items()) for line in _family(name, members)]
    return ("\n".join([*lines, "# EOF"]) + "\n").encode("utf-8", "backslashreplace")


def number(value: float) -> str:
    """As the format spells it."""
    if math.isnan(value):
        return "NaN"
    return repr(float(value)) if math.isfinite(value) else "+Inf" if value > 0 else "-Inf"


def escaped(text: str) -> str:
    """Of a label's value or a help text."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _family(name: str, members: Sequence[Measurement]) -> Iterator[str]:
    yield f"# TYPE {name} gauge"
    yield f"# UNIT {name} {members[0].unit_name}"
    yield f"# HELP {name} {escaped(members[0].metric)}: median of processes."
    points: dict[str, dict[str, str]] = {}  # by labels and time: a series stands in one piece, one value a time
    for one in members:
        for labels, value in _stats(one):
            points.setdefault(labels, {})[_time(one.at)] = number(value)
    for labels, values in points.items():
        yield from (f"{name}{{{labels}}} {value} {at}" for at, value in values.items())


def _stats(one: Measurement) -> Iterator[tuple[str, float]]:
    named = {"series": one.key[:SERIES], **{name: one.labels[name] for name in LABELS if one.labels.get(name)}}
    for stat, value in (("p50", one.value), ("low", one.low), ("high", one.high), ("p99", one.p99)):
        if value is not None:
            labels = {**named, "stat": stat}
            yield ",".join(f'{name}="{escaped(text)}"' for name, text in labels.items()), value


def _time(at: float) -> str:
    """Seconds, to the millisecond, which is what a Prometheus keeps."""
    return f"{at:.3f}".rstrip("0").rstrip(".")
