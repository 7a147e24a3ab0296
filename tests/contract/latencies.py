"""Promises about measuring, of every backend: one function each, for whatever can be measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from harness.errors import RunError, UnsupportedError
from harness.runtime.backend.protocol import Array, Residue
from harness.runtime.sampling import D2H, END_TO_END, ENQUEUE, GPU, H2D, METRICS, THROUGHPUT, Samples, Sampling, Stop
from tests.contract.checks import CHECKS, RELU_RANGE, floats
from tests.contract.subjects import Bench

PROMISES: dict[str, Callable[[Measurable], None]] = {}
BRIEF: dict[str, Any] = {
    **{"warmup_least": 0.005, "warmup_most": 0.2, "least": 20, "most": 40, "seconds": 5.0},
    "replays": 1,  # of so small a model on a double they would be a hundred
}


@dataclass(frozen=True)
class Measurable:
    """A session of ``y = Relu(x)``, x float32 [1 to 4, 2], and what its backend is known to have."""

    session: Any
    residue: Callable[[], Residue]
    device: bool  # which can be asked for the time
    hosted: bool = False

    def measure(self, **asked: Any) -> Samples:
        samples: Samples = self.session.measure({"x": self.x}, Sampling(**{**BRIEF, **asked}))
        return samples

    @property
    def x(self) -> Array:
        x: Array = floats(3, 2)
        return x

    def is_right(self) -> None:
        assert np.array_equal(self.session.run({"x": self.x})["y"], np.maximum(self.x, 0))


def promise(function: Callable[[Measurable], None]) -> Callable[[Measurable], None]:
    """Register one, and make it part of the contract of every TensorRT."""

    def check(bench: Bench) -> None:
        bench.need("run")
        session = bench.session(bench.engine(bench.relu(), RELU_RANGE))
        function(Measurable(session, bench.backend.residue, device=True, hosted=bench.stage is None))

    PROMISES[function.__name__] = function
    CHECKS[f"latency_{function.__name__}"] = check
    return function


@promise
def samples_come_as_they_were_taken(subject: Measurable) -> None:
    samples = subject.measure()
    one = {END_TO_END, GPU, ENQUEUE, H2D, D2H}
    assert samples.seconds.keys() == (one if subject.device else {END_TO_END})
    assert samples.leading == (GPU if subject.device else END_TO_END)
    assert samples.seconds.keys() == samples.at.keys() == samples.warmup.keys() == samples.taken.keys()
    for name, seconds in samples.seconds.items():
        assert name in METRICS
        assert seconds.dtype == samples.warmup[name].dtype == samples.at[name].dtype == np.float64
        assert seconds.shape == samples.at[name].shape == (samples.taken[name],)
        assert samples.warmup[name].ndim == 1
        assert (seconds > 0).all()
        assert (np.diff(samples.at[name]) >= 0).all()
        assert samples.at[name].min() >= 0
    assert min(float(at.min()) for at in samples.at.values()) == 0
    assert 20 <= samples.taken[samples.leading] <= 40
    assert samples.replays == 1
    assert 0 < samples.elapsed < 60
    assert (samples.wall > samples.elapsed) == subject.hosted


@promise
def how_many_runs_lie_between_two_events_is_found_out_or_told(subject: Measurable) -> None:
    assert subject.measure(replays=0, least=2, most=4, graph=subject.device).replays >= 1
    told = subject.measure(replays=3, least=2, most=4)
    assert told.replays == (3 if subject.device else 1)


@promise
def the_device_is_in_what_the_host_waits_for(subject: Measurable) -> None:
    samples = subject.measure()
    if not subject.device:
        return
    parts = sum(float(np.median(samples.seconds[name])) for name in (H2D, GPU, D2H))
    assert parts < 1.5 * float(np.median(samples.seconds[END_TO_END]))  # which idles beside


@promise
def sampling_stops_at_the_most(subject: Measurable) -> None:
    samples = subject.measure(precision=0.0, most=30, flat=1e-9)
    if samples.half_width > 0:
        assert samples.stopped is Stop.COUNT
        assert samples.taken[samples.leading] == 30


@promise
def sampling_stops_in_time(subject: Measurable) -> None:
    samples = subject.measure(precision=0.0, least=10_000, kept=10_000, most=10_000_000, seconds=0.1)
    assert samples.stopped in (Stop.TIME, Stop.PRECISE)
    assert samples.elapsed < 5


@promise
def as_many_are_kept_as_asked(subject: Measurable) -> None:
    samples = subject.measure(precision=0.0, least=20, kept=20)
    assert samples.taken[samples.leading] >= samples.seconds[samples.leading].size == 20


@promise
def a_graph_is_measured_where_there_is_one(subject: Measurable) -> None:
    if subject.device:
        assert subject.measure(graph=True).seconds[GPU].size >= 20
    else:
        with pytest.raises(UnsupportedError, match="cuda_graph"):
            subject.measure(graph=True)
    subject.is_right()


@promise
def a_cold_cache_is_measured_where_there_is_one(subject: Measurable) -> None:
    """One run between two events: of several in a row only the first is cold."""
    if subject.device:
        for graph in (False, True):
            assert subject.measure(cold=True, graph=graph).replays == 1
    else:
        with pytest.raises(UnsupportedError, match="cold L2 cache"):
            subject.measure(cold=True)
    subject.is_right()


@promise
def several_streams_are_measured_where_there_are_any(subject: Measurable) -> None:
    """8.x lends a profile to one context alone, unless it was built to be shared."""
    if not subject.device:
        with pytest.raises(UnsupportedError, match="3 streams"):
            subject.measure(streams=3)
        return
    for graph in (False, True):
        samples = subject.measure(streams=3, graph=graph)
        assert samples.leading == THROUGHPUT
        assert samples.seconds.keys() == {THROUGHPUT}
        assert (samples.seconds[THROUGHPUT] > 0).all()
    subject.is_right()


@promise
def what_is_refused_to_run_is_refused_to_be_measured(subject: Measurable) -> None:
    for wrong in ({"x": floats(9, 2)}, {"z": floats(3, 2)}, {"x": floats(3, 2).astype(np.int8)}):
        with pytest.raises(RunError):
            subject.session.measure(wrong, Sampling(**BRIEF))
    subject.is_right()
    assert subject.measure().stopped


@promise
def nothing_is_left_of_a_measurement(subject: Measurable) -> None:
    subject.is_right()
    before = subject.residue()
    for asked in ({}, {"graph": True}, {"cold": True}, {"streams": 2}):
        try:
            subject.measure(**asked)
        except UnsupportedError:
            assert not subject.device
        assert subject.residue() == before
        subject.is_right()


@promise
def runs_are_repeated_for_so_long_and_counted(subject: Measurable) -> None:
    for graph in (False, True):
        began = time.perf_counter()
        try:
            found = subject.session.repeat({"x": subject.x}, 0.05, graph=graph)
        except UnsupportedError:
            assert graph
            assert not subject.device
            continue
        assert 0.05 <= found.seconds <= time.perf_counter() - began
        assert found.runs >= 2
        subject.is_right()


@promise
def what_is_refused_to_run_is_not_repeated(subject: Measurable) -> None:
    with pytest.raises(RunError):
        subject.session.repeat({"x": floats(9, 2)}, 0.01)
    subject.is_right()


@promise
def a_first_run_after_another_shape_is_timed_where_shapes_are_told(subject: Measurable) -> None:
    subject.is_right()
    before = subject.residue()
    try:
        found = subject.session.reshape({"x": subject.x}, {"x": floats(1, 2)}, 5)
    except UnsupportedError:
        assert not subject.device
        return
    assert (found.shape, found.dtype) == ((5,), np.float64)
    assert ((found > 0) & (found < 1)).all()
    subject.is_right()
    after = subject.residue()
    assert (after.sessions, after.buffers) == (before.sessions, before.buffers)
    with pytest.raises(RunError):
        subject.session.reshape({"x": subject.x}, {"x": floats(9, 2)}, 5)
    subject.is_right()
