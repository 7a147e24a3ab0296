"""What it costs to collect cells, beside what pytest itself takes for as many parametrized tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from harness.settings import BACKENDS
from harness.spec.precision import RECIPES

ROOT = Path(__file__).parents[1]
MOST = 1.5
CELLS = 10_000
ROUNDS = 5

PLAIN = """
import pytest

@pytest.mark.parametrize("cell", range({count}), ids=[f"model{{n}}-fp16-weak-opt-onnxruntime" for n in range({count})])
def test_cell(cell): ...
"""
OURS = """
import pytest

@pytest.mark.trt(models="{models}", variants=[f"v{{n}}" for n in range({variants})], points=("opt",))
def test_cell(trt_cell): ...
"""


def collect(file: Path, *arguments: str) -> tuple[float, int]:
    """Seconds that the whole of ``pytest --collect-only`` takes, and the number of tests that it finds."""
    bare = ("no:cacheprovider", "no:xdist", "no:benchmark", "no:timeout", "no:hypothesispytest")
    plugins = [word for name in bare for word in ("-p", name)]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-qq",
        "-c",
        os.devnull,
        *plugins,
        *arguments,
        str(file),
    ]
    start = time.perf_counter()
    ran = subprocess.run(
        command,
        cwd=file.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - start
    found = re.search(r": (\d+)$", ran.stdout, re.MULTILINE)
    assert found, ran.stdout
    return seconds, int(found[1])


def test_cells_collect_about_as_fast_as_plain_tests(tmp_path: Path) -> None:
    """The best of interleaved rounds: noise only ever adds."""
    ours, plain = tmp_path / "test_ours.py", tmp_path / "test_plain.py"
    for models, count in {"mlp": 1, "*": 100}.items():
        ours.write_text(OURS.format(models=models, variants=CELLS // (count * len(RECIPES) * len(BACKENDS)) + 1))
        _, cells = collect(ours, "-p", "harness.pytest_plugin")
        assert cells >= CELLS
        plain.write_text(PLAIN.format(count=cells))
        rounds = [(collect(ours, "-p", "harness.pytest_plugin")[0], collect(plain)[0]) for _ in range(ROUNDS)]
        best = [min(seconds) for seconds in zip(*rounds, strict=True)]
        ratio = best[0] / best[1]
        print(f"{cells} cells of {models!r}: {best[0]:.2f} s, as many plain tests: {best[1]:.2f} s, ratio {ratio:.2f}")
        assert ratio <= MOST
