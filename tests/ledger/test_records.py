"""Records: nothing that was written is lost, and nothing that can't be read is passed over in silence."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from harness.ledger.records import SCHEMA, VERDICTS, Record, RecordError, RecordLog, new_run_id, read_run
from harness.spec.cell import Cell

CELL = Cell("test_matches_oracle", "bert", "fp16", "", "opt", "tensorrt_rtx")
FULL = Record(
    CELL,
    "failed",
    node="suites/numerics/test_oracle.py::test_matches_oracle[bert-fp16-opt-rtx]",
    stage="compare",
    message="y: max abs error 0.3 above 0.01\nsecond line, with ünïcode",
    fix="an NVIDIA RTX GPU",
    cause="LayerNorm overflows",
    key="k" * 64,
    plan_key="p" * 64,
    environment={"backend": "tensorrt_rtx", "version": "1.7.1", "gpu": "", "libraries": {"cudnn": "9.1"}},
    seconds={"build": 0.5, "run": 0.25},
    comparison={"output": "y", "max_abs": 0.3, "worst": [0, 1]},
    facts={"device_memory": 1024},
    started=1769869501.25,
    duration=0.75,
)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    small = Record(Cell("test_x", "mlp"), "passed", started=FULL.started + 1)
    with RecordLog(tmp_path, "run-1", "gw0") as log:
        written = [log.append(FULL), log.append(small)]
    assert [(record.run, record.worker) for record in written] == [("run-1", "gw0")] * 2
    run = read_run(tmp_path)
    assert run.records == tuple(written)
    assert run.problems == ()


def test_the_line_is_json_with_schema_and_id() -> None:
    fields = json.loads(FULL.to_json())
    assert fields["schema"] == SCHEMA
    assert fields["id"] == "test_matches_oracle[bert-fp16-opt-rtx]"
    assert fields["cell"] == {
        "test": "test_matches_oracle",
        "model": "bert",
        "precision": "fp16",
        "variant": "",
        "point": "opt",
        "backend": "tensorrt_rtx",
    }
    assert fields["seconds"] == {"build": 0.5, "run": 0.25}


def test_numbers_that_json_cannot_spell_and_those_of_numpy() -> None:
    comparison = {
        "errors": [float("nan"), float("inf"), float("-inf")],
        "max": np.float32(0.5),
        "nan": np.float32("nan"),
        "count": np.int64(3),
    }
    line = Record(CELL, "failed", comparison=comparison).to_json()

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    assert json.loads(line, parse_constant=refuse)["comparison"] == {
        "errors": ["NaN", "Infinity", "-Infinity"],
        "max": 0.5,
        "nan": "NaN",
        "count": 3,
    }


def test_what_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(TypeError, match="a record can't hold object"):
        Record(CELL, "failed", facts={"x": object()}).to_json()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda fields: fields.update(schema=SCHEMA + 1), f"written in another schema than {SCHEMA}"),
        (lambda fields: fields.pop("schema"), "names no schema"),
        (lambda fields: fields.pop("cell"), "not a record of schema 1: 'cell'"),
        (lambda fields: fields["cell"].update(color="red"), "not a record of schema 1: .*color"),
        (lambda fields: fields.pop("verdict"), "not a record of schema 1: .*verdict"),
        (lambda fields: fields.update(extra=1), "not a record of schema 1: .*extra"),
        (lambda fields: fields.update(verdict="fine"), "unknown verdict 'fine'"),
    ],
)
def test_what_is_no_record_is_refused(change, problem: str) -> None:
    fields = json.loads(FULL.to_json())
    change(fields)
    with pytest.raises(RecordError, match=problem):
        Record.from_json(json.dumps(fields))


def test_every_verdict_can_be_recorded() -> None:
    for verdict in VERDICTS:
        assert Record.from_json(Record(CELL, verdict).to_json()).verdict == verdict


def test_a_torn_line_is_reported_and_hides_no_other(tmp_path: Path) -> None:
    with RecordLog(tmp_path, "run", "gw0") as log:
        first = log.append(FULL)
    file = tmp_path / "gw0.jsonl"
    torn = file.read_bytes()[:50]
    file.write_bytes(file.read_bytes() + torn)
    run = read_run(tmp_path)
    assert run.records == (first,)
    assert run.problems == (f"{file}:2: cut short after 50 bytes: its writer was killed",)

    with RecordLog(tmp_path, "run", "gw0") as log:  # a worker that takes the place of the killed one
        second = log.append(FULL)
    run = read_run(tmp_path)
    assert run.records == (first, second)
    assert len(run.problems) == 1
    assert run.problems[0].startswith(f"{file}:2: not JSON")


def test_a_run_is_the_files_of_all_its_processes_in_order_of_time(tmp_path: Path) -> None:
    for process, starts in (("gw1", (3.0, 1.0)), ("main", (2.0,))):
        with RecordLog(tmp_path, "run", process) as log:
            for start in starts:
                log.append(Record(CELL, "passed", started=start))
    (tmp_path / "notes.txt").write_text("no record")
    assert [(r.started, r.worker) for r in read_run(tmp_path).records] == [(1.0, "gw1"), (2.0, "main"), (3.0, "gw1")]


def test_a_full_disk_is_an_error_and_spoils_only_its_own_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    write = os.write
    with RecordLog(tmp_path, "run", "gw0") as log:
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:40]))
        with pytest.raises(OSError, match="only part of a record could be written"):
            log.append(FULL)
        monkeypatch.setattr(os, "write", write)
        kept = log.append(FULL)
    run = read_run(tmp_path)
    assert run.records == (kept,)
    assert len(run.problems) == 1


def test_run_ids_sort_by_time_and_differ() -> None:
    first, second = new_run_id(), new_run_id()
    assert first != second
    assert time.strptime(first[:15], "%Y%m%d-%H%M%S")


# Appends records without end, and after each tells its number.
WRITER = """
import sys
from pathlib import Path
from harness.ledger.records import Record, RecordLog
from harness.spec.cell import Cell
log = RecordLog(Path(sys.argv[1]), "run", "gw0")
number = 0
while True:
    log.append(Record(Cell("test", "mlp"), "passed", message="x" * 5000, started=float(number)))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    number += 1
"""


def test_a_writer_killed_at_any_moment_loses_nothing_that_it_had_written(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        for line in writer.stdout:
            if int(line) == 500:
                break
        writer.kill()  # SIGKILL, at whatever it is
        told = [500, *(int(line) for line in writer.stdout if line.endswith("\n"))]
    records = read_run(tmp_path).records
    assert [record.started for record in records] == [float(number) for number in range(len(records))]
    assert len(records) > max(told)
    assert all(record.message == "x" * 5000 for record in records)
