"""What a store knows of a series, a cell, a night: the same answer, in the same order, from every database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from harness.ledger import schema
from harness.ledger.nights import BESIDE, BY_HAND, History
from harness.ledger.proposals import MODEL, Seen, Value
from harness.ledger.records import NOT_RUN, VERDICTS, Record
from harness.ledger.store import CHUNK, Store
from harness.measure.finding import Said

RECENT = 14 * 86_400.0  # seconds before the newest comparison, in which most cells are held against their baselines


@dataclass(frozen=True)
class Point:
    """One session of a series, ``at`` seconds since 1970. ``value``, ``low`` and ``high`` are in the series' unit."""

    session: str
    at: float
    commit: str
    value: float
    low: float | None
    high: float | None
    spread: float
    processes: int
    environment: Mapping[str, str]
    plans: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A series by its names."""

    key: str
    cell_key: str
    cell: str
    metric: str
    unit: str


@dataclass(frozen=True)
class Told:
    """What was said of a metric in a session: a row of comparisons."""

    session: str
    cell: str
    metric: str
    question: str
    outcome: str
    fails: bool
    estimate: float | None
    words: str


@dataclass(frozen=True)
class Ran:
    """A command that came to its end, in seconds since 1970; ``counts`` by verdict, or by outcome."""

    session: str
    command: str
    began: float
    ended: float
    code: int
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Quarantined:
    """Cells, by a glob, that failed nothing in a session, unless that was ``over``; as `baselines.Quarantine`."""

    session: str
    cell: str
    owner: str
    reason: str
    until: str
    over: bool


def lines(store: Store, prefix: str = "", metric: str = "") -> list[Line]:
    """The series of cells whose names begin with ``prefix``, of one ``metric`` or of all; by cell, then metric."""
    table = schema.series
    asked = sa.select(table.c.key, table.c.cell_key, table.c.cell, table.c.metric, table.c.unit)
    asked = asked.where(table.c.cell.startswith(prefix, autoescape=True))
    rows = [Line(*row) for row in store.read(lambda connection: connection.execute(asked).all())]
    # SQLite's LIKE takes ASCII's capitals for small letters, PostgreSQL's does not.
    found = [one for one in rows if one.cell.startswith(prefix) and metric in ("", one.metric)]
    return sorted(found, key=lambda one: (one.cell, one.metric, one.key))


def points(store: Store, key: str, since: float = float("-inf"), until: float = float("inf")) -> list[Point]:
    """The sessions of the series with this ``key`` that began between ``since`` and ``until``, the oldest first."""
    m, s, e, p = schema.measurement, schema.session, schema.environment, schema.plan
    columns = (s.c.name, s.c.at, s.c.commit, m.c.value, m.c.low, m.c.high, m.c.spread, m.c.processes)
    number = sa.select(schema.series.c.id).where(schema.series.c.key == key).scalar_subquery()
    asked = (
        sa.select(*columns, e.c.facts, p.c.digests)
        .select_from(m.join(s).join(e).join(p))
        .where(m.c.series_id == number)
    )
    rows = store.read(lambda connection: connection.execute(asked).all())
    found = [Point(*row[:8], _apart(row[8])[0], tuple(json.loads(row[9]))) for row in rows]
    return sorted((one for one in found if since <= one.at <= until), key=lambda one: (one.at, one.session))


def histories(store: Store, cells: Sequence[str] | None = None) -> dict[str, History]:
    """By key, of all cells or of those with these keys: as `harness.ledger.nights.histories` has it of records.

    Of a comparison it is side B's alone: A's is of the same moment (`BESIDE`).
    """
    m, r, s, e, p = schema.measurement, schema.series, schema.session, schema.environment, schema.plan
    asked = sa.select(
        *(r.c.cell_key, r.c.cell, s.c.at, s.c.name, p.c.digests, e.c.facts),
        *(r.c.metric, m.c.value, m.c.spread, r.c.unit),
    ).select_from(m.join(r).join(s).join(e).join(p))

    def ask(connection: sa.Connection) -> list[Any]:
        if cells is None:
            return list(connection.execute(asked))
        parts = (list(cells[start : start + CHUNK]) for start in range(0, len(cells), CHUNK))
        return [row for part in parts for row in connection.execute(asked.where(r.c.cell_key.in_(part)))]

    rows = sorted({tuple(row) for row in store.read(ask)}, key=lambda row: (row[0], row[2], row[3], row[6], row[1]))
    found: dict[str, dict[str, Seen]] = {}
    titles: dict[str, str] = {}
    for key, cell, at, name, digests, facts, metric, value, spread, unit in rows:
        if name.endswith(BESIDE):
            continue
        titles[key] = cell
        sessions = found.setdefault(key, {})
        before: Mapping[str, Value] = sessions[name].values if name in sessions else {}
        values = {**before, metric: Value(value, spread, unit)}
        environment, model = _apart(facts)
        sessions[name] = Seen(name, tuple(json.loads(digests)), environment, values, model, at)
    return {key: History(key, titles[key], tuple(sessions.values())) for key, sessions in found.items()}


def _apart(facts: str) -> tuple[dict[str, str], str]:
    """An environment, and the digest of the model that is stored beside it."""
    environment = json.loads(facts)
    return environment, environment.pop(MODEL, "")


def records(store: Store, session: str) -> list[Record]:
    """All that a session recorded, in the order of their beginning."""
    r, s = schema.record, schema.session
    asked = sa.select(r.c.body).select_from(r.join(s)).where(s.c.name == session)
    bodies = store.read(lambda connection: connection.execute(asked).scalars().all())
    return sorted((Record.from_json(body) for body in bodies), key=lambda record: (record.started, record.node))


def verdicts(store: Store, session: str) -> list[Told]:
    """All that was said in a session, by cell and metric."""
    c, r, s = schema.comparison, schema.series, schema.session
    columns = (s.c.name, r.c.cell, r.c.metric, c.c.question, c.c.outcome, c.c.fails, c.c.estimate, c.c.words)
    asked = sa.select(*columns).select_from(c.join(r).join(s)).where(s.c.name == session)
    rows = store.read(lambda connection: connection.execute(asked).all())
    return sorted((Told(*row) for row in rows), key=lambda one: (one.cell, one.metric, one.question, one.words))


def held(store: Store) -> dict[str, set[tuple[str, str]]]:
    """By cell, with its device, of each metric what was said when the cell was last held against a baseline, and not by
    hand.

    What was said within `RECENT` is read first: of a cell that is among it no more is wanted, and of the others only
    what was said of each series last. To look for the last of every series in all that there is takes longer.
    """
    c, r, s = schema.comparison, schema.series, schema.session
    counts = sa.and_(c.c.question != BY_HAND, c.c.outcome.not_in([Said.NOTED.value, Said.NOT_COVERED.value]))
    asked = sa.select(r.c.cell, s.c.at, r.c.metric, c.c.outcome).select_from(s.join(c).join(r)).where(counts)
    last = sa.select(c.c.series_id, sa.func.max(s.c.at).label("at")).select_from(c.join(s)).where(counts)

    def ask(connection: sa.Connection) -> list[Any]:
        newest = connection.execute(
            sa.select(sa.func.max(s.c.at)).where(sa.exists().where(c.c.session_id == s.c.id))
        ).scalar_one()
        rows = list(connection.execute(asked.where(s.c.at > (newest or 0.0) - RECENT).distinct()))
        met = {cell for cell, *_ in rows}
        every = connection.execute(sa.select(r.c.id, r.c.cell)).all()
        others = [number for number, cell in every if cell not in met]
        for start in range(0, len(others), CHUNK):
            of = last.where(c.c.series_id.in_(others[start : start + CHUNK])).group_by(c.c.series_id).subquery()
            then = asked.join(of, sa.and_(of.c.series_id == c.c.series_id, of.c.at == s.c.at))
            rows += connection.execute(then.distinct())
        return rows

    found: dict[str, tuple[float, set[tuple[str, str]]]] = {}
    for cell, at, metric, outcome in store.read(ask):
        last_at, said = found.get(cell, (at, set()))
        if at >= last_at:
            found[cell] = at, {(metric, outcome), *(said if at == last_at else ())}
    return {cell: said for cell, (_, said) in found.items()}


def last_measured(store: Store) -> list[tuple[str, str, float]]:
    """Key and name of each cell, and when the last session that measured it began."""
    m, r, s = schema.measurement, schema.series, schema.session
    each = sa.select(m.c.series_id, sa.func.max(s.c.at).label("at")).select_from(m.join(s)).group_by(m.c.series_id)
    last = each.subquery()
    asked = sa.select(r.c.cell_key, r.c.cell, sa.func.max(last.c.at)).join(last, last.c.series_id == r.c.id)
    asked = asked.group_by(r.c.cell_key, r.c.cell)
    return sorted(tuple(row) for row in store.read(lambda connection: connection.execute(asked).all()))


def last_begun(store: Store) -> dict[str, float]:
    """By pytest's id of a test that was begun and did not pass, when the last session in which it was begun.

    What was not covered counts of the last `RECENT` alone, and not where the time was up.
    """
    r, s = schema.record, schema.session
    asked = sa.select(r.c.node, sa.func.max(s.c.at)).select_from(s.join(r)).group_by(r.c.node)
    since = sa.select(sa.func.max(s.c.at) - RECENT).scalar_subquery()
    refused = asked.where(r.c.verdict == "not_covered", r.c.message != NOT_RUN, s.c.at > since)
    failed = asked.where(r.c.verdict.in_([one for one in VERDICTS if one not in ("passed", "cached", "not_covered")]))

    def ask(connection: sa.Connection) -> list[Any]:
        return [row for one in (failed, refused) for row in connection.execute(one)]

    found: dict[str, float] = {}
    for node, at in store.read(ask):
        found[node] = max(at, found.get(node, at))
    return found


def sessions(store: Store) -> list[tuple[str, float, str]]:
    """Name, time and commit of each, the oldest first."""
    s = schema.session
    rows = store.read(lambda connection: connection.execute(sa.select(s.c.name, s.c.at, s.c.commit)).all())
    return sorted((tuple(row) for row in rows), key=lambda row: (row[1], row[0]))


def runs(store: Store) -> list[Ran]:
    """The oldest first."""
    r, s = schema.run, schema.session
    columns = (s.c.name, r.c.command, r.c.began, r.c.ended, r.c.code, r.c.counts)
    asked = sa.select(*columns).select_from(r.join(s))
    rows = store.read(lambda connection: connection.execute(asked).all())
    found = [Ran(*row[:5], json.loads(row[5])) for row in rows]
    return sorted(found, key=lambda one: (one.began, one.ended, one.session))


def quarantines(store: Store) -> list[Quarantined]:
    """By session, the oldest first, then by cell."""
    q, s = schema.quarantine, schema.session
    columns = (s.c.name, q.c.cell, q.c.owner, q.c.reason, q.c.until, q.c.over)
    asked = sa.select(s.c.at, *columns).select_from(q.join(s))
    rows = sorted(tuple(row) for row in store.read(lambda connection: connection.execute(asked).all()))
    return [Quarantined(*row[1:]) for row in rows]


def counts(store: Store) -> dict[str, int]:
    """Rows by table, of those that the store's schema has."""

    def count(connection: sa.Connection) -> dict[str, Any]:
        present = set(sa.inspect(connection).get_table_names())
        return {
            table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in schema.TABLES
            if table.name in present
        }

    return store.read(count)
