"""From store to store, between both databases, again and again."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from harness.errors import StoreError
from harness.ledger import history, schema
from harness.ledger.batch import write
from harness.ledger.exchange import MANIFEST, export, merge, take
from harness.ledger.ingest import ingest
from harness.ledger.retention import DAY, prune
from harness.ledger.store import Store, add
from tests.ledger import postgres, stored


@pytest.fixture(params=["sqlite", "postgresql"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Another store, empty."""
    url = str(tmp_path / "other.sqlite")
    if request.param == "postgresql":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        url = server.new()
    with Store(url, samples=tmp_path / "other") as made:
        yield made


@pytest.fixture
def full(store: Store, tmp_path: Path) -> Store:
    """With something in every table."""
    for night in range(3):
        at = stored.START + night * DAY
        ingest(store, stored.run_folder(tmp_path / f"run{night}", f"run-{night}", at), "abc")
    store.write(stored.fill)
    assert all(stored.rows(store).values())
    return store


def same(one: Store, two: Store) -> bool:
    """Content, files and what refers to what."""
    assert one.samples is not None
    assert two.samples is not None
    files = [sorted(file.stem for file in store.samples.files()) for store in (one, two) if store.samples]
    assert history.histories(one) == history.histories(two)
    names = [name for name, _, _ in history.sessions(one)]
    assert [history.verdicts(one, name) for name in names] == [history.verdicts(two, name) for name in names]
    return stored.rows(one) == stored.rows(two) and files[0] == files[1]


def test_export_and_import(full: Store, other: Store, tmp_path: Path) -> None:
    told = export(full, tmp_path / "a.zip")
    assert (told.rows, told.samples, told.missing) == (history.counts(full), 9, 0)
    new = take(other, tmp_path / "a.zip")
    assert (new.rows, new.samples) == (told.rows, 9)
    assert same(full, other)
    again = take(other, tmp_path / "a.zip")
    assert (again.total, again.samples) == (0, 0)
    assert same(full, other)


def test_equal_content_gives_equal_bytes(full: Store, other: Store, tmp_path: Path) -> None:
    """Whatever database it is in, and in whatever order it came there."""
    export(full, tmp_path / "a.zip")
    write(other, stored.batch(nights=[77]))
    merge(other, full)
    write(full, stored.batch(nights=[77]))
    export(full, tmp_path / "b.zip")
    export(other, tmp_path / "c.zip")
    assert (tmp_path / "b.zip").read_bytes() == (tmp_path / "c.zip").read_bytes()
    assert (tmp_path / "a.zip").read_bytes() != (tmp_path / "b.zip").read_bytes()


def test_merge(full: Store, other: Store) -> None:
    write(other, stored.batch())
    own = history.counts(other)["measurement"]
    told = merge(other, full)
    assert told.rows["measurement"] == history.counts(full)["measurement"]
    assert history.counts(other)["measurement"] == own + told.rows["measurement"]
    again = merge(other, full)
    assert (again.total, again.samples) == (0, 0)
    merge(full, other)
    assert same(full, other)


def test_since_a_date(full: Store, other: Store, tmp_path: Path) -> None:
    """With all that it refers to, and no more."""
    told = export(full, tmp_path / "a.zip", since=stored.START + 1.5 * DAY)
    take(other, tmp_path / "a.zip")
    assert [name for name, _, _ in history.sessions(other)] == ["run-2"]
    assert (told.rows["measurement"], told.rows["series"], told.rows["plan"], told.samples) == (3, 3, 3, 3)
    assert (told.rows["environment"], told.rows["gpu"], told.rows["baseline"]) == (1, 1, 0)
    assert take(other, tmp_path / "a.zip").total == 0
    export(full, tmp_path / "b.zip")
    take(other, tmp_path / "b.zip")
    assert same(full, other)


def test_what_is_already_there_stays_as_it_is(full: Store, other: Store, tmp_path: Path) -> None:
    """What was pruned does not come back."""
    merge(other, full)
    gone = prune(other, 0.0, now=stored.START + 1000 * DAY).artifacts
    assert len(gone) == 6, "all but those of the session that a change point begins with"
    export(full, tmp_path / "a.zip")
    assert take(other, tmp_path / "a.zip").samples == 0
    assert other.samples is not None
    assert not {file.stem for file in other.samples.files()} & set(gone)


@pytest.mark.parametrize(
    ("here", "there", "after"),
    [
        ("proposed", "active", "active"),
        ("proposed", "rejected", "rejected"),
        ("active", "superseded", "superseded"),
        ("active", "proposed", "active"),
        ("superseded", "active", "superseded"),
        ("rejected", "active", "rejected"),
    ],
)
def test_what_became_of_a_baseline_comes_along(store: Store, other: Store, here: str, there: str, after: str) -> None:
    """A proposal that was decided upon elsewhere is none any more, and no decision is taken back."""
    row = {"key": "b" * 64, "cell_key": "c" * 64, "cell": "bert", "at": 1.0, "body": "{}", "evidence": ""}
    for one, state in ((store, here), (other, there)):
        one.write(lambda connection, state=state: add(connection, schema.baseline, [{**row, "state": state}]))
    moved = merge(store, other).rows["baseline"]
    found = store.read(lambda connection: connection.execute(sa.select(schema.baseline.c.state)).scalar_one())
    assert (found, moved) == (after, int(here != after))


def test_samples_that_are_not_here_are_counted(full: Store, tmp_path: Path) -> None:
    assert full.samples is not None
    full.samples.drop(next(full.samples.files()).stem)
    assert export(full, tmp_path / "a.zip").missing == 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content[:-1000], "not a whole export"),
        (lambda _: b"nonsense", "not a whole export of a store: File is not a zip file"),
        (lambda content: content.replace(b"manifest", b"manifold"), "it has no manifest.json"),
    ],
)
def test_a_file_that_is_no_whole_export(full: Store, tmp_path: Path, spoil, said: str) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "a.zip"
    export(full, file)
    file.write_bytes(spoil(file.read_bytes()))
    with Store(tmp_path / "new.sqlite") as new:
        with pytest.raises(StoreError, match=rf"a\.zip: .*{said}"):
            take(new, file)
        assert sum(history.counts(new).values()) == 0


def rewritten(file: Path, member: str, content: bytes) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, old in members.items():
            archive.writestr(name, content if name == member else old)


def test_rows_that_are_missing_are_noticed(full: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    export(full, file)
    rewritten(file, "tables/host.jsonl", b"")
    with Store(tmp_path / "new.sqlite") as new, pytest.raises(StoreError, match="host has 0 rows, expected"):
        take(new, file)


def test_an_export_of_a_later_version(full: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    export(full, file)
    rewritten(file, MANIFEST, json.dumps({"format": 1, "schema": "9999", "rows": {}}).encode())
    with (
        Store(tmp_path / "new.sqlite") as new,
        pytest.raises(StoreError, match=r"of schema 9999, and this version knows .*: update trt-harness"),
    ):
        take(new, file)


def test_samples_that_are_not_those_of_their_name(full: Store, tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    export(full, file)
    with zipfile.ZipFile(file) as archive:
        one, two = [name for name in archive.namelist() if name.startswith("samples/")][:2]
        content = archive.read(two)
    rewritten(file, one, content)
    with (
        Store(tmp_path / "new.sqlite") as new,
        pytest.raises(StoreError, match="not the samples that were put there"),
    ):
        take(new, file)


def test_a_file_that_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.zip: no such file"):
        take(store, tmp_path / "none.zip")


def test_a_place_that_cannot_be_written(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/a\.zip: can't be written"):
        export(store, tmp_path / "file" / "a.zip")
