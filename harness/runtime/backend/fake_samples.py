"""The latencies that the fake backend plays: of a device with noise and a warm-up, by a made-up clock.

What is said to have passed has passed: whoever measures the measurement finds room for it. Each function
below `FakeDevice` is a way in which a measurement goes wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from harness.runtime.sampling import (
    D2H,
    END_TO_END,
    ENQUEUE,
    GPU,
    H2D,
    THROUGHPUT,
    Array,
    Chunk,
    Repeated,
    Samples,
    Sampling,
)

BASE, LAYER = 20e-6, 2e-6  # seconds: of any run, and of each layer
RESHAPE = 50e-6  # seconds that a first run after another shape holds up the host
ENGINE, CONTEXT = 256 << 20, 128 << 20  # bytes of the device that each takes
TAKEN = 1 << 30  # by others
NOISE = 0.002  # of samples, relative
BETWEEN = 0.0005  # of processes, relative
SLOW_PROCESS = 1.1  # how much slower a slow process is
_PARTS = {ENQUEUE: 2e-6, H2D: 3e-6, D2H: 3e-6}  # seconds
_WARM_UP, _WARM = 0.2, 30  # how much slower the first run is, and after how many runs a third of that is left
_ROOM = 1.5  # real seconds for one that is played


class FakeDevice:
    """Takes samples of an engine of ``layers`` in the process of this number; ``load`` makes all runs longer.

    With ``cools`` it never gets warm: however long it ran, it was slower shortly before.
    """

    def __init__(self, layers: int, process: int, plan: Sampling, *, load: float = 1.0, cools: bool = False) -> None:
        rng = np.random.default_rng(process)
        level = (1 + BETWEEN * rng.standard_normal()) * load
        level *= (0.9 if plan.graph else 1.0) * (1.2 if plan.cold else 1.0)
        self.leading = GPU if plan.streams == 1 else THROUGHPUT
        self._level = level
        self._run = (BASE + LAYER * layers) * level / (1 if plan.streams == 1 else 0.8 * plan.streams)
        self._cools, self._rng, self._ran = cools, rng, 0

    @staticmethod
    def clock() -> float:
        return time.perf_counter()

    def take(self, count: int) -> Mapping[str, Chunk]:
        ran = np.arange(self._ran, self._ran + count)
        self._ran += count
        warm = (1.0 + ran) ** -0.2 if self._cools else 1 + _WARM_UP * np.exp(-ran / _WARM)
        run = self._run * warm * self._noise(count)
        seconds = {self.leading: run}
        if self.leading == GPU:
            seconds |= {name: part * self._noise(count) for name, part in _PARTS.items()}
            seconds[END_TO_END] = run + sum(seconds[name] for name in _PARTS)
        each = _ROOM * np.sum(list(seconds.values()), axis=0)
        at = self.clock() + np.cumsum(each)
        time.sleep(float(each.sum()))
        return {name: Chunk(values, at) for name, values in seconds.items()}

    def repeat(self, seconds: float) -> Repeated:
        """As many runs as ``seconds`` have room for, which it waits for."""
        time.sleep(seconds)
        return Repeated(max(1, round(seconds / self._run)), seconds)

    def reshape(self, times: int) -> Array:
        return RESHAPE * self._level * self._noise(times)

    def _noise(self, count: int) -> Array:
        return np.asarray(1 + NOISE * self._rng.standard_normal(count))


def slowing(samples: Samples) -> Samples:
    """The second half becomes slower and slower, up to a twentieth."""
    return _changed(samples, lambda array: array * (1 + 0.05 * np.clip(np.linspace(-1, 1, array.size), 0, 1)))


def dropped(samples: Samples) -> Samples:
    """The clock of the device drops by a quarter half-way."""
    return _changed(samples, lambda array: array * np.where(np.arange(array.size) < array.size // 2, 1, 4 / 3))


def in_milliseconds(samples: Samples) -> Samples:
    """Milliseconds, handed out as seconds."""
    return _changed(samples, lambda array: array * 1e3)


def shuffled(samples: Samples) -> Samples:
    """In another order than that in which they were taken."""

    def order(array: Array) -> Array:
        return np.asarray(np.random.default_rng(0).permutation(array))

    return replace(_changed(samples, order), at={name: order(array) for name, array in samples.at.items()})


def _changed(samples: Samples, change: Callable[[Array], Array]) -> Samples:
    return replace(samples, seconds={name: change(array) for name, array in samples.seconds.items()})
