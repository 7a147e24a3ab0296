"""What is compared of two subjects, process by process: which numbers, in which unit, and what of them is tolerated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.measure.metric import Metric
from harness.measure.process import CONTEXT_MEMORY, GRAPH, PLAIN, STREAMS, Process
from harness.runtime.sampling import END_TO_END, GPU, THROUGHPUT, Samples

SECONDS, BYTES, RATE, JOULES, TIMES = "s", "bytes", "runs/s", "J", "times"
ONCE = 0.1  # tolerated of what takes place once a process, relative
MEMORY = 0.05  # of memory and sizes
STEP = 2 << 20  # bytes in which the driver gives out memory of the device, as seen on several


@dataclass(frozen=True)
class Quantity:
    """A number of every process.

    Where ``way`` is set, it is the median of the samples of ``source`` in that way to run; else ``source`` is a
    key of the process's seconds, bytes or joules. ``decides``: without a verdict on it, nothing is decided; of
    what does not, only a regression counts. ``step`` is that of the numbers themselves, in their unit, as of a coarse
    clock: a change of one step is none. ``strict``: every loss that is shown is one, else those above the tolerance.
    """

    metric: Metric
    source: str
    unit: str = SECONDS
    way: str = ""
    decides: bool = True
    step: float = 0.0

    @property
    def strict(self) -> bool:
        return bool(self.way)

    @property
    def name(self) -> str:
        return self.metric.name

    def samples(self, process: Process) -> Samples | None:
        """Those that it is the median of; None where there are none."""
        return process.samples.get(self.way)

    def of(self, process: Process) -> float | None:
        """The number of one process, in `unit`; None where it has none."""
        if not self.way:
            kinds = (process.seconds, process.nbytes, process.joules)
            return next((float(kind[self.source]) for kind in kinds if self.source in kind), None)
        samples = self.samples(process)
        if samples is None or self.source not in samples.seconds:
            return None
        median = float(np.median(samples.seconds[self.source]))
        return 1 / median if self.metric.more_is_better and median > 0 else median

    def why_missing(self, process: Process) -> str:
        """Why `of` gives None."""
        samples = self.samples(process)
        if samples is not None:
            return f"of this way to run the backend measures {', '.join(samples.seconds)}"
        return process.missing.get(self.way or self.source) or f"this backend tells no {self.name}"


def _once(name: str, tolerance: float = ONCE) -> Quantity:
    return Quantity(Metric(name, tolerance=tolerance), name, decides=False)


def _on_device(name: str) -> Quantity:
    """Bytes by what is free on the device."""
    return Quantity(Metric(name, "larger", "smaller", MEMORY), name, BYTES, decides=False, step=STEP)


QUANTITIES = (
    Quantity(Metric("gpu, graph"), GPU, way=GRAPH),
    Quantity(Metric("gpu, plain"), GPU, way=PLAIN),
    Quantity(Metric("end to end"), END_TO_END, way=PLAIN),
    Quantity(Metric("throughput", "lower", "higher", more_is_better=True), THROUGHPUT, RATE, STREAMS),
    _once("deserialize"),
    _once("context"),
    _once("first run"),
    _once("shape switch"),
    _once("refit"),
    Quantity(Metric("energy", "higher", "lower", ONCE), "energy", JOULES, decides=False),
    Quantity(Metric("host memory", "larger", "smaller", MEMORY), "host memory", BYTES),
    _on_device("engine memory"),
    _on_device("peak memory"),
)
PARSE = _once("parse")
BUILD = _once("build")
PLAN_SIZE = Quantity(Metric("plan size", "larger", "smaller", MEMORY), "plan size", BYTES)
DEVICE_MEMORY = Quantity(Metric("device memory", "larger", "smaller", MEMORY), "device memory", BYTES)


def every() -> dict[str, Quantity]:
    """All that there are, by name, but for the memory of a context by profile (`by_profile`)."""
    return {one.name: one for one in (*QUANTITIES, PLAN_SIZE, DEVICE_MEMORY, PARSE, BUILD)}


def by_profile(processes: Sequence[Process]) -> tuple[Quantity, ...]:
    """The memory of a context on each profile that any of ``processes`` tells of, or says why it does not."""
    told = {name: None for process in processes for name in (*process.nbytes, *process.missing)}
    return tuple(_on_device(name) for name in sorted(told) if name.startswith(CONTEXT_MEMORY))


def quantities(ways: Sequence[str], tolerance: float) -> tuple[Quantity, ...]:
    """All but those of other ``ways``; ``tolerance`` is for latencies and throughput."""
    wanted = [one for one in QUANTITIES if not one.way or one.way in ways]
    return tuple(replace(one, metric=replace(one.metric, tolerance=tolerance)) if one.way else one for one in wanted)


def covered(wanted: Sequence[Quantity], processes: Sequence[Process]) -> tuple[tuple[Quantity, ...], Mapping[str, str]]:
    """Those that every one of ``processes`` has, and of the others why not, by name."""
    missing = {}
    for one in wanted:
        lacking = next((process for process in processes if one.of(process) is None), None)
        if lacking is not None:
            missing[one.name] = one.why_missing(lacking)
    return tuple(one for one in wanted if one.name not in missing), missing
