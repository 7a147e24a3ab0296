"""The quarantines that a run with performance meets. One that excuses nothing is named, and fails nothing by that."""

from __future__ import annotations

import contextlib
import datetime
import fnmatch
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.errors import SpecError
from harness.ledger import ended

if TYPE_CHECKING:
    from harness.ledger.baselines import Quarantine
    from harness.pytest_plugin.run import Run


def met(run: Run) -> list[dict[str, Any]]:
    """Those of the file of baselines, as the end of a run notes them; ``run.unmatched`` is of all its processes."""
    today = datetime.date.today()
    return [ended.seen(one, over=today > one.until, unmatched=one.cell in run.unmatched) for one in _quarantines(run)]


def unmatched(run: Run) -> list[str]:
    """The patterns that no cell of this process is of, whatever its backend came to. None where cells were chosen.

    Nothing follows from a cell that is not there because somebody asked for others.
    """
    asked, everything = run.settings, type(run.settings)()
    chosen = (asked.model, asked.precision, asked.point, asked.shard, asked.example)
    if chosen != (everything.model, everything.precision, everything.point, None, None):
        return []
    patterns = [one.cell for one in _quarantines(run)]
    cells = set(_cells(run)) if patterns else set()
    return [pattern for pattern in patterns if not fnmatch.filter(cells, pattern)]


def _cells(run: Run) -> Iterator[str]:
    """As performance calls them: ``bert-fp16-opt-tensorrt on NVIDIA H200, 700 W``."""
    from harness.ledger.candidate import Place

    devices = {backend: Place.here(environment).device for backend, environment in run.environments.items()}
    for cell in {replace(cell, test="") for cell, _ in run.cells}:
        for backend in [cell.backend] if cell.backend in devices else devices:  # "best" may have come to any
            yield f"{replace(cell, backend=backend).params} on {devices[backend]}"


def _quarantines(run: Run) -> Collection[Quarantine]:
    """A file that can't be read failed each cell of performance."""
    if run.settings.perf == "off":
        return ()
    from harness.ledger.baseline_file import read

    with contextlib.suppress(SpecError, OSError):
        return read(run.baselines).quarantines
    return ()
