from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from harness.measure.multiplicity import benjamini_hochberg, benjamini_hochberg_level, holm, holm_level

P = np.random.default_rng(0).beta(0.3, 1, 50)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_benjamini_hochberg_is_that_of_scipy() -> None:
    assert benjamini_hochberg(P) == pytest.approx(false_discovery_control(P, method="bh"))


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_order_does_not_matter_and_one_alone_stays(adjust) -> None:
    shuffled = np.random.default_rng(1).permutation(P.size)
    assert adjust(P)[shuffled] == pytest.approx(adjust(P[shuffled]))
    assert adjust([0.02]) == pytest.approx([0.02])
    assert adjust([]).size == 0


def test_a_gate_is_stricter_than_a_list() -> None:
    assert np.all(holm(P) >= benjamini_hochberg(P))
    assert np.all(benjamini_hochberg(P) >= P)
    assert np.sum(holm(P) <= 0.05) < np.sum(benjamini_hochberg(P) <= 0.05)


@pytest.mark.parametrize(("adjust", "level"), [(holm, holm_level), (benjamini_hochberg, benjamini_hochberg_level)])
@pytest.mark.parametrize("alpha", [1e-6, 0.01, 0.2, 1.0])
def test_one_level_stands_for_all_the_steps(adjust, level, alpha: float) -> None:
    for seed in range(50):
        p = np.random.default_rng(seed).beta(0.3, 1, 1 + seed)
        assert np.array_equal(p <= level(p, alpha), adjust(p) <= alpha)


def test_the_level_of_no_hypotheses() -> None:
    assert (holm_level([], 0.05), benjamini_hochberg_level([], 0.05)) == (0.05, 0.05)


def test_what_was_rejected_before_counts_as_rejected() -> None:
    assert holm_level([0.0, 0.0, 0.04, 1.0], 0.1) == pytest.approx(0.1)
    assert holm_level([0.0, 0.0, 0.06, 1.0], 0.1) == pytest.approx(0.05)


@pytest.mark.parametrize("wrong", [[-0.1], [1.1], [np.nan], [[0.1]]])
def test_what_is_no_p_value_is_refused(wrong: list) -> None:
    with pytest.raises(ValueError, match="p-values have to be one row of numbers from 0 to 1"):
        holm(wrong)


def test_holm_holds_the_family() -> None:
    rng = np.random.default_rng(2)
    families = rng.random((2000, 30))
    false = np.mean([bool(np.any(holm(p) <= 0.05)) for p in families])
    assert 0.035 < false < 0.065
    assert np.mean(np.any(families <= 0.05, axis=1)) > 0.7
