"""Where measurements are kept over the years: SQLite in a file, or PostgreSQL by its address.

Everything is written in batches, each a transaction: all of it is there once `Store.write` returns, or none. Rows are
known by what they hold (`harness.ledger.schema`), so that whoever is not sure writes again. SQLite is opened with a
write-ahead log, which readers and one writer share, and syncs each transaction: a killed process and a power cut lose
nothing that was reported as stored.
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from harness.errors import NoStoreError, StoreError
from harness.ledger import migrate, schema
from harness.ledger.raw import Samples
from harness.spec.canonical import digest

T = TypeVar("T")
Row = Mapping[str, Any]
FILE = "store.sqlite"  # in .trt-harness
PATIENCE = 60.0  # seconds that a locked or absent database is waited for
PAUSE = 0.5  # between two tries
LOCK = 7_242_810_665  # of PostgreSQL's advisory ones: who migrates has it alone
CHUNK = 500  # keys that one statement asks for
_CAUSES = {
    "disk is full": "the disk is full: make room, and write again",
    "readonly database": "it can't be written: mind the permissions of the file and of its folder",
    "unable to open database": "it can't be opened: does its folder exist, and may you write there?",
    "lock timeout": "another process has it locked: end that one, or wait, and write again",
    "database is locked": "another process has it locked: end that one, or wait, and write again",
    "not a database": "it is no SQLite database",
    "malformed": "it is damaged: restore it from a copy, or export what can still be read",
    "disk i/o error": "its disk can't be read or written: is it full, or does it fail?",
    "no space left": "the disk is full: make room, and write again",
    "authentication failed": "its server lets nobody in like this: mind user and password",
    "no pg_hba.conf entry": "its server lets nobody in from here",
    "fatal:  database": "its server has no such database: CREATE DATABASE makes one",
    "fatal:  role": "its server knows no such user",
    "connection": "its server does not answer: is it running, and reachable from here?",
    "terminating": "its server ended the connection: write again",
}
_PASSING = ("database is locked", "deadlock detected", "could not serialize", "connection", "terminat", "server closed")
_LASTING = ("authentication failed", "no pg_hba.conf entry", "does not exist", "could not translate host name")


class Store:
    """Use as a context. ``url`` is a path, for SQLite, or an address that SQLAlchemy knows.

    A new one is made where there is none, unless ``create`` is False. StoreError where it can't be opened, and where it
    has an older or a newer schema than this version of the project.
    """

    def __init__(
        self, url: str | Path, *, create: bool = True, samples: Path | None = None, patience: float = PATIENCE
    ) -> None:
        self.url = address(url)
        self._patience = patience
        path = self.path
        if path is not None and not create and not path.is_file():
            raise NoStoreError(
                f"{path}: there is no store: one is made by whoever writes the first measurement; --store names another"
            )
        folder = samples or (path.with_name(f"{path.name}.samples") if path else None)
        self.samples = Samples(folder) if folder else None
        self.engine = _engine(self.url, patience)
        try:
            self._checked(create)
        except BaseException:
            self.engine.dispose()
            raise

    @property
    def path(self) -> Path | None:
        """The file of SQLite."""
        found = self.url.database if self.url.get_backend_name() == "sqlite" else None
        return Path(found) if found else None

    @property
    def name(self) -> str:
        """As it may be shown: without a password."""
        return str(self.path or self.url.render_as_string(hide_password=True))

    def revision(self) -> str | None:
        return self.read(migrate.revision_of)

    def migrate(self, revision: str = migrate.HEAD) -> None:
        """Bring it to ``revision``. Whoever comes second waits, and finds it done."""
        with self._migrating():
            self.write(lambda connection: migrate.migrate(connection, revision))

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """What ``work`` finds, all of it as it was at one moment. StoreError."""
        return self._work(work)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """What ``work`` gives; all that it wrote is stored now. It is repeated where others were in its way."""
        return self._work(work, writing=True)

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # Within --------------------------------------------------------------------------------------

    def _checked(self, create: bool) -> None:
        (present, others), known = self.read(_looked_at), migrate.revisions()
        if others:
            raise StoreError(
                f"{self.name}: holds {', '.join(others[:3])}, and is no store of this project: name another"
            )
        if present is None and create:
            self.migrate()
        elif present is None:
            raise NoStoreError(f"{self.name}: there is no store: one is made by whoever writes the first measurement")
        elif present not in known:
            by = self.read(lambda connection: migrate.written_by(connection, present))
            newer = f"its schema {present} is newer than {known[-1]}"
            raise StoreError(f"{self.name}: {newer}: update trt-harness{by and f' to {by}, which wrote it'}")

    def require_head(self) -> None:
        """StoreError where it has an older schema."""
        present, last = self.revision(), migrate.revisions()[-1]
        if present != last:
            raise StoreError(
                f"{self.name}: its schema is {present}, and {last} is needed: "
                f"trt-harness store migrate --store {shlex.quote(self.name)}"
            )

    @contextlib.contextmanager
    def _migrating(self) -> Iterator[None]:
        if self.path is not None:
            try:
                with FileLock(self.path.with_suffix(".migrating"), timeout=self._patience):
                    yield
            except Timeout:
                raise StoreError(f"{self.name}: {_CAUSES['lock timeout']} (it is being migrated)") from None
            except OSError as error:
                raise StoreError(f"{self.name}: {_CAUSES['unable to open database']} ({error.strerror})") from None
            return
        with self.engine.connect() as connection:
            try:
                connection.execute(sa.select(sa.func.pg_advisory_lock(LOCK)))
            except DBAPIError as error:
                raise StoreError(f"{self.name}: {_cause(error)} (it is being migrated)") from error
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(LOCK)))

    def _begin(self, connection: sa.Connection, writing: bool) -> None:
        """A transaction that sees one state from beginning to end where it reads, and the latest where it writes."""
        if self.path is not None:
            # Two that read and then write can't: whoever will write says so at once, and waits.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
        elif not writing:
            connection.execution_options(isolation_level="REPEATABLE READ")

    def _work(self, work: Callable[[sa.Connection], T], *, writing: bool = False) -> T:
        end = time.monotonic() + self._patience
        while True:
            try:
                with self.engine.connect() as connection:
                    self._begin(connection, writing)
                    found = work(connection)
                    connection.commit()
                    return found
            except (DBAPIError, OperationalError) as error:
                if not _passes(error) or time.monotonic() + PAUSE > end:
                    raise StoreError(f"{self.name}: {_cause(error)}") from error
                time.sleep(PAUSE)
            except SQLAlchemyError as error:
                raise StoreError(f"{self.name}: {error}") from error


def store_in(home: Path, url: str | None = None, *, create: bool = True, patience: float = PATIENCE) -> Store:
    """The store at ``url``, by default a file in ``home``, where raw samples of a server's are, too. StoreError."""
    found = address(url or home / FILE)
    shown = found.render_as_string()  # without a password
    samples = home / f"samples-{digest(shown)[:12]}" if found.get_backend_name() == "postgresql" else None
    return Store(found.render_as_string(hide_password=False), create=create, samples=samples, patience=patience)


def shown(url: str) -> str:
    """The ``url`` of a store, or its path, as it may be shown: without a password."""
    return address(url).render_as_string(hide_password=True) if "://" in url else url


def address(url: str | Path) -> sa.URL:
    """A path as the address of its SQLite file. StoreError for what is neither."""
    text = str(url)
    if "://" not in text:
        return sa.URL.create("sqlite", database=str(Path(text).expanduser().absolute()))
    try:
        made = sa.make_url(text)
    except sa.exc.ArgumentError:
        raise StoreError(f"{text!r}: neither a path nor an address, as in postgresql://user@host/name") from None
    if made.get_backend_name() not in ("sqlite", "postgresql"):
        raise StoreError(f"{made.get_backend_name()}: a store is in SQLite or PostgreSQL")
    if not made.database:
        raise StoreError(f"{text!r}: names no database, as in postgresql://user@host/name")
    return made.set(drivername="postgresql+psycopg") if made.drivername == "postgresql" else made


def _engine(url: sa.URL, patience: float) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        if url.database:
            with contextlib.suppress(OSError):
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(url, connect_args={"timeout": min(patience, 5.0)})
        sa.event.listen(engine, "connect", _prepared)
        return engine
    try:
        waiting = {"connect_timeout": max(2, min(10, round(patience)))}  # for one that says nothing; 2 at least
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args=waiting)
    except ModuleNotFoundError as error:
        raise StoreError(f"{url.get_backend_name()}: {error}: pip install 'trt-harness[postgres]'") from None
    sa.event.listen(engine, "connect", lambda connection, _: _patient(connection, patience))
    return engine


def _prepared(connection: Any, _record: Any) -> None:
    """Of a connection to SQLite: transactions are begun by us, not by Python's module when it thinks fit."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-65536"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _patient(connection: Any, patience: float) -> None:
    """Of a connection to a server: a lock is waited for so long, and not for ever."""
    connection.autocommit = True
    connection.execute(f"SET lock_timeout = {max(1, round(1000 * patience))}")
    connection.autocommit = False


def _looked_at(connection: sa.Connection) -> tuple[str | None, list[str]]:
    """The schema; and where there is none, the tables of whoever else has the database."""
    present = migrate.revision_of(connection)
    found = set() if present else set(sa.inspect(connection).get_table_names()) - {"alembic_version"}
    return present, sorted(found)


def _passes(error: DBAPIError) -> bool:
    """Whether it may be over when it is tried again."""
    said = str(error.orig).lower()
    if any(words in said for words in _LASTING):
        return False
    return error.connection_invalidated or any(words in said for words in _PASSING)


def _cause(error: DBAPIError) -> str:
    said = str(error.orig).strip()
    found = next((words for part, words in _CAUSES.items() if part in said.lower()), "")
    return f"{found} ({said})" if found else said


# Rows -----------------------------------------------------------------------------------------------------


def add(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> int:
    """Insert those of ``rows`` that are not there yet, by the table's own keys; how many were new."""
    if not rows:
        return 0
    numbers = tuple(column.name for column in table.c if isinstance(column.type, sa.Float))
    clean = [_storable(row, numbers) for row in rows]
    counted = {"preserve_rowcount": True}
    known_by = [table.c.key] if "key" in table.c else list(table.primary_key)
    if connection.dialect.name != "postgresql":
        one = sqlite.insert(table).on_conflict_do_nothing(index_elements=known_by)
        return int(connection.execute(one, clean, execution_options=counted).rowcount)
    # One statement with an array for each column: a statement for each row takes longer, and does not say how many.
    columns = [table.c[name] for name in clean[0]]
    arrays = [sa.literal([row[c.name] for row in clean], postgresql.ARRAY(c.type)) for c in columns]
    given = sa.func.unnest(*arrays).table_valued(*(sa.column(c.name, c.type) for c in columns)).render_derived()
    asked = postgresql.insert(table).from_select([c.name for c in columns], sa.select(*given.c))
    asked = asked.on_conflict_do_nothing(index_elements=known_by)
    return int(connection.execute(asked, execution_options=counted).rowcount)


def _storable(row: Row, numbers: Sequence[str]) -> Row:
    """``row`` with what every database takes, and gives back as it was.

    That is no text with NUL or half of a character, which are put in Python's notation; and of ``numbers``, the columns
    of floats, no integer, which PostgreSQL's driver refuses among floats, and no -0.0, of which SQLite makes 0.0.
    """
    changed: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, str) and not (value.isascii() and "\0" not in value):
            changed[name] = _clean(value)
    for name in numbers:
        value = row.get(name)
        if value is not None and (type(value) is not float or value == 0):
            changed[name] = float(value) or 0.0
    return {**row, **changed} if changed else row


def _clean(text: str) -> str:
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def numbered(connection: sa.Connection, table: sa.Table, rows: Iterable[Row]) -> dict[str, int]:
    """The numbers of ``rows``, by their keys; those that were not there are now.

    In the order of keys, so that two who write the same ones at once do not wait for each other.
    """
    by_key = {row["key"]: row for row in rows}
    ordered = [by_key[key] for key in sorted(by_key)]
    found = numbers_of(connection, table, list(by_key))
    missing = [row for row in ordered if row["key"] not in found]
    if missing:
        add(connection, table, missing)
        found |= numbers_of(connection, table, [row["key"] for row in missing])
    return found


def numbers_of(connection: sa.Connection, table: sa.Table, keys: Sequence[str]) -> dict[str, int]:
    """The numbers of those rows of ``keys`` that are there."""
    found: dict[str, int] = {}
    for start in range(0, len(keys), CHUNK):
        part = keys[start : start + CHUNK]
        asked = sa.select(table.c.key, table.c.id).where(table.c.key.in_(part))
        found |= {key: number for key, number in connection.execute(asked).all()}  # noqa: C416 - rows, which dict() takes for mappings
    return found


TABLES = schema.TABLES
