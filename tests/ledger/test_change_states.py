"""A change point from the night that keeps it to the ruling that decides it, through a store and the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest

from harness.ledger import batch, decisions
from harness.ledger.baselines import Baseline, Known
from harness.ledger.baselines import State as BaselineState
from harness.ledger.change_states import Change, State, kept, matching, summed, uncleared
from harness.ledger.gate import Gate, Question, Ruling, Tonight, decides
from harness.ledger.history import Line
from harness.ledger.policy import DEFAULTS
from harness.ledger.proposals import Proposal
from harness.ledger.series import MACHINE, Alerted, alerts_of, note
from harness.ledger.store import Store
from harness.measure.finding import Finding, Said
from harness.measure.history import Cause, ChangePoint
from harness.measure.metric import Metric
from harness.measure.verdict import Outcome, judge
from harness.report.findings import as_fact
from harness.settings import Perf
from tests.ledger.test_gate import ELSEWHERE, GRAPH, HERE, KNOWN_QUANTITIES, Planned, near
from tests.measure.nights import nights

FIRST = datetime(2026, 1, 1, tzinfo=timezone.utc)
NIGHTS, STEP, LOSS = 40, 25, 1.008
LINE = Line("", "k", "bert on a GPU", GRAPH, "s")
SERIES = batch.Series(LINE.cell_key, LINE.cell, LINE.metric, LINE.unit)
CLOSE = tuple(1e-3 * (1 + 0.0005 * one) for one in (-1, -0.5, 0, 0.5, 1))
APART = tuple(1e-3 * (1 + 0.005 * one) for one in (-1, -0.5, 0, 0.5, 1))  # so that a loss below 1 % is no suspicion


def baseline(values: Sequence[float] = APART) -> Baseline:
    sessions = tuple(f"night-{number}" for number in range(5))
    return Baseline("k", LINE.cell, ("plan-a",), sessions, {GRAPH: Known("s", tuple(values), 0.001, 0.01)}, HERE)


def session(night: float) -> batch.Session:
    return batch.Session(f"night-{night}", (FIRST + timedelta(night)).timestamp(), f"c{night}")


def measured(
    store: Store,
    loss: float = LOSS,
    nights: Sequence[int] = range(NIGHTS),
    back: int = 10_000,
    here: Mapping[str, str] = HERE,
) -> None:
    """Nights of a cell that gets slower by ``loss`` with night `STEP`, until night ``back``."""
    rng = np.random.default_rng(2)
    made = batch.Batch()
    for night in nights:
        value = 1e-3 * (loss if STEP <= night < back else 1.0) * float(np.exp(0.001 * rng.standard_normal()))
        made.measurements.append(batch.Measurement(SERIES, session(night), value, 0.001, 4, here, ("plan",)))
    batch.write(store, made)


def searched(store: Store) -> list[Alerted]:
    """As a night does it once it is stored."""
    found = alerts_of(store, {"k"}, FIRST)
    note(store, found)
    return found


@dataclass
class Night:
    """One after `measured`, by the gate, whose rulings go into the store as a run's do."""

    store: Store
    number: int = NIGHTS
    baseline: Baseline = field(default_factory=baseline)
    perf: Perf = "gate"

    def ruled(self, loss: float, rival: Planned, plan: str = "plan-b", here: Mapping[str, str] = HERE) -> Ruling:
        """On a candidate that screens at ``loss``: what is said of its own plan."""
        gate = Gate(DEFAULTS, KNOWN_QUANTITIES, self.perf, changes=uncleared(self.store))
        tonight = Tonight("k", LINE.cell, f"night-{self.number}", (plan,), here, {GRAPH: near(1e-3 * loss, 7)})
        rulings = gate.rule(tonight, self.baseline, None, rival)
        said(self.store, self.number, *rulings)
        return rulings[0]


def said(store: Store, night: float, *rulings: Ruling) -> None:
    made = batch.Batch()
    for ruling in rulings:
        told = as_fact(ruling.finding)
        numbers = {name: told["cost"].get(name) for name in ("estimate", "low", "high", "visible")}
        row = {"question": ruling.question.value, "outcome": told["said"], "fails": ruling.fails, **numbers}
        made.comparisons.append((session(night), SERIES, {**row, "p": told.get("p"), "words": told["words"]}))
    batch.write(store, made)


def verdict(b: float) -> Finding:
    """As interleaved processes say of a plan that takes ``b`` seconds beside one of 1 ms."""
    medians = np.stack([near(1e-3, 21, 16).reshape(8, 2), near(b, 22, 16).reshape(8, 2)], axis=1)
    return Finding.of(LINE.cell, KNOWN_QUANTITIES[GRAPH], judge(medians, KNOWN_QUANTITIES[GRAPH].metric), 1e-3, b)


def standing(store: Store) -> str:
    (found,) = kept(store)
    return found.standing


# What a night makes of it ---------------------------------------------------------------------------------


def test_a_loss_below_suspicion_is_compared_afresh_once_nights_show_it(store: Store) -> None:
    measured(store)
    rival = Planned(b=1e-3 * LOSS)
    before = Night(store, NIGHTS - 1).ruled(LOSS, rival)
    assert (before.finding.said, rival.calls) == (Said.PASS, []), "no night by itself suspects it"
    assert len(searched(store)) == 1
    assert standing(store) == "open"
    ruling = Night(store).ruled(LOSS, rival)
    assert rival.calls == ["beside plan-a"]
    assert (ruling.finding.said, ruling.fails) == (Said.REGRESSION, True)
    assert "; change point of 2026-01-26: slower by 0.8" in ruling.finding.words
    assert ruling.finding.words.endswith(", commits c24..c25: confirmed")
    assert standing(store) == f"confirmed by night-{NIGHTS}"


def test_what_is_confirmed_is_compared_until_it_is_cleared(store: Store) -> None:
    """Or the night after it failed would pass it by its screening."""
    measured(store)
    searched(store)
    Night(store, NIGHTS).ruled(LOSS, Planned(b=1e-3 * LOSS))
    again = Night(store, NIGHTS + 1).ruled(LOSS, Planned(b=1e-3 * LOSS))
    assert again.fails
    assert standing(store) == f"confirmed by night-{NIGHTS}", "by the first"
    gone = Night(store, NIGHTS + 2).ruled(1.0, Planned())
    assert gone.finding.said is Said.PASS
    assert "beside the baseline's plan; screened: " in gone.finding.words
    assert gone.finding.words.endswith(": stays confirmed: this passed, and one more night's pass clears it")
    one_more = f"(night-{NIGHTS + 2} passed: one more night's pass clears it)"
    assert standing(store) == f"confirmed by night-{NIGHTS} {one_more}"
    gone = Night(store, NIGHTS + 3).ruled(1.0, Planned())
    assert gone.finding.words.endswith(f": cleared, where night-{NIGHTS + 2}, which passed, too, began a night before")
    cleared = f"cleared by night-{NIGHTS + 2} and night-{NIGHTS + 3}"
    assert standing(store) == cleared
    rival = Planned()
    assert "change point" not in Night(store, NIGHTS + 4).ruled(1.0, rival).finding.words
    assert rival.calls == [], "and is screened as any other"
    said(store, NIGHTS + 5, Ruling(verdict(1.05e-3), Question.REBUILT))
    assert standing(store) == cleared, "what comes later is another change"


PASSES, LOST = verdict(1e-3), verdict(1.05e-3)


@pytest.mark.parametrize(
    ("told", "now"),
    [
        ([(0, PASSES)], "open (night-40 passed: one more night's pass clears it)"),
        ([(0, PASSES), (1, PASSES)], "cleared by night-40 and night-41"),
        ([(0, PASSES), (0.8, PASSES)], "open (night-40 passed: one more night's pass clears it)"),  # 19.2 h
        ([(0, PASSES), (0.4, PASSES), (0.85, PASSES)], "cleared by night-40 and night-40.85"),
        (
            [(0, PASSES), (1, LOST), (2, PASSES)],
            "confirmed by night-41 (night-42 passed: one more night's pass clears it)",
        ),
        ([(0, PASSES), (1, LOST), (2, PASSES), (3, PASSES)], "cleared by night-42 and night-43"),
        ([(0, PASSES), (1, replace(PASSES, said=Said.INCONCLUSIVE)), (2, PASSES)], "cleared by night-40 and night-42"),
        ([(0, PASSES), (1, PASSES), (2, LOST)], "cleared by night-40 and night-41"),
    ],
)
def test_passes_of_two_nights_in_a_row_clear_it(store: Store, told: Sequence[tuple[float, Finding]], now: str) -> None:
    measured(store)
    searched(store)
    for days, finding in told:
        said(store, NIGHTS + days, Ruling(finding, Question.REBUILT))
    assert standing(store) == now


@pytest.mark.parametrize("fact", MACHINE)
def test_only_the_machine_that_it_was_found_on_clears_it(store: Store, fact: str) -> None:
    """Though another one may confirm it."""
    here, there = {**HERE, "gpu_uuid": "", fact: "a"}, {**HERE, "gpu_uuid": "", fact: "b"}
    measured(store, here=here)
    searched(store)
    for night in range(NIGHTS, NIGHTS + 4):
        made = batch.Batch()
        made.measurements.append(batch.Measurement(SERIES, session(night), 1e-3, 0.001, 4, there, ("plan",)))
        batch.write(store, made)
        ruling = Night(store, night).ruled(1.0, Planned(), here=there)
        assert ruling.finding.words.endswith(": stays open, since it was found on another machine")
        assert standing(store) == "open"
    for night in (NIGHTS + 4, NIGHTS + 5):
        made = batch.Batch()
        made.measurements.append(batch.Measurement(SERIES, session(night), 1e-3, 0.001, 4, here, ("plan",)))
        batch.write(store, made)
        Night(store, night).ruled(1.0, Planned(), here=here)
    assert standing(store) == f"cleared by night-{NIGHTS + 4} and night-{NIGHTS + 5}"


def test_a_pass_that_tolerates_as_much_clears_nothing(store: Store) -> None:
    """As where noise has widened the tolerance."""
    measured(store)
    searched(store)

    class Wide(Planned):
        def beside(self, baseline: Baseline, metrics: Sequence[str]) -> Sequence[Finding] | str:
            (found,) = super().beside(baseline, metrics)
            assert found.verdict
            wide = replace(found.verdict, outcome=Outcome.PASS, high=0.012)
            return [replace(found, said=Said.PASS, verdict=wide)]

    ruling = Night(store).ruled(1.0, Wide())
    assert ruling.finding.said is Said.PASS
    assert ruling.finding.words.endswith("stays open, since as much may still be lost")
    assert standing(store) == "open"


def test_an_improvement_by_screening_does_not_stand_either(store: Store) -> None:
    measured(store)
    searched(store)
    rival = Planned(b=1e-3 * LOSS)
    assert Night(store, baseline=baseline(CLOSE)).ruled(0.99, rival).fails
    assert rival.calls == ["beside plan-a"]


@pytest.mark.parametrize(
    ("loss", "values", "outcome", "now"),
    [
        (1.05, CLOSE, Said.HOST_CHANGED, "open"),  # a loss by history, for which nothing that is recorded accounts
        (1.008, APART, Said.INCONCLUSIVE, "open"),  # less than history shows, and as much as the change
        (1.0, CLOSE, Said.PASS, "open"),  # tonight is without it, which no single night takes back
    ],
)
def test_the_same_plan_is_measured_again_and_clears_nothing(
    store: Store, loss: float, values: Sequence[float], outcome: Said, now: str
) -> None:
    measured(store)
    searched(store)
    rival = Planned(b=1e-3 * loss)
    ruling = Night(store, baseline=baseline(values)).ruled(loss, rival, plan="plan-a")
    assert rival.calls == ["again"]
    assert ruling.finding.said is outcome
    assert "by history alone: it is the same plan" in ruling.finding.words
    assert "stays open, since nothing stood beside it" in ruling.finding.words
    assert "; accept a baseline of sessions since then, if that is the new level: " in ruling.finding.words
    assert standing(store) == now


def test_the_same_plan_under_another_driver_may_be_confirmed_by_history(store: Store) -> None:
    measured(store)
    searched(store)
    night = Night(store, baseline=replace(baseline(CLOSE), days=5))
    ruling = night.ruled(1.05, Planned(b=1.05e-3), plan="plan-a", here=ELSEWHERE)
    assert ruling.fails
    assert ruling.finding.words.partition("; changed since")[0].count("by history alone") == 1
    assert ruling.finding.words.endswith(": confirmed")
    assert standing(store) == f"confirmed by night-{NIGHTS}"


@pytest.mark.parametrize(
    ("loss", "calls"),
    [(1.0, []), (1.05, ["again"])],  # what is suspected by itself is measured again, and then without it
)
def test_of_a_quarantined_cell_it_is_told_and_leaves_nothing_open(
    store: Store, loss: float, calls: Sequence[str]
) -> None:
    measured(store)
    searched(store)
    for quarantined in (True, False):
        excuse = {LINE.cell: "quarantined until 2026-12-31 by ada: noisy"} if quarantined else {}
        gate = Gate(DEFAULTS, KNOWN_QUANTITIES, quarantined=excuse, changes=uncleared(store))
        tonight = Tonight("k", LINE.cell, "tonight", ("plan-a",), HERE, {GRAPH: near(1e-3 * loss, 7)})
        rival = Planned(b=1.005e-3)
        (ruling,) = gate.rule(tonight, baseline(), None, rival)
        assert ruling.finding.said is (Said.PASS if quarantined else Said.INCONCLUSIVE)
        assert rival.calls == (calls if quarantined else ["again"])
        assert "; change point of 2026-01-26: slower by 0.8" in ruling.finding.words


def test_screening_alone_leaves_it_open(store: Store) -> None:
    measured(store)
    searched(store)
    rival = Planned()
    ruling = Night(store, perf="screen").ruled(1.0, rival)
    assert (ruling.finding.said, rival.calls) == (Said.INCONCLUSIVE, [])
    assert "stays open" in ruling.finding.words
    assert standing(store) == "open"


def test_without_a_baseline_it_is_told(store: Store) -> None:
    measured(store)
    searched(store)
    gate = Gate(DEFAULTS, KNOWN_QUANTITIES, changes=uncleared(store))
    tonight = Tonight("k", LINE.cell, "tonight", ("plan-b",), HERE, {GRAPH: near(1e-3, 7)})
    (ruling,) = gate.rule(tonight, None, None, Planned())
    assert (ruling.finding.said, ruling.held) == (Said.NOTED, False)
    assert "change point of 2026-01-26" in ruling.finding.words
    assert ruling.finding.words.endswith("trt-harness baseline propose, then accept")


def test_another_metric_or_cell_is_screened_as_ever(store: Store) -> None:
    measured(store)
    searched(store)
    gate = Gate(DEFAULTS, KNOWN_QUANTITIES, changes=uncleared(store))
    for key, metric in (("other", GRAPH), ("k", "throughput")):
        held = replace(baseline(), metrics={metric: Known("s", APART, 0.001, 0.01)})
        rival = Planned()
        tonight = Tonight(key, LINE.cell, "tonight", ("plan-b",), HERE, {metric: near(1e-3, 7)})
        (ruling,) = gate.rule(tonight, held, None, rival)
        assert (ruling.finding.said, rival.calls) == (Said.PASS, [])


def test_the_baselines_own_plan_is_asked_about_the_environment_alone(store: Store) -> None:
    """Under another driver both plans run; the change point is of tonight's."""
    measured(store)
    searched(store)
    gate = Gate(DEFAULTS, KNOWN_QUANTITIES, changes=uncleared(store))
    tonight = Tonight("k", LINE.cell, "tonight", ("plan-b",), ELSEWHERE, {GRAPH: near(1e-3, 7)})
    own, stayed = gate.rule(tonight, baseline(), None, Planned(old=1e-3))
    assert own.finding.words.endswith(": this passed, and one more night's pass clears it")
    assert (stayed.finding.said, stayed.question) == (Said.PASS, Question.ENVIRONMENT)
    assert "change point" not in stayed.finding.words


def test_what_the_baselines_own_plan_or_a_release_is_asked_is_as_ever(store: Store) -> None:
    """A change point opens nothing there that fresh processes pass."""
    measured(store)
    searched(store)
    gate = Gate(DEFAULTS, KNOWN_QUANTITIES, changes=uncleared(store))
    held = baseline(CLOSE)
    tonight = Tonight("k", LINE.cell, "tonight", ("plan-b",), ELSEWHERE, {GRAPH: near(1e-3, 7)})
    rival = Planned(old=1.0075e-3)
    _, stayed = gate.rule(tonight, held, None, rival)
    assert stayed.finding.said is Said.PASS
    assert "by history alone" in stayed.finding.words
    tonight = Tonight("k", LINE.cell, "tonight", ("plan-a",), HERE, {GRAPH: near(1.035e-3, 7)})
    *_, drift = gate.rule(tonight, held, replace(held, release="1.0"), Planned(b=1.02e-3))
    assert (drift.question, drift.finding.said) == (Question.DRIFT, Said.PASS)


# What decides ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "outcome", "fresh", "decided"),
    [
        (Question.REBUILT, Said.REGRESSION, (0.01, 0.02), True),
        (Question.ENVIRONMENT, Said.REGRESSION, None, True),
        (Question.INSTALLATION, Said.PASS, (0.001, 0.005), False),
        (Question.REBUILT, Said.IMPROVEMENT, (-0.003, -0.001), False),
        (
            Question.REBUILT,
            Said.PASS,
            (0.005, 0.015),
            None,
        ),  # within what is tolerated, and as large as the change may be
        (Question.REBUILT, Said.PASS, (0.001, 0.009), None),  # by chance, which has many nights to come
        (Question.REBUILT, Said.PASS, None, None),  # screened, or by history
        (Question.ENVIRONMENT, Said.PASS, (0.001, 0.005), None),  # the baseline's plan by both libraries
        (Question.DRIFT, Said.REGRESSION, (0.04, 0.05), None),  # since a release, which is another level
        (Question.DRIFT, Said.PASS, (0.001, 0.005), None),
        (Question.REBUILT, Said.INCONCLUSIVE, (0.001, 0.005), None),
        (Question.REBUILT, Said.UNSTABLE, (0.001, 0.005), None),
        (Question.REBUILT, Said.FAILED, None, None),
    ],
)
def test_what_decides(
    question: Question, outcome: Said, fresh: tuple[float, float] | None, decided: bool | None
) -> None:
    assert decides(question, outcome, fresh, low=0.01) is decided


def test_only_a_later_session_decides(store: Store) -> None:
    measured(store)
    for night in (STEP - 1, STEP):
        said(store, night, Ruling(verdict(1.05e-3), Question.REBUILT))
    searched(store)
    assert standing(store) == "open"


def test_what_the_environment_costs_the_baselines_plan_does_not_confirm_it(store: Store) -> None:
    measured(store)
    searched(store)
    lost = replace(verdict(1.05e-3), verdict=None)
    for night in (NIGHTS, NIGHTS + 1):
        said(store, night, Ruling(lost, Question.ENVIRONMENT), Ruling(verdict(1e-3), Question.REBUILT))
    assert standing(store) == f"cleared by night-{NIGHTS} and night-{NIGHTS + 1}"


@pytest.mark.parametrize(
    ("questions", "now"),
    [
        ((Question.ENVIRONMENT, Question.DRIFT), f"confirmed by night-{NIGHTS}"),
        ((Question.DRIFT,), "open"),
    ],
)
def test_what_was_lost_since_a_release_hides_no_confirmation(
    store: Store, questions: Sequence[Question], now: str
) -> None:
    """Of the same plan, both are by history."""
    measured(store)
    searched(store)
    lost = replace(verdict(1.05e-3), verdict=None)
    said(store, NIGHTS, *(Ruling(lost, question) for question in questions))
    assert standing(store) == now


def test_a_comparison_by_hand_decides_nothing(store: Store) -> None:
    """Nor does what is not understood: whoever compares names both sides."""
    measured(store)
    searched(store)
    numbers = dict.fromkeys(("estimate", "low", "high", "visible", "p"), 0.001)
    made = batch.Batch()
    for question in ("compare", "some question of a later version"):
        row = {"question": question, "outcome": "PASS", "fails": False, "words": "", **numbers}
        made.comparisons.append((session(NIGHTS), SERIES, row))
    batch.write(store, made)
    assert standing(store) == "open"


@pytest.mark.parametrize(
    ("back", "now"), [(1.0, "cleared by the change for the better of 2026-02-20"), (1.005, "open")]
)
def test_a_change_back_takes_it_back(store: Store, back: float, now: str) -> None:
    """Of the whole loss, and not of a part of it."""
    measured(store, 1.02)
    searched(store)
    assert standing(store) == "open"
    rng = np.random.default_rng(3)
    made = batch.Batch()
    for night in range(50, 75):
        value = 1e-3 * back * float(np.exp(0.001 * rng.standard_normal()))
        made.measurements.append(batch.Measurement(SERIES, session(night), value, 0.001, 4, HERE, ("plan",)))
    batch.write(store, made)
    assert len(searched(store)) == 2
    assert standing(store) == now


def levels(store: Store, *those: float, each: int = 25) -> None:
    """So many nights at each of these, and what a search finds in them."""
    rng = np.random.default_rng(2)
    made = batch.Batch()
    for night in range(each * len(those)):
        value = 1e-3 * those[night // each] * float(np.exp(0.001 * rng.standard_normal()))
        made.measurements.append(batch.Measurement(SERIES, session(night), value, 0.001, 4, HERE, ("plan",)))
    batch.write(store, made)
    searched(store)


BACK = "cleared by the change for the better of "


@pytest.mark.parametrize(
    ("those", "now"),
    [
        ((1.0, 0.97, 1.0), ["open"]),  # what was gained before takes nothing back
        ((1.0, 1.02, 1.04, 1.02), ["open", f"{BACK}2026-03-17"]),
        ((1.0, 1.02, 1.04, 1.0), [f"{BACK}2026-03-17"] * 2),
        ((1.0, 1.02, 1.01), ["open"]),
        ((1.0, 1.02, 1.01, 1.0), [f"{BACK}2026-03-17"]),
        ((1.0, 1.02, 1.0, 1.02), [f"{BACK}2026-02-20", "open"]),
    ],
)
def test_what_is_gained_takes_back_the_latest_loss_first(
    store: Store, those: Sequence[float], now: Sequence[str]
) -> None:
    levels(store, *those)
    assert [one.standing for one in kept(store)] == now


def test_what_takes_it_back_in_the_same_nights_is_kept_beside_it(store: Store) -> None:
    """And is no other night's finding of the same change."""
    measured(store)
    ((line, lost),) = searched(store)[0].changes
    night = replace(lost.bad, at=lost.bad.at + timedelta(2), session=f"night-{STEP + 2}")
    for estimate, now in ((lost.estimate, "open"), (-lost.estimate, f"{BACK}2026-01-28")):
        note(store, [Alerted("two nights later", ((line, replace(lost, bad=night, estimate=estimate)),))])
        assert standing(store) == now


def test_a_gain_takes_back_nothing_that_was_cleared_before(store: Store) -> None:
    """But the loss before it: what two nights showed to be less than the larger one may be as much as the smaller."""
    levels(store, 1.0, 1.01, 1.04, 1.03)
    passed = verdict(1e-3)
    assert passed.verdict
    as_much = replace(passed, verdict=replace(passed.verdict, estimate=0.015, high=0.016))
    for night in (70, 71):
        said(store, night, Ruling(as_much, Question.REBUILT))
    assert [one.standing for one in kept(store)] == [f"{BACK}2026-03-17", "cleared by night-70 and night-71"]


@pytest.mark.parametrize(
    ("first", "now"),
    [
        (STEP, "cleared by the baseline, which is of sessions since"),
        (24, "open"),
        (NIGHTS - 4, "open"),  # whose last one this store does not have
    ],
)
def test_a_baseline_of_sessions_since_then_alone_is_its_owners_decision(store: Store, first: int, now: str) -> None:
    measured(store)
    searched(store)
    proposed(store, first)
    assert standing(store) == "open", "as long as nobody accepts it"
    accepted(store)
    assert standing(store) == now


def test_a_baseline_of_older_sessions_in_its_place_takes_the_decision_back(store: Store) -> None:
    measured(store)
    searched(store)
    for first, now in ((STEP, "cleared by the baseline, which is of sessions since"), (10, "open")):
        proposed(store, first)
        accepted(store)
        assert standing(store) == now


def proposed(store: Store, first: int) -> None:
    """A baseline of the five sessions from the ``first`` one on."""
    sessions = tuple(f"night-{number}" for number in range(first, first + 5))
    proposal = Proposal.of(replace(baseline(), sessions=sessions), None, KNOWN_QUANTITIES)
    decisions.propose(store, proposal, "the gate", FIRST)


def accepted(store: Store) -> None:
    (filed,) = decisions.filed(store, BaselineState.PROPOSED)
    decisions.accept(store, filed, "a known cost", "ada", FIRST)


# In words -------------------------------------------------------------------------------------------------


def test_an_alert_says_where_its_changes_stand(store: Store) -> None:
    measured(store)
    found = searched(store)
    assert summed(found, kept(store)) == [f"{found[0].words}: open"]
    assert summed(found, []) == [found[0].words], "where none was kept"
    Night(store).ruled(LOSS, Planned(b=1e-3 * LOSS))
    assert summed(found, kept(store)) == [f"{found[0].words}: confirmed by night-{NIGHTS}"]


def test_what_an_earlier_night_kept_is_told_until_it_is_cleared(store: Store) -> None:
    """Though tonight's search does not find it."""
    measured(store)
    searched(store)
    (words,) = summed([], kept(store))
    assert words.startswith(f"{GRAPH}: {LINE.cell}: change point of 2026-01-26: slower by 0.8")
    assert words.endswith(", commits c24..c25: open")
    for night in (NIGHTS, NIGHTS + 1):
        Night(store, night).ruled(1.0, Planned())
    assert summed([], kept(store)) == []


def test_cells_of_one_alert_may_stand_apart() -> None:
    lines = [replace(LINE, key=str(number), cell=f"bert-{number}") for number in range(3)]
    by = [(State.CONFIRMED, "night-40"), (State.OPEN, ""), (State.OPEN, "")]
    changes = [
        Change(line, "night-25", (FIRST + timedelta(25)).timestamp(), 0.01, 0.009, 0.011, state=state, by=who)
        for line, (state, who) in zip(lines, by, strict=True)
    ]
    (night,) = nights([0.0])
    bad = replace(night, at=FIRST + timedelta(26))
    point = ChangePoint(1, Cause.UNEXPLAINED, 0.01, 0.009, 0.011, 1e-6, 1e-3, 1.01e-3, night, bad, 5)
    alert = Alerted("three cells", tuple((line, point) for line in lines))
    assert summed([alert], changes) == ["three cells: 1 confirmed by night-40, 2 open"]
    faster = replace(point, estimate=-0.01)
    assert summed([Alerted("faster", ((lines[0], faster),))], []) == ["faster"]


@pytest.mark.parametrize(("days", "nearest"), [(24, 0), (26, 0), (27, 1), (31, 1), (21, None), (32, None)])
def test_a_change_is_the_nearest_that_was_kept_within_three_days(days: int, nearest: int | None) -> None:
    """Of any order."""
    both = [Change(LINE, f"night-{n}", (FIRST + timedelta(n)).timestamp(), 0.01, 0.009, 0.011) for n in (25, 28)]
    expected = None if nearest is None else both[nearest]
    assert matching(both, FIRST + timedelta(days)) == matching(both[::-1], FIRST + timedelta(days)) == expected


def test_a_change_without_commits_names_none() -> None:
    change = Change(LINE, "night-25", (FIRST + timedelta(25)).timestamp(), 0.012, 0.01, 0.014, "1 of 3 cells")
    assert str(change) == "change point of 2026-01-26: slower by 1.2 % (1.0 to 1.4)"
    rate = replace(change, line=replace(LINE, metric="some rate", unit="runs/s"))
    assert Metric("some rate", more_is_better=True).worse in str(rate)


def test_without_change_points_nothing_is_open(store: Store) -> None:
    measured(store, 1.0)
    assert searched(store) == []
    assert (kept(store), uncleared(store)) == ([], {})


def test_only_changes_for_the_worse_of_the_cells_that_are_meant(store: Store) -> None:
    measured(store, 1.02, range(75), back=50)
    assert len(searched(store)) == 2
    assert len(kept(store)) == len(kept(store, ["k"])) == 1
    assert kept(store, ["other"]) == []


def test_of_several_the_last_is_named(store: Store) -> None:
    """One comparison decides all that began before it."""
    rng = np.random.default_rng(2)
    made = batch.Batch()
    for night in range(75):
        value = 1e-3 * LOSS ** ((night >= STEP) + (night >= 50)) * float(np.exp(0.001 * rng.standard_normal()))
        made.measurements.append(batch.Measurement(SERIES, session(night), value, 0.001, 4, HERE, ("plan",)))
    batch.write(store, made)
    searched(store)
    first, second = kept(store)
    assert uncleared(store) == {("k", GRAPH): second}
    for night in (75, 76):
        said(store, night, Ruling(verdict(1e-3), Question.REBUILT))
    assert [one.standing for one in kept(store)] == ["cleared by night-75 and night-76"] * 2
    assert first.at < second.at
