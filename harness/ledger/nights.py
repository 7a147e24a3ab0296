"""What records say of performance: the sessions of each cell, from which baselines are proposed and series drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harness.ledger.proposals import Seen, Value
from harness.ledger.records import PERF, Record

PLACE = "perf"  # in the folder of a run: the journals of its cells
BESIDE = "/A"  # ends the name of the session of a comparison's side A, which is no night: B's is, of the same moment
BY_HAND = "compare"  # what two sides are asked that somebody names, beside `harness.ledger.gate.Question`


@dataclass(frozen=True)
class History:
    """One cell through all sessions, the oldest first."""

    key: str
    cell: str
    seen: tuple[Seen, ...] = field(default_factory=tuple)


def histories(records: Iterable[Record]) -> dict[str, History]:
    """By the key of the cell. A session's tests each measured some of its metrics; what came last of one counts."""
    found: dict[str, dict[str, Seen]] = {}
    titles: dict[str, str] = {}
    ordered = sorted(records, key=lambda record: record.started)
    starts = {record.run: record.started for record in reversed(ordered) if record.started > 0}
    for record in ordered:
        told = record.facts.get(PERF)
        if not told:
            continue
        key = told["key"]
        titles[key] = told["cell"]
        sessions = found.setdefault(key, {})
        before = sessions.get(record.run)
        values = {**(before.values if before else {}), **{name: _value(one) for name, one in told["values"].items()}}
        began = starts.get(record.run, 0.0)
        model = str(told.get("model", ""))
        sessions[record.run] = Seen(record.run, tuple(told["plans"]), told["environment"], values, model, began)
    return {key: History(key, titles[key], tuple(sessions.values())) for key, sessions in found.items()}


def spread_of(processes: npt.NDArray[np.float64]) -> float:
    """The standard deviation of the logarithms of ``processes``; 0 for a single one, and where one is not above 0."""
    return float(np.log(processes).std(ddof=1)) if processes.size > 1 and (processes > 0).all() else 0.0


def _value(told: dict[str, object]) -> Value:
    processes = np.asarray(told["processes"], np.float64)
    return Value(float(np.median(processes)), spread_of(processes), str(told["unit"]))
