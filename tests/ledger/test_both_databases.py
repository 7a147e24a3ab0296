"""What people are told is the same, byte for byte, whichever database the same nights are in."""

from __future__ import annotations

import datetime
import io
import json
import logging
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import baseline as baseline_commands
from harness.cli.app import main
from harness.cli.runs import HOME
from harness.ledger import batch, history
from harness.ledger.baselines import Baselines
from harness.ledger.gate import Gate, Tonight
from harness.ledger.ingest import ingest
from harness.ledger.policy import DEFAULTS
from harness.ledger.proposals import Proposal, proposed
from harness.ledger.records import PERF, Record, RecordLog
from harness.ledger.series import alerts_of, note
from harness.ledger.store import store_in
from harness.ledger.worth import Worth
from harness.measure.quantity import every
from tests.ledger import postgres, stored
from tests.ledger.test_gate import Planned

NIGHTS = [night for night in range(40) if not 14 <= night < 21]  # a week without any
STEP = 26  # from which night on one cell is slower
FLAKY = 31  # the night in which another one was
DEVICE = "NVIDIA H100, 700 W"
CELLS = ("bert-fp16-opt-tensorrt", "Bert-fp16-opt-tensorrt", "bert_2-fp16-opt-tensorrt", "Öl-fp32-opt-tensorrt")
LATER = 3  # the cell that is there from the sixth night on
TURNS = 2  # the cell that two machines measure in turn
ELSEWHERE = {"host": "h2", "gpu_uuid": "GPU-2"}
SINCE = datetime.datetime.fromtimestamp(stored.START, datetime.timezone.utc)


def factor(cell: int, night: int) -> float:
    slower = 1.06 if cell == 0 and night >= STEP else 1.0
    return slower * (1.3 if cell == 1 and night == FLAKY else 1.0)


def measured(folder: Path, cell: int, night: int, run: str, at: float) -> Record:
    record = stored.measured(folder, cell, run, at, factor=factor(cell, night))
    told: dict[str, Any] = record.facts[PERF]
    told["cell"] = f"{CELLS[cell]} on {DEVICE}"
    told["plans"] = [f"plan of {cell}"]
    told["environment"] |= ELSEWHERE if cell == TURNS and night % 2 else {}
    (ruling,) = told["rulings"]
    if cell == 0 and night >= STEP:
        ruling |= {"said": "REGRESSION", "fails": True, "words": "slower by 6 %", "p": None}
    elif cell == 1:
        ruling["cost"] |= {"estimate": -0.0, "low": None}
    elif cell == TURNS and night == NIGHTS[-1]:
        ruling |= {"said": "INCONCLUSIVE"}
    return record


def night_in(folder: Path, night: int) -> Path:
    """A run of two workers, each of which has cells."""
    run, at = f"night-{night:02d}", stored.START + night * stored.DAY
    folder.mkdir()
    every = [measured(folder, cell, night, run, at) for cell in range(len(CELLS)) if cell != LATER or night > 5]
    for process in (0, 1):
        with RecordLog(folder, run, f"gw{process}") as log:
            log.extend(every[process::2])
    return folder


def canaries() -> list[batch.Batch]:
    """Of every night, in a session of its own that began when the night did."""
    draw = np.random.default_rng(5)
    found = []
    for night in NIGHTS:
        series = batch.Series("canary", f"canary_compute_gpu-fp32-opt-tensorrt on {DEVICE}", "gpu, graph", "s")
        session = batch.Session(f"Canary of {night}", stored.START + night * stored.DAY, "abc")
        value = 2e-3 * float(np.exp(0.001 * draw.standard_normal()))
        made = batch.Measurement(series, session, value, 0.001, 3, stored.facts(), ("plan",))
        found.append(batch.Batch(measurements=[made]))
    return found


def said_by_hand() -> batch.Batch:
    """Of the last night, beside what its run says."""
    series = batch.Series(stored.series(0).cell_key, f"{CELLS[0]} on {DEVICE}", stored.METRICS[0], "s")
    session = batch.Session(f"night-{NIGHTS[-1]:02d}", stored.START + NIGHTS[-1] * stored.DAY, "abc")
    numbers = dict.fromkeys(("estimate", "low", "high", "visible", "p"))
    rows = [{"question": q, "outcome": "PASS", "fails": False, "words": q, **numbers} for q in ("a", "rebuilt")]
    return batch.Batch(comparisons=[(session, series, row) for row in rows])


def trt(*arguments: str | Path) -> str:
    """What a command prints."""
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(io.StringIO()):
        patch.setattr(logging.getLogger("harness"), "handlers", [])
        patch.setattr("sys.argv", ["trt-harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
    assert left.value.code == 0, (arguments, out.getvalue())
    return out.getvalue()


def document(*arguments: str | Path) -> str:
    """Likewise as JSON, without what the store is called."""
    found = json.loads(trt(*arguments, "--json"))
    return json.dumps({name: value for name, value in found.items() if name != "store"})


def ruled(found: Mapping[str, history.History]) -> str:
    """What a gate says of a night that is slower than all that `proposed` makes of the store."""
    held = Baselines(DEFAULTS)
    for one in found.values():
        made = proposed(one.key, one.cell, one.seen, held, every(), ())
        if isinstance(made, Proposal):
            held = held.with_accepted(made.baseline)
    gate = Gate(DEFAULTS, every())
    said: list[str] = []
    for key, baseline in held.active.items():
        (name, known), *_ = baseline.metrics.items()
        values = {name: known.level * np.linspace(1.02, 1.021, 8)}
        seen = Tonight(key, baseline.cell, "tonight", ("another plan",), stored.facts(), values)
        rival = Planned(refused="its plan is gone", b=1.02 * known.level)
        said += [f"{ruling} {ruling.finding!r}" for ruling in gate.rule(seen, baseline, None, rival)]
    return "\n".join(said)


def told(folder: Path, url: str) -> dict[str, bytes]:
    """All that is asked of the store at ``url``; ``folder`` is where its commands are typed."""
    found: dict[str, str] = {}
    at = ("--store", url)
    with store_in(HOME, url) as store:
        cells = {line.cell_key for line in history.lines(store)}
        alerts = alerts_of(store, cells, SINCE)
        found["alerts"] = "\n".join(map(repr, alerts))
        found["noted"] = str([note(store, alerts), note(store, alerts)])
        worth = Worth.by(store, (f"{cell} on {DEVICE}" for cell in CELLS[2:]))
        found["worth"] = str([sorted(CELLS, key=lambda cell: (worth.of(cell), cell)), sorted(worth.troubled)])
        found["series"] = str([history.lines(store, cell) for cell in ("bert", "BERT", "Ö")])
        found["gate"] = ruled(history.histories(store))
    found["history"] = trt("history", "*", *at)
    found["history, for a machine"] = document("history", "*", *at)
    found["propose"] = trt("baseline", "propose", "--output", "review", *at)
    found |= {file.name: file.read_text() for file in sorted((folder / "review").iterdir())}
    found["list"] = document("baseline", "list", *at)
    found["show"] = document("baseline", "show", "*", *at)
    found["runs"] = document("store", "runs", *at)
    texts = {name: text.encode() for name, text in found.items()}
    for name, since in (("export", ()), ("export since", ("--since", f"{SINCE + datetime.timedelta(20):%Y-%m-%d}"))):
        trt("store", "export", "whole.zip", *since, *at)
        texts[name] = (folder / "whole.zip").read_bytes()
    return texts


def test_people_are_told_the_same(
    postgres_server: postgres.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though one of both was written in another order."""
    monkeypatch.setattr(baseline_commands, "_now", lambda: SINCE + datetime.timedelta(60))
    monkeypatch.setenv("TRT_HARNESS_ACTOR", "ada")
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "runs").mkdir()
    runs = [night_in(tmp_path / "runs" / str(night), night) for night in NIGHTS]
    found = []
    for kind, url, order in (
        ("sqlite", str(tmp_path / "sqlite" / "store.sqlite"), 1),
        ("postgresql", postgres_server.new(), -1),
    ):
        folder = tmp_path / kind
        folder.mkdir()
        monkeypatch.chdir(folder)
        with store_in(HOME, url) as store:
            for one in [*runs, *canaries(), said_by_hand()][::order]:
                if isinstance(one, Path):
                    ingest(store, one, "abc")
                else:
                    batch.write(store, one)
        if order < 0:
            trt("baseline", "propose", f"{CELLS[LATER]}*", "--store", url)
        found.append(told(folder, url))
    one, other = found
    assert one.keys() == other.keys()
    for name, text in one.items():
        assert other[name] == text, name
    # What is compared is there.
    assert CELLS[0].encode() in one["alerts"]
    assert one["noted"].startswith(b"[1, 0]")
    assert one["worth"].startswith(f"[[{CELLS[0]!r}, {CELLS[TURNS]!r}, ".encode())
    assert one["gate"].count(b"Finding(") == len(CELLS), "of all but the cell of two machines, and of the canary"
    assert one["history"].count(b"\n\n") == len(CELLS) + 1, "one for each machine, and one of the canary"
    assert one["evidence.md"].count(b"###") == len(CELLS)
    assert b"+++ b/trt-baselines.toml" in one["trt-baselines.toml.diff"]
    assert len(one["export"]) > len(one["export since"]) > 10_000
