"""What other tools would say of the same data: their rules, in the simplest form that keeps what they decide."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr
from scipy.stats import mannwhitneyu

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

THRESHOLD = 0.05
ASV_FACTOR, ASV_P = 1.1, 0.002
ASV_ROUNDS, ASV_SAMPLES = 2, 5  # processes an arm, samples of each
WINDOW, MAX_P = 50, 0.001  # of Otava
RECENT = 4  # nights within which a change point is news: of a change three nights old, one night off


def saved_run(saved: Array, now: Array) -> Flags:
    """pytest-benchmark, ``--benchmark-compare-fail=mean:5%``: one process against one that was saved.

    ``PercentageRegressionCheck`` of pytest_benchmark/utils.py (5.1): current / compared * 100 - 100 > 5. With a
    process's median for its mean.
    """
    return np.asarray(now / saved - 1 > THRESHOLD)


def plain(screened: Array) -> Flags:
    """The mean of all processes of B, over that of A, of (..., blocks, 2, 2): more than 5 %."""
    means = screened.mean(axis=(-3, -1))
    return np.asarray(means[..., 1] / means[..., 0] - 1 > THRESHOLD)


def asv(screened: Array, rng: np.random.Generator, within: float, factor: float = ASV_FACTOR) -> Flags:
    """``asv continuous``: Mann-Whitney p < .002 over samples, and the median beyond ``factor``.

    ``is_different`` of asv/statistics.py and ``_is_result_better`` of asv/commands/compare.py, by default over
    two rounds of up to five samples (asv/benchmark.py). The rounds are the first block of ``screened``
    (cells, metrics, blocks, 2, 2); samples spread by ``within``, relative, around the median of their process.
    """
    processes = screened[..., 0, :, :ASV_ROUNDS, None]
    samples = processes * np.exp(within * rng.standard_normal((*processes.shape[:-1], ASV_SAMPLES)))
    a, b = np.moveaxis(samples.reshape(*samples.shape[:-2], -1), -2, 0)
    p = mannwhitneyu(a, b, axis=-1, method="exact").pvalue
    return np.asarray((p < ASV_P) & (np.median(a, axis=-1) < np.median(b, axis=-1) / factor))


def otava(series: Array) -> bool:
    """Whether Otava sees the last nights of ``series`` go up: a change point in the last `RECENT`, by its defaults.

    ``compute_change_points`` of otava/analysis.py: windows of 50, half a window on each time; in each E-divisive
    (Matteson and James 2014) with Student's t for a test, at ten times ``max_pvalue``; then the weakest
    change points are taken away until all are below it (Fleming et al. 2023).
    """
    points: list[int] = []
    start = 0
    while start < series.size:
        window = series[start : start + WINDOW]
        found = [start + point for point in _divided(window, 10 * MAX_P)]
        points = sorted({*points, *found})
        start = max(found[-1] if found else 0, start + WINDOW // 2)
    points = _merged(points, series)
    recent = [number for number, point in enumerate(points) if point >= series.size - RECENT]
    return any(_sides(points, number, series)[1].mean() > _sides(points, number, series)[0].mean() for number in recent)


def _divided(window: Array, most: float) -> list[int]:
    """Change points of one window: the best candidate over all pieces, as long as it is significant in its own."""
    points: list[int] = []
    while True:
        edges = [0, *points, window.size]
        best = max(
            ((*_candidate(window[low:high]), low, high) for low, high in pairwise(edges) if high - low > 1),
            default=None,
        )
        if best is None:
            return points
        _, at, low, high = best
        if _p(window[low : low + at], window[low + at : high]) >= most:
            return points
        points = sorted([*points, low + at])


def _candidate(piece: Array) -> tuple[float, int]:
    """The greatest energy distance of two neighbouring stretches, the first from the start, and where they meet.

    Of stretches of n and m values: 2 / (n + m) times the sum of distances between them, less m / (n - 1) and
    n / (m - 1) times the sums inside them.
    """
    size = piece.size
    distance = np.abs(piece[:, None] - piece[None, :])
    total = np.zeros((size + 1, size + 1))
    total[1:, 1:] = distance.cumsum(axis=0).cumsum(axis=1)
    diagonal = np.diagonal(total)
    first = np.arange(1, size)[:, None]  # how many are in the first stretch
    end = np.arange(2, size + 1)[None, :]
    inside_first = diagonal[first] / 2
    between = total[first, end] - diagonal[first]
    inside_second = (diagonal[end] - 2 * total[first, end] + diagonal[first]) / 2
    second = end - first
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.where(first > 1, second / (first - 1) * inside_first, 0.0)
        lost = lost + np.where(second > 1, first / (second - 1) * inside_second, 0.0)
    energy = np.where(second > 0, 2 / end * (between - lost), -np.inf)
    row, column = np.unravel_index(int(np.argmax(energy)), energy.shape)
    return float(energy[row, column]), int(row) + 1


def _merged(points: list[int], series: Array) -> list[int]:
    while points:
        p = [_p(*_sides(points, number, series)) for number in range(len(points))]
        weakest = int(np.argmax(p))
        if p[weakest] < MAX_P:
            return points
        points = points[:weakest] + points[weakest + 1 :]
    return points


def _sides(points: list[int], number: int, series: Array) -> tuple[Array, Array]:
    edges = [0, *points, series.size]
    return series[edges[number] : edges[number + 1]], series[edges[number + 1] : edges[number + 2]]


def _p(left: Array, right: Array) -> float:
    """Student's t, two-sided, from standard deviations of n, as Otava calculates them."""
    degrees = left.size + right.size - 2
    if degrees < 1:
        return 1.0
    pooled = ((left.size - 1) * left.var() + (right.size - 1) * right.var()) / degrees
    error = np.sqrt(pooled * (1 / left.size + 1 / right.size))
    difference = abs(float(left.mean() - right.mean()))
    return float(2 * stdtr(degrees, -difference / error)) if error > 0 else float(difference == 0)
