"""Five hundred rounds of build, load, run and drop on each backend that can, and a planted leak found within fifty.

TensorRT takes about a second a build at ``optimization_level=1``; TRT_HARNESS_BUILD_OPTION and TRT_HARNESS_PYTHON
say how, and with which interpreter, as everywhere. TRT_HARNESS_SOAK is the number of rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.errors import UnsupportedError
from harness.measure.slope import slope
from harness.runtime.workbench import Workbench
from harness.settings import Settings
from harness.spec.catalog import load

ROOT = Path(__file__).parents[1]
MODEL = "mlp"
ROUNDS = int(os.environ.get("TRT_HARNESS_SOAK", "500"))


def soaked(backend: str, rounds: int, folder: Path) -> dict[str, Any]:
    """What the command says, and how many seconds it took."""
    started = time.perf_counter()
    command = ["soak", MODEL, "--backend", backend, "--rounds", str(rounds), "--output", str(folder), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return {**document, "seconds": time.perf_counter() - started}


def printed(document: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{document['subject']}: {document['rounds']} rounds in {document['seconds']:.0f} s")
        for one in document["findings"]:
            print(f"  {one['metric']}: {one['said']}: {one['words']}")


@pytest.mark.parametrize("backend", ["fake", "onnxruntime", "tensorrt_rtx", "tensorrt"])
def test_nothing_grows(
    benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str], backend: str, tmp_path: Path
) -> None:
    with Workbench(Settings.read({})) as bench:
        probe = bench.probe(backend)
    try:
        probe.require(("build",))
    except UnsupportedError as error:
        pytest.skip(str(error))
    document = benchmark.pedantic(soaked, (backend, ROUNDS, tmp_path / "soak"), rounds=1)
    printed(document, capsys)
    assert document["exit_code"] == 0
    assert document["rounds"] == ROUNDS
    said = {one["metric"]: one["said"] for one in document["findings"]}
    assert {said[name] for name in ("host memory", "open files", "threads")} <= {"PASS", "NOTED"}
    assert ("load and run" in said) is not probe.has("run")
    benchmark.extra_info["slopes"] = document["slopes"]


def test_a_megabyte_a_round_is_found_within_fifty(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = soaked("fake:leaks_memory=1000", ROUNDS, tmp_path / "soak")
    printed(document, capsys)
    said = {one["metric"]: one["said"] for one in document["findings"]}
    assert document["exit_code"] == 1
    assert document["rounds"] <= 50
    assert said["host memory"] == said["heap"] == "LEAK"
    assert document["slopes"]["host memory"]["a_round"] == pytest.approx(1e6, rel=0.05)


def test_a_bare_loop_of_onnxruntime_grows_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """For the record: by how much C's heap grows a round where nothing of ours is in the loop, early and late."""
    file = load()[MODEL].source.path()
    rounds = 6 * ROUNDS
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "benchmarks" / "bare.py"), str(file), str(rounds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    held = json.loads(done.stdout)
    with capsys.disabled():
        for name, part in (("first", held[:ROUNDS]), ("last", held[-ROUNDS:])):
            found = slope(part, 1 << 20)
            told = f"{found.estimate:.0f} bytes ({found.low:.0f} to {found.high:.0f})"
            print(f"\n{told} a round of the {name} {ROUNDS} of {rounds}")
    assert len(held) == rounds
