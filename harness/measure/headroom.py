"""How far a subject that was measured is above its floor, on the device as its canaries found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from harness.judge.precision import converted
from harness.measure.bench import Measured
from harness.measure.canary import Medians
from harness.measure.canary_models import COMPUTE, MEMORY, ceilings
from harness.measure.quantity import TIMES
from harness.measure.roofline import Ceilings, Work, floor, work_of
from harness.measure.side import Side
from harness.spec.precision import Recipe


@dataclass(frozen=True)
class Headroom:
    """``floor`` in seconds a run, of the ``work`` at these ``ceilings``; ``by`` has the precision of each canary."""

    floor: float
    work: Work
    ceilings: Ceilings
    by: Mapping[str, str]

    @property
    def bound(self) -> str:
        """What limits it: "arithmetic" or "memory"."""
        operations = self.work.operations / self.ceilings.operations
        return "arithmetic" if operations >= self.work.nbytes / self.ceilings.nbytes else "memory"

    @property
    def words(self) -> str:
        """The floor's reasons; the floor itself is a figure."""
        work, best = self.work, self.ceilings
        canaries = ", ".join(f"{name} at {precision}" for name, precision in self.by.items())
        lacking = ", ".join(f"{kind} {count}" for kind, count in work.uncounted.items())
        return (
            f"bound by {self.bound}: {work.operations / 1e9:.4g} Gflop at {best.operations / 1e12:.4g} Tflop/s, "
            f"{work.nbytes / 1e6:.4g} MB at {best.nbytes / 1e9:.4g} GB/s ({canaries})"
            + (f"; not counted: {lacking}" if lacking else "")
        )

    def above(self, latency: Measured) -> tuple[Measured, Measured]:
        """The floor, and ``latency`` as a multiple of it; neither decides anything."""
        shares = {share: value / self.floor for share, value in latency.percentiles.items()}
        low, high = (None if end is None else end / self.floor for end in (latency.low, latency.high))
        ratio = replace(
            latency,
            name=f"{latency.name}, over the floor",
            unit=TIMES,
            median=latency.median / self.floor,
            low=low,
            high=high,
            percentiles=shares,
            decides=False,
        )
        return Measured("floor", latency.unit, latency.processes, self.floor, decides=False), ratio


def headroom(side: Side, shapes: Mapping[str, tuple[int, ...]], canaries: Medians, compute: Recipe) -> Headroom:
    """Of ``side`` on inputs of these ``shapes``; ``canaries`` are medians of processes in seconds, by canary.

    Arithmetic is bound by the canary that was built at ``compute``; bytes are the same at every precision, and their
    canary is always at fp32. The work is that of the model as it was handed to the builder; where that may choose
    half precision by itself, weights count as such. SpecError for shapes that do not fit.
    """
    kind = "gpu" if side.backend.startswith("tensorrt") else "cpu"
    seconds = {
        name: float(np.median(np.asarray(values)))
        for name in (f"{COMPUTE}_{kind}", f"{MEMORY}_{kind}")
        for measured, values in canaries.items()
        if measured.startswith(name)
    }
    best = ceilings(kind, seconds)
    halved = side.recipe.convert is None and "FP16" in side.recipe.flags
    work = work_of(converted(side.spec.model, side.recipe), shapes, weight_bytes=2 if halved else None)
    by = dict(zip(seconds, (compute.name, "fp32"), strict=True))
    return Headroom(floor(work, best), work, best, by)
