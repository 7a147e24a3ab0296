"""``--trt-budget``: a run that has so much time begins no cell after it, and the most valuable ones first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.errors import SpecError, UnsupportedError
from harness.ledger.worth import Place, Worth, in_turns, named
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
    """The cells of ``found``, each with its backend: what is measured in turns (`in_turns`), engine by engine.

    The worth of an engine is that of its most valuable cell, of those of one rank the one begun longest ago. Its own
    cells take turns, too.
    """
    items = [item for item, _, _ in found]
    if run.settings.budget is None:
        return items
    engines: dict[tuple[int, int, int], dict[pytest.Item, list[Place]]] = {}
    for item, case, backend in found:
        name = replace(case.cell, test="", backend=backend).params
        own = run.worth.of(name, item.nodeid) if perf.measures(item) else run.worth.unmeasured
        engines.setdefault(case.order, {})[item] = [own]
    places = {order: [place for own in cells.values() for place in own] for order, cells in engines.items()}
    return [item for order in in_turns(places) for item in in_turns(engines[order])]


def worth(run: Run) -> Worth:
    """By the store and the file of baselines, neither of which has to be there. A bad file fails elsewhere."""
    from harness.ledger.baseline_file import read

    active: list[str] = []
    with contextlib.suppress(SpecError):
        active = [one.cell for one in read(run.baselines).active.values()]
    found = storing.asked(run, "what is worth most", lambda store: Worth.by(store, active))
    return found or Worth(baselines=frozenset(map(named, active)))
