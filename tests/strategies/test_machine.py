"""The stateful model: honest backends pass, and every fault is found and told in the fewest steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import RefitError, SpecError, UnsupportedError
from harness.judge.oracle import Oracle
from harness.runtime.backend.fake import FakeBackend, FakeEngine, FakeSession
from harness.runtime.backend.onnxruntime import OnnxRuntimeBackend, reference_name, reference_runner
from harness.runtime.backend.protocol import Array, Backend, Residue
from harness.runtime.backend.registry import HostSettings, create
from harness.runtime.request import resolve
from harness.spec import BuildConfig, EngineSpec, ModelSpec, OnnxFile, Profile, recipe
from harness.strategies.machine import Walk, run_machine
from tests.spec.onnx_files import linear

FP32 = recipe("fp32")


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(reference_runner(), reference_name())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """``y = x @ w`` on two profiles."""
    path = linear(tmp_path_factory.mktemp("model") / "a.onnx")
    profiles = tuple(Profile.of({"batch": sizes}) for sizes in ((1, 4, 8), (4, 16, 32)))
    return ModelSpec("linear", OnnxFile(path), profiles)


def plan_of(backend: Backend, model: ModelSpec, flags: tuple[str, ...] = ("REFIT",)) -> Array:
    return backend.build(resolve(EngineSpec.of(model, FP32, BuildConfig(flags=flags)))).data


def walk(backend: Backend, model: ModelSpec, oracle: Oracle, *, seed: int | None = None, **more: Any) -> Walk:
    plan = plan_of(backend, model, more.pop("flags", ("REFIT",)))
    return run_machine(backend, backend.probe(), plan, model, precision=FP32, oracle=oracle, seed=seed, **more)


class TestHonest:
    def test_fake_takes_every_step(self, model: ModelSpec, oracle: Oracle) -> None:
        done = walk(FakeBackend(), model, oracle)
        assert done.failure is None
        assert done.off == {}
        assert set(done.steps) == {
            *("open", "set shape", "switch", "write", "run", "run by graph", "refit", "reload", "drop", "move"),
            "close everything",
        }
        assert done.sequences >= 20
        assert sum(done.steps.values()) >= 20 * 12
        assert done.steps["run"] + done.steps["run by graph"] >= 50

    def test_onnxruntime_takes_what_it_can(self, model: ModelSpec, oracle: Oracle) -> None:
        done = walk(OnnxRuntimeBackend(), model, oracle, flags=())
        assert done.failure is None
        assert done.off.keys() == {"graph", "refit"}
        assert "no CUDA graphs" in done.off["graph"]
        assert not {"refit", "run by graph"} & done.steps.keys()
        assert min(done.steps[kind] for kind in ("run", "set shape", "switch", "reload", "drop", "write")) > 0

    @pytest.mark.parametrize("name", ["bert", "nonzero"])
    def test_models_of_the_zoo(self, name: str, oracle: Oracle) -> None:
        from harness.spec.catalog import load

        done = walk(OnnxRuntimeBackend(), load(())[name], oracle, flags=(), effort="dev", seed=0)
        assert done.failure is None
        assert done.steps["run"] > 0

    def test_in_an_engine_host(self, model: ModelSpec, oracle: Oracle) -> None:
        backend = create("fake", HostSettings())
        try:
            done = walk(backend, model, oracle, effort="dev", seed=0)
        finally:
            backend.close()
        assert done.failure is None
        assert done.steps["run"] > 0

    def test_the_same_sequences_every_time(self, model: ModelSpec, oracle: Oracle) -> None:
        first, second = (dataclasses.replace(walk(FakeBackend(), model, oracle), seconds={}) for _ in range(2))
        assert first == second
        assert walk(FakeBackend(), model, oracle, seed=1).steps != first.steps

    def test_nothing_is_built(self, model: ModelSpec, oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
        backend = FakeBackend("stale_refit")
        plan = plan_of(backend, model)

        def build(*_: object) -> None:
            raise AssertionError("an engine was built")

        monkeypatch.setattr(FakeBackend, "build", build)
        done = run_machine(backend, backend.probe(), plan, model, precision=FP32, oracle=oracle)
        assert done.failure is not None

    def test_nothing_is_left_open(self, model: ModelSpec, oracle: Oracle) -> None:
        for fault in ("", "stale_refit", "enqueue_false"):
            backend = FakeBackend(fault)
            walk(backend, model, oracle)
            assert backend.residue() == Residue()


OPEN = "open context 0 on profile 0 batch=1 seed=0"
GRAPH = "run context 0 by a graph, captured at these shapes or replayed"
SHORTEST = {
    "stale_graph_shape": (OPEN, GRAPH, "set the shape of context 0: profile 0 batch=2 seed=0", GRAPH),
    "stale_graph": (OPEN, GRAPH, "write new inputs into context 0: seed=1", GRAPH),
    "stale_refit": (OPEN, "refit to weights of seed 1", "run context 0"),
    "other_context": (OPEN, "run context 0", "open context 1 on profile 0 batch=1 seed=1", "run context 1"),
    "stale": (OPEN, "run context 0", "write new inputs into context 0: seed=1", "run context 0"),
    "leak": (OPEN, "close everything"),
    "wrong_profile=1": ("open context 0 on profile 1 batch=4 seed=0", "run context 0"),
    "wrong_inference": (OPEN, "set the shape of context 0: profile 0 batch=1 seed=0"),
    "enqueue_false": (OPEN, "run context 0"),
}


@pytest.mark.parametrize("fault", SHORTEST)
class TestFinds:
    def test_in_the_fewest_steps(self, fault: str, model: ModelSpec, oracle: Oracle) -> None:
        done = walk(FakeBackend(fault), model, oracle)
        assert done.failure is not None
        assert done.failure.steps == SHORTEST[fault]
        assert not done.failure.flaky

    def test_with_every_seed(self, fault: str, model: ModelSpec, oracle: Oracle) -> None:
        found = [walk(FakeBackend(fault), model, oracle, seed=seed).failure for seed in range(4)]
        assert [len(failure.steps) for failure in found if failure] == [len(SHORTEST[fault])] * 4


class TestTells:
    def test_the_steps_and_the_error(self, model: ModelSpec, oracle: Oracle) -> None:
        failure = walk(FakeBackend("stale_refit"), model, oracle).failure
        assert failure is not None
        lines = str(failure).splitlines()
        assert lines[:4] == [
            "ComparisonFailure after these steps on an engine newly loaded:",
            *(f"  {number}. {step}" for number, step in enumerate(SHORTEST["stale_refit"], 1)),
        ]
        assert "linear at fp32 on fake, context 0 at profile 0 batch=1 seed=0, weights of seed 1" in lines[4]
        assert "expected" in str(failure)

    def test_a_crash(self, model: ModelSpec, oracle: Oracle) -> None:
        backend = create("fake:crash_run", HostSettings())
        try:
            failure = walk(backend, model, oracle, effort="dev", seed=0).failure
        finally:
            backend.close()
        assert failure is not None
        assert failure.steps == (OPEN, "run context 0")
        assert str(failure).startswith("signal 11")

    def test_what_the_logger_holds(self, model: ModelSpec, oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
        heard: list[str] = []
        move, counted = FakeSession.move, FakeBackend.residue

        def complaining(session: FakeSession, tensor: str) -> None:
            heard.append(f"[E] {tensor} is misaligned")
            move(session, tensor)

        def residue(backend: FakeBackend) -> Residue:
            errors = tuple(heard)
            heard.clear()
            return dataclasses.replace(counted(backend), errors=errors)

        monkeypatch.setattr(FakeSession, "move", complaining)
        monkeypatch.setattr(FakeBackend, "residue", residue)
        failure = walk(FakeBackend(), model, oracle).failure
        assert failure is not None
        assert failure.steps in [(OPEN, f"give {name!r} of context 0 another address") for name in "xy"]
        assert "the logger holds errors of no call" in str(failure)
        assert "is misaligned" in str(failure)

    def test_memory_that_grows(self, model: ModelSpec, oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
        """While its session lives, too, and not only when it is closed."""
        move, counted = FakeSession.move, FakeBackend.residue
        moved: list[str] = []
        monkeypatch.setattr(
            FakeSession, "move", lambda session, tensor: (moved.extend([tensor] * 20), move(session, tensor))
        )
        monkeypatch.setattr(
            FakeBackend, "residue", lambda backend: dataclasses.replace(counted(backend), buffers=len(moved))
        )
        failure = walk(FakeBackend(), model, oracle).failure
        assert failure is not None
        assert failure.steps in [(OPEN, f"give {name!r} of context 0 another address") for name in "xy"]
        assert "20 buffers of this sequence live, expected at most" in str(failure)

    def test_a_refit_that_is_refused_and_names_no_weights(
        self, model: ModelSpec, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise RefitError("not today")

        monkeypatch.setattr(FakeEngine, "refit", refuse)
        failure = walk(FakeBackend(), model, oracle).failure
        assert failure is not None
        assert failure.steps == ("refit to weights of seed 1",)
        assert "not today" in str(failure)

    def test_a_failure_that_does_not_come_again(
        self, model: ModelSpec, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, calls = FakeSession.run, iter(range(10**6))

        def once(session: FakeSession, inputs: Mapping[str, Array], **more: Any) -> dict[str, Array]:
            outputs = run(session, inputs, **more)
            return {name: array + 1 for name, array in outputs.items()} if next(calls) == 20 else outputs

        monkeypatch.setattr(FakeSession, "run", once)
        failure = walk(FakeBackend(), model, oracle).failure
        assert failure is not None
        assert failure.flaky
        assert "not again" in str(failure)


class TestIsRefused:
    def test_without_a_way_to_run(self, model: ModelSpec, oracle: Oracle) -> None:
        plan = plan_of(FakeBackend(), model)
        backend = FakeBackend("needs_gpu")
        with pytest.raises(UnsupportedError, match="no fake GPU"):
            run_machine(backend, backend.probe(), plan, model, precision=FP32, oracle=oracle)

    def test_a_model_of_one_shape(self, model: ModelSpec, oracle: Oracle, tmp_path: Path) -> None:
        given = dataclasses.replace(model, data=tmp_path / "x.npz")
        with pytest.raises(UnsupportedError, match="in one shape"):
            run_machine(
                FakeBackend(), FakeBackend().probe(), np.zeros(0, np.uint8), given, precision=FP32, oracle=oracle
            )

    def test_an_effort_that_there_is_not(self, model: ModelSpec, oracle: Oracle) -> None:
        with pytest.raises(SpecError, match="nightly"):
            walk(FakeBackend(), model, oracle, effort="nigthly")

    def test_a_refit_of_a_plan_that_is_fixed(self, model: ModelSpec, oracle: Oracle) -> None:
        done = walk(FakeBackend(), model, oracle, flags=())
        assert "REFIT" in done.off["refit"]
        assert "refit" not in done.steps
        assert done.failure is None
