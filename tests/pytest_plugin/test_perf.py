"""Performance in suites: measured where it is asked for, held against baselines, and failing where it got worse."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.errors import RunError
from harness.ledger import host as canaries
from harness.ledger.baseline_file import read, write
from harness.ledger.baselines import Baseline, Baselines, Known, Quarantine
from harness.ledger.gate import Tonight
from harness.ledger.kept import Kept
from harness.ledger.nights import histories
from harness.ledger.policy import DEFAULTS
from harness.ledger.proposals import Proposal, proposed
from harness.ledger.records import Record, read_run
from harness.measure.quantity import BUILD, DEVICE_MEMORY, PLAN_SIZE, QUANTITIES
from harness.measure.runner import SideFailed
from harness.pytest_plugin.perf import Night, quarantine
from harness.runtime.backend.fake import FAULT_VARIABLE
from harness.settings import Settings
from tests.pytest_plugin.parts import ROOT

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.runs
QUANTITIES_BY_NAME = {one.name: one for one in (*QUANTITIES, PLAN_SIZE, DEVICE_MEMORY, BUILD)}
TEST = """
import pytest

@pytest.mark.trt(models="mlp", over=("model", "backend"))
def test_runs(trt_perf):
    trt_perf(lambda quantity: quantity.name == "gpu, graph")
"""
INI = """
[pytest]
addopts = -p harness.pytest_plugin --import-mode=importlib -p no:cacheprovider -p no:benchmark -p no:hypothesispytest
"""
METRICS = "TRT_HARNESS_PERF_METRICS"  # those of `TEST` alone, unless a test says otherwise
AT = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


Nights = Callable[..., list[Record]]


def asked(output: Path, *options: str, hosts: bool = False) -> list[str]:
    """For one night on the fake backend, whose processes are played in that of pytest unless they have ``hosts``."""
    few = ["--trt-perf-seconds=0.1", "--trt-perf-processes=2", "--trt-perf-builds=1"]
    few += [] if hosts else ["--trt-in-process"]
    return ["-p", "no:xdist", "--trt-backend=fake", *few, f"--trt-output={output}", *options]


def left(output: Path) -> list[Record]:
    """The records of a night."""
    runs = list(output.iterdir()) if output.is_dir() else []
    return [record for one in runs for record in read_run(one).records]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after two honest nights, whose proposal was accepted."""
    folder = tmp_path_factory.mktemp("first")
    (folder / "test_it.py").write_text(TEST)
    (folder / "tox.ini").write_text(INI)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv(METRICS, "gpu*graph")
        for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
            patch.delenv(name, raising=False)
        records = []
        for output in (folder / "n1", folder / "n2"):
            night = [sys.executable, "-m", "pytest", *asked(output, "--trt-perf=gate")]
            subprocess.run(night, cwd=folder, env={**os.environ, FAULT_VARIABLE: ""}, capture_output=True, check=False)
            records += left(output)
    accept(folder / "trt-baselines.toml", records)
    return folder


@pytest.fixture
def nights(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Nights:
    """Runs nights in a project without any baseline, by a fault if one is given."""
    request.getfixturevalue("played_time")
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(METRICS, "gpu*graph")
    project.makepyfile(test_it=TEST)
    numbers = itertools.count(1)

    def night(fault: str = "", *options: str, perf: str = "gate", hosts: bool = False) -> list[Record]:
        output = project.path / f"night-{next(numbers)}"
        with monkeypatch.context() as patch:
            patch.setenv(FAULT_VARIABLE, fault)
            project.runpytest_inprocess(*asked(output, f"--trt-perf={perf}", *options, hosts=hosts))
        return left(output)

    return night


@pytest.fixture
def accepted(project: pytest.Pytester, nights: Nights, first: Path) -> Path:
    """The file of baselines of a project that has two honest nights behind it."""
    assert nights
    shutil.copytree(first / ".trt-harness", project.path / ".trt-harness")
    return Path(shutil.copy(first / "trt-baselines.toml", project.path))


def accept(file: Path, records: list[Record]) -> Path:
    baselines = read(file)
    for history in histories(records).values():
        made = proposed(history.key, history.cell, history.seen, baselines, QUANTITIES_BY_NAME)
        assert isinstance(made, Proposal), made
        baselines = baselines.with_accepted(made.baseline.accepted("the first", "a test", AT))
    write(file, baselines)
    return file


def ruling(records: list[Record]) -> dict[str, Any]:
    """That of tonight's plan. What is said of the baseline's beside it is under "stayed"."""
    (record,) = records
    found, *stayed = record.facts["perf"]["rulings"]
    assert {one["question"] for one in stayed} <= {"environment"}
    return {**found, "verdict": record.verdict, "message": record.message, "stayed": stayed}


def test_off_makes_no_cells(nights: Nights) -> None:
    assert nights(perf="off") == []


def test_without_a_baseline_it_is_measured_and_passes(project: pytest.Pytester, nights: Nights) -> None:
    found = ruling(nights())
    assert (found["verdict"], found["said"], found["held"]) == ("passed", "NOTED", False)
    (plan,) = (project.path / ".trt-harness" / "plans").iterdir()
    assert plan.suffix == ".plan"


@pytest.mark.parametrize("workers", ["0", "1"])
def test_off_says_how_to_measure_where_there_is_nothing_else(project: pytest.Pytester, workers: str) -> None:
    project.makepyfile(TEST)
    result = project.runpytest_inprocess("-n", workers, "--trt-backend=fake")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["--trt-perf is off: 1 test that would *: --trt-perf screen measures*"])
    project.makepyfile(test_other="def test_other(): pass")
    assert "--trt-perf" not in project.runpytest_inprocess("-n", workers, "--trt-backend=fake").stdout.str()


def test_the_terminal_tells_values_and_what_was_said(project: pytest.Pytester) -> None:
    project.makepyfile(TEST)
    result = project.runpytest_inprocess(*asked(project.path / "out", "--trt-perf=screen"))
    result.stdout.fnmatch_lines(
        [
            "performance: 1 cell, 1 metric: 1 NOTED",
            "  mlp-fake on fake GPU: gpu, graph: * ?s: NOTED: no baseline is accepted: *",
        ]
    )


def test_another_model_under_the_name_of_a_baseline_is_told(accepted: Path, nights: Nights) -> None:
    held = read(accepted)
    (baseline,) = held.active.values()
    assert len(baseline.model) == 64
    other = dataclasses.replace(baseline, key="other", model="0" * 64)
    write(accepted, dataclasses.replace(held, active={"other": other}))
    found = ruling(nights())
    assert (found["verdict"], found["said"], found["held"]) == ("passed", "NOTED", False)
    assert f"SHA-256 {baseline.model[:12]} (was 000000000000)" in found["words"]


def test_the_record_tells_what_was_measured(nights: Nights) -> None:
    """In processes of their own."""
    (record,) = nights(hosts=True)
    told = record.facts["perf"]
    (value,) = told["values"].values()
    assert value["unit"] == "s"
    assert len(value["processes"]) == 2
    assert min(value["processes"]) <= value["value"] <= max(value["processes"])
    assert told["environment"]["library"] == record.environment["version"]
    assert told["cell"] == "mlp-fake on fake GPU"
    assert record.seconds["measure"] > 0
    journal = Path(told["journal"]) / "alone" / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [line["nbytes"]["host memory"] > 0 for line in lines if line["kind"] == "process"] == [True, True]


def test_an_honest_night_passes(accepted: Path, nights: Nights) -> None:
    assert accepted.is_file()
    found = ruling(nights())
    assert (found["verdict"], found["held"]) == ("passed", True)
    assert found["said"] in ("PASS", "HOST_CHANGED")
    assert not found["fails"]


@pytest.fixture
def elsewhere(accepted: Path) -> tuple[str, str]:
    """Names an interpreter for the plans of the baseline: what has a fault is another version."""
    (baseline,) = read(accepted).active.values()
    return "--trt-installation", f"{baseline.environment['library']}={sys.executable}"


@pytest.fixture
def beside(elsewhere: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The same, where it does not matter that its processes are the interpreter's: they are played in this one."""
    monkeypatch.setattr(Settings, "under", lambda settings, _: settings)
    return elsewhere


def test_a_slower_library_fails_beside_the_old_plan(nights: Nights, elsewhere: tuple[str, str]) -> None:
    """Which the interpreter of its installation runs."""
    found = ruling(nights("slower=20", *elsewhere))
    assert found["verdict"] == "failed"
    assert (found["said"], found["question"], found["fails"]) == ("REGRESSION", "installation", True)
    assert 18 < found["change_percent"] < 22
    assert "beside the baseline's plan" in found["words"]
    assert found["words"] in found["message"]
    (stayed,) = found["stayed"]  # what another built is as fast as ever
    assert (stayed["said"], stayed["question"], stayed["held"]) == ("PASS", "environment", True)


def test_builders_are_told_apart_by_three_builds_an_arm(
    project: pytest.Pytester, nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "under", lambda settings, _: settings)
    three = "--trt-perf-builds=3"
    records = [record for _ in range(2) for record in nights("", three)]
    assert [len(record.facts["perf"]["plans"]) for record in records] == [3, 3]
    (baseline,) = read(accept(project.path / "trt-baselines.toml", records)).active.values()
    assert len(baseline.plans) == 3
    found = ruling(
        nights("slower=20", three, "--trt-installation", f"{baseline.environment['library']}={sys.executable}")
    )
    assert (found["verdict"], found["said"], found["question"]) == ("failed", "REGRESSION", "installation")
    few = ruling(nights("slower=20", "--trt-installation", f"{baseline.environment['library']}={sys.executable}"))
    assert few["said"] == "INCONCLUSIVE"
    assert "3 and 1 builds" in few["words"]


def test_screening_fails_nothing(nights: Nights, beside: tuple[str, str]) -> None:
    found = ruling(nights("slower=20", *beside, perf="screen"))
    assert (found["verdict"], found["said"]) == ("passed", "INCONCLUSIVE")
    assert "suspected" in found["words"]


def test_without_its_installation_history_alone_is_said(accepted: Path, nights: Nights) -> None:
    (baseline,) = read(accepted).active.values()
    found = ruling(nights("slower=20"))
    assert (found["verdict"], found["said"]) == ("passed", "INCONCLUSIVE")
    assert f"--trt-installation {baseline.environment['library']}=PYTHON" in found["words"]
    assert "2 sessions of 1 day are too few" in found["words"]


@pytest.mark.parametrize("owner", ["", "ada"])
def test_a_quarantined_cell_fails_nothing(accepted: Path, nights: Nights, owner: str) -> None:
    """By a history that is long enough to decide alone."""
    held = read(accepted)
    (baseline,) = held.active.values()
    metrics = {name: dataclasses.replace(known, values=known.values * 3) for name, known in baseline.metrics.items()}
    why = Quarantine("mlp-*", owner, "two kernels take turns", datetime.date.today())
    held = held.with_accepted(dataclasses.replace(baseline, metrics=metrics, days=6))
    write(accepted, dataclasses.replace(held, quarantines=(why,) if owner else ()))
    found = ruling(nights("slower=20"))
    assert found["said"] == "REGRESSION"
    assert found["verdict"] == ("passed" if owner else "failed")
    assert (owner in found["excuse"]) if owner else not found["excuse"]


def test_a_canary_that_moved_voids_history(accepted: Path, nights: Nights) -> None:
    """As in a history that is long enough to decide alone, and would."""
    held = read(accepted)
    (baseline,) = held.active.values()
    long = dataclasses.replace(
        baseline,
        days=6,
        metrics={name: dataclasses.replace(known, values=known.values * 3) for name, known in baseline.metrics.items()},
    )
    still = Known("s", (1e-3, 1.0001e-3, 0.9999e-3), 0.0005, 0.01)
    canary = dataclasses.replace(long, key="c", cell="canary", metrics={"gpu, graph": still})
    write(accepted, held.with_accepted(long).with_accepted(canary))
    file = accepted.with_name("canaries.json")
    canaries.write(file, [canaries.Canary("compute", "c", "gpu, graph", (1.03e-3, 1.0301e-3, 1.0299e-3))])
    found = ruling(nights("slower=20", f"--trt-canaries={file}"))
    assert (found["verdict"], found["said"]) == ("passed", "HOST_CHANGED")
    assert "canary compute: slower by 3.0 %" in found["words"]


def test_a_canary_that_got_faster_has_another_plan_measured(
    accepted: Path, nights: Nights, beside: tuple[str, str]
) -> None:
    """It is as fast as in a history that is long enough to pass it, and has not gained what the host did."""
    held = read(accepted)
    (baseline,) = held.active.values()
    metrics = {name: dataclasses.replace(known, values=known.values * 3) for name, known in baseline.metrics.items()}
    still = Known("s", (1e-3, 1.0001e-3, 0.9999e-3), 0.0005, 0.01)
    canary = dataclasses.replace(baseline, key="c", cell="canary", metrics={"gpu, graph": still})
    write(accepted, held.with_accepted(dataclasses.replace(baseline, metrics=metrics, days=6)).with_accepted(canary))
    file = accepted.with_name("canaries.json")
    canaries.write(file, [canaries.Canary("compute", "c", "gpu, graph", (0.9e-3, 0.9001e-3, 0.8999e-3))])
    found = ruling(nights("slower=0", *beside, f"--trt-canaries={file}"))
    assert found["verdict"] == "passed"
    assert "beside the baseline's plan" in found["words"]


@pytest.mark.parametrize(("cell", "days", "holds"), [("mlp-*", 0, True), ("mlp-*", -1, False), ("bert*", 0, False)])
def test_a_quarantine_ends_and_is_of_some_cells(cell: str, days: int, holds: bool) -> None:
    until = datetime.date.today() + datetime.timedelta(days)
    baselines = Baselines(DEFAULTS, quarantines=(Quarantine(cell, "ada", "why", until),))
    assert bool(quarantine(baselines, "mlp-fake on fake GPU")) is holds


def test_a_kept_plan_that_was_changed_is_not_loaded(
    project: pytest.Pytester, nights: Nights, beside: tuple[str, str]
) -> None:
    (plan,) = (project.path / ".trt-harness" / "plans").iterdir()
    plan.write_bytes(plan.read_bytes()[:-1] + b"x")
    found = ruling(nights("slower=20", *beside))
    assert found["said"] == "INCONCLUSIVE"
    assert "not the plan that was kept" in found["words"]


def test_only_the_metrics_that_are_asked_for(nights: Nights) -> None:
    (record,) = nights("", "--trt-perf-metrics=gpu, graph")
    assert record.verdict == "not_covered"  # a comma tells names apart: neither is one
    (record,) = nights("", "--trt-perf-metrics=*graph")
    journal = Path(record.facts["perf"]["journal"]) / "alone" / "journal.jsonl"
    processes = [json.loads(line) for line in journal.read_text().splitlines()]
    made = [one for one in processes if one["kind"] == "process"]
    assert {way for one in made for way in one["samples"]} == {"graph"}
    assert all(one["missing"]["shape switch"] == "not asked for" for one in made)


def test_what_cant_be_run_fails_as_it_would_anywhere(nights: Nights) -> None:
    (record,) = nights("crash_run@mlp", hosts=True)
    assert record.verdict == "failed"
    assert record.stage == "run"


def test_a_metric_that_is_not_measured_is_not_covered(project: pytest.Pytester, nights: Nights) -> None:
    project.makepyfile(test_it=TEST.replace('"gpu, graph"', '"throughput"'))
    (record,) = nights()
    assert record.verdict == "not_covered"


def test_beside_other_workers_on_a_cpu_it_is_not_covered(project: pytest.Pytester) -> None:
    project.makepyfile(TEST)
    output = project.path / "out"
    given = ["--trt-perf=screen", "--trt-backend=onnxruntime", f"--trt-output={output}"]
    project.runpytest_inprocess("-n", "1", *given)
    (run,) = output.iterdir()
    (record,) = read_run(run).records
    assert record.verdict == "not_covered"
    assert "-n 0" in record.fix


def test_a_file_of_baselines_that_is_wrong_is_named(project: pytest.Pytester, nights: Nights) -> None:
    (project.path / "trt-baselines.toml").write_text("schema = 7")
    (record,) = nights()
    assert record.verdict == "failed"
    assert "trt-baselines.toml: schema: expected 1" in record.message


def test_a_build_is_of_the_night_that_made_it(project: pytest.Pytester, nights: Nights) -> None:
    """What lies in the cache was counted when it was built."""
    project.makepyfile(test_it=TEST.replace('"gpu, graph"', '"build"'))
    cache = f"--trt-cache={project.path / 'cache'}"
    (built,), (cached,) = nights("", cache), nights("", cache)
    assert built.facts["perf"]["values"]["build"]["value"] > 0
    assert cached.verdict == "not_covered"


def test_two_tests_of_an_engine_share_what_was_measured(project: pytest.Pytester, nights: Nights) -> None:
    size = TEST.replace("test_runs", "test_size").replace('"gpu, graph"', '"plan size"')
    project.makepyfile(test_it=TEST + size.partition("import pytest")[2])
    runs, plan_size = nights("", "--trt-perf-metrics=*")
    assert runs.facts["perf"]["journal"] == plan_size.facts["perf"]["journal"]
    journal = Path(runs.facts["perf"]["journal"]) / "alone" / "journal.jsonl"
    kinds = [json.loads(line)["kind"] for line in journal.read_text().splitlines()]
    assert kinds.count("process") == 2
    assert set(histories([runs, plan_size]).popitem()[1].seen[0].values) == {"gpu, graph", "plan size"}


def test_default_policies_are_those_of_no_file(tmp_path: Path) -> None:
    assert read(tmp_path / "none.toml") == Baselines(DEFAULTS)


def test_what_a_cell_is_held_against_is_kept_on(tmp_path: Path) -> None:
    """However old the baseline is, and whether anything of it is measured tonight or not."""
    kept = Kept(tmp_path)
    active, release, other = (kept.put(np.full(9, content, np.uint8)) for content in (1, 2, 3))
    for name in (active, release, other):
        os.utime(kept.path(name), (0, 0))
    made = [Baseline("k", "mlp", (name,), ("a", "b"), {}) for name in (active, release)]
    held = Baselines(DEFAULTS, {"k": made[0]}, {"k": made[1]})
    seen = Tonight("k", "mlp", "s", ("p",), {}, {"gpu, graph": np.ones(2)})
    gate = SimpleNamespace(rule=lambda *_: [])
    Night(SimpleNamespace(kept=kept), seen, {}, gate, held, tmp_path).ruled(["gpu, graph"], {})  # type: ignore[arg-type]  # played
    assert {file.stem for file in kept.aged(1.0)} == {other}


def test_a_candidate_that_fails_when_it_is_measured_again(tmp_path: Path) -> None:
    """It is its failure, and none of the project's."""

    def rule(*_: Any) -> None:
        raise SideFailed(SimpleNamespace(name="B"), RunError("signal 11"))  # type: ignore[arg-type]

    seen = Tonight("k", "mlp", "s", ("p",), {}, {"gpu, graph": np.ones(2)})
    night = Night(None, seen, {}, SimpleNamespace(rule=rule), Baselines(DEFAULTS), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="signal 11"):
        night.ruled(["gpu, graph"], {})


@pytest.mark.usefixtures("accepted")
def test_what_can_not_be_measured_any_more_fails(nights: Nights) -> None:
    """Its engines can't be captured as a graph, and by a graph is how the baseline was measured."""
    found = ruling(nights("uncapturable"))
    assert (found["verdict"], found["said"], found["held"]) == ("failed", "FAILED", True)
    assert "the baseline has it, and tonight it can't be measured: " in found["words"]
