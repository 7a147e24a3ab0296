"""What becomes of cells of performance beside what they measure: how they are repeated, and what excuses them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest

from harness.ledger.expectations import GATE
from harness.ledger.records import Record
from harness.runtime.backend.fake import FAULT_VARIABLE

pytest_plugins = ("pytester",)
TEST = """
import pytest

@pytest.mark.trt(models="mlp", over=("model", "backend"))
def test_runs(trt_perf):
    trt_perf(lambda quantity: quantity.name == "gpu, graph")
"""
FEW = ("--trt-perf-seconds=0.1", "--trt-perf-processes=2", "--trt-perf-builds=1", "--trt-perf-metrics=gpu*graph")
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the test above on the fake backend, in a process of its own."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)
    project.makepyfile(test_it=TEST)

    def once(*options: str, perf: str = "gate") -> pytest.RunResult:
        given = ("-p", "no:xdist", "--trt-backend=fake", f"--trt-perf={perf}", *FEW, *options)
        return project.runpytest_subprocess(*given)

    return once


def test_the_command_of_a_failure_measures_again(
    project: pytest.Pytester, run: Run, records: Callable[[], list[Record]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FAULT_VARIABLE, "crash_run@mlp")
    held = ("--trt-baselines=held.toml", "--trt-kept=plans", "--trt-installation=8.6 over 8.5=python")
    printed = run(*held).stdout.str()
    (command,) = re.findall(r"^repeat: (.*)$", printed, re.MULTILINE)
    words = shlex.split(command)
    for option in ("perf=gate", *(one.removeprefix("--trt-") for one in (*FEW, *held))):
        name, value = option.split("=", 1)
        at = words.index(f"--trt-{name.removeprefix('--trt-')}")
        assert words[at + 1] == value
    again = project.runpytest_subprocess(*words[3:])
    again.assert_outcomes(failed=1)
    (record,) = records()
    assert (record.verdict, record.stage) == ("failed", "run")


def test_no_known_failure_excuses_a_regression(
    project: pytest.Pytester, run: Run, records: Callable[[], list[Record]]
) -> None:
    project.makepyfile(
        test_it=TEST.replace("import pytest", "import pytest\nfrom harness.errors import Regression")
        + '    raise Regression("gpu, graph: REGRESSION: slower by 70.0 %")\n'
    )
    entry = '[[failure]]\nstage = "{}"\nmessage = "slower by"\ncause = "c"\nowner = "ada"\nexpires = 2099-12-31\n'
    project.mkdir("expectations").joinpath("fake.toml").write_text(entry.format("compare"))
    run().assert_outcomes(failed=1)
    (record,) = records()
    assert (record.verdict, record.stage) == ("failed", GATE)
