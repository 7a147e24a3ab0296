"""Series of a store, searched for changes together."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
import sqlalchemy as sa

from harness.ledger import batch, history, schema
from harness.ledger.series import Alerted, alerts_of, courses, histories, note
from harness.ledger.store import Store
from harness.measure.pooled import pooled
from tests.measure.nights import flat
from tests.measure.nights import nights as nights_of

FIRST = datetime(2026, 1, 1, tzinfo=timezone.utc)
NIGHTS, STEP = 40, 25
CELLS = ("bert", "gpt", "vit")


def fill(store: Store, slower: tuple[str, ...]) -> None:
    """Nights of all `CELLS`, those that are ``slower`` by 5 % from night `STEP` on."""
    rng = np.random.default_rng(2)
    made = batch.Batch()
    for cell in CELLS:
        series = batch.Series(f"key of {cell}", f"{cell} on a GPU", "gpu, graph", "s")
        for night in range(NIGHTS):
            session = batch.Session(f"night-{night}", (FIRST + timedelta(night)).timestamp(), f"c{night}")
            value = 1e-3 * (1.05 if cell in slower and night >= STEP else 1.0) * np.exp(0.001 * rng.standard_normal())
            made.measurements.append(
                batch.Measurement(series, session, float(value), 0.001, 4, {"host": "h"}, ("plan",))
            )
    batch.write(store, made)


def alerted(store: Store, *, cells: tuple[str, ...] = CELLS, after: int = 0) -> list[str]:
    return [one.words for one in alerts_of(store, {f"key of {cell}" for cell in cells}, FIRST + timedelta(after))]


def test_changes_of_the_same_night_are_one_alert(store: Store) -> None:
    fill(store, ("bert", "gpt"))
    (words,) = alerted(store)
    assert words.startswith("gpu, graph: 2 of 3 cells since night 2026-01-26 (commits c24..c25); the surest: ")
    assert "slower by" in words


def test_changes_are_kept_once_and_with_them_the_samples_of_their_night(store: Store) -> None:
    fill(store, ("bert", "gpt"))
    found = alerts_of(store, {f"key of {cell}" for cell in CELLS}, FIRST)
    assert [note(store, found), note(store, found), note(store, [])] == [2, 0, 0]
    ((line, change), _) = found[0].changes
    for nights, new in ((1, 0), (10, 1)):  # the same one, and another one
        night = replace(change.bad, at=FIRST + timedelta(STEP + nights), session=f"night-{STEP + nights}")
        assert note(store, [Alerted("later", ((line, replace(change, bad=night)),))]) == new
    c, s, r = schema.change_point.c, schema.session.c, schema.series.c
    asked = sa.select(s.name, r.cell_key, c.estimate, c.cause, c.words)
    asked = asked.join(schema.session, s.id == c.session_id).join(schema.series, r.id == c.series_id)
    rows = store.read(lambda connection: connection.execute(asked.order_by(r.cell_key)).all())
    rows = [row for row in rows if row.words != "later"]
    assert [(row.name, row.cell_key) for row in rows] == [
        (f"night-{STEP}", f"key of {cell}") for cell in ("bert", "gpt")
    ]
    assert [row.estimate for row in rows] == pytest.approx([np.log(1.05)] * 2, abs=0.003)
    assert {row.cause for row in rows} == {"unexplained"}
    assert {row.words for row in rows} == {found[0].words}


def test_only_of_the_cells_that_are_meant_and_not_of_long_ago(store: Store) -> None:
    fill(store, ("bert",))
    assert len(alerted(store)) == 1
    assert alerted(store, cells=("gpt", "vit")) == []
    assert alerted(store, after=STEP + 3) == []


def test_what_lost_most_comes_first_of_whichever_metric(store: Store) -> None:
    fill(store, ("bert",))
    rng = np.random.default_rng(3)
    made = batch.Batch()
    for metric, factor in (("gpu, plain", 1.1), ("end to end", 0.9)):
        series = batch.Series("key of bert", "bert on a GPU", metric, "s")
        for night in range(NIGHTS):
            session = batch.Session(f"night-{night}", (FIRST + timedelta(night)).timestamp(), f"c{night}")
            value = 1e-3 * (factor if night >= STEP else 1.0) * np.exp(0.001 * rng.standard_normal())
            made.measurements.append(batch.Measurement(series, session, float(value), 0.001, 4, {"host": "h"}, ("p",)))
    batch.write(store, made)
    assert [words.partition(": ")[0] for words in alerted(store)] == ["gpu, plain", "gpu, graph", "end to end"]


def test_what_stays_raises_none(store: Store) -> None:
    fill(store, ())
    assert alerted(store) == []


def test_a_night_has_the_interval_of_its_processes(store: Store) -> None:
    fill(store, ())
    (course, *_) = courses(store, history.lines(store))
    night = course.nights[0]
    assert night.degrees == 3
    assert night.error == pytest.approx(0.001 / 2, rel=1e-6), "the spread of four processes, of their mean"


def test_of_a_canary_at_two_precisions_the_one_that_is_measured_always_counts(store: Store) -> None:
    """A bench at another precision, now and then, does not take the canary of all nights away."""
    fill(store, ())
    made = batch.Batch()
    for precision, nights in (("fp16", range(3)), ("fp32", range(NIGHTS))):
        series = batch.Series(precision, f"canary_compute_gpu-{precision} on a GPU", "gpu, graph", "s")
        for night in nights:
            session = batch.Session(f"night-{night}", (FIRST + timedelta(night)).timestamp(), f"c{night}")
            made.measurements.append(batch.Measurement(series, session, 0.002, 0.001, 4, {"host": "h"}, ("plan",)))
    batch.write(store, made)
    (course, *_) = courses(store, history.lines(store, "bert"))
    assert [night.canary for night in course.nights] == [0.002] * NIGHTS


def test_cells_of_a_host_say_together_how_its_nights_are_correlated(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of one device, machine and metric, of which each is then searched anew."""
    monkeypatch.setattr("harness.measure.pooled.CELLS", len(CELLS))
    fill(store, ("bert",))
    found = courses(store, history.lines(store))
    belief = pooled([course.history(len(found)) for course in found])
    assert belief is not None
    assert histories(found) == [course.history(len(found), belief) for course in found]
    elsewhere = [replace(course, machine=str(number)) for number, course in enumerate(found)]
    assert histories(elsewhere) == [course.history(len(found)) for course in found]
    assert histories(found) != histories(elsewhere)


def test_cells_of_a_host_are_asked_where_others_of_it_have_changed(store: Store) -> None:
    """Of one device, machine and metric; what others do elsewhere is not asked about."""
    fill(store, ())
    (course, *_) = courses(store, history.lines(store, "bert"))
    later = np.arange(120) >= 112
    of = (flat(7) + 0.03 * later, flat(8) + 0.03 * later, flat(11) + 0.01 * later, flat(99))
    made = [replace(course, nights=tuple(nights_of(logs))) for logs in of]
    found = histories([*made, *made[3:] * 100])
    assert [[change.index for change in one.proposals] for one in found[:4]] == [[112], [112], [112], []]
    there = [replace(course, machine="other") for course in made[2:]]
    found = histories([*made[:2], *there, *made[3:] * 100])
    assert [[change.index for change in one.proposals] for one in found[:4]] == [[112], [112], [], []]
