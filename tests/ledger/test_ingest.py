"""From the logs of a run into a store: all of it, again and again, whatever is wrong with some of its lines."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.ledger import history, nights
from harness.ledger.ingest import ingest
from harness.ledger.records import RecordLog, read_run
from harness.ledger.store import Store
from tests.ledger import stored

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, "sqlalchemy.dialects.postgresql", "psycopg", "pyarrow.parquet"])


def test_every_record_lands_in_the_store(store: Store, tmp_path: Path) -> None:
    run = stored.run_folder(tmp_path / "run", cells=3, plain=4)
    told = ingest(store, run, commit="abc")
    found = history.counts(store)
    assert (told.records, told.problems) == (7, ())
    assert told.new == 7 + 3 + 3 + 12
    assert {name: found[name] for name in ("record", "measurement", "comparison", "telemetry", "artifact")} == {
        "record": 7,
        "measurement": 3,
        "comparison": 3,
        "telemetry": 12,
        "artifact": 3,
    }
    assert history.sessions(store) == [("run-0000", stored.START, "abc")]
    (said,) = (one for one in history.verdicts(store, "run-0000") if one.cell == "bert-1")
    assert (said.question, said.outcome, said.fails, said.estimate) == ("plan", "PASS", False, 0.001)
    (body,) = {row[-1] for row in stored.rows(store)["record"] if "model5" in row}
    assert json.loads(body) == json.loads(next(r for r in read_run(run).records if r.cell.model == "model5").to_json())


def test_a_record_without_a_time_does_not_date_the_session(store: Store, tmp_path: Path) -> None:
    run = stored.run_folder(tmp_path / "run", cells=0, plain=2)
    with RecordLog(run, "run-0000", "main") as log:
        log.append(dataclasses.replace(stored.record(9), started=0.0))
    ingest(store, run)
    assert [at for _, at, _ in history.sessions(store)] == [stored.START]
    assert [one.started for one in history.records(store, "run-0000")] == [0.0, stored.START, stored.START + 1]


def test_again_adds_nothing(store: Store, tmp_path: Path) -> None:
    run = stored.run_folder(tmp_path / "run")
    ingest(store, run)
    before = stored.rows(store, numbers=True)
    assert ingest(store, run).new == 0
    assert stored.rows(store, numbers=True) == before


def test_a_run_that_went_on_adds_the_rest(store: Store, tmp_path: Path) -> None:
    run = stored.run_folder(tmp_path / "run", cells=0, plain=3)
    ingest(store, run)
    stored.run_folder(tmp_path / "more", cells=0, plain=5)
    for file in (tmp_path / "more").glob("*.jsonl"):
        shutil.copy(file, run / file.name)
    assert ingest(store, run).new == 2


def test_raw_samples_are_kept(store: Store, tmp_path: Path) -> None:
    ingest(store, stored.run_folder(tmp_path / "run", cells=2))
    assert store.samples is not None
    files = list(store.samples.files())
    assert len(files) == 2
    assert {len(store.samples.get(file.stem)) for file in files} == {4}


def test_a_run_that_was_moved_keeps_its_samples(store: Store, tmp_path: Path) -> None:
    run = stored.run_folder(tmp_path / "run", cells=2)
    moved = run.rename(tmp_path / "moved")
    assert ingest(store, moved).problems == ()
    assert history.counts(store)["artifact"] == 2


def test_a_journal_that_is_gone_is_said(store: Store, tmp_path: Path) -> None:
    run = stored.run_folder(tmp_path / "run", cells=2)
    shutil.rmtree(run / "perf" / "1")
    told = ingest(store, run)
    assert len(told.problems) == 1
    assert "journal.jsonl: not there: no raw samples are kept of it" in told.problems[0]
    found = history.counts(store)
    assert (found["measurement"], found["artifact"]) == (2, 1)


def test_lines_that_cannot_be_read_are_named_and_hide_no_other(store: Store, tmp_path: Path) -> None:
    run = stored.run_folder(tmp_path / "run", cells=2, plain=2)
    log = run / "gw0.jsonl"
    log.write_bytes(b"nonsense\n" + log.read_bytes() + b'{"schema": 1, "ru')
    journal = next(run.rglob("journal.jsonl"))
    journal.write_bytes(journal.read_bytes() + b'{"kind": "proc')
    told = ingest(store, run)
    assert [problem.partition(": ")[0] for problem in told.problems] == [f"{log}:1", f"{log}:4", f"{journal}:6"]
    assert (told.records, history.counts(store)["record"], history.counts(store)["telemetry"]) == (4, 4, 8)


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_what_is_no_number_is_no_measurement(store: Store, tmp_path: Path, value: str) -> None:
    run = stored.run_folder(tmp_path / "run", cells=2, plain=0)
    log = run / "gw1.jsonl"
    content = json.loads(log.read_text())
    content["facts"]["perf"]["values"]["gpu, graph"]["processes"][0] = value
    log.write_text(json.dumps(content) + "\n")
    told = ingest(store, run)
    assert len(told.problems) == 1
    assert "bert-1: gpu, graph" in told.problems[0]
    assert (history.counts(store)["measurement"], history.counts(store)["record"]) == (1, 2)


def test_measurements_that_are_not_understood_hide_no_other(store: Store, tmp_path: Path) -> None:
    """As a version to come may write them; the record itself is stored as it is."""
    run = stored.run_folder(tmp_path / "run", cells=2, plain=1)
    log = run / "gw1.jsonl"
    content = json.loads(log.read_text())
    del content["facts"]["perf"]["plans"]
    log.write_text(json.dumps(content) + "\n")
    told = ingest(store, run)
    assert told.problems == (f"{run}: suites/x.py::t[1]: its measurements are not understood: KeyError('plans')",)
    found = history.counts(store)
    assert (found["record"], found["measurement"], found["telemetry"], found["artifact"]) == (3, 1, 4, 1)


def test_history_of_a_store_is_that_of_its_records(store: Store, tmp_path: Path) -> None:
    runs = [stored.run_folder(tmp_path / str(n), f"run-{n}", stored.START + n * stored.DAY) for n in range(5)]
    for run in reversed(runs):
        ingest(store, run)
    records = [record for run in runs for record in read_run(run).records]
    assert history.histories(store) == nights.histories(records)


def _ingest(url: str, samples: Path, runs: list[Path], barrier: Any, told: Any) -> None:
    barrier.wait()
    try:
        with Store(url, samples=samples) as store:
            told.put(sum(ingest(store, run).new for run in runs))
    except BaseException as error:  # or the test would wait for it
        told.put(repr(error))
        raise


def test_four_processes_ingest_the_same_and_others_at_once(store_url: str, tmp_path: Path) -> None:
    runs = [stored.run_folder(tmp_path / str(n), f"run-{n}", stored.START + n * stored.DAY) for n in range(5)]
    barrier, told = PROCESSES.Barrier(4), PROCESSES.Queue()
    started = [
        PROCESSES.Process(
            target=_ingest, args=(store_url, tmp_path / "samples", [runs[0], runs[number + 1]], barrier, told)
        )
        for number in range(4)
    ]
    for process in started:
        process.start()
    new = [told.get(timeout=300) for _ in started]
    for process in started:
        process.join()
    with Store(store_url, samples=tmp_path / "samples") as store:
        found, before = history.counts(store), stored.rows(store)
        assert (found["record"], found["measurement"], found["artifact"]) == (30, 15, 15)
        assert sum(new) == 30 + 15 + 15 + 60, "each is reported as new by one of them"
        assert sum(ingest(store, run).new for run in runs) == 0
        assert stored.rows(store) == before
