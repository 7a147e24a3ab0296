"""Nights of the gate on real GPUs, one of them with a planted change: what it says of each.

Every night is run by a TensorRT behind each of whose enqueues a kernel spins for a tenth of the model's own time
(`benchmarks/spoilt`), so that nights differ in that kernel alone. Two nights of three builds make the baseline; the
second night after them spins by 2 % of the whole longer, and counts as another version, which builds anew: what it
costs is told by the baseline's own plans, whatever the lottery of builds does. It needs a GPU and the backend
``tensorrt``. The models are shared out among the GPUs, and each of these has a store and nights of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
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
from harness.spec.catalog import load
from harness.spec.onnx_model import interface

__all__ = ["python"]  # a fixture
USUAL = "mlp,resnet,unet,bert,gpt,llama,translation,attention_64,embedding,pooling"  # no two of the same tensors
MODELS = os.environ.get("TRT_HARNESS_NIGHTS_MODELS", USUAL).split(",")
SECONDS = os.environ.get("TRT_HARNESS_NIGHTS_SECONDS", "0.5")  # of runs a process
BASE, PLANTED = 0.1, 0.02
FOUND = 0.8  # of the models, whatever number of them has modes
RATE = 1.98e9  # cycles a second of the device, where nothing else is said
METRIC = "gpu, graph"
UNSPOILT = "unspoilt"
BEFORE = ("night a", "night b")  # which make the baseline
NIGHTS = ("first", "second", "third")  # with one
SETTINGS = ("--trt-perf-processes=6", f"--trt-perf-seconds={SECONDS}", "--trt-perf-metrics=*graph")


@dataclass
class Nights:
    """Those of some ``models`` on device ``number``. ``told`` is what records hold, by night and model."""

    python: str
    folder: Path
    number: int
    models: Sequence[str]
    told: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def all(self) -> None:
        """From the first, which tells how long the models take, to the last."""
        unspoilt = self.night(UNSPOILT, self.python)
        base = {model: round(BASE * unspoilt[model]["values"][METRIC]["value"] * RATE) for model in self.models}
        more = {model: base[model] + round(PLANTED * (1 + BASE) / BASE * base[model]) for model in self.models}
        usual = self.copy("usual", base, "")
        for name in BEFORE:
            self.night(name, usual)
        self.baseline()
        for name, program in zip(NIGHTS, (usual, self.copy("slower", more, "+slower"), usual), strict=True):
            self.night(name, program, older=usual)

    def copy(self, name: str, cycles: Mapping[str, int], version: str) -> Path:
        """An interpreter whose TensorRT spins behind each enqueue, for so many cycles by model."""
        file = self.folder / f"python-{name}"
        path = ":".join([str(ROOT / "benchmarks" / "spoilt"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        spins = json.dumps({signature(model): count for model, count in cycles.items()})
        exported = f"export SPOILT=slow SPOILT_CYCLES='{spins}' SPOILT_VERSION={version} PYTHONPATH='{path}'"
        file.write_text(f'#!/bin/sh\n{exported}\nexec "{self.python}" "$@"\n')
        file.chmod(0o755)
        return file

    def night(self, name: str, program: Path | str, older: Path | None = None) -> dict[str, dict[str, Any]]:
        """What the gate says tonight, by model. Without a spin it is no night of the store."""
        began = time.perf_counter()
        output = self.folder / name
        own = [
            f"--trt-model={','.join(self.models)}",
            "--trt-precision=fp32",
            f"--trt-python=tensorrt={program}",
            f"--trt-output={output}",
            f"--trt-kept={self.folder / 'plans'}",
            f"--trt-baselines={self.folder / 'baselines.toml'}",
        ]
        if older is not None:
            library = self.told[BEFORE[0], self.models[0]]["environment"]["library"]
            own.append(f"--trt-installation={library}={older}")
        chosen = ["pytest", "suites/latency", "-k", "test_runs", "-p", "no:xdist", "-p", "no:cacheprovider", "-q"]
        done = self.run([*chosen, "--trt-backend=tensorrt", "--trt-perf=gate", *SETTINGS, *own])
        runs = list(output.iterdir()) if output.is_dir() else []
        assert len(runs) == 1, done.stdout + done.stderr
        if name != UNSPOILT:
            with Store(self.folder / "store.sqlite") as store:
                ingest(store, runs[0])
        tonight: dict[str, dict[str, Any]] = {}
        for record in read_run(runs[0]).records:
            perf: dict[str, Any] = record.facts.get("perf", {})
            assert METRIC in perf.get("values", {}), f"{record.cell}: {record.verdict}: {record.message}"
            rulings = [one for one in perf["rulings"] if one["metric"] == METRIC]
            processes = " ".join(f"{1e6 * seconds:.3f}" for seconds in perf["values"][METRIC]["processes"])
            self.tell(f"{name} | {record.cell.model} | us, by process: {processes}")
            tonight[record.cell.model] = {**perf, "rulings": rulings, "verdict": record.verdict}
            for one in rulings:
                words = (name, record.cell.model, one["question"], one["said"], record.verdict, one["words"])
                self.tell(" | ".join(words))
        assert set(tonight) == set(self.models), done.stdout + done.stderr
        self.told |= {(name, model): perf for model, perf in tonight.items()}
        self.tell(f"{name} | {', '.join(self.models)} | {time.perf_counter() - began:.0f} s")
        return tonight

    def tell(self, line: str) -> None:
        self.lines.append(line)
        with (self.folder / "words.txt").open("a") as file:
            print(line, file=file)

    def baseline(self) -> None:
        where = ["--store", str(self.folder / "store.sqlite"), "--baselines", str(self.folder / "baselines.toml")]
        kept = ["--kept", str(self.folder / "plans")]
        for command in (["propose", *where], ["accept", "*", "--reason", "the first", *where, *kept]):
            done = self.run(["harness.cli", "baseline", *command])
            assert done.returncode == 0, done.stdout + done.stderr

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """In an environment that sees this device alone."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if "CUDA_VISIBLE_DEVICES" in os.environ else []
        device = visible[self.number] if self.number < len(visible) else str(self.number)
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": device, "TRT_HARNESS_CACHE": str(self.folder / "cache")}
        return subprocess.run(
            [sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )


def signature(model: str) -> str:
    """Of its engines, as `benchmarks.spoilt` has it."""
    declared = interface(next(one for one in load() if one.id == model).source.path())
    return ",".join(sorted(tensor.name for tensor in (*declared.inputs, *declared.outputs)))


def test_three_nights(python: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second night fails for what was planted, unless a model's processes fall into modes; the others for none."""
    assert len({signature(model) for model in MODELS}) == len(MODELS), "models of the same tensors can't be told apart"
    numbers = (devices() or (0,))[: len(MODELS)]
    folder = Path(os.environ.get("TRT_HARNESS_NIGHTS_FOLDER", tmp_path))
    every = []
    for place, number in enumerate(numbers):
        own = folder / f"device-{number}"
        own.mkdir(parents=True, exist_ok=True)
        every.append(Nights(python, own, number, MODELS[place :: len(numbers)]))
    with ThreadPoolExecutor(len(every)) as threads:
        failed = [error for error in threads.map(_all, every) if error]
    with capsys.disabled():
        print("", *(line for nights in every for line in nights.lines), sep="\n", flush=True)
    assert failed == []
    regressions = []
    for nights in every:
        for model in nights.models:
            found = {name: [one for one in nights.told[name, model]["rulings"] if one["fails"]] for name in NIGHTS}
            assert found["first"] == found["third"] == [], model
            said = {one["said"] for one in found["second"] or nights.told["second", model]["rulings"]}
            assert len(said) == 1, f"{model}: {said}"
            assert said <= {"REGRESSION", "UNSTABLE"}, model
            regressions += [model] * ("REGRESSION" in said)
    assert len(regressions) >= FOUND * len(MODELS), regressions


def _all(nights: Nights) -> str:
    """What stopped them; the others go on."""
    try:
        nights.all()
    except Exception as error:  # told below, and the test fails by it
        return f"device {nights.number}: {type(error).__name__}: {error}"
    return ""
