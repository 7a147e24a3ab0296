from __future__ import annotations

import numpy as np
import pytest

from harness.measure.interleave import by_arm, interleaved
from harness.measure.stats import block_ratios

MANY = interleaved(6, np.random.default_rng(0), (200,))


def test_a_block_is_abba_or_baab() -> None:
    assert {tuple(block) for block in MANY.reshape(-1, 4).tolist()} == {(0, 1, 1, 0), (1, 0, 0, 1)}


def test_the_second_of_two_blocks_is_the_other_way_round() -> None:
    assert np.all(MANY[:, ::2] == 1 - MANY[:, 1::2])


def test_the_first_arm_is_at_random() -> None:
    assert 0.4 < MANY[:, ::2, 0].mean() < 0.6
    assert len({comparison.tobytes() for comparison in MANY}) == 8  # of three twos
    assert np.array_equal(interleaved(6, np.random.default_rng(0), (200,)), MANY)


def test_an_odd_number_of_blocks() -> None:
    assert interleaved(3, np.random.default_rng(0)).shape == (3, 4)


def test_values_are_sorted_by_arm_in_the_order_of_time() -> None:
    sorted_ = by_arm([[[1, 2, 3, 4], [5, 6, 7, 8]]], np.array([[0, 1, 1, 0], [1, 0, 0, 1]], np.int8))
    assert sorted_.tolist() == [[[[1, 4], [2, 3]], [[6, 7], [5, 8]]]]


@pytest.mark.parametrize("power", [1, 2])
def test_drift_falls_on_both_arms_alike(power: int) -> None:
    arms = interleaved(4, np.random.default_rng(3))
    time = np.arange(16).reshape(4, 4) / 16
    ratios = block_ratios(by_arm(np.exp(time**power), arms))
    assert ratios[::2] + ratios[1::2] == pytest.approx(0.0, abs=1e-12)
    assert power == 2 or ratios == pytest.approx(0.0, abs=1e-12)


def test_a_place_in_the_block_favours_no_arm() -> None:
    """The first process after a pause is slow: however the draw falls, no comparison takes it for a change."""
    slow = np.exp(np.array([0.05, 0.0, 0.0, 0.0]))
    ratios = block_ratios(by_arm(np.broadcast_to(slow, MANY.shape), MANY))
    assert ratios.mean(axis=-1) == pytest.approx(0.0, abs=1e-12)
