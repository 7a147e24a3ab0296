"""From the logs of a run to what a store keeps of it. Doing it again adds nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.ledger import ended, journals, latency, measured, raw
from harness.ledger.batch import Batch, Measurement, Series, Session, write
from harness.ledger.commit import noted
from harness.ledger.kept import Kept
from harness.ledger.nights import PLACE, spread_of
from harness.ledger.proposals import MODEL
from harness.ledger.records import PERF, Record, read_run
from harness.ledger.store import Store
from harness.measure.journal import FILE
from harness.spec.canonical import canonical_json

AT_ONCE = 1000  # records of one transaction


@dataclass(frozen=True)
class Ingested:
    """``new`` rows, of ``records`` in all; ``problems`` names, by file and line, what could not be read.

    What ``bench`` and ``compare`` leave has no records, and ``sessions`` as often as they came to their end.
    """

    records: int
    new: int
    problems: tuple[str, ...]
    sessions: int = 0

    @property
    def words(self) -> str:
        return f"{self.sessions} sessions" if self.sessions else f"{self.records} records"


def ingest(store: Store, folder: Path, commit: str = "", kept: Kept | None = None) -> Ingested:
    """All that the run in ``folder`` recorded, its raw samples included; or all that was measured there by a command
    (`harness.ledger.measured`). StoreError where it can't be stored.

    ``commit`` is of what was tested; left out, as the run noted it when it began. Plans that a command built go to
    ``kept``; those of a run are there already.
    """
    store.require_head()
    if measured.is_measured(folder):
        return _of_a_command(store, folder, commit, kept)
    commit = commit or noted(folder)
    run = read_run(folder)
    starts = {record.run: record.started for record in reversed(run.records) if record.started > 0}
    new, problems = 0, list(run.problems)
    for start in range(0, len(run.records), AT_ONCE):
        batch = Batch()
        for record in run.records[start : start + AT_ONCE]:
            session = Session(record.run, starts.get(record.run, 0.0), commit)
            batch.sessions.append(session)
            body = record.to_json()
            batch.records.append((session, _row(record, body)))
            batch.measurements += latency.measurements(record, session)
            told = json.loads(body)["facts"].get(PERF)
            if told:
                try:
                    part, said = _measured(session, told, folder, store.samples)
                except (KeyError, TypeError, ValueError) as error:
                    problems.append(f"{folder}: {record.node}: its measurements are not understood: {error!r}")
                    continue
                batch.measurements += part.measurements
                batch.artifacts += part.artifacts
                batch.comparisons += part.comparisons
                batch.telemetry += part.telemetry
                problems += said
        new += write(store, batch)
    try:
        new += write(store, _ended(ended.noted(folder), starts, commit))
    except (TypeError, ValueError, KeyError) as error:
        problems.append(f"{folder / ended.FILE}: how it ended is not understood: {error!r}")
    return Ingested(len(run.records), new, tuple(problems))


def _of_a_command(store: Store, folder: Path, commit: str, kept: Kept | None) -> Ingested:
    try:
        sessions, problems = measured.sessions(folder, commit, store.samples)
    except (KeyError, TypeError, ValueError) as error:
        return Ingested(0, 0, (f"{folder}: what was measured there is not understood: {error!r}",))
    if kept is not None and sessions:
        for plan in measured.plans_in(folder):
            kept.put(np.fromfile(plan, np.uint8))
    new = sum(write(store, one.batch) for one in sessions)
    problems += [problem for one in sessions for problem in one.problems]
    return Ingested(0, new, tuple(problems), len(sessions))


def _ended(ends: Iterable[ended.Ended], starts: Mapping[str, float], commit: str) -> Batch:
    batch = Batch()
    for one in ends:
        session = Session(one.run, starts.get(one.run, one.began), commit)
        times = {name: float(getattr(one, name)) for name in ("began", "ended")}
        row = {"command": str(one.command), **times, "code": int(one.code), "counts": canonical_json(one.counts)}
        batch.runs.append((session, row))
        for seen in one.quarantines:
            texts = {name: str(seen[name]) for name in ("cell", "owner", "reason", "until")}
            batch.quarantines.append((session, {**texts, "over": bool(seen["over"])}))
    return batch


def _row(record: Record, body: str) -> dict[str, Any]:
    return {
        "node": record.node,
        **{name: getattr(record.cell, name) for name in ("test", "model", "precision", "variant", "point")},
        "backend": record.backend,
        **{name: getattr(record, name) for name in ("verdict", "stage", "message", "started", "duration")},
        "body": body,
    }


def _measured(
    session: Session, told: dict[str, Any], folder: Path, samples: raw.Samples | None
) -> tuple[Batch, list[str]]:
    """What a cell of performance measured, and what was said of that; and what can't be stored of it, and why."""
    batch = Batch()
    journal, problems = _journal(folder, Path(told["journal"]))
    series = {name: Series(told["key"], told["cell"], name, value["unit"]) for name, value in told["values"].items()}
    artifact = journals.artifact(batch, session, journal, samples)
    environment = {name: str(fact) for name, fact in told["environment"].items()}
    environment |= {MODEL: str(told["model"])} if told.get("model") else {}
    for name, value in told["values"].items():
        processes = np.asarray(value["processes"], np.float64)
        if not np.isfinite(processes).all():
            problems.append(f"{folder}: {told['cell']}: {name}: {value['value']} is no measurement: left out")
            continue
        batch.measurements.append(
            Measurement(
                series[name],
                session,
                float(np.median(processes)),
                spread_of(processes),
                int(processes.size),
                environment,
                tuple(told["plans"]),
                artifact=artifact,
            )
        )
    for ruling in told.get("rulings", ()):
        if ruling["metric"] in series:
            batch.comparisons.append((session, series[ruling["metric"]], _comparison(ruling)))
    batch.telemetry += [(session, row) for row in journals.readings(told["key"], journal)]
    return batch, problems


def _journal(folder: Path, noted: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The processes of a cell, and what of its journal can't be read.

    It is in the run's ``folder``, wherever that lies by now; else where it was ``noted``.
    """
    places = (folder / PLACE / Path(*noted.parts[-2:]), noted)
    file = next((found for place in places if (found := place / "alone" / FILE).is_file()), None)
    if file is None:
        return [], [f"{noted / 'alone' / FILE}: not there: no raw samples are kept of it"]
    lines, problems = journals.read(file)
    return [line for line in lines if line["kind"] == "process"], problems


def _comparison(ruling: dict[str, Any]) -> dict[str, Any]:
    return {
        "question": ruling["question"],
        "outcome": ruling["said"],
        "fails": ruling["fails"],
        **{name: ruling["cost"].get(name) for name in ("estimate", "low", "high", "visible")},
        "p": ruling.get("p"),
        "words": ruling["words"],
    }
