"""A second opinion on an interval, which assumes no distribution: resampling level by level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.measure.stats import log_medians

RESAMPLES = 2000


def bootstrap(
    medians: npt.ArrayLike,
    *,
    samples: Sequence[npt.ArrayLike] | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval of the mean log ratio of ``medians`` (blocks, 2, 2) by percentiles of a hierarchical bootstrap.

    Blocks are drawn, in each its processes arm by arm and, where ``samples`` has those of every process in
    the order of ``medians`` flattened, in each process its samples, of which the median counts. Since the
    spread of processes is in that of blocks already, it comes out wider than the t interval, by about 1.2
    where all the noise is the processes' own; the same ``seed`` gives the same interval.
    """
    logs = log_medians(medians)
    if logs.ndim != 3:
        raise ValueError(f"medians of shape {logs.shape}: one comparison at a time, (blocks, 2, 2)")
    rng = np.random.default_rng(seed)
    blocks = logs.shape[0]
    block = rng.integers(0, blocks, (resamples, blocks, 1, 1))
    process = rng.integers(0, 2, (resamples, blocks, 2, 2))
    arm = np.arange(2)[:, None]
    if samples is None:
        drawn = logs[block, arm, process]
    else:
        if len(samples) != logs.size:
            raise ValueError(f"samples of {len(samples)} processes for {logs.size} medians")
        every = np.stack([_medians(np.asarray(one, np.float64), resamples, rng) for one in samples])
        table = np.log(every).reshape(*logs.shape, resamples)
        drawn = table[block, arm, process, np.arange(resamples)[:, None, None, None]]
    means = drawn.mean(axis=(1, 3))
    low, high = np.quantile(means[:, 1] - means[:, 0], [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _medians(samples: npt.NDArray[np.float64], resamples: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Medians of resampled samples, (resamples,)."""
    drawn = samples[rng.integers(0, samples.size, (resamples, samples.size))]
    return np.asarray(np.median(drawn, axis=1), np.float64)
