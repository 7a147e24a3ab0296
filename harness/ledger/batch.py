"""What is written to a store at once: values without numbers of rows, which the store finds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

from harness.ledger import schema
from harness.ledger.store import Store, add, numbered, numbers_of
from harness.spec.canonical import canonical_json, digest

T = TypeVar("T")


@dataclass(frozen=True)
class Series:
    """What is measured again and again: one metric of one cell, as `identity` has it."""

    cell_key: str
    cell: str
    metric: str
    unit: str

    @property
    def identity(self) -> dict[str, str]:
        """The cell's key says what was asked, on which product, how, and by which version of the measurement."""
        return {"cell": self.cell_key, "metric": self.metric, "unit": self.unit}

    @property
    def key(self) -> str:
        return _series_key(self.cell_key, self.metric, self.unit)


@dataclass(frozen=True)
class Session:
    """One run, ``at`` seconds since 1970, of a ``commit`` of whatever is tested, as far as it is known."""

    name: str
    at: float
    commit: str = ""

    @property
    def key(self) -> str:
        return _digest(self.name)


@dataclass(frozen=True)
class Measurement:
    """One value of a series in a session; ``artifact`` is the key of its samples."""

    series: Series
    session: Session
    value: float
    spread: float
    processes: int
    environment: Mapping[str, str]
    plans: tuple[str, ...]
    low: float | None = None
    high: float | None = None
    artifact: str | None = None


@dataclass
class Batch:
    """All of it is written, or none. The rest are rows without their numbers."""

    sessions: list[Session] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    records: list[tuple[Session, dict[str, Any]]] = field(default_factory=list)
    comparisons: list[tuple[Session, Series, dict[str, Any]]] = field(default_factory=list)
    telemetry: list[tuple[Session, dict[str, Any]]] = field(default_factory=list)
    runs: list[tuple[Session, dict[str, Any]]] = field(default_factory=list)
    quarantines: list[tuple[Session, dict[str, Any]]] = field(default_factory=list)


def write(store: Store, batch: Batch) -> int:
    """Store all of ``batch`` in one transaction; how many records, measurements and so on were new. StoreError."""
    return store.write(lambda connection: _written(connection, batch))


def _written(connection: sa.Connection, batch: Batch) -> int:
    every = {one.session for one in batch.measurements} | set(batch.sessions)
    every |= {session for session, _ in (*batch.records, *batch.telemetry, *batch.runs, *batch.quarantines)}
    every |= {session for session, _, _ in batch.comparisons}
    sessions = numbered(connection, schema.session, (_row(one, "name", "at", "commit") for one in every))
    _commits(connection, every, sessions)
    series_ = {one.series for one in batch.measurements} | {one[1] for one in batch.comparisons}
    series = _known(connection, schema.series, {one.key: one for one in series_}, _series)
    environments = _environments(connection, batch.measurements)
    every_plans = {_digest(plans): plans for plans in {one.plans for one in batch.measurements}}
    plans = _known(connection, schema.plan, every_plans, _plan)
    artifacts = numbered(connection, schema.artifact, batch.artifacts)
    measured = [
        {
            "series_id": series[one.series.key],
            "session_id": sessions[one.session.key],
            "value": one.value,
            "low": one.low,
            "high": one.high,
            "spread": one.spread,
            "processes": one.processes,
            "environment_id": environments[id(one.environment)],
            "plan_id": plans[_digest(one.plans)],
            "artifact_id": artifacts[one.artifact] if one.artifact else None,
        }
        for one in batch.measurements
    ]
    # In the order in which they lie, and in which everybody else writes them.
    new = add(connection, schema.measurement, sorted(measured, key=lambda row: (row["series_id"], row["session_id"])))
    for table, told in (
        (schema.record, [(session, None, row) for session, row in batch.records]),
        (schema.telemetry, [(session, None, row) for session, row in batch.telemetry]),
        (schema.run, [(session, None, row) for session, row in batch.runs]),
        (schema.quarantine, [(session, None, row) for session, row in batch.quarantines]),
        (schema.comparison, batch.comparisons),
    ):
        rows = {}
        for session, of, row in told:
            # A key that is the same in every store: of what the row refers to, too, the keys.
            key = digest([session.key, of.key if of else "", row])
            rows[key] = {"key": key, **row, "session_id": sessions[session.key]}
            if of:
                rows[key]["series_id"] = series[of.key]
        new += add(connection, table, [rows[key] for key in sorted(rows)])
    return new


def _commits(connection: sa.Connection, every: set[Session], numbers: Mapping[str, int]) -> None:
    """A commit that was not known when its session was written first."""
    table = schema.session
    asked = sa.update(table).where(table.c.id == sa.bindparam("number"), table.c.commit == "")
    known = sorted((numbers[one.key], one.commit) for one in every if one.commit)
    if known:
        rows = [{"number": number, "commit": commit} for number, commit in known]
        connection.execute(asked.values(commit=sa.bindparam("commit")), rows)


def _row(one: Any, *names: str) -> dict[str, Any]:
    return {"key": one.key, **{name: getattr(one, name) for name in names}}


def _series(one: Series) -> dict[str, Any]:
    return {**_row(one, "cell_key", "cell", "metric", "unit"), "identity": canonical_json(one.identity)}


def _plan(digests: tuple[str, ...]) -> dict[str, Any]:
    return {"key": _digest(digests), "digests": canonical_json(digests)}


def _known(
    connection: sa.Connection, table: sa.Table, things: Mapping[str, T], row: Callable[[T], dict[str, Any]]
) -> dict[str, int]:
    """Numbers by key. Nearly all are there already, and rows are made of the others alone."""
    found = numbers_of(connection, table, list(things))
    return found | numbered(connection, table, [row(one) for key, one in things.items() if key not in found])


# What is measured again and again is known by the same keys again and again.
@functools.lru_cache(maxsize=1 << 16)
def _digest(value: Hashable) -> str:
    return digest(value)


@functools.lru_cache(maxsize=1 << 16)
def _series_key(cell_key: str, metric: str, unit: str) -> str:
    return digest(Series(cell_key, "", metric, unit).identity)


def _environments(connection: sa.Connection, measurements: list[Measurement]) -> dict[int, int]:
    """Numbers by the identity of the facts. Host and GPU have rows of their own, for whoever asks by them."""
    objects = {id(one.environment): one.environment for one in measurements}
    texts = {number: canonical_json(one) for number, one in objects.items()}
    facts = {texts[number]: one for number, one in objects.items()}
    hosts = {text: _part(one, name="host", cpu="cpu") for text, one in facts.items()}
    gpus = {text: _part(one, uuid="gpu_uuid", product="gpu") for text, one in facts.items()}
    host_of = numbered(connection, schema.host, filter(None, hosts.values()))
    gpu_of = numbered(connection, schema.gpu, filter(None, gpus.values()))
    rows: dict[str, dict[str, Any]] = {}
    for text in facts:
        host, gpu = hosts[text], gpus[text]
        rows[text] = {
            "key": digest(text),
            "facts": text,
            "host_id": host_of[host["key"]] if host else None,
            "gpu_id": gpu_of[gpu["key"]] if gpu else None,
        }
    found = numbered(connection, schema.environment, rows.values())
    return {number: found[str(rows[text]["key"])] for number, text in texts.items()}


def _part(facts: Mapping[str, str], **names: str) -> dict[str, str] | None:
    """A row of the facts that it is made of; None where the first is unknown."""
    values = {column: facts.get(name, "") for column, name in names.items()}
    return {"key": digest(values), **values} if next(iter(values.values())) else None
