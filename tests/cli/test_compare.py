"""``compare``: every way in which B can be better, worse, wrong, or not to be told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.measure import canary_models, runner
from harness.measure.journal import FILE
from harness.measure.side import Side
from harness.measure.watch import Watch
from tests.cli.conftest import Result, Trt
from tests.interpreters import interpreter
from tests.spec.onnx_files import linear

pytestmark = pytest.mark.runs

PROFILE = ("--profile", "batch=1:2:4")
FEW = ("--processes", "4", "--confirm", "8", "--seconds", "0.03", "--warmup", "0.4")
HERE = ("--in-process", *FEW)
LATENCIES = {"gpu, graph", "gpu, plain", "end to end"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return linear(tmp_path / "a.onnx")


def said(done: Result) -> dict[str, str]:
    return {one["metric"]: one["said"] for one in done.json["findings"]}


def words(done: Result, metric: str) -> str:
    return str(next(one["words"] for one in done.json["findings"] if one["metric"] == metric))


def fake(trt: Trt, model: Path, fault: str, *more: str | Path) -> Result:
    return trt("compare", model, *PROFILE, "--backend", "fake", "--b-backend", f"fake{fault}", *HERE, "--json", *more)


class TestVerdicts:
    def test_alike(self, trt: Trt, model: Path) -> None:
        done = fake(trt, model, "")
        found = said(done)
        assert done.code == done.json["exit_code"] == 0
        assert {found[name] for name in LATENCIES} == {"PASS"}
        assert {found[f"numerics{of}"] for of in (" of A", " of B", ", B against A")} == {"PASS"}
        assert found["layers"] == found["plan size"] == "PASS"
        assert found["host memory"] == found["device memory"] == "NOT_COVERED"
        assert "ran inside this process" in words(done, "host memory")
        assert "asked alike" in done.err

    def test_slower(self, trt: Trt, model: Path) -> None:
        done = fake(trt, model, ":slower=3")
        found = said(done)
        assert done.code == done.json["exit_code"] == 1
        assert {found[name] for name in LATENCIES} == {"REGRESSION"}
        graph = next(one for one in done.json["findings"] if one["metric"] == "gpu, graph")
        assert 2.7 < graph["change_percent"] < 3.3
        low, high = graph["interval_percent"]
        assert 0 < low < graph["change_percent"] < high < 3.6, "sure of its sign, and near to the truth"
        assert graph["b"] / graph["a"] == pytest.approx(1 + graph["change_percent"] / 100, rel=1e-9)
        assert graph["words"].startswith("slower by ")
        assert "smallest visible change" in graph["words"]

    def test_a_slower_shape_switch(self, trt: Trt, model: Path) -> None:
        """Of what takes place once a tenth is tolerated."""
        found = said(fake(trt, model, ":slower=20"))
        assert found["shape switch"] == "REGRESSION"
        assert found["engine memory"] == found["context memory, profile 0"] == found["peak memory"] == "PASS"
        assert found["parse"] == found["energy"] == found["refit"] == "NOT_COVERED"

    def test_faster(self, trt: Trt, model: Path) -> None:
        arguments = ("compare", model, *PROFILE, "--a-backend", "fake:slower=5", "--b-backend", "fake", *HERE, "--json")
        done = trt(*arguments)
        assert done.code == 0
        assert {said(done)[name] for name in LATENCIES} == {"IMPROVEMENT"}

    def test_the_worst_comes_first_in_the_table(self, trt: Trt, model: Path) -> None:
        done = trt("compare", model, *PROFILE, "--backend", "fake", "--b-backend", "fake:slower=3", *HERE)
        lines = [line for line in done.out.splitlines() if line.startswith(" a ") or line.startswith("a ")]
        ranks = ["REGRESSION", "UNSTABLE", "INCONCLUSIVE", "PASS", "IMPROVEMENT", "NOT COVERED"]
        order = [next(word for word in ranks if word in line) for line in lines]
        assert order[0] == "REGRESSION"
        assert order == sorted(order, key=ranks.index)
        assert "3 REGRESSION" in done.out

    @pytest.mark.parametrize(
        ("fault", "outcome", "because"),
        [
            ("slowing", "UNSTABLE", "second half is not like its first"),
            ("clock_drop", "UNSTABLE", "second half is not like its first"),
            ("never_warm", "UNSTABLE", "never became flat"),
            ("wrong_unit", "INCONCLUSIVE", "do not fit into the time that passed"),
            ("shuffled", "INCONCLUSIVE", "out of order"),
        ],
    )
    def test_samples_of_no_use(self, trt: Trt, model: Path, fault: str, outcome: str, because: str) -> None:
        more = ("--warmup", "0.3") if fault == "never_warm" else ()
        done = fake(trt, model, f":{fault}", *more)
        assert done.code == 4
        assert {said(done)[name] for name in LATENCIES} == {outcome}
        assert because in words(done, "gpu, graph")
        assert said(done)["plan size"] == "PASS"  # what else is known stays known

    def test_one_process_in_five_is_slow(self, trt: Trt, model: Path) -> None:
        """Of both sides: of one alone it takes more processes to be sure that there are two groups."""
        both = ("--backend", "fake:slow_process", *HERE, "--processes", "8", "--confirm", "16", "--json")
        done = trt("compare", model, *PROFILE, *both)
        assert done.code == 4
        assert said(done)["gpu, graph"] == "UNSTABLE"
        assert "two groups of processes" in words(done, "gpu, graph")

    def test_throughput(self, trt: Trt, model: Path) -> None:
        done = fake(trt, model, ":slower=5", "--streams", "2")
        found = next(one for one in done.json["findings"] if one["metric"] == "throughput")
        assert found["said"] == "REGRESSION"
        assert found["words"].startswith("lower by 4.")  # 1 / 1.05
        assert found["b"] < found["a"]


class TestFailures:
    def test_wrong_numbers(self, trt: Trt, model: Path) -> None:
        done = fake(trt, model, ":imprecise")
        found = said(done)
        assert done.code == 1
        assert found["numerics of A"] == "PASS"
        assert found["numerics of B"] == found["numerics, B against A"] == "FAILED"
        detail = next(one["detail"] for one in done.json["findings"] if one["metric"] == "numerics of B")
        assert "expected" in detail
        assert "tolerance" in detail
        assert found["gpu, graph"] == "PASS"

    def test_wrong_numbers_of_a(self, trt: Trt, model: Path) -> None:
        arguments = ("--a-backend", "fake:nan", "--b-backend", "fake", *HERE, "--json")
        done = trt("compare", model, *PROFILE, *arguments)
        assert done.code == 1
        assert said(done)["numerics of A"] == "FAILED"
        assert said(done)["numerics of B"] == "PASS"

    def test_a_crash(self, trt: Trt, model: Path) -> None:
        arguments = ("--backend", "fake", "--b-backend", "fake:crash_load", *FEW)
        done = trt("compare", model, *PROFILE, *arguments, "--json")
        assert done.code == 1
        assert said(done)["side B"] == "FAILED"
        assert "deserialize: fake:crash_load: load: the engine host died: signal 11 (SIGSEGV)" in words(done, "side B")
        arguments = ("--backend", "fake", "--b-backend", "fake:deserialize_none", *HERE)
        shown = trt("compare", model, *PROFILE, *arguments)
        assert shown.code == 1
        assert "deserialize: the runtime returned None instead of an engine" in " ".join(shown.out.split())

    def test_nothing_to_import(self, trt: Trt, model: Path) -> None:
        done = fake(trt, model, ":absent")
        assert done.code == 1
        assert "it is not there" in words(done, "side B")
        assert "No module named 'fake'" in words(done, "side B")

    def test_it_fails_when_it_is_tried(self, trt: Trt, model: Path) -> None:
        """It is there, and can be loaded, and gives wrong numbers: no lack of ours, and no success."""
        done = fake(trt, model, ":wrong_probe")
        assert done.code == 1
        assert said(done)["side B"] == "FAILED"
        assert "run: Relu of -1.0 gave 12.0" in words(done, "side B")

    def test_neither_host_is_company_on_the_device(
        self, trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those that probe and build end before a process is measured, of both sides."""
        rested, rest, measured = set[str](), Side.rest, runner.measured

        def resting(side: Side) -> None:
            rested.add(side.name)
            rest(side)

        def measuring(*arguments: Any) -> Any:
            assert rested == {"A", "B"}
            rested.clear()
            return measured(*arguments)

        monkeypatch.setattr(Side, "rest", resting)
        monkeypatch.setattr(runner, "measured", measuring)
        assert fake(trt, model, "").code == 0

    def test_neither_is_there(self, trt: Trt, model: Path) -> None:
        done = trt("compare", model, *PROFILE, "--backend", "fake:absent", *HERE)
        assert done.code == 3
        assert "not covered here" in done.err

    def test_what_was_asked_of_one_side_alone_and_it_has_not(self, trt: Trt, model: Path) -> None:
        arguments = ("--backend", "onnxruntime", "--b-precision", "fp16-weak", *HERE)
        assert trt("compare", model, *PROFILE, *arguments).code == 3

    def test_a_side_that_is_built_and_no_more(self, trt: Trt, model: Path) -> None:
        done = fake(trt, model, ":needs_gpu")
        found = said(done)
        assert found["gpu, graph"] == found["numerics of B"] == "NOT_COVERED"
        assert found["plan size"] == "PASS"
        assert "no fake GPU was found" in words(done, "gpu, graph")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--processes", "5"), "even numbers"),
            (("--processes", "2"), "4 or more of either"),
            (("--rebuilds", "3"), "an even number, 4 or more"),
            (("--tolerance", "0"), "between 0 and 100"),
            (("--point", "middle"), "choose from min, opt, max"),
            (("--streams", "1"), "2 or more"),
            (("--b-python", "/no/such/python"), "is no program"),
        ],
    )
    def test_a_request_that_makes_no_sense(
        self, trt: Trt, model: Path, arguments: tuple[str, ...], message: str
    ) -> None:
        done = trt("compare", model, *PROFILE, "--backend", "fake", "--in-process", *arguments)
        assert done.code == 2
        assert message in done.err


class TestBuilds:
    def test_every_process_has_a_build_of_its_own(self, trt: Trt, model: Path) -> None:
        done = fake(trt, model, "", "--rebuilds", "4", "--output", "out")
        assert said(done)["gpu, graph"] == "PASS"
        lines = [json.loads(line) for line in (Path("out") / FILE).read_text().splitlines()]
        builds = {(line["side"], line["number"]) for line in lines if line["kind"] == "build"}
        assert {("A", 0), ("A", 3), ("B", 0), ("B", 3)} <= builds
        of_processes = [(line["side"], line["build"]) for line in lines if line["kind"] == "process"]
        assert len(of_processes) == len(set(of_processes)) == len(builds)
        assert said(done)["build"] not in ("NOT_COVERED", "FAILED"), "judged, whatever this machine's clock makes of it"

    def test_frozen_plans_are_built_once(self, trt: Trt, model: Path) -> None:
        fake(trt, model, "", "--output", "out")
        lines = [json.loads(line) for line in (Path("out") / FILE).read_text().splitlines()]
        assert sorted((line["side"], line["number"]) for line in lines if line["kind"] == "build") == [
            ("A", 0),
            ("B", 0),
        ]
        assert {line["build"] for line in lines if line["kind"] == "process"} == {0}

    def test_a_build_that_stands_apart_is_named(self, trt: Trt, model: Path) -> None:
        done = fake(trt, model, ":rebuild_outlier", "--rebuilds", "6")
        assert done.code == 4
        assert words(done, "builds of B") == "build 2: size 1.33 times that of the others"
        assert "builds of A" not in said(done)

    def test_plans_from_elsewhere(self, trt: Trt, model: Path) -> None:
        for name, fault in (("one", ""), ("other", ":slower=4")):
            assert (
                trt("build", model, *PROFILE, "--backend", f"fake{fault}", "--in-process", "-o", f"{name}.plan").code
                == 0
            )
        done = trt("compare", "one.plan", "other.plan", "--backend", "fake", *HERE, "--json")
        found = said(done)
        assert done.code == 1
        assert found["gpu, graph"] == "REGRESSION"
        assert found["numerics of A"] == "NOT_COVERED"  # no oracle runs a plan
        assert found["numerics, B against A"] == "PASS"
        assert found["build"] == "NOT_COVERED"

    def test_how_to_build_is_nothing_to_say_of_a_plan(self, trt: Trt, model: Path) -> None:
        """But for what is said of both where the other one is built."""
        assert trt("build", model, *PROFILE, "--backend", "fake", "--in-process", "-o", "a.plan").code == 0
        for sides, option in (
            (("a.plan",), ("--build-option", "optimization_level=1")),
            (("a.plan",), PROFILE),
            (("a.plan",), ("--rebuilds", "4")),
            ((model, "a.plan"), ("--rebuilds", "4")),
            (("a.plan", model), ("--a-build-option", "optimization_level=1")),
            ((model, "a.plan"), ("--b-build-option", "optimization_level=1")),
        ):
            done = trt("compare", *sides, "--backend", "fake", *HERE, *option)
            assert done.code == 2, option
            assert f"a.plan: is a plan, which was built before: {' '.join(option)} can't change it" in done.err
        both = ("--profile", "batch=1:3:4", "--build-option", "optimization_level=1")
        done = trt("compare", "a.plan", model, "--backend", "fake", *HERE, *both, "--json")
        assert said(done)["gpu, graph"] == "PASS"


class TestSeveralModels:
    def test_a_mean_over_them(self, trt: Trt) -> None:
        done = trt(
            "compare", "mlp,conv1d*", "--backend", "fake", "--b-backend", "fake:slower=3", *HERE, "--json",
            "--processes", "4",
        )  # fmt: skip
        assert done.code == 1
        subjects = {one["subject"] for one in done.json["findings"]}
        assert done.json["subjects"] == len(subjects) >= 2
        assert f"mean of {len(subjects)} models" in done.json["means"]["gpu, graph"]
        assert done.json["means"]["gpu, graph"].startswith(("slower by 2.9", "slower by 3.0"))

    def test_as_many_of_each(self, trt: Trt, model: Path) -> None:
        done = trt("compare", "mlp,bert", model, "--backend", "fake", *HERE)
        assert done.code == 2
        assert "A are 2 models and B are 1" in done.err

    def test_a_pattern_that_matches_nothing(self, trt: Trt) -> None:
        done = trt("compare", "zzz*", "--backend", "fake", *HERE)
        assert done.code == 2
        assert "no model is called so" in done.err


class TestCanaries:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(canary_models.SIDE, "cpu", 8)
        monkeypatch.setitem(canary_models.ROWS, "cpu", 2)

    def test_they_stay_where_they_are(self, trt: Trt, model: Path) -> None:
        done = fake(trt, model, ":slower=3", "--canaries", "--output", "out")
        assert done.code == 1
        assert said(done)["canaries"] == "PASS"
        assert "canary_compute_cpu" in words(done, "canaries")
        lines = [json.loads(line) for line in (Path("out") / FILE).read_text().splitlines()]
        order = [line["subject"] for line in lines if line["kind"] == "process"]
        assert order[:6] == order[-6:] == ["canary_compute_cpu_full"] * 3 + ["canary_memory_cpu_full"] * 3
        assert set(order[6:-6]) == {"a"}
        first, *others = [line for line in lines if line["kind"] == "process" and line["subject"] in order[:1]]
        assert (first["samples"].keys(), first["missing"]["energy"]) == ({"graph", "plain"}, "not asked for")
        assert [one["samples"].keys() for one in others] == [{"graph"}] * 5, "in the way alone that may move"

    def test_a_machine_that_moved(self, trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = Watch.measured

        def moved(self: Watch, *, after: bool) -> dict[str, Any]:
            return {name: values * (1.05 if after else 1.0) for name, values in honest(self, after=after).items()}

        monkeypatch.setattr(Watch, "measured", moved)
        done = fake(trt, model, ":slower=3", "--canaries")
        assert done.code == 4
        assert {said(done)[name] for name in LATENCIES} == {"HOST_CHANGED"}
        assert "after the session" in words(done, "gpu, graph")
        assert said(done)["plan size"] == "PASS"  # which no machine has a say in


class TestInterrupted:
    def test_it_goes_on_where_it_was(self, trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        honest, count = runner.measured, 0

        def interrupted(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == 6:
                raise KeyboardInterrupt
            return honest(*arguments)

        monkeypatch.setattr(runner, "measured", interrupted)
        first = fake(trt, model, ":slower=3", "--output", "out")
        assert first.code == first.json["exit_code"] == 130
        assert "interrupted; to go on: trt-harness compare" in first.err
        assert "--output out" in first.err
        before = (Path("out") / FILE).read_bytes()
        assert before.count(b'"kind":"process"') == 5
        second = fake(trt, model, ":slower=3", "--output", "out")
        assert second.code == 1
        assert "goes on after 5 processes" in second.err
        after = (Path("out") / FILE).read_bytes()
        assert after.startswith(before)
        measured = after.count(b'"kind":"process"')
        assert count - 1 == measured  # none was measured twice
        third = fake(trt, model, ":slower=3", "--output", "out")
        assert count - 1 == measured
        assert third.json["findings"] == second.json["findings"]

    def test_a_failure_is_tried_again(self, trt: Trt, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        arguments = ("compare", model, *PROFILE, "--backend", "fake", *HERE, "--output", "out", "--json")
        with monkeypatch.context() as patch:
            patch.setattr(runner, "measured", _refused)
            assert trt(*arguments).code == 1
        assert trt(*arguments).code == 0

    def test_measurements_of_another_request_are_not_taken(self, trt: Trt, model: Path) -> None:
        assert fake(trt, model, "", "--output", "out").code == 0
        done = fake(trt, model, ":slower=3", "--output", "out")
        assert done.code == 2
        assert "holds the measurements of another request" in done.err


def _refused(*_: Any) -> Any:
    from harness.errors import RunError

    raise RunError("not today")


class TestInterpreters:
    @pytest.fixture
    def other(self, tmp_path: Path) -> Path:
        """An interpreter of its own, which finds nothing but numpy and onnxruntime."""
        return interpreter(tmp_path / "other", hidden=("onnx",))

    def test_two_of_them(self, trt: Trt, model: Path, other: Path) -> None:
        few = ("--processes", "4", "--confirm", "4", "--seconds", "0.03", "--warmup", "0.1")
        arguments = ("--backend", "onnxruntime", "--b-python", other, *few)
        done = trt("compare", model, *PROFILE, *arguments, "--json", "--output", "out")
        found = said(done)
        assert {found[f"numerics{of}"] for of in (" of A", " of B", ", B against A")} == {"PASS"}
        assert found["end to end"] in ("PASS", "INCONCLUSIVE", "UNSTABLE", "IMPROVEMENT")
        assert found["host memory"] not in ("NOT_COVERED", "FAILED")
        assert "has no onnx" in words(done, "layers")
        assert done.json["findings"][0]["subject"] == "a"
        first = json.loads((Path("out") / FILE).read_text().splitlines()[0])
        assert [side["python"] for side in first["request"]["subjects"]["a"]] == [sys.executable, str(other)]

    def test_one_without_the_backend(self, trt: Trt, model: Path, tmp_path: Path) -> None:
        bare = interpreter(tmp_path / "bare", hidden=("onnx", "onnxruntime"))
        done = trt("compare", model, *PROFILE, "--backend", "onnxruntime", "--b-python", bare, *FEW, "--json")
        assert done.code == 1
        assert "it is not there: onnxruntime run: absent" in words(done, "side B")
        assert "pip install onnxruntime" in words(done, "side B")
