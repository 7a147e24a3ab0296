"""What other tools would say of the same data: their rules, in the simplest form that keeps what they decide."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr
from scipy.stats import mannwhitneyu

from harness.measure.energy import divide

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

THRESHOLD = 0.05
ASV_FACTOR, ASV_P = 1.1, 0.002
ASV_ROUNDS, ASV_SAMPLES = 2, 5  # processes an arm, samples of each
WINDOW, MAX_P = 50, 0.001  # of Otava
ASV_PENALTY = 4  # of a step, times ln(n) / n
ASV_SHORT = 2  # nights that a level lasts at least
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
    """Whether Otava sees the last nights of ``series`` go up: a change point in the last `RECENT`, by its defaults."""
    points = otava_points(series)
    recent = [number for number, point in enumerate(points) if point >= series.size - RECENT]
    return any(_sides(points, number, series)[1].mean() > _sides(points, number, series)[0].mean() for number in recent)


def otava_points(series: Array) -> list[int]:
    """The first nights of new levels in ``series``, by Otava's defaults.

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
    return _merged(points, series)


def _divided(window: Array, most: float) -> list[int]:
    """Change points of one window: the best candidate over all pieces, as long as it is significant in its own."""
    points: list[int] = []
    while True:
        edges = [0, *points, window.size]
        best = max(
            ((*divide(window[low:high])[:2], low, high) for low, high in pairwise(edges) if high - low > 1),
            default=None,
        )
        if best is None:
            return points
        _, at, low, high = best
        if _p(window[low : low + at], window[low + at : high]) >= most:
            return points
        points = sorted([*points, low + at])


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


def asv_points(series: Array, threshold: float = 0.0) -> list[int]:
    """The first nights of new levels in ``series``, as asv draws them: the L1 Potts fit of asv/step_detect.py.

    For a range of penalties a piecewise constant function with the least sum of absolute deviations is fitted;
    of these the one is taken for which 4 ln(n) / n times its pieces plus the log of what is left, as AR(1), is
    least. Levels that differ by more than their mean deviations and ``threshold``, relative (``asv publish``
    has .05), are told, where they last `ASV_SHORT` nights. Fits are exact here, where asv's are approximate.
    """
    cost = _deviations(series)
    best, least = [0, series.size], np.inf
    for penalty in cost[0, -1] * np.geomspace(0.1 / series.size, 1.0, 16):
        edges = _potts(cost, float(penalty))
        levels = [float(np.median(series[low:high])) for low, high in pairwise(edges)]
        jumps = np.abs(np.diff(levels))
        noise = 0.1 * jumps.min() if jumps.size > 1 else 0.001 * min(abs(level) for level in levels)
        left = series - np.repeat(levels, np.diff(edges))
        score = ASV_PENALTY * np.log(series.size) / series.size * len(levels) + np.log(noise + _left(left))
        if score < least:
            best, least = edges, float(score)
    kept = [(low, high) for low, high in pairwise(best) if high - low >= ASV_SHORT]
    points = []
    for (low, middle), (start, high) in pairwise(kept):
        before, after = (float(np.median(one)) for one in (series[low:middle], series[start:high]))
        error = max(cost[low, middle] / (middle - low), cost[start, high] / (high - start))
        if abs(after - before) > max(error, threshold * before):
            points.append(start)
    return points


def _deviations(series: Array) -> Array:
    """The sum of absolute deviations from the median of every stretch from ``low`` up to ``high``, by [low, high]."""
    size = series.size
    cost = np.full((size + 1, size + 1), np.inf)
    for length in range(1, size + 1):
        stretches = np.lib.stride_tricks.sliding_window_view(series, length)
        low = np.arange(len(stretches))
        cost[low, low + length] = np.abs(stretches - np.median(stretches, axis=-1, keepdims=True)).sum(axis=-1)
    return cost


def _potts(cost: Array, penalty: float) -> list[int]:
    """The edges of the pieces for which ``penalty`` each and their ``cost`` are least (Friedrich et al. 2008)."""
    size = len(cost) - 1
    best = np.zeros(size + 1)
    start = np.zeros(size + 1, int)
    for high in range(1, size + 1):
        every = best[:high] + penalty + cost[:high, high]
        start[high] = int(np.argmin(every))
        best[high] = every[start[high]]
    edges = [size]
    while edges[-1]:
        edges.append(int(start[edges[-1]]))
    return edges[::-1]


def _left(left: Array) -> float:
    """The least sum of |left - r left of the night before|: r is a weighted median of their ratios."""
    before, now = left[:-1], left[1:]
    some = before != 0
    ratios, weights = now[some] / before[some], np.abs(before[some])
    if not ratios.size:
        return float(np.abs(left).sum())
    order = np.argsort(ratios)
    sums = np.cumsum(weights[order])
    r = float(np.clip(ratios[order][int(np.searchsorted(sums, sums[-1] / 2))], -1, 1))
    return float(abs(left[0]) + np.abs(now - r * before).sum())
