"""One process, and what of it is written."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import DeserializeError, SpecError
from harness.measure.journal import FILE, Journal
from harness.measure.process import GRAPH, PLAIN, Job, Process, measured
from harness.runtime.backend.fake import FakeBackend
from harness.runtime.backend.fake_samples import CONTEXT, ENGINE, RESHAPE
from harness.runtime.backend.hosted import HostedBackend, Timeouts
from harness.runtime.backend.onnxruntime import OnnxRuntimeBackend
from harness.runtime.backend.protocol import Backend, BuildRequest, ShapeRange
from harness.runtime.backend.registry import HostSettings, create
from harness.runtime.client import HostClient
from harness.runtime.qualify import Question
from harness.runtime.sampling import END_TO_END, GPU, Sampling
from harness.runtime.telemetry import Reading, Unmonitored
from harness.spec import BuildConfig, recipe
from tests.measure.processes import process
from tests.runtime.models import relu
from tests.spec.onnx_files import linear

BRIEF = {"warmup_least": 0.005, "warmup_most": 0.05, "least": 20, "most": 40, "seconds": 1.0}
WAYS = {GRAPH: Sampling(graph=True, **BRIEF), PLAIN: Sampling(**BRIEF)}  # type: ignore[arg-type]  # BRIEF has values of several types
NOBODY = Unmonitored("no GPU")


def job(folder: Path, backend: Backend, *, inspected: bool = False) -> Job:
    """Of ``y = Relu(x)``, built by ``backend``."""
    shapes = {"x": ShapeRange((1, 2), (2, 2), (4, 2))}
    model = str(relu(folder).source.path())
    plan = backend.build(BuildRequest("relu", recipe("fp32"), BuildConfig(), (shapes,), ({},), model=model))
    file = folder / "a.plan"
    plan.data.tofile(file)
    inputs = {"x": np.array([[1, -1], [2, -2]], np.float32)}
    question = Question("opt", 0, {"batch": 2}, inputs, reference=lambda: pytest.fail("nobody asked for it"))
    return Job(file, lambda _: question, WAYS, inspected=inspected)


def refittable(folder: Path) -> Job:
    """Of ``y = x @ w``, w float32 [4, 3]."""
    model = linear(folder / "a.onnx")
    shapes = {"x": ShapeRange((1, 4), (2, 4), (4, 4))}
    asked = BuildRequest("a", recipe("fp32"), BuildConfig(flags=("REFIT",)), (shapes,), ({},), model=str(model))
    FakeBackend().build(asked).data.tofile(folder / "b.plan")
    inputs = {"x": np.ones((2, 4), np.float32)}
    question = Question("opt", 0, {"batch": 2}, inputs, reference=lambda: pytest.fail("nobody asked for it"))
    return Job(folder / "b.plan", lambda _: question, WAYS)


def test_a_process_of_the_fake_device(tmp_path: Path) -> None:
    asked = job(tmp_path, FakeBackend(), inspected=True)
    made, outputs = measured(FakeBackend(), asked, NOBODY)
    assert outputs["y"].tolist() == [[1, 0], [2, 0]]
    assert made.samples.keys() == WAYS.keys()
    assert made.samples[GRAPH].seconds.keys() >= {GPU, END_TO_END}
    assert {"deserialize", "context", "first run"} <= made.seconds.keys()
    assert all(spent > 0 for spent in made.seconds.values())
    assert made.missing == {
        "host memory": "it ran inside this process",
        "energy": "energy: no GPU",
        "shape switch": "another shape: none was given",
        "refit": "refit: the engine was built without BuilderFlag.REFIT: --build-option flags=REFIT",
    }
    sizes = {"engine memory": ENGINE, "context memory, profile 0": CONTEXT, "peak memory": ENGINE + CONTEXT}
    assert made.nbytes == sizes
    assert made.told
    assert "Layers" in made.told
    again, _ = measured(FakeBackend(), asked, NOBODY)
    assert again.outputs == made.outputs


def test_a_host_of_its_own_tells_its_memory(tmp_path: Path) -> None:
    made, _ = measured(create("fake", HostSettings(), apart=True), job(tmp_path, FakeBackend()), NOBODY)
    assert 10 << 20 < made.nbytes["host memory"] < 1 << 30
    assert "host memory" not in made.missing
    assert made.told is None


def test_what_a_backend_has_not_is_said(tmp_path: Path) -> None:
    backend = OnnxRuntimeBackend()
    made, _ = measured(backend, job(tmp_path, backend), NOBODY)
    assert made.samples.keys() == {PLAIN}
    assert made.missing[GRAPH] == "cuda_graph: the CPU provider has no CUDA graphs"


def test_the_host_ends_with_the_process(tmp_path: Path) -> None:
    backend = HostedBackend("fake", HostClient("fake"), Timeouts(60, 60, 60))
    measured(backend, job(tmp_path, FakeBackend()), NOBODY)
    assert not backend.client.alive(backend.client.generation)


def test_a_host_that_dies_is_an_error_and_nothing_is_left(tmp_path: Path) -> None:
    backend = HostedBackend("fake", HostClient("fake:crash_load"), Timeouts(60, 60, 60))
    with pytest.raises(DeserializeError) as error:
        measured(backend, job(tmp_path, FakeBackend("crash_load")), NOBODY)
    assert error.value.crash
    assert not backend.client.alive(backend.client.generation)


class Counter:
    """A GPU that takes 100 W, and whose counter moves every 20 ms."""

    def read(self) -> Reading:
        now = time.monotonic()
        return Reading(energy=100 * (now - now % 0.02))

    def close(self) -> None: ...


def test_energy_is_that_of_one_run(tmp_path: Path) -> None:
    """The fake device takes as long for a run as it says, and is as hungry as the counter."""
    made, _ = measured(FakeBackend(), replace(job(tmp_path, FakeBackend()), window=0.5), Counter())
    run = float(np.median(made.samples[GRAPH].seconds[GPU]))
    assert made.joules["energy"] == pytest.approx(100 * run, rel=0.15)
    assert "energy" not in made.missing


def test_a_counter_that_stands_still_says_nothing(tmp_path: Path) -> None:
    class Dead(Counter):
        def read(self) -> Reading:
            return Reading(energy=5.0)

    made, _ = measured(FakeBackend(), replace(job(tmp_path, FakeBackend()), window=0.02), Dead())
    assert made.missing["energy"] == "energy: the counter stood still for 0.0 s of runs"


def test_another_shape(tmp_path: Path) -> None:
    x = np.ones((4, 2), np.float32)
    asked = replace(job(tmp_path, FakeBackend()), other=lambda _info, _question: {"x": x})
    made, _ = measured(FakeBackend(), asked, NOBODY)
    assert made.seconds["shape switch"] == pytest.approx(RESHAPE, rel=0.01)
    slower, _ = measured(FakeBackend(), replace(asked, plan=job(tmp_path, FakeBackend("slower=50")).plan), NOBODY)
    assert slower.seconds["shape switch"] == pytest.approx(1.5 * RESHAPE, rel=0.01)


def test_a_refit_by_the_same_weights(tmp_path: Path) -> None:
    given = {"w": np.ones((4, 3), np.float32)}
    backend, asked = FakeBackend(), refittable(tmp_path)
    made, _ = measured(backend, replace(asked, weights=lambda _: (given, {})), NOBODY)
    assert made.seconds["refit"] > 0
    refused = replace(asked, weights=lambda _: ({"nobody": given["w"]}, {}))
    made, _ = measured(backend, refused, NOBODY)
    assert "'nobody'" in made.missing["refit"]
    assert "refit" not in made.seconds


def test_what_is_not_wanted_takes_no_time(tmp_path: Path) -> None:
    asked = replace(job(tmp_path, FakeBackend()), wanted=lambda what: what == "shape switch", window=0.5)
    asked = replace(asked, other=lambda _info, _question: {"x": np.ones((4, 2), np.float32)})
    made, _ = measured(FakeBackend(), asked, Counter())
    assert made.joules == {}
    assert made.missing == {
        "energy": "not asked for",
        "refit": "not asked for",
        "host memory": "it ran inside this process",
    }
    assert made.seconds["shape switch"] > 0


def test_memory_of_every_profile(tmp_path: Path) -> None:
    """Each in a context of its own, with no other beside it: some versions let a profile be used once."""
    living = []

    class Watched(FakeBackend):
        def taken_memory(self) -> int:
            living.append(self.residue().sessions)
            return super().taken_memory() + 3 * CONTEXT * (len(living) > 7)  # the second profile's is larger

    shapes = tuple({"x": ShapeRange((1, 2), (2, 2), (high, 2))} for high in (4, 8))
    model = str(relu(tmp_path).source.path())
    plan = FakeBackend().build(BuildRequest("relu", recipe("fp32"), BuildConfig(), shapes, ({}, {}), model=model))
    plan.data.tofile(tmp_path / "two.plan")
    made, _ = measured(Watched(), replace(job(tmp_path, FakeBackend()), plan=tmp_path / "two.plan"), NOBODY)
    assert made.nbytes["context memory, profile 0"] == CONTEXT
    assert made.nbytes["context memory, profile 1"] == 4 * CONTEXT
    assert made.nbytes["peak memory"] == ENGINE + CONTEXT
    assert max(living) == 1


def test_memory_that_no_step_shows(tmp_path: Path) -> None:
    class Small(FakeBackend):
        def taken_memory(self) -> int:
            return 7

    made, _ = measured(Small(), job(tmp_path, FakeBackend()), NOBODY)
    assert "steps" in made.missing["engine memory"]
    assert "engine memory" not in made.nbytes
    backend = OnnxRuntimeBackend()
    made, _ = measured(backend, job(tmp_path, backend), NOBODY)
    for name in ("engine memory", "context memory, profile 0", "peak memory"):
        assert made.missing[name] == "device memory: onnxruntime runs on the CPU, whose memory is the host's"
    assert made.missing["shape switch"] == "another shape: none was given"


def test_as_json_and_back() -> None:
    made = replace(process(seed=3, host_memory=5), joules={"energy": 0.25})
    again = Process.from_json(json.loads(json.dumps(made.as_json())))
    assert (again.seconds, again.nbytes, again.joules, again.bracket, again.outputs) == (
        made.seconds, made.nbytes, made.joules, made.bracket, made.outputs,
    )  # fmt: skip
    for name in ("seconds", "at", "warmup"):
        got, want = (getattr(one.samples[PLAIN], name)[END_TO_END] for one in (again, made))
        assert got.dtype == np.float64
        assert np.allclose(got, want, rtol=0, atol=1e-12)
    one, other = again.samples[PLAIN], made.samples[PLAIN]
    assert (one.stopped, one.flat, one.replays, one.taken) == (other.stopped, other.flat, other.replays, other.taken)


REQUEST = {"what": ("a", "b")}


class TestJournal:
    def test_what_was_written_is_there_for_the_next(self, tmp_path: Path) -> None:
        first = Journal(tmp_path, REQUEST)
        kept = first.process("a", 0, "A", 0, process(seed=1))
        first.build("a", "A", 0, seconds={"build": 1.5}, nbytes=7)
        first.failure("a", "B", "not today")
        first.close()
        second = Journal(tmp_path, REQUEST)
        assert second.seed == first.seed
        assert second.taken_over == 1
        assert second.builds == {("a", "A", 0): {"seconds": {"build": 1.5}, "nbytes": 7}}
        got = second.processes["a", 0].samples[PLAIN].seconds[END_TO_END]
        assert np.array_equal(got, kept.samples[PLAIN].seconds[END_TO_END])  # to the last bit
        second.close()

    def test_a_torn_line_is_as_if_never_measured(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path, REQUEST)
        for number in (0, 1):
            journal.process("a", number, "A", 0, process(seed=number))
        journal.close()
        whole = (tmp_path / FILE).read_bytes()
        (tmp_path / FILE).write_bytes(whole[:-100])
        again = Journal(tmp_path, REQUEST)
        assert again.processes.keys() == {("a", 0)}
        again.process("a", 1, "A", 0, process(seed=1))
        again.close()
        assert Journal(tmp_path, REQUEST).processes.keys() == {("a", 0), ("a", 1)}

    def test_another_request(self, tmp_path: Path) -> None:
        Journal(tmp_path, REQUEST).close()
        with pytest.raises(SpecError, match="measurements of another request") as error:
            Journal(tmp_path, {"what": ("a", "c")})
        assert '["a", "b"]' in str(error.value)
