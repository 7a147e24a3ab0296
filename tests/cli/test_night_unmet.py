"""A night names the accepted baselines that nothing met, and is open for those of what it was to run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli.exits import FAILED, OPEN, PASSED
from harness.cli.night_stages import Night
from harness.ledger import ended
from harness.ledger.records import RecordLog
from harness.settings import Settings
from tests.cli.test_night_quarantines import LEFT
from tests.ledger import stored

GONE = {"cell": "gone-fp16-opt-tensorrt on NVIDIA H200", "why": "there is no model gone any more", "within": True}
ELSEWHERE = {"cell": "bert-fp16-opt-tensorrt on NVIDIA L4", "why": "on another device", "within": False}


def told(folder: Path, *unmet: dict[str, Any], faults: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    """What is told of a night whose one cell passed, and its summary."""
    run = folder / "runs" / "n1-performance"
    run.mkdir(parents=True)
    with RecordLog(run, "n1-performance", "main") as log:
        log.append(stored.record(run="n1-performance"))
    for last in (False, True):  # an earlier process met nothing at all
        ends = unmet if last else (GONE, GONE)
        ended.note(run, ended.Ended("n1-performance", "pytest", 0.0, 1.0, 0, {}, (), ends))
    stages = {**LEFT, "store": {"faults": list(faults), "seconds": 1.0}}
    state = SimpleNamespace(id="n1", folder=folder, stages=stages, started=0.0)
    night = Night(state, Settings(), {}, (), 0, watched=False)  # type: ignore[arg-type]  # a state that is played
    return night._summary(), (folder / "summary.md").read_text()


def test_a_night_is_open_for_what_it_was_to_run(tmp_path: Path) -> None:
    summary, page = told(tmp_path, GONE, ELSEWHERE)
    assert summary["code"] == OPEN
    assert summary["unmet"] == [GONE, ELSEWHERE]
    assert "**PASSED**; 1 baseline not met. 1 cell: 1 passed." in page
    part = page.partition("## Baselines that nothing met tonight\n")[2].partition("\n## ")[0]
    assert [line for line in part.splitlines() if line][2:] == [
        "| others | 1 of what this run was not to do, or tells elsewhere: 1 on another device |",
        "| gone-fp16-opt-tensorrt on NVIDIA H200 | there is no model gone any more |",
    ]


@pytest.mark.parametrize("unmet", [(), (ELSEWHERE, ELSEWHERE)])
def test_what_it_was_not_to_run_is_counted_and_leaves_it_passed(
    tmp_path: Path, unmet: tuple[dict[str, Any], ...]
) -> None:
    summary, page = told(tmp_path, *unmet)
    assert summary["code"] == PASSED
    assert "not met" not in page
    assert ("2 of what this run was not to do, or tells elsewhere: 2 on another device" in page) is bool(unmet)
    assert ("Baselines that nothing met" in page) is bool(unmet)


def test_what_failed_comes_first(tmp_path: Path) -> None:
    summary, page = told(tmp_path, GONE, faults=("the disk is full",))
    assert summary["code"] == FAILED
    assert "**FAILED: 1 fault**; 1 baseline not met" in page
