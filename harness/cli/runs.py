"""Runs that were recorded: which are meant, and what stands in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.output import say
from harness.errors import SpecError
from harness.ledger.records import Run, read_run

HOME = Path(".trt-harness")  # what the project keeps in the current folder
RUNS = HOME / "runs"
Folders = Annotated[
    list[Path] | None,
    typer.Argument(help="folders of recorded runs, or of nights (default: the latest run here)", metavar="RUN"),
]


def read(folders: Iterable[Path] | None) -> list[Run]:
    """What ``folders`` hold, or the latest run here; what can't be read is said. SpecError for no such folder."""
    read = [read_run(folder) for folder in chosen(folders)]
    for run in read:
        for problem in run.problems:
            say(problem)
    return read


def chosen(folders: Iterable[Path] | None) -> list[Path]:
    """``folders``, or that of the latest run here; a night's stands for its runs. SpecError for none such."""
    return [run for folder in folders or [_latest()] for run in _within(_existing(folder))]


def _existing(run: Path) -> Path:
    if not run.is_dir():
        raise SpecError(f"{run}: no such folder: a run is recorded in {RUNS}/<run id>")
    return run


def _within(folder: Path) -> list[Path]:
    recorded = sorted({file.parent for file in folder.glob("runs/*/*.jsonl")})
    return [folder] if any(folder.glob("*.jsonl")) or not recorded else recorded


def _latest() -> Path:
    runs = sorted({file.parent for file in RUNS.glob("*/*.jsonl")})
    if not runs:
        raise SpecError(f"{RUNS}: no run is recorded here: name the folder of one")
    return runs[-1]
