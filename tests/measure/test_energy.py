from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from harness.measure.energy import divide

RNG = np.random.default_rng(0)


def energy(before: np.ndarray, after: np.ndarray) -> float:
    """By the definition: mn / (m + n) times twice the mean distance between, less the mean distances inside."""
    between = cdist(before[:, None], after[:, None]).mean()
    inside = sum(pdist(one[:, None]).mean() for one in (before, after) if one.size > 1)
    return float(before.size * after.size / (before.size + after.size) * (2 * between - inside))


@pytest.mark.parametrize("least", [1, 3])
def test_the_greatest_energy_of_all_pairs_of_stretches(least: int) -> None:
    series = RNG.standard_normal(20) + 2 * (np.arange(20) >= 12)
    every = {
        (first, end): energy(series[:first], series[first:end])
        for first in range(least, 20)
        for end in range(first + least, 21)
    }
    found, first, end = divide(series, least)
    assert (first, end) == max(every, key=lambda where: every[where])
    assert found == pytest.approx(every[first, end])


def test_a_pulse_ends_where_its_level_comes_back() -> None:
    time = np.arange(100)
    _, first, end = divide(RNG.standard_normal(100) + 6 * ((time >= 40) & (time < 50)), 3)
    assert (first, end) == (40, 50)


@pytest.mark.parametrize(("size", "least"), [(0, 1), (1, 1), (5, 3)])
def test_what_is_too_short_is_not_divided(size: int, least: int) -> None:
    assert divide(np.arange(size, dtype=float), least) == (-np.inf, 0, 0)
