"""Many hypotheses at once: p-values adjusted for their number.

A gate must not raise a false alarm at all, so its errors are counted by family: `holm`. A list of
what to look at may hold a few false entries, so there it is their share: `benjamini_hochberg`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def holm(p: npt.ArrayLike) -> Array:
    """Adjusted p-values: those up to alpha hold any error to alpha, whatever depends on what (Holm 1979)."""
    values, order = _sorted(p)
    stepped = values[order] * np.arange(values.size, 0, -1)
    return _restored(np.maximum.accumulate(stepped), order)


def benjamini_hochberg(p: npt.ArrayLike) -> Array:
    """Adjusted p-values: of those up to q a share of q is false on average (Benjamini and Hochberg 1995).

    Of independent hypotheses, or positively dependent ones.
    """
    values, order = _sorted(p)
    stepped = values[order] * (values.size / np.arange(1, values.size + 1))
    return _restored(np.minimum.accumulate(stepped[::-1])[::-1], order)


def holm_level(p: npt.ArrayLike, alpha: float) -> float:
    """What Holm's steps end at: exactly the hypotheses with p up to this level are those that `holm` rejects at alpha.

    One level for all of them, so that a bound can be put to it. Of no hypotheses, alpha.
    """
    adjusted = holm(p)
    return alpha / max(adjusted.size - int(np.sum(adjusted <= alpha)), 1)


def benjamini_hochberg_level(p: npt.ArrayLike, q: float) -> float:
    """The same of `benjamini_hochberg` at a rate of q."""
    adjusted = benjamini_hochberg(p)
    return q * max(int(np.sum(adjusted <= q)), 1) / max(adjusted.size, 1)


def _sorted(p: npt.ArrayLike) -> tuple[Array, npt.NDArray[np.intp]]:
    values = np.asarray(p, np.float64)
    if values.ndim != 1 or not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"p-values have to be one row of numbers from 0 to 1, got {values!r}")
    return values, np.argsort(values, kind="stable")


def _restored(adjusted: Array, order: npt.NDArray[np.intp]) -> Array:
    back = np.empty_like(adjusted)
    back[order] = np.minimum(adjusted, 1.0)
    return back
