"""When the canaries of a night are measured: where there is time, and where something was measured between them."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli.night_canaries import NightCanaries
from harness.cli.night_stages import SUITES, Night
from harness.ledger.baseline_file import write
from harness.ledger.baselines import Baseline, Baselines, Known
from harness.ledger.candidate import Place, key_of
from harness.ledger.kept import Kept
from harness.ledger.night_state import NightState
from harness.ledger.policy import DEFAULTS
from harness.ledger.records import Record
from harness.measure.side import Side
from harness.runtime.pool import BuiltPlan, EnginePool
from harness.runtime.workbench import Workbench
from harness.settings import Settings
from tests.report.measured import record

AT = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
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


def test_the_plan_of_a_canary_is_its_baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While tonight's library is the one that made it; else the cache has it. A builder may give another each time."""
    builds: list[dict[str, Any]] = []

    def plan(_: EnginePool, *__: object, **how: Any) -> BuiltPlan:
        builds.append(how)
        return BuiltPlan(np.full(9, len(builds), np.uint8), "key", "plan key", cached=True)

    monkeypatch.setattr(EnginePool, "plan", plan)
    kept, file = Kept(tmp_path / "kept"), tmp_path / "baselines.toml"
    settings = Settings(kept=kept.folder, baselines=file, cache=tmp_path / "cache", in_process=True)
    night = NightCanaries(settings, "fake", tmp_path)
    place = Place("fake GPU", {"library": "1"})
    with Workbench(settings) as bench:
        side = Side("X", night._first, "fake", bench)
        cold = night._plan(side, place)
        assert cold == kept.path(hashlib.sha256(bytes([1] * 9)).hexdigest())
        assert builds == [{}], "no cold build: that would be another plan each night"
        known = {"gpu, graph": Known("s", (1e-3, 1e-3), 0.001, 0.01)}
        one = Baseline(
            key_of(side, place), "canary", (cold.stem,), ("s1", "s2"), known, {"library": "1"}, "why", "ada", AT
        )
        write(file, Baselines(DEFAULTS, {one.key: one}))
        assert night._plan(side, place) == cold
        assert len(builds) == 1
        assert night._plan(side, replace(place, environment={"library": "2"})) != cold
        cold.unlink()
        assert night._plan(side, place) == kept.path(hashlib.sha256(bytes([3] * 9)).hexdigest())
