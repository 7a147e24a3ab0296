"""What one session measured of one metric of a cell: what every export tells, each in its own way."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.ledger.latency import Timed, timed
from harness.ledger.records import PERF, Record
from harness.measure.bench import interval
from harness.measure.quantity import JOULES, RATE, SECONDS

LABELS = ("model", "precision", "point", "backend", "device", "library")
UNITS = {SECONDS: "seconds", RATE: "runs_per_second", JOULES: "joules"}  # in names of programs; others are their own


@dataclass(frozen=True)
class Measurement:
    """``value`` is the median of ``processes``, all in ``unit``, that of a `Quantity`: "s", "bytes", "runs/s", "J".

    ``low`` to ``high`` is the 95 % t interval of their geometric mean, None for a single process. ``p99`` is of all
    samples, None where it is not known. ``cell`` is for people; ``key`` is the same from session to session, and of no
    other cell. ``at`` is when the cell began, in seconds since 1970, UTC. ``labels`` has those of `LABELS` that are
    known.
    """

    cell: str
    key: str
    metric: str
    unit: str
    value: float
    low: float | None
    high: float | None
    p99: float | None
    processes: tuple[float, ...]
    session: str
    at: float
    labels: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""

    @property
    def bigger_is_better(self) -> bool:
        return self.unit == RATE

    @property
    def name(self) -> str:
        """``bert-fp16-opt-tensorrt on NVIDIA H200: gpu, graph``."""
        return f"{self.cell}: {self.metric}"

    @property
    def variable(self) -> str:
        """``trt_gpu_graph_seconds``: the metric with its unit, as programs name one."""
        return f"trt_{slug(self.metric, '_')}_{self.unit_name}"

    @property
    def unit_name(self) -> str:
        """``seconds``, ``bytes``, ``runs_per_second``."""
        return slug(UNITS.get(self.unit, self.unit), "_")


def measurements(records: Iterable[Record], commit: str = "") -> list[Measurement]:
    """All that ``records`` hold, in the order of time; what one session says twice of a metric counts once."""
    found = (one for record in records for one in of(record, commit))
    return sorted({(one.session, one.key, one.metric): one for one in found}.values(), key=lambda one: one.at)


def newest(measured: Iterable[Measurement]) -> list[Measurement]:
    """Of each metric of a cell the last, for what has room for one number."""
    found: dict[tuple[str, str], Measurement] = {}
    for one in sorted(measured, key=lambda one: one.at):
        found.pop((one.key, one.metric), None)
        found[one.key, one.metric] = one
    return list(found.values())


def of(record: Record, commit: str = "") -> Iterator[Measurement]:
    """What `trt_perf` and `trt_latency` left in a record; a number that is none is left out."""
    if perf := perf_of(record):
        yield from _perf(record, perf, commit)
    if told := timed(record):
        yield from _latency(record, told, commit)


def properties(measured: Iterable[Measurement]) -> list[tuple[str, str]]:
    """As names and texts: ``trt_gpu_graph_seconds`` and its value, with ``_low``, ``_high`` and ``_p99``."""
    return [
        (f"{one.variable}{end}", repr(value))
        for one in measured
        for end, value in (("", one.value), ("_low", one.low), ("_high", one.high), ("_p99", one.p99))
        if value is not None
    ]


def perf_of(record: Record) -> Mapping[str, Any]:
    """What `trt_perf` left in a record; empty where it was not asked, or where a test keeps facts of its own so."""
    perf = record.facts.get(PERF)
    return perf if isinstance(perf, Mapping) and {"values", "environment"} <= perf.keys() else {}


def slug(name: str, sign: str) -> str:
    """``name`` in small letters and digits, with ``sign`` between them."""
    return re.sub(r"[^a-z0-9]+", sign, name.lower()).strip(sign) or "unnamed"


def _perf(record: Record, perf: Mapping[str, Any], commit: str) -> Iterator[Measurement]:
    library = str(perf["environment"].get("library", ""))
    for metric, told in perf["values"].items():
        processes = tuple(filter(math.isfinite, map(_number, told["processes"])))
        if not processes:
            continue
        low, high = interval(np.array(processes))
        yield Measurement(
            str(perf["cell"]),
            str(perf["key"]),
            metric,
            str(told["unit"]),
            float(np.median(processes)),
            low,
            high,
            _known(told.get("p99")),
            processes,
            record.run,
            record.started,
            _labels(record, str(perf.get("device", "")), library),
            commit,
        )


def _latency(record: Record, told: Timed, commit: str) -> Iterator[Measurement]:
    labels = _labels(record, told.device, told.place.environment.get("library", ""))
    for metric, (value, unit) in told.values.items():
        p99 = told.p99 if told.leading == metric else None
        at, run = record.started, record.run
        yield Measurement(told.cell, told.key, metric, unit, value, None, None, p99, (value,), run, at, labels, commit)


def _labels(record: Record, device: str, library: str) -> dict[str, str]:
    cell = record.cell
    found = dict(zip(LABELS, (cell.model, cell.precision, cell.point, record.backend, device, library), strict=True))
    return {name: value for name, value in found.items() if value}


def _number(value: Any) -> float:
    """NaN for what a record has no number for."""
    return float(value) if isinstance(value, (int, float)) else math.nan


def _known(value: Any) -> float | None:
    number = _number(value)
    return number if math.isfinite(number) else None
