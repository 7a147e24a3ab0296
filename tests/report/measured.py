"""Measurements as records hold them, made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from harness.ledger.records import Record, Verdict
from harness.report.measurement import LABELS, Measurement
from harness.spec.cell import Cell

AT = 1_790_000_000.25
GRAPH = (0.00121, 0.00123, 0.00124, 0.00126)
VALUES: Mapping[str, tuple[str, Sequence[float]]] = {
    "gpu, graph": ("s", GRAPH),
    "throughput": ("runs/s", (812.0, 818.0, 809.0, 815.0)),
    "host memory": ("bytes", (734_003_200.0, 734_003_200.0, 734_101_504.0, 734_003_200.0)),
    "build": ("s", (31.5,)),
}


def perf(
    model: str = "bert",
    values: Mapping[str, tuple[str, Sequence[float]]] = VALUES,
    rulings: Sequence[Mapping[str, Any]] = (),
    **fields: Any,
) -> dict[str, Any]:
    """What `trt_perf` leaves in a record."""
    return {
        "key": f"{model:0<64}",
        "cell": f"{model}-fp16-opt-tensorrt on NVIDIA H200",
        "device": "NVIDIA H200",
        "plans": ["ab" * 32],
        "environment": {
            "library": "10.9.0",
            "version": "10.9.0",
            "backend": "tensorrt",
            "driver": "575.57",
            "gpu_uuid": "GPU-1b2c",
        },
        "values": {
            name: {
                "unit": unit,
                "value": sorted(found)[len(found) // 2],
                "processes": list(found),
                **({"p99": 0.0013} if name == "gpu, graph" else {}),
            }
            for name, (unit, found) in values.items()
        },
        "missing": {"device memory": "this backend tells no device memory"},
        "notes": {},
        "journal": "",
        "rulings": list(rulings),
        **fields,
    }


def record(
    model: str = "bert", verdict: Verdict = "passed", facts: Mapping[str, Any] | None = None, **fields: Any
) -> Record:
    return Record(
        Cell("test_runs", model, "fp16", "", "opt", "tensorrt"),
        verdict,
        **{
            "node": f"suites/latency/test_latency.py::test_runs[{model}-fp16-opt-tensorrt]",
            "environment": {"backend": "tensorrt", "version": "10.9.0", "gpu": "NVIDIA H200", "driver": "575.57"},
            "facts": {"perf": perf(model)} if facts is None else facts,
            "started": AT,
            "run": "20260921-142640-9f3a",
            **fields,
        },
    )


LATENCY: Mapping[str, Any] = {  # what `trt_latency` leaves
    "metric": "gpu",
    "p50": 0.002,
    "p99": 0.0022,
    "medians": {"gpu": 0.002, "enqueue": 1e-5},
    "samples": 2000,
    "half_width": 0.002,
}


unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # tables of Unicode are made first
names = st.text(min_size=1, max_size=20)
sizes = st.floats(1e-9, 1e12)


@st.composite
def measurement(draw: st.DrawFn) -> Measurement:
    """Any, with names of all that text may hold."""
    processes = tuple(draw(st.lists(sizes, min_size=1, max_size=5)))
    ends = draw(st.none() | st.tuples(sizes, sizes))
    return Measurement(
        cell=draw(names),
        key=draw(names),
        metric=draw(names),
        unit=draw(st.sampled_from(["s", "bytes", "runs/s", "J"])),
        value=sorted(processes)[len(processes) // 2],
        low=ends and min(ends),
        high=ends and max(ends),
        p99=draw(st.none() | sizes),
        processes=processes,
        session=draw(names),
        at=draw(st.integers(0, 4_000_000_000_000)) / 1000,
        labels=draw(st.dictionaries(st.sampled_from(LABELS), names)),
        commit=draw(st.just("") | names),
    )
