"""Fixtures of the command line's tests."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Trt = Callable[..., Result]


@pytest.fixture
def trt(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> Trt:
    """Runs the command line in an empty folder: ``trt("check", "a.onnx")``."""
    request.getfixturevalue("played_time")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str | Path) -> Result:
        monkeypatch.setattr(logging.getLogger("harness"), "handlers", [])  # what one command adds, the next has not
        monkeypatch.setattr("sys.argv", ["trt-harness", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return Result(int(left.value.code or 0), said.out, said.err)

    return run
