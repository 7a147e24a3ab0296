"""What would become a cell's baseline: its latest sessions of one environment, beside the evidence to judge that by."""

from __future__ import annotations

import datetime
import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.ledger.baseline_file import text_of
from harness.ledger.baselines import HISTORY, LEAST_SESSIONS, Baseline, Baselines, Known
from harness.ledger.policy import RECENT, kind_of
from harness.measure.metric import Metric
from harness.measure.quantity import Quantity
from harness.measure.special import stdtrit
from harness.measure.stats import ROUNDING
from harness.measure.verdict import LEAST

HOW = "how"  # a fact of an environment: how it is measured, where a night does it otherwise
MODEL = "model"  # what a store has beside an environment: the digest of the model, which tells cells apart
BUILDS = 3  # plans that are kept of a baseline whose sessions built anew: fewer say nothing of their spread


@dataclass(frozen=True)
class Value:
    """One metric of one session: the median of its processes, in ``unit``, and their relative standard deviation."""

    value: float
    spread: float
    unit: str


@dataclass(frozen=True)
class Seen:
    """One session of a cell, that began ``at`` (seconds since 1970, 0 where that was not recorded).

    ``model`` is the digest of its model, "" where that was not recorded.
    """

    session: str
    plans: tuple[str, ...]
    environment: Mapping[str, str]
    values: Mapping[str, Value]
    model: str = ""
    at: float = 0.0

    @property
    def day(self) -> datetime.date:
        """By UTC."""
        return datetime.datetime.fromtimestamp(self.at, datetime.timezone.utc).date()


@dataclass(frozen=True)
class Moved:
    """What a proposal changes of one metric: the log ratio of its cost, above 0 where it gets worse."""

    metric: Metric
    before: Known | None
    after: Known
    cost: float

    @property
    def worse(self) -> bool:
        """Whether its level surely is, or by more than half of what is tolerated."""
        if self.before is None:
            return False
        half = min(self.before.tolerance, self.after.tolerance) / 2
        return self.cost > min(half, max(LEAST, self._by_chance))

    @property
    def loosens(self) -> bool:
        """Whether more is allowed than before: a worse level, or a wider tolerance."""
        if self.before is None:
            return False
        return self.worse or self.after.tolerance > self.before.tolerance * (1 + 1e-6)

    @property
    def _by_chance(self) -> float:
        """The log ratio by which the levels of sessions that are alike differ once in a hundred times, by Welch's t."""
        arms = [np.log(known.usual) for known in (self.before, self.after) if known]
        errors = np.array([arm.var(ddof=1) / arm.size for arm in arms])
        freedom = np.array([arm.size - 1 for arm in arms])
        total = float(errors.sum())
        degrees = total**2 / float((errors**2 / freedom).sum()) if total > ROUNDING**2 else float(freedom.sum())
        return float(stdtrit(degrees, 0.99) * np.sqrt(total))


@dataclass(frozen=True)
class Proposal:
    """``baseline`` in place of ``before``, and what that moves."""

    baseline: Baseline
    before: Baseline | None
    moved: tuple[Moved, ...]

    @classmethod
    def of(cls, baseline: Baseline, before: Baseline | None, quantities: Mapping[str, Quantity]) -> Proposal:
        return cls(baseline, before, tuple(_moved(before, baseline, quantities)))

    @property
    def lost(self) -> tuple[str, ...]:
        """Metrics that were held, and would be no longer."""
        held = self.before.metrics if self.before else {}
        return tuple(name for name in held if name not in self.baseline.metrics)

    @property
    def loosens(self) -> bool:
        return bool(self.lost) or any(one.loosens for one in self.moved)

    @property
    def worse(self) -> bool:
        """Whether it is at a worse level, or no longer holds all that was held."""
        return bool(self.lost) or any(one.worse for one in self.moved)

    @property
    def _days(self) -> str:
        if not self.baseline.days:
            return "of days that were not recorded"
        if self.baseline.days > 1:
            return f"of {self.baseline.days} days, the last of each"
        return f"all of one day, which tells nothing of others: history alone decides from {HISTORY} days on"

    @property
    def markdown(self) -> str:
        """The evidence, for whoever reviews it."""
        what = "loosens" if self.loosens else "tightens or keeps" if self.before else "is the first"
        lines = [
            f"### {self.baseline.cell}",
            "",
            f"{what}; sessions {', '.join(self.baseline.sessions)}; {self._days}; "
            + ", ".join(f"{name} {value}" for name, value in sorted(self.baseline.environment.items())),
            "",
            "| metric | before | after | change | tolerance | sessions apart by |",
            "|---|---|---|---|---|---|",
        ]
        for one in self.moved:
            before = _shown(one.before) if one.before else "-"
            change = f"{one.metric.percent(one.cost):+.2f} %" if one.before else "-"
            tolerance = f"{100 * one.after.tolerance:.1f} %"
            if one.before and not math.isclose(one.before.tolerance, one.after.tolerance, rel_tol=1e-6):
                tolerance = f"{100 * one.before.tolerance:.1f} to {tolerance}"
            values = np.asarray(one.after.values)
            apart = f"{100 * (values.max() / values.min() - 1):.2f} %"
            lines.append(f"| {one.metric.name} | {before} | {_shown(one.after)} | {change} | {tolerance} | {apart} |")
        lines += [f"| {name} | held | not measured in all of these sessions | - | - | - |" for name in self.lost]
        return "\n".join(lines) + "\n"


def proposed(
    key: str,
    cell: str,
    seen: Sequence[Seen],
    baselines: Baselines,
    quantities: Mapping[str, Quantity],
    rejected: Collection[str] = (),
) -> Proposal | str:
    """From the sessions of a cell, the oldest first; or why there is nothing to propose.

    What counts are the last sessions in a row of one environment, and of one plan where the last two had the same: one
    a day, the last, for those of an hour are apart by less than nights are. Where all are of one day they count for
    want of others, and the baseline says of how many days it is. None counts up to the last of those that were
    ``rejected`` in a proposal of the cell: it was in that, or stood back behind one that was.
    """
    if not seen:
        return "no session measured it"
    last = seen[-1]
    if last.environment.get(HOW):
        return f"it is measured as no gate measures it: {last.environment[HOW]}"
    recent: list[Seen] = []
    frozen = len(seen) > 1 and seen[-2].plans == last.plans
    for one in reversed(seen):
        unlike = one.environment != last.environment or (frozen and one.plans != last.plans)
        if unlike or one.session in rejected:
            break
        recent.insert(0, one)
    dated = all(one.at for one in recent)
    by_day = {one.day: one for one in recent}
    recent = (list(by_day.values()) if dated and len(by_day) > 1 else recent)[-RECENT:]
    if len(recent) < LEAST_SESSIONS:
        since = " since those that were rejected" if any(one.session in rejected for one in seen) else ""
        return f"{len(recent)} session{'s' * (not recent)} in this environment{since}: {LEAST_SESSIONS} are needed"
    metrics = {}
    for name, value in last.values.items():
        if name not in quantities or any(name not in one.values for one in recent):
            continue
        policy = baselines.policies[kind_of(quantities[name])]
        spread = float(np.median([one.values[name].spread for one in recent]))
        metrics[name] = Known.of(value.unit, [one.values[name].value for one in recent], spread, policy)
    if not metrics:
        return "no metric was measured in all of its last sessions"
    older = dict.fromkeys(plan for one in reversed(recent[:-1]) for plan in one.plans if plan not in last.plans)
    plans = (*last.plans, *older)[: max(BUILDS, len(last.plans))]  # builds that gave the same bytes are several
    made = Baseline(key, cell, plans, tuple(one.session for one in recent), metrics, dict(last.environment))
    made = replace(made, model=last.model, days=len(by_day) if dated else 0)
    before = baselines.active.get(key)
    if before is not None and set(before.sessions) >= set(made.sessions):
        return "it rests on these sessions already"
    return Proposal.of(made, before, quantities)


def _moved(before: Baseline | None, made: Baseline, quantities: Mapping[str, Quantity]) -> list[Moved]:
    found = []
    for name, after in made.metrics.items():
        metric = quantities[name].metric
        known = before.metrics.get(name) if before else None
        cost = 0.0
        if known is not None:
            cost = float(np.log(metric.cost(after.level)) - np.log(metric.cost(known.level)))
        found.append(Moved(metric, known, after, cost))
    return found


def difference(baselines: Baselines, proposals: Sequence[Proposal], name: str) -> str:
    """What accepting all of ``proposals`` changes in the file called ``name``, as a unified diff."""
    after = baselines
    for one in proposals:
        after = after.with_accepted(one.baseline)
    before, now = (text_of(one).splitlines(keepends=True) for one in (baselines, after))
    return "".join(difflib.unified_diff(before, now, f"a/{name}", f"b/{name}"))


def _shown(known: Known) -> str:
    flaky = len(known.values) - known.usual.size
    but = f", but for {flaky} flaky of {len(known.values)} sessions" if flaky else ""
    return f"{known.level:.6g} {known.unit}{but}"
