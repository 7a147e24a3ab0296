"""From the logs of a run to what a store keeps of it. Doing it again adds nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.ledger import raw
from harness.ledger.batch import Batch, Measurement, Series, Session, write
from harness.ledger.commit import noted
from harness.ledger.nights import PERF, PLACE, spread_of
from harness.ledger.records import Record, read_run
from harness.ledger.store import Store
from harness.measure.journal import FILE

AT_ONCE = 1000  # records of one transaction


@dataclass(frozen=True)
class Ingested:
    """``new`` rows, of ``records`` in all; ``problems`` names, by file and line, what could not be read."""

    records: int
    new: int
    problems: tuple[str, ...]


def ingest(store: Store, folder: Path, commit: str = "") -> Ingested:
    """All that the run in ``folder`` recorded, its raw samples included. StoreError where it can't be stored.

    ``commit`` is of what was tested; left out, as the run noted it when it began.
    """
    store.require_head()
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
    return Ingested(len(run.records), new, tuple(problems))


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
    artifact = _artifact(batch, session, journal, samples)
    environment = {name: str(fact) for name, fact in told["environment"].items()}
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
    batch.telemetry += [(session, _reading(told["key"], number, one)) for number, one in enumerate(journal)]
    return batch, problems


def _journal(folder: Path, noted: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The processes of a cell, and what of its journal can't be read.

    It is in the run's ``folder``, wherever that lies by now; else where it was ``noted``.
    """
    places = (folder / PLACE / Path(*noted.parts[-2:]), noted)
    file = next((found for place in places if (found := place / "alone" / FILE).is_file()), None)
    if file is None:
        return [], [f"{noted / 'alone' / FILE}: not there: no raw samples are kept of it"]
    processes, problems = [], []
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        try:
            read = json.loads(line) if line else {}
            if read.get("kind") == "process":
                processes.append(read)
        except (ValueError, AttributeError):
            problems.append(f"{file}:{number}: not a line of a journal: its writer was killed")
    return processes, problems


def _artifact(batch: Batch, session: Session, journal: list[dict[str, Any]], samples: raw.Samples | None) -> str | None:
    if samples is None or not journal:
        return None
    taken = [
        {way: {metric: np.asarray(v) for metric, v in one["seconds"].items()} for way, one in line["samples"].items()}
        for line in journal
    ]
    key, nbytes = samples.put(taken)
    batch.artifacts.append({"key": key, "nbytes": nbytes, "at": session.at, "gone": False})
    return key


def _comparison(ruling: dict[str, Any]) -> dict[str, Any]:
    return {
        "question": ruling["question"],
        "outcome": ruling["said"],
        "fails": ruling["fails"],
        **{name: ruling["cost"].get(name) for name in ("estimate", "low", "high", "visible")},
        "p": ruling.get("p"),
        "words": ruling["words"],
    }


def _reading(cell_key: str, number: int, line: dict[str, Any]) -> dict[str, Any]:
    after = line["bracket"]["after"]
    numbers = ("at", "sm_clock", "memory_clock", "temperature", "power", "energy")
    return {
        "cell_key": cell_key,
        "process": number,
        **{name: after[name] for name in numbers},
        "held_back": json.dumps(after["held_back"]),
    }
