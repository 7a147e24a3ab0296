"""Builds of one spec that stand apart from the others: by size, by error, by latency.

One builder, asked five times for the same engine, once kept kernels of another precision: the plan was twice as
large, its error 0.4 times that of the others and its latency 1.12 times. Such a build is within every tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# By measure the factor from which on a difference is worth telling.
LEAST: Mapping[str, float] = {"size": 1.1, "error": 2.2, "latency": 1.05}
# By measure what is too small to be told from nothing: errors of the size of float32's rounding.
NOISE: Mapping[str, float] = {"error": 2.0**-22}
APART = 3.0  # times as far from the others as they are from each other


@dataclass(frozen=True)
class Outlier:
    """One build, by its number in order, with its ratio to the median of the others' by measure."""

    build: int
    ratios: Mapping[str, float]

    def __str__(self) -> str:
        """``build 3: size 2 times that of the others, error 0.4 times``, numbered from 0."""
        told = [f"{measure} {ratio:.3g} times" for measure, ratio in self.ratios.items()]
        return f"build {self.build}: {', '.join(told)} that of the others"


def outliers(measures: Mapping[str, Sequence[float]]) -> tuple[Outlier, ...]:
    """The builds that stand apart in some of ``measures`` (`LEAST`), each a number a build, 0 or more.

    What a measure is like is told by the most of the builds that lie closest together, more than half of them.
    A build stands apart when it is, as a ratio, `APART` times as far from their median as they spread, and at
    least `LEAST`. Of fewer than three builds nothing is told.

    False alarms, in 2,000 sets of five builds that differ by chance alone (normal, as ratios; size by 2 %, error
    by 20 %, latency by 1 %): fewer than one set in a hundred names any.
    """
    found: dict[int, dict[str, float]] = {}
    for measure, values in measures.items():
        floor = NOISE.get(measure, 0.0) or 1e-12 * max(values, default=0.0)
        if len(values) < 3 or max(values) <= 0:
            continue
        logs = [math.log(max(value, floor)) for value in values]
        center, spread = _body(logs)
        far = max(math.log(LEAST[measure]), APART * spread)
        for build, value in enumerate(logs):
            if abs(value - center) > far:
                found.setdefault(build, {})[measure] = math.exp(value - center)
    return tuple(Outlier(build, found[build]) for build in sorted(found))


def _body(values: Sequence[float]) -> tuple[float, float]:
    """Median and range of the closest majority of ``values``."""
    ordered, count = sorted(values), len(values) // 2 + 1
    start = min(range(len(ordered) - count + 1), key=lambda at: ordered[at + count - 1] - ordered[at])
    body = ordered[start : start + count]
    middle = (body[(count - 1) // 2] + body[count // 2]) / 2
    return middle, body[-1] - body[0]
