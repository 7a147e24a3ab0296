"""``bench``: what one engine comes to over its processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.errors import BuildError
from harness.measure import canary_models, runner, side
from harness.measure.watch import Watch
from harness.runtime.backend.fake_samples import CONTEXT, ENGINE, RESHAPE
from harness.runtime.backend.registry import HostSettings
from harness.runtime.device_lock import lock_of
from harness.runtime.devices import CPU
from tests.cli.conftest import Result, Trt
from tests.spec.onnx_files import linear

pytestmark = pytest.mark.runs

PROFILE = ("--profile", "batch=1:2:4")
HERE = ("--in-process",)
FEW = ("--processes", "8", "--seconds", "0.03", "--warmup", "0.4")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return linear(tmp_path / "a.onnx")


def test_the_fake_device(trt: Trt, model: Path) -> None:
    done = trt("bench", model, *PROFILE, "--backend", "fake", "--in-process", *FEW, "--json")
    assert done.code == done.json["exit_code"] == 0
    found = {one["name"]: one for one in done.json["measured"]}
    graph = found["gpu, graph"]
    assert graph["processes"] == 8
    assert graph["low"] < graph["median"] < graph["high"]
    assert graph["median"] == pytest.approx(0.9 * 22e-6, rel=0.01)
    assert 0.0001 < graph["between"] < 0.002  # .0005 is played
    assert 0.001 < graph["within"] < 0.004  # .002
    assert found["gpu, plain"]["median"] > graph["median"]
    once = {"deserialize", "context", "first run", "shape switch", "plan size", "parse", "build"}
    assert {*once, "engine memory", "context memory, profile 0", "peak memory"} <= found.keys()
    assert found["shape switch"]["median"] == pytest.approx(RESHAPE, rel=0.01)
    assert found["peak memory"]["median"] == ENGINE + CONTEXT
    said = {one["metric"]: one["said"] for one in done.json["findings"]}
    assert said["numerics of X"] == "PASS"
    assert {said[name] for name in ("host memory", "energy", "refit")} == {"NOT_COVERED"}
    why = {one["metric"]: one["words"] for one in done.json["findings"]}
    assert why["energy"] == "energy: no GPU"
    assert "--build-option flags=REFIT" in why["refit"]


def test_a_refit_and_a_profile_of_one_shape(trt: Trt, model: Path) -> None:
    """It replaces the weights of the model by themselves; what no other shape is there for, says so."""
    fixed = ("--profile", "batch=2:2:2", "--build-option", "flags=REFIT", "--processes", "2")
    done = trt("bench", model, "--backend", "fake", "--in-process", *FEW, *fixed, "--json")
    found = {one["name"]: one for one in done.json["measured"]}
    assert found["refit"]["median"] > 0
    why = {one["metric"]: one["words"] for one in done.json["findings"]}
    assert why["shape switch"] == "another shape: the profile has one only"


def test_a_plan_from_elsewhere(trt: Trt, model: Path) -> None:
    assert (
        trt("build", model, *PROFILE, "--backend", "fake", *HERE, "--build-option", "flags=REFIT", "-o", "a.plan").code
        == 0
    )
    done = trt("bench", "a.plan", "--backend", "fake", "--in-process", *FEW, "--processes", "2", "--json")
    why = {one["metric"]: one["words"] for one in done.json["findings"]}
    assert why["parse"] == why["build"] == "the plan was built elsewhere"
    assert why["refit"] == "refit: of a plan nobody here has the weights"
    assert "shape switch" in {one["name"] for one in done.json["measured"]}, "its profiles tell of another shape"


def test_a_table_for_people(trt: Trt, model: Path) -> None:
    done = trt("bench", model, *PROFILE, "--backend", "onnxruntime", *FEW, "--processes", "2", "--warmup", "0.1")
    assert done.code in (0, 4)  # whether this machine gives one number is not for a test to say
    for part in ("end to end", "95 % over processes", "p99", "host memory", "bytes", "cuda_graph"):
        assert part in done.out


def test_several_modes(trt: Trt, model: Path) -> None:
    arguments = ("--backend", "fake:slow_process", "--in-process", *FEW, "--processes", "12", "--json")
    done = trt("bench", model, *PROFILE, *arguments)
    assert done.code == 4
    graph = next(one for one in done.json["measured"] if one["name"] == "gpu, graph")
    assert re.search(r"two groups of processes (9|10)\.\d % apart", graph["note"])


def test_wrong_numbers_and_a_crash(trt: Trt, model: Path) -> None:
    wrong = trt("bench", model, *PROFILE, "--backend", "fake:nan", "--in-process", *FEW, "--processes", "1", "--json")
    assert wrong.code == 1
    assert "FAILED" in {one["said"] for one in wrong.json["findings"]}
    dead = trt("bench", model, *PROFILE, "--backend", "fake:crash_run", *FEW, "--processes", "1")
    assert dead.code == 1
    assert "SIGSEGV" in dead.out


def test_only_built(trt: Trt, model: Path) -> None:
    done = trt("bench", model, *PROFILE, "--backend", "fake:needs_gpu", "--in-process", *FEW, "--json")
    assert done.code == 0
    assert {one["name"] for one in done.json["measured"]} == {"plan size", "parse", "build"}
    why = {one["metric"]: one["words"] for one in done.json["findings"]}
    for name in ("energy", "shape switch", "refit", "engine memory", "context memory, profile 0", "peak memory"):
        assert "no fake GPU was found" in why[name]
    assert trt("bench", model, *PROFILE, "--backend", "fake:absent", "--in-process", *FEW).code == 3


def test_two_at_once_take_turns(model: Path, tmp_path: Path) -> None:
    """Two real commands: a run of pytest holds the CPU, and then neither measures beside the other."""
    command = [sys.executable, "-m", "harness.cli", "bench", str(model), *PROFILE, "--backend", "fake", *HERE]
    few = ("--processes", "4", "--seconds", "0.05", "--warmup", "0.2")
    with contextlib.ExitStack() as ends:
        with lock_of(CPU).shared("a run of pytest"):
            waiting = []
            for name in ("one", "other"):
                log = ends.enter_context((tmp_path / f"{name}.log").open("w"))
                one = [*command, *few, "--output", str(tmp_path / name)]
                waiting.append(ends.enter_context(subprocess.Popen(one, stderr=log, stdout=subprocess.DEVNULL)))
            for name in ("one", "other"):
                _until(lambda name=name: "process 1 of 4" in (tmp_path / f"{name}.log").read_text())
            assert not any(
                (tmp_path / name / "journal.jsonl").read_text().count('"process"') for name in ("one", "other")
            )
        assert {one.wait(120) for one in waiting} <= {0, 4}
    said = (tmp_path / "one.log").read_text()
    assert f"a: process 1 of 4: X: waits for cpu, in use by a run of pytest (process {os.getpid()})" in said
    spans = sorted(span for name in ("one", "other") for span in _spans(tmp_path / name))
    assert len(spans) == 8
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def _spans(folder: Path) -> list[tuple[float, float]]:
    """When each process of a journal was measured."""
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    brackets = [line["bracket"] for line in lines if line["kind"] == "process"]
    return [(one["before"]["at"], one["after"]["at"]) for one in brackets]


def _until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_gpu_that_is_not_there(trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert "there is no GPU 2: choose from 0, 1" in trt("bench", model, "--device", "2").err
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "no GPU is visible here" in trt("compare", model, "--device", "1").err


def test_the_device_that_is_asked_for(trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one that is built on, measured on, and locked."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    asked, made, locked = [], side.create, runner.Runner.process

    def create(_: str, hosts: HostSettings, device: int, *, apart: bool) -> Any:
        asked.append(device)
        return made("fake", hosts, device, apart=apart)

    def process(self: runner.Runner, *place: int) -> Any:
        (one,) = self.sides
        assert replace(one, backend="tensorrt").lock.key == "5"
        assert one.bench._number("tensorrt") == 1  # where it is built
        return locked(self, *place)

    monkeypatch.setattr(side, "create", create)
    monkeypatch.setattr(runner.Runner, "process", process)
    done = trt("bench", model, *PROFILE, "--backend", "fake", "--in-process", *FEW, "--processes", "1", "--device", "1")
    assert (done.code, asked) == (0, [1])


@pytest.mark.parametrize(
    "option",
    [("--precision", "fp32"), ("--build-option", "optimization_level=1"), PROFILE, ("--rebuilds", "4")],
)
def test_how_to_build_is_nothing_to_say_of_a_plan(trt: Trt, model: Path, option: tuple[str, str]) -> None:
    assert trt("build", model, *PROFILE, "--backend", "fake", *HERE, "-o", "a.plan").code == 0
    done = trt("bench", "a.plan", "--backend", "fake", "--in-process", *FEW, *option)
    assert done.code == 2
    assert f"a.plan: is a plan, which was built before: {' '.join(option)} can't change it" in done.err


class TestCanaries:
    """The fake device takes as long for a canary as for any other model of as many layers."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(canary_models.SIDE, "cpu", 8)
        monkeypatch.setitem(canary_models.ROWS, "cpu", 2)

    @staticmethod
    def run(trt: Trt, target: Path | str, *more: str) -> Result:
        few = ("--seconds", "0.03", "--warmup", "0.4", "--processes", "2")
        return trt("bench", target, "--backend", "fake", "--in-process", *few, "--canaries", "--json", *more)

    def test_a_floor_and_how_far_it_is_above(self, trt: Trt, model: Path) -> None:
        done = self.run(trt, model, *PROFILE, "--output", "out")
        assert done.code == 0
        roof = done.json["roofline"]
        assert roof["work"] == {"operations": 2 * 2 * 4 * 3, "nbytes": 4 * (2 * 4 + 2 * 3 + 4 * 3), "uncounted": {}}
        assert roof["by"] == {"canary_compute_cpu": "fp32", "canary_memory_cpu": "fp32"}
        lines = [json.loads(line) for line in (Path("out") / "journal.jsonl").read_text().splitlines()]
        order = [line["subject"] for line in lines if line["kind"] == "process"]
        canaries = ["canary_compute_cpu_full"] * 3 + ["canary_memory_cpu_full"] * 3
        assert order == [*canaries, "a", "a", *canaries], "before and after"

        def median(name: str) -> float:
            of = [line["samples"]["graph"]["seconds"]["gpu"] for line in lines if line.get("samples", {}).get("graph")
                  and line["subject"].startswith(name)]  # fmt: skip
            return float(np.median([np.median(one) for one in of]))

        best = roof["ceilings"]
        assert best["operations"] == pytest.approx(8 * 2 * 8**3 / median("canary_compute"))
        assert best["nbytes"] == pytest.approx(2 * 4 * 2 * 4096 / median("canary_memory"))
        floor = max(48 / best["operations"], 104 / best["nbytes"])
        found = {one["name"]: one for one in done.json["measured"]}
        assert found["floor"]["median"] == roof["floor"] == pytest.approx(floor)
        above = found["gpu, graph, over the floor"]
        assert above["median"] == pytest.approx(found["gpu, graph"]["median"] / floor)
        assert above["low"] < above["median"] < above["high"]
        assert above["unit"] == "times"
        words = {one["metric"]: one["words"] for one in done.json["findings"]}
        assert words["floor"].startswith(f"bound by {roof['bound']}: ")
        assert "canary_compute_cpu at fp32" in words["floor"]

    def test_arithmetic_at_the_precision_of_the_subject(self, trt: Trt, model: Path) -> None:
        done = self.run(trt, model, *PROFILE, "--precision", "fp16")
        assert done.json["roofline"]["by"] == {"canary_compute_cpu": "fp16", "canary_memory_cpu": "fp32"}
        assert done.json["roofline"]["work"]["nbytes"] == 4 * (2 * 4 + 2 * 3) + 2 * 4 * 3, "weights are halved"

    def test_at_fp32_where_the_canary_can_not_be_had(
        self, trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        honest = Watch.measured

        def refused(self: Watch, *, after: bool) -> dict[str, Any]:
            side = self.runners[0].sides[0]
            if side.recipe.name == "fp16":
                raise runner.SideFailed(side, BuildError("no such kernel"))
            return dict(honest(self, after=after))

        monkeypatch.setattr(Watch, "measured", refused)
        done = self.run(trt, model, *PROFILE, "--precision", "fp16")
        assert done.json["roofline"]["by"]["canary_compute_cpu"] == "fp32"
        assert "no such kernel: at fp32 instead" in done.err

    def test_operators_that_are_not_counted(self, trt: Trt, tmp_path: Path) -> None:
        """How many elements are not zero is known in the run alone."""
        found = [
            helper.make_node("NonZero", ["x"], ["places"]),
            helper.make_node("Cast", ["places"], ["some"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["some"], ["rows"]),
            helper.make_node("MatMul", ["some", "rows"], ["y"]),
        ]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in "xy"]
        graph = helper.make_graph(found, "g", ends[:1], ends[1:])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(made, tmp_path / "n.onnx")
        done = self.run(trt, tmp_path / "n.onnx")
        assert done.json["roofline"]["work"]["uncounted"] == {"MatMul": 1}
        assert done.json["roofline"]["words"].endswith("; not counted: MatMul 1")

    def test_a_plan_has_no_floor(self, trt: Trt, model: Path) -> None:
        assert trt("build", model, *PROFILE, "--backend", "fake", *HERE, "-o", "a.plan").code == 0
        done = self.run(trt, "a.plan")
        words = {one["metric"]: one["words"] for one in done.json["findings"]}
        assert words["floor"] == "of a plan nobody here knows the operations"
        assert done.json["roofline"] is None

    def test_a_machine_that_moved(self, trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = Watch.measured

        def moved(self: Watch, *, after: bool) -> dict[str, Any]:
            return {name: values * (1.05 if after else 1.0) for name, values in honest(self, after=after).items()}

        monkeypatch.setattr(Watch, "measured", moved)
        done = self.run(trt, model, *PROFILE)
        assert done.code == 4
        assert {one["metric"]: one["said"] for one in done.json["findings"]}["canaries"] == "HOST_CHANGED"
        notes = {one["name"]: one["note"] for one in done.json["measured"]}
        assert "after the session" in notes["gpu, graph"]
        assert notes["plan size"] == "", "which no machine has a say in"

    def test_a_canary_that_fails(self, trt: Trt, model: Path) -> None:
        few = ("--processes", "1", "--json", *HERE)
        done = trt("bench", model, *PROFILE, "--backend", "fake:parse_error@canary_memory_cpu_full", *few, "--canaries")
        assert done.code == 1
        assert [one["subject"] for one in done.json["findings"]] == ["canaries"]


def test_it_goes_on_where_it_was(trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, left = runner.measured, 3

    def interrupted(*arguments: Any) -> Any:
        nonlocal left
        if left == 0:
            left -= 1
            raise KeyboardInterrupt
        left -= 1
        return honest(*arguments)

    monkeypatch.setattr(runner, "measured", interrupted)
    arguments = ("bench", model, *PROFILE, "--backend", "fake", "--in-process", *FEW, "--output", "out")
    first = trt(*arguments)
    assert first.code == 130
    assert "to go on: trt-harness bench" in first.err
    second = trt(*arguments)
    assert second.code == 0
    assert "goes on after 3 processes" in second.err
    assert left == -6  # five more
