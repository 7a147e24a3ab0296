"""Measurements, made of records."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.report.measurement import Measurement, measurements, newest, properties
from tests.report.measured import AT, GRAPH, LATENCY, VALUES, perf, record


def one(metric: str, measured: list[Measurement]) -> Measurement:
    (found,) = [each for each in measured if each.metric == metric]
    return found


def test_what_trt_perf_leaves() -> None:
    found = measurements([record()], commit="8c1f")
    assert [each.metric for each in found] == list(VALUES)
    graph = one("gpu, graph", found)
    logs = np.log(GRAPH)
    low, high = stats.t.interval(0.95, 3, logs.mean(), stats.sem(logs))
    assert (graph.low, graph.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert graph.value == pytest.approx(0.001235)
    assert (graph.unit, graph.p99, graph.processes) == ("s", 0.0013, GRAPH)
    assert (graph.session, graph.at, graph.commit) == ("20260921-142640-9f3a", AT, "8c1f")
    assert graph.labels == {
        "model": "bert",
        "precision": "fp16",
        "point": "opt",
        "backend": "tensorrt",
        "device": "NVIDIA H200",
        "library": "10.9.0",
    }


def test_one_process_has_no_interval() -> None:
    build = one("build", measurements([record()]))
    assert (build.value, build.low, build.high, build.p99) == (31.5, None, None, None)


def test_what_trt_latency_leaves() -> None:
    found = measurements([record(facts=LATENCY)])
    assert [(each.metric, each.value, each.p99) for each in found] == [("gpu", 0.002, 0.0022), ("enqueue", 1e-5, None)]
    assert found[0].cell == "test_runs[bert-fp16-opt-tensorrt] on NVIDIA H200"
    assert found[0].processes == (0.002,)


def test_two_tests_of_a_latency_are_two_series() -> None:
    """One may measure plainly, the other with a cold cache."""
    plain, cold = record(facts=LATENCY), record(facts=LATENCY)
    cold = cold.from_json(cold.to_json().replace("test_runs", "test_cold"))
    assert len({each.key for each in measurements([plain, cold])}) == 2


def test_what_has_no_number_is_left_out() -> None:
    values = {"gpu, graph": ("s", (math.nan, math.inf)), "throughput": ("runs/s", (math.nan, 800.0))}
    read = record(facts={"perf": perf(values=values)})
    found = measurements([read.from_json(read.to_json())])  # where NaN has become a word
    assert [(each.metric, each.processes) for each in found] == [("throughput", (800.0,))]
    assert measurements([record(facts={"medians": {"gpu": "NaN"}}), record(facts={})]) == []


def test_what_two_tests_of_a_session_say_counts_once() -> None:
    again = record(facts={"perf": perf(values={"build": ("s", (30.0,))})}, started=AT + 5)
    found = measurements([record(), again])
    assert len(found) == len(VALUES)
    assert one("build", found).value == 30.0


def test_sessions_are_told_apart_and_the_last_is_newest() -> None:
    later = record(started=AT + 86400, run="20260922-142640-77aa")
    found = measurements([later, record()])
    assert [each.session for each in found] == ["20260921-142640-9f3a"] * 4 + ["20260922-142640-77aa"] * 4
    assert {each.session for each in newest(reversed(found))} == {"20260922-142640-77aa"}
    assert len(newest(found)) == 4


def test_as_properties() -> None:
    found = dict(properties(measurements([record()])))
    assert found["trt_gpu_graph_seconds_p99"] == "0.0013"
    assert float(found["trt_gpu_graph_seconds"]) == pytest.approx(0.001235)
    assert float(found["trt_throughput_runs_per_second"]) == 813.5
    assert found["trt_build_seconds"] == "31.5"
    assert "trt_build_seconds_low" not in found
    assert float(found["trt_host_memory_bytes_low"]) < float(found["trt_host_memory_bytes_high"])
