"""What remains of a cell whose process died with it: a note that was written before it began."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.ledger.records import Record
from harness.spec.cell import Cell

SUFFIX = ".now"


def note(folder: Path, process: str, node: str, cell: Cell) -> None:
    """Say that ``process`` is at ``cell``. One write over the last note, so that it is never half there."""
    text = json.dumps({"node": node, "cell": dataclasses.asdict(cell), "started": time.time()})
    path = folder / f"{process}{SUFFIX}"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def record_of(folder: Path, process: str, node: str) -> Record | None:
    """The record of a cell that ``process`` died in; None when it was at no cell of ours."""
    from harness.runtime.client import read_breadcrumb

    try:
        found = json.loads((folder / f"{process}{SUFFIX}").read_text())
    except FileNotFoundError:
        return None
    if found["node"] != node:
        return None
    crumbs = [crumb for path in _crumbs(folder, process) if (crumb := read_breadcrumb(path)) and crumb["label"] == node]
    at = next((f", at {crumb['request']}" for crumb in crumbs if not crumb["answered"]), "")
    stage = next((crumb["stage"] for crumb in crumbs), "")
    return Record(
        cell=Cell(**found["cell"]),
        verdict="error",
        stage=stage,
        message=f"the process that ran it ({process}) died{at}",
        started=found["started"],
        duration=time.time() - found["started"],
    )


def breadcrumb(folder: Path, process: str, backend: str) -> Path:
    """Where the client of ``backend``'s host leaves what it was at."""
    return folder / f"{process}.{backend.replace(':', '_')}.crumb"


def _crumbs(folder: Path, process: str) -> Iterator[Any]:
    return folder.glob(f"{process}.*.crumb")
