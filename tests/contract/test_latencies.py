"""The promises about measuring, against what needs no device; and what only doubles can show of one that does."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda.bindings import runtime as cudart
from onnx import helper

from harness.errors import DeserializeError, RunError, UnsupportedError
from harness.runtime.backend.fake import FakeBackend
from harness.runtime.backend.hosted import HostedBackend, Timeouts
from harness.runtime.backend.onnxruntime import OnnxRuntimeBackend
from harness.runtime.backend.protocol import BuildRequest, ShapeRange
from harness.runtime.client import HostClient
from harness.runtime.sampling import CHUNK, D2H, END_TO_END, ENQUEUE, GPU, H2D, THROUGHPUT, Samples, Sampling
from harness.spec import RECIPES, BuildConfig
from tests.contract.checks import RELU_RANGE, floats
from tests.contract.latencies import BRIEF, PROMISES, Measurable
from tests.contract.subjects import DOUBLES, FLOAT, INT64, Bench, bench_of_double
from tests.contract.test_nv_contract import probe_of
from tests.doubles.cuda_runtime import COPY, COPY_BYTE, KERNEL, L2_CACHE, Cuda
from tests.doubles.plays import run as runs
from tests.runtime import models

FAULT, SHORTAGE = cudart.cudaError_t.cudaErrorIllegalAddress, cudart.cudaError_t.cudaErrorMemoryAllocation
TIMEOUTS = Timeouts(build=60, run=60, probe=60)
BACKENDS = {
    "onnxruntime": OnnxRuntimeBackend,
    "fake": FakeBackend,
    "hosted-onnxruntime": lambda: HostedBackend("onnxruntime", HostClient("onnxruntime"), TIMEOUTS),
    "hosted-fake": lambda: HostedBackend("fake", HostClient("fake"), TIMEOUTS),
}


@pytest.fixture(params=BACKENDS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Measurable]:
    with contextlib.ExitStack() as opened:
        backend: Any = BACKENDS[request.param]()
        opened.callback(backend.close)
        model = models.relu(tmp_path).source.path()
        shapes = {"x": ShapeRange((1, 2), (3, 2), (4, 2))}
        asked = BuildRequest("relu", RECIPES["fp32"], BuildConfig(), (shapes,), ({},), model=str(model))
        engine = backend.load(backend.build(asked).data)
        opened.callback(engine.close)
        session = engine.session()
        opened.callback(session.close)
        hosted = request.param.startswith("hosted")
        yield Measurable(session, backend.residue, device="fake" in request.param, hosted=hosted)


@pytest.mark.parametrize("name", PROMISES)
def test_promise(subject: Measurable, name: str) -> None:
    PROMISES[name](subject)


# What can be shown with doubles only: their time is what their work costs.

NODES = 3
KERNEL_TIME = 1e-4  # seconds
BATCH = np.ones((4, 1000), np.float32)
RANGE = {"x": ((1, 1000), (2, 1000), (4, 1000))}


@pytest.fixture(params=DOUBLES, ids=str)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with bench_of_double(request.param, probe_of(request.param), tmp_path) as made:
        yield made


def cuda_of(bench: Bench) -> Cuda:
    assert bench.stage is not None
    return bench.stage.cuda


def chain(bench: Bench, nodes: int = NODES) -> Any:
    """A session of as many kernels, x and y float32 [1 to 4, 1000]."""
    names = ["x", *(f"t{index}" for index in range(1, nodes)), "y"]
    made = [helper.make_node("Neg", [a], [b], name=f"to {b}") for a, b in itertools.pairwise(names)]
    shape: list[int | str] = ["n", 1000]
    path = bench.model(made, {"x": (FLOAT, shape)}, {"y": (FLOAT, shape)}, "chain")
    return bench.session(bench.engine(path, RANGE))


def measure(session: Any, **asked: Any) -> Samples:
    samples: Samples = session.measure({"x": BATCH}, Sampling(**{**BRIEF, **asked}))
    return samples


def calls_of(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[Any, ...]]:
    """The arguments of every call of one of CUDA's functions from now on."""
    calls: list[tuple[Any, ...]] = []
    real = getattr(Cuda, name)

    def call(self: Cuda, *args: Any) -> Any:
        calls.append(args)
        return real(self, *args)

    monkeypatch.setattr(Cuda, name, call)
    return calls


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("replays", [0, 1, 5])
def test_events_tell_what_one_run_takes(
    bench: Bench, graph: bool, replays: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "KERNEL", KERNEL_TIME)  # so that a few runs last long enough
    samples = measure(chain(bench), graph=graph, replays=replays)
    assert samples.replays == replays if replays else samples.replays > 1, "so short that what begins one would tell"
    assert samples.seconds[GPU] == pytest.approx(NODES * KERNEL_TIME)
    assert samples.seconds[H2D] == pytest.approx(COPY + BATCH.nbytes * COPY_BYTE)
    assert samples.seconds[D2H] == pytest.approx(COPY + BATCH.nbytes * COPY_BYTE)
    assert (samples.seconds[ENQUEUE] < samples.seconds[END_TO_END]).all()


def test_a_long_run_is_alone_between_two_events(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "KERNEL", 1.0)
    samples = measure(chain(bench), replays=0)
    assert samples.replays == 1
    assert samples.seconds[GPU] == pytest.approx(NODES)


@pytest.mark.parametrize(
    ("run", "host", "replays"),
    [
        (1.1e-3, 1e-5, 1),
        (0.9e-3, 1e-5, 2),
        (84e-6, 1e-5, 16),
        (84e-6, 6e-5, 16),  # whatever the host takes
        (84e-6, 2e-4, 32),  # unless the device would wait for it
        (1e-7, 1e-5, 128),
        (0.0, 1e-5, 128),
        (1.0, 0.0, 1),
    ],
)
def test_how_many_runs_lie_between_two_events(bench: Bench, run: float, host: float, replays: int) -> None:
    from harness.runtime.backend.nv.measure import replays_for

    assert bench.stage is not None
    assert replays_for(run, host) == replays


def test_what_begins_a_launch_does_not_decide_how_many_runs_follow_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run by itself takes 90 us, of which 40 begin it."""
    monkeypatch.setattr(runs, "KERNEL", 50e-6 / NODES)
    real = Cuda.cudaGraphLaunch

    def launch(self: Cuda, graph: Any, stream: Any) -> Any:
        self._put(int(stream), lambda: None, 40e-6)
        return real(self, graph, stream)

    monkeypatch.setattr(Cuda, "cudaGraphLaunch", launch)
    samples = measure(chain(bench), graph=True, replays=0)
    assert samples.replays == 32
    assert samples.seconds[GPU] == pytest.approx(50e-6 + 40e-6 / 32)


def test_several_replays_of_a_graph_are_one_launch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    session = chain(bench)
    session.run({"x": BATCH}, graph=True)
    launches = calls_of(monkeypatch, "cudaGraphLaunch")
    session.run({"x": BATCH}, graph=True)
    (own,) = {int(graph) for graph, _stream in launches}
    samples = measure(session, graph=True, replays=50)
    timed = samples.taken[GPU] + samples.warmup[GPU].size
    of_several = [int(graph) for graph, _stream in launches if int(graph) != own]
    assert len(set(of_several)) == 1
    assert timed < len(of_several) <= 3 * timed, "with those before the first of a chunk"
    assert samples.seconds[GPU] == pytest.approx(NODES * KERNEL)


def test_a_cold_cache_is_written_over_before_each_run_and_outside_of_the_events(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = chain(bench)
    order: list[Any] = []
    for name in ("cudaMemsetAsync", "cudaEventRecord"):
        real = getattr(Cuda, name)

        def call(self: Cuda, *args: Any, real: Any = real, name: str = name) -> Any:
            order.append((name, args[2] if name == "cudaMemsetAsync" else 0))
            return real(self, *args)

        monkeypatch.setattr(Cuda, name, call)
    hot = measure(session)
    write, record = ("cudaMemsetAsync", L2_CACHE), ("cudaEventRecord", 0)
    assert write not in order
    cold = measure(session, cold=True)
    writes = [place for place, what in enumerate(order) if what == write]
    assert len(writes) == cold.taken[GPU] + cold.warmup[GPU].size
    assert all(order[place + 1 : place + 3] == [record, record] for place in writes)
    assert cold.seconds[GPU] == pytest.approx(hot.seconds[GPU][0]), "had it been inside, it would be longer"


def test_the_host_waits_once_for_all_runs_of_a_chunk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.runtime.backend.nv.measure import SELDOM, Meter

    waits: list[tuple[int, int]] = []
    take = Meter.take

    def counted(self: Meter, count: int) -> Any:
        before = cuda_of(bench).waits
        taken = take(self, count)
        waits.append((count, cuda_of(bench).waits - before))
        return taken

    monkeypatch.setattr(Meter, "take", counted)
    measure(chain(bench), replays=1, least=100, most=100, precision=0.0)
    assert any(count > SELDOM for count, _ in waits)
    # Once for the runs, once for copies each way, and after each of a few that a caller would wait for.
    assert all(waited == 3 + max(count // SELDOM, 1) for count, waited in waits), waits


def test_events_are_made_beforehand(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = calls_of(monkeypatch, "cudaEventCreate")
    measure(chain(bench), replays=1, least=300, most=300, kept=300, precision=0.0)
    assert len(made) == 2 * CHUNK


def test_all_is_given_back_at_once(bench: Bench) -> None:
    """And not when the session is closed."""
    session = chain(bench)
    session.run({"x": BATCH}, graph=True)
    cuda, before = cuda_of(bench), cuda_of(bench).live()
    for asked in ({"graph": True, "replays": 7}, {"cold": True}, {"streams": 2, "graph": True}):
        measure(session, **asked)
        assert cuda.live() == before


def test_repeated_runs_are_those_of_the_device(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that is counted was enqueued, nothing is copied between them, and all is given back."""
    session = chain(bench)
    session.run({"x": BATCH})
    before = cuda_of(bench).live()
    enqueued = 0
    enqueue = runs.Context.execute_async_v3

    def counted(self: Any, stream: int) -> bool:
        nonlocal enqueued
        enqueued += 1
        return bool(enqueue(self, stream))

    monkeypatch.setattr(runs.Context, "execute_async_v3", counted)
    copies = calls_of(monkeypatch, "cudaMemcpyAsync")
    found = session.repeat({"x": BATCH}, 0.05)
    assert enqueued == found.runs + 1, "one comes before, which makes room"
    assert len(copies) == 1, "its input"
    assert cuda_of(bench).live() == before


def test_only_what_a_new_shape_costs_is_timed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither copies, nor the run before, nor what waits for the device; the enqueue is."""
    session = chain(bench)
    other = np.ones((2, 1000), np.float32)

    def late(owner: Any, name: str, seconds: float) -> None:
        real = getattr(owner, name)

        def call(self: Any, *args: Any) -> Any:
            time.sleep(seconds)
            return real(self, *args)

        monkeypatch.setattr(owner, name, call)

    for name in ("cudaMemcpyAsync", "cudaStreamSynchronize"):
        late(Cuda, name, 0.02)
    assert float(np.median(session.reshape({"x": BATCH}, {"x": other}, 3))) < 0.02
    late(runs.Context, "execute_async_v3", 0.03)
    assert float(np.median(session.reshape({"x": BATCH}, {"x": other}, 3))) > 0.03


def test_memory_of_the_device_is_told(bench: Bench) -> None:
    before = bench.backend.taken_memory()
    session = chain(bench)
    session.run({"x": BATCH})
    assert bench.backend.taken_memory() - before >= 2 * BATCH.nbytes


def test_an_enqueue_that_fails_half_way_ends_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    session = chain(bench)
    session.run({"x": BATCH})
    before = cuda_of(bench).live()
    enqueue = runs.Context.execute_async_v3
    left = [100]

    def tired(self: Any, stream: int) -> bool:
        left[0] -= 1
        if not left[0]:
            self.world.error("IExecutionContext::enqueueV3", "tired of it")
        return left[0] > 0 and bool(enqueue(self, stream))

    monkeypatch.setattr(runs.Context, "execute_async_v3", tired)
    freed = calls_of(monkeypatch, "cudaFreeHost")
    free = Cuda.cudaFreeHost

    def free_idle(self: Cuda, ptr: Any) -> Any:
        assert not any(stream.pending for stream in self.streams.values()), "still under way"
        return free(self, ptr)

    monkeypatch.setattr(Cuda, "cudaFreeHost", free_idle)
    with pytest.raises(RunError, match="tired of it") as caught:
        measure(session, least=200, most=200)
    assert caught.value.log
    assert len(freed) == 2, "one input, one output"
    assert cuda_of(bench).live() == before
    monkeypatch.undo()
    assert np.array_equal(session.run({"x": BATCH})["y"], -BATCH)
    assert bench.backend.residue().errors == ()


def test_a_launch_that_fails_half_way_costs_the_host(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    session = chain(bench)
    real = Cuda._do
    left = [500]

    def broken(self: Cuda, task: Any) -> None:
        left[0] -= 1
        if not left[0]:
            self.fault = FAULT
        real(self, task)

    with monkeypatch.context() as patched:
        patched.setattr(Cuda, "_do", broken)
        with pytest.raises(RunError, match="the launch failed: CUDA: an illegal memory access") as caught:
            measure(session, precision=0.0, least=10_000, most=10_000)
    assert caught.value.detail["replace_host"]
    cuda_of(bench).fault = None


def test_too_little_memory_costs_no_host(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    session = chain(bench)
    session.run({"x": BATCH})
    with monkeypatch.context() as patched:
        patched.setattr(Cuda, "cudaMallocHost", lambda _self, _size: (SHORTAGE, 0))
        with pytest.raises(RunError, match="out of memory") as caught:
            measure(session)
    assert "replace_host" not in caught.value.detail
    assert measure(session).taken[GPU] >= 20


def test_streams_work_beside_each_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each context on a stream of its own, all of them put to work before any is waited for."""
    session = chain(bench)
    session.run({"x": BATCH})
    seen: list[int] = []
    enqueue = runs.Context.execute_async_v3
    monkeypatch.setattr(
        runs.Context, "execute_async_v3", lambda self, stream: (seen.append(int(stream)), enqueue(self, stream))[1]
    )
    before = cuda_of(bench).waits
    samples = measure(session, streams=3, precision=0.0)
    assert samples.replays % 3 == 0
    assert len(set(seen)) == 3
    assert {stream: seen.count(stream) for stream in seen} == dict.fromkeys(seen, seen.count(seen[0]))
    batches = samples.taken[THROUGHPUT] + samples.warmup[THROUGHPUT].size + 2
    assert cuda_of(bench).waits - before == pytest.approx(3 * batches, abs=20)
    assert seen.count(seen[0]) == pytest.approx((batches - 1) * samples.replays / 3, abs=samples.replays)


def test_an_output_whose_size_the_data_decide_costs_no_poison(bench: Bench) -> None:
    """Its allocator is asked in the run itself. It is poisoned again as soon as the measurement is over."""
    node = helper.make_node("NonZero", ["x"], ["y"], name="some")
    path = bench.model([node], {"x": (FLOAT, [2, 3])}, {"y": (INT64, [2, "some"])}, "some")
    session = bench.session(bench.engine(path))
    x = np.array([[1, 0, 2], [0, 0, 3]], np.float32)
    want = session.run({"x": x})["y"]
    samples = session.measure({"x": x}, Sampling(**BRIEF))
    assert samples.seconds[GPU] == pytest.approx(KERNEL, rel=1e-6)
    assert samples.seconds[D2H] == pytest.approx(COPY + want.nbytes * COPY_BYTE, rel=1e-6)
    with pytest.raises(UnsupportedError, match="depend on data"):
        session.measure({"x": x}, Sampling(**BRIEF, graph=True))
    assert np.array_equal(session.run({"x": x})["y"], want)
    session.limit("y", 1)
    with pytest.raises(RunError) as caught:
        session.run({"x": x})
    assert caught.value.detail["touched"] == ()


def test_a_profile_that_one_context_has_is_no_place_for_several(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    session = chain(bench)
    monkeypatch.setattr(runs.Engine, "may_share", False)
    with pytest.raises(UnsupportedError, match=r"several streams on profile 0: .*chosen by another"):
        measure(session, streams=2)
    assert measure(session).taken[GPU] >= 20
    monkeypatch.undo()
    monkeypatch.setattr(runs.Engine, "create_execution_context", lambda *_: None)
    with pytest.raises(DeserializeError, match="no execution context could be made"):
        measure(session, streams=2)


def test_measuring_leaves_no_trace_in_what_is_computed(bench: Bench) -> None:
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE))
    for graph in (False, True):
        session.measure({"x": floats(3, 2)}, Sampling(**BRIEF, graph=graph))
        for rows in (3, 1, 4):
            x = floats(rows, 2, seed=rows)
            assert np.array_equal(session.run({"x": x}, graph=graph)["y"], np.maximum(x, 0))
