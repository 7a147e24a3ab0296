"""One slow build among several: what a median over their processes hides, and a gate is to tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest

from harness.ledger.baselines import Baseline, Known
from harness.ledger.candidate import worst_of
from harness.ledger.gate import SUSPECT, Gate, Question, Ruling, Tonight
from harness.ledger.policy import DEFAULTS
from harness.measure.builders import by_plan, judge_builds, slowest
from harness.measure.finding import Finding, Said
from harness.measure.metric import Metric
from harness.measure.quantity import BUILD, QUANTITIES
from harness.settings import Perf

Array = npt.NDArray[np.float64]
GRAPH = "gpu, graph"
KNOWN_QUANTITIES = {one.name: one for one in (*QUANTITIES, BUILD)}
HERE = {"library": "8.6.1", "driver": "580"}
OLD, NEW = ("plan-a", "plan-b", "plan-c"), ("plan-d", "plan-e", "plan-f")
CV = 0.002
NOISE: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "normal": lambda rng, count: rng.standard_normal(count),
    "t3": lambda rng, count: rng.standard_t(3, count) / 3**0.5,
    "exponential": lambda rng, count: rng.exponential(size=count) - 1,
}
ALIKE, ONE_SLOW = (0.0, 0.0, 0.0), (0.0, 0.05, 0.0)


def processes(rng: np.random.Generator, builds: Sequence[float], count: int, cv: float = CV) -> Array:
    """Of builds that take so much more than a millisecond, in turn; the first build first."""
    return 1e-3 * np.exp(np.log1p(np.resize(builds, count)) + rng.normal(0, cv, count))


def baseline(seed: int = 1, builds: Sequence[float] = ALIKE, cv: float = CV, **changes: object) -> Baseline:
    """Of ten sessions, each of six processes of builds that take so much more; in which order differs."""
    rng = np.random.default_rng(seed)
    sessions = [processes(rng, rng.permutation(builds), 6, cv) for _ in range(10)]
    spread = float(np.median([np.log(one).std(ddof=1) for one in sessions]))
    known = Known("s", tuple(float(np.median(one)) for one in sessions), spread, 0.01)
    made = Baseline("k", "bert", OLD, ("s1", "s2"), {GRAPH: known}, HERE)
    return replace(made, **changes)  # type: ignore[arg-type]  # any of its fields


def tonight(values: Array, plans: Sequence[str] = NEW, environment: Mapping[str, str] = HERE) -> Tonight:
    return Tonight("k", "bert", "tonight", tuple(plans), environment, {GRAPH: values})


@dataclass
class Built:
    """A rival whose builds take so much more than a millisecond, on either side; confirmed as builders are."""

    old: Sequence[float] = ALIKE
    new: Sequence[float] = ALIKE
    calls: list[str] = field(default_factory=list)

    def beside(self, _: Baseline, metrics: Sequence[str]) -> Sequence[Finding]:
        self.calls.append("beside")
        rng = np.random.default_rng(5)
        sides = [[processes(rng, [one], 4) for one in side] for side in (self.old, self.new)]
        verdict, _ = judge_builds(*sides, KNOWN_QUANTITIES[GRAPH].metric, 1e-4)
        return [Finding.of("bert", KNOWN_QUANTITIES[name], verdict, 1e-3, 1e-3) for name in metrics]

    def again(self, metrics: Sequence[str]) -> Mapping[str, Array]:
        self.calls.append("again")
        return {name: processes(np.random.default_rng(6), self.new, 8) for name in metrics}

    def stayed(self, *_: object) -> str:
        return "not here"


def ruled(seen: Tonight, rival: Built, held: Baseline | None = None, perf: Perf = "gate") -> Ruling:
    (ruling,) = Gate(DEFAULTS, KNOWN_QUANTITIES, perf).rule(seen, held or baseline(), None, rival)
    return ruling


@pytest.mark.parametrize("count", [6, 8, 12])
@pytest.mark.parametrize("place", range(3))
def test_one_slow_build_of_three_is_confirmed_and_told(count: int, place: int) -> None:
    """The median of all is as fast as ever."""
    builds = np.roll(ONE_SLOW, place)
    seen = tonight(processes(np.random.default_rng(7), builds, count))
    rival = Built(new=builds)
    ruling = ruled(seen, rival)
    assert rival.calls == ["beside"]
    assert (ruling.question, ruling.finding.said, ruling.fails) == (Question.REBUILT, Said.INCONCLUSIVE, False)
    assert "a lottery of builds" in ruling.finding.words
    slow = NEW[int(np.argmax(builds))]
    assert f"1 of 3 builds gave plan {slow}, slower by " in ruling.finding.words
    assert "and than the others by " in ruling.finding.words


@dataclass
class Passing(Built):
    """A rival whose builders are as fast as each other, each build counted alike."""

    def beside(self, _: Baseline, metrics: Sequence[str]) -> Sequence[Finding]:
        self.calls.append("beside")
        return [Finding("bert", name, Said.PASS, "within 1 %") for name in metrics]


@pytest.mark.parametrize(
    ("again", "tolerance", "said"),
    [(ONE_SLOW, 0.01, Said.INCONCLUSIVE), (ONE_SLOW, 0.06, Said.PASS), (ALIKE, 0.01, Said.PASS)],
    ids=["slow again", "within the tolerance", "not again"],
)
def test_builders_that_pass_together_pass_no_slow_build(again: Sequence[float], tolerance: float, said: Said) -> None:
    """Who releases it has that one alone. Fresh processes decide whether it is slow."""
    held = baseline()
    held = replace(held, metrics={GRAPH: replace(held.metrics[GRAPH], tolerance=tolerance)})
    rival = Passing(new=again)
    ruling = ruled(tonight(processes(np.random.default_rng(7), ONE_SLOW, 6)), rival, held)
    assert rival.calls == ["beside", "again"]
    assert ruling.finding.said is said
    assert ("measured again, 1 of 3 builds gave plan plan-e" in ruling.finding.words) is (said is Said.INCONCLUSIVE)


def test_a_plan_that_crashes_fails_though_others_pass() -> None:
    """The same plans by another library, each a contest of its own."""
    passed = Finding("bert", GRAPH, Said.PASS, "within 1 %")
    lost = Finding("bert", "side B", Said.FAILED, "SIGSEGV")

    class Crashing(Built):
        def beside(self, *_: object) -> Sequence[Finding]:
            return worst_of({OLD[0]: [lost], OLD[1]: [passed], OLD[2]: [passed]}, OLD)

    seen = tonight(processes(np.random.default_rng(7), (0.05, 0.05, 0.05), 6), OLD, {**HERE, "library": "8.6.2"})
    ruling = Gate(DEFAULTS, KNOWN_QUANTITIES).rule(seen, baseline(), None, Crashing())[0]
    assert (ruling.finding.metric, ruling.finding.said, ruling.fails) == (GRAPH, Said.FAILED, True)
    assert "SIGSEGV" in ruling.finding.words


def test_screening_tells_of_a_slow_build() -> None:
    seen = tonight(processes(np.random.default_rng(7), ONE_SLOW, 6))
    ruling = ruled(seen, Built(), perf="screen")
    assert ruling.finding.said is Said.INCONCLUSIVE
    assert "1 of 3 builds gave plan plan-e" in ruling.finding.words


def test_a_lottery_that_the_baseline_had_is_no_suspicion() -> None:
    """Of each of its sessions one build of three was as slow, and its sessions' spread has that."""
    rival = Built(ONE_SLOW, ONE_SLOW)
    seen = tonight(processes(np.random.default_rng(7), ONE_SLOW, 6))
    assert ruled(seen, rival, baseline(builds=ONE_SLOW)).finding.said is Said.PASS
    assert rival.calls == []


def test_a_lottery_that_the_baselines_plans_have_fails_nothing() -> None:
    """Though its sessions happened not to show it."""
    rival = Built(ONE_SLOW, ONE_SLOW)
    ruling = ruled(tonight(processes(np.random.default_rng(7), ONE_SLOW, 6)), rival)
    assert rival.calls == ["beside"]
    assert (ruling.finding.said, ruling.fails) == (Said.INCONCLUSIVE, False)
    assert "builds of A are 5" in ruling.finding.words


def test_less_than_the_tolerance_is_no_suspicion() -> None:
    builds = (0.0, 0.008, 0.0)
    rival = Built(new=builds)
    held = baseline(cv=0.0003)
    assert ruled(tonight(processes(np.random.default_rng(7), builds, 6, 0.0003)), rival, held).finding.said is Said.PASS
    assert rival.calls == []


def test_builds_that_are_apart_by_no_more_than_their_processes_are_tonight_are_none() -> None:
    """A noisy night: one process of the build that looks slow is as fast as the others."""
    values = 1e-3 * np.array([1.0, 1.0, 1.0, 1.0, 1.06, 1.0])
    rival = Built()
    assert ruled(tonight(values), rival).finding.said is Said.PASS
    assert rival.calls == []


def test_builds_of_the_same_plan_are_one() -> None:
    """A single slow process of a plan that all builds gave is no slow build."""
    values = processes(np.random.default_rng(7), (0.0, 0.05, 0.0), 4)
    rival = Built()
    assert ruled(tonight(values, ("plan-d",) * 3), rival).finding.said is Said.PASS
    assert rival.calls == []
    each = by_plan(("a", "b", "a"), np.arange(1.0, 8.0))
    assert {plan: values.tolist() for plan, values in each.items()} == {"a": [1, 3, 4, 6, 7], "b": [2, 5]}


def test_a_build_that_took_long_is_no_slow_plan() -> None:
    held = replace(baseline(), metrics={"build": Known("s", (10.0,) * 10, 0.01, 0.25)})
    seen = replace(tonight(np.empty(0)), plans=("d", "d", "e"), values={"build": np.array([10.0, 10.1, 20.0])})
    assert ruled(seen, Built(), held).finding.said is Said.PASS


@pytest.mark.parametrize("slower", [0.0, 0.05])
def test_a_driver_that_slows_one_plan_of_the_baseline_is_told(slower: float) -> None:
    """Nothing stands beside a plan under two drivers, and the median of all three passes."""
    builds = (0.0, 0.0, slower)
    rival = Built(new=builds)
    seen = tonight(processes(np.random.default_rng(7), builds, 6), OLD, {**HERE, "driver": "590"})
    ruling = ruled(seen, rival)
    assert rival.calls == ["again"] * (slower > 0)
    assert (ruling.question, ruling.fails) == (Question.ENVIRONMENT, False)
    assert ruling.finding.said is (Said.INCONCLUSIVE if slower else Said.PASS)
    assert ("gave plan plan-c" in ruling.finding.words, "driver 590" in ruling.finding.words) == (slower > 0,) * 2


def test_the_slow_one_of_a_throughput_has_the_least() -> None:
    each = {"a": np.array([100.0, 101.0]), "b": np.array([90.0, 90.5]), "c": np.array([100.0, 100.5])}
    plan, apart, by_chance = slowest(each, Metric("throughput", more_is_better=True))
    assert (plan, round(apart, 2)) == ("b", 0.11)
    assert by_chance < 0.01


def test_a_single_process_of_a_build_does_not_tell() -> None:
    """It may be an odd one, as one of so many is."""
    assert slowest({"a": np.array([1.0]), "b": np.array([1.1, 1.1])}, Metric("latency"))[2] == 1.0
    rival = Built(new=ONE_SLOW)
    for count in (4, 1):
        seen = tonight(processes(np.random.default_rng(7), ONE_SLOW, count))
        assert ruled(seen, rival).finding.said is Said.PASS


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("count", [6, 9])
@pytest.mark.parametrize("cv", [0.002, 0.005, 0.01])
def test_noise_alone_is_suspected_hardly_more_often(noise: str, count: int, cv: float) -> None:
    """Of 400 nights of three equal plans, against the same processes taken for those of one.

    Screening suspects `SUSPECT` of nights without a change. Looking at builds adds less than half of that, of skewed
    noise, too: one has to cost more than the tolerance, more than a whole process of the baseline may, and more than
    the others by what processes are apart tonight.
    """
    gate = Gate(DEFAULTS, KNOWN_QUANTITIES, "screen")
    rng = np.random.default_rng([count, round(1e4 * cv), *noise.encode()])
    more = 0
    for _ in range(400):
        sessions = [1e-3 * np.exp(cv * NOISE[noise](rng, count)) for _ in range(10)]
        spread = float(np.median([np.log(one).std(ddof=1) for one in sessions]))
        known = Known("s", tuple(float(np.median(one)) for one in sessions), spread, 0.01)
        held = replace(baseline(), metrics={GRAPH: known})
        values = 1e-3 * np.exp(cv * NOISE[noise](rng, count))
        several, one = (
            gate.rule(tonight(values, plans), held, None, Built())[0].finding.said is Said.INCONCLUSIVE
            for plans in (NEW, NEW[:1])
        )
        assert several or not one, "whatever is suspected of all processes still is"
        more += several and not one
    assert more < 400 * SUSPECT / 2
