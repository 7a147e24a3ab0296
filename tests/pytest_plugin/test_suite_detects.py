"""Every test of the suite catches the misbehaviour it is there for, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.ledger.records import Record
from tests.pytest_plugin.parts import SUITE

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.runs
Records = Callable[[], list[Record]]

FIXED = """
import dataclasses
from harness.spec import Profile
from harness.spec.catalog import load

def pytest_trt_models(config):
    return [dataclasses.replace(load()["mlp"], name="fixed", profiles=(Profile.of({"batch": 4}),))]
"""

CAUGHT = [
    ("parse_error", "mlp", "test_builds", "parse"),
    ("builder_none", "mlp", "test_builds", "build"),
    ("deserialize_none", "mlp", "test_binds_what_the_model_declares", "deserialize"),
    ("missing_output", "mlp", "test_matches_oracle", "compare"),
    ("extra_output", "mlp", "test_matches_oracle", "compare"),
    ("reshaped_output", "mlp", "test_matches_oracle", "compare"),
    ("other_type", "mlp", "test_matches_oracle", "compare"),
    ("unwritten", "mlp", "test_matches_oracle", "compare"),
    ("nan", "mlp", "test_matches_oracle", "compare"),
    ("imprecise", "mlp", "test_matches_oracle", "compare"),
    ("imprecise", "mlp", "test_special_values", "compare"),
    ("imprecise", "onnx_Linear_no_bias", "test_matches_golden_outputs", "compare"),
    ("enqueue_false", "mlp", "test_matches_oracle", "run"),
    ("stale", "mlp", "test_follows_new_inputs", "compare"),
    ("wrong_rows", "mlp", "test_duplicate_rows_are_equal", "compare"),
    ("wrong_rows", "mlp", "test_a_batch_is_its_parts", "compare"),
    ("rows_leak", "mlp", "test_permuted_rows_permute", "compare"),
    ("wide_profile", "fixed", "test_a_wider_profile_changes_nothing", "compare"),
    ("other_rebuild", "mlp", "test_a_rebuild_stays_inside_tolerance", "compare"),
    ("second_session", "mlp", "test_sessions_do_not_disturb_each_other", "compare"),
    ("uncapturable", "mlp", "test_graph_replay_is_plain_enqueue", "run"),
    ("stale_graph", "mlp", "test_graph_replay_is_plain_enqueue", "compare"),
]


def run(project: pytest.Pytester, backend: str, model: str, *arguments: str) -> pytest.RunResult:
    # As a plugin: the suite lies elsewhere, where this project's conftest.py does not hold.
    project.makepyfile(fixed_models=FIXED)
    project.syspathinsert()
    place = ("-p", "fixed_models", f"--rootdir={project.path}", "-c", "tox.ini")
    # None of these faults takes its process along, so that no host has to be started for each of them.
    asked = ("--trt-in-process", f"--trt-backend={backend}", f"--trt-model={model}", "--trt-precision=fp32")
    return project.runpytest_inprocess(SUITE, *place, *asked, *arguments)


@pytest.mark.parametrize(("fault", "model", "test", "stage"), CAUGHT)
def test_a_fault_is_caught(project: pytest.Pytester, records: Records, fault: str, model: str, test: str, stage: str):
    run(project, f"fake:{fault}", model, "-k", test)
    found = records()
    assert {record.cell.test for record in found} == {test}
    failed = [record for record in found if record.verdict == "failed"]
    assert failed
    assert {record.stage for record in failed} == {stage}
    assert all(record.message for record in failed)


def test_a_branch_explains_that_no_graph_can_be_captured(project: pytest.Pytester, records: Records):
    run(project, "fake:uncapturable", "if_flag", "-k", "test_graph_replay_is_plain_enqueue")
    (record,) = records()
    assert (record.verdict, record.message.partition(": this")[0]) == ("not_covered", "cuda_graph: not with If")


def test_an_honest_backend_passes_everything(project: pytest.Pytester, records: Records):
    result = run(project, "fake", "mlp,fixed,onnx_Linear_no_bias")
    assert result.ret == 0
    tests = {record.cell.test for record in records() if record.verdict == "passed"}
    assert tests == {test for _, _, test, _ in CAUGHT}


def test_every_test_of_the_suite_is_shown_to_catch_something(project: pytest.Pytester):
    listed = run(project, "fake", "mlp,fixed,onnx_Linear_no_bias", "--collect-only", "-q").outlines
    tests = {line.rpartition("::")[2].partition("[")[0] for line in listed if "::" in line}
    assert tests == {test for _, _, test, _ in CAUGHT}


def test_an_engine_that_binds_other_tensors_is_caught(project: pytest.Pytester):
    project.makepyfile(
        """
        import pytest
        from harness.spec import Interface, TensorSpec
        from suites.numerics.test_engine import test_binds_what_the_model_declares

        @pytest.fixture
        def trt_interface():
            return Interface((TensorSpec("x", "float32", ("batch", 64)),), (TensorSpec("z", "float32", (1,)),))
        """
    )
    result = project.runpytest_inprocess("--trt-backend=fake", "--trt-model=mlp", "--trt-precision=fp32")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert sorted(bound) == sorted(declared)*"])


def test_a_comparison_failure_says_everything(project: pytest.Pytester, records: Records):
    result = run(project, "fake:wrong_rows", "mlp", "-k", "test_matches_oracle and max")
    result.stdout.fnmatch_lines(
        [
            "mlp at fp32 at max on fake:wrong_rows: values differ*",
            "  output *",
            "    got *",
            "    expected *onnxruntime*optimizations off*",
            "    tolerance *",
            "    worst *got *, expected *",
            "  repeat *python -m pytest *test_matches_oracle[[]mlp-fp32-max-fake:wrong_rows[]]*",
        ]
    )
    result.stdout.no_fnmatch_line("*def test_matches_oracle*")
    (record,) = records()
    assert record.comparison is not None
    assert record.comparison["worst"]["failure"] == "values differ"
