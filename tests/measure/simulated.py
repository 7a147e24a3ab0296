"""Medians of processes with a known change."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from harness.measure.interleave import by_arm, interleaved

Array = npt.NDArray[np.float64]


def medians(
    blocks: int, cv: float, change: float = 0.0, *, seed: int = 0, cells: tuple[int, ...] = (), level: float = 1.0
) -> Array:
    """(*cells, blocks, 2, 2): normal noise of ``cv`` around ``level``, B worse by ``change``, both relative."""
    rng = np.random.default_rng(seed)
    arms = interleaved(blocks, rng, cells)
    logs = cv * rng.standard_normal(arms.shape) + np.log1p(change) * arms
    return np.asarray(level * by_arm(np.exp(logs), arms))


def exact(*ratios: float) -> Array:
    """(blocks, 2, 2) whose blocks have just these log ratios, without noise between the processes of an arm."""
    return np.exp(np.array([[[0.0, 0.0], [ratio, ratio]] for ratio in ratios]))


def biased(blocks: int) -> Array:
    """B is worse by .7 % of a spread of 1.5 %: certain after many blocks, and far below the noise of the cell."""
    quantiles = norm.ppf((np.arange(blocks) + 0.5) / blocks)
    return exact(*(0.007 + 0.015 * np.random.default_rng(0).permutation(quantiles)))
