"""`trt-harness nightly`: a whole night on the fake backend; killed in a stage; with a fault; without time."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pytest

from harness.cli.app import main
from harness.ledger import batch, history, host
from harness.ledger.baseline_file import read
from harness.ledger.night_state import LOCK
from harness.ledger.records import Record, read_run
from harness.ledger.store import Store
from harness.runtime import sampling
from harness.runtime.backend import fake_samples
from harness.runtime.backend.fake import FAULT_VARIABLE
from harness.spec.source import EXPORT_VARIABLE
from tests.conftest import PlayedClock
from tests.ledger.stored import change_point
from tests.pytest_plugin.parts import ROOT, RUNS

pytestmark = pytest.mark.runs
MEASURES = """
import pytest

@pytest.mark.trt(models=["mlp", "depthwise"], over=("model", "backend"))
def test_measures(trt_perf):
    trt_perf(lambda quantity: quantity.name == "gpu, graph")
"""
INI = """
[pytest]
addopts = -p harness.pytest_plugin --import-mode=importlib -p no:cacheprovider -p no:benchmark -p no:hypothesispytest
"""
HERE = """
from harness.runtime import sampling
from harness.runtime.backend import fake_samples
from harness.settings import Settings
from tests.conftest import PlayedClock

fake_samples.time = sampling.time = PlayedClock()  # nobody waits for what the fake device plays
Settings.under = lambda settings, program: settings  # another installation is played in the process of pytest
"""
SLOWER = """
import os

slower = float(os.environ.get("SLOWER_HOST", 1))
fake_samples.BASE, fake_samples.LAYER = slower * fake_samples.BASE, slower * fake_samples.LAYER
"""
FEW = ("--trt-model=mlp,depthwise", "--trt-precision=fp32", "--trt-point=opt", "-n", "0")


@dataclass
class Project:
    """Somebody's, with a suite for each stage."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, *options: str) -> list[str]:
        own = ["--output", "night", "--correctness", "test_numbers.py", "--performance", "test_speed.py", "--json"]
        return ["nightly", *own, "--backend", "fake", *options, "--", *FEW]

    def begun(self, *options: str) -> subprocess.Popen[bytes]:
        """In a process of its own. What it says is in files: a pipe would be open for as long as one of its children
        lives."""
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            command = [sys.executable, "-m", "harness.cli", *self.command(*options)]
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=out, stderr=err)

    def trt(self, *arguments: str, fault: str = "") -> tuple[int, str, str]:
        """The command line in this process; what it starts is none of it. Exit code, and what was printed and said.

        Nobody waits here for what the fake device plays.
        """
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name in os.environ.keys() - self.environment.keys():
                patch.delenv(name)
            for name, value in {**self.environment, FAULT_VARIABLE: fault}.items():
                patch.setenv(name, value)
            clock = PlayedClock()
            for module in (fake_samples, sampling):
                patch.setattr(module, "time", clock)
            patch.setattr(logging.getLogger("harness"), "handlers", [])
            patch.setattr("sys.argv", ["trt-harness", *arguments])
            patch.chdir(self.folder)
            with pytest.raises(SystemExit) as left:
                main()
        return int(left.value.code or 0), out.getvalue(), err.getvalue()

    def night(self, *options: str, fault: str = "") -> tuple[int, dict[str, Any], str]:
        """Exit code, what was printed as JSON, and what was said."""
        code, out, err = self.trt(*self.command(*options), fault=fault)
        try:
            return code, json.loads(out), err
        except ValueError:
            pytest.fail(f"{code}\n{out}\n{err}")

    def summary(self, night: str = "night") -> str:
        return (self.folder / night / "summary.md").read_text()

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "night" / "state.json").read_text())
        return found

    def records(self, stage: str) -> list[Record]:
        return [r for one in (self.folder / "night" / "runs").glob(f"*-{stage}") for r in read_run(one).records]

    def cells(self) -> Counter[str]:
        return Counter(record.node for stage in ("correctness", "performance") for record in self.records(stage))


def project_in(folder: Path, cache: Path) -> Project:
    """Whose engines have no hosts: they live in the process that asks for them."""
    (folder / "test_numbers.py").write_text(RUNS)
    (folder / "test_speed.py").write_text(MEASURES)
    (folder / "tox.ini").write_text(INI)
    ours = ("PYTEST_", "TRT_HARNESS_", "COV_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {
        EXPORT_VARIABLE: os.environ[EXPORT_VARIABLE],
        "PYTHONPATH": str(ROOT),
        "OPENBLAS_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(cache),
        "TRT_HARNESS_LOCKS": str(cache / "locks"),
        "TRT_HARNESS_IN_PROCESS": "true",
        "TRT_HARNESS_PERF_SECONDS": "0.1",
        "TRT_HARNESS_PERF_PROCESSES": "1",
        "TRT_HARNESS_PERF_BUILDS": "1",
        "TRT_HARNESS_PERF_METRICS": "gpu*graph",  # that of `MEASURES` alone
    }
    return Project(folder, environment)


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return project_in(tmp_path, tmp_path_factory.getbasetemp() / "nightly-cache")


Settled = tuple[Project, int, dict[str, Any], str]


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Settled:
    """A project after two nights, "night" with its canaries and "another" without, and what came of the first.

    In between somebody stores a bench.
    """
    project = project_in(tmp_path_factory.mktemp("settled"), tmp_path_factory.getbasetemp() / "nightly-cache")
    project.environment["TRT_HARNESS_PERF_PROCESSES"] = "2"
    (project.folder / "conftest.py").write_text(HERE)
    first = project.night()
    with Store(project.folder / ".trt-harness" / "store.sqlite") as store:
        batch.write(store, batch.Batch(sessions=[batch.Session("bench-1", time.time())]))
    code, told, said = project.night("--no-canaries", "--output", "another")
    assert (code, told["verdicts"]) == (0, {"passed": 4}), said
    return project, *first


def test_a_whole_night(settled: Settled) -> None:
    project, code, told, said = settled
    assert code == 0, said
    assert (told["exit_code"], told["faults"], told["not_run"], told["verdicts"]) == (0, [], 0, {"passed": 4})
    assert list(told["took"]) == [
        *("environment", "correctness", "canaries before", "performance", "canaries after"),
        *("store", "change points", "exports"),
    ]
    assert set(project.cells().values()) == {1}
    assert "**PASSED**" in project.summary()
    assert "canary\\_compute\\_cpu\\_full: " in project.summary()
    assert {Path(file).name for file in told["exports"]} >= {"junit.xml", "bencher.json", "measurements.parquet"}
    assert all((project.folder / file).is_file() for file in told["exports"])
    with Store(project.folder / ".trt-harness" / "store.sqlite") as store:
        stages = [name.rpartition("-")[2] for name, _, _ in history.sessions(store) if name.startswith(told["night"])]
        assert stages == ["correctness", "performance"]
        cells = {line.cell for line in history.lines(store)}
        keys = {line.cell_key: line.metric for line in history.lines(store)}
    canaries = host.read(project.folder / "night" / "canaries.json")
    assert "--trt-canaries=night/canaries.json" in said
    assert {one.name for one in canaries} == {"canary_compute_cpu_full", "canary_memory_cpu_full"}
    assert all(keys[one.key] == one.metric and len(one.medians) == 3 for one in canaries)
    assert "mlp-fake on fake GPU" in cells
    assert {cell.partition("-")[0] for cell in cells} > {"canary_compute_cpu_full", "canary_memory_cpu_full"}

    again = project.night()
    assert (again[0], again[1]) == (0, told)
    assert "this night is over" in again[2]
    assert set(project.cells().values()) == {1}
    state = project.state
    for medians in state["stages"]["canaries after"]["medians"].values():
        medians[:] = [1.1 * one for one in medians]
    del state["stages"]["summary"]
    (project.folder / "night" / "state.json").write_text(json.dumps({**state, "code": None}))
    code, told, _ = project.night()
    assert code == 4
    assert told["canaries"][0].startswith("HOST_CHANGED: canary canary_compute_cpu_full: +")
    assert "**PASSED**; the host changed" in project.summary()

    code, refused, _ = project.night("--no-canaries")
    assert (code, "holds another night" in refused["error"]["message"]) == (2, True)


def test_the_night_before_is_the_one_in_the_store(settled: Settled) -> None:
    """Which no bench is; the first night has none."""
    project, *_ = settled
    assert "last night" in project.summary("another")
    assert f"| fake | library | {onnx.__version__} | the same |" in project.summary("another")
    assert "last night" not in project.summary()


@pytest.mark.parametrize("whole", [True, False], ids=["with its pytest", "alone"])
def test_killed_it_goes_on(project: Project, whole: bool) -> None:
    """In the middle of its performance; alone, its pytest lives on, and is waited for.

    With its pytest it takes along the hosts that are at work.
    """
    project.environment["TRT_HARNESS_PERF_PROCESSES"] = "2" if whole else "12"  # which takes longer than to go on
    project.environment["TRT_HARNESS_IN_PROCESS"] = "false" if whole else "true"
    killed = project.begun("--no-canaries")
    wait_for(lambda: len(project.records("performance")) > 0, killed)
    kill(killed, children=whole)
    if whole:
        with (project.folder / "night" / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # they are gone when the last of their threads is
    assert "performance" not in project.state["stages"]
    code, told, said = project.night("--no-canaries")
    assert code == 0, said
    assert "goes on after environment, correctness" in said
    assert ("still at work" in said) is not whole
    assert told["verdicts"] == {"passed": 4}
    assert project.cells() == dict.fromkeys(project.cells(), 1)
    assert len(project.cells()) == 4


def test_interrupted_it_names_the_command_that_goes_on(project: Project) -> None:
    process = project.begun("--no-canaries")
    wait_for(lambda: len(project.records("performance")) > 0, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130
    assert "to go on: trt-harness nightly --output night" in (project.folder / "err").read_text()
    assert set(project.cells().values()) == {1}


def test_a_failure_fails_the_night(project: Project) -> None:
    code, told, _ = project.night("--no-canaries", fault="enqueue_false@mlp")
    assert (code, told["verdicts"]) == (1, {"passed": 2, "failed": 2})
    assert "**FAILED: 2 failures**" in project.summary()
    assert project.night("--no-canaries")[0] == 1, "what is over has its code"


def test_a_planted_regression_is_confirmed_and_gone_without_it(project: Project, settled: Settled) -> None:
    """Two nights make a baseline; what is slower in the third is measured beside it, and alone is named.

    In the last one a test is gone, and so the cell of a baseline.
    """
    before, *_ = settled
    shutil.copytree(before.folder / ".trt-harness", project.folder / ".trt-harness")
    (project.folder / "conftest.py").write_text(HERE)
    project.environment |= {
        "TRT_HARNESS_PERF_PROCESSES": "2",
        "TRT_HARNESS_INSTALLATION": f"{onnx.__version__}={sys.executable}",
        "TRT_HARNESS_ACTOR": "ada",
    }

    def night(number: int, fault: str = "") -> tuple[int, str]:
        output = f"night-{number}"
        code, told, said = project.night("--no-canaries", "--output", output, fault=fault)
        assert (told["faults"], told["not_run"]) == ([], 0), said
        return code, project.summary(output)

    for command in (["propose", "mlp*", "depth*"], ["accept", "*", "--reason", "the first"]):
        assert project.trt("baseline", *command)[0] == 0
    assert (project.folder / "trt-baselines.toml").read_text().count("[[baseline]]") == 2
    with Store(project.folder / ".trt-harness" / "store.sqlite") as store:
        change_point(store, "mlp", 0.077)

    code, summary = night(3, fault="slower=8@mlp")
    assert code == 1
    assert "**FAILED: 1 regression**" in summary
    _, _, failed = summary.partition("## Failed\n")[2].partition("\n## ")[0].strip().splitlines()
    assert failed.startswith("| mlp-fake on fake GPU | gpu, graph | REGRESSION | slower by ")
    assert "beside the baseline's plan; change point of " in failed, "it was compared afresh"
    assert failed.endswith(", commits c1..c2: confirmed |")
    assert "commits c1..c2: confirmed by " in summary.partition("## Change points\n")[2].partition("\n## ")[0]
    assert not [line for line in summary.splitlines() if "REGRESSION" in line and "depthwise" in line]
    with Store(project.folder / ".trt-harness" / "store.sqlite") as store:
        *_, (last, _, _) = history.sessions(store)
        (said,) = (one for one in history.verdicts(store, last) if one.fails)
    assert (said.cell, said.metric, said.outcome) == ("mlp-fake on fake GPU", "gpu, graph", "REGRESSION")
    assert said.estimate == pytest.approx(0.077, abs=0.01)

    code, summary = night(4)
    assert (code, "**PASSED**" in summary, "REGRESSION" in summary) == (0, True, False)
    assert "commits c1..c2: confirmed by " in summary, "which history does not take back: it is the same plan"

    (project.folder / "test_speed.py").write_text(MEASURES.replace(', "depthwise"', ""))
    code, summary = night(5)
    assert (code, "**PASSED**; 1 baseline not met" in summary) == (4, True)
    assert "| depthwise-fake on fake GPU | no test makes this cell any more" in summary


def test_an_accepted_canary_tells_a_slower_host_from_a_slower_plan(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its plan is kept, and measured again; it is no baseline that nothing met."""
    project.environment |= {"TRT_HARNESS_PERF_PROCESSES": "2", "TRT_HARNESS_ACTOR": "ada"}
    (project.folder / "conftest.py").write_text(HERE + SLOWER)
    for number in (1, 2):
        assert project.night("--output", f"night-{number}")[0] == 0
    for command in (["propose"], ["accept", "*", "--reason", "the first"]):
        code, _, said = project.trt("baseline", *command)
        assert (code, "left as it was" in said) == (0, False), said
    held = read(project.folder / "trt-baselines.toml").active
    assert sum(one.cell.startswith("canary_") for one in held.values()) == 2

    for name in ("BASE", "LAYER"):
        monkeypatch.setattr(fake_samples, name, 1.03 * getattr(fake_samples, name))
    project.environment["SLOWER_HOST"] = "1.03"
    code, told, _ = project.night("--output", "night-3")
    assert (code, told["unmet"], told["verdicts"]) == (4, [], {"passed": 4})
    with Store(project.folder / ".trt-harness" / "store.sqlite") as store:
        *_, (last, _, _) = history.sessions(store)
        rulings = history.verdicts(store, last)
        plans = {line.cell: {at.plans for at in history.points(store, line.key)} for line in history.lines(store)}
    assert {one.outcome for one in rulings} == {"HOST_CHANGED"}
    for one in rulings:
        slower = re.findall(r"canary canary_(?:compute|memory)_cpu_full: slower by ([\d.]+) % ", one.words)
        assert [float(percent) for percent in slower] == pytest.approx([3.0, 3.0], abs=0.4)
    for one in held.values():
        assert plans[one.cell] == {one.plans}


def test_without_time_nothing_is_run_and_all_of_it_is_named(project: Project) -> None:
    code, told, said = project.night("--budget", "0")
    assert (code, told["not_run"], told["verdicts"]) == (3, 4, {"not_covered": 4})
    assert told["canaries"] == ["NOT_COVERED: not measured: the time for the night was over"]
    assert "canary" not in said, "nothing of them was begun"
    assert "| 4 cells not run | budget: not run |" in project.summary()


def test_a_pytest_that_ends_otherwise_is_a_fault(project: Project) -> None:
    (project.folder / "test_numbers.py").write_text("def broken(")
    code, told, _ = project.night("--no-canaries", "--budget", "0")
    assert code == 1
    assert told["faults"] == ["correctness: pytest ended with exit status 2: what it was to run could not be collected"]
    assert "**FAILED: 1 fault**" in project.summary()


def test_what_pytest_refuses_ends_the_night_before_it_measures(project: Project) -> None:
    """And leaves the folder to another command, which is pytest's to refuse as well."""
    command = [*project.command("--no-canaries", "--budget", "0"), "--trt-modle=mlp"]
    trt = [sys.executable, "-m", "harness.cli", *command]
    done = subprocess.run(trt, cwd=project.folder, env=project.environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "unrecognized arguments: --trt-modle=mlp" in done.stderr
    refused = "correctness: pytest refused what it was asked for"
    assert refused in json.loads(done.stdout)["error"]["message"]
    assert "performance: " not in done.stderr
    code, out, _ = project.trt(*command[:-1], "--trt-modles=mlp")
    assert (code, refused in json.loads(out)["error"]["message"]) == (2, True)


@pytest.mark.parametrize("stage", ["correctness", "performance"])
def test_what_is_not_there_is_said_before_anything_is_run(project: Project, stage: str) -> None:
    """All of it at once; and the folder is left to a night that is put right."""
    missing = ("--performance", "nowhere/test_a.py::test_it[mlp]", f"--{stage}", "suites.nowhere")
    code, told, said = project.night("--no-canaries", "--budget", "0", *missing)
    assert code == 2
    for words in ("--performance nowhere/test_a.py::test_it[mlp]", f"--{stage} suites.nowhere", "nothing was run"):
        assert words in told["error"]["message"]
    assert "test_speed" not in told["error"]["message"]
    assert "pytest" not in said
    assert "correctness: " not in said
    there = ("--performance", "test_speed.py::test_measures", "--performance", "suites.latency", "--budget", "0")
    code, told, said = project.trt(*project.command("--no-canaries", *there), "--pyargs")
    assert (code, json.loads(told)["faults"]) == (3, []), said


def test_baselines_that_are_none_are_said_before_anything_is_run(project: Project) -> None:
    """Once they are put right the folder takes the night; a file that is not there is told, and may come."""
    file = project.folder / "held.toml"
    file.write_text("schema = 1\n[[baseline]]\ntolernce = 1\n")
    own = ("--no-canaries", "--budget", "0", "--baselines", "held.toml")
    code, told, said = project.night(*own)
    assert (code, "unknown key 'tolernce'" in told["error"]["message"], "correctness: " in said) == (2, True, False)
    file.unlink()
    code, _, said = project.night(*own)
    assert (code, "held.toml: there are no baselines yet" in said) == (3, True)


def test_correctness_leaves_performance_its_part_of_the_time(project: Project) -> None:
    _, _, said = project.night("--no-canaries", "--budget", "3000")
    (first, second) = (float(one) for one in re.findall(r"--trt-budget=([\d.]+)", said))
    assert 1900 < first <= 2000
    assert 2900 < second <= 3000


def test_a_store_that_is_none_costs_nothing_that_was_measured(project: Project) -> None:
    (project.folder / "none.sqlite").write_text("not a database, " * 999)
    code, told, _ = project.night("--no-canaries", "--store", "none.sqlite")
    assert (code, told["verdicts"]) == (1, {"passed": 4})
    (fault,) = (one for one in told["faults"] if one.startswith("not stored: "))
    command = shlex.split(fault.partition("trt-harness ")[2])
    code, out, _ = project.trt(*command[:-1], "other.sqlite", "--json")
    assert command[-2:] == ["--store", str(project.folder / "none.sqlite")]
    assert (code, len(json.loads(out)["runs"])) == (0, 2)


def test_a_folder_of_a_night_stands_for_its_runs(project: Project) -> None:
    project.night("--no-canaries", "--budget", "0")
    code, out, _ = project.trt("report", "night", "--json")
    assert (code, json.loads(out)["verdicts"]) == (3, {"not_covered": 4})


def test_a_package_that_cannot_be_imported_is_named_with_what_it_raises(
    project: Project, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path_factory.mktemp("installed")
    (place / "raising").mkdir()
    (place / "raising" / "__init__.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(place)
    code, told, _ = project.night("--no-canaries", "--performance", "raising.suite", "--performance", "suites.nowhere")
    assert code == 2
    raised = "--performance raising.suite: its package can't be imported: RuntimeError: no licence"
    nowhere = "--performance suites.nowhere: no such file or folder here, and no package"
    assert f"{raised}; {nowhere}: nothing was run" in told["error"]["message"]


def test_what_is_refused_once_something_is_done_is_a_fault(project: Project) -> None:
    """What was done is stored and told."""
    code, told, _ = project.night("--no-canaries", "--performance", "test_numbers.py::test_nowhere")
    assert code == 1
    assert told["faults"] == ["performance: pytest ended with exit status 4: it refused what it was asked for"]
    assert (project.folder / "night" / "summary.md").is_file()


def test_a_backend_that_was_asked_for_and_is_not_there(project: Project) -> None:
    project.environment["TRT_HARNESS_IN_PROCESS"] = "false"
    code, told, _ = project.night("--backend", "tensorrt_rtx", "--python", "tensorrt_rtx=/usr/bin/env")
    assert code == 3
    assert "tensorrt_rtx" in told["error"]["message"]
    assert not project.cells()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)


def kill(process: subprocess.Popen[bytes], *, children: bool) -> None:
    """As power that fails, or as somebody who ends it alone."""
    own = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    for child in own if children else ():
        os.killpg(int(child), signal.SIGKILL)
    process.wait()
