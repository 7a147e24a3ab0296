"""Which commit a run was of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.ledger.commit import VARIABLES, commit_of, note, noted


@pytest.fixture(autouse=True)
def _no_ci(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*VARIABLES, "GIT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_what_is_checked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_SHA", "elsewhere")
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "below").mkdir()
    assert [commit_of(tmp_path), commit_of(tmp_path / "below")] == [head, head]
    note(tmp_path, tmp_path)
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "two")
    assert noted(tmp_path) == head, "that of the beginning"


@pytest.mark.parametrize("variable", VARIABLES)
def test_what_a_ci_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    assert commit_of(tmp_path) == ""
    monkeypatch.setenv(variable, "c0ffee")
    assert commit_of(tmp_path) == "c0ffee"


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("GITHUB_SHA", "c0ffee")
    assert commit_of(tmp_path) == "c0ffee"


def test_a_run_that_noted_nothing(tmp_path: Path) -> None:
    assert noted(tmp_path) == ""
