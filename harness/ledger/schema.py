"""The tables of a store, as they are now. How older ones come to this is in `harness.ledger.migrations`.

What is measured once and referred to often (sessions, environments, series, plans) has a number, by which the many rows
refer to it, and a key from its content, by which it is known everywhere: writing it again adds nothing. Times are
seconds since 1970, JSON is canonical text, so that equal content is equal text on every database.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.schema import SchemaItem

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Key = String(64)  # SHA-256, in hexadecimal
Number = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by its own integer alone


def _numbered(name: str, *columns: SchemaItem) -> Table:
    """A table whose rows have a number, and a key from their content."""
    return Table(
        name,
        METADATA,
        Column("id", Number, primary_key=True, autoincrement=True),
        Column("key", Key, nullable=False),
        *columns,
        UniqueConstraint("key"),
    )


def _to(table: str, *, null: bool = False) -> Column[object]:
    return Column(f"{table}_id", Number, ForeignKey(f"{table}.id"), nullable=null)


session = _numbered(
    "session",  # one run: the key is the digest of its name
    Column("name", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("commit", Text, nullable=False),
    Index(None, "at"),
)
host = _numbered("host", Column("name", Text, nullable=False), Column("cpu", Text, nullable=False))
gpu = _numbered("gpu", Column("uuid", Text, nullable=False), Column("product", Text, nullable=False))
environment = _numbered(
    "environment",
    Column("facts", Text, nullable=False),  # JSON: names to texts
    _to("host", null=True),
    _to("gpu", null=True),
)
plan = _numbered("plan", Column("digests", Text, nullable=False))  # JSON: SHA-256 of the plans that were measured
artifact = _numbered(  # a file of raw samples, named by its key
    "artifact",
    Column("nbytes", BigInteger, nullable=False),
    Column("at", Float, nullable=False),
    Column("gone", Boolean, nullable=False),  # pruned: the summaries stay
)
series = _numbered(
    "series",
    Column("cell_key", Key, nullable=False),
    Column("cell", Text, nullable=False),  # as people read it
    Column("metric", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("identity", Text, nullable=False),  # JSON: what the key is made of
    Index(None, "cell_key"),
)
measurement = Table(
    "measurement",
    METADATA,
    _to("series"),
    _to("session"),
    Column("value", Float, nullable=False),  # median over processes, in the series' unit
    Column("low", Float),
    Column("high", Float),
    Column("spread", Float, nullable=False),  # relative standard deviation between processes
    Column("processes", Integer, nullable=False),
    _to("environment"),
    _to("plan"),
    _to("artifact", null=True),
    PrimaryKeyConstraint("series_id", "session_id"),
    Index(None, "session_id"),
    sqlite_with_rowid=False,  # a series lies in one place, in the order of its sessions
)
record = _numbered(
    "record",  # of one cell of one suite; the key is the digest of the whole
    _to("session"),
    Column("node", Text, nullable=False),
    Column("test", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("precision", Text, nullable=False),
    Column("variant", Text, nullable=False),
    Column("point", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("started", Float, nullable=False),
    Column("duration", Float, nullable=False),
    Column("body", Text, nullable=False),  # JSON: the record as it was written
    Index(None, "session_id", "verdict"),
)
comparison = _numbered(
    "comparison",
    _to("session"),
    _to("series"),
    Column("question", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("fails", Boolean, nullable=False),
    Column("estimate", Float),  # log ratio of cost, above 0 where the candidate is worse
    Column("low", Float),
    Column("high", Float),
    Column("visible", Float),
    Column("p", Float),
    Column("words", Text, nullable=False),
    Index(None, "session_id"),
    Index(None, "series_id"),
)
telemetry = _numbered(
    "telemetry",  # what the driver told around one process
    _to("session"),
    Column("cell_key", Key, nullable=False),
    Column("process", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("sm_clock", Integer),
    Column("memory_clock", Integer),
    Column("temperature", Integer),
    Column("power", Float),
    Column("energy", Float),
    Column("held_back", Text, nullable=False),  # JSON: why clocks were below what they could be
    Index(None, "session_id"),
)

run = _numbered(
    "run",  # of a command that came to its end: a session that was gone on with has several
    _to("session"),
    Column("command", Text, nullable=False),
    Column("began", Float, nullable=False),
    Column("ended", Float, nullable=False),
    Column("code", Integer, nullable=False),  # exit code
    Column("counts", Text, nullable=False),  # JSON: how many cells had which verdict by then, or metrics which outcome
    Index(None, "session_id"),
)
quarantine = _numbered(
    "quarantine",  # as a run found it in the file of baselines
    _to("session"),
    Column("cell", Text, nullable=False),  # a glob
    Column("owner", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("until", Text, nullable=False),  # the last day that it holds: 2026-12-31
    Column("over", Boolean, nullable=False),  # whether that was past
    Index(None, "session_id"),
)
change_point = _numbered(
    "change_point",
    _to("series"),
    _to("session"),  # the first after it
    Column("estimate", Float, nullable=False),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("p", Float, nullable=False),
    Column("cause", Text, nullable=False),
    Column("words", Text, nullable=False),
    Index(None, "series_id"),
)
baseline = _numbered(
    "baseline",  # the key is the digest of what was proposed
    Column("cell_key", Key, nullable=False),
    Column("cell", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("body", Text, nullable=False),  # JSON: as in the file of baselines
    Column("evidence", Text, nullable=False),  # Markdown
    Index(None, "cell_key"),
)
annotation = _numbered(
    "annotation",
    _to("series", null=True),
    _to("session", null=True),
    Column("at", Float, nullable=False),
    Column("actor", Text, nullable=False),
    Column("text", Text, nullable=False),
)
audit_event = _numbered(
    "audit_event",  # never changed and never deleted
    Column("at", Float, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),  # JSON
    Index(None, "at"),
)

step = Table(
    "step",  # a schema that the store came to, and the version of this project that brought it there
    METADATA,
    Column("revision", Text, primary_key=True),
    Column("version", Text, nullable=False),
)
TABLES = tuple(table for table in METADATA.sorted_tables if table is not step)  # what others refer to comes first
