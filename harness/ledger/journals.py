"""Journals as a store takes them: the samples of processes as a file, and what the driver told around each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.ledger import raw
from harness.ledger.batch import Batch, Session

Line = dict[str, Any]


def read(file: Path) -> tuple[list[Line], list[str]]:
    """Every line of the journal ``file``, and which of them can't be read. OSError where it is not there."""
    found, problems = [], []
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        try:
            read = json.loads(line) if line else {}
            if read.get("kind"):
                found.append(read)
        except (ValueError, AttributeError):
            problems.append(f"{file}:{number}: not a line of a journal: its writer was killed")
    return found, problems


def artifact(batch: Batch, session: Session, processes: Sequence[Line], samples: raw.Samples | None) -> str | None:
    """The key of the file of all samples of ``processes``, which is in ``batch`` now; None where there is none."""
    if samples is None or not processes:
        return None
    taken = [
        {way: {metric: np.asarray(v) for metric, v in one["seconds"].items()} for way, one in line["samples"].items()}
        for line in processes
    ]
    key, nbytes = samples.put(taken)
    batch.artifacts.append({"key": key, "nbytes": nbytes, "at": session.at, "gone": False})
    return key


def readings(cell_key: str, processes: Sequence[Line]) -> list[Line]:
    """A row of telemetry a process: how the device was when it had been measured."""
    numbers = ("at", "sm_clock", "memory_clock", "temperature", "power", "energy")
    found = []
    for number, line in enumerate(processes):
        after = line["bracket"]["after"]
        row = {"cell_key": cell_key, "process": number, **{name: after[name] for name in numbers}}
        found.append({**row, "held_back": json.dumps(after["held_back"])})
    return found
