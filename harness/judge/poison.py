"""What an output holds before it is written, so that what an engine leaves out shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

POISON = 0xA5  # the byte an output of integers or booleans holds before it is written


def poison(array: Array) -> None:
    """Fill ``array``, whatever its type, with what no honest engine writes.

    Floats become the NaN with every bit set: the NaN that processors make has other bits (x86
    0xFFC00000, CUDA 0x7FFFFFFF), so a computed NaN is not taken for a missing one.
    """
    raw = array.reshape(-1).view(np.uint8)
    raw[...] = _byte(array)


def unwritten(array: Array) -> Mask:
    """Where ``array`` still holds the poison; same shape. Integers may hold it honestly: compare values too."""
    flat = np.ascontiguousarray(array).reshape(-1)
    raw = flat.view(np.uint8).reshape(flat.size, array.dtype.itemsize)
    found: Mask = (raw == _byte(array)).all(axis=1).reshape(array.shape)
    return found


def _byte(array: Array) -> int:
    return 0xFF if array.dtype.kind in "fV" else POISON  # "V" is what ml_dtypes' types say they are
