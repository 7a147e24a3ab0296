"""How runs ended, and which quarantines they found: beside their records, and in the store."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

import pytest

from harness.ledger import ended, history
from harness.ledger.baselines import Quarantine
from harness.ledger.ended import Ended
from harness.ledger.exchange import export, take
from harness.ledger.ingest import ingest
from harness.ledger.store import Store
from tests.ledger import stored

UNTIL = datetime.date(2026, 12, 31)
LINE = Ended(
    "run-0000",
    "pytest suites",
    stored.START - 5,
    stored.START + 60,
    1,
    {"passed": 3, "failed": 1},
    (ended.seen(Quarantine("gpt*", "ada", "two kernels", UNTIL), over=False),),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that ended twice: it was gone on with."""
    folder = stored.run_folder(tmp_path / "run", cells=0, plain=3)
    ended.note(folder, LINE)
    ended.note(folder, dataclasses.replace(LINE, began=LINE.began + 100, code=0, counts={"passed": 4}))
    return folder


def test_each_end_is_a_row_once(store: Store, run: Path) -> None:
    assert ingest(store, run).new == 3 + 2 + 1
    assert ingest(store, run).new == 0
    first, second = history.runs(store)
    assert (first.session, first.command, first.began, first.ended) == (
        ("run-0000", "pytest suites", stored.START - 5, stored.START + 60)
    )
    assert [(one.code, one.counts) for one in (first, second)] == [(1, {"passed": 3, "failed": 1}), (0, {"passed": 4})]
    assert [at for _, at, _ in history.sessions(store)] == [stored.START], "it begins with its first record"
    assert history.quarantines(store) == [
        history.Quarantined("run-0000", "gpt*", "ada", "two kernels", "2026-12-31", False)
    ]


def test_a_quarantine_is_seen_by_each_run_for_as_long_as_it_is_there(store: Store, tmp_path: Path) -> None:
    for number, over in enumerate((False, True)):
        name, at = f"run-{number}", stored.START + number * stored.DAY
        folder = stored.run_folder(tmp_path / name, name, at, cells=0, plain=1)
        seen = ended.seen(Quarantine("gpt*", "ada", "two kernels", UNTIL), over=over)
        ended.note(folder, dataclasses.replace(LINE, run=name, quarantines=(seen,)))
        ingest(store, folder)
    assert [(one.session, one.over) for one in history.quarantines(store)] == [("run-0", False), ("run-1", True)]


def test_a_run_without_it_is_stored_without_it(store: Store, tmp_path: Path) -> None:
    assert ingest(store, stored.run_folder(tmp_path / "run", cells=0, plain=3)).problems == ()
    assert (history.runs(store), history.quarantines(store)) == ([], [])


@pytest.mark.parametrize("line", ["nonsense", '{"run": "run-0000"}', "[]", '{"code": "one"}'])
def test_what_cannot_be_read_hides_no_record(store: Store, run: Path, line: str) -> None:
    with (run / ended.FILE).open("a") as opened:
        opened.write(line + "\n")
    told = ingest(store, run)
    (problem,) = told.problems
    assert problem.startswith(f"{run}/ended: how it ended is not understood: ")
    assert (told.records, told.new) == (3, 3)


def test_runs_and_quarantines_go_from_store_to_store(store: Store, run: Path, tmp_path: Path) -> None:
    ingest(store, run)
    export(store, tmp_path / "all.zip")
    with Store(tmp_path / "other.sqlite") as other:
        take(other, tmp_path / "all.zip")
        assert history.runs(other) == history.runs(store)
        assert history.quarantines(other) == history.quarantines(store)
        assert take(other, tmp_path / "all.zip").total == 0
