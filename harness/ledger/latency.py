"""What `trt_latency` left in a record, as series: one process, whose samples are those of the test."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.ledger.candidate import Place
from harness.ledger.proposals import HOW
from harness.ledger.records import Record
from harness.measure.quantity import RATE, SECONDS
from harness.runtime.sampling import THROUGHPUT
from harness.spec.canonical import digest

if TYPE_CHECKING:
    from harness.ledger.batch import Measurement, Session

MACHINE = "machine"  # of a record's facts: as `harness.runtime.machine.machine` tells


@dataclass(frozen=True)
class Timed:
    """A cell that a test sampled. Another test may measure the same cell in another way, so that it is another one.

    ``values`` are by metric, with their units: seconds, and for throughput runs a second. ``p99`` is of ``leading``.
    """

    key: str
    cell: str
    device: str
    place: Place
    values: Mapping[str, tuple[float, str]]
    leading: str
    p99: float | None


def timed(record: Record) -> Timed | None:
    """None where nothing was sampled, or a test keeps facts of its own under the same names."""
    medians = record.facts.get("medians")
    if not isinstance(medians, Mapping):
        return None
    machine = record.facts.get(MACHINE)
    place = Place.of({**record.environment, **(machine if isinstance(machine, Mapping) else {})})
    device = place.device if record.environment.get("gpu") else ""
    engine = {"engine": record.key, "cell": vars(record.cell), "backend": record.backend, "device": device}
    numbers = {name: value for name, told in medians.items() if (value := _number(told)) is not None}
    leading = str(record.facts.get("metric", ""))
    return Timed(
        digest(engine),
        record.cell.id + (f" on {device}" if device else ""),
        device,
        place,
        {name: (1 / value, RATE) if name == THROUGHPUT else (value, SECONDS) for name, value in numbers.items()},
        leading,
        None if leading == THROUGHPUT else _number(record.facts.get("p99")),
    )


def measurements(record: Record, session: Session) -> Iterator[Measurement]:
    """For a store. No plan is named: the engine was whichever the cell had."""
    from harness.ledger.batch import Measurement, Series  # with SQLAlchemy, which nobody needs who only looks

    found = timed(record)
    if found is None:
        return
    facts = {**found.place.environment, HOW: record.cell.test}
    for name, (value, unit) in found.values.items():
        yield Measurement(Series(found.key, found.cell, name, unit), session, value, 0.0, 1, facts, ())


def _number(told: Any) -> float | None:
    """Above 0, or none."""
    return float(told) if isinstance(told, (int, float)) and math.isfinite(told) and told > 0 else None
