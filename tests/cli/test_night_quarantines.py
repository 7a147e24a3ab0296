"""A night's summary names the quarantines that excused nothing."""

from __future__ import annotations

import datetime
from pathlib import Path
from types import SimpleNamespace

from harness.cli.night_stages import SUITES, Night
from harness.ledger import ended
from harness.ledger.baselines import Quarantine
from harness.settings import Settings

LEFT = {
    **{name: {"status": 0, "seconds": 1.0} for name in SUITES},
    "store": {"faults": [], "seconds": 1.0},
    "change points": {"alerts": [], "seconds": 1.0},
    "exports": {"files": [], "seconds": 1.0},
}


def test_the_summary_names_quarantines_that_excuse_nothing(tmp_path: Path) -> None:
    """As they were when performance last came to its end: it may have been killed and gone on with."""
    until = datetime.date(2026, 1, 31)
    gpt, bert = (Quarantine(cell, "ada", "two kernels", until) for cell in ("gpt*", "bert*"))
    folder = tmp_path / "runs" / "n1-performance"
    folder.mkdir(parents=True)
    for seen in (ended.seen(gpt, over=False), ended.seen(gpt, over=True)):
        both = (seen, ended.seen(bert, over=False, unmatched=True))
        ended.note(folder, ended.Ended("n1-performance", "pytest", 0.0, 1.0, 0, {}, both))
    state = SimpleNamespace(id="n1", folder=tmp_path, stages=LEFT, started=0.0)
    night = Night(state, Settings(), {}, (), 0, watched=False)  # type: ignore[arg-type]  # a state that is played
    told = night._summary()
    over, unmatched = told["quarantines"]
    assert over.startswith("quarantine of gpt* is over and excuses nothing: it held until 2026-01-31")
    assert unmatched.startswith("quarantine of bert* excuses nothing: no cell of this run is one of these")
    page = (tmp_path / "summary.md").read_text()
    assert "## Quarantines that excuse nothing" in page
    assert "held until 2026-01-31" in page
