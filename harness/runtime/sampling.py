"""How a latency is sampled: what is asked for, what comes of it, and the loop between the two.

The loop knows no device. A backend hands it a function that takes some samples, and it warms up until
the median is flat, takes samples in chunks, and stops as soon as the median is known well enough. The
interval that decides that takes samples as independent, which those of one process are not: it says
when more of the same would tell nothing new, and nothing about other processes.
"""

from __future__ import annotations

import contextlib
import enum
import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError

Array = npt.NDArray[np.float64]

GPU = "gpu"  # between two events on the device, a run
ENQUEUE = "enqueue"  # of the host, to hand one run or one graph to the device
H2D = "h2d"  # between two events around the copies of all inputs to the device
D2H = "d2h"  # likewise of all outputs to the host
END_TO_END = "end_to_end"  # of the host: inputs to the device, a run, outputs to the host, and waiting for it
THROUGHPUT = "throughput"  # of the host, with several streams at work: seconds a run, all streams together
METRICS = (GPU, ENQUEUE, H2D, D2H, END_TO_END, THROUGHPUT)

CHUNK = 200  # samples that are taken in one go, at most
CHUNK_SECONDS = 0.05  # or about as many as take that long
CONFIDENCE = 0.95  # of the interval of the median
LEAST_FLAT = 9  # samples that a warm-up needs to be judged, three a third


@dataclass(frozen=True)
class Sampling:
    """What is asked for. SpecError where that makes no plan.

    ``graph``: runs are replays of a captured graph, else plain enqueues. ``cold``: as many bytes as the L2
    cache has are written before every run, outside of what is timed. ``streams``: so many contexts run
    at once, each on a stream of its own, and what is measured is their throughput. ``replays`` runs lie
    between two events; 0 lets each process find out how many, which those that are compared should not.

    The warm-up takes ``warmup_least`` seconds or more, and ends when the medians of its last third and of
    the third before differ by ``flat`` (relative), or by no more than chance makes them; or after
    ``warmup_most`` seconds, flat or not, as soon as there are enough samples to tell. Sampling stops when
    half of the 95 % interval of the median is ``precision`` of the median or less, from ``least`` samples
    on; at ``most`` samples; or after ``seconds``, however few there are by then. Of each metric ``kept``
    samples are handed out, spread evenly over all that were taken.
    """

    graph: bool = False
    cold: bool = False
    streams: int = 1
    replays: int = 0
    flat: float = 0.005
    warmup_least: float = 0.2
    warmup_most: float = 5.0
    precision: float = 0.0025
    least: int = 100
    most: int = 10_000
    seconds: float = 10.0
    kept: int = 10_000

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise SpecError(f"sampling: {self.least} samples at least and {self.most} at most: 1 or more, ascending")
        if not self.least <= self.kept:
            raise SpecError(f"sampling: {self.kept} samples kept of at least {self.least}: keep as many or more")
        if not 0 <= self.warmup_least <= self.warmup_most or not self.seconds > 0:
            raise SpecError(
                f"sampling: a warm-up of {self.warmup_least} to {self.warmup_most} s and {self.seconds} s after it: "
                "ascending, and more than none to sample in"
            )
        if not (self.flat > 0 and self.precision >= 0 and self.streams >= 1 and self.replays >= 0):
            raise SpecError(
                f"sampling: flat {self.flat}, precision {self.precision}, {self.streams} streams, {self.replays} "
                "replays: flat above 0, precision and replays 0 or more, one stream or more"
            )
        if self.cold and self.replays > 1:
            raise SpecError(f"sampling: {self.replays} runs between two events, of which only the first is cold")

    @classmethod
    def brief(cls, seconds: float) -> Sampling:
        """For ``seconds`` at most, after a warm-up of at most twice that, or of the least where that is more."""
        return cls(kept=2000, seconds=seconds, warmup_most=max(2 * seconds, cls.warmup_least))

    @property
    def longest(self) -> float:
        """Seconds after which it is over, but for the chunk under way, and for runs that take a second."""
        return self.warmup_most + self.seconds


class Stop(str, enum.Enum):
    """Why sampling stopped."""

    PRECISE = "precise"  # the interval of the median is as narrow as asked for
    COUNT = "count"  # there are as many samples as allowed
    TIME = "time"  # it took as long as allowed


@dataclass(frozen=True)
class Samples:
    """What was measured in one process, by name of the metric (`METRICS`): float64, in seconds.

    ``seconds`` are those of one run each, in the order in which they were taken; ``at`` says when each of
    them began, in seconds of the host's clock since the first of all. ``warmup`` has those before, which
    count for nothing. ``taken`` is how many there were, of which ``seconds`` has as many as were to be
    kept. ``leading`` is the metric that decided when to stop, ``half_width`` half of the interval of its
    median, relative. A sample of it is the mean of ``replays`` runs: those between two events of the
    device, or on all streams until they are waited for.

    ``elapsed`` is how long sampling took without the warm-up, in seconds of the host that measured, and
    ``wall`` how long the whole call took whoever asked for it, by their own clock; 0 where nobody looked.
    """

    seconds: Mapping[str, Array]
    at: Mapping[str, Array]
    warmup: Mapping[str, Array]
    taken: Mapping[str, int]
    leading: str
    replays: int
    stopped: Stop
    flat: bool
    half_width: float
    elapsed: float
    wall: float = 0.0


@dataclass(frozen=True)
class Chunk:
    """Samples of one metric, in seconds, and when each began, by the clock of the host."""

    seconds: Array
    at: Array


@dataclass(frozen=True)
class Repeated:
    """How many runs there were, one after the other, in how many seconds of the host's clock."""

    runs: int
    seconds: float


Take = Callable[[int], Mapping[str, Chunk]]  # about so many samples; of metrics that cost more it may be fewer
Clock = Callable[[], float]


def sample(take: Take, plan: Sampling, leading: str, *, replays: int = 1, clock: Clock = time.perf_counter) -> Samples:
    """The loop: warm up, sample, stop. ``leading`` is the metric that all decisions go by.

    ``take`` gives it one sample or more a call. What it raises ends the measurement.
    """
    pace = _Pace(take, clock)
    with _without_garbage():
        warmup = _Taken()
        began = clock()
        while True:
            warmup.add(pace.take(CHUNK))
            spent = clock() - began
            flat = spent >= plan.warmup_least and is_flat(warmup.seconds(leading), plan.flat)
            if flat or (spent >= plan.warmup_most and warmup.count(leading) >= LEAST_FLAT):
                break
        taken = _Taken()
        began = clock()
        stopped = None
        while stopped is None:
            taken.add(pace.take(plan.most - taken.count(leading)))
            elapsed = clock() - began
            width = half_width(taken.seconds(leading))
            stopped = _stop(plan, taken.count(leading), width, elapsed)
    first = min(float(taken.at(name).min()) for name in taken.names)
    return Samples(
        seconds={name: spread_out(taken.seconds(name), plan.kept) for name in taken.names},
        at={name: spread_out(taken.at(name) - first, plan.kept) for name in taken.names},
        warmup={name: spread_out(warmup.seconds(name), plan.kept) for name in warmup.names},
        taken={name: taken.count(name) for name in taken.names},
        leading=leading,
        replays=replays,
        stopped=stopped,
        flat=flat,
        half_width=width,
        elapsed=elapsed,
    )


def _stop(plan: Sampling, count: int, width: float, elapsed: float) -> Stop | None:
    if count >= plan.least and width <= plan.precision:
        return Stop.PRECISE
    if count >= plan.most:
        return Stop.COUNT
    return Stop.TIME if elapsed >= plan.seconds else None


def interval(samples: npt.ArrayLike) -> tuple[float, float]:
    """The 95 % interval of the median between two of the samples themselves, whatever their distribution.

    The r-th smallest and the r-th largest have the median between them unless fewer than r of n samples
    lie on one side of it, a binomial with p = 1/2; r by its normal approximation with continuity
    correction. Below 6 samples it is all of them, which is less than 95 %.
    """
    ranked = np.sort(np.asarray(samples, np.float64))
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    rank = max(math.floor(ranked.size / 2 + 0.5 - z * math.sqrt(ranked.size) / 2), 1)
    return float(ranked[rank - 1]), float(ranked[-rank])


def half_width(samples: npt.ArrayLike) -> float:
    """Half of `interval`, relative to the median."""
    low, high = interval(samples)
    return (high - low) / 2 / float(np.median(np.asarray(samples, np.float64))) if high > low else 0.0


def is_flat(samples: Array, flat: float) -> bool:
    """Whether the last third has the median of the third before: within ``flat``, relative, or within chance."""
    if samples.size < LEAST_FLAT:
        return False
    third = samples.size // 3
    before, last = samples[-2 * third : -third], samples[-third:]
    middle = float(np.median(before))
    chance = math.hypot(half_width(before), half_width(last))
    return abs(float(np.median(last)) - middle) <= max(flat, chance) * middle


def spread_out(values: Array, most: int) -> Array:
    """At most ``most`` of ``values``, from all over, in their order."""
    if values.size <= most:
        return values
    return values[np.arange(most) * values.size // most]


def by_host_clock(run: Callable[[], object]) -> Take:
    """Takes ``end_to_end`` alone: how long ``run`` takes, by the host's clock."""

    def take(count: int) -> Mapping[str, Chunk]:
        ticks = np.empty((2, count), np.int64)
        for index in range(count):
            ticks[0, index] = time.perf_counter_ns()
            run()
            ticks[1, index] = time.perf_counter_ns()
        return {END_TO_END: Chunk((ticks[1] - ticks[0]) / 1e9, ticks[0] / 1e9)}

    return take


def repeated(launch: Callable[[], object], wait: Callable[[], object], seconds: float) -> Repeated:
    """Runs for so many ``seconds`` or a little more. ``launch`` hands one over, ``wait`` waits for all of them.

    They are waited for every `CHUNK_SECONDS` or so: what is queued must have an end, and a device that
    works for so long is not idle for what waiting takes.
    """
    runs, batch = 0, 1
    began = time.perf_counter()
    with _without_garbage():
        while True:
            for _ in range(batch):
                launch()
            wait()
            runs += batch
            passed = time.perf_counter() - began
            if passed >= seconds:
                return Repeated(runs, passed)
            batch = max(1, int(CHUNK_SECONDS * runs / passed))


def observed(measure: Callable[[], Samples]) -> Samples:
    """What ``measure`` gives, with the time that it took here as ``wall``."""
    began = time.perf_counter()
    samples = measure()
    return replace(samples, wall=time.perf_counter() - began)


@contextlib.contextmanager
def _without_garbage() -> Iterator[None]:
    """Python's collector waits: it would run inside of what the host's clock times."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Pace:
    """Takes as many samples at a time as last about `CHUNK_SECONDS`, going by the last time."""

    def __init__(self, take: Take, clock: Clock) -> None:
        self._take, self._clock, self._next = take, clock, 1

    def take(self, most: int) -> Mapping[str, Chunk]:
        count = min(self._next, most)
        began = self._clock()
        taken = self._take(count)
        each = max(self._clock() - began, 1e-9) / count
        self._next = max(1, min(int(CHUNK_SECONDS / each), CHUNK))
        return taken


class _Taken:
    """All samples of a phase, by metric."""

    def __init__(self) -> None:
        self._chunks: dict[str, list[Chunk]] = {}

    def add(self, taken: Mapping[str, Chunk]) -> None:
        for name, chunk in taken.items():
            self._chunks.setdefault(name, []).append(chunk)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._chunks)

    def seconds(self, name: str) -> Array:
        return np.concatenate([chunk.seconds for chunk in self._chunks[name]])

    def at(self, name: str) -> Array:
        return np.concatenate([chunk.at for chunk in self._chunks[name]])

    def count(self, name: str) -> int:
        return sum(chunk.seconds.size for chunk in self._chunks.get(name, ()))
