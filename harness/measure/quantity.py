"""What is compared of two subjects, process by process: which numbers, in which unit, and what of them is tolerated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.measure.metric import Metric
from harness.measure.process import GRAPH, PLAIN, STREAMS, Process
from harness.runtime.sampling import END_TO_END, GPU, THROUGHPUT, Samples

SECONDS, BYTES, RATE = "s", "bytes", "runs/s"
ONCE = 0.1  # tolerated of what takes place once a process, relative
MEMORY = 0.05  # of memory and sizes


@dataclass(frozen=True)
class Quantity:
    """A number of every process.

    Where ``way`` is set, it is the median of the samples of ``source`` in that way to run; else ``source`` is a
    key of the process's seconds or bytes. ``decides``: without a verdict on it, nothing is decided; of what does
    not, only a regression counts. ``strict``: every loss that is shown is one, else those above the tolerance.
    """

    metric: Metric
    source: str
    unit: str = SECONDS
    way: str = ""
    decides: bool = True

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
            found = process.seconds.get(self.source, process.nbytes.get(self.source))
            return None if found is None else float(found)
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


QUANTITIES = (
    Quantity(Metric("gpu, graph"), GPU, way=GRAPH),
    Quantity(Metric("gpu, plain"), GPU, way=PLAIN),
    Quantity(Metric("end to end"), END_TO_END, way=PLAIN),
    Quantity(Metric("throughput", "lower", "higher", more_is_better=True), THROUGHPUT, RATE, STREAMS),
    _once("deserialize"),
    _once("context"),
    _once("first run"),
    Quantity(Metric("host memory", "larger", "smaller", MEMORY), "host memory", BYTES),
)
BUILD = Quantity(Metric("build", tolerance=ONCE), "build", decides=False)
PLAN_SIZE = Quantity(Metric("plan size", "larger", "smaller", MEMORY), "plan size", BYTES)
DEVICE_MEMORY = Quantity(Metric("device memory", "larger", "smaller", MEMORY), "device memory", BYTES)


def every() -> dict[str, Quantity]:
    """All that there are, by name."""
    return {one.name: one for one in (*QUANTITIES, PLAN_SIZE, DEVICE_MEMORY, BUILD)}


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
