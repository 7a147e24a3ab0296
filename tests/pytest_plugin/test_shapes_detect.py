"""Every test of suites/shapes catches the misbehaviour it is there for, and none where there is none."""

from __future__ import annotations

import itertools
import tomllib
from collections import Counter
from collections.abc import Callable

import pytest

from harness.ledger.records import Record
from tests.pytest_plugin.parts import ROOT

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.runs
Records = Callable[[], list[Record]]

SHAPES = ROOT / "suites" / "shapes"

CAUGHT = [  # fault, model, test, and words of the detector
    ("wrong_above=batch:5", "mlp", "test_inside", "at profile 0 batch=6 seed=0 on fake"),
    ("wrong_odd=batch", "mlp", "test_inside", "at profile 0 batch=1 seed=0 on fake"),
    ("wrong_profile=1", "llama", "test_inside", "at profile 1 batch=1 seq=1 seed=0 on fake"),
    ("swap_rows_above=4", "mlp", "test_inside", "at profile 0 batch=5 seed="),
    ("mask_ignored=mask", "embedding", "test_inside", "seed="),
    ("wrong_both_max=bag+batch", "embedding", "test_corner", "at profile 0 bag=8 batch=8 seed=0 on fake"),
    ("wrong_above=bag:5", "embedding", "test_corner", "at profile 0 bag=6 batch=1 seed=0 on fake"),
    ("stale", "mlp", "test_sequence_of_shapes", "a new session"),
    ("wrong_profile=1", "llama", "test_inside", "profile 1"),
    ("keeps_shape", "llama", "test_switched_profile", "was not told a shape since the switch, and it ran: logits ["),
    ("lenient", "mlp", "test_outside", "batch=9, one above its largest: it ran"),
    ("lenient", "expand_values", "test_outside", "copies[0]=9, one above its largest: it ran"),
    ("lenient", "expand_values", "test_outside", "copies[0]=0, one below its least: it ran"),
    ("touches", "mlp", "test_outside", "refused, and yet written to: logits"),
    ("upset", "mlp", "test_outside", "the next valid run is not as before"),
    ("keeps_shape", "mlp", "test_unset", "x without its shape: it ran"),
    ("wrong_inference", "mlp", "test_inferred_shapes", "logits: told [2, 10], came [1, 10]"),
    ("wrong_report", "mlp", "test_reported_profiles", "assert"),
    ("leak", "mlp", "test_stateful", "after these steps"),
    ("imprecise", "nonzero", "test_sizes_from_none_to_all", "values differ"),
    ("greedy", "nonzero", "test_sizes_from_none_to_all", "needs 512 bytes, its memory is limited to 256"),
    ("touches", "nonzero", "test_too_small_a_buffer", "where with a byte too few: refused, and yet written to: where"),
]

# Each relation by itself: the comparison with the oracle, which would find most of these first, is left out.
RELATED = """
import pytest
from suites.shapes.inside import inside as inside
from suites.shapes.test_inside import test_inside as test_inside

@pytest.fixture
def trt_compare():
    return lambda *arguments, **keywords: None
"""
BY_RELATION = [
    ("wrong_rows", "mlp", "row 0 of the same run, along batch"),
    ("rows_leak", "mlp", "the run with rows of batch in their first order"),
    ("wrong_above=batch:5", "mlp", "the batch run in 2 parts along batch"),
    ("mask_ignored=mask", "embedding", "the run without padding along bag"),
    ("other_rebuild", "mlp", "the engine of the narrower profile"),
    ("other_context", "mlp", "the other shape before this one, in another session"),
    ("second_session", "mlp", "this shape before the other one"),
    ("stale_graph", "mlp", "plain enqueue"),
    ("stale_graph_shape", "mlp", "plain enqueue"),
]


def run(project: pytest.Pytester, suite: object, fault: str, model: str, *arguments: str) -> pytest.RunResult:
    # None of these faults takes its process along, so that no host has to be started for each of them.
    asked = ("--trt-in-process", f"--trt-backend=fake{':' * bool(fault)}{fault}", f"--trt-model={model}")
    place = (f"--rootdir={project.path}", "-c", "tox.ini")  # this project's conftest.py does not hold there
    return project.runpytest_inprocess(suite, *place, *asked, "--trt-precision=fp32", "--trt-effort=ci", *arguments)


@pytest.mark.parametrize(("fault", "model", "test", "words"), CAUGHT)
def test_a_fault_is_caught(
    project: pytest.Pytester, records: Records, fault: str, model: str, test: str, words: str
) -> None:
    (file,) = (file for file in SHAPES.glob("test_*.py") if f"def {test}(" in file.read_text())
    result = run(project, f"{file}::{test}", fault, model)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    failed = [record for record in records() if record.verdict == "failed"]
    assert {record.cell.test for record in failed} == {test}
    assert words in result.stdout.str()


@pytest.mark.parametrize(("fault", "model", "words"), BY_RELATION)
def test_a_relation_finds_it_alone(project: pytest.Pytester, records: Records, fault: str, model: str, words: str):
    project.makepyfile(RELATED)
    run(project, project.path, fault, model)
    (record,) = records()
    assert record.verdict == "failed"
    assert words in record.message


def test_an_honest_backend_passes_everything(project: pytest.Pytester, records: Records):
    models = "mlp,embedding,llama,nonzero,expand_values"
    result = run(project, SHAPES, "", models)
    assert result.ret == 0
    found = records()
    assert {record.verdict for record in found} == {"passed"}
    assert {record.cell.test for record in found} == {test for *_, test, _ in CAUGHT} | {"test_malformed"}
    first = Counter(entry["model"] for entry in tomllib.loads((SHAPES / "examples.toml").read_text())["example"])
    inside = [record for record in found if record.cell.test == "test_inside"]
    assert all(record.facts["examples"] == 25 + first[record.cell.model] for record in inside)


def test_a_walk_goes_without_refits_where_the_builder_refuses_them(project: pytest.Pytester, records: Records):
    assert run(project, SHAPES / "test_stateful.py", "fixed_weights", "mlp").ret == 0
    (record,) = records()
    words = "no plan is built with BuilderFlag.REFIT: mlp: the builder returned None instead of a plan"
    assert record.facts["left_out"] == {"refit": words, "switch": "the model has one profile"}
    assert "refit" not in record.facts["steps"]
    assert {"open", "run", "run by graph", "reload", "move"} < record.facts["steps"].keys()


def test_a_walk_ends_where_nothing_is_built(project: pytest.Pytester, records: Records):
    assert run(project, SHAPES / "test_stateful.py", "builder_none", "mlp").ret == 1
    assert [record.stage for record in records()] == ["build"]


def test_what_an_engine_takes_for_data_is_not_bound_by_its_profiles(project: pytest.Pytester, records: Records):
    files = SHAPES / "test_outside.py", str(SHAPES / "test_reported.py")
    assert run(project, files[0], "data_alone", "loop_count", files[1]).ret == 0
    found = {record.cell.test: record.facts for record in records()}
    assert {"test_outside", "test_reported_profiles"} < found.keys()
    assert found["test_outside"]["left_out"] == "contents of steps: no shape tensor of this engine"
    assert found["test_outside"]["refusals"] == 2, "of the batch alone"


def test_no_id_is_the_beginning_of_another(project: pytest.Pytester):
    listed = run(project, SHAPES, "", "*", "--trt-backend=tensorrt,tensorrt_rtx,fake", "--collect-only", "-q").outlines
    ids = sorted(line for line in listed if "::" in line)
    assert len(ids) > 1000
    assert not [(one, other) for one, other in itertools.pairwise(ids) if other.startswith(one)]
