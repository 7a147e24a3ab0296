"""The latencies of the fake backend: what an honest one gives, and what each of its faults makes of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from harness.runtime.backend import fake
from harness.runtime.backend.fake import FakeBackend
from harness.runtime.backend.fake_samples import BASE, BETWEEN, LAYER, NOISE, SLOW_PROCESS
from harness.runtime.backend.protocol import BuildRequest
from harness.runtime.sampling import END_TO_END, GPU, THROUGHPUT, Samples, Sampling, observed
from harness.spec import RECIPES, BuildConfig

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
three (float[2] x) => (float[2] y)
{
    a = Relu (x)
    b = Neg (a)
    y = Exp (b)
}
"""
RUN = BASE + 3 * LAYER
PLAN = Sampling(warmup_least=0.01, warmup_most=0.1, least=200, most=200, precision=0.0)


@pytest.fixture
def request_(tmp_path: Path) -> BuildRequest:
    file = tmp_path / "three.onnx"
    file.write_bytes(onnx.parser.parse_model(MODEL).SerializeToString())
    return BuildRequest("three", RECIPES["fp32"], BuildConfig(), ({},), ({},), model=str(file))


def measured(fault: str, request: BuildRequest, plan: Sampling = PLAN) -> Samples:
    backend = FakeBackend(fault)
    session = backend.load(backend.build(request).data).session()
    return observed(lambda: session.measure({"x": np.zeros(2, np.float32)}, plan))


def median(samples: Samples, metric: str = GPU) -> float:
    return float(np.median(samples.seconds[metric]))


def halves(samples: Samples, metric: str = GPU) -> float:
    """The median of the second half over that of the first."""
    first, second = np.array_split(samples.seconds[metric], 2)
    return float(np.median(second) / np.median(first))


def test_an_honest_device(request_: BuildRequest) -> None:
    samples = measured("", request_)
    assert samples.flat
    assert median(samples) == pytest.approx(RUN, rel=5 * BETWEEN)
    assert np.std(samples.seconds[GPU]) / RUN == pytest.approx(NOISE, rel=0.3)
    assert halves(samples) == pytest.approx(1, abs=NOISE)
    assert samples.warmup[GPU][0] > 1.15 * RUN
    assert samples.seconds[END_TO_END].min() > samples.seconds[GPU].max()
    told = sum(float(seconds.sum()) for seconds in samples.seconds.values())
    assert told < samples.elapsed < samples.wall, "it takes the time that it tells"


def test_what_is_asked_for_changes_what_it_takes(request_: BuildRequest) -> None:
    hot, graph, cold, crowd = (
        measured("", request_, replace(PLAN, **asked))
        for asked in ({}, {"graph": True}, {"cold": True}, {"streams": 4})
    )
    assert median(graph) < 0.95 * median(hot) < 1.05 * median(hot) < median(cold)
    assert median(crowd, THROUGHPUT) < 0.5 * median(hot)


def test_processes_differ_a_little(request_: BuildRequest) -> None:
    medians = [median(measured("", request_)) for _ in range(6)]
    assert len(set(medians)) == 6
    assert np.std(medians) / RUN < 4 * BETWEEN


def test_slower(request_: BuildRequest) -> None:
    assert median(measured("slower=7", request_)) == pytest.approx(1.07 * RUN, rel=5 * BETWEEN)


def test_slowing(request_: BuildRequest) -> None:
    samples = measured("slowing", request_)
    assert halves(samples) == pytest.approx(1.025, abs=0.005)
    assert samples.flat


def test_clock_drop(request_: BuildRequest) -> None:
    samples = measured("clock_drop", request_)
    assert halves(samples) == pytest.approx(4 / 3, abs=0.005)
    assert halves(replace(samples, seconds={GPU: samples.seconds[GPU][:100]})) == pytest.approx(1, abs=NOISE)


def test_never_warm(request_: BuildRequest) -> None:
    samples = measured("never_warm", request_)
    assert not samples.flat
    assert halves(replace(samples, seconds=samples.warmup)) < 0.95


def test_slow_process(request_: BuildRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "_MADE", iter(range(100)))
    slow = [median(measured("slow_process", request_)) > (1 + SLOW_PROCESS) / 2 * RUN for _ in range(10)]
    assert sum(slow) == 2
    assert slow[:5] == slow[5:]


def test_wrong_unit(request_: BuildRequest) -> None:
    samples = measured("wrong_unit", request_)
    assert median(samples) == pytest.approx(1e3 * RUN, rel=5 * BETWEEN)


def test_shuffled(request_: BuildRequest) -> None:
    samples = measured("shuffled", request_)
    assert (np.diff(samples.at[GPU]) < 0).any()
    assert median(samples) == pytest.approx(RUN, rel=5 * BETWEEN)
    order = np.argsort(samples.at[GPU])
    assert halves(replace(samples, seconds={GPU: samples.seconds[GPU][order]})) == pytest.approx(1, abs=NOISE)
