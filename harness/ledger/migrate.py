"""Which schema a store has, and bringing it to another one."""

from __future__ import annotations

import functools
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, delete, insert, inspect, select

import harness
from harness.errors import StoreError
from harness.ledger import schema

FOLDER = Path(__file__).parent / "migrations"
HEAD, BASE = "head", "base"


def revision_of(connection: Connection) -> str | None:
    """The revision of the store behind ``connection``; None for an empty one."""
    return MigrationContext.configure(connection).get_current_revision()


@functools.cache
def revisions() -> tuple[str, ...]:
    """All that are known, the first first."""
    script = ScriptDirectory(str(FOLDER))
    return tuple(step.revision for step in reversed(list(script.walk_revisions())))


def migrate(connection: Connection, revision: str = HEAD) -> None:
    """Bring the store to ``revision``, upwards or downwards; whole, or not at all, in the transaction of
    ``connection``.

    "base" is before the first: nothing is left. StoreError for a revision that does not exist.
    """
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    present = revision_of(connection)
    known = revisions()
    if revision not in (HEAD, BASE, *known):
        raise StoreError(f"no schema {revision!r}: known are {', '.join(known)}, and {BASE}, before the first")
    target = known[-1] if revision == HEAD else revision
    down = target == BASE or (present is not None and known.index(target) < known.index(present))
    (command.downgrade if down else command.upgrade)(config, target)
    if inspect(connection).has_table(schema.step.name):
        connection.execute(delete(schema.step).where(schema.step.c.revision >= target))
        connection.execute(insert(schema.step).values(revision=target, version=harness.__version__))


def written_by(connection: Connection, revision: str) -> str:
    """The version of this project that brought the store to ``revision``; "" where that is not known."""
    asked = select(schema.step.c.version).where(schema.step.c.revision == revision)
    return str(connection.execute(asked).scalar() or "") if inspect(connection).has_table(schema.step.name) else ""
