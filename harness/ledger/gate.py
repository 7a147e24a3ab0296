"""Whether a cell got worse than its baseline, and whose doing that is.

Tonight's processes are held against what the baseline's sessions measured: that is cheap, and tells only what is worth
a second look. What decides is fresh: the baseline's plans and the candidate's, interleaved in tonight's environment
(`harness.measure.contest`). So an old plan that is slower tonight than it used to be is never taken for a slower
candidate.

Three questions are kept apart (`Question`): whether a changed *environment* runs the same plan as fast, whether a
*rebuilt* engine is as fast, and whether another *installation* of the library builds and runs as fast. A night that
brings new plans and a changed environment asks the first of the baseline's plans, too: a lottery of builds must not
hide what a driver costs. Where the baseline's plan can't be run beside the candidate's, history alone decides, and the
ruling says so.

A median over processes hides one slow build of several, and that one may be what is released. So each of tonight's
plans is held against the baseline, too: one that stands out is measured again, and told with its figures.

Only a confirmed regression fails, and only where a baseline was accepted. What has none is measured and told.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from harness.ledger.baselines import HISTORY, Baseline, Known
from harness.ledger.policy import BUILDING, Policy, kind_of
from harness.measure.builders import by_plan, slowest
from harness.measure.finding import BAD, OPEN, SETTLED, Finding, Said
from harness.measure.metric import Metric
from harness.measure.quantity import Quantity
from harness.measure.runner import SideFailed
from harness.measure.special import stdtr, stdtrit
from harness.measure.stats import CONFIDENCE, ROUNDING
from harness.measure.verdict import LEAST, told
from harness.settings import Perf

if TYPE_CHECKING:
    from harness.ledger.change_states import Change

Array = npt.NDArray[np.float64]
SUSPECT = 0.05  # one-sided: what would be this rare by chance is measured again
ALARM = 0.0025  # one-sided, of a loss that history alone is to show: nothing fresh stands beside it
CLEARING = 2  # times a 95 % interval: what is beyond is about as rare as `ALARM`, and is asked night after night
ACCEPT = "accept a baseline of sessions since then, if that is the new level: trt-harness baseline propose, then accept"
OPTIONS = "options"  # of an environment: what a build was asked for, which runs no plan otherwise


class Question(str, enum.Enum):
    """What a ruling answers: what differs from the baseline, beside the night."""

    ENVIRONMENT = "environment"  # the same plan, elsewhere or later
    REBUILT = "rebuilt"  # another plan of the same library
    INSTALLATION = "installation"  # another library
    DRIFT = "drift"  # all that was lost since the pinned release


@dataclass(frozen=True)
class Tonight:
    """What one session measured of a cell: ``values`` of its processes by metric, in the metric's unit.

    Processes take ``plans`` in turn, the first of them the first (`harness.measure.builders.by_plan`).
    ``notes`` say of a metric why it is no one number. ``tails`` are 99th percentiles, of metrics with enough samples.
    ``missing`` says of metrics that were asked for why they could not be measured. ``model`` is the digest of the
    model.
    """

    key: str
    cell: str
    session: str
    plans: tuple[str, ...]
    environment: Mapping[str, str]
    values: Mapping[str, Array]
    notes: Mapping[str, str] = field(default_factory=dict)
    tails: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    model: str = ""


class Rival(Protocol):
    """Measures more of a cell tonight."""

    def beside(self, baseline: Baseline, metrics: Sequence[str]) -> Sequence[Finding] | str:
        """What interleaved processes of the baseline's plans and of the candidate's say.

        Or, in words, why the baseline's plans can't be measured. FAILED among the findings is the candidate's.
        """

    def again(self, metrics: Sequence[str]) -> Mapping[str, Array]:
        """Fresh processes of the candidate, which take its plans in turn as those of `Tonight` do.

        Of a build what it took, and nothing of what can't be measured.
        """

    def stayed(self, baseline: Baseline, session: str) -> tuple[Tonight, Rival] | str:
        """What the baseline's own plans measure tonight by tonight's library, and who measures more of them.

        Or, in words, why they can't be run.
        """


@dataclass(frozen=True)
class Ruling:
    """What is said of one metric of a cell.

    ``held`` says that it was compared with a baseline; ``fails`` that it fails the run. What is not held and has an "a"
    all the same is of another model than a baseline of its name. ``excuse`` is why a regression
    does not: a quarantine, or a policy that does not gate.
    """

    finding: Finding
    question: Question
    held: bool = True
    excuse: str = ""

    @property
    def fails(self) -> bool:
        return self.held and not self.excuse and self.finding.said in BAD

    def __str__(self) -> str:
        excused = f" ({self.excuse})" if self.excuse else ""
        return (
            f"{self.finding.subject}: {self.finding.metric}: {self.finding.said.value}{excused}: {self.finding.words}"
        )


@dataclass(frozen=True)
class Step:
    """Tonight against the sessions of a baseline, as a log ratio of cost with its interval; ``p`` that it got worse."""

    estimate: float
    low: float
    high: float
    p: float
    p_better: float
    sessions: int

    def words(self, metric: Metric) -> str:
        return f"{told(metric, self.estimate, self.low, self.high)} than {self.sessions} sessions before"


def against_history(known: Known, values: Array, metric: Metric) -> Step:
    """By the prediction interval of Student's t: sessions differ by more than their processes do.

    What processes alone would leave of error is the least, so that two sessions that happen to agree promise nothing;
    a flaky session is none of those that say how far sessions are apart (`Known.usual`).
    """
    nights, processes = np.log(metric.cost(known.usual)), np.log(metric.cost(values))
    count = nights.size
    estimate = float(np.median(processes) - nights.mean())
    between = float(nights.var(ddof=1)) * (1 + 1 / count) if count > 1 else math.inf
    within = max(known.spread, ROUNDING) ** 2 * (1 / processes.size + 1 / (processes.size * count))
    error = math.sqrt(max(between, within))
    degrees = max(count - 1, 1)
    half = float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * error
    p = float(stdtr(degrees, -estimate / error))
    return Step(estimate, estimate - half, estimate + half, p, 1 - p, count)


@dataclass(frozen=True)
class Gate:
    """Rules on cells. ``perf`` as in ``--trt-perf``; ``host`` says how the canaries moved since, or is "".

    ``lost`` is by how much, as a log ratio, the one that got slower did: history alone then decides nothing. ``gained``
    is by how much the one that got faster did: another plan than the baseline's has to show it, too, or it is
    suspected, since a host that got faster must not hide a plan that got slower. ``changes`` are change points that
    are not cleared, by the key of a cell and its metric: what has one is compared afresh, however it screens,
    unless its cell is quarantined.
    """

    policies: Mapping[str, Policy]
    quantities: Mapping[str, Quantity]
    perf: Perf = "gate"
    host: str = ""
    gained: float = 0.0
    lost: float = 0.0
    quarantined: Mapping[str, str] = field(default_factory=dict)  # by cell: who owns it, why, until when
    changes: Mapping[tuple[str, str], Change] = field(default_factory=dict)

    def rule(
        self,
        tonight: Tonight,
        baseline: Baseline | None,
        release: Baseline | None,
        rival: Rival,
        namesake: Baseline | None = None,
    ) -> list[Ruling]:
        """Of every metric that was measured, in that order, and of the drift since ``release`` where it is too much.

        Of a metric of the baseline that can't be measured any more, too. Where there is no ``baseline``, what is beside
        a ``namesake``'s, of another model under the same name, is told.
        """
        plain = replace(self, changes={})  # what a release, or the baseline's own plan, is asked is another question
        drifted = list(plain._drift(tonight, release, rival)) if release is not None else []
        if baseline is None:
            unheld = [self._unheld(tonight, name, namesake) for name in tonight.values]
            return [*(self._of_change(ruling, tonight) for ruling in unheld), *map(self._excused, drifted)]
        question = asked(tonight, baseline)
        screened = {name: self._screened(tonight, baseline, name, question) for name in tonight.values}
        rulings = {name: self._doubted(ruling, tonight) for name, ruling in screened.items()}
        suspects = [
            name for name, ruling in rulings.items() if ruling.finding.said is Said.INCONCLUSIVE and ruling.held
        ]
        if suspects and self.perf == "gate":
            rulings |= self._confirmed(tonight, baseline, suspects, question, rulings, rival)
        stayed = plain._stayed(tonight, baseline, question, rival) if self.perf == "gate" else []
        gone = [self._gone(tonight, baseline, name, question) for name in tonight.missing if name in baseline.metrics]
        told = [self._of_change(ruling, tonight) for ruling in rulings.values()]
        return [self._excused(ruling) for ruling in (*told, *gone, *stayed, *drifted)]

    # Within --------------------------------------------------------------------------------------

    def _policy(self, name: str) -> Policy:
        return self.policies[kind_of(self.quantities[name])]

    def _metric(self, name: str, known: Known) -> Metric:
        return replace(self.quantities[name].metric, tolerance=known.tolerance)

    def _unheld(self, tonight: Tonight, name: str, namesake: Baseline | None = None) -> Ruling:
        words = "no baseline is accepted: measured, and held against nothing"
        known = namesake.metrics.get(name) if namesake else None
        if namesake and known:
            metric = self._metric(name, known)
            step = against_history(known, tonight.values[name], metric)
            words = f"{another_model(tonight, namesake)}: {step.words(metric)}, and held against nothing"
        finding = self._finding(tonight, name, Said.NOTED, words, known)
        return Ruling(finding, Question.REBUILT, held=False)

    def _gone(self, tonight: Tonight, baseline: Baseline, name: str, question: Question) -> Ruling:
        """What was measured once and can't be: a failure of what decides, of the rest a question left open."""
        quantity = self.quantities[name]
        words = f"the baseline has it, and tonight it can't be measured: {tonight.missing[name]}"
        said = Said.FAILED if quantity.decides else Said.INCONCLUSIVE
        a = baseline.metrics[name].level
        finding = Finding(tonight.cell, name, said, words, a, None, quantity.unit, quantity.decides)
        return Ruling(finding, question)

    def _finding(self, tonight: Tonight, name: str, said: Said, words: str, known: Known | None) -> Finding:
        a = known.level if known else None  # what `against_history` holds it against
        b = float(np.median(tonight.values[name]))
        return Finding(tonight.cell, name, said, words, a, b, self.quantities[name].unit, self.quantities[name].decides)

    def _screened(self, tonight: Tonight, baseline: Baseline, name: str, question: Question) -> Ruling:
        """PASS, an improvement to be told, or a suspicion: INCONCLUSIVE."""
        known = baseline.metrics.get(name)
        if known is None:
            return self._unheld(tonight, name)
        metric = self._metric(name, known)
        said, words = Said.PASS, against_history(known, tonight.values[name], metric).words(metric)
        words += f"; {self.host}" if self.host else ""
        step = self._step(known, tonight.values[name], name, question)
        allowed = self._allowed(known, name)
        slow = self._slow_build(tonight.plans, tonight.values[name], known, name, question)
        words += f"; {slow}" if slow else ""
        if slow or (step.estimate >= LEAST and (step.p < SUSPECT or step.estimate >= allowed)):
            said, words = Said.INCONCLUSIVE, f"{words}; suspected, not confirmed"
        elif _few(step, baseline) and step.high >= allowed and self._comparable(tonight, baseline, name, question):
            said, words = Said.INCONCLUSIVE, f"{words}, which are too few to pass it"
        elif name in tonight.notes:
            said, words = Said.UNSTABLE, f"{words}; {tonight.notes[name]}"
        elif step.estimate <= -LEAST and step.high < 0 and step.p_better < ALARM:
            said = Said.IMPROVEMENT
        return Ruling(self._finding(tonight, name, said, words, known), question)

    def _allowed(self, known: Known, name: str) -> float:
        """Beyond which a loss is suspected, as a log ratio.

        A tolerance that noise has widened is for the verdict: what is beyond the policy's is worth a second look.
        """
        return math.log1p(min(self._policy(name).tolerance, known.tolerance))

    def _with_slow_build(
        self, passed: Finding, tonight: Tonight, baseline: Baseline, fresh: Array, question: Question
    ) -> Finding:
        """What ``passed`` by all builds together, unless ``fresh`` processes show one of them beyond the tolerance."""
        known = baseline.metrics[passed.metric]
        slow = self._slow_build(tonight.plans, fresh, known, passed.metric, question, math.log1p(known.tolerance))
        if not slow:
            return passed
        return replace(passed, said=Said.INCONCLUSIVE, words=f"{passed.words}; measured again, {slow}")

    def _slow_build(
        self,
        plans: Sequence[str],
        values: Array,
        known: Known,
        name: str,
        question: Question,
        allowed: float | None = None,
    ) -> str:
        """Which of several plans is slower than ``allowed``, in words; "" where none stands out.

        It is held against what one process of the baseline may take, its builds' lottery included: what they were apart
        by, too, is nothing new. And it has to stand out from tonight's other plans. ``allowed``, a log
        ratio, is beyond which a loss is suspected, where nothing else is given.
        """
        if len(set(plans)) < 2 or values.size < len(plans) or kind_of(self.quantities[name]) == BUILDING:
            return ""
        each, metric = by_plan(plans, values), self._metric(name, known)
        slow, apart, by_chance = slowest(each, metric)
        step = self._step(known, np.exp([np.log(each[slow]).mean()]), name, question)
        allowed = self._allowed(known, name) if allowed is None else allowed
        if by_chance >= SUSPECT or len(each) * step.p >= SUSPECT or step.estimate < allowed:
            return ""
        gave = f"{plans.count(slow)} of {len(plans)} builds gave plan {slow[:12]}"
        return f"{gave}, {step.words(metric)}, and than the others by {metric.percent(apart):.1f} %"

    def _doubted(self, ruling: Ruling, tonight: Tonight) -> Ruling:
        """A screening passes nothing that a change point speaks against: one night says less than many do."""
        finding = ruling.finding
        if self._doubt(tonight, finding.metric) is None or finding.said not in SETTLED:
            return ruling
        return replace(ruling, finding=replace(finding, said=Said.INCONCLUSIVE))

    def _doubt(self, tonight: Tonight, name: str) -> Change | None:
        """The change point that tonight is to decide: one of a quarantined cell is told, and leaves no night open."""
        return None if tonight.cell in self.quarantined else self.changes.get((tonight.key, name))

    def _of_change(self, ruling: Ruling, tonight: Tonight) -> Ruling:
        """With the change point in words, and what the ruling makes of it."""
        change = self.changes.get((tonight.key, ruling.finding.metric))
        if change is None:
            return ruling
        verdict, said = ruling.finding.verdict, ruling.finding.said
        confirmed = decides(ruling.question, said, (verdict.estimate, verdict.high) if verdict else None, change.low)
        now = "confirmed" if confirmed else f"stays {change.state.value}"
        if confirmed is False and change.elsewhere(tonight.environment):
            now += ", since it was found on another machine"
        elif confirmed is False and change.passed:
            now = f"cleared, where {change.passed}, which passed, too, began a night before"
        elif confirmed is False:
            now += ": this passed, and one more night's pass clears it"
        elif confirmed is None and verdict is None:
            now += f", since nothing stood beside it: what many nights show no single one takes back; {ACCEPT}"
        elif confirmed is None and said in SETTLED:
            now += ", since as much may still be lost"
        return replace(ruling, finding=replace(ruling.finding, words=f"{ruling.finding.words}; {change}: {now}"))

    def _step(self, known: Known, values: Array, name: str, question: Question) -> Step:
        """What another plan took, as on the host of the baseline: without what the canaries gained since."""
        quantity = self.quantities[name]
        gained = self.gained if quantity.way and question is not Question.ENVIRONMENT else 0.0
        slower = values * math.exp(-gained if quantity.metric.more_is_better else gained)
        return against_history(known, slower, self._metric(name, known))

    def _comparable(self, tonight: Tonight, baseline: Baseline, name: str, question: Question) -> bool:
        """Whether something fresh can stand beside it: another plan, or another library that runs the same."""
        alike = question is Question.ENVIRONMENT and library_of(baseline) == library_of(tonight)
        return self.perf == "gate" and not alike and kind_of(self.quantities[name]) != BUILDING

    def _confirmed(
        self,
        tonight: Tonight,
        baseline: Baseline,
        suspects: Sequence[str],
        question: Question,
        screened: Mapping[str, Ruling],
        rival: Rival,
    ) -> dict[str, Ruling]:
        if question is Question.ENVIRONMENT and library_of(baseline) == library_of(tonight):
            return self._by_history(tonight, baseline, suspects, question, "it is the same plan", rival)
        builds = [name for name in suspects if kind_of(self.quantities[name]) == BUILDING]
        if builds:
            why = "a build is timed once, and nothing fresh stands beside it"
            told = self._by_history(tonight, baseline, builds, question, why, rival)
            others = [name for name in suspects if name not in builds]
            return told | (self._confirmed(tonight, baseline, others, question, screened, rival) if others else {})
        found = rival.beside(baseline, suspects)
        if isinstance(found, str):
            return self._by_history(tonight, baseline, suspects, question, found, rival)
        by_metric = {one.metric: one for one in found}
        failed = next((one for one in found if one.said is Said.FAILED), None)
        rulings = {}
        unsettled = []  # all builds together passed, with one that is slow
        for name in suspects:
            fresh = failed or by_metric.get(name)  # of several plans, or looks, others may have passed
            if fresh is None:
                words = f"{screened[name].finding.words}; nothing fresh was said of it"
                rulings[name] = Ruling(replace(screened[name].finding, words=words), question)
                continue
            own = (
                "the same plan by both libraries" if question is Question.ENVIRONMENT else "beside the baseline's plan"
            )
            words = f"{fresh.words}, {own}"
            slow = self._slow_build(tonight.plans, tonight.values[name], baseline.metrics[name], name, question)
            if slow and fresh.said in OPEN:
                words += f"; {slow}"
            elif slow and fresh.said in SETTLED:
                unsettled.append(name)
            if fresh is failed:
                words = f"{fresh.metric}: {fresh.words}"
            if fresh.said in (Said.PASS, Said.IMPROVEMENT):
                moved = "screened: " if self._doubt(tonight, name) else "the night moved both: "
                words += f"; {'' if slow else moved}{screened[name].finding.words}"
            rulings[name] = Ruling(replace(fresh, subject=tonight.cell, metric=name, words=words), question)
        again = rival.again(unsettled) if unsettled else {}
        for name, values in again.items():
            finding = rulings[name].finding
            rulings[name] = Ruling(self._with_slow_build(finding, tonight, baseline, values, question), question)
        return rulings

    def _stayed(self, tonight: Tonight, baseline: Baseline, question: Question, rival: Rival) -> Sequence[Ruling]:
        """Of the baseline's own plans in tonight's environment, where tonight's are others and it changed."""
        names = [name for name in changed(baseline.environment, tonight.environment) if name != OPTIONS]
        if question is Question.ENVIRONMENT or not names:
            return []
        found = rival.stayed(baseline, tonight.session)
        if isinstance(found, str):
            return [_untold(tonight, baseline, found)]
        same, measurer = found
        wanted = [name for name in same.values if name in tonight.values and name in baseline.metrics]
        rulings = {name: self._screened(same, baseline, name, Question.ENVIRONMENT) for name in wanted}
        suspects = [name for name, ruling in rulings.items() if ruling.finding.said is Said.INCONCLUSIVE]
        if suspects:
            try:
                rulings |= self._confirmed(same, baseline, suspects, Question.ENVIRONMENT, rulings, measurer)
            except SideFailed as failed:
                return [_untold(tonight, baseline, str(failed).partition("\n")[0])]
        lost = next((one.finding.words for one in rulings.values() if one.finding.said is Said.FAILED), "")
        if lost:  # of a plan that is not tonight's
            return [_untold(tonight, baseline, lost)]
        return list(rulings.values())

    def _by_history(
        self,
        tonight: Tonight,
        baseline: Baseline,
        suspects: Sequence[str],
        question: Question,
        why: str,
        rival: Rival,
    ) -> dict[str, Ruling]:
        """By fresh processes of the candidate, against what the baseline's sessions measured in their time."""
        fresh = rival.again(suspects)
        moved = changes(baseline.environment, tonight.environment)
        rulings = {}
        for name in suspects:
            known = baseline.metrics[name]
            metric = self._metric(name, known)
            if name not in fresh or not np.all(fresh[name] > 0):
                words = f"suspected, and not measured again: {why}"
                rulings[name] = Ruling(self._finding(tonight, name, Said.INCONCLUSIVE, words, known), question)
                continue
            plain = against_history(known, fresh[name], metric)
            words = f"{plain.words(metric)}, by history alone: {why}"
            step = self._step(known, fresh[name], name, question)
            hidden = self.gained > 0 and plain.estimate < math.log1p(known.tolerance)  # a loss on a faster host alone
            said = Said.INCONCLUSIVE
            lost = step.p < ALARM and step.estimate >= math.log1p(known.tolerance)
            change = self._doubt(tonight, name)
            if step.estimate < math.log1p(known.tolerance) and not (self.lost and step.p < SUSPECT):
                said = Said.INCONCLUSIVE if change and step.high >= change.low else Said.PASS
            elif self.lost or hidden:
                said, words = Said.HOST_CHANGED, f"{words}; {self.host}"
            elif lost and _few(step, baseline):
                days = f" of {baseline.days} day{'s' * (baseline.days != 1)}" if baseline.days else ""
                words += f"; {step.sessions} sessions{days} are too few to decide by: it takes {HISTORY} days, one each"
            elif lost and question is Question.ENVIRONMENT and not moved:
                said, words = Said.HOST_CHANGED, f"{words}; nothing that is recorded of the environment changed"
            elif lost:
                said = Said.REGRESSION
            finding = self._finding(tonight, name, said, words, known)
            if said is Said.PASS:
                finding = self._with_slow_build(finding, tonight, baseline, fresh[name], question)
            if moved and finding.said is not Said.PASS:
                finding = replace(finding, words=f"{finding.words}; changed since: {', '.join(moved)}")
            rulings[name] = Ruling(replace(finding, timed=True), question)
        return rulings

    def _drift(self, tonight: Tonight, release: Baseline, rival: Rival) -> Iterator[Ruling]:
        """What a cell lost since the pinned release, where that is more than it may.

        Confirmed beside the release's plan; where tonight's is the same, by history.
        """
        bounds = {name: replace(known, tolerance=self._policy(name).drift) for name, known in release.metrics.items()}
        release = replace(release, metrics=bounds)
        question = asked(tonight, release)
        suspects = []
        for name in (name for name in tonight.values if name in bounds):
            step = self._step(bounds[name], tonight.values[name], name, question)
            sure = step.p < SUSPECT or (_few(step, release) and self._comparable(tonight, release, name, question))
            if step.estimate >= math.log1p(bounds[name].tolerance) and sure:
                suspects.append(name)
        if not suspects:
            return
        found = {name: self._screened(tonight, release, name, question) for name in suspects}
        if self.perf == "gate":
            found |= self._confirmed(tonight, release, suspects, question, found, rival)
        for name in suspects:
            finding = found[name].finding
            said = finding.said
            if finding.verdict is not None and said in (Said.PASS, Said.REGRESSION, Said.IMPROVEMENT):
                lost = finding.verdict.low > 0 and finding.verdict.estimate >= math.log1p(bounds[name].tolerance)
                said = Said.REGRESSION if lost else Said.PASS
            allowed = f"{100 * bounds[name].tolerance:g} % allowed since release {release.release}"
            yield Ruling(replace(finding, said=said, words=f"{finding.words}, {allowed}"), Question.DRIFT)

    def _excused(self, ruling: Ruling) -> Ruling:
        if ruling.finding.said not in BAD:
            return ruling
        quarantine = self.quarantined.get(ruling.finding.subject, "")
        ungated = "" if self._policy(ruling.finding.metric).gated else "the policy does not gate it"
        return replace(ruling, excuse=quarantine or ungated)


def decides(question: Question, said: Said, fresh: tuple[float, float] | None, low: float) -> bool | None:
    """Of a change point of the series: whether what was ``said`` confirms it, or may clear it; None for neither.

    A regression confirms, even by history alone, which then shows it by other processes than the change was found in.
    A pass clears, with another night's (`harness.ledger.change_states`), where it was interleaved with the baseline's
    plans (``fresh``: its estimate and the upper end of its 95 % interval, as log ratios of cost, None of what was not),
    and even `CLEARING` times as wide an interval ends below the least that the change may be (``low``): a tolerance
    passes more than that. By history it is one night against the few of a baseline, and clearing whatever one night of
    many does not show would in time clear everything. What a release is allowed to lose is another question, and so is
    what the baseline's own plans lose elsewhere.
    """
    if question is Question.DRIFT:
        return None
    if said is Said.REGRESSION:
        return True
    excluded = fresh is not None and fresh[0] + CLEARING * (fresh[1] - fresh[0]) < low
    return False if excluded and said in SETTLED and question is not Question.ENVIRONMENT else None


def _few(step: Step, baseline: Baseline) -> bool:
    """Whether history alone does not decide: sessions of one day count as one."""
    return min(step.sessions, baseline.days or step.sessions) < HISTORY


def _untold(tonight: Tonight, baseline: Baseline, why: str) -> Ruling:
    """Of a baseline's plan that does not run tonight, which is no fault of the candidate's."""
    words = f"{why}; changed since: {', '.join(changes(baseline.environment, tonight.environment))}"
    finding = Finding(tonight.cell, Question.ENVIRONMENT.value, Said.NOT_COVERED, words)
    return Ruling(finding, Question.ENVIRONMENT, held=False)


def library_of(one: Baseline | Tonight) -> str:
    return one.environment.get("library", "")


def another_model(tonight: Tonight, namesake: Baseline) -> str:
    """That a baseline of this name is of another model than tonight's, and what to do, in words."""
    whose = f" ({namesake.at:%Y-%m-%d}, {namesake.actor}: {namesake.reason})" if namesake.at else ""
    if not namesake.model or not tonight.model:
        what = "its file, profiles, plugins or way of measuring are others"
    elif namesake.model == tonight.model:
        what = "its profiles, plugins or way of measuring are others"
    else:
        what = f"its file is another, SHA-256 {tonight.model[:12]} (was {namesake.model[:12]})"
    accept = "if that is meant, accept it anew: trt-harness baseline propose, then accept"
    return f"another model than that of the accepted baseline of this name{whose}: {what}; {accept}"


def asked(tonight: Tonight, baseline: Baseline) -> Question:
    """What the candidate differs in from the baseline, beside the night."""
    if library_of(tonight) != library_of(baseline):  # even where both build the very same plan: what runs it differs
        return Question.INSTALLATION
    return Question.ENVIRONMENT if same_plans(tonight.plans, baseline.plans) else Question.REBUILT


def same_plans(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether builds gave the very same plans, each as often: one of them alone is no measure of all."""
    return Counter(some) == Counter(others)


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The names of what differs of two environments."""
    return [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs of two environments: ``driver 580 (was 575)``."""
    return [f"{name} {now.get(name, 'unknown')} (was {before.get(name, 'unknown')})" for name in changed(before, now)]
