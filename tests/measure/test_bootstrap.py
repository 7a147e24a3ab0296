from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as oracle

from harness.measure.bootstrap import bootstrap
from harness.measure.stats import block_ratios, over_blocks, process_medians
from tests.measure.simulated import exact, medians


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def test_of_blocks_alone_it_is_that_of_scipy() -> None:
    ratios = np.random.default_rng(0).normal(0.01, 0.01, 12)
    want = oracle.bootstrap((ratios,), np.mean, method="percentile", n_resamples=20_000, rng=0).confidence_interval
    assert bootstrap(exact(*ratios), resamples=20_000) == pytest.approx((want.low, want.high), abs=2e-4)


def test_it_is_about_as_wide_as_theory_says() -> None:
    """Processes are counted twice, by themselves and in their blocks: sqrt(1.5) of the error, at the normal's 1.96."""
    many = medians(24, 0.01, cells=(40,))
    checked = np.mean([width(bootstrap(one)) for one in many])
    t = np.mean([width(over_blocks(block_ratios(one)).interval()) for one in many])
    normal = oracle.norm.ppf(0.975) / oracle.t.ppf(0.975, 23)
    assert checked / t == pytest.approx(1.5**0.5 * normal * (23 / 24) ** 0.5, rel=0.03)


def test_it_covers() -> None:
    intervals = [bootstrap(one, resamples=400) for one in medians(12, 0.01, 0.02, cells=(300,))]
    assert np.mean([low <= np.log(1.02) <= high for low, high in intervals]) >= 0.95


def test_samples_add_what_a_median_does_not_show() -> None:
    rng = np.random.default_rng(0)
    quiet, noisy = (np.exp(rng.normal(0, noise, (32, 41))) for noise in (1e-6, 0.2))
    plain, little, much = (
        width(bootstrap(process_medians(samples).reshape(8, 2, 2), samples=given, resamples=500))
        for samples, given in ((noisy, None), (quiet, quiet), (noisy, noisy))
    )
    assert little < 1e-5
    assert much > 1.1 * plain


def test_samples_of_different_length() -> None:
    samples = [np.full(3 + number, 1.0 + number % 2) for number in range(8)]
    low, high = bootstrap(process_medians(samples).reshape(2, 2, 2), samples=samples)
    assert low < 0 < high


def test_scale_arms_and_seed() -> None:
    one = medians(6, 0.01, 0.01)
    low, high = bootstrap(one)
    assert bootstrap(1e-3 * one) == pytest.approx((low, high))
    assert bootstrap(one[:, ::-1], resamples=20_000) == pytest.approx((-high, -low), abs=5e-4)
    assert bootstrap(one) == (low, high)
    assert bootstrap(one, seed=1) != (low, high)
    assert width(bootstrap(one, confidence=0.5)) < width((low, high))


def test_what_it_can_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="one comparison at a time"):
        bootstrap(medians(4, 0.01, cells=(2,)))
    with pytest.raises(ValueError, match="samples of 1 processes for 8 medians"):
        bootstrap(medians(2, 0.01), samples=[[1.0]])
