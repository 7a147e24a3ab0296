"""What collecting does, and above all what it does not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.pytest_plugin.parts import ROOT, RUNS, SUITE

pytest_plugins = ("pytester",)
HEAVY = ("numpy", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "cuda", "hypothesis", "rich", "filelock", "scipy")
HEAVY += ("sqlalchemy", "alembic", "pyarrow")


def test_collecting_the_suites_imports_nothing_heavy():
    script = f"""
import json, sys, pytest
code = pytest.main([{str(SUITE)!r}, "--collect-only", "-qq", "-p", "harness.pytest_plugin", "-p", "no:cacheprovider",
                    "-p", "no:benchmark", "-p", "no:hypothesispytest", "-p", "no:xdist", "-c", "/dev/null",
                    "--rootdir", {str(ROOT)!r}, "--import-mode=importlib"])
print(json.dumps([int(code), [name for name in {HEAVY!r} if name in sys.modules]]))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert json.loads(ran.stdout.splitlines()[-1]) == [0, []], ran.stdout + ran.stderr


def test_collecting_probes_nothing_and_writes_nothing(project: pytest.Pytester):
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess("--collect-only", "-q", "--trt-model=mlp", "--trt-precision=fp32")
    ids = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert ids == [
        f"test_runs[mlp-fp32-{point}-{backend}]"
        for backend in ("tensorrt", "rtx", "onnxruntime")
        for point in ("min", "opt", "max")
    ]
    assert not (project.path / ".trt-harness").exists()
    result.stdout.no_fnmatch_line("*trt-harness:*")


def test_a_run_without_a_cell_of_ours_is_left_as_it_is(project: pytest.Pytester):
    project.makepyfile("def test_one(): pass")
    for arguments in ((), ("-n2",)):
        result = project.runpytest_inprocess(*arguments)
        result.assert_outcomes(passed=1)
        result.stdout.no_fnmatch_line("*TensorRT*")
        assert not (project.path / ".trt-harness").exists()


def test_an_empty_set_is_deselected_and_not_skipped(project: pytest.Pytester):
    project.makepyfile(
        """
        import pytest

        @pytest.mark.trt(precisions="tf32")
        def test_tf32(trt_session): ...

        @pytest.mark.trt(over=("model",))
        def test_model(trt_model): ...
        """
    )
    result = project.runpytest_inprocess("--trt-model=mlp", "--trt-precision=fp32")
    result.assert_outcomes(passed=1, deselected=1)


def test_a_name_that_no_model_has_is_a_warning(project: pytest.Pytester):
    project.makepyfile(
        """
        import pytest

        @pytest.mark.trt(models=["brt", "mlp", "conv*"], over=("model",))
        def test_model(trt_model): ...
        """
    )
    result = project.runpytest_inprocess("-W", "default::pytest.PytestCollectionWarning", "--trt-model=mlp")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*no model 'brt': did you mean 'bert'? bring models of your own with --trt-models"])


def test_cells_of_one_engine_lie_together_whatever_the_module(project: pytest.Pytester):
    project.makepyfile(test_a=RUNS, test_b=RUNS, test_c="def test_plain(): ...")
    result = project.runpytest_inprocess("--collect-only", "-q", "--trt-model=mlp,bert", "--trt-point=opt")
    ids = [line for line in result.outlines if "::" in line]
    assert ids[0] == "test_c.py::test_plain"
    engines = [line.partition("[")[2] for line in ids[1:]]
    assert len(engines) == 2 * len(dict.fromkeys(engines))
    assert engines == sorted(engines, key=engines.index)


def test_the_users_own_parametrization_joins_the_id(project: pytest.Pytester):
    project.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("times", [1, 2])
        @pytest.mark.trt(over=("model",))
        def test_model(trt_cell, times):
            assert trt_cell.model == "mlp"
        """
    )
    result = project.runpytest_inprocess("-v", "--trt-model=mlp")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(["*test_model*mlp-1* PASSED*", "*test_model*mlp-2* PASSED*"])


@pytest.mark.parametrize(
    ("mark", "fixtures", "said"),
    [
        ("@pytest.mark.trt(model='mlp')", "trt_cell", "*trt(...) has no 'model': did you mean 'models'?*"),
        ("@pytest.mark.trt(over=('backend',))", "trt_cell", "*'model' is missing*"),
        ("@pytest.mark.trt", "tmp_path", "*requests none of the harness's fixtures*"),
        ("", "trt_session", "*mark it with @pytest.mark.trt*"),
    ],
)
def test_a_wrong_mark_is_one_line(project: pytest.Pytester, mark: str, fixtures: str, said: str):
    project.makepyfile(f"import pytest\n{mark}\ndef test_it({fixtures}): ...\n")
    result = project.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([said])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trt-backend=tensort"], "*--trt-backend: unknown 'tensort': did you mean 'tensorrt'?*choose from *"),
        (["--trt-model=bret"], "*--trt-model: no model 'bret': did you mean 'bert'?*"),
        (["--trt-size=huge"], "*--trt-size: no model of size 'huge': choose from full, tiny*"),
        (["--trt-shard=9/3"], "*--trt-shard: '9/3' is not a part of a whole*"),
        (["--trt-output=/dev/null/here"], "*--trt-output: can't make the folder /dev/null/here: Not a directory*"),
        (["--trt-cache=/dev/null/here"], "*--trt-cache: can't make the folder /dev/null/here: Not a directory*"),
        (["-n2", "--trt-model=bret"], "*--trt-model: no model 'bret'*"),
    ],
)
def test_a_wrong_option_ends_the_run_with_what_there_is(project: pytest.Pytester, arguments: list[str], said: str):
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])
    result.stderr.no_fnmatch_line("*Traceback*")


def test_a_plugin_that_hides_a_fixture_is_refused_and_a_conftest_is_not(project: pytest.Pytester):
    fixture = """
        import pytest

        @pytest.fixture
        def trt_session(trt_cell):
            return None
        """
    project.makepyfile(RUNS.replace("trt_session.run(trt_inputs)", "trt_session is None"), impostor=fixture)
    project.syspathinsert()
    arguments = ("--trt-model=mlp", "--trt-precision=fp32", "--trt-point=opt", "--trt-backend=fake")
    refused = project.runpytest_inprocess(*arguments, "-p", "impostor")
    refused.assert_outcomes(errors=1)
    refused.stdout.fnmatch_lines(["*its fixture 'trt_session' is not the harness's but of the plugin impostor*"])
    project.makeconftest(fixture)
    project.runpytest_inprocess(*arguments).assert_outcomes(passed=1)


def test_an_interpreter_that_can_not_be_started_ends_the_run(project: pytest.Pytester):
    project.makepyfile(RUNS)
    python = project.path / "python"
    python.write_text("no program")
    python.chmod(0o755)
    arguments = ("--trt-model=mlp", "--trt-backend=tensorrt", f"--trt-python=tensorrt={python}")
    result = project.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*tensorrt: the engine host can't be started with {python}: * Exec format error*"])
    result.stderr.no_fnmatch_line("*Traceback*")


def test_every_setting_is_in_the_help_with_its_twins(project: pytest.Pytester):
    from harness.settings import Settings

    text = " ".join(project.runpytest_inprocess("--help").outlines).replace("- ", "-")
    words = " ".join(text.split())
    for row in Settings.table():
        assert row.option in words
        assert row.variable in words
        assert f"ini: {row.key}" in words


def test_ini_and_environment_are_read(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    project.makepyfile(RUNS)
    with (project.path / "tox.ini").open("a") as file:
        file.write("\ntrt_model =\n  mlp\n  bert\ntrt_point = opt\n")
    monkeypatch.setenv("TRT_HARNESS_PRECISION", "fp16")
    result = project.runpytest_inprocess("--collect-only", "-q", "--trt-backend=onnxruntime")
    ids = {line.partition("::")[2] for line in result.outlines if "::" in line}
    assert ids == {"test_runs[mlp-fp16-opt-onnxruntime]", "test_runs[bert-fp16-opt-onnxruntime]"}


def test_the_hook_brings_models(project: pytest.Pytester):
    project.makeconftest(
        """
        from pathlib import Path
        from harness.spec import ModelSpec, OnnxFile

        def pytest_trt_models(config):
            return [ModelSpec("mine", OnnxFile(Path("nowhere.onnx")), size="huge")]
        """
    )
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess("--collect-only", "-q", "--trt-model=mi*", "--trt-backend=best")
    assert [line for line in result.outlines if "mine_huge-fp32-opt-best" in line]


def test_a_models_package_of_the_users_own_is_no_clash(project: pytest.Pytester):
    project.mkpydir("models")
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess("--collect-only", "-q", "--trt-model=mlp")
    assert "test_runs[mlp-fp32-opt-onnxruntime]" in str(result.stdout)
