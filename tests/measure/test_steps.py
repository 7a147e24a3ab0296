from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as oracle
from scipy.linalg import solve, toeplitz
from scipy.signal import lfilter

from harness.measure.steps import (
    FLAKY,
    MOST,
    TRIMMED,
    UNLIKE,
    Belief,
    Noise,
    around,
    correlation,
    held,
    noise,
    scan,
    share,
    step,
    whitened,
)

RNG = np.random.default_rng(0)


def correlated(together: float, shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    shocks = np.random.default_rng(seed).standard_normal(shape)
    shocks[..., 1:] *= (1 - together**2) ** 0.5
    return np.asarray(lfilter([1.0], [1.0, -together], shocks, axis=-1))


def test_without_correlation_a_step_is_students() -> None:
    before, after = RNG.standard_normal(12), RNG.standard_normal(7) + 1
    pooled = (11 * before.var(ddof=1) + 6 * after.var(ddof=1)) / 17
    found = step([*before, *after], 12, Noise(0.0, pooled**0.5, 17))
    want = oracle.ttest_ind(after, before)
    assert found.estimate == pytest.approx(after.mean() - before.mean())
    assert found.p == pytest.approx(want.pvalue)
    assert found.interval(0.9) == pytest.approx(tuple(want.confidence_interval(0.9)))


@pytest.mark.parametrize("together", [0.0, 0.3, 0.8, 0.95])
def test_with_correlation_it_is_what_the_covariance_says(together: float) -> None:
    logs = correlated(together, (25,))
    covariance = toeplitz(together ** np.arange(25)) / (1 - together**2)
    estimates, errors = scan(logs, Noise(together, 1.0, 20))
    for place in range(1, 25):
        terms = np.stack([np.ones(25), np.arange(25) >= place], axis=-1).astype(float)
        information = terms.T @ solve(covariance, terms)
        assert estimates[place - 1] == pytest.approx(solve(information, terms.T @ solve(covariance, logs))[1])
        assert errors[place - 1] == pytest.approx(np.linalg.inv(information)[1, 1] ** 0.5)


def test_white_is_white() -> None:
    white = np.array([whitened(one, 0.7) for one in correlated(0.7, (4000, 20))]) / (1 - 0.7**2) ** 0.5
    assert np.cov(white.T) == pytest.approx(np.eye(20), abs=0.1)


@pytest.mark.parametrize("together", [0.0, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("steps", [False, True])
def test_correlation_is_found_across_steps(together: float, steps: bool) -> None:
    series = correlated(together, (200, 400))
    series += steps * (5.0 * (np.arange(400) >= 150) - 8.0 * (np.arange(400) >= 300))
    assert np.mean([correlation(one) for one in series]) == pytest.approx(together, abs=0.07)


def test_correlation_has_limits() -> None:
    assert correlation(np.arange(50.0)) == MOST
    assert correlation(np.resize([1.0, -1.0], 50)) == 0.0
    assert correlation([1.0, 2.0, 1.0]) == 0.0
    assert correlation(np.ones(50)) == 0.0


@pytest.mark.parametrize("together", [0.0, 0.5, 0.8])
def test_noise_around_levels(together: float) -> None:
    series = 0.01 * correlated(together, (200, 300)) + 0.1 * (np.arange(300) >= 100)
    every = [noise(one, [0, 100, 300]) for one in series]
    assert together <= np.mean([one.correlation for one in every]) <= together + 0.09  # cautious
    assert np.mean([one.innovation for one in every]) == pytest.approx(0.01 * (1 - together**2) ** 0.5, rel=0.03)
    assert every[0].degrees == 297


@pytest.mark.parametrize("together", [0.0, 0.5, 0.8])
def test_correlation_around_levels_has_the_error_that_it_tells(together: float) -> None:
    """Of three levels in 75 nights, whose estimates take away a part of it."""
    every = np.array([around(one, [0, 25, 50, 75]) for one in correlated(together, (800, 75))])
    assert every[:, 0].mean() == pytest.approx(together, abs=0.04)
    assert every[:, 0].std() == pytest.approx(every[:, 1].mean(), rel=0.15)


def test_a_belief_is_weighed_by_precision() -> None:
    assert Belief(0.2, 0.1).beside(0.4, 0.1) == pytest.approx((0.3, 0.1 / 2**0.5))
    assert Belief(0.2, 0.1).beside(0.3, 0.2) == pytest.approx((0.22, 0.2 / 5**0.5))
    assert Belief(0.5, 0.1).beside(-0.9, 0.1)[0] == pytest.approx(-0.2)  # less is never taken at its word


def test_a_series_that_is_more_correlated_than_was_believed_is_taken_at_its_word() -> None:
    apart = UNLIKE * 0.1 * 2**0.5
    assert Belief(0.2, 0.1).beside(0.2 + 0.99 * apart, 0.1)[0] < 0.5
    assert Belief(0.2, 0.1).beside(0.2 + 1.01 * apart, 0.1) == (0.2 + 1.01 * apart, 0.1)
    wild = [noise(one, [0, 200], belief=Belief(0.1, 0.02)).correlation for one in correlated(0.9, (50, 200))]
    assert np.mean(wild) > 0.85


@pytest.mark.parametrize("together", [0.3, 0.8])
def test_a_belief_tells_more_than_the_series_does(together: float) -> None:
    series = correlated(together, (200, 60))
    alone, believing = (
        np.array([noise(one, [0, 30, 60], belief=belief).correlation - together for one in series])
        for belief in (None, Belief(together, 0.03))
    )
    assert believing.std() < 0.5 * alone.std()
    assert 0 < believing.mean() < 0.5 * alone.mean()  # cautious, and less so


def test_levels_that_are_no_levels_do_not_hide_correlation() -> None:
    """Forty segments of AR(1) leave hardly any correlation around their means; differences still show it."""
    series = correlated(0.9, (100, 400))
    assert np.mean([noise(one, range(0, 401, 10)).correlation for one in series]) > 0.7


def test_noise_is_no_less_than_nights_know_of_themselves() -> None:
    assert noise(np.resize([1.0, 1.001], 40), [0, 40], known=np.full(40, 0.02)).innovation == pytest.approx(0.02)


def test_a_flaky_night_is_held_and_a_step_is_not() -> None:
    flat = RNG.standard_normal(100)
    flaky = flat.copy()
    flaky[[30, 60, 99]] += [50, -50, 50]
    assert np.abs(held(flaky)).max() < FLAKY
    kept = np.setdiff1d(np.arange(100), [30, 60, 99])
    assert np.mean(held(flaky)[kept] == flaky[kept]) > 0.98
    stepped = flat + 50 * (np.arange(100) >= 97)
    assert held(stepped)[97:] == pytest.approx(stepped[97:])
    assert held([1.0, 9.0, 1.0]).tolist() == [1.0, 9.0, 1.0]


@pytest.mark.parametrize("trimmed", [TRIMMED, 0.25, 0.5])
def test_the_share_of_a_trimmed_variance_is_that_of_a_normal_one(trimmed: float) -> None:
    end = oracle.norm.ppf(1 - trimmed / 2)
    assert share(trimmed) == pytest.approx(oracle.truncnorm(-end, end).var())
