"""What a candidate's processes come to tonight."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.ledger import candidate
from harness.ledger.candidate import Candidate, Place
from harness.ledger.gate import Tonight
from harness.measure.quantity import QUANTITIES
from tests.measure.processes import process

LATENCY = next(one for one in QUANTITIES if one.name == "end to end")


class Played:
    """Stands for `Runner`: 200 samples a process."""

    def __init__(self, *_: Any) -> None: ...

    def process(self, number: int, *_: int) -> Any:
        return process(1e-4, number)

    def close(self) -> None: ...


def tonight(folder: Path, processes: int) -> Tonight:
    side: Any = SimpleNamespace(request={}, spec=SimpleNamespace(key="k"), backend="fake", point="opt")
    place = Place("fake GPU", {})
    made = Candidate("mlp", side, ("a",), place, {}, (LATENCY,), folder, lambda _: "none", processes=processes)
    return made.tonight("1")


def test_a_tail_is_told_where_there_are_enough_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate, "Runner", Played)
    assert tonight(tmp_path / "few", 4).tails == {}
    found = tonight(tmp_path / "many", 5)
    assert found.tails.keys() == {"end to end"}
    assert found.tails["end to end"] > float(found.values["end to end"].max())
