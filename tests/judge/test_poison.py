from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from harness.judge.poison import poison, unwritten


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"])
def test_poisoned_elements_are_found_and_written_ones_are_not(dtype: str) -> None:
    array = np.empty((3, 4), dtype)
    poison(array)
    assert unwritten(array).all()
    array[1] = 1
    assert unwritten(array).tolist() == [[True] * 4, [False] * 4, [True] * 4]


def test_poisoned_floats_are_nan() -> None:
    """So that the finite gate finds them too, where a value went through arithmetic on its way."""
    array = np.zeros(3, np.float32)
    poison(array)
    assert np.isnan(array).all()


def test_bfloat16_too() -> None:
    array = np.zeros(4, ml_dtypes.bfloat16)
    poison(array[2:])
    assert unwritten(array).tolist() == [False, False, True, True]


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7FFFFFFF])
def test_a_computed_nan_is_not_poison(bits: int) -> None:
    """As x86 makes it, with either sign, and as CUDA does."""
    assert not unwritten(np.array([bits], np.uint32).view(np.float32)).any()


def test_a_view_that_is_not_contiguous() -> None:
    array = np.zeros((4, 4), np.float32)
    poison(array)
    array[:, 1] = 0.0
    assert unwritten(array[:, 1:3]).tolist() == [[False, True]] * 4
