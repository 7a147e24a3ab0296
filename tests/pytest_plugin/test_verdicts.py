"""From what happens in a cell to its outcome, its record, the terminal, JUnit and the exit status."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.ledger.records import Record
from tests.pytest_plugin.parts import RUNS

pytest_plugins = ("pytester",)
FAKE = ("--trt-model=mlp", "--trt-precision=fp32", "--trt-point=opt")
Records = Callable[[], list[Record]]


def test_a_pass_leaves_a_record_with_keys_times_and_environment(project: pytest.Pytester, records: Records):
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess(*FAKE, "--trt-backend=fake")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["trt-harness: 1 cell, run *", "  fake *can build and run*", "1 cell: 1 passed*"])
    (record,) = records()
    assert (record.cell.id, record.verdict, record.stage) == ("test_runs[mlp-fp32-opt-fake]", "passed", "run")
    assert record.node == f"{next(project.path.glob('test_*.py')).name}::test_runs[mlp-fp32-opt-fake]"
    assert len(record.key) == len(record.plan_key) == 64
    assert record.environment["backend"] == "fake"
    assert {"export", "parse", "build", "deserialize", "context", "run"} <= record.seconds.keys()
    assert 0 < sum(record.seconds.values()) <= record.duration


def test_facts_and_comparison_are_recorded(project: pytest.Pytester, records: Records):
    project.makepyfile(
        """
        import pytest

        @pytest.mark.trt
        def test_it(trt_session, trt_inputs, trt_oracle, trt_compare, trt_record):
            trt_compare(trt_session.run(trt_inputs), trt_oracle(trt_inputs))
            trt_record["layers"] = 3
        """
    )
    project.runpytest_inprocess(*FAKE, "--trt-backend=fake").assert_outcomes(passed=1)
    (record,) = records()
    assert record.stage == "compare"
    assert (record.facts["layers"], record.facts["builds"]) == (3, 1)
    assert record.comparison is not None
    assert record.comparison["passed"] is True
    assert "optimizations off" in record.comparison["oracle"]
    assert record.comparison["worst"]["figures"]["max_abs"] >= 0


def test_absent_is_not_covered_by_name_and_no_success(project: pytest.Pytester, records: Records):
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess(*FAKE, "--trt-backend=fake:absent", "-rs")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(
        ["*fake:absent*absent: No module named 'fake' (to cover it: pip install fake)*", "*nothing was covered*"]
    )
    result.stdout.fnmatch_lines(["*1 not covered in *"])
    (record,) = records()
    assert (record.verdict, record.fix) == ("not_covered", "pip install fake")
    assert "No module named 'fake'" in record.message


def test_what_needs_a_gpu_is_not_built_in_vain(project: pytest.Pytester, records: Records):
    project.makepyfile(
        RUNS
        + """
@pytest.mark.trt(over=("model", "backend"))
def test_builds(trt_plan):
    assert trt_plan.data.size
"""
    )
    result = project.runpytest_inprocess(*FAKE, "--trt-backend=fake:needs_gpu")
    assert result.ret == pytest.ExitCode.OK
    runs, builds = sorted(records(), key=lambda record: record.cell.test, reverse=True)
    assert (runs.verdict, runs.fix) == ("not_covered", "a fake GPU")
    assert "build" not in runs.seconds
    assert (builds.verdict, builds.stage) == ("passed", "build")


@pytest.mark.parametrize(
    ("fault", "stage", "said"),
    [
        ("parse_error", "parse", "*node 'MatMul_0' (MatMul): not today*"),
        ("builder_none", "build", "*the builder returned None*"),
        ("deserialize_none", "deserialize", "*the runtime returned None*"),
        ("enqueue_false", "run", "*the enqueue returned False*"),
        ("crash_build", "build", "*signal 11 (SIGSEGV)*"),
        ("hang_build", "build", "*no answer within 3 s*"),
        ("crash_load", "deserialize", "*signal 11 (SIGSEGV)*"),
        ("crash_run", "run", "*signal 11 (SIGSEGV)*"),
        ("exit_run", "run", "*exit status 3*"),
        ("hang_run", "run", "*no answer within 3 s*"),
        ("hang_gil", "run", "*no answer within 3 s*"),
    ],
)
def test_a_failure_of_a_stage_has_its_name_its_words_and_its_command(
    project: pytest.Pytester, records: Records, fault: str, stage: str, said: str
):
    project.makepyfile(RUNS)
    timeouts = ("--trt-build-timeout=3", "--trt-run-timeout=3") if fault.startswith("hang") else ()
    result = project.runpytest_inprocess(*FAKE, f"--trt-backend=fake:{fault}", *timeouts)
    result.assert_outcomes(failed=1)
    node = f"{next(project.path.glob('test_*.py')).name}::test_runs[[]mlp-fp32-opt-fake:{fault}]"
    repeat = f"repeat: python -m pytest '{node}' --trt-backend fake:{fault}" + "".join(
        f" {option.replace('=', ' ')}" for option in timeouts
    )
    result.stdout.fnmatch_lines([f"{stage}: *", repeat])
    result.stdout.fnmatch_lines([said])
    result.stdout.no_fnmatch_line("*def test_runs*")
    (record,) = records()
    assert (record.verdict, record.stage) == ("failed", stage)
    assert 0 < record.seconds[stage] <= record.duration


def test_a_fault_keeps_its_traceback(project: pytest.Pytester, records: Records):
    project.makepyfile(
        """
        import pytest

        @pytest.mark.trt(over=("model",))
        def test_it(trt_model):
            1 / 0
        """
    )
    result = project.runpytest_inprocess(*FAKE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([">*1 / 0"])
    assert [record.verdict for record in records()] == ["error"]


def test_a_fixture_that_does_not_exist_is_named(project: pytest.Pytester, records: Records):
    project.makepyfile(
        """
        import pytest

        @pytest.mark.trt(over=("model",))
        def test_it(trt_model, trt_modle): ...
        """
    )
    project.runpytest_inprocess(*FAKE).assert_outcomes(errors=1)
    (record,) = records()
    assert (record.verdict, record.message) == ("error", "fixture 'trt_modle' not found")


def test_a_fault_of_an_engine_host_is_no_failure_of_the_model(project: pytest.Pytester, records: Records):
    """And comes with the traceback from there."""
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess(*FAKE, "--trt-backend=fake:bug")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["fault in the engine host: *", "In the engine host:", "*Error*", "repeat: python *"])
    (record,) = records()
    assert (record.verdict, record.stage) == ("error", "run")


def test_the_users_own_skips_and_expected_failures_count_as_such(project: pytest.Pytester, records: Records):
    project.makepyfile(
        """
        import pytest
        from harness.errors import RunError

        @pytest.mark.trt(over=("model",))
        def test_skipped(trt_model):
            pytest.skip("not today")

        @pytest.mark.xfail(raises=RunError, strict=True, reason="known here")
        @pytest.mark.trt(over=("model",))
        def test_expected(trt_model):
            raise RunError("no")
        """
    )
    result = project.runpytest_inprocess(*FAKE)
    assert result.parseoutcomes() == {"known failures": 1, "not covered": 1} or result.ret == 0
    verdicts = {record.cell.test: (record.verdict, record.message or record.cause) for record in records()}
    assert verdicts["test_skipped"] == ("not_covered", "not today")
    assert verdicts["test_expected"][0] == "known_failure"


def test_a_failure_that_the_user_declares_is_no_error(project: pytest.Pytester, records: Records):
    project.makepyfile(
        """
        import pytest

        @pytest.mark.trt(over=("model",))
        def test_it(trt_model):
            pytest.fail("not as I want it")
        """
    )
    project.runpytest_inprocess(*FAKE).assert_outcomes(failed=1)
    assert [(record.verdict, record.message) for record in records()] == [("failed", "not as I want it")]


def test_a_model_without_data_has_nothing_golden(project: pytest.Pytester, records: Records):
    project.makepyfile(
        """
        import pytest

        @pytest.mark.trt(over=("model",))
        def test_it(trt_golden): ...
        """
    )
    result = project.runpytest_inprocess(*FAKE)
    result.stdout.fnmatch_lines(["trt_golden: mlp brings no inputs and no golden outputs: give it some*"])
    assert [(record.verdict, record.stage) for record in records()] == [("failed", "spec")]


def test_options_that_do_not_apply_are_recorded(project: pytest.Pytester, records: Records):
    project.makepyfile(RUNS)
    project.runpytest_inprocess(*FAKE, "--trt-backend=onnxruntime,fake", "--trt-build-option=workspace=1MiB")
    left_aside = {record.cell.backend: record.facts.get("options_not_applied") for record in records()}
    assert left_aside == {"onnxruntime": ["workspace"], "fake": None}


@pytest.mark.parametrize("workers", [(), ("-n1",)])
@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("lines[:-1]", ["no record: test_*.py::test_runs[[]mlp-fp32-opt-fake]"]),
        (
            "[*lines[:-1], lines[-1][:40]]",
            ["unreadable record: *.jsonl:2: cut short*", "no record: test_*.py::test_runs[[]mlp-fp32-opt-fake]"],
        ),
    ],
)
def test_a_cell_whose_record_is_lost_is_named_and_no_success(
    project: pytest.Pytester, workers: tuple[str, ...], kept: str, said: list[str]
):
    project.makeconftest(
        f"""
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_sessionfinish(session):
            if not hasattr(session.config, "workerinput"):
                for path in session.config.rootpath.glob(".trt-harness/runs/*/*.jsonl"):
                    lines = path.read_bytes().splitlines(keepends=True)
                    if b'"passed"' in lines[-1]:
                        path.write_bytes(b"".join({kept}))
        """
    )
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess(*FAKE, "--trt-backend=fake:absent,fake", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes()["passed"] == 1
    result.stdout.fnmatch_lines(said)


def test_a_skip_before_our_own_hook_leaves_a_record_too(project: pytest.Pytester, records: Records):
    project.makeconftest(
        """
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_setup(item):
            pytest.skip("not on a Monday")
        """
    )
    project.makepyfile(RUNS)
    project.runpytest_inprocess(*FAKE, "--trt-backend=fake")
    assert [(record.verdict, record.message) for record in records()] == [("not_covered", "not on a Monday")]


def test_best_is_the_first_that_can_and_says_why(project: pytest.Pytester, records: Records):
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess(*FAKE, "--trt-backend=best")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["  best *onnxruntime runs*"])
    (record,) = records()
    assert record.cell.backend == "best"
    assert record.environment["backend"] == "onnxruntime"


def test_a_backend_for_which_there_is_no_axis(project: pytest.Pytester):
    project.makepyfile(
        """
        import pytest

        @pytest.mark.trt(over=("model",))
        def test_it(trt_engine): ...
        """
    )
    result = project.runpytest_inprocess(*FAKE)
    result.stdout.fnmatch_lines(["*this test does not run over backends: add 'backend' to the mark's 'over'*"])


# Known failures ---------------------------------------------------------------------------------

ENTRY = """
[[failure]]
test = "test_runs"
model = "mlp"
stage = "{stage}"
message = "{message}"
cause = "the builder is lazy"
owner = "ada"
expires = {expires}
"""


def known(project: pytest.Pytester, stage: str = "spec", message: str = "", expires: str = "2999-01-01") -> None:
    folder = project.path / "expectations"
    folder.mkdir()
    (folder / "onnxruntime.toml").write_text(ENTRY.format(stage=stage, message=message, expires=expires))


BROKEN = """
import pytest
from harness.errors import BuildError

@pytest.mark.trt(over=("model", "backend"))
def test_runs(trt_backend):
    {body}
"""


def run(project: pytest.Pytester, body: str, *arguments: str) -> pytest.RunResult:
    project.makepyfile(BROKEN.format(body=body))
    return project.runpytest_inprocess("--trt-backend=onnxruntime", "--trt-model=mlp", *arguments)


@pytest.mark.parametrize("arguments", [(), ("-n2",)])
def test_a_known_failure_is_excused_and_shown(project: pytest.Pytester, records: Records, arguments: tuple[str, ...]):
    known(project, "build", "too lazy")
    result = run(project, "raise BuildError('mlp: too lazy to build')", *arguments)
    assert result.ret == 0
    assert result.parseoutcomes() == {"known": 1} or "1 known failures" in str(result.stdout)
    (record,) = records()
    assert (record.verdict, record.stage, record.cause) == ("known_failure", "build", "the builder is lazy")


@pytest.mark.parametrize(("stage", "message"), [("run", "too lazy"), ("build", "out of memory")])
def test_another_failure_than_the_known_one_fails(project: pytest.Pytester, stage: str, message: str):
    known(project, stage, message)
    run(project, "raise BuildError('mlp: too lazy to build')").assert_outcomes(failed=1)


def test_an_unexpected_pass_fails(project: pytest.Pytester, records: Records):
    known(project, "build", "too lazy")
    result = run(project, "pass")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*passed, but is a known failure:*", "*onnxruntime.toml, failure 1: fails at build*"])
    assert [record.verdict for record in records()] == ["unexpected_pass"]


@pytest.mark.parametrize("arguments", [(), ("-n2",)])
def test_an_expired_entry_fails_the_run_and_excuses_nothing(project: pytest.Pytester, arguments: tuple[str, ...]):
    known(project, "build", "too lazy", expires="2020-01-01")
    result = run(project, "raise BuildError('mlp: too lazy to build')", *arguments)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["onnxruntime.toml, failure 1: expired: *"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('model = "mlp"', 'model = "mpl"', "*unknown model: no model of the catalog matches 'mpl'*"),
        ('test = "test_runs"', 'test = "test_rums"', "*unmatched: *test_rums*"),
        ('owner = "ada"', 'ower = "ada"', "*unknown key: 'ower'*"),
    ],
)
def test_a_wrong_entry_fails_a_run_that_passes(project: pytest.Pytester, old: str, new: str, said: str):
    known(project, "build", "too lazy")
    file = project.path / "expectations" / "onnxruntime.toml"
    file.write_text(file.read_text().replace(old, new))
    result = run(project, "pass")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([said])


def test_nothing_follows_for_an_entry_from_cells_that_were_deselected(project: pytest.Pytester):
    known(project, "build", "too lazy")
    project.makepyfile(
        test_other="""
        import pytest

        @pytest.mark.trt(over=("model", "backend"))
        def test_other(trt_backend): ...
        """
    )
    arguments = ("--trt-model=mlp", "--trt-backend=onnxruntime")
    assert project.runpytest_inprocess(*arguments).ret == pytest.ExitCode.TESTS_FAILED
    project.makepyfile(BROKEN.format(body="raise BuildError('too lazy')"))
    assert project.runpytest_inprocess(*arguments, "-k", "test_other").ret == 0
    assert project.runpytest_inprocess(*arguments, "test_other.py").ret == 0


# What is brought --------------------------------------------------------------------------------


def test_a_model_file_that_is_none_fails_alone(project: pytest.Pytester, records: Records):
    (project.path / "bad.toml").write_text("model = 'x.onnx'\nprofile = 3\n")
    (project.path / "broken.onnx").write_bytes(b"\x00\x01")
    project.makepyfile(RUNS)
    arguments = ("--trt-models=bad.toml", "--trt-models=broken.onnx", "--trt-model=mlp,broken", *FAKE[1:])
    result = project.runpytest_inprocess(*arguments, "--trt-backend=onnxruntime")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*broken.onnx: not an ONNX model, or cut short*"])
    result.stdout.fnmatch_lines(["*bad.toml: *"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert Counter(record.verdict for record in records()) == {"failed": 2, "passed": 1}


def test_junit_carries_the_essentials(project: pytest.Pytester):
    project.makepyfile(RUNS)
    for backend in ("fake", "fake:enqueue_false", "fake:absent"):
        project.runpytest_inprocess(*FAKE, f"--trt-backend={backend}", "--junitxml=junit.xml")
        (case,) = ElementTree.parse(project.path / "junit.xml").getroot().iter("testcase")
        found = {item.get("name"): item.get("value") for item in case.iter("property")}
        verdict = {"fake": "passed", "fake:enqueue_false": "failed", "fake:absent": "not_covered"}[backend]
        assert (found["trt_model"], found["trt_backend"], found["trt_verdict"]) == ("mlp", backend, verdict)
        children = {child.tag for child in case} - {"properties"}
        assert children == {"passed": set(), "failed": {"failure"}, "not_covered": {"skipped"}}[verdict]


def test_records_go_where_they_are_asked_for(project: pytest.Pytester):
    project.makepyfile(RUNS)
    project.runpytest_inprocess(*FAKE, "--trt-backend=fake", "--trt-output=out", "--trt-cache=plans")
    assert len(list(Path(project.path, "out").glob("*/main.jsonl"))) == 1
    assert len(list(Path(project.path, "plans").glob("*.plan"))) == 1
    assert not (project.path / ".trt-harness").exists()


def test_nothing_follows_for_a_precision_from_a_file_that_has_none(project: pytest.Pytester):
    """Which precisions there are, the tests say that were left out."""
    known(project, "build", "too lazy")
    file = project.path / "expectations" / "onnxruntime.toml"
    file.write_text(file.read_text().replace('test = "test_runs"', 'precision = "fp32"'))
    project.makepyfile(
        test_other="""
        import pytest

        @pytest.mark.trt(over=("model", "backend"))
        def test_other(trt_backend): ...
        """
    )
    arguments = ("--trt-model=mlp", "--trt-backend=onnxruntime")
    assert project.runpytest_inprocess(*arguments, "test_other.py").ret == 0
    assert project.runpytest_inprocess(*arguments).ret == pytest.ExitCode.TESTS_FAILED


def test_what_runs_leave_behind_is_none_of_gits_business(project: pytest.Pytester):
    project.makepyfile(RUNS)
    project.runpytest_inprocess(*FAKE)
    subprocess.run(["git", "init", "-q", "."], cwd=project.path, check=True)
    seen = subprocess.run(["git", "status", "--short"], cwd=project.path, check=True, capture_output=True, text=True)
    assert ".trt-harness" not in seen.stdout
    assert (project.path / ".trt-harness" / "runs").is_dir()
