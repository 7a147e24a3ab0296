"""A store: what is written is there once and for all, on both databases, whoever else writes; and what else it says."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from harness.errors import StoreError
from harness.ledger import history, migrate, schema
from harness.ledger.batch import Batch, Session, write
from harness.ledger.store import Store, add, address
from tests.ledger import postgres, stored

ROOT = Path(__file__).parents[2]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, "sqlalchemy.dialects.postgresql", "psycopg", "alembic.command"])


def test_what_is_written_is_there(store: Store) -> None:
    assert write(store, stored.batch(cells=range(3), nights=range(4))) == 12
    found = history.counts(store)
    assert (found["measurement"], found["series"], found["session"], found["plan"]) == (12, 3, 4, 3)
    assert (found["environment"], found["host"], found["gpu"]) == (1, 1, 1)


def test_writing_again_adds_nothing(store: Store) -> None:
    write(store, stored.batch())
    before = stored.rows(store, numbers=True)
    assert write(store, stored.batch()) == 0
    assert stored.rows(store, numbers=True) == before


def test_a_batch_that_overlaps_adds_what_is_new(store: Store) -> None:
    write(store, stored.batch(range(3), range(4)))
    assert write(store, stored.batch(range(2, 4), range(3, 5))) == 3


def test_a_batch_is_written_whole_or_not_at_all(store: Store) -> None:
    """The last table refuses its row."""
    bad = stored.batch()
    bad.comparisons.append((stored.session(), stored.series(), {"question": "plan"}))  # and nothing else of it
    with pytest.raises(StoreError):
        write(store, bad)
    assert sum(history.counts(store).values()) == 0


def test_a_commit_that_comes_to_be_known_later_is_filled_in(store: Store) -> None:
    for commit in ("", "abc", "", "def"):
        write(store, Batch(sessions=[Session("run", 1.0, commit)]))
    assert history.sessions(store) == [("run", 1.0, "abc")]


def test_any_text_can_be_stored(store: Store) -> None:
    """PostgreSQL has no NUL in texts, and no database a lone surrogate."""
    row = stored.batch()
    told = {"at": 1.0, "actor": "a\0b", "action": "\udcff", "subject": "ü", "reason": "", "detail": "{}", "key": "k"}
    store.write(lambda connection: add(connection, schema.audit_event, [told]))
    (found,) = stored.rows(store)["audit_event"]
    assert ("a\\x00b" in found, "\\udcff" in found, "ü" in found) == (True, True, True)
    write(store, row)


def test_numbers_are_floats_however_they_are_spelled(store: Store) -> None:
    """PostgreSQL's driver refuses rows of integers and floats at once, and SQLite has no -0.0."""
    batch, numbers = stored.batch(range(1), range(1)), (0, -0.0, 0.5, np.float64(0.25), None)
    told = {"question": "plan", "outcome": "PASS", "fails": False, **dict.fromkeys(("low", "high", "visible", "p"), 1)}
    rows = ({**told, "words": str(number), "estimate": one} for number, one in enumerate(numbers))
    batch.comparisons = [(stored.session(0), stored.series(0), row) for row in rows]
    write(store, batch)
    table = schema.comparison.c
    asked = sa.select(table.estimate, table.p).order_by(table.words)
    found = store.read(lambda connection: connection.execute(asked).all())
    assert str([tuple(row) for row in found]) == "[(0.0, 1.0), (0.0, 1.0), (0.5, 1.0), (0.25, 1.0), (None, 1.0)]"


def test_reading_sees_one_moment(store: Store) -> None:
    """Though others write between two questions."""
    write(store, stored.batch(nights=[0]))
    count = sa.select(sa.func.count()).select_from(schema.measurement)

    def ask(connection: sa.Connection) -> tuple[int, int]:
        first = connection.execute(count).scalar_one()
        with Store(store.url.render_as_string(hide_password=False)) as other:
            write(other, stored.batch(nights=[1]))
        return first, connection.execute(count).scalar_one()

    assert store.read(ask) == (3, 3)
    assert store.read(lambda connection: connection.execute(count).scalar_one()) == 6


def _create(url: str, barrier: Any, told: Any) -> None:
    barrier.wait()
    try:
        with Store(url) as made:
            told.put(made.revision())
    except BaseException as error:  # or the test would wait for it
        told.put(repr(error))
        raise


def test_four_processes_create_it_at_once(store_url: str) -> None:
    barrier, told = PROCESSES.Barrier(4), PROCESSES.Queue()
    started = [PROCESSES.Process(target=_create, args=(store_url, barrier, told)) for _ in range(4)]
    for process in started:
        process.start()
    assert [told.get(timeout=120) for _ in started] == [migrate.revisions()[-1]] * 4
    for process in started:
        process.join()


def _write(url: str, number: int, barrier: Any, told: Any) -> None:
    barrier.wait()
    try:
        with Store(url) as made:
            told.put(sum(write(made, stored.batch(range(30), [night, night + number])) for night in range(0, 40, 4)))
    except BaseException as error:
        told.put(repr(error))
        raise


def test_four_processes_write_the_same_and_others_at_once(store_url: str) -> None:
    """Each row is reported as new by one of them."""
    Store(store_url).close()
    barrier, told = PROCESSES.Barrier(4), PROCESSES.Queue()
    started = [PROCESSES.Process(target=_write, args=(store_url, number, barrier, told)) for number in range(4)]
    for process in started:
        process.start()
    new = [told.get(timeout=300) for _ in started]
    for process in started:
        process.join()
    with Store(store_url) as made:
        found = history.counts(made)
    assert all(isinstance(one, int) for one in new), new
    assert (sum(new), found["measurement"], found["session"], found["series"]) == (1200, 1200, 40, 30)


def test_every_transaction_is_synced(tmp_path: Path) -> None:
    """What a power cut may take: nothing that was reported. 2 is FULL, and a write-ahead log is what it is FULL of."""
    with Store(tmp_path / "store.sqlite") as store:
        asked = [f"PRAGMA {name}" for name in ("synchronous", "journal_mode", "foreign_keys")]
        found = store.read(lambda c: [c.exec_driver_sql(one).scalar_one() for one in asked])
    assert found == [2, "wal", 1]


# Addresses and messages ----------------------------------------------------------------------------------


def test_a_path_is_the_address_of_a_file(tmp_path: Path) -> None:
    assert address(tmp_path / "a.sqlite").render_as_string() == f"sqlite:///{tmp_path}/a.sqlite"
    assert address("postgresql://u@h/d").drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mysql://u@h/d", "mysql: a store is in SQLite or PostgreSQL"),
        ("sqlite://", "names no database"),
        ("://", "neither"),
    ],
)
def test_no_address(given: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        address(given)


def test_a_password_is_not_shown() -> None:
    with pytest.raises(StoreError) as told:
        Store("postgresql://me:secret@127.0.0.1:1/nothing", patience=0.1)
    assert "secret" not in str(told.value)
    assert "postgresql+psycopg://me:***@127.0.0.1:1/nothing" in str(told.value)


def test_none_is_made_where_none_is_asked_for(store_url: str) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        Store(store_url, create=False)
    Store(store_url).close()
    Store(store_url, create=False).close()


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite"
    file.write_text("some notes of mine\n" * 100)
    with pytest.raises(StoreError, match=r"store\.sqlite: it is no SQLite database"):
        Store(file)
    assert file.read_text().startswith("some notes"), "and it is left alone"


def test_a_database_that_is_somebody_elses(store_url: str) -> None:
    """It is left as it is."""
    engine = sa.create_engine(address(store_url))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE users (name TEXT)"))
    with pytest.raises(StoreError, match="holds users, and is no store of this project"):
        Store(store_url)
    with engine.connect() as connection:
        assert sa.inspect(connection).get_table_names() == ["users"]
    engine.dispose()


@pytest.mark.parametrize("statement", ["UPDATE audit_event SET actor = 'eve'", "DELETE FROM audit_event"])
def test_audit_events_stay(store: Store, statement: str) -> None:
    event = {
        "key": "a" * 64,
        "at": 1.0,
        "actor": "ada",
        "action": "accept",
        "subject": "s",
        "reason": "r",
        "detail": "{}",
    }
    store.write(lambda connection: add(connection, schema.audit_event, [event]))
    with pytest.raises(StoreError, match="audit events stay as they are"):
        store.write(lambda connection: connection.execute(sa.text(statement)))
    assert history.counts(store)["audit_event"] == 1


def test_a_damaged_file(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite"
    with Store(file) as store:
        write(store, stored.batch(range(50), range(50)))
    content = bytearray(file.read_bytes())
    content[4096 * 5 : -4096] = b"\xff" * (len(content) - 4096 * 6)
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"store\.sqlite: it is damaged: restore it"), Store(file) as store:
        history.histories(store)


def test_a_path_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/store\.sqlite: it can't be opened: does its folder exist"):
        Store(tmp_path / "file" / "store.sqlite")


@contextlib.contextmanager
def powerless() -> Iterator[None]:
    """As a user for whom permissions hold."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(postgres.NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that everybody may read, as far up as it goes."""
    with tempfile.TemporaryDirectory(prefix="trt-store-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


def test_a_folder_that_cannot_be_written(readable: Path) -> None:
    readable.chmod(0o555)
    with powerless(), pytest.raises(StoreError, match=r"store\.sqlite: it can't be (opened|written)"):
        Store(readable / "store.sqlite")
    assert list(readable.iterdir()) == []


def test_a_store_that_cannot_be_written(readable: Path) -> None:
    file = readable / "store.sqlite"
    with Store(file) as store:
        write(store, stored.batch())
    for path in (*readable.iterdir(), readable):
        path.chmod(0o555 if path == readable else 0o444)
    said = r"store\.sqlite: it can't be (opened|written)"
    with powerless(), pytest.raises(StoreError, match=said), Store(file) as store:
        write(store, stored.batch(nights=range(9)))
    readable.chmod(0o755)
    for path in readable.iterdir():
        path.chmod(0o644)
    with Store(file) as store:
        assert history.counts(store)["measurement"] == 12


def test_a_full_disk(tmp_path: Path) -> None:
    """As SQLite finds it: what was stored stays, and what comes next is stored once there is room."""
    with Store(tmp_path / "store.sqlite") as store:
        write(store, stored.batch())
        pages = store.read(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar_one())

        @sa.event.listens_for(store.engine, "checkout")
        def _limit(connection: Any, *_: Any) -> None:
            connection.execute(f"PRAGMA max_page_count={pages}")

        with pytest.raises(StoreError, match=r"store\.sqlite: the disk is full: make room, and write again"):
            write(store, stored.batch(range(100), range(20)))
        assert history.counts(store)["measurement"] == 12
        sa.event.remove(store.engine, "checkout", _limit)
    with Store(tmp_path / "store.sqlite") as store:
        assert write(store, stored.batch(range(100), range(20))) == 2_000 - 12


@pytest.fixture(params=["tmpfs", "file"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """What became of a store where a real file system has no room: a small one, or one that lets no file grow."""
    command = [sys.executable, "-m", "tests.ledger.store_filling", str(tmp_path), request.param]
    if request.param == "tmpfs":
        alone = ["unshare", "--map-root-user", "--mount"]
        try:
            mounts = [*alone, "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)]
            subprocess.run(mounts, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            why = getattr(error, "stderr", "") or error
            pytest.skip(f"a file system of its own can't be mounted here, without rights of root: {why}")
        command = [*alone, *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {"kind": request.param, **json.loads(done.stdout)}


def test_a_file_system_without_room(filled: dict[str, Any]) -> None:
    """What was stored stays, nothing is left in halves, and what could not be is once there is room."""
    words, detail = {
        "tmpfs": ("the disk is full: make room, and write again", "No space left on device"),
        "file": ("its disk can't be read or written: is it full, or does it fail?", "File too large"),
    }[filled["kind"]]
    assert f"store.sqlite: {words}" in filled["rows"]
    assert "samples can't be written: " in filled["samples"]
    assert detail in filled["samples"]
    assert (filled["left"], filled["then"]) == ([], 12)
    assert (filled["new"], filled["read"], filled["whole"]) == (300 * 40 - 12, 1, "ok")


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite"
    Store(file).close()
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    later = threading.Timer(1.0, lambda: other.execute("COMMIT"))
    later.start()
    began = time.monotonic()
    with Store(file) as store:
        assert write(store, stored.batch()) == 12
    assert time.monotonic() - began > 0.5
    later.join()
    other.close()


def test_a_lock_that_stays(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite"
    Store(file).close()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with Store(file, patience=0.6) as store:
            with pytest.raises(StoreError, match=r"store\.sqlite: another process has it locked: end that one"):
                write(store, stored.batch())
            assert sum(history.counts(store).values()) == 0, "reading goes on"
            other.execute("COMMIT")
            assert write(store, stored.batch()) == 12


def test_a_table_that_stays_locked(postgres_server: postgres.Server) -> None:
    url = postgres_server.new()
    with Store(url) as store, Store(url, patience=0.6) as hasty:
        with store.engine.begin() as connection:
            connection.exec_driver_sql("LOCK TABLE session IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            with pytest.raises(StoreError, match="another process has it locked: end that one"):
                write(hasty, stored.batch())
            assert time.monotonic() - began < 20
        assert write(hasty, stored.batch()) == 12


def test_who_migrates_for_long_is_not_waited_for_forever(store_url: str) -> None:
    locked = pytest.raises(StoreError, match=r"another process has it locked: .*\(it is being migrated\)")
    with Store(store_url) as store, Store(store_url, patience=0.6) as hasty, store._migrating(), locked:
        hasty.migrate()


def test_a_server_that_goes_away_and_comes_back(postgres_server: postgres.Server) -> None:
    """While it is written to: what was reported is there, and the writer goes on."""
    with Store(postgres_server.new(), patience=60.0) as store:
        back = threading.Timer(2.0, postgres_server.start)
        for night in range(30):
            if night == 10:
                postgres_server.stop()  # without a word to anybody, as it goes when it crashes
                back.start()
            assert write(store, stored.batch(range(5), [night])) == 5
        assert history.counts(store)["measurement"] == 150
    back.join()


def test_a_server_that_goes_away_within_a_transaction(postgres_server: postgres.Server) -> None:
    with Store(postgres_server.new(), patience=60.0) as store:
        went: list[int] = []

        def work(connection: sa.Connection) -> None:
            told = {"at": 1.0, **dict.fromkeys(("actor", "action", "subject", "reason", "detail", "key"), "x")}
            add(connection, schema.audit_event, [told])
            if not went:
                postgres_server.stop()
                postgres_server.start()
            went.append(1)

        store.write(work)
        assert (len(went), history.counts(store)["audit_event"]) == (2, 1)


def test_a_server_that_stays_away(postgres_server: postgres.Server) -> None:
    url = postgres_server.new()
    with Store(url, patience=1.0) as store:
        write(store, stored.batch())
        postgres_server.stop()
        try:
            began = time.monotonic()
            with pytest.raises(StoreError, match="its server does not answer: is it running"):
                write(store, stored.batch(nights=[7]))
            assert time.monotonic() - began < 30
        finally:
            postgres_server.start()
    with Store(url) as store:
        assert history.counts(store)["measurement"] == 12


def test_what_waiting_does_not_mend_is_said_at_once(postgres_server: postgres.Server) -> None:
    began = time.monotonic()
    with pytest.raises(StoreError, match=r'has no such database: CREATE .*"nowhere" does not exist'):
        Store(postgres_server.url("nowhere"), patience=60.0)
    assert time.monotonic() - began < 30
