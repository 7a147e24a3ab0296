from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pytest

from harness.measure.alerts import alerts, began
from harness.measure.history import Cause, History, history
from harness.measure.metric import Metric
from harness.measure.steps import Belief
from tests.measure.nights import FIRST, flat, nights

GPU = Metric("gpu")
TIME = np.arange(120)
DRIVERS = {0: {"driver": "570"}, 60: {"driver": "580"}}


def of(
    logs: np.ndarray, metric: Metric = GPU, series: int = 1, asked: Sequence[datetime] = (), **options: object
) -> History:
    return history(nights(logs, **options), metric, series=series, asked=asked)  # type: ignore[arg-type]


def test_a_change_is_told_with_its_range() -> None:
    found = of(flat(1) + 0.03 * (TIME >= 100))
    (change,) = found.changes
    assert (change.index, change.cause, change.nights) == (100, Cause.UNEXPLAINED, 20)
    assert change.low < np.log1p(0.03) < change.high
    assert change.after / change.before == pytest.approx(np.exp(0.03), rel=0.002)
    assert (change.good.session, change.bad.session, change.commits) == ("s99", "s100", "c99..c100")
    size = change.size(GPU)
    assert size.startswith("slower by 3.")
    assert change.proposal(GPU) == f"{size} since night 2026-04-11 (commits c99..c100), 20 nights after"
    assert found.proposals == found.changes
    assert found.segments == ((0, 100, pytest.approx(1, abs=0.002)), (100, 120, pytest.approx(1.03, abs=0.003)))


def test_more_of_a_throughput_is_better() -> None:
    (change,) = of(flat(1) - 0.03 * (TIME >= 100), Metric("throughput", "lower", "higher", more_is_better=True)).changes
    assert change.estimate > 0
    assert change.after < change.before < 1.01
    assert change.size(Metric("throughput", "lower", "higher", more_is_better=True)).startswith("lower by 2.")


def test_what_begins_with_an_environment_is_its_own() -> None:
    found = of(flat(2) + 0.03 * (TIME >= 60), environment=DRIVERS)
    (change,) = found.changes
    assert (change.index, change.cause) == (60, Cause.ENVIRONMENT)
    assert change.low < 0.03 < change.high
    assert change.proposal(GPU).endswith("since night 2026-03-02, 60 nights after: with driver 570 -> 580")
    assert not found.proposals
    (same,) = of(flat(2) + 0.03 * (TIME >= 60)).changes
    assert same.cause is Cause.UNEXPLAINED


def test_an_environment_that_changes_nothing_is_no_change() -> None:
    assert [bool(of(flat(seed), environment=DRIVERS).changes) for seed in range(40)].count(True) <= 2


def test_changes_inside_epochs_are_found_beside_their_beginnings() -> None:
    logs = flat(3) + 0.03 * (TIME >= 30) + 0.02 * (TIME >= 60) - 0.03 * (TIME >= 90)
    found = of(logs, environment=DRIVERS)
    assert [(change.index, change.cause.value) for change in found.changes] == [
        (30, "unexplained"),
        (60, "environment"),
        (90, "unexplained"),
    ]
    assert found.changes[1].estimate == pytest.approx(0.02, abs=0.006)
    assert found.changes[1].nights == 30


def test_what_is_believed_of_correlation_goes_with_places_and_with_epochs() -> None:
    logs = flat(2) + 0.008 * (TIME >= 60)
    for environment in ({}, DRIVERS):
        sure, unsure = (
            history(nights(logs, environment=environment), GPU, belief=Belief(correlation, 0.01))
            for correlation in (0.0, 0.95)
        )
        assert [change.index for change in sure.changes] == [60]
        assert not unsure.changes


def test_an_epoch_of_few_nights_is_not_judged() -> None:
    assert not of(flat(4) + 0.05 * (TIME >= 118), environment={118: {"driver": "580"}}).changes


def canary(seed: int, move: float, at: int = 60) -> np.ndarray:
    return 0.6 * flat(seed) + move * (at <= TIME)


def test_what_moves_with_the_canary_is_the_hosts() -> None:
    found = of(flat(5) + 0.03 * (TIME >= 60), canary=canary(6, 0.03))
    (change,) = found.changes
    assert change.cause is Cause.HOST
    assert change.canary == pytest.approx(0.03, abs=0.003)
    moved = f"{100 * np.expm1(change.canary or 0.0):+.1f} %"
    assert change.proposal(GPU).endswith(f"60 nights after: the host's, whose canary moved by {moved}")
    assert not found.proposals


@pytest.mark.parametrize(("move", "at"), [(0.0, 60), (-0.03, 60), (0.03, 40)])
def test_a_canary_that_does_not_move_with_it_explains_nothing(move: float, at: int) -> None:
    (change,) = of(flat(5) + 0.03 * (TIME >= 60), canary=canary(6, move, at)).proposals
    assert change.index == 60
    assert change.estimate == pytest.approx(0.03, abs=0.004)


def test_what_a_canary_leaves_is_proposed() -> None:
    (change,) = of(flat(5) + 0.06 * (TIME >= 60), canary=canary(6, 0.02)).proposals
    assert change.estimate == pytest.approx(0.04, abs=0.004)
    (host,) = of(flat(5) + 0.03 * (TIME >= 60), canary=canary(6, 0.05)).changes  # which follows it in part
    assert host.cause is Cause.HOST


def test_a_canary_of_few_nights_explains_nothing() -> None:
    watched = canary(6, 0.03)
    watched[:58] = np.nan
    assert of(flat(5) + 0.03 * (TIME >= 60), canary=watched).proposals


def test_no_nights_have_no_history() -> None:
    found = history([], GPU)
    assert (found.epochs, found.changes, found.segments) == ((), (), ())


def test_changes_of_the_same_nights_are_one_alert() -> None:
    steps = {"a": (40, 0.02), "b": (41, 0.05), "c": (80, -0.1), "d": (46, 0.05)}
    cells = {cell: of(flat(7 + at) + size * (at <= TIME), series=5) for cell, (at, size) in steps.items()}
    cells["flat"] = of(flat(99), series=5)
    found = alerts(cells)
    assert [alert.cells for alert in found] == [("b", "a"), ("d",), ("c",)]
    two = found[0]
    _, strongest = two.changes[0]
    assert two.good.at < two.bad.at
    words = two.words(GPU)
    assert words.startswith(f"2 of 5 cells since night {two.bad.at:%Y-%m-%d} (commits {two.good.commit}..")
    assert words.endswith(f"; the surest: b, {strongest.size(GPU)}")


def test_a_change_that_may_have_begun_with_a_surer_one_is_of_its_alert() -> None:
    cells = {"sure": of(flat(8) + 0.05 * (TIME >= 66)), "unsure": of(flat(2) + 0.007 * (TIME >= 60))}
    (early,) = cells["unsure"].proposals
    assert early.index == 60
    assert early.bad.at >= FIRST + timedelta(days=66)
    assert [alert.cells for alert in alerts(cells)] == [("sure", "unsure")]
    assert len(alerts({**cells, "unsure": of(flat(2) + 0.03 * (TIME >= 60))})) == 2


def test_cells_are_asked_about_the_night_at_which_others_began() -> None:
    logs = {"sure": flat(7) + 0.03 * (TIME >= 112), "unsure": flat(11) + 0.01 * (TIME >= 112), "flat": flat(99)}
    alone = {cell: of(one, series=1000) for cell, one in logs.items()}
    assert [cell for cell, one in alone.items() if one.proposals] == ["sure"]
    asked = began(list(alone.values()))
    assert asked == (FIRST + timedelta(days=112),)
    told = {cell: of(one, series=1000, asked=asked) for cell, one in logs.items()}
    assert {cell: [change.index for change in one.proposals] for cell, one in told.items()} == {
        "sure": [112],
        "unsure": [112],
        "flat": [],
    }
    assert [alert.cells for alert in alerts(told)] == [("sure", "unsure")]
    some = [night for number, night in enumerate(nights(logs["unsure"])) if number not in (3, 40)]
    assert [change.index for change in history(some, GPU, series=1000, asked=asked).proposals] == [110]


def test_what_lost_most_over_its_cells_comes_first() -> None:
    """However sure it is of the least of them; what gained comes last."""
    many = {f"many {seed}": of(flat(seed) + 0.012 * (TIME >= 30), series=8) for seed in range(50, 55)}
    one = {"one": of(0.2 * flat(60) + 0.05 * (TIME >= 60), series=8)}
    gained = {"gained": of(0.2 * flat(61) - 0.2 * (TIME >= 90), series=8)}
    found = alerts({**gained, **one, **many})
    assert [(len(alert.cells), alert.cells[0][:4]) for alert in found] == [(5, "many"), (1, "one"), (1, "gain")]
    assert [alert.lost for alert in found] == [pytest.approx(0.06, abs=0.01), pytest.approx(0.05, abs=0.001), 0.0]
    surest = [min(change.p for _, change in alert.changes) for alert in found]
    assert surest[0] == max(surest), "by p it would be the last one"


def test_a_cell_is_no_surer_for_being_asked() -> None:
    """It has one night to be sure of, and so a smaller p than the cell that was searched through, and found it."""
    logs = {"found": flat(20) + 0.0075 * (TIME >= 60), "asked": flat(14) + 0.0065 * (TIME >= 60)}
    asked = began([of(one, series=10_000) for one in logs.values()])
    told = {cell: of(one, series=10_000, asked=asked) for cell, one in logs.items()}
    (alert,) = alerts(told)
    (_, first), (_, second) = alert.changes
    assert alert.cells == ("found", "asked")
    assert first.p > second.p
    assert first.alone < second.alone


def test_the_order_of_cells_does_not_matter() -> None:
    cells = {str(at): of(flat(at) + 0.05 * (at <= TIME)) for at in (30, 32, 90)}
    assert alerts(cells) == alerts(dict(reversed(cells.items())))


def test_what_is_explained_raises_no_alert() -> None:
    assert not alerts({"a": of(flat(2) + 0.03 * (TIME >= 60), environment=DRIVERS)})
    assert not alerts({"a": of(flat(5) + 0.03 * (TIME >= 60), canary=canary(6, 0.03))})
    assert nights([0.0])[0].at == FIRST
