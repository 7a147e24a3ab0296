"""``bench``: what one engine comes to over its processes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from harness.measure import runner
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
    assert {"deserialize", "context", "first run", "plan size", "build"} <= found.keys()
    said = {one["metric"]: one["said"] for one in done.json["findings"]}
    assert said["numerics of X"] == "PASS"
    assert said["host memory"] == "NOT_COVERED"


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
    assert {one["name"] for one in done.json["measured"]} == {"plan size", "build"}
    assert trt("bench", model, *PROFILE, "--backend", "fake:absent", "--in-process", *FEW).code == 3


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
