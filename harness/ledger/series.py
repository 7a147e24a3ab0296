"""A series as a store has it, as the nights that its epochs and change points are looked for in.

A series that is measured on two machines in turn is two (`harness.measure.epochs`), and each has a history of its own;
where one machine takes the other's place for good, it is one whose epoch begins there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import groupby

import sqlalchemy as sa

from harness.ledger import schema
from harness.ledger.batch import Session
from harness.ledger.history import Line, Point, lines, points
from harness.ledger.nights import BESIDE
from harness.ledger.store import Store, add, numbers_of
from harness.measure.alerts import TOGETHER, alerts, began
from harness.measure.canary_models import COMPUTE, MEMORY
from harness.measure.epochs import Night
from harness.measure.history import ChangePoint, History, history
from harness.measure.metric import Metric
from harness.measure.pooled import pooled
from harness.measure.quantity import RATE, every
from harness.measure.special import stdtrit
from harness.measure.stats import CONFIDENCE
from harness.measure.steps import Belief
from harness.spec.canonical import digest

CANARIES = (COMPUTE, MEMORY)  # how the names of their cells begin, the one that is preferred first
MACHINE = ("gpu_uuid", "host")  # facts that tell machines apart: the first that was recorded


@dataclass(frozen=True)
class Course:
    """One series on one machine, ``machine`` "" where there is one alone."""

    line: Line
    nights: tuple[Night, ...]
    machine: str = ""

    @property
    def subject(self) -> str:
        """``bert-fp16-opt-tensorrt on NVIDIA H200``."""
        return f"{self.line.cell} ({self.machine})" if self.machine else self.line.cell

    @property
    def title(self) -> str:
        """``bert-fp16-opt-tensorrt on NVIDIA H200: gpu, graph``."""
        return f"{self.subject}: {self.line.metric}"

    @property
    def metric(self) -> Metric:
        """What its numbers mean."""
        return metric_of(self.line.metric, self.line.unit)

    @property
    def host(self) -> tuple[str, str, str]:
        """Of series that are alike here, their noise is, too: device, machine and metric."""
        return device_of(self.line.cell), self.machine, self.line.metric

    def history(self, series: int = 1, belief: Belief | None = None, asked: Sequence[datetime] = ()) -> History:
        """Its epochs and changes, where so many ``series`` are searched beside each other."""
        return history(self.nights, self.metric, series=series, belief=belief, asked=asked)


@dataclass
class Canaries:
    """What the canaries of a store took, by device and session: asked for once a device."""

    store: Store
    _found: dict[str, Mapping[str, float]] = field(default_factory=dict)

    def of(self, cell: str) -> Mapping[str, float]:
        """By session, in seconds, on the device of ``cell``; of the first canary that there is a series of,
        and of its series, at several precisions, the one with most sessions."""
        device = device_of(cell)
        if device not in self._found:
            self._found[device] = self._asked(device)
        return self._found[device]

    def _asked(self, device: str) -> Mapping[str, float]:
        quantities = every()
        for name in CANARIES:
            found: list[Mapping[str, float]] = [{}]
            for line in lines(self.store, name):
                known = quantities.get(line.metric)
                if known is not None and known.way and device_of(line.cell) == device:
                    seen = points(self.store, line.key)
                    found.append({point.session: point.value for point in seen if point.value > 0})
            if most := max(found, key=len):
                return most
        return {}


def courses(store: Store, asked: Iterable[Line]) -> list[Course]:
    """Those of the series ``asked``, in their order, each once for every machine."""
    canaries = Canaries(store)
    found = []
    for line in asked:
        canary = {} if is_canary(line.cell) else canaries.of(line.cell)
        for machine, seen in _by_machine(points(store, line.key)).items():
            counted = (one for one in seen if 0 < one.value < math.inf and not one.session.endswith(BESIDE))
            nights = tuple(_night(one, canary.get(one.session)) for one in counted)
            found.append(Course(line, nights, machine))
    return found


def histories(found: Sequence[Course]) -> list[History]:
    """Those of all of ``found``, in their order: each by itself, then with what its host's say of the nights' noise,
    then asked about where others of its host have changed."""
    by_host: dict[tuple[str, str, str], list[Course]] = {course.host: [] for course in found}
    for course in found:
        by_host[course.host].append(course)
    told = {host: iter(_of_host(those, len(found))) for host, those in by_host.items()}
    return [next(told[course.host]) for course in found]


def _of_host(those: Sequence[Course], series: int) -> list[History]:
    found = [course.history(series) for course in those]
    belief = pooled(found)
    if belief:
        found = [course.history(series, belief) for course in those]
    asked = began(found)
    return [course.history(series, belief, asked) for course in those] if asked else found


@dataclass(frozen=True)
class Alerted:
    """An alert in words, and the changes of series that it is made of."""

    words: str
    changes: tuple[tuple[Line, ChangePoint], ...]


def alerts_of(store: Store, cells: Collection[str], since: datetime) -> list[Alerted]:
    """What changed ``since`` then in the series that decide of ``cells``, by their keys: what lost most first.

    Changes of one metric of many cells in the same nights are one (`harness.measure.alerts`).
    """
    deciding = {name for name, one in every().items() if one.decides}
    found = courses(store, [one for one in lines(store) if one.cell_key in cells and one.metric in deciding])
    metrics = {course.line.metric: course.metric for course in found}
    by_metric: dict[str, dict[str, History]] = {name: {} for name in metrics}
    line_of = {(course.line.metric, course.subject): course.line for course in found}
    for course, made in zip(found, histories(found), strict=True):
        by_metric[course.line.metric][course.subject] = made
    told = [
        (name, alert) for name, histories in by_metric.items() for alert in alerts(histories) if alert.bad.at >= since
    ]
    told.sort(key=lambda one: -one[1].lost)  # of one metric they are in that order
    return [
        Alerted(
            f"{name}: {alert.words(metrics[name])}",
            tuple((line_of[name, subject], change) for subject, change in alert.changes),
        )
        for name, alert in told
    ]


def note(store: Store, told: Iterable[Alerted]) -> int:
    """Keep the changes of alerts in the store, each once; how many are new.

    Of each what was said first: a later night knows more, and may have it begin a night off, but moves no row. A loss
    and what takes it back within those nights are two.
    """
    said = [(one.words, line, change) for one in told for line, change in one.changes]
    names = {change.bad.session: Session(change.bad.session, 0.0).key for _, _, change in said}

    def work(connection: sa.Connection) -> int:
        series = numbers_of(connection, schema.series, list({line.key for _, line, _ in said}))
        sessions = numbers_of(connection, schema.session, list(names.values()))
        c, s = schema.change_point.c, schema.session.c
        asked = sa.select(c.series_id, s.at, c.estimate).join(schema.session, s.id == c.session_id)
        kept = connection.execute(asked.where(c.series_id.in_(series.values()))).all()
        rows = [
            {
                "key": digest({"series": line.key, "session": one.bad.session}),
                "series_id": series[line.key],
                "session_id": sessions[names[one.bad.session]],
                "estimate": one.estimate,
                "low": one.low,
                "high": one.high,
                "p": one.p,
                "cause": one.cause.value,
                "words": words,
            }
            for words, line, one in said
            if not any(
                series[line.key] == of
                and (one.estimate > 0) == (estimate > 0)
                and abs(one.bad.at.timestamp() - at) <= TOGETHER.total_seconds()
                for of, at, estimate in kept
            )
        ]
        return add(connection, schema.change_point, rows)

    return store.write(work) if said else 0


def metric_of(name: str, unit: str) -> Metric:
    """What numbers of the metric ``name`` mean; of one that no version here measures, by its ``unit``."""
    known = every().get(name)
    return known.metric if known else Metric(name, more_is_better=unit == RATE)


def machine_of(environment: Mapping[str, str]) -> str:
    """What tells the machine of a session apart from others; "" where nothing does."""
    return next((environment[name] for name in MACHINE if environment.get(name)), "")


def device_of(cell: str) -> str:
    """``NVIDIA H200`` of ``bert-fp16-opt-tensorrt on NVIDIA H200``."""
    return cell.partition(" on ")[2]


def is_canary(cell: str) -> bool:
    return cell.startswith(CANARIES)


def _night(point: Point, canary: float | None) -> Night:
    """Its interval is that of t by the spread of its processes, where the store has none of its own."""
    low, high = point.low, point.high
    if low is None or high is None:
        degrees = max(point.processes - 1, 1)
        half = float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * point.spread / math.sqrt(max(point.processes, 1))
        low, high = point.value * math.exp(-half), point.value * math.exp(half)
    return Night(
        datetime.fromtimestamp(point.at, timezone.utc),
        point.value,
        min(low, point.value),
        max(high, point.value),
        point.session,
        point.commit,
        point.environment,
        canary,
        max(point.processes - 1, 0),
    )


def _by_machine(seen: Sequence[Point]) -> Mapping[str, Sequence[Point]]:
    """All together, by "", unless machines take turns."""
    machines = [machine_of(p.environment) for p in seen]
    if len(list(groupby(machines))) == len(set(machines)):
        return {"": seen}
    return {one: [p for p, on in zip(seen, machines, strict=True) if on == one] for one in dict.fromkeys(machines)}
