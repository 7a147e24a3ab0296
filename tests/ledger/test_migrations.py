"""Every migration, up and down, with data in every table, on both databases; and stores of other schemas."""

from __future__ import annotations

import contextlib
import itertools
import shlex
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import harness
from harness.errors import StoreError
from harness.ledger import history, migrate, schema
from harness.ledger.batch import write
from harness.ledger.change_states import kept, uncleared
from harness.ledger.ingest import ingest
from harness.ledger.store import Store
from tests.ledger import stored

REVISIONS = migrate.revisions()
FIRST = Path(__file__).parents[1] / "data" / "store" / "schema_0001.sql"
STEPS = list(itertools.pairwise(("base", *REVISIONS)))


def compare(store: Store) -> object:
    """What the store's tables and `schema` differ in."""
    return store.read(lambda c: compare_metadata(MigrationContext.configure(c), schema.METADATA))


def at(store_url: str, revision: str) -> Store:
    """A store of an earlier schema, with a row in every table."""
    store = Store(store_url)
    store.migrate(revision)
    store.write(stored.fill)
    return store


def test_revisions_are_in_one_line() -> None:
    assert tuple(f"{number:04d}" for number in range(1, len(REVISIONS) + 1)) == REVISIONS


@pytest.mark.parametrize(("before", "after"), STEPS[1:])
def test_up_and_down_with_data(store_url: str, before: str, after: str) -> None:
    with at(store_url, before) as store:
        data = stored.rows(store, numbers=True)
        assert data
        assert all(data.values())
        store.migrate(after)
        up = stored.rows(store, numbers=True)
        steps = schema.step.name  # a table of which each migration adds a row
        assert set(data.get(steps, ())) <= set(up.get(steps, ()))
        assert {name: up[name] for name in data if name != steps} == {n: data[n] for n in data if n != steps}
        store.write(stored.fill)
        full = stored.rows(store, numbers=True)
        store.migrate(before)
        assert stored.rows(store, numbers=True) == data
        store.migrate(after)
        store.write(stored.fill)
        assert stored.rows(store, numbers=True) == full


def test_all_the_way_up_and_down(store_url: str) -> None:
    with Store(store_url) as store:
        store.write(stored.fill)
        assert all(stored.rows(store).values())
        store.migrate("base")
        left = store.read(lambda connection: sa.inspect(connection).get_table_names())
        assert (left, store.revision()) == (["alembic_version"], None)
        store.migrate()
        assert history.counts(store) == dict.fromkeys((table.name for table in schema.TABLES), 0)


def test_migrations_come_to_the_schema(store_url: str) -> None:
    with Store(store_url) as store:
        assert compare(store) == []

        # What would go unseen if nothing were compared.
        def another(connection: sa.Connection) -> object:
            connection.execute(sa.text("ALTER TABLE host ADD COLUMN more TEXT"))
            return compare_metadata(MigrationContext.configure(connection), schema.METADATA)

        assert store.write(another) != []


def test_a_store_of_the_first_schema_opens(store_url: str, tmp_path: Path) -> None:
    """It can be read as far as its schema goes, says what brings it up to date, and keeps all that it has."""
    run = stored.run_folder(tmp_path / "run")
    with Store(store_url) as store:
        store.migrate(REVISIONS[0])
        write(store, stored.batch())
        before = stored.rows(store, numbers=True)
    with Store(store_url) as store:
        assert store.revision() == REVISIONS[0]
        assert len(history.points(store, stored.series().key)) == 4
        assert (kept(store), uncleared(store)) == ([], {})
        assert (history.counts(store)["measurement"], "baseline" in history.counts(store)) == (12, False)
        with pytest.raises(StoreError) as told:
            ingest(store, run)
        assert str(told.value) == (
            f"{store.name}: its schema is 0001, and {REVISIONS[-1]} is needed: "
            f"trt-harness store migrate --store {shlex.quote(store.name)}"
        )
        store.migrate()
        after = stored.rows(store, numbers=True)
        assert {name: after[name] for name in before} == before
        assert ingest(store, run).new > 0


def test_a_file_of_the_first_version_still_opens(tmp_path: Path) -> None:
    """As it was written then: whatever becomes of the first step, this one stays."""
    with contextlib.closing(sqlite3.connect(tmp_path / "old.sqlite")) as old:
        old.executescript(FIRST.read_text())
    with Store(tmp_path / "old.sqlite", create=False) as store:
        before = stored.rows(store, numbers=True)
        assert (store.revision(), len(before["measurement"]), all(before.values())) == ("0001", 4, True)
        store.migrate()
        after = stored.rows(store, numbers=True)
        assert {name: after[name] for name in before} == before
        assert compare(store) == []
        assert write(store, stored.batch(range(2), range(3))) == 2, "what is there is known again"


def test_a_newer_schema_is_refused(store_url: str) -> None:
    with Store(store_url) as store:
        store.write(lambda connection: connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(StoreError, match=rf"its schema 9999 is newer than {REVISIONS[-1]}: update trt-harness"):
        Store(store_url)


def test_a_newer_schema_names_the_version_that_wrote_it(store_url: str) -> None:
    with Store(store_url) as store:
        assert store.read(lambda connection: migrate.written_by(connection, REVISIONS[-1])) == harness.__version__
        for statement in ("UPDATE alembic_version SET version_num = '9999'", "INSERT INTO step VALUES ('9999', '9.1')"):
            store.write(lambda connection, statement=statement: connection.execute(sa.text(statement)))
    with pytest.raises(StoreError, match=r"is newer than .*: update trt-harness to 9\.1, which wrote it"):
        Store(store_url)


def test_a_revision_that_does_not_exist(store: Store) -> None:
    with pytest.raises(StoreError, match=r"no schema '0007': known are 0001, 0002"):
        store.migrate("0007")


def test_a_migration_that_fails_changes_nothing(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one transaction, on SQLite, too."""
    with at(store_url, REVISIONS[0]) as store:
        before = stored.rows(store, numbers=True)
        with monkeypatch.context() as patched:
            patched.setattr(
                "alembic.op.create_index", lambda *_, **__: (_ for _ in ()).throw(sa.exc.InvalidRequestError("no"))
            )
            with pytest.raises(StoreError):
                store.migrate()
        assert (store.revision(), stored.rows(store, numbers=True)) == (REVISIONS[0], before)
        store.migrate()
        assert store.revision() == REVISIONS[-1]
