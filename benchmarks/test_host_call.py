"""What a call to an engine host costs beside the work and the copies of its arrays."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.runtime.backend.hosted import HostedBackend, Timeouts
from harness.runtime.backend.protocol import Array
from harness.runtime.client import HostClient

LIMIT = 0.5e-3  # seconds


@pytest.fixture(scope="module")
def backend() -> Iterator[HostedBackend]:
    backend = HostedBackend("fake", HostClient("fake"), Timeouts(60, 60, 60))
    yield backend
    backend.close()


def echo(backend: HostedBackend, arrays: dict[str, Array]) -> dict[str, Array]:
    """Arrays to the host and back, as in a run: four copies of each, two on either side."""
    got: dict[str, Array] = backend.call("builtins:dict", arrays)
    return got


def test_a_call_costs_under_half_a_millisecond(benchmark: BenchmarkFixture, backend: HostedBackend) -> None:
    """Six arrays of a few bytes, as a small model has inputs and outputs: their copies cost nothing."""
    arrays = {f"x{number}": np.ones((2, 8), np.float32) for number in range(6)}
    assert echo(backend, arrays).keys() == arrays.keys()
    benchmark.pedantic(echo, (backend, arrays), rounds=2000, warmup_rounds=200)
    assert benchmark.stats is not None
    assert benchmark.stats.stats.q1 < LIMIT  # the median, but for what else the machine is busy with


@pytest.mark.parametrize("size", [1 << 20, 16 << 20], ids=["1 MiB", "16 MiB"])
def test_large_arrays(benchmark: BenchmarkFixture, backend: HostedBackend, size: int) -> None:
    """For the record; what four copies between cores cost is the machine's."""
    array = np.ones(size, np.uint8)
    benchmark.extra_info["bytes"] = size
    got = benchmark.pedantic(echo, (backend, {"x": array}), rounds=30, warmup_rounds=5)
    assert np.array_equal(got["x"], array)


def test_a_new_host(benchmark: BenchmarkFixture) -> None:
    """What a crash costs beside the request: a process, Python, numpy, this package."""
    client = HostClient("fake", python=sys.executable)

    def start() -> None:
        client.request("probe_steps", {}, stage="probe", timeout=60, summary="start")
        client.close()

    benchmark.pedantic(start, rounds=5)
    assert client.generation == 5
