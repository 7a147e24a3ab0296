"""``--trt-budget``: a run that has so much time begins no cell after it, and the most valuable ones first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.errors import SpecError, UnsupportedError
from harness.ledger.worth import Worth, named
from harness.pytest_plugin import perf, storing

if TYPE_CHECKING:
    from harness.pytest_plugin.cells import Case
    from harness.pytest_plugin.run import Run


def require(run: Run) -> None:
    """UnsupportedError once the time is up."""
    budget = run.settings.budget
    if budget is not None and time.monotonic() - run.began >= budget:
        raise UnsupportedError("budget", "not run", "a longer --budget")


def ordered(run: Run, found: Sequence[tuple[pytest.Item, Case, str]]) -> list[pytest.Item]:
    """The cells of ``found``, each with its backend: what is measured by its worth, engine by engine, as it was else.

    The worth of an engine is that of its most valuable cell, of those of one rank the one measured longest ago.
    """
    items = [item for item, _, _ in found]
    if run.settings.budget is None:
        return items
    worth = _worth(run)
    best: dict[tuple[int, int, int], tuple[int, float]] = {}
    for item, case, backend in found:
        measured = perf.FIXTURE in getattr(item, "fixturenames", ())
        own = worth.of(replace(case.cell, test="", backend=backend).params) if measured else worth.unmeasured
        best[case.order] = min(own, best.get(case.order, own))
    rank = {item: best[case.order] for item, case, _ in found}
    return sorted(items, key=rank.__getitem__)


def _worth(run: Run) -> Worth:
    """By the store and the file of baselines, neither of which has to be there. A bad file fails elsewhere."""
    from harness.ledger.baseline_file import read

    active: list[str] = []
    with contextlib.suppress(SpecError):
        active = [one.cell for one in read(run.baselines).active.values()]
    found = storing.asked(run, "what is worth most", lambda store: Worth.by(store, active))
    return found or Worth(baselines=frozenset(map(named, active)))
