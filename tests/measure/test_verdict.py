from __future__ import annotations

import math

import numpy as np
import pytest

from harness.measure.metric import Metric
from harness.measure.stats import LEVEL
from harness.measure.verdict import LEAST, Outcome, Verdict, floor, judge
from tests.measure.simulated import biased, exact, medians

LATENCY = Metric("latency")
THROUGHPUT = Metric("throughput", "lower", "higher", more_is_better=True)


def verdict(percent: float, low: float, high: float, visible: float, metric: Metric = LATENCY) -> Verdict:
    """Of changes of cost in percent."""
    estimate, *ends, least = (math.log1p(one / 100) for one in (percent, low, high, visible))
    return Verdict(Outcome.PASS, metric, estimate, ends[0], ends[1], least, 0.001, 0.1, LEVEL, 4)


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (verdict(2.1, 1.8, 2.4, 0.4), "slower by 2.1 % (1.8 to 2.4), smallest visible change 0.4 %"),
        (verdict(-2.1, -2.4, -1.8, 0.4), "faster by 2.1 % (1.8 to 2.4), smallest visible change 0.4 %"),
        (verdict(0.1, -0.3, 0.5, 0.6), "slower by 0.1 % (-0.3 to 0.5), smallest visible change 0.6 %"),
        (verdict(-0.1, -0.5, 0.3, 0.6), "faster by 0.1 % (-0.3 to 0.5), smallest visible change 0.6 %"),
        (verdict(0.52, 0.5, 0.54, 0.03), "slower by 0.52 % (0.50 to 0.54), smallest visible change 0.03 %"),
        (verdict(-0.0001, -0.0002, 0, 0.004), "faster by 0.000 % (0.000 to 0.000), smallest visible change 0.004 %"),
        (verdict(0.01, -0.5, 0.52, 1), "slower by 0.0 % (-0.5 to 0.5), smallest visible change 1.0 %"),
        (verdict(25, 20, 30, 6, THROUGHPUT), "lower by 20.0 % (16.7 to 23.1), smallest visible change 5.7 %"),
        (verdict(-20, -25, -10, 6, THROUGHPUT), "higher by 25.0 % (11.1 to 33.3), smallest visible change 5.7 %"),
    ],
)
def test_in_words(got: Verdict, words: str) -> None:
    assert got.words == words
    assert str(got) == f"PASS: {words}"
    assert str(got.overruled(Outcome.HOST_CHANGED, "why")) == f"HOST_CHANGED: {words}; why"


def test_a_regression() -> None:
    got = judge(medians(8, 0.002, 0.02), LATENCY)
    assert got.outcome is Outcome.REGRESSION
    assert 0 < got.low < math.log1p(0.02) < got.high
    assert got.estimate >= got.floor
    assert got.p < LEVEL == got.level
    assert got.blocks == 8
    assert str(got) == "REGRESSION: slower by 1.9 % (1.7 to 2.0), smallest visible change 0.3 %"


def test_a_fixed_floor_of_one_percent_would_let_half_of_these_pass() -> None:
    got = [judge(medians(4, 0.002, 0.01, seed=seed), LATENCY) for seed in range(100)]
    assert sum(one.estimate < math.log1p(0.01) for one in got) > 35
    assert sum(one.outcome is Outcome.REGRESSION for one in got) >= 97


def test_an_improvement() -> None:
    assert judge(medians(8, 0.002, -0.02), LATENCY).outcome is Outcome.IMPROVEMENT


def test_more_throughput_is_an_improvement() -> None:
    assert judge(medians(8, 0.002, 0.02), THROUGHPUT).outcome is Outcome.IMPROVEMENT
    assert judge(medians(8, 0.002, -0.02), THROUGHPUT).outcome is Outcome.REGRESSION


def test_no_change_passes_where_it_is_sure_enough() -> None:
    assert judge(medians(4, 0.002, seed=2), LATENCY).outcome is Outcome.PASS
    got = judge(medians(4, 0.02, seed=2), LATENCY)
    assert got.outcome is Outcome.INCONCLUSIVE
    assert got.high >= LATENCY.tolerance
    assert got.reason == "up to 4.9 % is possible, 2.0 % tolerated"
    assert judge(medians(4, 0.02, seed=2), Metric("latency", tolerance=0.1)).outcome is Outcome.PASS


def test_the_tolerance_is_held_against_the_end_of_the_interval() -> None:
    one = medians(4, 0.004, seed=2)
    high = judge(one, LATENCY).high
    for tolerance, outcome in ((high * 1.001, Outcome.PASS), (high * 0.999, Outcome.INCONCLUSIVE)):
        assert judge(one, Metric("latency", tolerance=tolerance)).outcome is outcome


def test_two_modes_are_unstable_also_where_b_is_slower() -> None:
    slow = np.random.default_rng(0).random((4, 2, 2)) < 0.4
    for change in (0.0, 0.05):
        got = judge(medians(4, 0.002, change) * np.where(slow, 1.11, 1.0), LATENCY)
        assert got.outcome is Outcome.UNSTABLE
        assert got.reason.startswith("two groups of processes 1")
        assert got.reason.endswith(" of 8 of B in the slower one")
        assert "smallest visible change" in got.words


def test_arms_and_scale() -> None:
    one = medians(6, 0.004, 0.03)
    got, scaled, swapped = judge(one, LATENCY), judge(1e-6 * one, LATENCY), judge(one[:, ::-1], LATENCY)
    assert scaled.words == got.words
    assert (got.outcome, swapped.outcome) == (Outcome.REGRESSION, Outcome.IMPROVEMENT)
    assert (swapped.estimate, swapped.low, swapped.high) == pytest.approx((-got.estimate, -got.high, -got.low))
    assert (swapped.visible, swapped.floor, swapped.p) == pytest.approx((got.visible, got.floor, got.p))


def test_what_may_not_be_concluded_is_not() -> None:
    """A level of 0: these medians were chosen for showing it."""
    assert judge(medians(8, 0.002, 0.02), LATENCY, worse=0).outcome is Outcome.INCONCLUSIVE
    assert judge(medians(8, 0.002, 0.01), LATENCY, worse=0).outcome is Outcome.PASS
    assert judge(medians(8, 0.002, -0.02), LATENCY, better=0).outcome is Outcome.PASS
    assert judge(medians(8, 0.002, -0.02), LATENCY, worse=0).outcome is Outcome.IMPROVEMENT


@pytest.mark.parametrize("levels", [{"worse": 0.05}, {"better": 0.03}])
def test_no_level_is_above_that_of_the_interval(levels: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"above 0\.025"):
        judge(medians(8, 0.002), LATENCY, **levels)
    at_it = judge(medians(8, 0.002, 0.02), LATENCY, worse=LEVEL, better=LEVEL)
    assert at_it.outcome is Outcome.REGRESSION


def test_an_adjusted_level_moves_the_lower_bound() -> None:
    one = medians(6, 0.004, 0.015)
    p = judge(one, LATENCY).p
    assert judge(one, LATENCY, worse=p * 1.01).outcome is Outcome.REGRESSION
    assert judge(one, LATENCY, worse=p * 0.99).outcome is not Outcome.REGRESSION


def test_the_floor_is_half_of_what_four_blocks_show() -> None:
    assert floor([0.01, 0.002, 0.0]) == pytest.approx([0.01253, 0.002507, LEAST], rel=1e-3)
    assert floor(0.002, tick=0.004) == 0.004


def test_far_below_a_cells_own_noise_nothing_is_a_regression() -> None:
    """However many blocks make it certain."""
    got = judge(biased(80), LATENCY)
    assert got.low > 0
    assert got.p < 1e-4
    assert got.estimate < got.floor
    assert got.outcome is Outcome.PASS
    assert got.visible > got.floor


def test_less_than_a_thousandth_is_no_regression_of_anything() -> None:
    assert judge(exact(0.0009, 0.0009, 0.0009), LATENCY).outcome is Outcome.PASS
    assert judge(exact(0.0011, 0.0011, 0.0011), LATENCY).outcome is Outcome.REGRESSION


def test_one_step_of_the_clock_is_no_regression() -> None:
    step = exact(*[math.log1p(0.004)] * 8)
    assert judge(step, LATENCY).outcome is Outcome.REGRESSION
    assert judge(step, Metric("latency", tick=0.0041)).outcome is Outcome.PASS


def test_a_bootstrap_has_to_agree() -> None:
    """Processes that cancel out in every block: the blocks look sure, and can't be."""
    odd = np.exp(np.tile([[[-0.1, 0.1], [-0.085, 0.115]]], (6, 1, 1)) + np.linspace(0, 0.002, 6)[:, None, None])
    odd[:, 1] *= np.exp(np.linspace(0, 0.001, 6))[:, None]
    got = judge(odd, Metric("latency", tolerance=0.5))  # in which modes this near are noise
    assert got.p < 1e-6
    assert got.outcome is Outcome.INCONCLUSIVE
    assert got.reason == "a bootstrap over blocks and processes does not confirm it"


def test_samples_go_into_that_bootstrap() -> None:
    one = medians(4, 0.002, 0.02)
    wild = [np.array([median * 0.5, median, median * 1.5]) for median in one.reshape(-1)]
    assert judge(one, LATENCY, samples=wild).reason.startswith("a bootstrap")
    assert judge(one, LATENCY, samples=[[median] for median in one.reshape(-1)]).outcome is Outcome.REGRESSION


def test_numbers_without_noise() -> None:
    """The size of a plan: the same bytes in every process."""
    size = Metric("plan size", "larger", "smaller", tolerance=0.01)
    assert judge(exact(0.0, 0.0), size).words == "smaller by 0.000 % (0.000 to 0.000), smallest visible change 0.1 %"
    assert judge(exact(0.0, 0.0), size).outcome is Outcome.PASS
    assert judge(exact(0.05, 0.05), size).outcome is Outcome.REGRESSION


def test_of_what_nothing_is_known_no_figures_are_told() -> None:
    """Two blocks whose ratios are far apart: the interval of one degree of freedom holds everything."""
    wild = np.array([[[1.0, 1.0], [1e4, 1e4]], [[1.0, 1.0], [1e-3, 1e-3]]])
    verdict = judge(wild, Metric("context"))
    assert "(-100.0 to over 1000), smallest visible change over 1000 %" in verdict.words
