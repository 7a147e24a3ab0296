"""What a gate says of a cell, by what changed since its baseline."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from harness.errors import RunError
from harness.ledger.baselines import Baseline, Known
from harness.ledger.gate import Gate, Question, Ruling, Tonight, against_history, asked, changes
from harness.ledger.policy import DEFAULTS, LATENCY, Policy
from harness.measure.finding import Finding, Said
from harness.measure.metric import Metric
from harness.measure.quantity import BUILD, PLAN_SIZE, QUANTITIES, Quantity
from harness.measure.runner import SideFailed
from harness.measure.verdict import judge
from harness.settings import Perf

GRAPH, THROUGHPUT = "gpu, graph", "throughput"
KNOWN_QUANTITIES = {one.name: one for one in (*QUANTITIES, PLAN_SIZE, BUILD)}
HERE = {"library": "8.6.1", "driver": "580", "gpu_uuid": "a"}
ELSEWHERE = {**HERE, "driver": "590"}
CV = 0.001


def near(middle: float, seed: int, count: int = 8, cv: float = CV) -> npt.NDArray[np.float64]:
    return middle * np.exp(np.random.default_rng(seed).normal(0, cv, count))


def known(middle: float = 1e-3, sessions: int = 10, seed: int = 1) -> Known:
    return Known("s", tuple(near(middle, seed, sessions)), CV, 0.01)


BASELINE = Baseline("k", "bert", ("plan-a",), ("s1", "s2"), {GRAPH: known()}, HERE)


def tonight(
    middle: float, plan: str = "plan-b", environment: Mapping[str, str] = HERE, metric: str = GRAPH, seed: int = 7
) -> Tonight:
    return Tonight("k", "bert", "tonight", (plan,), environment, {metric: near(middle, seed)})


@dataclass
class Planned:
    """A rival whose plans are as fast tonight as is said: ``a`` the baseline's, ``b`` the candidate's."""

    a: float = 1e-3
    b: float = 1e-3
    refused: str = ""
    old: float | None = None  # the baseline's plans by tonight's library; None where it can't run them
    environment: Mapping[str, str] = field(default_factory=lambda: ELSEWHERE)  # of those
    calls: list[str] = field(default_factory=list)

    def beside(self, baseline: Baseline, metrics: Sequence[str]) -> Sequence[Finding] | str:
        self.calls.append(f"beside {baseline.plans[0]}")
        if self.refused:
            return self.refused
        found = []
        for name in metrics:
            quantity = KNOWN_QUANTITIES[name]
            medians = np.stack([near(self.a, 21, 16).reshape(8, 2), near(self.b, 22, 16).reshape(8, 2)], axis=1)
            verdict = judge(medians, quantity.metric)
            found.append(Finding.of("bert", quantity, verdict, self.a, self.b))
        return found

    def stayed(self, baseline: Baseline, session: str) -> tuple[Tonight, Planned] | str:
        self.calls.append("stayed")
        if self.old is None:
            return "the old plan can't be run"
        mine = replace(self, b=self.old)
        seen = Tonight("k", "bert", session, baseline.plans, self.environment, {GRAPH: near(self.old, 44)})
        return seen, mine

    def again(self, metrics: Sequence[str]) -> Mapping[str, npt.NDArray[np.float64]]:
        self.calls.append("again")
        return {name: near(self.b, 33, 16) for name in metrics}


def ruled(
    seen: Tonight,
    rival: Planned,
    baseline: Baseline | None = BASELINE,
    release: Baseline | None = None,
    perf: Perf = "gate",
    namesake: Baseline | None = None,
    **gate: object,
) -> list[Ruling]:
    made = Gate(DEFAULTS, KNOWN_QUANTITIES, perf)
    return replace(made, **gate).rule(seen, baseline, release, rival, namesake)  # type: ignore[arg-type]


def only(rulings: Sequence[Ruling]) -> Ruling:
    (ruling,) = rulings
    return ruling


def test_as_fast_as_ever_measures_nothing_more() -> None:
    rival = Planned()
    ruling = only(ruled(tonight(1e-3), rival))
    assert ruling.finding.said is Said.PASS
    assert not ruling.fails
    assert rival.calls == []


def test_a_slower_plan_is_confirmed_beside_the_old_one() -> None:
    rival = Planned(b=1.02e-3)
    ruling = only(ruled(tonight(1.02e-3), rival))
    assert rival.calls == ["beside plan-a"]
    assert ruling.finding.said is Said.REGRESSION
    assert ruling.question is Question.REBUILT
    assert ruling.fails


def test_a_slow_night_is_no_slow_plan() -> None:
    """Both plans are slower tonight: the candidate is not."""
    ruling = only(ruled(tonight(1.02e-3), Planned(a=1.02e-3, b=1.02e-3)))
    assert ruling.finding.said is Said.PASS
    assert "the night moved both" in ruling.finding.words
    assert not ruling.fails


def test_screening_alone_fails_nothing() -> None:
    rival = Planned(b=1.1e-3)
    ruling = only(ruled(tonight(1.1e-3), rival, perf="screen"))
    assert ruling.finding.said is Said.INCONCLUSIVE
    assert not ruling.fails
    assert rival.calls == []


APART = Known("s", (1e-3, 1.012e-3), CV, 0.05)  # two sessions that say little, and a tolerance that they widened


@pytest.mark.parametrize(
    ("seen", "measured"),
    [
        (tonight(1.004e-3), ["beside plan-a"]),  # another plan
        (tonight(1.004e-3, plan="plan-a", environment={**HERE, "library": "10"}), ["beside plan-a", "stayed"]),
        (tonight(1.004e-3, plan="plan-a"), []),  # nothing can stand beside it
    ],
)
def test_few_sessions_pass_nothing_that_can_be_measured_afresh(seen: Tonight, measured: list[str]) -> None:
    rival = Planned(b=1.004e-3)
    ruling, *_ = ruled(seen, rival, replace(BASELINE, metrics={GRAPH: APART}))
    assert rival.calls == measured
    assert ruling.finding.said is (Said.PASS if not measured else Said.REGRESSION)


def test_few_sessions_that_agree_are_enough() -> None:
    rival = Planned()
    close = Known("s", (1e-3, 1.00001e-3), 1e-5, 0.01)
    assert only(ruled(tonight(1e-3), rival, replace(BASELINE, metrics={GRAPH: close}))).finding.said is Said.PASS
    assert rival.calls == []


def test_a_tolerance_that_noise_widened_stops_no_second_look() -> None:
    spread = tuple(1e-3 * np.exp(np.random.default_rng(3).normal(0, 0.015, 20)))
    rival = Planned(b=1.02e-3)
    ruling = only(ruled(tonight(1.02e-3), rival, replace(BASELINE, metrics={GRAPH: Known("s", spread, CV, 0.05)})))
    assert rival.calls == ["beside plan-a"]
    assert ruling.finding.said is Said.REGRESSION


def test_without_a_baseline_it_is_told() -> None:
    ruling = only(ruled(tonight(5e-3), Planned(b=5e-3), baseline=None))
    assert ruling.finding.said is Said.NOTED
    assert not ruling.held
    assert not ruling.fails


NAMESAKE = replace(
    BASELINE,
    key="other",
    model="0123456789abcdef",
    reason="the first",
    actor="ada",
    at=datetime.datetime(2026, 2, 2, tzinfo=datetime.timezone.utc),
)


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ("fedcba9876543210", "its file is another, SHA-256 fedcba987654 (was 0123456789ab)"),
        ("0123456789abcdef", "its profiles, plugins or way of measuring are others"),
        ("", "its file, profiles, plugins or way of measuring are others"),
    ],
)
def test_another_model_under_the_name_of_a_baseline_is_told(model: str, what: str) -> None:
    """It is no regression, for it is another model; and its user sees what became of the name."""
    ruling = only(ruled(replace(tonight(6e-3), model=model), Planned(), baseline=None, namesake=NAMESAKE))
    assert (ruling.finding.said, ruling.held, ruling.fails) == (Said.NOTED, False, False)
    assert "the accepted baseline of this name (2026-02-02, ada: the first)" in ruling.finding.words
    assert what in ruling.finding.words
    assert "slower by" in ruling.finding.words
    assert "trt-harness baseline propose, then accept" in ruling.finding.words
    assert ruling.finding.a == pytest.approx(1e-3, rel=0.01)


def test_a_namesake_without_the_metric_tells_nothing_of_it() -> None:
    seen = tonight(6e-3, metric=THROUGHPUT)
    ruling = only(ruled(seen, Planned(), baseline=None, namesake=NAMESAKE))
    assert (ruling.finding.words, ruling.finding.a) == (
        "no baseline is accepted: measured, and held against nothing",
        None,
    )


def test_a_metric_that_the_baseline_lacks_is_told() -> None:
    seen = Tonight("k", "bert", "tonight", ("plan-b",), HERE, {GRAPH: near(1e-3, 7), "plan size": np.array([5e6] * 8)})
    graph, size = ruled(seen, Planned())
    assert (graph.finding.said, size.finding.said) == (Said.PASS, Said.NOTED)


def test_another_library_is_another_question() -> None:
    elsewhere = {**HERE, "library": "10.16.0"}
    ruling, _ = ruled(tonight(1.05e-3, environment=elsewhere), Planned(b=1.05e-3))
    assert ruling.question is Question.INSTALLATION
    assert ruling.fails


def test_a_plan_that_cant_be_run_is_judged_by_history_and_says_so() -> None:
    elsewhere = {**HERE, "library": "10.16.0"}
    rival = Planned(b=1.05e-3, refused="no interpreter of 8.6.1 is named")
    ruling, _ = ruled(tonight(1.05e-3, environment=elsewhere), rival)
    assert rival.calls == ["beside plan-a", "again", "stayed"]
    assert ruling.finding.said is Said.REGRESSION
    assert "by history alone: no interpreter of 8.6.1 is named" in ruling.finding.words
    assert ruling.fails


def test_history_of_few_sessions_decides_nothing() -> None:
    """Even where they agree by chance."""
    few = replace(BASELINE, metrics={GRAPH: replace(known(sessions=4), tolerance=0.01)})
    rival = Planned(b=1.3e-3, refused="it can't be loaded")
    ruling = only(ruled(tonight(1.3e-3), rival, baseline=few))
    assert ruling.finding.said is Said.INCONCLUSIVE
    assert "too few" in ruling.finding.words
    assert not ruling.fails


@pytest.mark.parametrize(("days", "said"), [(4, Said.INCONCLUSIVE), (5, Said.REGRESSION), (0, Said.REGRESSION)])
def test_history_takes_days_and_not_sessions_of_one_hour(days: int, said: Said) -> None:
    """0 is of baselines from before days were recorded."""
    rival = Planned(b=1.3e-3, refused="it can't be loaded")
    ruling = only(ruled(tonight(1.3e-3), rival, baseline=replace(BASELINE, days=days)))
    assert ruling.finding.said is said
    assert ("10 sessions of 4 days are too few" in ruling.finding.words) == (days == 4)


def test_a_changed_environment_that_slows_the_same_plan() -> None:
    ruling = only(ruled(tonight(1.03e-3, "plan-a", {**HERE, "driver": "590"}), Planned(b=1.03e-3)))
    assert ruling.question is Question.ENVIRONMENT
    assert ruling.finding.said is Said.REGRESSION
    assert "driver 590 (was 580)" in ruling.finding.words


def test_the_same_plan_in_the_same_environment_blames_the_host() -> None:
    rival = Planned(b=1.03e-3)
    ruling = only(ruled(tonight(1.03e-3, "plan-a"), rival))
    assert rival.calls == ["again"]  # nothing can be put beside it
    assert ruling.finding.said is Said.HOST_CHANGED
    assert not ruling.fails


def test_canaries_that_moved_leave_history_without_a_say() -> None:
    seen = tonight(1.03e-3, "plan-a", {**HERE, "gpu_uuid": "b"})
    ruling = only(ruled(seen, Planned(b=1.03e-3), host="canary_compute: +1.5 %", lost=math.log(1.015)))
    assert ruling.finding.said is Said.HOST_CHANGED
    assert "canary_compute" in ruling.finding.words


def test_a_suspicion_that_fresh_processes_do_not_share() -> None:
    ruling = only(ruled(tonight(1.03e-3, "plan-a", {**HERE, "driver": "590"}), Planned(b=1e-3)))
    assert ruling.finding.said is Said.PASS


def test_a_loss_below_the_tolerance_passes_by_history() -> None:
    wide = replace(BASELINE, metrics={GRAPH: replace(known(), tolerance=0.05)})
    ruling = only(ruled(tonight(1.02e-3, "plan-a", {**HERE, "driver": "590"}), Planned(b=1.02e-3), baseline=wide))
    assert ruling.finding.said is Said.PASS
    assert ruling.finding.words.startswith("slower by 2.0 %")


@pytest.mark.parametrize("change", [2e-6, -2e-6])
def test_what_is_below_a_thousandth_is_no_change(change: float) -> None:
    """Sizes are the same in every session, and a file of baselines has six digits of them."""
    size = replace(BASELINE, metrics={"plan size": Known("bytes", (1e7, 1e7), 0.0, 0.02)})
    rival = Planned()
    seen = Tonight("k", "bert", "tonight", ("plan-b",), HERE, {"plan size": np.full(4, 1e7 * (1 + change))})
    assert only(ruled(seen, rival, baseline=size)).finding.said is Said.PASS
    assert rival.calls == []


def test_an_improvement_is_told_and_nothing_measured() -> None:
    rival = Planned(b=0.95e-3)
    ruling = only(ruled(tonight(0.95e-3), rival))
    assert ruling.finding.said is Said.IMPROVEMENT
    assert rival.calls == []


def test_more_is_better_turns_it_round() -> None:
    baseline = replace(BASELINE, metrics={THROUGHPUT: Known("runs/s", tuple(near(1000, 3, 10)), CV, 0.01)})
    fewer = only(ruled(tonight(950, metric=THROUGHPUT), Planned(a=1000, b=950), baseline=baseline))
    more = only(ruled(tonight(1050, metric=THROUGHPUT), Planned(a=1000, b=1050), baseline=baseline))
    assert fewer.finding.said is Said.REGRESSION
    assert more.finding.said is Said.IMPROVEMENT


@pytest.mark.parametrize(("lost", "said"), [(0.025, None), (0.04, Said.REGRESSION)])
def test_drift_since_a_release(lost: float, said: Said | None) -> None:
    """The baseline was moved along, step by step; the release was not."""
    slow = 1e-3 * (1 + lost)
    near_it = replace(BASELINE, plans=("plan-z",), metrics={GRAPH: known(slow)})
    release = replace(BASELINE, release="3.2")
    rival = Planned(b=slow)
    rulings = ruled(tonight(slow), rival, baseline=near_it, release=release)
    assert rulings[0].finding.said is Said.PASS
    assert [one.finding.said for one in rulings[1:]] == ([said] if said else [])
    if said:
        assert rulings[1].question is Question.DRIFT
        assert rulings[1].fails
        assert "release 3.2" in rulings[1].finding.words
        assert rival.calls == ["beside plan-a"]


def drifted(rival: Planned) -> Ruling:
    release = replace(BASELINE, release="3.2")
    near_it = replace(BASELINE, plans=("plan-z",), metrics={GRAPH: known(1.04e-3)})
    return ruled(tonight(1.04e-3), rival, baseline=near_it, release=release)[1]


@pytest.mark.parametrize("said", [Said.UNSTABLE, Said.INCONCLUSIVE, Said.FAILED])
def test_drift_that_fresh_processes_leave_open_is_no_regression(said: Said) -> None:
    class Open(Planned):
        def beside(self, baseline: Baseline, metrics: Sequence[str]) -> Sequence[Finding] | str:
            (found,) = super().beside(baseline, metrics)
            assert isinstance(found, Finding)
            return [replace(found, said=said)]

    drift = drifted(Open(b=1.04e-3))
    assert drift.finding.said is said
    assert drift.fails is (said is Said.FAILED)


def test_drift_of_a_candidate_that_does_not_run_fails() -> None:
    class Broken(Planned):
        def beside(self, *_: object) -> Sequence[Finding] | str:
            return [Finding("bert", "side B", Said.FAILED, "it does not load")]

    drift = drifted(Broken())
    assert (drift.finding.metric, drift.finding.said) == (GRAPH, Said.FAILED)
    assert drift.fails


def test_drift_of_which_nothing_is_said_is_told() -> None:
    class Mute(Planned):
        def beside(self, *_: object) -> Sequence[Finding] | str:
            return []

    assert drifted(Mute()).finding.said is Said.INCONCLUSIVE


def test_a_build_is_held_against_history_whatever_else_is_suspected() -> None:
    both = replace(BASELINE, metrics={GRAPH: known(), "build": Known("s", tuple(near(10, 3, 10)), CV, 0.25)})
    rival = Planned(b=1.02e-3)
    rival.again = lambda _: {"build": np.array([20.0])}  # type: ignore[method-assign]
    seen = Tonight("k", "bert", "tonight", ("plan-b",), HERE, {GRAPH: near(1.02e-3, 7), "build": np.array([20.0])})
    graph, build = ruled(seen, rival, baseline=both)
    assert graph.finding.said is Said.REGRESSION
    assert build.finding.said is Said.REGRESSION
    assert "timed once" in build.finding.words


def test_what_is_not_measured_again_is_open() -> None:
    class Gone(Planned):
        def again(self, _: Sequence[str]) -> Mapping[str, npt.NDArray[np.float64]]:
            return {}

    ruling = only(ruled(tonight(1.05e-3), Gone(refused="it can't be loaded")))
    assert ruling.finding.said is Said.INCONCLUSIVE
    assert "not measured again" in ruling.finding.words


NEAR_IT = replace(BASELINE, plans=("plan-z",), metrics={GRAPH: known(1.04e-3)})  # and far from the release


@pytest.mark.parametrize(("days", "said"), [(6, Said.REGRESSION), (2, Said.INCONCLUSIVE)])
def test_drift_that_only_history_shows_fails_where_it_is_long(days: int, said: Said) -> None:
    release = replace(BASELINE, release="3.2", days=days)
    _, drift = ruled(tonight(1.04e-3), Planned(b=1.04e-3, refused="gone"), baseline=NEAR_IT, release=release)
    assert (drift.question, drift.finding.said) == (Question.DRIFT, said)
    assert "gone" in drift.finding.words
    assert "3 % allowed since release 3.2" in drift.finding.words


def test_drift_of_the_same_plan_is_bounded_too() -> None:
    """Of drivers that were accepted one by one: nothing fresh stands beside the plan, so history decides."""
    release = replace(BASELINE, release="3.2", days=6)
    seen = tonight(1.04e-3, "plan-a", {**HERE, "driver": "590"})
    accepted = replace(NEAR_IT, plans=("plan-a",), environment={**HERE, "driver": "590"})
    _, drift = ruled(seen, Planned(b=1.04e-3), baseline=accepted, release=release)
    assert (drift.question, drift.finding.said, drift.fails) == (Question.DRIFT, Said.REGRESSION, True)


@pytest.mark.parametrize("perf", ["gate", "screen"])
def test_a_release_of_few_sessions_is_stood_beside(perf: Perf) -> None:
    """Two sessions that are 2 % apart say nothing for sure, and yet 6 % are more than may be."""
    two = Known("s", (1e-3, 1.02e-3), CV, 0.01)
    release = replace(BASELINE, release="3.2", metrics={GRAPH: two}, days=2)
    near_it = replace(NEAR_IT, metrics={GRAPH: known(1.06e-3)})
    rival = Planned(b=1.06e-3)
    rulings = ruled(tonight(1.06e-3), rival, baseline=near_it, release=release, perf=perf)
    assert rival.calls == (["beside plan-a"] if perf == "gate" else [])
    assert [one.finding.said for one in rulings[1:]] == ([Said.REGRESSION] if perf == "gate" else [])


def test_a_release_bounds_a_cell_without_a_baseline() -> None:
    unheld, drift = ruled(tonight(1.04e-3), Planned(b=1.04e-3), None, replace(BASELINE, release="3.2"))
    assert (unheld.held, drift.question, drift.fails) == (False, Question.DRIFT, True)


@pytest.mark.parametrize(("metric", "said"), [(GRAPH, Said.FAILED), ("energy", Said.INCONCLUSIVE)])
def test_a_metric_that_can_not_be_measured_any_more_is_told(metric: str, said: Said) -> None:
    """It fails where it decides; what the baseline never had is none of it."""
    baseline = replace(BASELINE, metrics={THROUGHPUT: known(1000), metric: known()})
    missing = {metric: "the engine is not capturable", "peak memory": "not told"}
    seen = replace(tonight(1000, metric=THROUGHPUT), missing=missing)
    _, gone = ruled(seen, Planned(), baseline=baseline)
    assert (gone.finding.metric, gone.finding.said, gone.held) == (metric, said, True)
    assert gone.finding.words == "the baseline has it, and tonight it can't be measured: the engine is not capturable"


@pytest.mark.parametrize("off", [0.05, 0.2, -0.1])
@pytest.mark.parametrize("plan", ["plan-a", "plan-b"])
def test_a_flaky_session_does_not_disarm_the_gate(off: float, plan: str) -> None:
    nights = near(1e-3, 1, 6)
    nights[3] *= 1 + off
    flaky = replace(BASELINE, metrics={GRAPH: Known.of("s", tuple(nights), CV, DEFAULTS[LATENCY])})
    assert flaky.metrics[GRAPH].tolerance == pytest.approx(0.01)
    seen = tonight(1.02e-3, plan, {**HERE, "driver": "590"} if plan == "plan-a" else HERE)
    ruling = only(ruled(seen, Planned(b=1.02e-3), baseline=flaky))
    assert ruling.finding.said is Said.REGRESSION


def test_a_canary_that_got_faster_excuses_no_loss() -> None:
    seen = tonight(1.05e-3, "plan-a", {**HERE, "driver": "590"})
    faster: dict[str, Any] = {"host": "canary memory: faster by 2 %", "gained": 0.02}
    assert only(ruled(seen, Planned(b=1.05e-3), **faster)).finding.said is Said.REGRESSION
    slower: dict[str, Any] = {"host": "canary memory: slower by 2 %", "lost": 0.02}
    assert only(ruled(seen, Planned(b=1.05e-3), **slower)).finding.said is Said.HOST_CHANGED


def test_one_build_of_three_is_not_the_same_plans() -> None:
    """Of a lottery of builds it may be the slow one, which only fresh processes of all tell."""
    three = replace(BASELINE, plans=("plan-a", "plan-a", "plan-b"))
    seen = replace(tonight(1.05e-3), plans=("plan-b", "plan-b", "plan-b"))
    rival = Planned(b=1.05e-3)
    ruling = only(ruled(seen, rival, baseline=three))
    assert (ruling.question, rival.calls) == (Question.REBUILT, ["beside plan-a"])


def test_drift_that_the_night_alone_shows_passes() -> None:
    release = replace(BASELINE, release="3.2")
    near_it = replace(BASELINE, plans=("plan-z",), metrics={GRAPH: known(1.04e-3)})
    _, drift = ruled(tonight(1.04e-3), Planned(a=1.04e-3, b=1.04e-3), baseline=near_it, release=release)
    assert drift.finding.said is Said.PASS


def test_a_quarantined_cell_is_measured_and_fails_nothing() -> None:
    rival = Planned(b=1.02e-3)
    ruling = only(ruled(tonight(1.02e-3), rival, quarantined={"bert": "ada, until 2026-12-31: two kernels take turns"}))
    assert rival.calls == ["beside plan-a"]
    assert ruling.finding.said is Said.REGRESSION
    assert not ruling.fails
    assert "ada" in str(ruling)


def test_what_the_policy_does_not_gate_fails_nothing() -> None:
    told = {**DEFAULTS, LATENCY: replace(DEFAULTS[LATENCY], gated=False)}
    ruling = only(ruled(tonight(1.02e-3), Planned(b=1.02e-3), policies=told))
    assert ruling.finding.said is Said.REGRESSION
    assert not ruling.fails


def test_a_candidate_that_fails_beside_the_old_plan_fails() -> None:
    class Broken(Planned):
        def beside(self, *_: object) -> Sequence[Finding] | str:
            return [Finding("bert", "side B", Said.FAILED, "it does not load")]

    ruling = only(ruled(tonight(1.02e-3), Broken()))
    assert ruling.finding.said is Said.FAILED
    assert ruling.fails


# The baseline's plans, tonight -----------------------------------------------------------------------


def test_a_lottery_of_builds_hides_no_driver() -> None:
    """Tonight's plan is as fast as ever, and the one before it got slower with the driver."""
    rival = Planned(old=1.03e-3)
    rebuilt, same = ruled(tonight(1e-3, environment=ELSEWHERE), rival)
    assert (rebuilt.finding.said, rebuilt.question) == (Said.PASS, Question.REBUILT)
    assert (same.finding.said, same.question) == (Said.REGRESSION, Question.ENVIRONMENT)
    assert same.fails
    assert "driver 590 (was 580)" in same.finding.words
    assert rival.calls == ["stayed", "again"]


def test_the_same_plan_by_both_libraries_is_measured_side_by_side() -> None:
    other = {**HERE, "library": "8.6.2"}
    rival = Planned(b=1.03e-3, old=1.03e-3, environment=other)
    installed, same = ruled(tonight(1e-3, environment=other), rival)
    assert (installed.finding.said, installed.question) == (Said.PASS, Question.INSTALLATION)
    assert (same.finding.said, same.question) == (Said.REGRESSION, Question.ENVIRONMENT)
    assert "by both libraries" in same.finding.words
    assert rival.calls == ["stayed", "beside plan-a"]


def test_a_plan_that_tonight_cant_run_is_told() -> None:
    _, same = ruled(tonight(1e-3, environment=ELSEWHERE), Planned())
    assert same.finding.said is Said.NOT_COVERED
    assert "can't be run" in same.finding.words
    assert not same.fails


@pytest.mark.parametrize("environment", [HERE, {**HERE, "options": "optimization_level=0"}])
def test_what_only_builds_differ_in_is_measured_once(environment: Mapping[str, str]) -> None:
    rival = Planned(old=1.03e-3)
    assert len(ruled(tonight(1e-3, environment=environment), rival)) == 1
    assert rival.calls == []


def test_screening_measures_no_old_plan() -> None:
    rival = Planned(old=1.03e-3)
    assert len(ruled(tonight(1e-3, environment=ELSEWHERE), rival, perf="screen")) == 1
    assert rival.calls == []


def test_an_old_plan_that_fails_later_is_not_the_candidates() -> None:
    class Later(Planned):
        def again(self, _: Sequence[str]) -> Mapping[str, npt.NDArray[np.float64]]:
            side: Any = SimpleNamespace(name="B")
            raise SideFailed(side, RunError("it crashed"))

    rebuilt, same = ruled(tonight(1e-3, environment=ELSEWHERE), Later(old=1.03e-3))
    assert rebuilt.finding.said is Said.PASS
    assert (same.finding.said, same.fails) == (Said.NOT_COVERED, False)
    assert "it crashed" in same.finding.words

    class Broken(Planned):
        def beside(self, *_: object) -> Sequence[Finding] | str:
            return [Finding("bert", "side B", Said.FAILED, "it does not load")]

    other = {**HERE, "library": "8.6.2"}
    _, same = ruled(tonight(1e-3, environment=other), Broken(old=1.03e-3, environment=other))
    assert (same.finding.said, same.fails) == (Said.NOT_COVERED, False)
    assert "it does not load" in same.finding.words


def test_of_the_old_plan_only_what_the_baseline_has_is_told() -> None:
    seen = tonight(1e-3, environment=ELSEWHERE)
    both = replace(seen, values={**seen.values, THROUGHPUT: near(1e3, 9)})

    class More(Planned):
        def stayed(self, baseline: Baseline, session: str) -> tuple[Tonight, Planned] | str:
            found = super().stayed(baseline, session)
            assert not isinstance(found, str)
            return replace(found[0], values=both.values), found[1]

    rulings = ruled(both, More(old=1e-3))
    assert [(one.finding.metric, one.held) for one in rulings] == [(GRAPH, True), (THROUGHPUT, False), (GRAPH, True)]


def test_a_host_that_moved_is_named_beside_what_it_may_hide() -> None:
    ruling = only(ruled(tonight(1e-3), Planned(), host="canary memory: faster by 5 %"))
    assert ruling.finding.said is Said.PASS
    assert "canary memory: faster by 5 %" in ruling.finding.words


@pytest.mark.parametrize(("days", "calls"), [(1, ["beside plan-a"]), (10, []), (0, [])])
def test_sessions_of_one_day_are_too_few_to_pass_by(days: int, calls: list[str]) -> None:
    noisy = Known("s", tuple(near(1e-3, 1, 10, 0.008)), CV, 0.05)
    rival = Planned()
    ruled(tonight(1e-3), rival, baseline=replace(BASELINE, metrics={GRAPH: noisy}, days=days))
    assert rival.calls == calls


FASTER: dict[str, Any] = {"host": "canary memory: faster by 5 %", "gained": math.log(1.05)}


def test_a_host_that_got_faster_hides_no_slower_plan() -> None:
    """It is faster than the baseline's nights by 3 %, and the host by 5 %."""
    rival = Planned(a=1e-3 / 1.05, b=0.97e-3)
    ruling = only(ruled(tonight(0.97e-3), rival, **FASTER))
    assert rival.calls == ["beside plan-a"]
    assert ruling.finding.said is Said.REGRESSION
    screened = only(ruled(tonight(0.97e-3), rival, perf="screen", **FASTER))
    assert screened.finding.said is Said.INCONCLUSIVE
    assert "faster by 3" in screened.finding.words
    assert "canary memory: faster by 5 %" in screened.finding.words


def test_a_plan_that_gained_what_the_host_did_passes() -> None:
    rival = Planned()
    ruling = only(ruled(tonight(1e-3 / 1.05), rival, **FASTER))
    assert (ruling.finding.said, rival.calls) == (Said.PASS, []), "and is no improvement of its own"


def test_a_throughput_is_to_gain_it_too() -> None:
    baseline = replace(BASELINE, metrics={THROUGHPUT: Known("runs/s", tuple(near(1000, 3, 10)), CV, 0.01)})
    rival = Planned(a=1050, b=1030)
    ruling = only(ruled(tonight(1030, metric=THROUGHPUT), rival, baseline=baseline, **FASTER))
    assert ruling.finding.said is Said.REGRESSION


def test_a_faster_host_says_nothing_of_the_same_plan_or_of_a_size() -> None:
    rival = Planned()
    assert only(ruled(tonight(1e-3, "plan-a"), rival, **FASTER)).finding.said is Said.PASS
    size = replace(BASELINE, metrics={"plan size": Known("bytes", (1e7,) * 6, 0.0, 0.02)})
    same = Tonight("k", "bert", "tonight", ("plan-b",), HERE, {"plan size": np.full(4, 1e7)})
    assert only(ruled(same, rival, baseline=size, **FASTER)).finding.said is Said.PASS
    assert rival.calls == []


def test_a_faster_host_is_no_drift_of_the_same_plan() -> None:
    release = replace(BASELINE, release="3.2")
    faster: dict[str, Any] = {**FASTER, "gained": float(np.log(1.1))}
    assert len(ruled(tonight(1e-3, "plan-a"), Planned(), release=release, **faster)) == 1
    assert len(ruled(tonight(1e-3), Planned(), release=release, **faster)) == 2


def test_what_a_faster_host_may_hide_and_nothing_stands_beside_is_the_hosts() -> None:
    ruling = only(ruled(tonight(0.99e-3), Planned(b=0.99e-3, refused="it can't be loaded"), **FASTER))
    assert ruling.finding.said is Said.HOST_CHANGED


# History -----------------------------------------------------------------------------------------------


def test_the_prediction_interval_covers() -> None:
    """Of sessions that are apart by more than their processes: at 95 %, with two sessions and with thirty."""
    rng = np.random.default_rng(5)
    metric = Metric("latency")
    for sessions in (2, 5, 30):
        held = 0
        for _ in range(2000):
            nights = rng.normal(0, 0.005, sessions + 1)
            values = np.exp(nights[:-1] + rng.normal(0, 0.0005, sessions))
            processes = np.exp(nights[-1] + rng.normal(0, 0.001, 8))
            step = against_history(Known("s", tuple(values), 0.001, 0.01), processes, metric)
            held += step.low <= 0 <= step.high
        assert 0.93 < held / 2000 < 0.99, sessions


def test_it_is_students_prediction_interval() -> None:
    values = np.exp([0.0, 0.01, -0.01, 0.02])
    step = against_history(Known("s", tuple(values), 1e-9, 0.01), np.exp([0.05, 0.05]), Metric("latency"))
    nights = np.log(values)
    error = nights.std(ddof=1) * np.sqrt(1 + 1 / 4)
    low, high = stats.t.interval(0.95, 3, loc=0.05 - nights.mean(), scale=error)
    assert (step.low, step.high) == pytest.approx((low, high))
    assert step.p == pytest.approx(stats.t.sf((0.05 - nights.mean()) / error, 3))


def test_sessions_that_agree_by_chance_promise_nothing() -> None:
    """What processes alone leave of error is the least."""
    agreeing = Known("s", (1.0, 1.0, 1.0), 0.01, 0.01)
    step = against_history(agreeing, near(1.0, 3, 8, 0.01), Metric("latency"))
    assert step.high - step.low > 0.01


# Which question ----------------------------------------------------------------------------------------


def test_which_question() -> None:
    three = replace(BASELINE, plans=("plan-a", "plan-b", "plan-c"))
    assert asked(replace(tonight(1), plans=("plan-c", "plan-a", "plan-b")), three) is Question.ENVIRONMENT
    assert asked(tonight(1, "plan-b"), three) is Question.REBUILT
    assert asked(tonight(1, "plan-d"), three) is Question.REBUILT
    assert asked(tonight(1, "plan-d", {**HERE, "library": "9"}), three) is Question.INSTALLATION
    assert asked(tonight(1, "plan-a", {**HERE, "library": "9"}), three) is Question.INSTALLATION
    assert asked(tonight(1, "plan-d", {**HERE, "driver": "9"}), three) is Question.REBUILT


def test_what_changed() -> None:
    assert changes({"driver": "1", "gone": "x"}, {"driver": "2", "new": "y"}) == [
        "driver 2 (was 1)",
        "gone unknown (was x)",
        "new y (was unknown)",
    ]
    assert changes(HERE, HERE) == []


def test_a_policy_is_found_for_every_quantity() -> None:
    from harness.ledger.policy import kind_of

    kinds = {one.name: kind_of(one) for one in (*QUANTITIES, PLAN_SIZE, BUILD)}
    assert kinds["gpu, graph"] == kinds["throughput"] == "latency"
    assert kinds["host memory"] == "memory"
    assert kinds["plan size"] == "size"
    assert kinds["build"] == "build"
    assert kinds["deserialize"] == "once"
    assert set(kinds.values()) <= DEFAULTS.keys()
    assert isinstance(KNOWN_QUANTITIES[GRAPH], Quantity)
    assert all(isinstance(one, Policy) for one in DEFAULTS.values())
