"""A series of nights, cut where what it was measured in changed.

A level that moves with another driver, card or TensorRT is no change of the model: inside an epoch nothing
recorded changed, so that change points are looked for there, and between two epochs their levels are
compared. A series that is measured on two machines in turn has an epoch at every turn and no history
of either; it is two series.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from harness.measure.special import ndtri, stdtrit
from harness.measure.stats import CONFIDENCE

DATE = "%Y-%m-%d"


@dataclass(frozen=True)
class Night:
    """What one session measured of one cell: a value above 0, in any unit, and its interval of 95 %.

    ``environment`` is what is recorded beside it (driver, TensorRT, GPU, host, ...) and not meant to matter;
    ``canary`` the time that a fixed plan took in the same session, in any unit; ``degrees`` those of the interval, by
    Student's t, 0 for a normal one.
    """

    at: datetime
    value: float
    low: float
    high: float
    session: str = ""
    commit: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    canary: float | None = None
    degrees: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.value <= self.high < float("inf"):
            raise ValueError(
                f"night {self.at:{DATE}} {self.session}: {self.value} in {self.low} to {self.high}: "
                "expected a value above 0 inside its interval"
            )
        if self.canary is not None and not 0 < self.canary < float("inf"):
            raise ValueError(f"night {self.at:{DATE}} {self.session}: canary {self.canary}, expected above 0")

    @property
    def error(self) -> float:
        """The standard error of the log of ``value``, as its interval tells it."""
        upper = (1 + CONFIDENCE) / 2
        half = stdtrit(self.degrees, upper) if self.degrees else ndtri(upper)
        return float(math.log(self.high / self.low) / 2 / half)


@dataclass(frozen=True)
class Moved:
    """One thing of an environment that became another; "" where it was not recorded."""

    what: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.what} {self.before or 'not recorded'} -> {self.after or 'not recorded'}"


@dataclass(frozen=True)
class Epoch:
    """Nights ``start`` up to but not ``stop``, in one environment; what ``moved`` at its start, none at the first."""

    start: int
    stop: int
    moved: tuple[Moved, ...] = ()

    @property
    def nights(self) -> int:
        return self.stop - self.start


def epochs(nights: Sequence[Night]) -> tuple[Epoch, ...]:
    """``nights`` cut between every two of which the environments differ. ValueError unless they are in order."""
    for before, after in pairwise(nights):
        if after.at < before.at:
            raise ValueError(f"night {after.at:{DATE}} follows {before.at:{DATE}}: expected nights in order of time")
    if not nights:
        return ()
    starts: list[tuple[int, tuple[Moved, ...]]] = [(0, ())]
    for place in range(1, len(nights)):
        moved = _moved(nights[place - 1].environment, nights[place].environment)
        if moved:
            starts.append((place, moved))
    stops = [start for start, _ in starts[1:]] + [len(nights)]
    return tuple(Epoch(start, stop, moved) for (start, moved), stop in zip(starts, stops, strict=True))


def _moved(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Moved, ...]:
    every = sorted({*before, *after})
    return tuple(
        Moved(what, before.get(what, ""), after.get(what, ""))
        for what in every
        if before.get(what, "") != after.get(what, "")
    )
