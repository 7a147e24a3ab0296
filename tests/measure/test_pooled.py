from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.measure.history import History, history
from harness.measure.metric import Metric
from harness.measure.pooled import CELLS, NIGHTS, pooled, together
from tests.measure.nights import SIGMA, nights
from tests.measure.test_steps import correlated


def searched(series: np.ndarray, **options: Any) -> list[History]:
    return [history(nights(SIGMA * one, half=1e-4, **options), Metric("gpu"), series=30) for one in series]


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8])
def test_cells_that_are_alike_tell_their_correlation(correlation: float) -> None:
    """To within less than one tells of itself, which is .06 to .09."""
    belief = pooled(searched(correlated(correlation, (60, 120))))
    assert belief is not None
    assert belief.correlation == pytest.approx(correlation, abs=0.06)
    assert 0 < belief.error < 0.06


def test_cells_that_differ_tell_little_of_one() -> None:
    series = np.concatenate([correlated(correlation, (10, 120)) for correlation in (0.0, 0.4, 0.8)])
    belief = pooled(searched(series))
    assert belief is not None
    assert belief.error > 0.25


def test_cells_that_move_together_are_one_witness() -> None:
    series = np.repeat(correlated(0.5, (1, 120)), 60, axis=0)
    belief = pooled(searched(series))
    assert belief is not None
    assert belief.error > ((1 - 0.5**2) / 120) ** 0.5


def test_a_few_cells_that_are_unlike_the_rest_are_left_out() -> None:
    series = correlated(0.3, (60, 120))
    series[:2] = np.linspace(-4, 4, 120)  # a drift is no change point: what it leaves is correlated
    belief = pooled(searched(series))
    assert belief is not None
    assert belief.correlation == pytest.approx(0.3, abs=0.06)
    assert belief.error < 0.06


def test_a_host_that_steps_is_not_correlated_by_it() -> None:
    """Neither by an epoch, nor by what is found inside one."""
    drivers = {50: {"driver": "580"}}
    series = correlated(0.0, (60, 120)) + 20.0 * (np.arange(120) >= 50) + 8.0 * (np.arange(120) >= 90)
    belief = pooled(searched(series, environment=drivers))
    assert belief is not None
    assert belief.correlation < 0.05
    assert belief.error < 0.06


def test_too_few_or_too_short_ones_or_such_without_noise_tell_nothing() -> None:
    series = correlated(0.5, (CELLS, NIGHTS))
    assert pooled(searched(series)) is not None
    assert pooled(searched(series[1:])) is None
    assert pooled(searched(series[:, 1:])) is None
    assert pooled(searched(0 * series)) is None
    assert pooled([]) is None


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_how_far_cells_move_together(share: float) -> None:
    own, common = correlated(0.0, (20, 300), seed=4), correlated(0.0, (1, 300), seed=5)
    found = searched((1 - share) ** 0.5 * own + share**0.5 * common)
    assert together(found) == pytest.approx(share, abs=0.12)
    assert together(found[:1]) == 0.0
