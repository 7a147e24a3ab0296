"""Elements of tensors as an engine holds them."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.errors import RunError
from harness.runtime.backend.protocol import Array, IOTensor, Shape


def storage(dtype: str) -> np.dtype[Any]:
    """The numpy type that holds ``dtype``: its own, or unsigned integers of its size for ml_dtypes' names.

    Four bits are held by a byte each, in its lower half.
    """
    if dtype in PACKED:
        return np.dtype(np.uint8)
    try:
        return np.dtype(dtype)
    except TypeError:
        return np.dtype(np.uint16 if dtype == "bfloat16" else np.uint8)


def nbytes(dtype: str, shape: Shape) -> int:
    """Bytes of a linear tensor; types of four bits are packed in pairs."""
    count = 1
    for size in shape:
        count *= size
    return (count + 1) // 2 if dtype in PACKED else count * storage(dtype).itemsize


def packed(dtype: str, array: Array) -> Array:
    """``array`` as an engine reads it: four bits in pairs, the first of each in the lower half of a byte."""
    if dtype not in PACKED:
        return array
    flat = np.append(array.reshape(-1), np.zeros(array.size % 2, np.uint8)) & 0xF
    return flat[::2] | flat[1::2] << 4


def unpacked(dtype: str, held: Array, shape: Shape) -> Array:
    """The tensor whose bytes are ``held``; see `packed`."""
    if dtype not in PACKED:
        return held.view(storage(dtype)).reshape(shape)
    flat = np.stack([held & 0xF, held >> 4], axis=-1).reshape(-1)
    return flat[: int(np.prod(shape, dtype=np.int64))].reshape(shape)


def as_dtype(tensor: IOTensor, array: Array) -> Array:
    """``array``, contiguous, in the engine's type. RunError for an integer that does not fit it.

    Versions before 10 bind int64 as int32, and all bind double as float, so a caller's own types are
    narrowed here (a double is rounded); nothing else is converted.
    """
    wanted = storage(tensor.dtype)
    if array.dtype == wanted:
        return np.ascontiguousarray(array).reshape(array.shape)
    if (array.dtype, wanted) in NARROWED:
        with np.errstate(over="ignore"):
            narrow = array.astype(wanted)
        if wanted.kind == "i" and not np.array_equal(narrow, array):
            raise RunError(f"input {tensor.name!r}: a value does not fit the engine's {tensor.dtype}")
        return narrow
    raise RunError(f"input {tensor.name!r}: got {array.dtype}, the engine takes {tensor.dtype}")


PACKED = ("int4", "float4_e2m1fn")  # two elements a byte
NARROWED = {
    (np.dtype(np.int64), np.dtype(np.int32)),
    (np.dtype(np.float64), np.dtype(np.float32)),
}
