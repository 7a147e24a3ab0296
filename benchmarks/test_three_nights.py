"""Nights of the gate on a real GPU, one of them with a planted change: what it says of each.

Every night is run by a TensorRT behind each of whose enqueues a kernel spins for a tenth of the model's own time
(`benchmarks/spoilt`), so that nights differ in that kernel alone. Two nights of three builds make the baseline; the
second night after them spins by 2 % of the whole longer, and counts as another version, which builds anew: what it
costs is told by the baseline's own plans, whatever the lottery of builds does. It needs a GPU and the backend
``tensorrt``.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from benchmarks.test_spoilt_copies import ROOT, python
from harness.ledger.ingest import ingest
from harness.ledger.records import read_run
from harness.ledger.store import Store
from harness.runtime.devices import devices

__all__ = ["python"]  # a fixture
MODELS = os.environ.get("TRT_HARNESS_NIGHTS_MODELS", "mlp,conv,bert,gpt,vit,resnet,depthwise,unet,llama,attention_64")
BASE, PLANTED = 0.1, 0.02
RATE = 1.98e9  # cycles a second of the device, where nothing else is said
METRIC = "gpu, graph"
UNSPOILT = "unspoilt"
NIGHTS = ("first", "second", "third")  # with a baseline
SETTINGS = ("--trt-perf-processes=2", "--trt-perf-seconds=0.2", "--trt-perf-metrics=*graph")


@dataclass
class Nights:
    """What is run on, and where it is kept."""

    python: str
    folder: Path
    numbers: Sequence[int]
    tell: Callable[[str], None]
    told: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # by night and model

    def copy(self, model: str, name: str, cycles: int, version: str) -> Path:
        """An interpreter whose TensorRT spins behind each enqueue."""
        file = self.folder / f"python-{model}-{name}"
        path = ":".join([str(ROOT / "benchmarks" / "spoilt"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        exported = f'export SPOILT=slow SPOILT_CYCLES={cycles} SPOILT_VERSION={version} PYTHONPATH="{path}"'
        file.write_text(f'#!/bin/sh\n{exported}\nexec "{self.python}" "$@"\n')
        file.chmod(0o755)
        return file

    def run(self, command: Sequence[str], number: int) -> subprocess.CompletedProcess[str]:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if "CUDA_VISIBLE_DEVICES" in os.environ else []
        name = visible[number] if number < len(visible) else str(number)
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": name, "TRT_HARNESS_CACHE": str(self.folder / f"c{number}")}
        return subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    def night(self, name: str, model: str, python: Path | str, older: Path | None, number: int) -> dict[str, Any]:
        """What the gate says of ``model`` tonight. Without a spin it is no night of the store."""
        output = self.folder / name / model
        own = [
            f"--trt-model={model}",
            "--trt-precision=fp32",
            f"--trt-python=tensorrt={python}",
            f"--trt-output={output}",
            f"--trt-kept={self.folder / 'plans'}",
            f"--trt-baselines={self.folder / f'{model}.toml'}",
        ]
        if older is not None:
            own.append(f"--trt-installation={self.told['night a', model]['environment']['library']}={older}")
        chosen = ["pytest", "suites/latency", "-k", "test_runs", "-p", "no:xdist", "-p", "no:cacheprovider", "-q"]
        done = self.run([*chosen, "--trt-backend=tensorrt", "--trt-perf=gate", *SETTINGS, *own], number)
        runs = list(output.iterdir()) if output.is_dir() else []
        records = [record for run in runs for record in read_run(run).records]
        assert len(records) == 1, done.stdout + done.stderr
        if name != UNSPOILT:
            with Store(self.folder / f"{model}.sqlite") as store:
                ingest(store, runs[0])
        perf: dict[str, Any] = records[0].facts.get("perf", {})
        assert perf, f"{records[0].verdict}: {records[0].message}"
        rulings = [one for one in perf["rulings"] if one["metric"] == METRIC]
        for one in rulings:
            self.tell(f"{name} | {model} | {one['question']} | {one['said']} | {records[0].verdict} | {one['words']}")
        self.told[name, model] = {**perf, "rulings": rulings, "verdict": records[0].verdict}
        return self.told[name, model]

    def baseline(self, model: str, number: int) -> None:
        where = ["--store", str(self.folder / f"{model}.sqlite"), "--baselines", str(self.folder / f"{model}.toml")]
        kept = ["--kept", str(self.folder / "plans")]
        for command in (["propose", *where], ["accept", "*", "--reason", "the first", *where, *kept]):
            done = self.run(["harness.cli", "baseline", *command], number)
            assert done.returncode == 0, done.stdout + done.stderr

    def model(self, model: str, number: int) -> None:
        """All its nights, on one device."""
        seconds = float(self.night(UNSPOILT, model, self.python, None, number)["values"][METRIC]["value"])
        base = round(BASE * seconds * RATE)
        more = base + round(PLANTED * (1 + BASE) * seconds * RATE)
        usual = self.copy(model, "usual", base, "")
        slower = self.copy(model, "slower", more, "+slower")
        for name in ("night a", "night b"):
            self.night(name, model, usual, None, number)
        self.baseline(model, number)
        for name, program in zip(NIGHTS, (usual, slower, usual), strict=True):
            self.night(name, model, program, usual, number)


def everywhere(numbers: Sequence[int], models: Sequence[str], work: Callable[[str, int], None]) -> None:
    """``work`` on all ``models``, one at a time on each device."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for model in models:
        waiting.put(model)
    lock = threading.Lock()

    def serve(number: int) -> None:
        while True:
            with lock:
                if waiting.empty():
                    return
                model = waiting.get()
            work(model, number)

    with ThreadPoolExecutor(len(numbers)) as threads:
        list(threads.map(serve, numbers))


def test_three_nights(python: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second night fails for each model, by what was planted; the others for none."""

    def tell(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    nights = Nights(python, tmp_path, devices() or (0,), tell)
    models = MODELS.split(",")
    problems: dict[str, str] = {}

    def work(model: str, number: int) -> None:
        try:
            nights.model(model, number)
        except Exception as error:  # the others go on
            problems[model] = f"{type(error).__name__}: {error}"

    everywhere(nights.numbers, models, work)
    assert problems == {}
    for model in models:
        found = {name: [one for one in nights.told[name, model]["rulings"] if one["fails"]] for name in NIGHTS}
        assert found["second"], model
        assert {one["said"] for one in found["second"]} == {"REGRESSION"}, model
        assert found["first"] == found["third"] == [], model
