"""A run goes into the store that ``--trt-store`` names, and into none without it."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.ledger import history
from harness.ledger.baseline_file import write
from harness.ledger.baselines import Baselines, Quarantine
from harness.ledger.ingest import ingest
from harness.ledger.policy import DEFAULTS
from harness.ledger.store import Store
from harness.pytest_plugin import storing
from tests.pytest_plugin.parts import ROOT, RUNS

pytest_plugins = ("pytester",)
FEW = ("--trt-in-process", "--trt-model=mlp", "--trt-precision=fp32", "--trt-backend=fake")
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def here(project: pytest.Pytester) -> Path:
    return project.path


@pytest.fixture
def run(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a project of three cells, at a commit that the CI names."""
    for name in os.environ:
        if name.endswith(("_SHA", "_COMMIT")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CI_COMMIT_SHA", "c0ffee")
    project.makepyfile(test_runs=RUNS)
    with Store(project.path / "any.sqlite"):  # a database's modules can't be forgotten and imported again
        pass
    (project.path / "any.sqlite").unlink()
    return lambda *options: project.runpytest_inprocess(*FEW, *options)


@pytest.mark.parametrize("workers", ["-pno:xdist", "-n1"])
def test_a_run_is_stored_when_it_ends(run: Run, here: Path, workers: str) -> None:
    done = run("--trt-store=a/b.sqlite", workers)
    assert done.ret == 0
    file = here / "a" / "b.sqlite"
    assert f"stored: 3 records, 4 new rows, in {file}" in done.stdout.str(), "the run itself is one"
    (folder,) = (here / ".trt-harness" / "runs").iterdir()
    with Store(file, create=False) as store:
        ((name, _, commit),) = history.sessions(store)
        assert (name, commit) == (folder.name, "c0ffee")
        assert ingest(store, folder).new == 0
        (ran,) = history.runs(store)
    assert (ran.session, ran.code, ran.counts) == (folder.name, 0, {"passed": 3})
    assert ran.command.startswith("pytest --trt-in-process --trt-model=mlp")
    assert 0 < ran.ended - ran.began < 300


def test_how_a_run_ended_is_stored_with_the_quarantines_that_it_found(run: Run, here: Path) -> None:
    """Of performance alone: nothing else knows of them."""
    today = datetime.date.today()
    quarantines = tuple(
        Quarantine(cell, "ada", "why", today + datetime.timedelta(days)) for cell, days in (("gpt*", 0), ("bert*", -1))
    )
    write(here / "trt-baselines.toml", Baselines(DEFAULTS, quarantines=quarantines))
    store_ = "--trt-store=b.sqlite"
    assert run(store_, "-pno:xdist", "--trt-perf=screen").ret == 0
    (here / "conftest.py").write_text("def pytest_runtest_teardown(): assert 0")
    assert run(store_, "-pno:xdist").ret == 1
    with Store(here / "b.sqlite", create=False) as store:
        first, second = history.runs(store)
        assert (first.code, second.code, sum(second.counts.values())) == (0, 1, 3)
        found = history.quarantines(store)
    assert [(one.session, one.cell, one.owner, one.until, one.over) for one in found] == [
        (first.session, "bert*", "ada", str(today - datetime.timedelta(1)), True),
        (first.session, "gpt*", "ada", str(today), False),
    ]


@pytest.mark.parametrize("address", ["postgresql://me:secret@127.0.0.1:1/x", "postgresql+psycopg://me:secret@h/x"])
def test_a_password_is_not_noted(address: str) -> None:
    noted = storing._without_password(f"pytest --trt-store={address} suites", address)
    assert "secret" not in noted
    assert "--trt-store=postgresql+psycopg://me:***@" in noted


def test_a_run_with_cells_that_nothing_covers_has_its_time(run: Run, here: Path) -> None:
    begun = time.time()
    done = run("--trt-store=b.sqlite", "-pno:xdist", "--trt-backend=tensorrt_rtx")
    assert "not covered" in done.stdout.str()
    with Store(here / "b.sqlite", create=False) as store:
        ((_, at, _),) = history.sessions(store)
    assert begun <= at <= time.time()


def test_without_an_option_nothing_is_stored(run: Run, here: Path) -> None:
    done = run()
    assert (done.ret, "stored: " in done.stdout.str()) == (0, False)
    assert list(here.rglob("*.sqlite")) == []


def test_a_run_that_cannot_be_stored_fails_and_loses_nothing(run: Run, here: Path) -> None:
    (here / "file").touch()
    done = run("--trt-store=file/store.sqlite")
    assert done.ret == 1
    assert "3 passed" in done.stdout.str()
    (folder,) = (here / ".trt-harness" / "runs").iterdir()
    assert f"not stored: {here}/file/store.sqlite: it can't be opened: does its folder exist" in done.stdout.str()
    again = f"trt-harness store ingest {folder} --store {here}/file/store.sqlite"
    assert f"nothing is lost: the records are in {folder}: {again}" in done.stdout.str()
    (here / "file").unlink()
    command = [sys.executable, "-m", "harness.cli", *again.split()[1:]]
    later = subprocess.run(
        command, cwd=here, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert (later.returncode, "3 records, 4 new rows" in later.stdout) == (0, True), later.stderr


def test_an_address_that_is_none_ends_the_run_before_it_begins(run: Run, here: Path) -> None:
    done = run("--trt-store=mysql://u@h/d")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert "--trt-store: mysql: a store is in SQLite or PostgreSQL" in done.stderr.str()
    assert not (here / ".trt-harness").exists()
