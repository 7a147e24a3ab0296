"""What remains of a cell whose process died with it: a note that was written before it began."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.ledger.records import Record
from harness.spec.cell import Cell

SUFFIX = ".now"
CRUMB = ".crumb"


class Notes:
    """Says which cell a process is at. One write over the last one, whose end a line's end marks."""

    def __init__(self, folder: Path, process: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / f"{process}{SUFFIX}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, node: str, cell: Cell) -> None:
        text = json.dumps({"node": node, "cell": vars(cell), "started": time.time()})
        os.pwrite(self._file, text.encode() + b"\n", 0)

    def close(self) -> None:
        os.close(self._file)


def record_of(folder: Path, process: str, node: str) -> Record | None:
    """The record of a cell that ``process`` died in; None when it was at no cell of ours."""
    from harness.runtime.client import read_breadcrumb

    try:
        line, end, _ = (folder / f"{process}{SUFFIX}").read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    found: dict[str, Any] = json.loads(line) if end else {}
    if found.get("node") != node:
        return None
    crumbs = [crumb for path in _crumbs(folder, process) if (crumb := read_breadcrumb(path)) and crumb["label"] == node]
    at = next((f", at {crumb['request']}" for crumb in crumbs if not crumb["over"]), "")
    stage = next((crumb["stage"] for crumb in crumbs), "")
    return Record(
        cell=Cell(**found["cell"]),
        verdict="error",
        node=node,
        stage=stage,
        message=f"the process that ran it ({process}) died{at}",
        started=found["started"],
        duration=time.time() - found["started"],
    )


def breadcrumb(folder: Path, process: str, backend: str) -> Path:
    """Where the client of ``backend``'s host leaves what it was at."""
    return folder / f"{process}.{backend.replace(':', '_')}{CRUMB}"


def _crumbs(folder: Path, process: str) -> Iterator[Any]:
    return folder.glob(f"{process}.*{CRUMB}")
