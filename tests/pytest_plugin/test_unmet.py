"""Accepted baselines that no cell of a run met: which are named, why, and which are within what the run was to do."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import StoreError, UnsupportedError
from harness.ledger import ended, history
from harness.ledger.baseline_file import write
from harness.ledger.baselines import Baseline, Baselines, Known, Quarantine
from harness.ledger.policy import DEFAULTS
from harness.ledger.records import PERF, Record, read_run
from harness.ledger.store import Store
from harness.ledger.unmet import Unmet, outside
from harness.pytest_plugin.cells import in_shard
from harness.pytest_plugin.unmet import ASKED, BACKEND, DEVICE, KNOWN, QUARANTINED, REPLACED, TIME, WHERE
from harness.runtime.backend.fake import FAULT_VARIABLE
from harness.runtime.fingerprint import environment
from harness.runtime.machine import machine
from harness.settings import Shard

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.runs
TEST = """
import pytest

@pytest.mark.trt(models=["mlp", "depthwise"], over=("model", "backend"))
def test_runs(trt_perf):
    trt_perf(lambda quantity: quantity.name == "gpu, graph")

@pytest.mark.trt(models="*", over=("model", "backend"))
def test_other(trt_cell):
    pass
"""
GPU = "fake GPU"
MLP, DEPTHWISE = f"mlp-fake on {GPU}", f"depthwise-fake on {GPU}"
GONE = f"gone-fake on {GPU}"
UNTESTED = f"attention_9-fake on {GPU}"  # of a model that no test of performance takes
NO_MODEL, NO_TEST = "there is no model gone any more", "no test makes this cell any more"
ANOTHER = "another model of that name was measured"
Told = Sequence[tuple[str, str, bool]]


def baseline(cell: str, key: str = "", **facts: str) -> Baseline:
    known = Known("s", (1e-3, 1.001e-3), 0.001, 0.01)
    at = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    environment = {"backend": "fake", **facts}
    return Baseline(
        key or f"key of {cell}", cell, ("p",), ("s1", "s2"), {"gpu, graph": known}, environment, "why", "ada", at
    )


class Runs:
    """In a project with the tests above, on the fake backend."""

    def __init__(self, project: pytest.Pytester) -> None:
        self.folder, self._project, self._count, self.backend = project.path, project, 0, "fake"

    def hold(self, *baselines: Baseline) -> None:
        write(self.folder / "trt-baselines.toml", Baselines(DEFAULTS, {one.key: one for one in baselines}))

    def __call__(self, *options: str, perf: str = "screen", workers: Sequence[str] = ("-p", "no:xdist")) -> Told:
        self._count += 1
        few = ("--trt-perf-seconds=0.1", "--trt-perf-processes=1", "--trt-perf-builds=1", "--trt-in-process")
        output = (
            "--trt-output=out",
            f"--trt-run=run-{self._count}",
            f"--trt-perf={perf}",
            f"--trt-backend={self.backend}",
        )
        self.done = self._project.runpytest_inprocess(*workers, *few, *output, *options)
        ends = ended.noted(self.last)
        return [(one["cell"], one["why"], one["within"]) for one in ends[-1].unmet] if ends else []

    @property
    def last(self) -> Path:
        return self.folder / "out" / f"run-{self._count}"

    @property
    def records(self) -> list[Record]:
        return [record for record in read_run(self.last).records if record.facts.get(PERF)]

    def keys(self) -> dict[str, str]:
        return {record.facts[PERF]["cell"]: record.facts[PERF]["key"] for record in self.records}


@pytest.fixture
def run(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Runs:
    request.getfixturevalue("played_time")
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRT_HARNESS_PERF_METRICS", "gpu*graph")
    project.makepyfile(test_it=TEST)
    return Runs(project)


def likened(told: Told, expected: Told) -> None:
    assert [(cell, within) for cell, _, within in told] == [(cell, within) for cell, _, within in expected]
    for (_, why, _), (_, words, _) in zip(told, expected, strict=True):
        assert why.startswith(words)


def test_what_was_met_is_not_told_and_the_rest_is_by_its_reason(run: Runs) -> None:
    """Also of a cell whose model has another name by now: its key is the same."""
    run()
    keys = run.keys()
    run.hold(
        baseline(MLP, keys[MLP]),
        baseline(f"dw-fake on {GPU}", keys[DEPTHWISE]),
        baseline(MLP, "of an older file"),
        baseline(DEPTHWISE, "of another file"),
        baseline(GONE),
        baseline(UNTESTED),
        baseline("mlp-fake on NVIDIA H200, 700 W"),
        baseline(f"mlp-fp16-opt-tensorrt on {GPU}", backend="tensorrt"),
        baseline(f"mlp-fp16-opt-rtx on {GPU}", backend=""),
    )
    told = run()
    likened(
        told,
        [
            (UNTESTED, NO_TEST, True),
            (DEPTHWISE, ANOTHER, True),
            (GONE, NO_MODEL, True),
            ("mlp-fake on NVIDIA H200, 700 W", DEVICE, False),
            (MLP, REPLACED, False),
            (f"mlp-fp16-opt-rtx on {GPU}", BACKEND, False),
            (f"mlp-fp16-opt-tensorrt on {GPU}", BACKEND, False),
        ],
    )
    assert run.done.ret == 0
    words = f"baselines that nothing met: 3: {UNTESTED}; {DEPTHWISE}; {GONE}"
    assert run.done.stdout.lines.count(words) == 1
    run.hold(baseline(MLP, keys[MLP]))
    assert run() == []
    assert "baselines that nothing met" not in run.done.stdout.str()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [(GONE, NO_MODEL, True)]),
        (("--trt-model=mlp,depthwise",), [(GONE, ASKED, False)]),
        (("--trt-model=mlp",), [(DEPTHWISE, ASKED, False), (GONE, ASKED, False)]),
        (("-k", "mlp"), [(DEPTHWISE, ASKED, False), (GONE, ASKED, False)]),
        (("test_it.py::test_runs",), [(GONE, ASKED, False)]),
        (("--trt-budget=0",), [(DEPTHWISE, TIME, True), (GONE, NO_MODEL, True), (MLP, TIME, True)]),
        (("--trt-perf-metrics=plan-size",), [(DEPTHWISE, ASKED, False), (GONE, ASKED, False), (MLP, ASKED, False)]),
        (("-x", "-k", "nothing"), []),
    ],
)
def test_what_was_not_asked_for_is_not_within(run: Runs, options: tuple[str, ...], expected: Told) -> None:
    run()
    keys = run.keys()
    run.hold(baseline(MLP, keys[MLP]), baseline(DEPTHWISE, keys[DEPTHWISE]), baseline(GONE))
    likened(run(*options), expected)


def test_what_there_was_no_time_for_opens_a_night_that_met_no_baseline_alone(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate that had time for some is told as that; one that had none passed nothing."""
    run()
    keys = run.keys()
    run.hold(baseline(MLP, keys[MLP]), baseline(DEPTHWISE, keys[DEPTHWISE]))
    left = iter([True])

    def require(_: object) -> None:
        if not next(left, False):
            raise UnsupportedError("budget", "not run", "a longer --budget")

    monkeypatch.setattr("harness.pytest_plugin.budget.require", require)
    (one,) = run("--trt-budget=9999")
    assert one[1:] == (TIME, False)
    assert sorted(run("--trt-budget=9999")) == [(DEPTHWISE, TIME, True), (MLP, TIME, True)]


TAKES = """
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if {kept}]
"""


@pytest.mark.parametrize(
    ("kept", "why", "within"), [("'mlp' in item.name", ASKED, False), ("True", NO_TEST, True)], ids=["taken", "kept"]
)
def test_what_a_conftest_takes_out_is_not_within(run: Runs, kept: str, why: str, within: bool) -> None:
    """Also where it tells nobody. One that only looks at tests, or sorts them, keeps nothing from being named."""
    run.hold(baseline(UNTESTED))
    (run.folder / "conftest.py").write_text(TAKES.format(kept=kept))
    for workers in (("-p", "no:xdist"), ("-p", "xdist", "-n", "1")):
        likened(run(workers=workers), [(UNTESTED, why, within)])


def test_what_is_in_quarantine_is_not_within(run: Runs) -> None:
    today = datetime.date.today()
    excuses = {GONE: today, UNTESTED: today - datetime.timedelta(1)}  # the other's is over
    held = {cell: baseline(cell) for cell in excuses}
    quarantines = tuple(Quarantine(cell, "ada", "noise", until) for cell, until in excuses.items())
    write(run.folder / "trt-baselines.toml", Baselines(DEFAULTS, held, quarantines=quarantines))
    likened(run(), [(UNTESTED, NO_TEST, True), (GONE, QUARANTINED, False)])


def test_of_shards_the_one_that_had_it_is_told(run: Runs) -> None:
    run()
    run.hold(baseline(MLP, run.keys()[MLP]), baseline(GONE))
    for number in (1, 2, 3):
        mlp, gone = (in_shard(model, "", "fake", Shard(number, 3)) for model in ("mlp", "gone"))
        missing = [] if mlp else [(MLP, ASKED, False)]
        likened(run(f"--trt-shard={number}/3"), [(GONE, NO_MODEL if gone else ASKED, gone), *missing])


def test_by_precision_and_point(run: Runs) -> None:
    (run.folder / "test_it.py").write_text(TEST.replace('over=("model", "backend")', "precisions='fp32', points='opt'"))
    cells = [f"mlp-{precision}-{point}-fake on {GPU}" for precision in ("fp16", "fp32") for point in ("max", "opt")]
    run.hold(*map(baseline, cells))
    told = run("--trt-precision=fp32", "--trt-point=opt", "--trt-model=mlp")
    likened(told, [(cells[3], ANOTHER, True), *((cell, ASKED, False) for cell in cells[:3])])
    told = run("--trt-precision=fp16,fp32", "--trt-point=opt,max", "--trt-model=mlp")
    assert [within for _, _, within in told] == [True] * 4


def test_a_gpu_that_is_another_device_now_is_within(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with another power limit: the machine is the same, and its cells were to be measured."""
    monkeypatch.setattr(
        "harness.pytest_plugin.run.environment", lambda probe: {**environment(probe), "gpu_uuid": "GPU-1"}
    )
    before = baseline("mlp-fake on fake GPU, 700 W", gpu_uuid="GPU-1")
    run.hold(before, baseline("mlp-fake on fake GPU, 600 W", gpu_uuid="GPU-2"))
    other = ("mlp-fake on fake GPU, 600 W", DEVICE, False)
    likened(run(), [(before.cell, "its GPU is another device now: fake GPU", True), other])
    key = run.keys()[MLP]
    likened(run("--trt-model=depthwise"), [other, (before.cell, "its GPU is another device now", False)])
    run.hold(before, baseline(MLP, key))
    likened(run(), [(before.cell, DEVICE, False)])


def test_a_gpu_that_is_lost_overnight_is_within(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its backend tells of no GPU any more: the baseline is of this host all the same. One of another host is not."""
    here, there = machine()["host"], "another host"
    run.hold(baseline(MLP, host=here), baseline(DEPTHWISE, host=there), baseline(GONE, host=here))
    monkeypatch.setenv(FAULT_VARIABLE, "needs_gpu")
    lacking = (MLP, "not covered: fake run: needs-gpu", True)
    likened(run(), [(GONE, NO_MODEL, True), lacking, (DEPTHWISE, DEVICE, False)])
    likened(run("--trt-model=depthwise"), [(DEPTHWISE, DEVICE, False), (GONE, ASKED, False), (MLP, ASKED, False)])
    monkeypatch.delenv(FAULT_VARIABLE)
    run.hold(baseline("mlp-fake on another GPU", host=here))
    likened(run(), [("mlp-fake on another GPU", DEVICE, False)])


def test_what_best_came_to_instead_of_a_backend_that_is_lost_is_within(
    run: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not what a better one has taken over, and nothing of another host."""
    here = {"host": machine()["host"], "backend": "tensorrt"}
    lost = baseline("mlp-tensorrt on NVIDIA H200, 700 W", **here)
    elsewhere = baseline("depthwise-tensorrt on NVIDIA H200, 700 W", **{**here, "host": "another"})
    run.hold(lost, elsewhere)
    outside = (elsewhere.cell, DEVICE, False)
    words = "not covered by tensorrt, best came to onnxruntime: "
    run.backend = "best"
    told = run()
    likened(told, [(lost.cell, words, True), outside])
    assert told[0][1].removeprefix(words) not in ("", "it does not cover this cell any more")
    likened(run("--trt-model=depthwise"), [outside, (lost.cell, ASKED, False)])
    monkeypatch.setattr("harness.pytest_plugin.unmet.BACKENDS", ("onnxruntime", "tensorrt"))
    likened(run(), [outside, (lost.cell, BACKEND, False)])


def test_what_is_not_covered_is_within(run: Runs) -> None:
    """Told by several processes, of which none measures on a CPU that others work on."""
    run.hold(baseline(MLP), baseline(GONE))
    two, lacking = ("-p", "xdist", "-n", "2"), (MLP, "not covered: measure: other workers compute beside it", True)
    likened(run(workers=two), [(GONE, NO_MODEL, True), lacking])
    likened(run("-k", "mlp", workers=two), [lacking, (GONE, ASKED, False)])


def test_what_failed_is_told_as_that(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run.hold(baseline(MLP))
    monkeypatch.setenv(FAULT_VARIABLE, "enqueue_false@mlp")
    assert run() == []
    assert run.done.ret == 1
    entry = '[[failure]]\nmodel = "mlp"\nstage = "run"\nmessage = "enqueue"\n'
    entry += 'cause = "c"\nowner = "ada"\nexpires = 2099-12-31\n'
    (run.folder / "expectations").mkdir()
    (run.folder / "expectations" / "fake.toml").write_text(entry)
    likened(run(), [(MLP, KNOWN, False)])


def test_a_run_that_was_stopped_says_nothing(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    run.hold(baseline(DEPTHWISE), baseline(GONE))
    monkeypatch.setenv(FAULT_VARIABLE, "enqueue_false@mlp")
    assert run("-x") == []


def test_where_all_cells_are_gone_they_are_told_all_the_same(run: Runs) -> None:
    text = TEST.partition('@pytest.mark.trt(models="*"')[0].replace('["mlp", "depthwise"]', "lambda _: False")
    (run.folder / "test_it.py").write_text(text)
    run.hold(baseline(MLP), baseline(GONE))
    for workers in (("-p", "no:xdist"), ("-p", "xdist", "-n", "1")):
        likened(run(workers=workers), [(GONE, NO_MODEL, True), (MLP, NO_TEST, True)])
        assert run.done.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    run.hold()
    assert run() == []
    assert "trt-harness: " not in run.done.stdout.str(), "nothing is held: no run of ours"


def test_a_file_of_tests_that_is_not_collected_is_not_within(run: Runs) -> None:
    """As the store knows of the sessions that it rests on; where it does not, all is taken for this run's."""
    run("--trt-store=store.sqlite")
    kept = replace(baseline(DEPTHWISE, run.keys()[DEPTHWISE]), sessions=("s1", "run-1"))
    run.hold(kept, baseline(UNTESTED))
    (run.folder / "test_other.py").write_text(TEST.replace('"depthwise"', '"attention_9"'))
    for options, within in ((("--trt-store=store.sqlite",), False), ((), True)):
        likened(run("test_other.py", *options), [(UNTESTED, ANOTHER, True), (DEPTHWISE, "", within)])
    (run.folder / "test_it.py").unlink()
    likened(run(".", "--trt-store=store.sqlite"), [(UNTESTED, ANOTHER, True), (DEPTHWISE, NO_TEST, True)])


def test_a_test_of_an_installed_package_is_found_by_its_id(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which begins below the package, and not below the root: one of its files is within, one of the root's is not."""
    package = run.folder.parent / f"{run.folder.name}-installed" / "somebodys"
    package.mkdir(parents=True)
    for name, text in {"__init__.py": "", "test_inside.py": TEST}.items():
        (package / name).write_text(text)
    monkeypatch.syspath_prepend(package.parent)
    store = "--trt-store=store.sqlite"
    for module, path in (("somebodys", "test_inside.py"), ("somebodys.test_inside", "")):
        asked = ("--pyargs", module)
        run(*asked, store)
        record = next(one for one in run.records if one.facts[PERF]["cell"] == DEPTHWISE)
        assert record.node.partition("::")[0] == path
        kept = replace(baseline(DEPTHWISE, record.facts[PERF]["key"]), sessions=(run.last.name,))
        run.hold(kept)
        (package / "test_inside.py").write_text(TEST.replace('"depthwise"', '"attention_9"'))
        likened(run(*asked, store), [(DEPTHWISE, NO_TEST, True)])
        (package / "test_inside.py").write_text(TEST)
    (package / "test_inside.py").unlink()
    (package / "test_another.py").write_text(TEST.replace('"depthwise"', '"attention_9"'))
    likened(run("--pyargs", "somebodys", store), [(DEPTHWISE, NO_TEST, True)])
    run("test_it.py", store)
    run.hold(replace(kept, sessions=(run.last.name,)))
    likened(run("--pyargs", "somebodys", store), [(DEPTHWISE, ASKED, False)])


def test_a_store_that_does_not_answer_is_asked_once(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """For it is waited for each time. That it was not known where they come from is said."""
    asked: list[str] = []

    def absent(*_: object, **__: object) -> None:
        asked.append(sys._getframe(1).f_globals["__name__"].rpartition(".")[2])
        raise StoreError("its server does not answer")

    run.hold(*(replace(baseline(cell), sessions=("s1", "s2", "s3")) for cell in (UNTESTED, GONE)))
    monkeypatch.setattr("harness.ledger.store.store_in", absent)
    likened(run("--trt-store=store.sqlite"), [(UNTESTED, NO_TEST, True), (GONE, NO_MODEL, True)])
    assert asked.count("unmet") == 1
    assert asked[-1] == "storing"
    assert f"{WHERE} is not known: its server does not answer" in run.done.stdout.str()


def test_what_goes_wrong_about_baselines_costs_no_record(run: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("harness.pytest_plugin.unmet.unmet", broken)
    run("--trt-store=store.sqlite")
    assert run.done.ret == pytest.ExitCode.INTERNAL_ERROR
    with Store(run.folder / "store.sqlite") as store:
        assert [record.node for record in history.records(store, run.last.name) if record.facts.get(PERF)]
    assert ended.noted(run.last)


def test_off_says_nothing(run: Runs) -> None:
    run.hold(baseline(GONE))
    assert run(perf="off") == []


def test_a_file_that_cannot_be_read_is_told_elsewhere(run: Runs) -> None:
    (run.folder / "trt-baselines.toml").write_text("schema = 2")
    assert run() == []
    assert run.done.ret == 1


def test_those_that_are_not_within_are_counted_in_one_line() -> None:
    some = [Unmet("a", DEVICE, False), Unmet("b", ASKED, False), Unmet("c", DEVICE, False), Unmet("d", "gone", True)]
    assert outside(some) == f"3 of what this run was not to do, or tells elsewhere: 2 {DEVICE}, 1 {ASKED}"
    assert outside(some[3:]) == ""
