"""A run of a given name goes on where it was killed; one with a budget begins nothing when its time is up."""

from __future__ import annotations

import shutil
import time
from collections import Counter

import pytest

from harness.errors import SpecError
from harness.ledger import batch
from harness.ledger.records import Record, read_run
from harness.ledger.store import Store
from harness.spec.duration import parse_duration
from tests.pytest_plugin.parts import RUNS

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.runs
FEW = ("--trt-in-process", "--trt-model=mlp", "--trt-precision=fp32", "--trt-backend=fake")
NIGHT = ("-p", "no:xdist", "--trt-run=night", *FEW)
DIES = """
import os, pytest

@pytest.mark.trt
def test_runs(trt_session, trt_inputs, trt_cell):
    if trt_cell.point == "max" and not os.path.exists("alive"):
        os._exit(9)
    assert trt_session.run(trt_inputs)
"""
PERF = """
import pytest

@pytest.mark.trt(models=["mlp", "depthwise"], over=("model", "backend"))
def test_runs(trt_perf):
    trt_perf(lambda quantity: quantity.name == "gpu, graph")
"""


def records(project: pytest.Pytester, run: str) -> list[Record]:
    found = read_run(project.path / ".trt-harness" / "runs" / run)
    assert not found.problems
    return list(found.records)


def begun(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    return project.runpytest_inprocess(*NIGHT, *options)


def test_what_has_a_record_is_not_run_again(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=DIES)
    assert project.runpytest_subprocess(*NIGHT).ret == 9
    first = records(project, "night")
    assert len(first) > 0
    log = project.path / ".trt-harness" / "runs" / "night" / "main.jsonl"
    with log.open("ab") as torn:
        torn.write(b'{"schema": 1, "run"')  # as a writer leaves it that is killed in the middle
    (project.path / "alive").touch()
    done = begun(project)
    assert done.ret == 0
    assert f"{len(first)} recorded before" in done.stdout.str()
    found = Counter(record.node for record in records(project, "night"))
    assert set(found.values()) == {1}
    assert {record.cell.point for record in records(project, "night")} == {"min", "opt", "max"}
    assert {record.run for record in records(project, "night")} == {"night"}


def test_a_finished_run_has_nothing_left(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=RUNS)
    begun(project)
    before = records(project, "night")
    assert begun(project).ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert records(project, "night") == before


def test_under_workers_all_leave_out_the_same(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=RUNS)
    project.runpytest_inprocess("-n", "1", "--trt-run=night", "-k", "not max", *FEW)
    first = len(records(project, "night"))
    assert project.runpytest_inprocess("-n", "2", "--trt-run=night", *FEW).ret == 0
    found = Counter(record.node for record in records(project, "night"))
    assert set(found.values()) == {1}
    assert len(found) > first > 0


def test_when_the_time_is_up_a_cell_is_not_covered_and_says_why(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=RUNS)
    assert begun(project, "--trt-budget=0").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    found = records(project, "night")
    assert found
    assert {(record.verdict, record.message) for record in found} == {("not_covered", "budget: not run")}
    shutil.rmtree(project.path / ".trt-harness")
    assert begun(project, "--trt-budget=1h").ret == 0
    assert {record.verdict for record in records(project, "night")} == {"passed"}


@pytest.mark.usefixtures("played_time")
@pytest.mark.parametrize("last", ["mlp", "depthwise"])
def test_what_gave_trouble_last_is_measured_first(project: pytest.Pytester, last: str) -> None:
    """Whichever of the two that is; without a budget, it is the order of the models."""
    project.makepyfile(test_it=PERF)
    store = project.path / "store.sqlite"
    with Store(store) as opened:
        session = batch.Session("before", time.time())
        comparisons = [
            (session, batch.Series(model, f"{model}-fake on fake GPU", "gpu, graph", "s"), _said(outcome))
            for model, outcome in (("mlp", "PASS"), ("depthwise", "PASS"), (last, "INCONCLUSIVE"))
        ]
        batch.write(opened, batch.Batch(sessions=[session], comparisons=comparisons))
    few = ["--trt-perf-seconds=0.1", "--trt-perf-processes=1", "--trt-perf-builds=1", "--trt-perf-metrics=gpu*graph"]
    given = ["--trt-model=depthwise", "--trt-perf=screen", *few]
    assert begun(project, *given, f"--trt-store={store}", "--trt-budget=1h").ret == 0
    assert next(record.cell.model for record in records(project, "night")) == last


def _said(outcome: str) -> dict[str, object]:
    numbers = dict.fromkeys(("estimate", "low", "high", "visible", "p"))
    return {"question": "rebuilt", "outcome": outcome, "fails": False, "words": "w", **numbers}


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("3600", 3600), ("1h30m", 5400), ("0", 0), ("1.5m", 90)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2d", "-1", "1h30", "two hours"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(SpecError, match="length of time"):
        parse_duration(text)


def test_a_name_of_a_run_stays_in_its_folder(project: pytest.Pytester) -> None:
    project.makepyfile(test_it=RUNS)
    result = project.runpytest_inprocess("-p", "no:xdist", "--trt-run=../elsewhere", *FEW)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "names no run" in result.stderr.str()
