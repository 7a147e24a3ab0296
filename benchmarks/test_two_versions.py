"""Two onnxruntimes in two environments, compared for real: what an upgrade changes shows, both ways round."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

ROOT = Path(__file__).parents[1]
OLD, NEW = "1.20.1", "1.24.1"
MODELS = "mlp,conv,bert"


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An environment for each version, with that onnxruntime and what it asks for; nothing of ours, and no onnx."""
    made = {}
    for version in (OLD, NEW):
        folder = tmp_path_factory.mktemp(f"onnxruntime-{version}")
        venv.create(folder, with_pip=True)
        python = folder / "bin" / "python"
        install = [python, "-m", "pip", "install", "--quiet", f"onnxruntime=={version}"]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"pip can't bring onnxruntime {version} here: {done.stderr.strip().splitlines()[-1]}")
        made[version] = python
    return made


def compared(a: Path, b: Path, folder: Path) -> dict[str, Any]:
    """What the command says of B against A."""
    command = ["compare", MODELS, "--backend", "onnxruntime", "--a-python", str(a), "--b-python", str(b)]
    effort = ["--processes", "8", "--confirm", "16", "--seconds", "2", "--output", str(folder), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *command, *effort], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1, 4), done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["exit_code"] == done.returncode
    assert f"A: mlp at fp32 on onnxruntime {version_of(a)}" in done.stderr
    return document


def version_of(python: Path) -> str:
    ask = [python, "-c", "import onnxruntime; print(onnxruntime.__version__)"]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()


def changes(document: dict[str, Any], metric: str) -> dict[str, tuple[str, float]]:
    """Outcome, and change in percent (worse above 0), by model."""
    found = (one for one in document["findings"] if one["metric"] == metric)
    return {one["subject"]: (one["said"], one["change_percent"]) for one in found}


def test_an_upgrade_and_its_way_back(benchmark: BenchmarkFixture, pythons: dict[str, Path], tmp_path: Path) -> None:
    """Both compute the same, and what one direction calls larger the other calls smaller."""
    old, new = pythons[OLD], pythons[NEW]
    up = benchmark.pedantic(compared, (old, new, tmp_path / "up"), rounds=1)
    down = compared(new, old, tmp_path / "down")
    for document in (up, down):
        said = {(one["subject"], one["metric"]): one["said"] for one in document["findings"]}
        assert "FAILED" not in said.values()
        for model in MODELS.split(","):
            assert said[model, "numerics, B against A"] == "PASS"
            assert said[model, "layers"] == "NOT_COVERED"  # without onnx
    memory = changes(up, "host memory"), changes(down, "host memory")
    for model, (_, change) in memory[0].items():
        assert abs(change + memory[1][model][1]) < 0.05 * abs(change) + 3
    assert {said for said, _ in memory[0].values()} == {"REGRESSION"}
    assert {said for said, _ in memory[1].values()} == {"IMPROVEMENT"}
    assert up["exit_code"] == 1
    benchmark.extra_info["up"], benchmark.extra_info["down"] = up["means"], down["means"]
