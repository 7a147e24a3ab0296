"""From one store into another, whichever databases they are in: by a file, or at once.

A file is a zip: for each table ``tables/NAME.jsonl``, its rows as canonical JSON, one a line, in the order of their
keys; for raw samples ``samples/KEY.parquet``; last ``manifest.json``, with format, schema and how many rows there are,
so that a file that was cut short is known as one. Rows have no numbers, which are each store's own, and refer to
others by key. Equal content gives equal bytes. What a store has already stays as it is, but for baselines, whose life
goes on: what is a proposal here, and was decided upon elsewhere, is decided upon here, too.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from harness.errors import StoreError
from harness.ledger import migrate, schema
from harness.ledger.baselines import State
from harness.ledger.raw import SUFFIX
from harness.ledger.store import CHUNK, TABLES, Store, add
from harness.spec.canonical import canonical_json

FORMAT = 1
MANIFEST = "manifest.json"
AT_ONCE = 5000  # rows of one transaction
LIFE = {  # of a baseline, which never goes back
    State.PROPOSED.value: 0,
    State.ACTIVE.value: 1,
    State.REJECTED.value: 1,
    State.SUPERSEDED.value: 2,
}
_THEN = (1980, 1, 1, 0, 0, 0)  # of every member: the oldest that a zip can say

Rows = dict[str, Any]


@dataclass(frozen=True)
class Moved:
    """Rows by table, and files of raw samples: all of an export, and what was new of an import or a merge."""

    rows: Mapping[str, int]
    samples: int
    missing: int = 0  # files that are named, and not there

    @property
    def total(self) -> int:
        return sum(self.rows.values())


def export(store: Store, file: Path, since: float | None = None) -> Moved:
    """Write ``file``, whole or not at all: all of ``store``, or what began at ``since`` (seconds since 1970) or later,
    with all that it refers to. StoreError.
    """
    store.require_head()
    counts: dict[str, int] = {}
    files, missing = 0, 0

    def tables(connection: sa.Connection) -> list[str]:
        for table in TABLES:
            counts[table.name] = 0
            with archive.open(_member(f"tables/{table.name}.jsonl"), "w", force_zip64=True) as member:
                for row in _rows(connection, table, since):
                    member.write(canonical_json(row).encode() + b"\n")
                    counts[table.name] += 1
        return _artifacts(connection, since)

    with _placed(file) as opened, zipfile.ZipFile(opened, "w") as archive:
        for key in store.read(tables):
            path = store.samples.file(key) if store.samples else None
            if path is None or not path.is_file():
                missing += 1
                continue
            archive.writestr(_member(f"samples/{key}{SUFFIX}", zipfile.ZIP_STORED), path.read_bytes())
            files += 1
        manifest = {"format": FORMAT, "schema": migrate.revisions()[-1], "rows": counts, "samples": files}
        archive.writestr(_member(MANIFEST), canonical_json(manifest))
    return Moved(counts, files, missing)


def take(store: Store, file: Path) -> Moved:
    """Add what ``file`` has to ``store``. StoreError for anything but a whole export of a schema that is known."""
    store.require_head()
    try:
        with zipfile.ZipFile(file) as archive:
            counts = _manifest(file, archive)
            new, numbers = {}, _Numbers(store)
            for table in TABLES:
                if table.name in counts:
                    with archive.open(f"tables/{table.name}.jsonl") as member:
                        rows = (json.loads(line) for line in member)
                        new[table.name] = _add(store, table, rows, numbers)
            held = (name for name in archive.namelist() if name.startswith("samples/"))
            found = ((Path(name).stem, lambda name=name: archive.read(name)) for name in held)
            return Moved(new, *_adopt(store, found))
    except FileNotFoundError:
        raise StoreError(f"{file}: no such file: trt-harness store export {file} makes one of a store") from None
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError) as error:
        raise StoreError(f"{file}: not a whole export of a store: {error}: export it anew") from None


def merge(store: Store, other: Store, since: float | None = None) -> Moved:
    """Add what ``other`` has to ``store``. StoreError."""
    for one in (store, other):
        one.require_head()
    numbers = _Numbers(store)

    def work(connection: sa.Connection) -> tuple[dict[str, int], list[str]]:
        new = {table.name: _add(store, table, _rows(connection, table, since), numbers) for table in TABLES}
        return new, _artifacts(connection, since)

    new, keys = other.read(work)
    there = other.samples
    paths = [] if there is None else [(key, there.file(key)) for key in keys]
    found = [(key, path.read_bytes) for key, path in paths if path.is_file()]
    taken, _ = _adopt(store, found)
    return Moved(new, taken, len(keys) - len(found))


# Rows ----------------------------------------------------------------------------------------------------


def _rows(connection: sa.Connection, table: sa.Table, since: float | None) -> Iterator[Rows]:
    """Of ``table`` in the order of keys: what it refers to is named by key."""
    joined: sa.FromClause = table
    columns: list[Any] = []
    order: list[Any] = []
    for column in table.c:
        if column.name == "id":
            continue
        for reference in column.foreign_keys:
            other = reference.column.table.alias(column.name)
            joined = joined.outerjoin(other, other.c.id == column)
            columns.append(other.c.key.label(column.name))
            if column.primary_key:
                order.append(other.c.key)
        if not column.foreign_keys:
            columns.append(column)
    order = order or [table.c.key]
    if connection.dialect.name == "postgresql":
        order = [sa.collate(key, "C") for key in order]  # SQLite's, which is that of bytes
    asked = sa.select(*columns).select_from(joined).order_by(*order)
    if since is not None:
        asked = asked.where(_recent(table, since))
    streamed = connection.execution_options(yield_per=AT_ONCE)
    for row in streamed.execute(asked).mappings():
        yield dict(row)


def _recent(table: sa.Table, since: float) -> sa.ColumnElement[bool]:
    """What happened at ``since`` or later, and what is referred to by that."""
    sessions = schema.session
    if "session_id" in table.c:
        begun = sa.select(sessions.c.id).where(sessions.c.at >= since)
        found = table.c.session_id.in_(begun)
        return sa.or_(found, table.c.session_id.is_(None) & (table.c.at >= since)) if "at" in table.c else found
    if table is sessions or (not _referring(table) and "at" in table.c):
        return table.c.at >= since
    referring = [sa.select(column).where(_recent(column.table, since)) for column in _referring(table)]
    return sa.or_(*(table.c.id.in_(asked) for asked in referring))


def _referring(table: sa.Table) -> list[sa.Column[Any]]:
    return [c for other in TABLES for c in other.c for f in c.foreign_keys if f.column.table is table]


def _artifacts(connection: sa.Connection, since: float | None) -> list[str]:
    """Keys of the raw samples that should be there, in order."""
    return [row["key"] for row in _rows(connection, schema.artifact, since) if not row["gone"]]


class _Numbers:
    """What rows of ``store`` have as numbers, by table and key; each is asked for once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, dict[str, int]] = {}

    def of(self, table: sa.Table, keys: Iterable[str]) -> Mapping[str, int]:
        known = self._known.setdefault(table.name, {})
        lacking = sorted(set(keys) - known.keys())

        def ask(connection: sa.Connection) -> Iterator[tuple[str, int]]:
            for start in range(0, len(lacking), CHUNK):
                part = lacking[start : start + CHUNK]
                for row in connection.execute(sa.select(table.c.key, table.c.id).where(table.c.key.in_(part))):
                    yield row.key, row.id

        if lacking:
            known.update(self._store.read(lambda connection: dict(ask(connection))))
        return known


def _add(store: Store, table: sa.Table, rows: Iterable[Rows], numbers: _Numbers) -> int:
    new = 0
    references = {column.name: f.column.table for column in table.c for f in column.foreign_keys}
    expected = {column.name for column in table.c} - {"id"}
    for part in _batched(rows):
        for row in part:
            if row.keys() != expected:
                raise ValueError(f"a row of {table.name} has {sorted(row)}, expected {sorted(expected)}")
        made = [dict(row) for row in part]
        for name, other in references.items():
            known = numbers.of(other, {row[name] for row in made if row[name] is not None})
            for row in made:
                row[name] = None if row[name] is None else known[row[name]]
        # mypy can't infer a lambda with a default, which binds the value of this turn.
        new += store.write(lambda connection, made=made: _added(connection, table, made))  # type: ignore[misc]
    return new


def _added(connection: sa.Connection, table: sa.Table, rows: list[Rows]) -> int:
    """Of baselines those count, too, that have gone on."""
    new = add(connection, table, rows)
    if table is schema.baseline:
        for row in rows:
            earlier = [state for state, age in LIFE.items() if age < LIFE.get(row["state"], 0)]
            mine = (table.c.key == row["key"]) & table.c.state.in_(earlier)
            new += connection.execute(sa.update(table).where(mine).values(state=row["state"])).rowcount
    return new


def _batched(rows: Iterable[Rows]) -> Iterator[tuple[Rows, ...]]:
    every = iter(rows)
    while part := tuple(itertools.islice(every, AT_ONCE)):
        yield part


def _adopt(store: Store, found: Iterable[tuple[str, Callable[[], bytes]]]) -> tuple[int, int]:
    """Files that are new here, and those that can't be: a store without a folder for samples keeps none.

    What was pruned here does not come back.
    """
    taken, missing = 0, 0
    gone = store.read(
        lambda connection: set(
            connection.execute(sa.select(schema.artifact.c.key).where(schema.artifact.c.gone)).scalars()
        )
    )
    for key, read in found:
        if store.samples is None:
            missing += 1
        elif key not in gone:
            taken += store.samples.adopt(key, read()) > 0
    return taken, missing


# Files ---------------------------------------------------------------------------------------------------


def _member(name: str, compression: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name, _THEN)
    made.compress_type = compression
    made.external_attr = 0o644 << 16
    return made


@contextlib.contextmanager
def _placed(file: Path) -> Iterator[IO[bytes]]:
    """A file that comes to be ``file`` in the end, or does not come to be."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as opened:
            try:
                yield opened
                opened.flush()
                Path(opened.name).replace(file)
            except BaseException:
                Path(opened.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StoreError(f"{file}: can't be written: {error.strerror or error}") from None


def _manifest(file: Path, archive: zipfile.ZipFile) -> dict[str, int]:
    """Rows by table. StoreError for what this version does not know, or is not whole."""
    if MANIFEST not in archive.namelist():
        raise ValueError(f"it has no {MANIFEST}")
    manifest = json.loads(archive.read(MANIFEST))
    if manifest.get("format") != FORMAT or manifest.get("schema") not in migrate.revisions():
        raise StoreError(
            f"{file}: exported in format {manifest.get('format')} of schema {manifest.get('schema')}, and this version "
            f"knows format {FORMAT} up to schema {migrate.revisions()[-1]}: update trt-harness"
        )
    counts: dict[str, int] = manifest["rows"]
    for name, count in counts.items():
        with archive.open(f"tables/{name}.jsonl") as member:
            found = sum(1 for _ in member)
        if found != count:
            raise ValueError(f"{name} has {found} rows, expected {count}")
    return counts
