"""What is left of a cell whose process died: its record, from the note and from the client's breadcrumb."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.ledger.records import Record
from harness.pytest_plugin.crash import Notes, breadcrumb, record_of
from harness.runtime.client import HostClient
from harness.spec.cell import Cell

pytest_plugins = ("pytester",)
Records = Callable[[], list[Record]]
NODE = "test_x.py::test_it[mlp-fp32-opt-fake]"
CELL = Cell("test_it", "mlp", "fp32", "", "opt", "fake")


def note(folder: Path) -> None:
    notes = Notes(folder, "gw0")
    notes.write(NODE, CELL)
    notes.close()


def crumb(folder: Path) -> Path:
    """A real client's, of a request that has come to its end."""
    path = breadcrumb(folder, "gw0", "fake")
    client = HostClient("fake")
    client.breadcrumb, client.label = path, NODE
    try:
        client.request("invoke", {"target": "builtins:dict", "arguments": {}}, stage="run", timeout=60, summary="a run")
    finally:
        client.close()
    return path


def test_it_says_which_request_the_process_was_at(tmp_path: Path) -> None:
    note(tmp_path)
    path = crumb(tmp_path)
    between = record_of(tmp_path, "gw0", NODE)
    path.write_text(json.dumps({**json.loads(path.read_text()), "over": False}) + "\n")
    within = record_of(tmp_path, "gw0", NODE)
    assert between is not None
    assert within is not None
    assert between.message == "the process that ran it (gw0) died"
    assert within.message == "the process that ran it (gw0) died, at a run"
    assert (within.cell, within.node, within.verdict, within.stage) == (CELL, NODE, "error", "run")


def test_another_cells_note_is_not_taken_for_it(tmp_path: Path) -> None:
    assert record_of(tmp_path, "gw0", NODE) is None
    note(tmp_path)
    assert record_of(tmp_path, "gw0", "test_x.py::test_other") is None


def test_a_worker_with_an_engine_host_that_dies_fails_its_cell_alone(
    project: pytest.Pytester, records: Records
) -> None:
    project.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.trt
        def test_it(trt_session, trt_inputs, trt_model):
            trt_session.run(trt_inputs)
            if trt_model.id == "mlp":
                os._exit(3)
        """
    )
    result = project.runpytest_inprocess(
        "-n1", "--trt-model=mlp,conv", "--trt-backend=fake", "--trt-precision=fp32", "--trt-point=opt"
    )
    result.assert_outcomes(passed=1, failed=1)
    dead, alive = sorted(records(), key=lambda record: record.verdict)
    assert (dead.cell.model, dead.verdict, dead.stage) == ("mlp", "error", "run")
    assert dead.node.endswith("::test_it[mlp-fp32-opt-fake]")
    assert (alive.cell.model, alive.verdict) == ("conv", "passed")
