"""What `trt_latency` sampled, as series."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from harness.ledger import history
from harness.ledger.baselines import Baselines
from harness.ledger.ingest import ingest
from harness.ledger.policy import DEFAULTS
from harness.ledger.proposals import proposed
from harness.ledger.records import Record, RecordLog
from harness.ledger.store import Store
from harness.measure.quantity import every
from tests.ledger import stored

CELL = "test_matches_oracle[model0-fp16-opt-tensorrt] on NVIDIA H200"
ENVIRONMENT = {"backend": "tensorrt", "version": "10.9.0", "gpu": "NVIDIA H200", "gpu_uuid": "ab"}


def record(run: str, at: float, medians: Any, **cell: str) -> Record:
    facts = {"medians": medians, "metric": "gpu", "machine": {"host": "h1", "driver": "580"}}
    made = dataclasses.replace(stored.record(0, run, at, facts=facts), environment=ENVIRONMENT, key="e")
    return dataclasses.replace(made, cell=dataclasses.replace(made.cell, **cell))


def run(folder: Path, *records: Record) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with RecordLog(folder, records[0].run, "main") as log:
        log.extend(records)
    return folder


def test_each_metric_is_a_series(store: Store, tmp_path: Path) -> None:
    runs = [
        run(tmp_path / str(n), record(f"run-{n}", stored.START + n * stored.DAY, {"gpu": 0.001 * (n + 1)}))
        for n in range(2)
    ]
    assert [ingest(store, one).new for one in runs] == [2, 2]
    assert [ingest(store, one).new for one in runs] == [0, 0]
    (line,) = history.lines(store)
    assert (line.cell, line.metric, line.unit) == (CELL, "gpu", "s")
    first, second = history.points(store, line.key)
    assert (first.value, second.value, first.processes, first.spread) == (0.001, 0.002, 1, 0.0)
    assert first.environment == {
        **{name: ENVIRONMENT[name] for name in ("backend", "version", "gpu_uuid")},
        **{"host": "h1", "driver": "580", "library": "10.9.0", "how": "test_matches_oracle"},
    }


def test_another_test_is_another_series(store: Store, tmp_path: Path) -> None:
    """One may sample plainly, the other with a cold cache."""
    both = [record("run-0", stored.START, {"gpu": 0.001}, test=test) for test in ("test_plain", "test_cold")]
    ingest(store, run(tmp_path, *both))
    assert len({line.key for line in history.lines(store)}) == 2


def test_a_gpu_with_another_power_limit_is_another_series(store: Store, tmp_path: Path) -> None:
    for number, limit in enumerate(({}, {"power_limit": "700 W"})):
        made = record(f"run-{number}", stored.START, {"gpu": 0.001})
        made = dataclasses.replace(made, facts={**made.facts, "machine": limit})
        ingest(store, run(tmp_path / str(number), made))
    assert [line.cell for line in history.lines(store)] == [CELL, f"{CELL}, 700 W"]


def test_throughput_is_a_rate(store: Store, tmp_path: Path) -> None:
    ingest(store, run(tmp_path, record("run-0", stored.START, {"throughput": 0.004})))
    (line,) = history.lines(store)
    assert (line.unit, history.points(store, line.key)[0].value) == ("runs/s", 250.0)


def test_facts_of_a_test_that_are_called_alike_are_none_of_ours(store: Store, tmp_path: Path) -> None:
    others = ([1.0, 2.0], {"gpu": "fast", "enqueue": None, "d2h": 0.0}, "NaN")
    told = ingest(store, run(tmp_path, *(record("run-0", stored.START + n, one) for n, one in enumerate(others))))
    assert (told.problems, history.lines(store)) == ((), [])


def test_no_baseline_is_proposed_of_it(store: Store, tmp_path: Path) -> None:
    for n in range(3):
        ingest(store, run(tmp_path / str(n), record(f"run-{n}", stored.START + n, {"gpu": 0.001})))
    (cell,) = history.histories(store).values()
    told = proposed(cell.key, cell.cell, cell.seen, Baselines(DEFAULTS), every())
    assert told == "it is measured as no gate measures it: test_matches_oracle"
