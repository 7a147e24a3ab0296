"""E-divisive means: where a series falls most clearly into two stretches (Matteson and James 2014)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def divide(series: npt.ArrayLike, least: int = 1) -> tuple[float, int, int]:
    """The greatest energy distance of two neighbouring stretches, where they meet, and where the second one ends.

    The first begins with the series (n,), and each has ``least`` values or more; so a pulse is seen, too,
    from which the level comes back. Of stretches of n and m values the distance is 2 / (n + m) times the sum of
    distances between them, less m / (n - 1) and n / (m - 1) times the sums inside them. (-inf, 0, 0) where
    the series is too short.
    """
    piece = np.asarray(series, np.float64)
    size = piece.size
    if size < max(2, 2 * least):
        return -np.inf, 0, 0
    total = np.zeros((size + 1, size + 1))
    total[1:, 1:] = np.abs(piece[:, None] - piece[None, :]).cumsum(axis=0).cumsum(axis=1)
    diagonal = np.diagonal(total)
    first = np.arange(least, size - least + 1)[:, None]  # how many are in the first stretch
    end = np.arange(2 * least, size + 1)[None, :]
    ahead, until, across = diagonal[first], diagonal[end], total[first, end]
    second = end - first
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.where(first > 1, second / (first - 1) * ahead / 2, 0.0)
        lost = lost + np.where(second > 1, first / (second - 1) * (until - 2 * across + ahead) / 2, 0.0)
    energy = np.where(second >= least, 2 / end * (across - ahead - lost), -np.inf)
    row, column = np.unravel_index(int(np.argmax(energy)), energy.shape)
    return float(energy[row, column]), int(row) + least, int(column) + 2 * least
