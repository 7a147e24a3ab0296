"""One builder against another: what their builds differ by, and what only a lottery does."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from harness.measure.builders import BUILDS, LOTTERY, by_build, judge_builds, spread_of
from harness.measure.metric import Metric
from harness.measure.verdict import Outcome, Verdict

Array = npt.NDArray[np.float64]
LATENCY = Metric("gpu, graph", tolerance=0.01)
CV = 0.002


def builds(*middles: float, seed: int, processes: int = 4, cv: float = CV) -> list[Array]:
    """Processes of builds of these medians."""
    rng = np.random.default_rng(seed)
    return [middle * np.exp(cv * rng.standard_normal(processes)) for middle in middles]


def judged(a: Sequence[Array], b: Sequence[Array], level: float = 1e-4) -> Verdict:
    return judge_builds(a, b, LATENCY, level)[0]


def test_builds_that_all_got_slower_are_a_regression() -> None:
    verdict = judged(builds(1.0, 1.0, 1.0, seed=1), builds(1.02, 1.02, 1.02, seed=2))
    assert verdict.outcome is Outcome.REGRESSION
    assert verdict.low < np.log(1.02) < verdict.high
    assert "slower by 2" in verdict.words
    told = re.fullmatch(r"equal builders are as far apart in one cell of ([\d,]+)", verdict.reason)
    assert told
    assert int(told[1].replace(",", "")) > 0.5 / LOTTERY


def test_how_rarely_a_lottery_does_it_is_told_of_what_is_barely_shown() -> None:
    a, b = builds(1.0, 1.01, 1.02, seed=1), builds(1.05, 1.06, 1.045, seed=2)
    verdict = judged(a, b)
    assert verdict.outcome is Outcome.REGRESSION
    p = stats.ttest_ind(*[[np.log(one).mean() for one in arm] for arm in (b, a)], equal_var=False).pvalue
    assert verdict.reason.endswith(f"in one cell of {1 / p:,.0f}")


def test_builds_that_all_got_faster_are_an_improvement() -> None:
    assert judged(builds(1.02, 1.02, 1.02, seed=1), builds(1.0, 1.0, 1.0, seed=2)).outcome is Outcome.IMPROVEMENT


def test_equal_builds_pass() -> None:
    assert judged(builds(1.0, 1.0, 1.0, seed=1), builds(1.0, 1.0, 1.0, seed=2)).outcome is Outcome.PASS


def test_what_a_lottery_of_builds_explains_is_open() -> None:
    """These plans are slower for sure; the next builds may not be."""
    verdict, over = judge_builds(builds(1.0, 1.03, 1.0, seed=1), builds(1.03, 1.0, 1.03, seed=2), LATENCY, 1e-4)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "lottery" in verdict.reason
    assert "of A are 3" in verdict.reason
    assert over


@pytest.mark.parametrize(("a", "b"), [(1, BUILDS), (BUILDS, 1), (2, 2)])
def test_few_builds_show_no_builder(a: int, b: int) -> None:
    verdict, over = judge_builds(builds(*[1.0] * a, seed=1), builds(*[1.05] * b, seed=2, processes=6), LATENCY, 1e-4)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert f"{a} and {b} builds" in verdict.reason
    assert np.isfinite([verdict.low, verdict.high, verdict.visible]).all()
    assert over


def test_more_processes_are_asked_for_where_they_help() -> None:
    a, b = (builds(*[middle] * 3, seed=seed, processes=2, cv=0.02) for seed, middle in enumerate((1, 1.01), start=1))
    verdict, over = judge_builds(a, b, LATENCY, 1e-4)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert not over


def test_two_modes_of_one_build_are_unstable() -> None:
    slow = [one * np.where(np.arange(one.size) % 3 == 0, 1.1, 1.0) for one in builds(1, 1, 1, seed=2, processes=9)]
    verdict = judged(builds(1, 1, 1, seed=1, processes=9), slow)
    assert verdict.outcome is Outcome.UNSTABLE
    assert "one build" in verdict.reason


def test_builds_that_are_apart_are_no_modes() -> None:
    assert judged(builds(1, 1.1, 1, seed=1), builds(1.1, 1, 1, seed=2)).outcome is Outcome.INCONCLUSIVE


def test_less_than_the_noise_of_the_cell_is_no_change() -> None:
    """However many processes there are."""
    a, b = (
        builds(*[middle] * 3, seed=seed, processes=1000, cv=0.01) for seed, middle in enumerate((1, 1.003), start=1)
    )
    verdict = judged(a, b)
    assert verdict.outcome is Outcome.PASS
    assert verdict.p < 0.01  # both tests show it


def test_what_processes_dont_show_is_no_change() -> None:
    """However well the builds of a side agree: the level is that of a gate, shared by cells and looks."""
    a, b = builds(1, 1, 1, seed=1), builds(1.006, 1.006, 1.006, seed=2)
    assert judged(a, b, 1e-3).outcome is Outcome.REGRESSION
    assert judged(a, b, 1e-9).outcome is Outcome.PASS


def test_more_is_better_where_the_metric_says_so() -> None:
    rate = Metric("throughput", "lower", "higher", tolerance=0.01, more_is_better=True)
    verdict, _ = judge_builds(builds(100, 100, 100, seed=1), builds(95, 95, 95, seed=2), rate, 1e-4)
    assert verdict.outcome is Outcome.REGRESSION
    assert "lower by 5" in verdict.words


def test_builds_that_agree_by_chance_are_no_surer_than_their_processes() -> None:
    a = [np.array([-0.01, 0.01])] * 3  # equal means, of processes that are apart
    b = [one + 0.012 for one in a]
    found = spread_of(a, b)
    assert found.between == pytest.approx(found.within)
    assert found.between_degrees == pytest.approx(4)


def test_a_clock_hides_what_it_rounds() -> None:
    equal = [np.zeros(4)] * 3
    assert spread_of(equal, equal, 0.001).process == pytest.approx(0.001, rel=1e-3)


def test_one_process_a_build_says_nothing() -> None:
    with pytest.raises(ValueError, match="two of some build"):
        spread_of([np.zeros(1)] * 3, [np.zeros(1)] * 3)


def test_processes_take_builds_in_turn() -> None:
    values = np.arange(12.0).reshape(6, 2)
    every = by_build(values, np.ones(6, bool), 3)
    assert [one.tolist() for one in every] == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    without = by_build(values, np.array([False, True, True, True, True, True]), 3)
    assert [one.tolist() for one in without] == [[3, 6, 9], [4, 7, 10], [2, 5, 8, 11]]
    assert len(by_build(values[:1], np.ones(1, bool), 3)) == 2


@pytest.mark.parametrize("lottery", [0.0, 0.003, 0.02])
def test_equal_builders_are_seldom_told_apart(lottery: float) -> None:
    """By `LOTTERY` at most, whatever the level that processes are held against."""
    rng = np.random.default_rng(3)
    false = 0
    for _ in range(2000):
        a, b = ([np.exp(lottery * rng.standard_normal() + CV * rng.standard_normal(4)) for _ in range(3)] for _ in "ab")
        false += judged(a, b, 0.02).outcome is Outcome.REGRESSION
    assert false <= 0.01 * 2000 + 3 * (0.01 * 2000) ** 0.5
