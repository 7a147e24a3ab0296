from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as oracle

from harness.measure.stats import (
    LEVEL,
    POWER,
    Change,
    block_ratios,
    over_blocks,
    over_processes,
    over_trimmed,
    process_medians,
    resolution,
    visible,
)
from tests.measure.simulated import exact, medians

NOISY = medians(6, 0.01, 0.005, seed=1)


def test_a_process_is_one_number() -> None:
    assert process_medians([[3.0, 1.0, 2.0], [4.0, 8.0], [5.0]]).tolist() == [2.0, 6.0, 5.0]


def test_a_process_without_samples_is_named() -> None:
    with pytest.raises(ValueError, match="process 1 of 2 has no samples"):
        process_medians([[1.0], []])


def test_the_ratio_of_a_block_is_of_geometric_means() -> None:
    one = [[[1.0, 4.0], [2.0, 8.0]], [[3.0, 3.0], [3.0, 3.0]]]
    assert block_ratios(one) == pytest.approx([np.log(2), 0.0])


@pytest.mark.parametrize(
    "wrong", [np.ones((4, 2)), np.ones((4, 2, 3)), np.ones((1, 2, 2)), np.zeros((2, 2, 2)), np.full((2, 2, 2), np.nan)]
)
def test_what_has_no_log_ratio_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="medians"):
        block_ratios(wrong)


def test_the_spread_of_a_block_is_the_variation_between_processes() -> None:
    assert block_ratios(medians(20_000, 0.01)).std() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_interval_and_p_are_those_of_scipy(confidence: float) -> None:
    ratios = block_ratios(NOISY)
    change = over_blocks(ratios)
    want = oracle.ttest_1samp(ratios, 0.0).confidence_interval(confidence)
    assert change.interval(confidence) == pytest.approx((want.low, want.high), rel=1e-9)
    assert float(change.p_worse) == pytest.approx(oracle.ttest_1samp(ratios, 0.0, alternative="greater").pvalue)
    assert float(change.p_better) == pytest.approx(oracle.ttest_1samp(ratios, 0.0, alternative="less").pvalue)


def test_all_cells_at_once_are_as_one_by_one() -> None:
    many = medians(5, 0.01, 0.01, cells=(3, 2))
    tick = np.array([0.0, 0.004])
    for over in (lambda m, t: over_blocks(block_ratios(m), t), over_processes):
        together = over(many, tick)
        for cell, metric in np.ndindex(3, 2):
            alone = over(many[cell, metric], tick[metric])
            assert (together.mean[cell, metric], together.error[cell, metric]) == (alone.mean, alone.error)
            assert together[cell].mean[metric] == alone.mean


@pytest.mark.parametrize("over", [lambda m: over_blocks(block_ratios(m)), over_processes])
def test_the_unit_does_not_matter_and_arms_change_the_sign(over) -> None:
    change, scaled, swapped = over(NOISY), over(1e-6 * NOISY), over(NOISY[:, ::-1])
    assert (scaled.mean, scaled.error) == pytest.approx((change.mean, change.error))
    assert (swapped.mean, swapped.error) == pytest.approx((-change.mean, change.error))
    assert swapped.p_worse == pytest.approx(float(change.p_better))
    assert swapped.interval() == pytest.approx(tuple(-end for end in reversed(change.interval())))


def test_the_spread_over_processes_is_that_of_a_linear_model() -> None:
    """Least squares with an effect of every block and one of the arm."""
    logs = np.log(NOISY)
    blocks = np.repeat(np.eye(6), 4, axis=0)
    arm = np.tile([0.0, 0.0, 1.0, 1.0], 6)[:, None]
    design = np.hstack([blocks, arm])
    effects, residual, _, _ = np.linalg.lstsq(design, logs.reshape(-1))
    change = over_processes(NOISY)
    variance = residual[0] / (24 - 7) * np.linalg.inv(design.T @ design)[-1, -1]
    assert (change.mean, change.error, change.degrees) == pytest.approx((effects[-1], variance**0.5, 17))


def test_equal_medians_are_no_certainty_where_the_clock_is_coarse() -> None:
    same = block_ratios(exact(0.01, 0.01, 0.01, 0.01))
    assert over_blocks(same).p_worse < 1e-12
    assert float(over_blocks(same, tick=0.01).error) == pytest.approx(0.01 / 12**0.5 / 2)


def test_numbers_without_any_noise_do_not_divide_by_zero() -> None:
    change = over_blocks(block_ratios(exact(0.0, 0.0)))
    assert float(change.p_worse) == pytest.approx(0.5)
    assert change.interval() == pytest.approx((0.0, 0.0), abs=1e-7)


@pytest.mark.parametrize("blocks", [4, 8, 16])
@pytest.mark.parametrize("level", [LEVEL, 1e-5])
def test_a_visible_change_is_seen_with_the_power_it_says(blocks: int, level: float) -> None:
    """By scipy's noncentral t."""
    shift = float(visible(0.01, blocks, level=level)) / 0.01 * blocks**0.5
    needed = oracle.t.ppf(1 - level, blocks - 1)
    assert 1 - oracle.nct.cdf(needed, blocks - 1, shift) == pytest.approx(POWER, abs=1e-4)


def test_a_floor_is_part_of_what_is_visible() -> None:
    plain, floored = visible(0.01, 16), visible(0.01, 16, floor=0.012)
    assert float(floored) == pytest.approx(0.012 + oracle.t.ppf(POWER, 15) * 0.0025)
    assert plain < floored
    assert visible(0.01, 16, floor=0.001) == plain


@pytest.mark.parametrize("blocks", [4, 16, 64])
def test_a_floor_that_follows_the_spread_is_seen_with_that_power_too(blocks: int) -> None:
    """What is found of the spread is as uncertain as the change: by scipy's noncentral t."""
    shift = float(visible(0.01, blocks, multiple=1.5)) / 0.01 * blocks**0.5
    needed = max(oracle.t.ppf(1 - LEVEL, blocks - 1), 1.5 * blocks**0.5)
    assert 1 - oracle.nct.cdf(needed, blocks - 1, shift) == pytest.approx(POWER, abs=1e-4)


@pytest.mark.parametrize(("blocks", "off"), [(4, 1), (8, 2), (12, 3)])
def test_trimmed_means_are_those_of_yuen(blocks: int, off: int) -> None:
    some = medians(blocks, 0.01, 0.005, seed=1)
    change = over_trimmed(some)
    a, b = (np.log(some[:, arm]).ravel() for arm in (0, 1))
    want = oracle.ttest_ind(b, a, equal_var=False, trim=off / a.size)
    assert float(change.mean / change.error) == pytest.approx(want.statistic)
    assert float(change.mean) == pytest.approx(oracle.trim_mean(b, off / a.size) - oracle.trim_mean(a, off / a.size))
    assert change.degrees == 2 * (a.size - 2 * off - 1)


def test_one_process_far_off_moves_no_trimmed_mean() -> None:
    some = medians(4, 0.005, 0.02, cells=(500,))
    some[:, 1, 0, 0] *= 1.3
    assert np.mean(over_trimmed(some).p_worse < 0.01) > 0.95
    assert np.mean(over_processes(some).p_worse < 0.01) < 0.05


def test_trimmed_means_raise_no_more_suspicion_than_they_say() -> None:
    for level in (0.002, 0.025):
        assert np.mean(over_trimmed(medians(4, 0.01, cells=(20_000,))).p_worse < level) < 1.3 * level


def test_trimmed_means_on_one_step_of_a_clock_say_little() -> None:
    same = np.ones((4, 2, 2))
    same[:, 1] = 1.001
    assert over_trimmed(same).p_worse < 1e-6
    assert over_trimmed(same, 0.004).p_worse > 0.05


def test_more_blocks_show_less() -> None:
    sizes = [float(visible(0.01, blocks)) for blocks in (2, 4, 8, 16, 32)]
    assert sizes == sorted(sizes, reverse=True)
    assert float(visible(0.02, 8)) == pytest.approx(2 * float(visible(0.01, 8)))


def test_the_clock_is_read_from_its_samples() -> None:
    rng = np.random.default_rng(0)
    samples = np.round(rng.normal(125, 2, 500) / 0.5) * 0.5
    assert resolution(samples) == pytest.approx(0.5 / 125)
    assert resolution(1e-6 * samples) == pytest.approx(0.5 / 125)
    assert resolution([3.0, 3.0]) == 0.0
    assert resolution(rng.normal(125, 2, 500)) < 1e-4


def test_the_spread_is_of_one_block() -> None:
    assert float(Change(np.array(0.0), np.array(0.5), 16, 15).spread) == 2.0
