from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from harness.measure.change_points import LEVEL, WINDOW, _binomial, find
from harness.measure.steps import Belief
from tests.measure.nights import SIGMA, flat
from tests.measure.test_steps import correlated

TIME = np.arange(120)


def places(logs: np.ndarray, **options: Any) -> list[int]:
    return [found.place for found in find(logs, **options)]


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.sampled_from([0.02, -0.02, 0.05]), st.integers(10, 110))
@settings(max_examples=30, deadline=None)
def test_a_clear_step_is_found_where_it_is(seed: int, size: float, at: int) -> None:
    every = find(flat(seed) + size * (at <= TIME))
    found = [one for one in every if abs(one.place - at) <= 2 or one.first <= at <= one.last]
    assert len(found) == 1
    assert found[0].step.estimate == pytest.approx(size, abs=0.01)
    assert found[0].after - found[0].before == pytest.approx(size, abs=0.01)
    assert found[0].p < LEVEL
    assert found[0].first <= found[0].place <= found[0].last


@given(seeds, st.floats(1e-3, 1e3), st.floats(-50, 50))
@settings(max_examples=20, deadline=None)
def test_neither_unit_nor_direction_matters(seed: int, scale: float, level: float) -> None:
    logs = flat(seed) + 0.02 * (TIME >= 60)
    assert places(logs + level + np.log(scale)) == places(logs)
    assert places(-logs) == places(logs)


def test_series_that_are_flat_have_none() -> None:
    assert sum(bool(find(flat(seed))) for seed in range(200)) <= 5
    assert find(np.zeros(300)) == ()
    assert find(np.zeros(0)) == ()
    assert find(np.array([1.0, 5.0])) == ()


@pytest.mark.parametrize("together", [0.3, 0.5, 0.8])
def test_correlation_is_no_change(together: float) -> None:
    """Of such series Student's t finds a point in most."""
    series = SIGMA * correlated(together, (150, 150))
    assert np.mean([bool(find(one)) for one in series]) <= 0.05


@pytest.mark.parametrize("together", [0.3, 0.5, 0.8])
def test_steps_are_found_in_spite_of_correlation(together: float) -> None:
    series = SIGMA * correlated(together, (50, 150), seed=2)
    series[:, 130:] += 0.02
    assert np.mean([any(abs(place - 130) <= 2 for place in places(one)) for one in series]) >= 0.96


def test_what_is_known_of_correlation_finds_what_is_hidden_without() -> None:
    series = SIGMA * correlated(0.8, (50, 70), seed=3)
    series[:, 56:] += 0.0165
    alone, believing = (
        np.mean([any(abs(one.place - 56) <= 2 for one in find(logs, series=100, belief=belief)) for logs in series])
        for belief in (None, Belief(0.8, 0.03))
    )
    assert believing > alone + 0.1
    assert believing > 0.75


@pytest.mark.parametrize("which", [41, 210, 299])
def test_warm_nights_beside_a_step_do_not_draw_it_away(which: int) -> None:
    """Of these energy says 64 or 65; where noise is correlated, the jump is the better witness."""
    series = SIGMA * correlated(0.5, (300, 120), seed=3)[which] + 0.015 * (TIME >= 60)
    assert [one.place for one in find(series, belief=Belief(0.5, 0.03))] == [60]


def test_where_others_have_changed_less_is_enough() -> None:
    """Of a place that is asked about: at it alone, and not where there is no step."""
    series = SIGMA * correlated(0.8, (100, 70), seed=4)
    stepped = series + 0.0165 * (TIME[:70] >= 56)
    alone, asked = (
        np.mean([56 in places(logs, series=1000, belief=Belief(0.8, 0.03), asked=where) for logs in stepped])
        for where in ([], [56])
    )
    assert asked > alone + 0.2
    assert asked > 0.9
    assert sum(bool(find(logs, asked=[20, 56], belief=Belief(0.8, 0.03))) for logs in series) <= 5


def test_a_place_that_is_asked_about_counts_for_every_place_and_series() -> None:
    logs = flat(11) + 0.01 * (TIME >= 112)
    assert not find(logs, series=1000)
    (one,), (many,) = find(logs, series=1000, asked=[112]), find(logs, series=2000, asked=[112])
    assert many.p == pytest.approx(2 * one.p)
    (some,) = find(logs, series=1000, asked=[30, 112])
    assert some.p == pytest.approx(2 * one.p)
    assert (one.place, one.nights) == (112, 8)


def test_what_is_asked_about_takes_nothing_from_what_was_found() -> None:
    logs = flat(2) + 0.02 * (TIME >= 80)
    assert places(logs, asked=[0, 1, 78, 80, 82, 119, 120], series=100) == [80]
    assert places(logs, asked=[40], series=100) == [80]
    both = find(logs + 0.005 * (TIME >= 40), series=100, asked=[40])
    assert [(one.place, one.nights) for one in both] == [(40, 40), (80, 40)]
    assert not find(flat(8) + 0.3 * (TIME >= 60), cuts=[60], asked=[60])


def test_what_was_found_some_nights_off_gives_way_to_what_is_asked_about() -> None:
    """A step of night 80 that the noise has moved to 73 is one step, not two."""
    logs = SIGMA * correlated(0.8, (400, 200), seed=7)[83] + 0.015 * (np.arange(200) >= 80)
    assert places(logs, series=20) == [73]
    assert places(logs, series=20, asked=[80]) == [80]


def test_correlation_that_is_known_is_no_change() -> None:
    series = SIGMA * correlated(0.5, (150, 150))
    assert np.mean([bool(find(one, belief=Belief(0.5, 0.03))) for one in series]) <= 0.05


@pytest.mark.parametrize("at", [0, 1, 30, 60, 117, 118, 119])
@pytest.mark.parametrize("size", [0.03, 0.5, -0.5])
@pytest.mark.parametrize("together", [0.0, 0.8])
def test_one_flaky_night_is_none(at: int, size: float, together: float) -> None:
    for seed in range(5):
        logs = SIGMA * correlated(together, (120,), seed)
        logs[at] += size
        assert not places(logs, series=100)


def test_flaky_nights_in_a_row_are_none_where_they_are_usual() -> None:
    """One night in ten is flaky, three of them by chance the last three."""
    logs = flat(1)
    logs[[5, 16, 31, 47, 58, 66, 79, 92, 104]] += 0.03
    logs[-3:] += 0.03
    assert not places(logs)
    assert places(flat(1) + 0.03 * (TIME >= 117)) == [117]


def test_flaky_nights_hide_no_step() -> None:
    logs = flat(2) + 0.02 * (TIME >= 80)
    logs[[10, 40, 70, 100, 110]] += 0.4
    assert places(logs, series=100) == [80]


def test_epochs_share_their_noise_and_not_their_levels() -> None:
    """A cut is no change, however large its step; beside it a change is found."""
    logs = flat(8) + 0.3 * (TIME >= 60) + 0.03 * (TIME >= 80)
    assert places(logs, cuts=[60], series=100) == [80]
    assert not find(flat(8) + 0.3 * (TIME >= 104), cuts=[104])


def test_a_drift_is_none() -> None:
    assert not places(flat(1) + 0.0006 * TIME)
    assert places(flat(1) + 0.0001 * TIME + 0.03 * (TIME >= 70)) == [70]
    time = np.arange(1000)
    assert places(0.2 * np.cos(time / 100) + (time >= 500)) == [500]


def test_a_pulse_has_two() -> None:
    """Of which neither alone is one."""
    assert places(flat(3) + 0.02 * ((TIME >= 55) & (TIME < 66)), series=100) == [55, 66]


def test_two_pulses_have_four() -> None:
    """Of which neither alone shows enough: around one level, the other is noise."""
    pulses = ((TIME >= 20) & (TIME < 32)) | ((TIME >= 60) & (TIME < 72))
    assert places(flat(3) + 0.02 * pulses, series=100) == pytest.approx([20, 32, 60, 72], abs=1)


def test_long_series_are_divided_in_windows() -> None:
    time = np.arange(3 * WINDOW)
    logs = flat(4, time.size) + 0.02 * (time >= 20) - 0.03 * (time >= WINDOW) + 0.02 * (time >= 3 * WINDOW - 12)
    assert places(logs) == [20, WINDOW, 3 * WINDOW - 12]


def test_what_nights_know_of_themselves_is_the_least_noise() -> None:
    logs = 0.1 * flat(5) + 0.005 * (TIME >= 90)
    assert places(logs) == [90]
    assert not find(logs, np.full(120, 0.02))


def test_a_step_of_the_clock_is_none() -> None:
    tick = 0.005
    stepped = np.where(TIME >= 60, 1.0, 0.0)
    assert not places(tick * stepped, tick=tick)
    assert places(3 * tick * stepped, tick=tick) == [60]


def test_less_than_a_thousandth_is_none() -> None:
    assert not places(0.01 * flat(6) + 0.0008 * (TIME >= 60))
    assert places(0.01 * flat(6) + 0.0012 * (TIME >= 60)) == [60]


def test_the_more_series_are_searched_the_surer_a_change_has_to_be() -> None:
    logs = flat(7) + 0.0065 * (TIME >= 60)
    (one,), (many,) = find(logs), find(logs, series=10)
    assert many.p == pytest.approx(10 * one.p)
    assert find(logs) != ()
    assert find(logs, series=10**9) == ()


def test_the_range_of_places_covers() -> None:
    """A step of 3 deviations, at 95 %."""
    covered = []
    for seed in range(200):
        found = [one for one in find(flat(seed) + 3 * SIGMA * (TIME >= 60)) if abs(one.place - 60) <= 5]
        covered += [one.first <= 60 <= one.last for one in found]
    assert len(covered) >= 195
    assert np.mean(covered) >= 0.93


@pytest.mark.parametrize(("night", "off"), [(60, -0.15), (59, 0.15)])
def test_a_far_night_beside_a_step_is_no_witness_of_its_side(night: int, off: float) -> None:
    """It is as far from the one level as from the other, and what it is held to is on the wrong side."""
    for seed in range(10):
        logs = flat(seed) + 0.03 * (TIME >= 60)
        logs[night] += off
        (found,) = find(logs)
        assert found.first <= 60 <= found.last
        assert found.last - found.first <= 4


def test_a_side_is_tested_by_the_binomial() -> None:
    usual, now = np.arange(40) < 3, np.arange(7) < 5
    assert _binomial(usual, now) == pytest.approx(oracle.binomtest(5, 7, 4 / 41, alternative="greater").pvalue)
    assert _binomial(usual, np.zeros(7, bool)) == 1.0


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), np.array([0.0, np.nan]), np.array([np.inf])])
def test_what_is_no_series_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected one row of finite numbers"):
        find(wrong)
