"""Builds that stand apart are named, and others are not: how often, on generated data."""

from __future__ import annotations

import numpy as np
import pytest

from harness.judge.outliers import outliers

# As seen on an H200: five fp16 builds of a small transformer, one of which kept float32 kernels.
SEEN = {
    "size": [1.00e6, 1.01e6, 1.00e6, 2.02e6, 0.99e6],
    "error": [1.00e-3, 1.05e-3, 0.98e-3, 0.40e-3, 1.02e-3],
    "latency": [110.0, 110.4, 109.8, 123.0, 110.2],
}


def test_the_build_that_was_seen_is_named() -> None:
    (found,) = outliers(SEEN)
    assert found.build == 3
    assert found.ratios == pytest.approx({"size": 2.02, "error": 0.4, "latency": 1.117}, rel=0.02)
    assert str(found).startswith("build 3: size 2.02 times, error 0.4 times, latency 1.12 times that of the others")


@pytest.mark.parametrize("measure", SEEN)
def test_each_measure_names_it_alone(measure: str) -> None:
    assert [found.build for found in outliers({measure: SEEN[measure]})] == [3]


def test_like_builds_name_none() -> None:
    assert outliers({name: [v for n, v in enumerate(values) if n != 3] for name, values in SEEN.items()}) == ()
    assert outliers({"size": [7.0] * 5, "error": [0.0] * 5}) == ()
    assert outliers({"size": [0.0] * 5}) == ()


def test_two_that_stand_apart_do_not_hide_each_other() -> None:
    assert [found.build for found in outliers({"size": [1.0, 2.0, 1.0, 1.01, 2.0]})] == [1, 4]


def test_where_nobody_is_like_the_others_nobody_stands_apart() -> None:
    assert outliers({"size": [1.0, 1.3, 1.7, 2.2, 2.9]}) == ()


def test_of_two_nothing_is_told() -> None:
    assert outliers({"size": [1.0, 9.0]}) == outliers({"size": []}) == ()


def test_errors_of_the_size_of_rounding_are_no_difference() -> None:
    assert outliers({"error": [3e-8, 2e-7, 9e-8, 0.0, 5e-8]}) == ()
    assert [found.build for found in outliers({"error": [3e-8, 2e-7, 1e-3, 0.0, 5e-8]})] == [2]


@pytest.mark.parametrize("builds", [3, 5, 8])
def test_false_alarms_and_misses(builds: int) -> None:
    """What the docstring states: under 1 % of sets raise an alarm; an outlier as it was seen is missed in under 1 %."""
    draw, sets = np.random.default_rng(builds), 2000
    alarms = misses = 0
    for _ in range(sets):
        measures = {
            "size": np.exp(draw.normal(0, 0.02, builds)),
            "error": 1e-3 * np.exp(draw.normal(0, 0.2, builds)),
            "latency": np.exp(draw.normal(0, 0.01, builds)),
        }
        alarms += bool(outliers({name: values.tolist() for name, values in measures.items()}))
        apart = int(draw.integers(builds))
        for name, factor in {"size": 2.0, "error": 0.4, "latency": 1.12}.items():
            measures[name][apart] *= factor
        named = [found.build for found in outliers({name: values.tolist() for name, values in measures.items()})]
        misses += apart not in named
    assert alarms < 0.01 * sets
    assert misses < 0.01 * sets
