"""A run of a given name that is begun again: it goes on where an earlier process of it was killed.

What has a record is not run again. Which cells these are is settled once, by the controller, before any worker starts:
a worker that collected while others record would come to other cells than they did.
"""

from __future__ import annotations

import json

from harness.ledger.records import mend, read_run
from harness.pytest_plugin.run import EARLY, PROBES, Run

BEFORE = "before.json"  # in the run's folder: the tests that an earlier process recorded
SETTLED = "settled.json"  # in the run's folder: written last of what is settled once for all processes


def begin(run: Run) -> None:
    """Find what an earlier process recorded, and forget what it settled: all that is settled and probed anew."""
    if run.is_worker or run.settings.run is None or not run.folder.is_dir():
        return
    mend(run.folder)
    recorded = sorted({record.node for record in read_run(run.folder).records})
    for name in (SETTLED, PROBES, EARLY):
        (run.folder / name).unlink(missing_ok=True)
    whole = run.folder / f"{BEFORE}.tmp"
    whole.write_text(json.dumps(recorded))
    whole.replace(run.folder / BEFORE)


def recorded(run: Run) -> frozenset[str]:
    """The tests, by pytest's ids, that an earlier process of ``run`` recorded."""
    if run.settings.run is None:
        return frozenset()
    try:
        return frozenset(json.loads((run.folder / BEFORE).read_text()))
    except FileNotFoundError:
        return frozenset()
