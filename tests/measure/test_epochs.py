from __future__ import annotations

import math
from dataclasses import replace

import pytest
from scipy import stats as oracle

from harness.measure.epochs import Moved, epochs
from tests.measure.nights import FIRST, nights

ONE = nights([0.0])[0]


def test_an_epoch_begins_where_what_is_recorded_changes() -> None:
    series = nights(
        [0.0] * 6, environment={0: {"driver": "570", "gpu": "a"}, 2: {"driver": "580", "gpu": "a", "x": "1"}}
    )
    first, second = epochs(series)
    assert (first.start, first.stop, first.moved, second.start, second.stop) == (0, 2, (), 2, 6)
    assert second.moved == (Moved("driver", "570", "580"), Moved("x", "", "1"))
    assert [str(moved) for moved in second.moved] == ["driver 570 -> 580", "x not recorded -> 1"]
    assert second.nights == 4


def test_without_a_change_there_is_one_and_without_nights_none() -> None:
    assert [(epoch.start, epoch.stop) for epoch in epochs(nights([0.0] * 3))] == [(0, 3)]
    assert epochs([]) == ()


def test_nights_have_to_be_in_order() -> None:
    with pytest.raises(ValueError, match="night 2026-01-01 follows 2026-01-02: expected nights in order of time"):
        epochs(nights([0.0, 0.0])[::-1])


@pytest.mark.parametrize(
    "wrong", [{"value": 0.0}, {"low": 2.0}, {"high": 0.5}, {"high": math.inf}, {"value": math.nan}, {"canary": 0.0}]
)
def test_a_night_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"night {FIRST:%Y-%m-%d} s0: .*expected"):
        replace(ONE, **wrong)


@pytest.mark.parametrize(("degrees", "half"), [(0, oracle.norm.ppf(0.975)), (3, oracle.t.ppf(0.975, 3))])
def test_the_error_of_a_night_is_what_its_interval_says(degrees: int, half: float) -> None:
    assert replace(ONE, degrees=degrees).error == pytest.approx(0.004 / half)
