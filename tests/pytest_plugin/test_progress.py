"""Signs of life stand on lines of their own in a log, where pytest writes its dots."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.pytest_plugin import progress

CONFIG: Any = SimpleNamespace(pluginmanager=SimpleNamespace(getplugin=lambda _: None))


def test_a_long_build_has_lines_of_its_own_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "QUIET", 0.0)
    progress.reporter(CONFIG, "test_builds[a]")("Tactics", 3, 7)
    assert capfd.readouterr().err == "\ntest_builds[a]: Tactics 3/7 after 0 s\n"


def test_a_short_build_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    progress.reporter(CONFIG, "test_builds[a]")("Tactics", 3, 7)
    assert capfd.readouterr().err == ""
