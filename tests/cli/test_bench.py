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

import pytest

from harness.measure import runner, side
from harness.runtime.backend.fake_samples import CONTEXT, ENGINE, RESHAPE
from harness.runtime.backend.registry import HostSettings
from harness.runtime.device_lock import lock_of
from harness.runtime.devices import CPU
from tests.cli.conftest import Trt
from tests.spec.onnx_files import linear

PROFILE = ("--profile", "batch=1:2:4")
FEW = ("--processes", "8", "--seconds", "0.03", "--warmup", "0.8")


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
    assert trt("build", model, *PROFILE, "--backend", "fake", "--build-option", "flags=REFIT", "-o", "a.plan").code == 0
    done = trt("bench", "a.plan", "--backend", "fake", "--in-process", *FEW, "--processes", "2", "--json")
    why = {one["metric"]: one["words"] for one in done.json["findings"]}
    assert why["parse"] == why["build"] == "the plan was built elsewhere"
    assert why["refit"] == "refit: of a plan nobody here has the weights"
    assert "shape switch" in {one["name"] for one in done.json["measured"]}, "its profiles tell of another shape"


def test_a_table_for_people(trt: Trt, model: Path) -> None:
    done = trt("bench", model, *PROFILE, "--backend", "onnxruntime", *FEW)
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
    """Real processes: a run of pytest holds the CPU, and then neither measures beside the other."""
    command = [sys.executable, "-m", "harness.cli", "bench", str(model), *PROFILE, "--backend", "fake"]
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
