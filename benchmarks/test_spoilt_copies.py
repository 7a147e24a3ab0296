"""TensorRT against copies of itself that are spoilt in a known way (`benchmarks/spoilt`): what `compare` makes of them.

It needs a GPU and the backend ``tensorrt``, by whichever interpreter the settings name for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.runtime.backend.registry import HostSettings
from harness.runtime.workbench import Workbench
from harness.settings import Settings

ROOT = Path(__file__).parents[1]
MODEL = os.environ.get("TRT_HARNESS_SPOILT_MODEL", "bert")
CYCLES = 8000  # 4 us of a GPU that runs at 2 GHz
LATENCY = "gpu, graph"
EFFORT = ("--processes", "8", "--confirm", "8", "--seconds", "0.5")


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter of TensorRT, where that runs."""
    settings = Settings.read({})
    with Workbench(settings) as bench:
        probe = bench.probe("tensorrt")
        if not probe.has("run"):
            pytest.skip(f"tensorrt can't run here: {probe.find('run').evidence}")
    return HostSettings.of(settings).interpreter("tensorrt") or sys.executable


def copy(python: str, how: str, folder: Path) -> Path:
    """An interpreter whose TensorRT is spoilt."""
    path = ":".join([str(ROOT / "benchmarks" / "spoilt"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    made = folder / f"python-{how}"
    exported = f'export SPOILT={how} SPOILT_CYCLES={CYCLES} PYTHONPATH="{path}"'
    made.write_text(f'#!/bin/sh\n{exported}\nexec "{python}" "$@"\n')
    made.chmod(0o755)
    return made


def compared(python: str, how: str, folder: Path) -> dict[str, Any]:
    sides = ["--a-python", python, "--b-python", str(copy(python, how, folder))]
    command = [sys.executable, "-m", "harness.cli", "compare", MODEL, "--backend", "tensorrt", *sides, *EFFORT]
    done = subprocess.run(
        [*command, "--output", str(folder / how), "--json"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1, 4), done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["exit_code"] == done.returncode
    return document


def said(document: dict[str, Any]) -> dict[str, str]:
    return {one["metric"]: one["said"] for one in document["findings"]}


def test_missing(benchmark: BenchmarkFixture, python: str, tmp_path: Path) -> None:
    document = benchmark.pedantic(compared, (python, "missing", tmp_path), rounds=1)
    assert document["exit_code"] == 1
    assert said(document) == {"side B": "FAILED"}


def test_wrong(benchmark: BenchmarkFixture, python: str, tmp_path: Path) -> None:
    """Whoever finds it first: the probe, by a small engine of its own, or the comparison of what was computed."""
    document = benchmark.pedantic(compared, (python, "wrong", tmp_path), rounds=1)
    assert document["exit_code"] == 1
    assert "FAILED" in said(document).values()


def test_slow(benchmark: BenchmarkFixture, python: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = benchmark.pedantic(compared, (python, "slow", tmp_path), rounds=1)
    (latency,) = [one for one in document["findings"] if one["metric"] == LATENCY]
    with capsys.disabled():
        print(f"\nslow: {latency['said']}: {latency['words']}")
    assert document["exit_code"] == 1
    assert latency["said"] == "REGRESSION"
    assert "FAILED" not in said(document).values()


def test_faithful(benchmark: BenchmarkFixture, python: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is said of the three is not said of a copy by the same detour that is not spoilt."""
    document = benchmark.pedantic(compared, (python, "faithful", tmp_path), rounds=1)
    (latency,) = [one for one in document["findings"] if one["metric"] == LATENCY]
    with capsys.disabled():
        print(f"\nfaithful: {latency['said']}: {latency['words']}")
    assert latency["said"] not in ("REGRESSION", "FAILED")
    assert "FAILED" not in said(document).values()
