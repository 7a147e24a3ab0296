"""Machines of which the truth is known: models of noise between processes, and sessions measured on them.

A model draws the logs of process medians in order of time. A `Night` turns them into what `protocol.run` asks
for: processes interleaved as `interleave` has it, arm B worse by the dose, canaries before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from harness.measure.interleave import PROCESSES, by_arm, interleaved
from harness.measure.metric import Metric

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

CORRELATION = 0.5  # of an AR(1) series, of one process with the next
MODE, SLOW = 0.111, 0.3  # the slower mode of a plan rebuilt (110.3 and 122.6 us), and how many processes are in it
SLOPE = 0.01  # standard deviation of a linear drift over 16 processes, and amplitude of a wave
WAVE = 40  # processes that the wave takes
STEP = 0.005  # of a coarse clock: half a microsecond of 100
SWAP = 0.05  # what another host costs
CANARY_CV, CANARY_PROCESSES = 0.003, 4


def white(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Normal and independent."""
    return rng.standard_normal(shape)


def autoregressive(correlation: float) -> Draw:
    """AR(1), normal, stationary from the first process on."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        shocks = rng.standard_normal(shape)
        shocks[..., 1:] *= np.sqrt(1 - correlation**2)
        return np.asarray(lfilter([1.0], [1.0, -correlation], shocks, axis=-1))

    return draw


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Student's t of 3 degrees of freedom, scaled to a standard deviation of 1."""
    return rng.standard_t(3, shape) / np.sqrt(3)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Exponential, less its mean: a sharp lower end and a long upper tail."""
    return rng.exponential(size=shape) - 1


def even(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Uniform, with a standard deviation of 1."""
    return rng.uniform(-np.sqrt(3), np.sqrt(3), shape)


def none(_: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.zeros(shape)


def modes(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Of every process by itself: a share `SLOW` costs `MODE` more."""
    return np.log1p(MODE) * (rng.random(shape) < SLOW)


def drift(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A line of random slope, normal, and a wave of random phase: `SLOPE`, `WAVE`."""
    time = np.arange(shape[-1])
    slope = rng.standard_normal((*shape[:-1], 1)) / 16
    phase = rng.uniform(0, 2 * np.pi, (*shape[:-1], 1))
    return np.asarray(SLOPE * (slope * time + np.sin(2 * np.pi * time / WAVE + phase)))


@dataclass(frozen=True)
class Noise:
    """Logs of process medians in order of time, of mean 0 but for the modes.

    ``unit`` has a standard deviation of 1 and is scaled by the coefficient of variation (CV) of a cell,
    ``beside`` is added as it is. ``tick`` is the step that medians of about 1 are rounded to, ``swap`` the log
    by which the whole host steps at some moment of a screening.
    """

    name: str
    unit: Draw = white
    beside: Draw = none
    tick: float = 0.0
    swap: float = 0.0

    def logs(self, rng: np.random.Generator, shape: tuple[int, ...], cv: npt.ArrayLike) -> Array:
        """``shape`` ends in processes, in order of time, with which ``cv`` broadcasts."""
        return np.asarray(np.asarray(cv) * self.unit(rng, shape) + self.beside(rng, shape))

    def read(self, logs: Array) -> Array:
        """The medians as a clock gives them."""
        values = np.exp(logs)
        return np.round(values / self.tick) * self.tick if self.tick else values

    def metric(self, name: str) -> Metric:
        return Metric(name, tick=self.tick)


WHITE = Noise("white")
AR1 = Noise("AR(1)", autoregressive(CORRELATION))
T3 = Noise("t3", heavy)
BIMODAL = Noise("bimodal", beside=modes)
DRIFT = Noise("drift", beside=drift)
QUANTISED = Noise("quantised", tick=STEP)
HOST_SWAP = Noise("host swap", swap=float(np.log1p(SWAP)))
SKEWED = Noise("skewed", skewed)  # not in ALL: t intervals aren't made for it
EVEN = Noise("even", even)  # nor is this: what it is for is to look like two modes
ONE_MODE = (WHITE, AR1, T3, DRIFT, QUANTISED)
ALL = (WHITE, AR1, T3, BIMODAL, DRIFT, QUANTISED, HOST_SWAP)


@dataclass
class Night:
    """A session on a machine with ``noise``: ``cv`` by cell, ``dose`` by cell and metric, as relative losses of B.

    Screening is drawn at once, (cells, metrics, blocks, 2, 2); what is asked for later is drawn afresh. Metrics
    of a cell share the order of processes and nothing else, which makes as many hypotheses as there can be. A
    host that swaps does it at a random moment of the screening, and stays.
    """

    noise: Noise
    cv: Array
    dose: Array
    rng: np.random.Generator
    screening: int = 4
    screened: Array = field(init=False, repr=False)
    _asked: set[str] = field(default_factory=set, repr=False)
    _measured: bool = False

    def __post_init__(self) -> None:
        cells = self.dose.shape[0]
        self.cells = [str(cell) for cell in range(cells)]
        self.metrics = [self.noise.metric(f"metric {number}") for number in range(self.dose.shape[1])]
        arms = interleaved(self.screening, self.rng, (cells,))[:, None]
        logs = self._logs(self.cv[:, None, None], self.dose[..., None, None], arms)
        if self.noise.swap:
            time = np.arange(cells * self.screening * PROCESSES).reshape(cells, 1, self.screening, PROCESSES)
            logs += self.noise.swap * (time >= self.rng.integers(1, time.size))
        self.screened = self.noise.read(by_arm(logs, arms))

    def __call__(self, cell: str, blocks: int) -> Array:
        """As `protocol.Measure` has it."""
        number = int(cell)
        if cell not in self._asked and blocks == self.screening:
            self._asked.add(cell)
            return self.screened[number]
        arms = interleaved(blocks, self.rng)
        logs = self._logs(self.cv[number], self.dose[number][:, None, None], arms)
        return self.noise.read(by_arm(logs + self.noise.swap, arms))

    def canaries(self) -> dict[str, Array]:
        """Two, of which nothing but the host changes; before and after."""
        moved = self.noise.swap if self._measured else 0.0
        self._measured = True
        draw = self.rng.standard_normal((2, CANARY_PROCESSES))
        return dict(zip(("arithmetic", "memory"), np.exp(CANARY_CV * draw + moved), strict=True))

    def _logs(self, cv: npt.ArrayLike, dose: Array, arms: npt.NDArray[np.int8]) -> Array:
        """(..., metrics, blocks, 4), in the order of time."""
        blocks = arms.shape[-2]
        shape = (*dose.shape[:-2], blocks * PROCESSES)
        logs = self.noise.logs(self.rng, shape, cv).reshape(*shape[:-1], blocks, PROCESSES)
        return np.asarray(logs + np.log1p(dose) * arms)


def blocks_of(
    noise: Noise, rng: np.random.Generator, cells: int, blocks: int, cv: npt.ArrayLike, change: float = 0.0
) -> Array:
    """Medians of many cells with one metric, (cells, blocks, 2, 2)."""
    arms = interleaved(blocks, rng, (cells,))
    logs = noise.logs(rng, (cells, blocks * PROCESSES), cv).reshape(arms.shape)
    return noise.read(by_arm(logs + np.log1p(change) * arms, arms))


def mixed(values: Sequence[float], cells: int) -> Array:
    """``values`` in turn."""
    return np.resize(np.asarray(values, np.float64), cells)
