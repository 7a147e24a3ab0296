"""What it costs to import this package: every run of pytest in which the plugin is installed pays it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 0.05  # seconds
HEAVY = {
    "numpy",
    "onnx",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "tensorrt_bindings",
    "cuda",
    "hypothesis",
    "scipy",
    "pytest",
    "sqlalchemy",
    "alembic",
    "pyarrow",
}

TIMED = """
import json, sys, time
started = time.perf_counter()
import harness
seconds = time.perf_counter() - started
print(json.dumps([seconds, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def run() -> tuple[float, set[str]]:
    """Seconds that the import took in a fresh interpreter, and the packages loaded after it."""
    done = subprocess.run([sys.executable, "-c", TIMED], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, modules = json.loads(done.stdout)
    return seconds, set(modules)


def test_import_is_light() -> None:
    runs = [run() for _ in range(7)]
    assert statistics.median(seconds for seconds, _ in runs) < LIMIT
    assert not runs[0][1] & HEAVY
