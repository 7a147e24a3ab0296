"""Years of nights of which the truth is known: series of many cells, their steps, an epoch and a host that moves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from benchmarks.noise import CANARY_CV, Noise
from harness.measure.epochs import Night

Array = npt.NDArray[np.float64]

NIGHTS, CELLS = 365, 100
CV = 0.005  # of a cell, from night to night
EVENTS, HIT = 4, 10  # steps a year, and cells that each of them hits
APART = 20  # nights between what happens, and to either end
SHIFT, MOVE = 0.01, 0.03  # standard deviation of what a new driver costs a cell; what the host does at once to all
FLAKY, WORSE = 0.01, 0.1  # share of nights that are flaky, and by how much (exponential, mean)
MISSED, WEEK = 5, 7  # weeks without a night, and how long each is
FIRST = datetime(2025, 1, 1)


@dataclass(frozen=True)
class Year:
    """``logs`` (cells, nights) and a canary (nights,); ``events`` are first nights of new levels, and cells hit."""

    logs: Array
    canary: Array
    at: tuple[datetime, ...]
    events: dict[int, tuple[int, ...]]
    driver: int  # first night of another one
    host: int  # first night on which it is slower
    error: float  # of a night, as its interval tells

    def nights(self, cell: int, stop: int | None = None) -> list[Night]:
        half = 1.96 * self.error
        return [
            Night(
                at,
                float(np.exp(log)),
                float(np.exp(log - half)),
                float(np.exp(log + half)),
                commit=f"c{number}",
                environment={"driver": "570" if number < self.driver else "580"},
                canary=float(np.exp(canary)),
            )
            for number, (at, log, canary) in enumerate(zip(self.at[:stop], self.logs[cell], self.canary, strict=False))
        ]

    @property
    def told(self) -> tuple[int, ...]:
        """Nights at which anything happened."""
        return (*self.events, self.driver, self.host)


def year(
    noise: Noise,
    rng: np.random.Generator,
    step: float,
    *,
    cells: int = CELLS,
    hit: int = HIT,
    flaky: float = 0.0,
    weeks: int = 0,
    cv: float = CV,
) -> Year:
    """One in which each of `EVENTS` makes ``hit`` cells slower or faster by ``step``, each cell by chance."""
    size = NIGHTS - WEEK * weeks
    marks = _apart(rng, size, EVENTS + 2)
    *events, driver, host = rng.permutation(marks).tolist()
    logs = noise.logs(rng, (cells, size), cv)
    hits = {}
    for event in sorted(events):
        some = rng.choice(cells, hit, replace=False)
        logs[some, event:] += np.log1p(step) * rng.choice([-1.0, 1.0], (hit, 1))
        hits[event] = tuple(some.tolist())
    logs[:, driver:] += SHIFT * rng.standard_normal((cells, 1))
    logs[:, host:] += np.log1p(MOVE)
    logs += np.log1p(rng.exponential(WORSE, logs.shape)) * (rng.random(logs.shape) < flaky)
    canary = CANARY_CV * noise.unit(rng, (size,)) + np.log1p(MOVE) * (np.arange(size) >= host)
    return Year(np.log(noise.read(logs)), canary, _dates(rng, weeks), hits, driver, host, cv / 2)


def _apart(rng: np.random.Generator, size: int, count: int) -> list[int]:
    while True:
        marks = np.sort(rng.integers(APART, size - APART, count))
        if np.diff(marks).min() >= APART:
            return [int(mark) for mark in marks]


def _dates(rng: np.random.Generator, weeks: int) -> tuple[datetime, ...]:
    lost = rng.choice(NIGHTS // WEEK, weeks, replace=False)
    return tuple(FIRST + timedelta(days=day) for day in range(NIGHTS) if day // WEEK not in lost)
