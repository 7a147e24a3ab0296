"""What a candidate's processes come to tonight."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

from harness.ledger import candidate
from harness.ledger.baselines import Baseline, Known
from harness.ledger.candidate import Candidate, Place, key_of, library_of
from harness.ledger.gate import Gate, Ruling, Tonight
from harness.ledger.kept import Kept
from harness.ledger.policy import DEFAULTS
from harness.measure.blocks import Blocks
from harness.measure.builders import by_plan
from harness.measure.contest import Contest
from harness.measure.finding import Finding, Said
from harness.measure.process import PLAIN
from harness.measure.quantity import QUANTITIES
from harness.runtime.sampling import Sampling
from harness.spec import BuildConfig, EngineSpec, ModelSpec, recipe
from harness.spec.source import OnnxFunction
from tests.measure.processes import process

LATENCY = next(one for one in QUANTITIES if one.name == "end to end")


class Played:
    """Stands for `Runner`: 200 samples a process."""

    def __init__(self, *_: Any) -> None: ...

    def process(self, number: int, *_: int) -> Any:
        return process(1e-4, number)

    def close(self) -> None: ...


def spec(source: str = "a", **options: Any) -> EngineSpec:
    model = ModelSpec("m", OnnxFunction(source, lambda: onnx.helper.make_model(_graph(source))))
    return EngineSpec.of(model, recipe("fp32"), BuildConfig(**options))


def _graph(name: str) -> onnx.GraphProto:
    value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])
    return onnx.helper.make_graph([], "g", [value], [value])


def tonight(folder: Path, processes: int) -> Tonight:
    side: Any = SimpleNamespace(request={}, spec=spec(), backend="fake", point="opt")
    place = Place("fake GPU", {})
    made = Candidate(
        "mlp", side, ("a",), place, {}, (LATENCY,), folder, Kept(folder), lambda _: "none", processes=processes
    )
    return made.tonight("1")


def test_a_tail_is_told_where_there_are_enough_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidate, "Runner", Played)
    assert tonight(tmp_path / "few", 4).tails == {}
    found = tonight(tmp_path / "many", 5)
    assert found.tails.keys() == {"end to end"}
    assert found.tails["end to end"] > float(found.values["end to end"].max())


def cell(spec: EngineSpec, device: str = "GPU", **changes: Any) -> str:
    side: Any = SimpleNamespace(**{"spec": spec, "backend": "fake", "point": "opt", **changes})
    return key_of(side, Place(device, {"driver": "1"}))


def test_a_cell_is_its_model_place_and_precision() -> None:
    """Whatever built it, and by which options: nights that differ in those are to be compared."""
    usual = cell(spec())
    assert cell(spec(flags=("TF32",), optimization_level=5)) == usual
    others = (cell(spec("b")), cell(spec(), "another"), cell(spec(), point="max"), cell(spec(), backend="tensorrt"))
    assert len({usual, *others}) == 5


def test_options_and_versions_are_recorded() -> None:
    facts = {"version": "8.6.1", "library_version": "8.6.0", "gpu": "H200", "gpu_uuid": "ab"}
    place = Place.of(facts, BuildConfig(flags=("TF32",), optimization_level=0))
    assert place.device == "H200"
    assert place.environment["options"] == "optimization_level=0, flags=('TF32',)"
    assert place.environment["library"] == "8.6.1 over 8.6.0"
    assert "options" not in Place.of(facts, BuildConfig()).environment
    assert library_of({"version": "1", "library_version": "1"}) == library_of({"version": "1"}) == "1"


def test_a_gpu_with_another_power_limit_is_another_device() -> None:
    """What nobody tells a limit of stays what it was."""
    facts = {"gpu": "H200", "gpu_uuid": "ab"}
    places = [Place.of({**facts, **limit}) for limit in ({}, {"power_limit": "700 W"}, {"power_limit": "350 W"})]
    assert [place.device for place in places] == ["H200", "H200, 700 W", "H200, 350 W"]
    assert [place.environment.get("power_limit") for place in places] == [None, "700 W", "350 W"]
    assert len({cell(spec(), place.device) for place in places}) == 3


def test_the_power_limit_is_that_of_the_gpu_that_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.runtime.machine.power_limit", {"ab": "350 W", "cd": "700 W", "": ""}.__getitem__)
    devices = [Place.here({"gpu": "H200", "gpu_uuid": uuid}).device for uuid in ("ab", "cd", "")]
    assert devices == ["H200, 350 W", "H200, 700 W", "H200"]


def test_what_is_measured_beside_is_a_journal_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that asks for other metrics must not be answered by processes that did not measure them."""
    asked: list[tuple[set[str], set[str]]] = []

    class Asked(Played):
        def __init__(self, *given: Any) -> None:
            asked.append((set(given[2]), set(given[7].__self__)))

    monkeypatch.setattr(candidate, "Runner", Asked)
    monkeypatch.setattr(candidate, "Contest", lambda *_: SimpleNamespace(run=list))
    monkeypatch.setattr(
        candidate, "replace", lambda one, **changes: one if "name" in changes else replace(one, **changes)
    )
    names = ("gpu, graph", "host memory")
    wanted = tuple(one for one in QUANTITIES if one.name in names)
    ways = {"graph": Sampling(graph=True), "plain": Sampling()}
    side: Any = SimpleNamespace(request={}, spec=spec(), backend="fake", point="opt")
    made = Candidate("mlp", side, ("a",), Place("GPU", {}), ways, wanted, tmp_path, Kept(tmp_path), lambda _: side)
    known = {name: Known("s", (1.0, 1.0), 0.001, 0.01) for name in names}
    for metrics in (names[:1], names[1:], names):
        made.beside(Baseline("k", "mlp", ("p",), ("s",), known), metrics)
    assert asked == [({"graph"}, {names[0]}), (set(ways), {names[1]}), (set(ways), set(names))]
    assert len(list(tmp_path.iterdir())) == 3


class Levels(Played):
    """Stands for `Runner`, whose plans say by their name how many microseconds they take, as in "slow-105"."""

    def __init__(self, name: str, sides: Any, ways: Any, journal: Any, *_: Any) -> None:
        self.name, self.sides, self.ways, self.journal = name, sides, ways, journal

    def process(self, number: int, arm: int = 0, ordinal: int = 0) -> Any:
        plans = self.sides[arm].plans
        return process(1e-6 * float(plans[ordinal % len(plans)].rpartition("-")[2]), number)


def played(
    folder: Path, monkeypatch: pytest.MonkeyPatch, plans: tuple[str, ...], its: tuple[str, ...] | None = None
) -> Candidate:
    """A candidate of ``plans`` beside a baseline of ``its``, or of the same."""
    monkeypatch.setattr(candidate, "Runner", Played)
    monkeypatch.setattr(
        candidate,
        "replace",
        lambda one, **changes: (
            SimpleNamespace(**{**vars(one), **changes}) if isinstance(one, SimpleNamespace) else replace(one, **changes)
        ),
    )
    side: Any = SimpleNamespace(request={}, spec=spec(), backend="fake", point="opt", plans=plans)
    beside: Any = SimpleNamespace(request={}, plans=plans if its is None else its)
    ways, kept = {PLAIN: Sampling()}, Kept(folder / "kept")
    return Candidate("mlp", side, plans, Place("GPU", {}), ways, (LATENCY,), folder, kept, lambda _: beside)


def test_every_build_has_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    six = ("a", "b", "c", "d", "e", "f")
    sizes = [
        played(tmp_path / str(number), monkeypatch, plans).tonight("1").values["end to end"].size
        for number, plans in enumerate((six, six[:3], six[:2], six[:1], ("a",) * 6))
    ]
    assert sizes == [12, 6, candidate.USUAL, candidate.USUAL, 6], "builds of the same plan need no two each"


@pytest.mark.parametrize(
    ("mine", "its", "by"),
    [
        (("a",), ("b",), ["plans"]),
        (("a", "a", "a"), ("a", "a", "a"), ["plans"]),  # one plan, however often it was built
        (("a", "b", "c"), ("a", "b", "c"), ["plans"] * 3),
        (("a", "b", "a"), ("b", "a", "a"), ["plans"] * 2),
        (("a", "a", "b"), ("a", "b", "b"), ["builders"]),  # another draw of the same lottery
        (("a", "a", "a"), ("b", "b", "b"), ["builders"]),
        (("a", "b", "c"), ("d", "e", "f"), ["builders"]),
        (("a", "b", "c"), ("d",), ["builders"]),
    ],
)
def test_several_builds_are_a_contest_of_builders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: tuple[str, ...], its: tuple[str, ...], by: list[str]
) -> None:
    made = played(tmp_path, monkeypatch, mine, its)
    asked: list[str] = []
    monkeypatch.setattr(candidate, "Contest", lambda *_: SimpleNamespace(run=lambda: asked.append("plans") or []))
    monkeypatch.setattr(candidate, "Builders", lambda *_: SimpleNamespace(run=lambda: asked.append("builders") or []))
    known = {"end to end": Known("s", (1.0, 1.0), 0.001, 0.01)}
    made.beside(Baseline("k", "mlp", its, ("s",), known), ["end to end"])
    assert asked == by


class Installed(Levels):
    """Stands for `Runner`: side B's library runs the plan "slow" by 3 % slower, and the others as A's does."""

    rebuilt = False
    ran: ClassVar[list[tuple[str, str]]] = []

    def process(self, number: int, arm: int = 0, ordinal: int = 0) -> Any:
        side = self.sides[arm]
        plan = side.plans[ordinal % len(side.plans)]
        self.ran.append((side.name, plan))
        return process(1e-4 * (1.03 if (side.name, plan) == ("B", "slow") else 1.0), number)


class Verdicts(Contest):
    """Of what was measured alone: nothing here has a backend, a size or outputs."""

    def run(self) -> list[Finding]:
        blocks = Blocks(self.runner, self.quantities)
        return list(self._judged(blocks, blocks.measured(self.effort.blocks)))


@pytest.mark.parametrize("place", range(3))
def test_each_of_several_plans_is_run_by_both_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """And the worst is said, whichever of them it is; a plan that two builds gave is one."""
    mine = ["a", "a", "a"]
    mine[place] = "slow"
    its = ("a", "slow", "a")
    made = played(tmp_path, monkeypatch, tuple(mine), its)
    monkeypatch.setattr(candidate, "Runner", Installed)
    monkeypatch.setattr(Installed, "ran", [])
    shared: list[int] = []

    def contest(*given: Any) -> Verdicts:
        shared.append(given[3])
        return Verdicts(*given)

    monkeypatch.setattr(candidate, "Contest", contest)
    known = {"end to end": Known("s", (1.0, 1.0), 0.001, 0.01)}
    (found,) = made.beside(Baseline("k", "mlp", its, ("s",), known), ["end to end"])
    assert isinstance(found, Finding)
    assert found.said is Said.REGRESSION
    assert found.verdict
    assert found.verdict.estimate == pytest.approx(np.log(1.03), abs=0.001)
    assert "plan slow, which 1 of 3 builds gave" in found.words
    assert set(Installed.ran) == {("A", "a"), ("B", "a"), ("A", "slow"), ("B", "slow")}
    assert shared == [2, 2]


def test_the_worst_of_several_plans_is_said() -> None:
    each = {"a": [Finding("m", "x", Said.PASS, "fine"), Finding("m", "y", Said.REGRESSION, "slower")], "b": []}
    each["b"] = [Finding("m", "x", Said.UNSTABLE, "two modes"), Finding("m", "side A", Said.FAILED, "gone")]
    found = candidate.worst_of(each, ("a", "b", "b"))
    assert [(one.metric, one.said) for one in found] == [
        ("x", Said.UNSTABLE),
        ("y", Said.REGRESSION),
        ("side A", Said.FAILED),
    ]
    assert found[0].words == "two modes; plan b, which 2 of 3 builds gave"
    assert candidate.worst_of({"a": each["a"]}, ("a", "a")) == each["a"]


def test_the_baselines_plans_are_run_by_tonights_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = played(tmp_path, monkeypatch, ("a",))
    known = {"end to end": Known("s", (1.0, 1.0), 0.001, 0.01)}
    gone = made.stayed(Baseline("k", "mlp", ("0" * 64,), ("s",), known), "tonight")
    assert isinstance(gone, str)
    assert "not there" in gone
    digest = made.kept.put(np.zeros(8, np.uint8))
    found = made.stayed(Baseline("k", "mlp", (digest,), ("s",), known), "tonight")
    assert not isinstance(found, str)
    seen, other = found
    assert seen.plans == (digest,)
    assert other.side.plans == (made.kept.path(digest),)
    assert other.folder != made.folder


def test_what_a_build_took_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = replace(played(tmp_path, monkeypatch, ("a",)), once={"build": np.array([3.0])})
    assert made.again(["build"]) == {"build": np.array([3.0])}
    assert not list(tmp_path.glob("alone*"))
    assert made.again(["build", "end to end"]).keys() == {"build", "end to end"}


OLD = ("a-100", "b-100.1", "c-99.9")


def gated(made: Candidate, plans: tuple[str, ...]) -> Ruling:
    """What a gate says of it, whose baseline has ``plans`` and ten sessions."""
    policies = {name: replace(one, tolerance=0.01) for name, one in DEFAULTS.items()}
    known = {"end to end": Known("s", tuple(1e-4 * (1 + 1e-4 * n) for n in range(10)), 0.001, 0.01)}
    here = key_of(made.side, made.place)
    (ruling,) = Gate(policies, {"end to end": LATENCY}).rule(
        made.tonight("1"), Baseline(here, "mlp", plans, ("s",), known), None, made
    )
    return ruling


@pytest.mark.parametrize("place", range(3))
def test_a_slow_build_is_confirmed_by_builders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """Whichever of three it is."""
    mine = ["d-100", "e-100.1", "f-99.9"]
    mine[place] = "slow-105"
    made = played(tmp_path, monkeypatch, tuple(mine), OLD)
    monkeypatch.setattr(candidate, "Runner", Levels)
    ruling = gated(made, OLD)
    assert (ruling.finding.said, ruling.fails) == (Said.INCONCLUSIVE, False)
    assert "a lottery of builds: builds of A are 0." in ruling.finding.words
    assert "1 of 3 builds gave plan slow-105, slower by " in ruling.finding.words


def test_the_slow_one_of_the_baselines_plans_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In fresh processes, which take the plans from the first on."""
    plans = ("a-100", "slow-105", "c-100")
    made = replace(played(tmp_path, monkeypatch, plans, plans), processes=8)
    monkeypatch.setattr(candidate, "Runner", Levels)
    ruling = gated(made, plans)
    assert ruling.finding.said is Said.INCONCLUSIVE
    assert "1 of 3 builds gave plan slow-105, slower by " in ruling.finding.words
    fresh = by_plan(plans, made.again(["end to end"])["end to end"])
    assert {plan: round(1e6 * float(values.mean())) for plan, values in fresh.items()} == {
        "a-100": 100,
        "slow-105": 105,
        "c-100": 100,
    }
