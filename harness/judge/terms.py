"""How large the terms are that an element is made of, as far as the model's inputs make them.

Errors of sums go with the size of their terms, and an element may be small because large terms cancel, or
rest on a step of a network that widens what comes in. What the oracle gives for inputs moved by rounding
tells it, element by element: a sum moves by its terms' size whatever its own is, for each unit that they move.
Of a model without floating inputs nothing can be told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Wide = npt.NDArray[np.float64]
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]

MOVES = 16  # how often inputs are moved, this way and the other: their rms is right within a fifth
# Relative. Less drowns in the oracle's own rounding; more than a unit of the precision is more than an engine rounds.
LEAST = 2.0**-18
_EVEN = 1 / math.sqrt(3)  # the deviation of numbers spread evenly from -1 to 1


def terms(run: Run, inputs: Mapping[str, Array], outputs: Mapping[str, Array], unit: float) -> dict[str, Wide]:
    """The size of the terms behind each element of the floating ``outputs``, which ``run`` gives for ``inputs``.

    ``unit`` is the unit roundoff of the precision. Of two moves that are opposites the smaller counts, since one of
    them may step over a threshold, which no sum does. 0 where it can't be told: no input is a float, the shape of
    an output depends on what they hold, or something is not finite.
    """
    moved = max(unit, LEAST)
    floats = {name: array for name, array in outputs.items() if array.dtype.kind == "f"}
    squares: dict[str, Wide] = {name: np.zeros(array.shape) for name, array in floats.items()}
    if not any(array.dtype.kind == "f" and array.size for array in inputs.values()):
        return squares
    for seed in range(MOVES):
        there, back = (run(_moved(inputs, by, seed)) for by in (moved, -moved))
        for name, array in floats.items():
            squares[name] = squares[name] + np.square(np.minimum(_apart(there[name], array), _apart(back[name], array)))
    sizes = {name: np.sqrt(total / MOVES) / (_EVEN * moved) for name, total in squares.items()}
    return {name: np.where(np.isfinite(size), size, 0.0) for name, size in sizes.items()}


def _moved(inputs: Mapping[str, Array], by: float, seed: int) -> dict[str, Array]:
    draw = np.random.default_rng(seed)
    return {
        name: (array * (1 + by * draw.uniform(-1, 1, array.shape))).astype(array.dtype)
        if array.dtype.kind == "f"
        else array
        for name, array in inputs.items()
    }


def _apart(got: Array, want: Array) -> Wide:
    """NaN where there is no telling."""
    if got.shape != want.shape:
        return np.full(want.shape, np.nan)
    with np.errstate(all="ignore"):
        apart: Wide = np.abs(got.astype(np.float64) - want.astype(np.float64))
    return apart
