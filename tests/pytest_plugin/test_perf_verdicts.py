"""What becomes of cells of performance beside what they measure: how they are repeated, and what excuses them."""

from __future__ import annotations

import datetime
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.ledger.baseline_file import write
from harness.ledger.baselines import Baselines, Quarantine
from harness.ledger.expectations import GATE
from harness.ledger.policy import DEFAULTS
from harness.ledger.records import Record
from harness.measure.quantity import every
from harness.pytest_plugin.perf import asked_for, installed
from harness.runtime.backend.fake import FAULT_VARIABLE
from harness.settings import Settings

pytest_plugins = ("pytester",)
TEST = """
import pytest

@pytest.mark.trt(models="mlp", over=("model", "backend"))
def test_runs(trt_perf):
    trt_perf(lambda quantity: quantity.name == "gpu, graph")
"""
FEW = ("--trt-perf-seconds=0.1", "--trt-perf-processes=2", "--trt-perf-builds=1")
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
    held = (
        "--trt-perf-metrics=gpu-graph",
        "--trt-baselines=held.toml",
        "--trt-kept=plans",
        "--trt-installation=8.6 over 8.5=python",
    )
    printed = run(*held).stdout.str()
    (command,) = set(re.findall(r"^repeat: (.*)$", printed, re.MULTILINE))  # the summary, too, has it in CI
    words = shlex.split(command)
    for option in ("perf=gate", *(one.removeprefix("--trt-") for one in (*FEW, *held))):
        name, value = option.split("=", 1)
        at = words.index(f"--trt-{name.removeprefix('--trt-')}")
        assert words[at + 1] == value
    again = project.runpytest_subprocess(*words[3:])
    again.assert_outcomes(failed=1)
    (record,) = records()
    assert (record.verdict, record.stage) == ("failed", "run")


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("gpu-graph", {"gpu, graph"}),
        ("gpu-graph,plan-size", {"gpu, graph", "plan size"}),
        ("*-memory", {"host memory", "engine memory", "peak memory", "device memory"}),
        ("plan size", {"plan size"}),
        ("gpu*graph", {"gpu, graph"}),
        ("gpu, graph", set()),  # neither is a name
    ],
)
def test_metrics_are_asked_for_by_name(asked: str, named: set[str]) -> None:
    patterns = Settings.read({"perf_metrics": asked}).perf_metrics
    assert {name for name, one in every().items() if asked_for(one, patterns)} == named


def test_only_the_metric_that_is_named_is_measured(run: Run, records: Callable[[], list[Record]]) -> None:
    run("--trt-perf-metrics=gpu-graph", perf="screen").assert_outcomes(passed=1)
    (record,) = records()
    journal = Path(record.facts["perf"]["journal"]) / "alone" / "journal.jsonl"
    made = [told for line in journal.read_text().splitlines() if (told := json.loads(line))["kind"] == "process"]
    assert {way for one in made for way in one["samples"]} == {"graph"}


def test_a_process_may_sample_for_less_than_its_warm_up(run: Run) -> None:
    run("--trt-perf-metrics=gpu-graph", "--trt-perf-seconds=0.05", perf="screen").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("library", "option"),
    [("8.6.1", "8.6.1=PYTHON"), ("8.6.1 over 8.6.0", "'8.6.1 over 8.6.0=PYTHON'")],
)
def test_the_installation_that_lacks_can_be_typed(library: str, option: str) -> None:
    run = SimpleNamespace(environments={"tensorrt": {"version": "10.0"}}, settings=Settings())
    side = SimpleNamespace(backend="tensorrt")
    words = installed(run, side, library)  # type: ignore[arg-type]  # a run and a side that are played
    assert str(words).endswith(f": --trt-installation {option}")


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


@pytest.fixture
def quarantines(project: pytest.Pytester) -> None:
    """One that is over, one of no cell, and one that holds for a cell."""
    today = datetime.date.today()
    days = {"gpt*": 0, "mlp-fake on fake GPU*": 0, "mlp*": -1}
    made = tuple(Quarantine(cell, "ada", "why", today + datetime.timedelta(left)) for cell, left in days.items())
    write(project.path / "trt-baselines.toml", Baselines(DEFAULTS, quarantines=made))


OVER = "quarantine of mlp* is over and excuses nothing: it held until "
UNMATCHED = "quarantine of gpt* excuses nothing: no cell of this run is one of these: mend or remove it (ada, until "


@pytest.mark.usefixtures("quarantines")
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((), [UNMATCHED, OVER]),
        (("-p", "xdist", "-n1"), [UNMATCHED, OVER]),
        (("--trt-model=mlp",), [OVER]),
        (("-k", "test_runs"), [OVER]),
        (("test_it.py::test_runs",), [OVER]),
        (("--trt-perf=off",), []),
    ],
)
def test_quarantines_that_excuse_nothing_are_named_and_fail_nothing(
    project: pytest.Pytester, run: Run, options: tuple[str, ...], named: list[str]
) -> None:
    project.makepyfile(
        test_it=TEST + "\n@pytest.mark.trt(models='mlp', over=('model', 'backend'))\ndef test_other(trt_cell): pass\n"
    )
    done = run("--trt-perf-metrics=gpu-graph", *options, perf="screen")
    assert done.ret == pytest.ExitCode.OK
    lines = [line for line in done.stdout.lines if line.startswith("quarantine of ")]
    assert len(lines) == len(named)
    for line, words in zip(lines, named, strict=True):
        assert line.startswith(words)
