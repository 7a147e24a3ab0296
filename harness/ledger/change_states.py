"""What became of the change points that a store keeps: each for the worse is a proposal, and open until it is decided.

Later sessions' rulings decide (`harness.ledger.gate.decides`), and nothing needs to be kept for that beside what was
said. A regression confirms the change. Passes beside the baseline's plans that show less lost clear it, in two nights:
of sessions in a row that began `APART`, with no regression between, on the machine that it was found on. One alone may
be of a lucky build, or of chance, which has many nights to come.

What history proposed, history takes back, too, by later changes of the series for the better: each takes back the
latest loss first, and with the rest the one before; a loss is cleared when no more of it is left than it is uncertain
by. And a baseline that was accepted of sessions since then alone is at the new level: its owner has decided,
for as long as it, or another of sessions since then, is the active one. What two nights or a gain cleared stays so.
"""

from __future__ import annotations

import enum
import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

from harness.ledger import schema
from harness.ledger.baselines import State as BaselineState
from harness.ledger.gate import Question, decides
from harness.ledger.history import Line
from harness.ledger.series import Alerted, machine_of, metric_of
from harness.ledger.store import Store
from harness.measure.alerts import TOGETHER, commits_in
from harness.measure.epochs import DATE
from harness.measure.finding import Said
from harness.measure.verdict import told

APART = timedelta(hours=20)  # at least, from the beginning of a session to that of another night's
_IN_TIME = attrgetter("at", "line.key")
_QUESTIONS = {one.value: one for one in Question}
_SAID = {one.value: one for one in Said}


class State(str, enum.Enum):
    """Whether a later session has decided."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    CLEARED = "cleared"


@dataclass(frozen=True)
class Change:
    """A change point of ``line`` as it was kept; ``session`` is the first after it, of ``at`` seconds since 1970.

    ``estimate``, ``low`` and ``high`` are logs of ratios of cost, ``words`` those of its alert. ``machine`` is that of
    its session, "" where that is not known. ``by`` says what decided, "" while it is open. ``passed`` is the session
    whose pass clears it with one more, "" where there is none, or it is cleared.
    """

    line: Line
    session: str
    at: float
    estimate: float
    low: float
    high: float
    words: str = ""
    machine: str = ""
    state: State = State.OPEN
    by: str = ""
    passed: str = ""

    @property
    def standing(self) -> str:
        """``open``, ``confirmed by 20260131-020000-9f3a-performance``."""
        standing = f"{self.state.value} by {self.by}" if self.by else self.state.value
        return f"{standing} ({self.passed} passed: one more night's pass clears it)" if self.passed else standing

    def elsewhere(self, environment: Mapping[str, str]) -> bool:
        """Whether that is known to be of another machine, where no pass clears it."""
        return _others(self.machine, machine_of(environment))

    def __str__(self) -> str:
        """``change point of 2026-01-26: slower by 1.2 % (1.0 to 1.4), commits c24..c25``."""
        commits = commits_in(self.words)
        size = told(metric_of(self.line.metric, self.line.unit), self.estimate, self.low, self.high)
        return f"change point of {_day(self.at)}: {size}{f', commits {commits}' if commits else ''}"


_Ruling = tuple[Question, Said, tuple[float, float] | None]  # with estimate and high, where it was interleaved


@dataclass
class _Since:
    """What may decide of one series, in order of time: rulings by session, and changes for the better."""

    rulings: dict[tuple[float, str, str], list[_Ruling]] = field(default_factory=dict)  # at, session, machine
    better: list[tuple[float, float]] = field(default_factory=list)  # at, how much, as a log ratio


def kept(store: Store, cells: Collection[str] | None = None) -> list[Change]:
    """The changes for the worse, the oldest first: of all cells, or of those with these keys."""
    changes, since, baselines = store.read(_read)
    losses: dict[str, list[Change]] = {}  # by series
    for one in changes:
        if one.estimate > 0 and (cells is None or one.line.cell_key in cells):
            losses.setdefault(one.line.key, []).append(one)
    found = (_decided(those, since[key], baselines.get(those[0].line.cell_key)) for key, those in losses.items())
    return sorted((one for those in found for one in those), key=_IN_TIME)


def uncleared(store: Store) -> dict[tuple[str, str], Change]:
    """What a night is to compare afresh, by the key of its cell and the metric: the last of each."""
    found = (one for one in kept(store) if one.state is not State.CLEARED)
    return {(one.line.cell_key, one.line.metric): one for one in found}


def matching(changes: Iterable[Change], at: datetime) -> Change | None:
    """The one among ``changes`` of a series that a change of it, found to begin ``at`` that night, was kept as."""

    def apart(one: Change) -> float:
        return abs(one.at - at.timestamp())

    return min((one for one in changes if apart(one) <= TOGETHER.total_seconds()), key=apart, default=None)


def summed(alerts: Sequence[Alerted], changes: Sequence[Change]) -> list[str]:
    """``alerts`` in words, with where their changes stand; then what of ``changes`` is not cleared and in none."""
    said, met = [], set()
    by_series: dict[str, list[Change]] = {}
    for one in changes:
        by_series.setdefault(one.line.key, []).append(one)
    for alert in alerts:
        worse = ((line.key, one.bad.at) for line, one in alert.changes if one.estimate > 0)
        found = [matching(by_series.get(key, ()), at) for key, at in worse]
        mine = [one for one in found if one is not None]
        met.update(mine)
        standings = Counter(one.standing for one in mine)
        if len(standings) > 1:
            words = ", ".join(f"{count} {standing}" for standing, count in standings.items())
        else:
            words = "".join(standings)
        said.append(f"{alert.words}: {words}" if words else alert.words)
    rest = [one for one in changes if one not in met and one.state is not State.CLEARED]
    return [*said, *(f"{one.line.metric}: {one.line.cell}: {one}: {one.standing}" for one in rest)]


def _read(connection: sa.Connection) -> tuple[list[Change], Mapping[str, _Since], Mapping[str, float]]:
    """All changes, the oldest first; by series what may decide; and by cell when its baseline's sessions begin."""
    p, c, r, s = schema.change_point, schema.comparison, schema.series, schema.session
    if not sa.inspect(connection).has_table(p.name):  # in a store of the first schema
        return [], {}, {}
    line = (r.c.key, r.c.cell_key, r.c.cell, r.c.metric, r.c.unit)
    asked = sa.select(*line, s.c.name, s.c.at, p.c.estimate, p.c.low, p.c.high, p.c.words, _MACHINE)
    rows = connection.execute(asked.select_from(_measured(p))).all()
    changes = sorted((Change(Line(*row[:5]), *row[5:]) for row in rows), key=_IN_TIME)
    since = {one.line.key: _Since() for one in changes}
    for one in changes:
        if one.estimate < 0:
            since[one.line.key].better.append((one.at, -one.estimate))
    if not changes:
        return [], since, {}
    said = sa.select(r.c.key, s.c.at, s.c.name, _MACHINE, c.c.question, c.c.outcome, c.c.estimate, c.c.high)
    said = said.select_from(_measured(c)).where(c.c.series_id.in_(sa.select(p.c.series_id)))
    for key, *when, question, outcome, estimate, high in sorted(
        connection.execute(said).all(), key=lambda row: row[1:4]
    ):
        if question in _QUESTIONS and outcome in _SAID:  # what is compared by hand has sides that somebody named
            fresh = None if estimate is None or high is None else (estimate, high)
            since[key].rulings.setdefault(tuple(when), []).append((_QUESTIONS[question], _SAID[outcome], fresh))
    return changes, since, _baselines(connection)


_MACHINE = sa.func.coalesce(schema.gpu.c.uuid, schema.host.c.name, "")  # as `harness.ledger.series.machine_of` has it


def _measured(told: sa.Table) -> sa.Join:
    """What was ``told`` of a series in a session, with the machine that measured it then."""
    m, e = schema.measurement, schema.environment
    joined = told.join(schema.series).join(schema.session)
    joined = joined.outerjoin(m, (m.c.series_id == told.c.series_id) & (m.c.session_id == told.c.session_id))
    joined = joined.outerjoin(e, e.c.id == m.c.environment_id)
    joined = joined.outerjoin(schema.gpu, schema.gpu.c.id == e.c.gpu_id)
    return joined.outerjoin(schema.host, schema.host.c.id == e.c.host_id)


def _others(one: str, other: str) -> bool:
    return "" not in (one, other) and one != other


def _baselines(connection: sa.Connection) -> dict[str, float]:
    """Of a baseline with sessions that the store does not have, as one that was merged may be, nothing is known."""
    b, s = schema.baseline.c, schema.session.c
    active = connection.execute(sa.select(b.cell_key, b.body).where(b.state == BaselineState.ACTIVE.value)).all()
    at: dict[str, float] = {}
    if active:
        at = dict(map(tuple, connection.execute(sa.select(s.name, s.at))))
    found = {}
    for key, body in active:
        sessions: Any = json.loads(body)["sessions"]
        if sessions and all(name in at for name in sessions):
            found[key] = min(at[name] for name in sessions)
    return found


def _decided(losses: Sequence[Change], since: _Since, baseline: float | None) -> list[Change]:
    """``losses`` of one series, in order of time, with what decided."""
    ruled = [_ruled(one, since) for one in losses]
    for number, at in _taken_back(list(ruled), since):
        by = f"the change for the better of {_day(at)}"
        ruled[number] = replace(losses[number], state=State.CLEARED, by=by), at
    accepted = "the baseline, which is of sessions since"
    return [
        replace(one, state=State.CLEARED, by=accepted, passed="")
        if one.state is not State.CLEARED and baseline is not None and baseline >= one.at
        else one
        for one, _ in ruled
    ]


def _ruled(change: Change, since: _Since) -> tuple[Change, float]:
    """With what rulings made of it, and when they cleared it."""
    confirmed = ""
    passed: tuple[float, str] | None = None
    for (at, session, machine), rulings in since.rulings.items():
        if at <= change.at:
            continue
        # What was lost since a release is another question. And beside the ruling on another plan, that on the
        # environment is on the baseline's plan, and not on the series.
        since_then = [one for one in rulings if one[0] is not Question.DRIFT]
        own = [one for one in since_then if one[0] is not Question.ENVIRONMENT] or since_then
        said = {decides(question, outcome, fresh, change.low) for question, outcome, fresh in own}
        if True in said:
            confirmed, passed = confirmed or session, None
        elif False in said and not _others(change.machine, machine):
            passed = passed or (at, session)
            if at - passed[0] >= APART.total_seconds():
                return replace(change, state=State.CLEARED, by=f"{passed[1]} and {session}"), at
    state = State.CONFIRMED if confirmed else State.OPEN
    return replace(change, state=state, by=confirmed, passed=passed[1] if passed else ""), math.inf


def _taken_back(losses: Sequence[tuple[Change, float]], since: _Since) -> Iterator[tuple[int, float]]:
    """Which of ``losses``, each until then, changes for the better took back, and when the last of these began.

    Each takes from the latest loss that is left, and with what remains of it from the one before.
    """
    left = {number: change.estimate for number, (change, _) in enumerate(losses)}
    for at, gained in since.better:
        for number in sorted(left, reverse=True):
            change, until = losses[number]
            if not change.at < at < until:
                continue
            taken = min(gained, left[number])
            gained, left[number] = gained - taken, left[number] - taken
            if left[number] <= change.estimate - change.low:
                del left[number]
                yield number, at


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, timezone.utc):{DATE}}"
