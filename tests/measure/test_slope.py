"""What counts as growth, and what only looks like it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from harness.measure.slope import LEAST, MOST, WARM_UP, slope

MB = 1e6
QUANTUM = float(1 << 20)
LEVEL = 150 * MB


def noise(rounds: int, spread: float, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return spread * np.random.default_rng(seed).standard_normal(rounds)


def growing(rounds: int, each: float, spread: float = 0.0) -> Sequence[float]:
    return list(LEVEL + each * np.arange(rounds) + noise(rounds, spread))


def test_what_does_not_change_is_flat() -> None:
    found = slope([LEVEL] * 500, QUANTUM)
    assert (found.estimate, found.low, found.high) == (0, 0, 0)
    assert (found.leaks, found.creeps) == (False, False)
    assert (found.rounds, found.warm_up) == (450, 50)
    assert found.first == found.last == LEVEL
    assert found.visible == pytest.approx(QUANTUM / 450)


@pytest.mark.parametrize("rounds", [25, 50, 500])
def test_noise_is_flat(rounds: int) -> None:
    for seed in range(20):
        found = slope(list(LEVEL + noise(rounds, 0.3 * MB, seed)), QUANTUM)
        assert found.low <= 0 <= found.high or abs(found.estimate) < 0.1 * MB
        assert not found.leaks


@pytest.mark.parametrize("rounds", [25, 50])
def test_a_megabyte_a_round_is_found_within_fifty(rounds: int) -> None:
    for seed in range(20):
        found = slope(list(np.asarray(growing(rounds, MB)) + noise(rounds, 0.1 * MB, seed)), QUANTUM)
        assert found.leaks
        assert found.low < found.estimate < found.high
        assert found.estimate == pytest.approx(MB, rel=0.05)


def test_a_creeping_leak_shows_once_it_exceeds_the_quantum() -> None:
    """2 kB a round: 0.9 MB in 450 rounds, and 1.8 MB in 900."""
    short, long = (slope(growing(rounds, 2e3, spread=200.0), QUANTUM) for rounds in (500, 1000))
    assert (short.leaks, short.creeps) == (False, True)
    assert long.leaks
    assert not long.creeps
    assert short.visible == pytest.approx(QUANTUM / 450, rel=0.05)
    assert slope(growing(500, 1.1 * short.visible, spread=200.0), QUANTUM).leaks


def test_the_quantum_decides() -> None:
    values = growing(500, 2e3)
    assert slope(values, 449 * 2e3).leaks
    assert not slope(values, 451 * 2e3).leaks


def test_a_warm_up_is_left_out() -> None:
    """Libraries and caches that fill in the first rounds."""
    values = [LEVEL + 20 * MB * min(number, WARM_UP) for number in range(50)]
    found = slope(values, QUANTUM)
    assert found.warm_up == WARM_UP
    assert (found.estimate, found.leaks, found.creeps) == (0, False, False)
    late = [LEVEL + 20 * MB * min(number, 5 * WARM_UP) for number in range(50)]
    assert slope(late, QUANTUM).leaks  # as far as fifty rounds can tell


@pytest.mark.parametrize("at", [0.15, 0.3, 0.5, 0.7, 0.95])
def test_one_step_is_no_slope(at: float) -> None:
    """Something that was first needed late: 64 MB once."""
    values = [LEVEL + 64 * MB * (number > at * 500) for number in range(500)]
    assert not slope(values, QUANTUM).leaks


@pytest.mark.parametrize("teeth", [1.9, 2.5, 3.7, 10.3, 60])
def test_a_sawtooth_is_flat(teeth: float) -> None:
    """A garbage collector's: 50 MB more and more, and back, however often."""
    period = 500 / teeth
    values = [LEVEL + 50 * MB * (number % period) / period for number in range(500)]
    assert not slope(values, QUANTUM).leaks


def test_a_leak_under_a_sawtooth() -> None:
    values = [LEVEL + 20 * MB * (number % 12) / 12 + 0.1 * MB * number for number in range(500)]
    found = slope(values, QUANTUM)
    assert found.leaks
    assert found.estimate == pytest.approx(0.1 * MB, rel=0.1)


def test_a_leak_that_an_allocator_rounds() -> None:
    """20 kB a round, taken 1 MB at a time: a staircase."""
    found = slope([LEVEL + MB * (number // 50) for number in range(500)], QUANTUM)
    assert found.leaks
    assert found.estimate == pytest.approx(20e3, rel=0.1)


def test_noise_that_adds_up_is_rarely_taken_for_a_leak() -> None:
    """A random walk of far more than the quantum: pairs of rounds alone would call most of these a slope."""
    walks = [LEVEL + np.cumsum(noise(500, MB, seed)) for seed in range(200)]
    found = [slope(list(walk), QUANTUM) for walk in walks]
    assert sum(one.leaks for one in found) <= 5  # of 1 that is to be expected
    assert all(one.low <= one.estimate <= one.high for one in found), "both intervals are in it"


def test_outliers_do_not_move_it() -> None:
    values = np.asarray(growing(100, 0.0, spread=1e3))
    values[[15, 40, 97, 99]] += 500 * MB
    found = slope(list(values), QUANTUM)
    assert abs(found.estimate) < 1e3
    assert not found.leaks


def test_floors_alone_are_no_slope() -> None:
    """Now and then a round that holds less, each time a little more than the last; all others are flat."""
    values = [LEVEL - (50 * MB - 5 * MB * (number // 50) if number % 50 == 25 else 0) for number in range(500)]
    found = slope(values, QUANTUM)
    assert found.estimate == 0
    assert not found.leaks


def test_what_shrinks_is_no_leak() -> None:
    assert not slope(growing(100, -MB), QUANTUM).leaks


def test_one_thing_more_is_no_slope_and_one_a_round_is() -> None:
    assert not slope([9.0] * 40 + [10.0] * 60, 1.0).leaks
    assert slope([9.0 + number for number in range(50)], 1.0).leaks
    assert slope([9.0 + number // 50 for number in range(500)], 1.0).leaks  # one in fifty


def test_very_many_rounds_come_to_the_same() -> None:
    found = slope(growing(5 * MOST, 2e3, spread=1e4), QUANTUM)
    assert found.rounds == 4500
    assert found.estimate == pytest.approx(2e3, rel=0.02)
    assert found.low < 2e3 < found.high


def test_too_few() -> None:
    slope([LEVEL] * LEAST, QUANTUM)
    with pytest.raises(ValueError, match=f"24 rounds: {LEAST} are the fewest"):
        slope([LEVEL] * (LEAST - 1), QUANTUM)
