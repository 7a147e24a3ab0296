"""What `bench` and `compare` leave in their folders, in the store: as often as wanted, beside what nights measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.ledger import history
from harness.ledger.baseline_file import FILE as BASELINES
from harness.ledger.baseline_file import read
from harness.ledger.nights import BESIDE
from harness.ledger.series import courses
from harness.ledger.store import Store
from harness.ledger.worth import Worth
from harness.measure import canary_models, runner
from harness.measure.journal import FILE
from tests.cli.conftest import Result, Trt
from tests.cli.test_nightly import MEASURES, project_in
from tests.ledger import stored

pytestmark = pytest.mark.runs

FEW = ("--in-process", "--seconds", "0.03", "--warmup", "0.4")
CELL = "mlp-fp32-opt-fake on fake GPU"


def bench(trt: Trt, *more: str, output: str = "out") -> Result:
    return trt("bench", "mlp", "--backend", "fake", *FEW, "--processes", "2", *more, "--output", output)


def compare(trt: Trt, *more: str, output: str = "out") -> Result:
    return trt(
        "compare", "mlp", "--backend", "fake", *FEW, "--processes", "4", "--confirm", "8", *more, "--output", output
    )


def ingest(trt: Trt, *folders: str) -> dict[str, Any]:
    done = trt("store", "ingest", *folders, "--json")
    return {"code": done.code, "said": done.err, **done.json}


def opened() -> Store:
    return Store(Path(".trt-harness", "store.sqlite"), create=False)


def values(store: Store, cell: str, metric: str = "gpu, graph") -> dict[str, history.Point]:
    """By session, of the one series that there is."""
    (line,) = history.lines(store, cell, metric)
    return {point.session: point for point in history.points(store, line.key)}


def test_a_bench_is_a_session_once(trt: Trt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_SHA", "c0ffee")
    bench(trt)
    assert trt("store", "ingest", "out").out.startswith("out: 1 sessions, ")
    with opened() as store:
        before = stored.rows(store, numbers=True)
        ((name, at, commit),) = history.sessions(store)
        assert (name.startswith("bench-"), commit) == (True, "c0ffee")
        journal = [json.loads(line) for line in Path("out", FILE).read_text().splitlines()]
        processes = [line for line in journal if line["kind"] == "process"]
        point = values(store, CELL)[name]
        assert point.at == at <= processes[0]["bracket"]["before"]["at"]
        assert (point.processes, len(point.plans), point.environment["library"][:2]) == (2, 1, "1.")
        assert {line.metric for line in history.lines(store)} >= {"plan size", "deserialize", "end to end", "build"}
        assert values(store, CELL, "build")[name].processes == 1, "it was built once"
        assert history.counts(store)["telemetry"] == 2
        assert store.samples is not None
        assert [len(store.samples.get(file.stem)) for file in store.samples.files()] == [2]
        (ran,) = history.runs(store)
        assert (ran.session, ran.code) == (name, 0)
        assert ran.command.startswith("trt-harness bench mlp --backend fake ")
        assert ran.began <= at < ran.ended
        assert ran.counts.keys() == {"PASS", "NOT_COVERED"}
    assert ingest(trt, "out")["runs"]["out"] == {"records": 0, "sessions": 1, "new": 0}
    with opened() as store:
        assert stored.rows(store, numbers=True) == before


def test_more_processes_make_another_session(trt: Trt) -> None:
    """What is stored stays as it is; the same command again, with nothing left to measure, is no session."""
    bench(trt)
    ingest(trt, "out")
    with opened() as store:
        first = values(store, CELL)
    bench(trt)
    assert ingest(trt, "out")["runs"]["out"] == {"records": 0, "sessions": 1, "new": 0}
    bench(trt, "--processes", "5")
    assert ingest(trt, "out")["runs"]["out"]["sessions"] == 2
    with opened() as store:
        both = values(store, CELL)
        assert {name: both[name] for name in first} == first
        assert [both[name].processes for name in both if name not in first] == [3]


def test_what_did_not_come_to_its_end_is_named(trt: Trt, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, count = runner.measured, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return honest(*arguments)

    monkeypatch.setattr(runner, "measured", interrupted)
    assert bench(trt).code == 130
    told = ingest(trt, "out")
    assert told["code"] == 1
    assert told["problems"] == [
        "out: 1 processes of a command that did not come to its end: not stored: "
        "repeat it with --output out, and it goes on"
    ]
    bench(trt)
    assert ingest(trt, "out")["code"] == 0
    with opened() as store:
        assert [point.processes for point in values(store, CELL).values()] == [2]


def test_a_journal_of_nonsense_is_named_and_hides_no_other(trt: Trt, tmp_path: Path) -> None:
    bench(trt)
    for name, line in (("torn", "nonsense"), ("later", '{"kind": "process", "subject": "mlp"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_text(f"{line}\n{Path('out', FILE).read_text()}")
    told = ingest(trt, "torn", "later", "out")
    assert (told["code"], told["runs"]["torn"]["sessions"], told["runs"]["out"]["sessions"]) == (1, 1, 1)
    torn, later = told["problems"]
    assert torn == f"torn/{FILE}:1: not a line of a journal: its writer was killed"
    assert later.startswith("later: what was measured there is not understood: KeyError(")


def test_both_sides_of_a_comparison_and_what_was_said(trt: Trt) -> None:
    """Of one cell, where they differ in options alone: each side has a session, and the verdict is B's."""
    compare(trt, "--b-build-option", "optimization_level=1")
    assert ingest(trt, "out")["code"] == 0
    with opened() as store:
        beside, main = sorted((name for name, _, _ in history.sessions(store)), key=len, reverse=True)
        assert beside == f"{main}/A"
        found = values(store, CELL)
        numbers = {found[name].processes for name in (main, beside)}
        assert numbers in ({4}, {8}, {12}), (
            "as many of either; 4 more for a hint of modes, 8 to confirm a change of chance"
        )
        assert "optimization_level=1" in found[main].environment["options"]
        assert "optimization_level" not in found[beside].environment["options"]
        said = {one.metric: one for one in history.verdicts(store, main)}
        assert {one.question for one in said.values()} == {"compare"}
        assert (said["plan size"].outcome, said["plan size"].estimate) == ("PASS", 0.0)
        assert history.verdicts(store, beside) == []
    assert ingest(trt, "out")["runs"]["out"]["new"] == 0


def test_a_regression_by_hand_is_stored_and_is_no_trouble_of_a_night(trt: Trt) -> None:
    done = compare(trt, "--b-backend", "fake:slower=9", "--json")
    assert done.code == 1
    ingest(trt, "out")
    graph = next(one for one in done.json["findings"] if one["metric"] == "gpu, graph")
    with opened() as store:
        (main,) = (name for name, _, _ in history.sessions(store) if not name.endswith("/A"))
        (said,) = (one for one in history.verdicts(store, main) if one.metric == "gpu, graph")
        assert (said.outcome, said.fails, said.words) == ("REGRESSION", True, graph["words"])
        assert said.estimate == pytest.approx(0.086, abs=0.01)
        assert said.cell == "mlp-fp32-opt-fake:slower=9 on fake GPU"
        assert Worth.by(store, ()).troubled == frozenset()


def test_a_side_that_fails_leaves_the_other(trt: Trt) -> None:
    assert compare(trt, "--b-backend", "fake:deserialize_none").code == 1
    assert ingest(trt, "out")["code"] == 0


@pytest.mark.parametrize(
    ("option", "how"), [(("--cold",), "cold"), (("--streams", "3"), "3 streams"), (("--rebuilds", "2"), "rebuilt")]
)
def test_what_no_night_does_is_a_cell_of_its_own(trt: Trt, option: tuple[str, ...], how: str) -> None:
    more = () if how == "rebuilt" else ("--processes", "2")
    bench(trt, output="usual")
    for output in ("one", "other"):
        bench(trt, *option, *more, output=output)
    ingest(trt, "usual", "one", "other")
    with opened() as store:
        assert len(values(store, CELL)) == 1
        found = values(store, f"mlp-fp32-opt-fake, {how} on fake GPU")
        assert [point.environment["how"] for point in found.values()] == [how] * 2
        assert {len(point.plans) for point in found.values()} == {2 if how == "rebuilt" else 1}
    refused = trt("baseline", "propose", f"*{how}*", "--json").json["refused"]
    assert refused == {f"mlp-fp32-opt-fake, {how} on fake GPU": f"it is measured as no gate measures it: {how}"}


def test_a_baseline_may_rest_on_benches(trt: Trt) -> None:
    """Their plans are kept: else nothing could be measured beside them."""
    for output in ("one", "other"):
        bench(trt, output=output)
        ingest(trt, output)
    with opened() as store:
        (key,) = (line.cell_key for line in history.lines(store, CELL, "plan size"))
        assert all("model" not in point.environment for point in values(store, CELL).values())
        models = {one.model for one in history.histories(store)[key].seen}
    assert trt("baseline", "propose", CELL).code == 0
    assert trt("baseline", "accept", CELL, "--reason", "good").code == 0
    assert {one.model for one in read(Path(BASELINES)).active.values()} == models
    assert [len(model) for model in models] == [64]


def test_canaries_are_series_of_both_sides(trt: Trt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(canary_models.SIDE, "cpu", 8)
    monkeypatch.setitem(canary_models.ROWS, "cpu", 2)
    compare(trt, "--canaries")
    ingest(trt, "out")
    with opened() as store:
        names = {name for name, _, _ in history.sessions(store)}
        canary = values(store, "canary_compute_cpu_full-fp32-opt-fake on fake GPU")
        assert (canary.keys(), {point.processes for point in canary.values()}) == (names, {6})
        assert {line.metric for line in history.lines(store, "canary")} == {"gpu, graph"}
        (course,) = courses(store, history.lines(store, CELL, "gpu, graph"))
        (main,) = (name for name in names if not name.endswith(BESIDE))
        assert [night.canary for night in course.nights] == [canary[main].value], (
            "two sides of one moment are no two nights"
        )
        assert [one.session for one in history.histories(store)[course.line.cell_key].seen] == [main]


def test_a_night_and_a_bench_measure_the_same_series(trt: Trt, tmp_path: Path) -> None:
    bench(trt)
    ingest(trt, "out")
    measures = MEASURES.replace('over=("model", "backend")', "").replace('["mlp", "depthwise"], ', '"mlp"')
    project = project_in(tmp_path, tmp_path / "cache")
    (tmp_path / "test_speed.py").write_text(measures)
    options = ("--trt-backend=fake", "--trt-precision=fp32", "--trt-point=opt", "--trt-perf=screen", "-n", "0")
    command = [sys.executable, "-m", "pytest", "test_speed.py", *options, "--trt-store=.trt-harness/store.sqlite"]
    done = subprocess.run(command, cwd=tmp_path, env=project.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with opened() as store:
        names = [name for name, _, _ in history.sessions(store)]
        assert len(names) == 2
        assert list(values(store, CELL)) == names
