"""From the logs of a run to what a store keeps of it. Doing it again adds nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.ledger import raw
from harness.ledger.batch import Batch, Measurement, Series, Session, write
from harness.ledger.nights import PERF
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
    """All that the run in ``folder`` recorded, its raw samples included. StoreError where it can't be stored."""
    store.require_head()
    run = read_run(folder)
    starts = {record.run: record.started for record in reversed(run.records)}
    new = 0
    for start in range(0, len(run.records), AT_ONCE):
        part = run.records[start : start + AT_ONCE]
        new += write(store, batch_of(part, starts, commit, store.samples))
    return Ingested(len(run.records), new, run.problems)


def batch_of(
    records: Iterable[Record], starts: dict[str, float], commit: str = "", samples: raw.Samples | None = None
) -> Batch:
    """What is stored of ``records``, whose runs began at ``starts``. Without ``samples`` no raw ones are kept."""
    batch = Batch()
    for record in records:
        session = Session(record.run, starts[record.run], commit)
        batch.sessions.append(session)
        body = record.to_json()
        batch.records.append(
            (
                session,
                {
                    "node": record.node,
                    **{name: getattr(record.cell, name) for name in ("test", "model", "precision", "variant", "point")},
                    "backend": record.backend,
                    **{name: getattr(record, name) for name in ("verdict", "stage", "message", "started", "duration")},
                    "body": body,
                },
            )
        )
        told = json.loads(body)["facts"].get(PERF)
        if told:
            _measured(batch, session, told, samples)
    return batch


def _measured(batch: Batch, session: Session, told: dict[str, Any], samples: raw.Samples | None) -> None:
    """What a cell of performance measured, and what was said of that."""
    series = {name: Series(told["key"], told["cell"], name, value["unit"]) for name, value in told["values"].items()}
    journal = _journal(Path(told["journal"]) / "alone" / FILE)
    artifact = _artifact(batch, session, journal, samples)
    for name, value in told["values"].items():
        processes = np.asarray(value["processes"], np.float64)
        spread = float(np.log(processes).std(ddof=1)) if processes.size > 1 and (processes > 0).all() else 0.0
        batch.measurements.append(
            Measurement(
                series[name],
                session,
                float(value["value"]),
                spread,
                int(processes.size),
                {name: str(fact) for name, fact in told["environment"].items()},
                tuple(told["plans"]),
                artifact=artifact,
            )
        )
    for ruling in told.get("rulings", ()):
        if ruling["metric"] in series:
            batch.comparisons.append((session, series[ruling["metric"]], _comparison(ruling)))
    batch.telemetry += [(session, _reading(told["key"], number, one)) for number, one in enumerate(journal)]


def _journal(file: Path) -> list[dict[str, Any]]:
    """The processes that a journal has, as far as it is still there."""
    if not file.is_file():
        return []
    lines = (json.loads(line) for line in file.read_bytes().split(b"\n")[:-1])
    return [line for line in lines if line["kind"] == "process"]


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
    logs = {
        name: None if ruling.get(f"{given}_percent") is None else float(np.log1p(ruling[f"{given}_percent"] / 100))
        for name, given in (("estimate", "change"), ("low", "low"), ("high", "high"), ("visible", "visible"))
    }
    return {
        "question": ruling["question"],
        "outcome": ruling["said"],
        "fails": ruling["fails"],
        **logs,
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
