"""What tests put into stores: batches of measurements, and folders of runs as a session leaves them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from harness.ledger import history, schema
from harness.ledger.batch import Batch, Measurement, Series, Session
from harness.ledger.records import PERF, Record, RecordLog
from harness.ledger.series import Alerted, note
from harness.ledger.store import Store
from harness.measure.history import Cause, ChangePoint
from harness.measure.journal import FILE
from harness.spec.canonical import digest
from harness.spec.cell import Cell
from tests.measure.nights import nights as nights_of

START = 1_700_000_000.0
DAY = 86_400.0
METRICS = ("gpu, graph", "throughput")


def facts(gpu: str = "GPU-1") -> dict[str, str]:
    return {"host": "h1", "cpu": "a CPU", "gpu_uuid": gpu, "gpu": "NVIDIA H100", "library": "8.6.1", "driver": "580"}


def series(number: int = 0, metric: str = METRICS[0]) -> Series:
    return Series(digest(["cell", number]), f"bert-{number}", metric, "s")


def session(number: int = 0) -> Session:
    return Session(f"run-{number:04d}", START + number * DAY, f"{number:040x}")


def batch(cells: Iterable[int] = range(3), nights: Iterable[int] = range(4)) -> Batch:
    """A value of each cell in each night."""
    here, made = facts(), Batch()
    nights = list(nights)
    for cell in cells:
        for night in nights:
            value = 1e-3 * (1 + cell / 7 + night / 1000)
            plans = (digest(["plan", cell]),)
            made.measurements.append(Measurement(series(cell), session(night), value, 0.001, 4, here, plans))
    return made


def change_point(store: Store, cell: str, estimate: float) -> None:
    """Keep one of the latency of the ``cell`` whose name begins so: since the last session that there is."""
    (line,) = history.lines(store, cell, METRICS[0])
    name, at, _ = history.sessions(store)[-1]
    (good,) = nights_of([0.0])
    bad = dataclasses.replace(good, session=name, at=datetime.fromtimestamp(at, timezone.utc))
    numbers = (estimate, estimate - 0.001, estimate + 0.001, 1e-6, 1e-3, 1e-3 * (1 + estimate))
    change = ChangePoint(1, Cause.UNEXPLAINED, *numbers, good, bad, 5)
    assert note(store, [Alerted("1 of 3 cells (commits c1..c2)", ((line, change),))]) == 1


def moved(measurement: Measurement, session: Session) -> Measurement:
    """The same value, in another session."""
    return dataclasses.replace(measurement, session=session)


def rows(store: Store, *, numbers: bool = False) -> dict[str, list[tuple[Any, ...]]]:
    """All that is stored, by table and in one order; without the numbers that each store gives in its own way."""

    def ask(connection: sa.Connection) -> dict[str, list[tuple[Any, ...]]]:
        found = {}
        for table in schema.METADATA.sorted_tables:
            if not sa.inspect(connection).has_table(table.name):
                continue
            columns = [c for c in table.columns if numbers or not (c.name == "id" or c.foreign_keys)]
            found[table.name] = sorted((tuple(row) for row in connection.execute(sa.select(*columns))), key=repr)
        return found

    return store.read(ask)


def fill(connection: sa.Connection) -> None:
    """One row in every table that the store behind ``connection`` has: of any schema, so by its own tables."""
    found = sa.MetaData()
    found.reflect(connection)
    for table in found.sorted_tables:
        if table.name == "alembic_version":
            continue
        if connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one():
            continue
        values: dict[str, Any] = {}
        for column in table.columns:
            for reference in column.foreign_keys:
                values[column.name] = connection.execute(sa.select(sa.func.min(reference.column))).scalar_one()
            if column.name != "id" and not column.foreign_keys:
                values[column.name] = _value(column)
        connection.execute(table.insert(), values)


def _value(column: sa.Column[Any]) -> Any:
    kind = column.type.python_type
    if kind is str:
        return "{}" if column.name in ("facts", "digests", "identity", "body", "detail") else f"some {column.name}"
    return kind(1)


# Runs ----------------------------------------------------------------------------------------------------


def record(number: int = 0, run: str = "run-0000", at: float = START, **more: Any) -> Record:
    cell = Cell("test_matches_oracle", f"model{number}", "fp16", "", "opt", "tensorrt")
    return Record(
        cell, "passed", node=f"suites/x.py::t[{number}]", stage="compare", started=at + number, run=run, **more
    )


def measured(folder: Path, number: int, run: str, at: float, *, factor: float = 1.0) -> Record:
    """A record of performance, with its journal in ``folder``: as `harness.pytest_plugin.perf` leaves them."""
    draw = np.random.default_rng([number, int(at)])
    processes = [1e-3 * factor * (1 + 0.001 * one) for one in draw.normal(size=4)]
    journal = folder / "perf" / str(number) / "opt" / "alone" / FILE
    journal.parent.mkdir(parents=True, exist_ok=True)
    reading = {"at": at, "sm_clock": 1980, "memory_clock": 2619, "temperature": 41, "power": 120.5, "energy": None}
    lines: list[dict[str, Any]] = [{"kind": "session", "schema": 1}]
    for one, middle in enumerate(processes):
        samples = {"graph": {"seconds": {"gpu": list(middle * (1 + 1e-4 * draw.normal(size=20)))}}}
        bracket = {"after": {**reading, "at": at + one, "held_back": ["power cap"]}}
        lines.append({"kind": "process", "subject": "x", "number": one, "samples": samples, "bracket": bracket})
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = {
        "key": digest(["cell", number]),
        "cell": f"bert-{number}",
        "plans": [digest(["plan", number, at])],
        "environment": facts(),
        "journal": str(journal.parent.parent),
        "values": {METRICS[0]: {"unit": "s", "value": float(np.median(processes)), "processes": processes}},
        "rulings": [
            {
                "metric": METRICS[0],
                "question": "plan",
                "said": "PASS",
                "fails": False,
                "cost": {"estimate": 0.001, "low": -0.002, "high": 0.004, "visible": 0.005},
                "p": 0.4,
                "words": "no change",
            }
        ],
    }
    return record(number, run, at, facts={PERF: told})


def run_folder(folder: Path, run: str = "run-0000", at: float = START, cells: int = 3, plain: int = 3) -> Path:
    """A run of two processes, with ``cells`` of performance and ``plain`` ones."""
    folder.mkdir(parents=True, exist_ok=True)
    every = [measured(folder, number, run, at) for number in range(cells)]
    every += [record(cells + number, run, at) for number in range(plain)]
    for process in (0, 1):
        with RecordLog(folder, run, f"gw{process}") as log:
            log.extend(every[process::2])
    return folder
