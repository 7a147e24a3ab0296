"""When the canaries of a night are measured: where there is time, and where something was measured between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.cli.night_canaries import NightCanaries
from harness.cli.night_stages import SUITES, Night
from harness.ledger.night_state import NightState
from harness.ledger.records import Record
from harness.settings import Settings
from tests.report.measured import record

MEDIANS = {"canary": [1.0, 1.0, 1.0]}


class Played(Night):
    """Whose stages leave what the canaries ask for, and whose performance leaves ``left``."""

    left: tuple[Record, ...] = ()

    def _environment(self) -> dict[str, Any]:
        return {"runs": "fake"}

    def _pytest(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"status": 0}

    def _store(self) -> dict[str, Any]:
        return {"faults": []}

    def _changes(self) -> dict[str, Any]:
        return {"alerts": []}

    def _exports(self) -> dict[str, Any]:
        return {"files": []}

    @property
    def _records(self) -> tuple[Record, ...]:  # type: ignore[override]  # a cached property there
        return self.left


@pytest.mark.parametrize(
    ("budget", "left", "measured", "said"),
    [
        (None, [record()], [False, True], "PASS: canary canary: +0.0 %"),
        (None, [record(facts={})], [False], "NOT_COVERED: not measured: no cell was measured between them"),
        (0.0, [], [], "NOT_COVERED: not measured: the time for the night was over"),
    ],
    ids=["measured", "nothing measured", "no time"],
)
def test_canaries(
    budget: float | None,
    left: list[Record],
    measured: list[bool],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    def canaries(_: NightCanaries, *, after: bool) -> dict[str, Any]:
        asked.append(after)
        return {"medians": MEDIANS}

    monkeypatch.setattr(NightCanaries, "measured", canaries)
    state = NightState.of(tmp_path, "night", ())
    night = Played(state, Settings(budget=budget), dict.fromkeys(SUITES, ()), (), lock=-1)
    night.left = tuple(left)
    _, told = night.run()
    assert asked == measured
    assert told["canaries"][0].startswith(said)
