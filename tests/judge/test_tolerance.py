from __future__ import annotations

import numpy as np
import pytest

from harness.errors import SpecError
from harness.judge.tolerance import SHALLOW, TABLE, magnitude, tolerance
from harness.spec import RECIPES, ToleranceOverride


def test_every_recipe_has_its_row() -> None:
    assert TABLE.keys() == RECIPES.keys()


def test_a_precision_without_a_row_is_refused() -> None:
    with pytest.raises(SpecError, match="no tolerance for precision 'fp4': set one, or choose from fp32, "):
        tolerance("fp4", "y")


def test_it_grows_with_the_root_of_the_depth_and_with_the_magnitude() -> None:
    base = tolerance("fp16", "y", depth=SHALLOW)
    assert tolerance("fp16", "y", depth=1).atol == base.atol
    assert tolerance("fp16", "y", depth=4 * SHALLOW).atol == pytest.approx(2 * base.atol)
    assert tolerance("fp16", "y", magnitude=30.0).atol == pytest.approx(30 * base.atol)
    assert tolerance("fp16", "y", depth=4 * SHALLOW, magnitude=30.0).rtol == base.rtol


def test_lower_precision_is_given_more() -> None:
    assert tolerance("fp32", "y").atol * 100 < tolerance("fp16", "y").atol
    assert tolerance("fp16", "y").atol < tolerance("fp16", "y", quantized=True).atol


@pytest.mark.parametrize("precision", TABLE)
@pytest.mark.parametrize("quantized", [False, True])
def test_every_number_says_where_it_comes_from(precision: str, quantized: bool) -> None:
    source = tolerance(precision, "y", depth=44, magnitude=2.5, quantized=quantized).source
    assert source.startswith(f"{precision}: ")
    assert "magnitude 2.5" in source
    assert "zoo" in source or "as fp16" in source


def test_of_several_overrides_the_most_particular_counts() -> None:
    overrides = (
        ToleranceOverride("*", 1, 1, "for all"),
        ToleranceOverride("fp16", 2, 2, "for fp16"),
        ToleranceOverride("fp16", 3, 3, "for y", "y"),
        ToleranceOverride("fp32", 4, 4, "of another precision", "y"),
    )
    assert tolerance("fp16", "y", overrides=overrides).atol == 3
    assert tolerance("fp16", "z", overrides=overrides).atol == 2
    assert tolerance("tf32", "z", overrides=overrides).atol == 1
    assert tolerance("tf32", "z", overrides=overrides[1:]).source.startswith("tf32: ")


NOISE = np.random.default_rng(0).normal(size=10_000)


def test_magnitude_is_the_rms() -> None:
    assert magnitude(NOISE * 30) == pytest.approx(30, rel=0.02)
    assert magnitude(NOISE.astype(np.float16)) == pytest.approx(1, rel=0.02)


def test_a_few_huge_elements_do_not_hide_the_rest() -> None:
    masked = NOISE.copy()
    masked[:2000] = -1e9
    assert magnitude(masked) < 20


def test_many_negligible_elements_do_not_either() -> None:
    """A KV cache whose past is all denormal."""
    mostly = NOISE.copy()
    mostly[:6000] = 1e-40
    assert magnitude(mostly) == pytest.approx(np.sqrt(0.4), rel=0.1)


def test_one_number_tells_little_of_its_scale() -> None:
    assert magnitude(np.array([0.1])) == pytest.approx(0.3)


def test_what_is_not_finite_does_not_count() -> None:
    assert magnitude(np.concatenate([NOISE, [np.nan, np.inf]])) == pytest.approx(magnitude(NOISE), rel=1e-3)


def test_nothing_has_no_magnitude() -> None:
    assert magnitude(np.zeros(5)) == magnitude(np.zeros(0)) == magnitude(np.array([np.nan])) == 0


def test_magnitudes_that_have_no_square() -> None:
    assert magnitude(np.full(1000, 1e200)) == pytest.approx(1e200, rel=0.01)
