"""`trt-harness store`: filled, shown, brought up to date, pruned, and carried from one store to another."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from harness.ledger import ended, history, migrate
from harness.ledger.baseline_file import write as write_baselines
from harness.ledger.baselines import Baseline, Baselines
from harness.ledger.commit import FILE
from harness.ledger.kept import Kept
from harness.ledger.policy import DEFAULTS
from harness.ledger.store import Store
from tests.cli.conftest import Trt
from tests.ledger import stored

NEWEST = migrate.revisions()[-1]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in the place of runs, which began long ago."""
    folder = stored.run_folder(tmp_path / ".trt-harness" / "runs" / "run-0000", cells=2, plain=1)
    (folder / FILE).write_text("c0ffee\n")
    return folder


def test_a_folder_without_a_run_is_refused(trt: Trt, run: Path, tmp_path: Path) -> None:
    """And one that holds runs names them: somebody went a folder too high."""
    (tmp_path / "empty").mkdir()
    done = trt("store", "ingest", run, "empty")
    assert (done.code, "empty: no run is recorded there, and nothing measured" in done.err) == (2, True)
    done = trt("store", "ingest", run.parent)
    assert (done.code, f"those in it have some: {run}" in done.err) == (2, True)
    assert not (tmp_path / ".trt-harness" / "store.sqlite").exists()


def test_the_latest_run_goes_into_the_store_here(trt: Trt, run: Path, tmp_path: Path) -> None:
    done = trt("store", "ingest")
    assert (done.code, done.err) == (0, "")
    file = tmp_path / ".trt-harness" / "store.sqlite"
    assert done.out == f"{run.relative_to(tmp_path)}: 3 records, 15 new rows, in {file}\n"
    assert trt("store", "ingest", run, "--json").json["runs"][str(run)] == {"records": 3, "sessions": 0, "new": 0}
    with Store(file) as store:
        assert history.sessions(store) == [("run-0000", stored.START, "c0ffee")]


def test_a_store_by_option_or_variable(trt: Trt, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trt("store", "ingest", run, "--store", "a/b.db", "--commit", "abc").code == 0
    monkeypatch.setenv("TRT_HARNESS_STORE", str(tmp_path / "a" / "b.db"))
    told = trt("store", "info", "--json").json
    assert (told["store"], told["rows"]["record"], told["schema"]) == (str(tmp_path / "a" / "b.db"), 3, NEWEST)
    assert (told["first"], told["last"]) == ("2023-11-14", "2023-11-14")


def test_what_is_in_it_is_shown(trt: Trt, run: Path) -> None:
    trt("store", "ingest", run)
    done = trt("store", "info")
    assert done.code == 0
    for words in (f"schema {NEWEST}", "measurement", "sessions from 2023-11-14 to 2023-11-14"):
        assert words in done.out


@pytest.mark.parametrize(
    "command", [["info"], ["migrate"], ["prune"], ["export", "a.zip"], ["merge", "elsewhere.sqlite"]]
)
def test_without_a_store(trt: Trt, command: list[str], tmp_path: Path) -> None:
    done = trt("store", *command)
    assert (done.code, "there is no store: one is made by" in done.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_the_runs_are_listed(trt: Trt, run: Path) -> None:
    for code in (1, 0):
        ended.note(
            run, ended.Ended("run-0000", f"pytest {code}", stored.START - code, stored.START + 60, code, {"x": 3})
        )
    trt("store", "ingest", run)
    told = trt("store", "runs", "--json").json["runs"]
    assert [(one["command"], one["code"], one["counts"]) for one in told] == [
        ("pytest 1", 1, {"x": 3}),
        ("pytest 0", 0, {"x": 3}),
    ]
    assert [one["code"] for one in trt("store", "runs", "--last", "1", "--json").json["runs"]] == [0]
    out = trt("store", "runs").out
    for words in ("run-0000", "2023-11-14 22:13", "61 s", "3 x", "pytest 1"):
        assert words in out


def test_lines_that_cannot_be_read_are_said(trt: Trt, run: Path) -> None:
    log = run / "gw0.jsonl"
    log.write_text("nonsense\n" + log.read_text())
    done = trt("store", "ingest", run)
    assert done.code == 1
    assert f"{log}:1: not JSON" in done.err
    assert "3 records" in done.out


def test_to_another_schema_and_back(trt: Trt, run: Path) -> None:
    trt("store", "ingest", run)
    assert trt("store", "migrate", "--to", "0001").out.endswith(f"schema {NEWEST} before, 0001 now\n")
    assert f"its schema is not the newest, which is {NEWEST}: trt-harness store migrate" in trt("store", "info").err
    refused = trt("store", "ingest", run)
    assert refused.code == 2
    assert f"its schema is 0001, and {NEWEST} is needed: trt-harness store migrate --store" in refused.err
    assert trt("store", "migrate").code == 0
    assert trt("store", "info", "--json").json["rows"]["record"] == 3
    assert trt("store", "migrate", "--to", "0042").code == 2


def test_old_samples_go(trt: Trt, run: Path, tmp_path: Path) -> None:
    trt("store", "ingest", run)
    files = list((tmp_path / ".trt-harness" / "store.sqlite.samples").rglob("*.parquet"))
    assert len(files) == 2
    assert len(trt("store", "prune", "--dry-run", "--json").json["artifacts"]) == 2
    assert trt("store", "prune", "--older-than", "100000", "--json").json["artifacts"] == []
    baseline = Baseline("k", "bert", ("p",), ("run-0000", "other"), {}, reason="good", actor="me")
    write_baselines(tmp_path / "trt-baselines.toml", Baselines(DEFAULTS, active={"k": baseline}))
    assert trt("store", "prune", "--json").json["artifacts"] == [], "the file of baselines rests on them"
    (tmp_path / "trt-baselines.toml").unlink()
    assert all(file.exists() for file in files)
    done = trt("store", "prune")
    assert "2 of its samples and 0 other files went" in done.out
    assert not any(file.exists() for file in files)


@pytest.mark.parametrize("at", ["", "elsewhere"])
def test_old_plans_go(trt: Trt, run: Path, tmp_path: Path, at: str) -> None:
    """But for those that the file of baselines rests on, active or pinned."""
    trt("store", "ingest", run)
    kept = Kept(tmp_path / (at or ".trt-harness/plans"))
    names = [kept.put(np.full(1000, content, np.uint8)) for content in range(3)]
    for name in names:
        os.utime(kept.path(name), (stored.START, stored.START))
    active, pinned = (Baseline("k", "bert", (name,), ("run-0000", "other"), {}) for name in names[:2])
    write_baselines(tmp_path / "trt-baselines.toml", Baselines(DEFAULTS, active={"k": active}, releases={"k": pinned}))
    place = ("--kept", at) if at else ()
    told = trt("store", "prune", *place, "--dry-run", "--json").json
    assert [Path(plan).stem for plan in told["plans"]] == names[2:]
    done = trt("store", "prune", *place)
    assert f"{at or '.trt-harness/plans'}: 1 plans that no baseline rests on went\n1,000 bytes" in done.out
    assert {file.stem for file in kept.folder.iterdir()} == set(names[:2])


def test_from_store_to_store(trt: Trt, run: Path) -> None:
    trt("store", "ingest", run)
    out = trt("store", "export", "all.zip", "--json").json
    assert (out["rows"]["record"], out["samples"], out["missing"]) == (3, 2, 0)
    into = trt("store", "import", "all.zip", "--store", "b.sqlite", "--json").json
    assert (into["rows"], into["samples"]) == (out["rows"], 2)
    merged = trt("store", "merge", "b.sqlite", "--store", "c.sqlite", "--json").json
    assert (merged["rows"], merged["samples"]) == (out["rows"], 2)
    again = trt("store", "merge", "b.sqlite", "--store", "c.sqlite")
    assert again.code == 0
    assert "0 files of raw samples" in again.out
    assert trt("store", "export", "late.zip", "--since", "2023-11-15", "--json").json["rows"]["session"] == 0
    assert trt("store", "export", "late.zip", "--since", "2023-11-14", "--json").json["rows"]["session"] == 1


def test_what_cannot_be_understood(trt: Trt, run: Path) -> None:
    trt("store", "ingest", run)
    done = trt("store", "export", "a.zip", "--since", "yesterday")
    assert (done.code, "write it as 2026-01-31" in done.err) == (2, True)
    for days in ("-5", "nan", "inf"):
        done = trt("store", "prune", "--older-than", days)
        assert (done.code, f"--older-than {days}: write days, 0 or more" in done.err) == (2, True)
    done = trt("store", "info", "--store", "mysql://u@h/d")
    assert (done.code, "a store is in SQLite or PostgreSQL" in done.err) == (2, True)
    done = trt("store", "info", "--store", "mysql://u@h/d", "--json")
    assert json.loads(done.out)["error"]["kind"] == "StoreError"
