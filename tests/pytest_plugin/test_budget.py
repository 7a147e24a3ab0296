"""Short nights: what they measure first, and that they come round to everything."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from harness.ledger.baseline_file import read
from harness.ledger.batch import write
from harness.ledger.change_states import kept
from harness.ledger.records import Record, read_run
from harness.ledger.store import PATIENCE, Store, store_in
from harness.pytest_plugin import budget, storing
from harness.runtime.backend.fake import FAULT_VARIABLE
from harness.settings import Settings
from tests.ledger.stored import batch, change_point
from tests.pytest_plugin.test_perf import METRICS, accept, asked

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.runs
MODELS = ("mlp", "conv", "depthwise")
TEST = f"""
import pytest

@pytest.mark.trt(models={list(MODELS)}, over=("model", "backend"))
def test_runs(trt_perf):
    trt_perf(lambda quantity: quantity.name == "gpu, graph")
"""
BESIDE = f"""
@pytest.mark.trt(models={list(MODELS)}, over=("model", "backend"))
def test_something_else(trt_session): ...
"""
SEVERAL = ("-n2", "--trt-backend=fake", "--trt-perf=screen", "--trt-store=store.sqlite", "--trt-budget=9h")
COUNTED = """
import os
from harness.ledger import store

class Counted(store.Store):
    def __init__(self, *given, create=True, **more):
        if not create:
            with open("asked", "a") as file:
                file.write(os.environ.get("PYTEST_XDIST_WORKER", "main") + "\\n")
        super().__init__(*given, create=create, **more)

store.Store = Counted
"""
MEANWHILE = """
import os
from harness.ledger.worth import Worth

by = Worth.by.__func__

def other(cls, store, baselines):
    process = os.environ.get("PYTEST_XDIST_WORKER", "")
    last = {"gw0": {"mlp-fake": 1.0}, "gw1": {"conv-fake": 1.0}}.get(process, {})
    return Worth(last=last) if last else by(cls, store, baselines)

Worth.by = classmethod(other)
"""
Night = Callable[..., list[Record]]


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the test that runs it may be one's."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def night(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Night:
    """Nights in which every cell takes an hour."""
    request.getfixturevalue("played_time")
    monkeypatch.setenv(METRICS, "gpu*graph")
    project.makepyfile(test_it=TEST)
    with Store(project.path / "any.sqlite"):  # a database's modules can't be forgotten and imported again
        pass

    def once(*options: str, hours: float | None = None, stored: bool = True) -> list[Record]:
        begun = iter(range(100))
        monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * next(begun)))
        given = ["--trt-store=store.sqlite"] * stored + ([] if hours is None else [f"--trt-budget={60 * hours:.0f}m"])
        output = project.path / f"night-{len(list(project.path.glob('night-*')))}"
        printed = project.runpytest_inprocess(*asked(output, "--trt-perf=gate", *given, *options)).stdout.str()
        (project.path / "printed").write_text(printed)
        return [record for run in output.iterdir() for record in read_run(run).records]

    return once


def measured(records: list[Record]) -> list[str]:
    """Models, in the order in which they were measured."""
    assert {record.verdict for record in records} <= {"passed", "failed", "not_covered"}
    return [record.cell.model for record in records if record.verdict != "not_covered"]


@pytest.mark.parametrize("beside", ["", BESIDE])
def test_three_nights_with_time_for_a_third_each_measure_all(
    project: pytest.Pytester, night: Night, beside: str
) -> None:
    """What measures nothing goes with its engine, and does not bring it forward."""
    project.makepyfile(test_it=TEST + beside)
    found = [measured(night(hours=0.5)) for _ in range(3)]
    assert sorted(found) == sorted([name] for name in MODELS)
    assert measured(night(hours=0.5)) == found[0], "and begin anew with what was measured longest ago"


def test_what_has_a_baseline_leaves_the_rest_its_place(project: pytest.Pytester, night: Night) -> None:
    """Two of three have one, and a night has time for two; what nothing is held to was measured last."""
    records = [record for _ in range(2) for record in night()]
    *held, other = measured(records)[:3]
    accept(project.path / "trt-baselines.toml", [one for one in records if one.cell.model in held])
    found = [measured(night(hours=1.5)) for _ in range(3)]
    assert all(len(names) == 2 for names in found)
    assert {name for names in found for name in names} == {*held, other}


def test_a_cell_that_fails_before_it_measures_is_not_the_first_of_every_night(
    project: pytest.Pytester, night: Night
) -> None:
    broken = "def test_runs(trt_cell, trt_perf):\n    assert trt_cell.model != 'mlp'"
    project.makepyfile(test_it=TEST.replace("def test_runs(trt_perf):", broken))
    found = [measured(night(hours=0.5)) for _ in range(3)]
    assert sorted(found) == sorted([name] for name in MODELS)


def test_without_a_store_the_order_is_that_of_every_run(night: Night) -> None:
    everything = measured(night(stored=False))
    assert sorted(everything) == sorted(MODELS)
    assert [measured(night(hours=hours, stored=False)) for hours in (0.5, 0.5, 1.5)] == [
        everything[:1],
        everything[:1],
        everything[:2],
    ]


@pytest.fixture
def settled(project: pytest.Pytester, night: Night) -> str:
    """A model with a change point, the last that is measured; baselines of all were accepted after two nights."""
    records = [record for _ in range(2) for record in night()]
    accept(project.path / "trt-baselines.toml", records)
    last = measured(records)[2]
    with Store(project.path / "store.sqlite") as store:
        change_point(store, f"{last}-", 0.03)
    return last


def standing(project: pytest.Pytester) -> str:
    with Store(project.path / "store.sqlite", create=False) as store:
        (found,) = kept(store)
    return found.standing


@pytest.fixture
def another_library(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[str, ...]]:
    """What is the same by another library, or a fault of it; options that have the baselines' plans run beside it."""

    def faulty(fault: str) -> tuple[str, ...]:
        monkeypatch.setenv(FAULT_VARIABLE, fault)
        monkeypatch.setattr(Settings, "under", lambda settings, _: settings)
        one, *_ = read(project.path / "trt-baselines.toml").active.values()
        return "--trt-installation", f"{one.environment['library']}={sys.executable}"

    return faulty


def test_a_cell_with_a_change_point_is_measured_first_and_compared_afresh(
    project: pytest.Pytester, night: Night, settled: str, another_library: Callable[[str], tuple[str, ...]]
) -> None:
    """A night that has time for one cell alone: it is confirmed, and the next passes it."""
    beside = another_library("slower=3")
    (record,) = [one for one in night(*beside, hours=0.5) if one.verdict != "not_covered"]
    assert (record.cell.model, record.verdict) == (settled, "failed")
    printed = (project.path / "printed").read_text()
    assert "its change point is in the store: to repeat that, too, add --trt-store " in printed
    words = record.facts["perf"]["rulings"][0]["words"]
    assert "beside the baseline's plan" in words
    assert words.endswith("slower by 3.0 % (2.9 to 3.1), commits c1..c2: confirmed")
    failed = record.run
    assert standing(project) == f"confirmed by {failed}"
    beside = another_library("slower=0")
    (record,) = [one for one in night(*beside, hours=0.5) if one.verdict != "not_covered"]
    assert (record.cell.model, record.verdict) == (settled, "passed")
    assert "beside the baseline's plan" in record.facts["perf"]["rulings"][0]["words"]
    one_more = f"({record.run} passed: one more night's pass clears it)"
    assert standing(project) == f"confirmed by {failed} {one_more}"


@pytest.mark.parametrize("content", ["", "no database"])
def test_a_store_that_cant_be_read_fails_no_cell_and_is_said_once(
    project: pytest.Pytester, night: Night, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """One that is not there yet is nothing to speak of. One that can't be read is waited for once, and not for long."""
    waited: list[float] = []

    def opened(*given: Any, create: bool = True, patience: float = PATIENCE) -> Store:
        waited.extend([] if create else [patience])
        return opens(*given, create=create, patience=patience)

    opens = store_in
    monkeypatch.setattr("harness.ledger.store.store_in", opened)
    if content:
        (project.path / "store.sqlite").write_text(1000 * content)
    assert [record.verdict for record in night(hours=9)] == ["passed"] * 3
    said = [line for line in (project.path / "printed").read_text().splitlines() if " is not known: " in line]
    assert [line.partition(" is not known: ")[0] for line in said] == (
        ["what is worth most", "which change points are open"] if content else []
    )
    assert all("store.sqlite: it is no SQLite database" in line for line in said)
    assert waited == [storing.PATIENCE] * (1 if content else 2)
    assert storing.PATIENCE <= PATIENCE / 10


def test_of_several_processes_one_asks_and_it_is_said_once(project: pytest.Pytester) -> None:
    """The controller: workers that it starts ask no more, for whatever."""
    project.makepyfile(test_it=TEST)
    project.makeconftest(COUNTED)
    (project.path / "store.sqlite").write_text("no database")
    printed = project.runpytest_subprocess(*SEVERAL).stdout.str()
    assert printed.count("what is worth most is not known: ") == 1
    assert (project.path / "asked").read_text().split() == ["main"]


def test_of_several_processes_all_have_the_order_of_one_moment(project: pytest.Pytester) -> None:
    """Though something is stored while they collect: xdist runs nothing where their orders differ."""
    project.makepyfile(test_it=TEST)
    with Store(project.path / "store.sqlite") as store:
        write(store, batch())
    project.makeconftest(MEANWHILE)
    printed = project.runpytest_subprocess(*SEVERAL).stdout.str()
    assert "3 cells: 3 not covered" in printed, "beside other workers none is measured"
    assert "Different tests were collected" not in printed
