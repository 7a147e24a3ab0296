"""A run that was stopped says how much it did not reach, and takes nothing of that for lost."""

from __future__ import annotations

import pytest

from tests.pytest_plugin.parts import RUNS

pytest_plugins = ("pytester",)
ARGUMENTS = ("--trt-in-process", "--trt-model=mlp", "--trt-precision=fp32", "--trt-backend=fake:enqueue_false")
LOST = "no record: *"


def test_at_the_first_failure(project: pytest.Pytester):
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess("-x", *ARGUMENTS)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["stopped early: 2 cells were not reached"])
    result.stdout.no_fnmatch_line(LOST)


def test_by_a_file_that_can_not_be_collected(project: pytest.Pytester):
    project.makepyfile(RUNS, test_other="import nowhere_at_all")
    result = project.runpytest_inprocess(*ARGUMENTS)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["stopped early: 3 cells were not reached"])
    result.stdout.no_fnmatch_line(LOST)


def test_a_whole_run_reaches_all(project: pytest.Pytester):
    project.makepyfile(RUNS)
    project.runpytest_inprocess(*ARGUMENTS).stdout.no_fnmatch_line("stopped early*")
