"""A plan's bytes, wherever they lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.errors import DeserializeError
from harness.runtime.backend.protocol import Array


def mapped(plan: Array | Path) -> Array:
    """``plan``, uint8 of one dimension; that of a file takes no memory but for the pages that are read.

    DeserializeError for a file that can't be read.
    """
    if not isinstance(plan, Path):
        return plan
    try:
        if plan.stat().st_size == 0:  # which nothing can map
            return np.zeros(0, np.uint8)
        return np.memmap(plan, np.uint8, mode="r")
    except OSError as error:
        raise DeserializeError(f"{plan}: the plan can't be read: {error.strerror or error}") from None
