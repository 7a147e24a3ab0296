"""Arrays along the steps between what an operator gave and the output that shows it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.judge.provenance import Layout

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def undone(got: Array, layout: tuple[Layout, ...], raw: Array) -> Array | None:
    """``got`` in the shape in which the operator gave it; None when the steps can't be taken back."""
    for position, step in reversed(list(enumerate(layout))):
        if step.op == "transpose":
            got = got.transpose(np.argsort(step.permutation))
        elif any(earlier.op == "transpose" for earlier in layout[:position]):
            return None  # the shape between a transpose and a reshape isn't known
    if got.size == raw.size:
        return got.reshape(raw.shape)
    return got if got.ndim == raw.ndim else None


def laid(mask: Mask, layout: tuple[Layout, ...], shape: tuple[int, ...]) -> Mask | None:
    """``mask``, of the tensor as it was decided, in the layout and shape of the output; None when it can't be."""
    for step in layout:
        if step.op == "transpose":
            mask = mask.transpose(step.permutation)
    if layout and mask.size == math.prod(shape):
        return mask.reshape(shape)
    try:
        return np.broadcast_to(mask, shape)
    except ValueError:
        return None
