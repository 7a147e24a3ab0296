"""What goes, and what stays, of raw samples."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from harness.ledger import history, schema
from harness.ledger.baselines import Baseline
from harness.ledger.ingest import ingest
from harness.ledger.kept import Kept
from harness.ledger.retention import DAY, RAW, prune, pruned
from harness.ledger.store import Store, add
from tests.ledger import stored

NOW = stored.START + 200 * DAY


@pytest.fixture
def year(store: Store, tmp_path: Path) -> Store:
    """Sessions of 0, 50, 100 and 150 days after the first; ``run-0`` is 200 days old."""
    for days in (0, 50, 100, 150):
        at = stored.START + days * DAY
        ingest(store, stored.run_folder(tmp_path / str(days), f"run-{days}", at, cells=2, plain=1))
    return store


def kept(store: Store) -> set[str]:
    """Sessions whose samples are named; they are those whose samples are there."""
    m, s, a = schema.measurement, schema.session, schema.artifact
    asked = sa.select(s.c.name, a.c.key).select_from(m.join(s).join(a)).where(a.c.gone == sa.false())
    rows = store.read(lambda connection: connection.execute(asked).all())
    assert store.samples is not None
    assert {row.key for row in rows} == {file.stem for file in store.samples.files()}
    return {row.name for row in rows}


def held(connection: sa.Connection, state: str, name: str, plan: str = "") -> None:
    row = {"cell_key": "c", "cell": "bert", "state": state, "at": 1.0, "evidence": "", "key": f"{state}-{name}"}
    add(connection, schema.baseline, [{**row, "body": json.dumps({"sessions": [name], "plans": [plan]})}])


def baseline(*sessions: str, plans: tuple[str, ...] = ()) -> Baseline:
    """As the file of baselines has it."""
    return Baseline("c", "bert", plans, sessions, {})


def test_old_samples_go_and_summaries_stay(year: Store) -> None:
    before, counts = stored.rows(year), history.counts(year)
    told = prune(year, now=NOW)
    assert kept(year) == {"run-150"}
    assert (len(told.artifacts), told.strays) == (6, ())
    assert told.nbytes > 6 * 500
    assert history.counts(year) == counts
    after = stored.rows(year)
    assert {name: rows for name, rows in after.items() if name != "artifact"} == {
        name: rows for name, rows in before.items() if name != "artifact"
    }
    assert prune(year, now=NOW).artifacts == ()


def test_a_dry_run_changes_nothing(year: Store) -> None:
    would = prune(year, now=NOW, dry_run=True)
    assert kept(year) == {"run-0", "run-50", "run-100", "run-150"}
    assert prune(year, now=NOW) == would


def test_the_age_can_be_chosen(year: Store) -> None:
    prune(year, 120 * DAY, now=NOW)
    assert kept(year) == {"run-100", "run-150"}


@pytest.mark.parametrize(("state", "stays"), [("proposed", True), ("active", True), ("superseded", False)])
def test_what_a_baseline_rests_on_stays(year: Store, state: str, stays: bool) -> None:
    year.write(lambda connection: held(connection, state, "run-0"))
    prune(year, now=NOW)
    assert kept(year) == {"run-150"} | ({"run-0"} if stays else set())


def test_what_a_change_point_begins_with_stays(year: Store) -> None:
    def point(connection: sa.Connection) -> None:
        number = connection.execute(
            sa.select(schema.session.c.id).where(schema.session.c.name == "run-50")
        ).scalar_one()
        row = {"series_id": 1, "session_id": number, "cause": "", "words": "", "key": "k"}
        add(connection, schema.change_point, [{**row, **dict.fromkeys(("estimate", "low", "high", "p"), 0.1)}])

    year.write(point)
    prune(year, now=NOW)
    assert kept(year) == {"run-50", "run-150"}


def test_what_the_file_of_baselines_names_stays(year: Store) -> None:
    prune(year, baselines=[baseline("run-100")], now=NOW)
    assert kept(year) == {"run-100", "run-150"}


def test_it_is_told_whose_samples_are_gone(year: Store) -> None:
    """So that whoever looks at what a superseded baseline rested on knows why there is no more of it."""
    year.write(lambda connection: held(connection, "superseded", "run-0"))
    keys = [line.cell_key for line in history.lines(year)]
    assert [pruned(year, key) for key in keys] == [set(), set()]
    prune(year, 120 * DAY, now=NOW)
    assert [pruned(year, key) for key in keys] == [{"run-0", "run-50"}] * 2
    assert pruned(year, "another") == set()


def test_samples_of_two_sessions_stay_as_long_as_the_last(year: Store) -> None:
    def share(connection: sa.Connection) -> str:
        m, a = schema.measurement.c, schema.artifact.c
        first = connection.execute(sa.select(sa.func.min(m.artifact_id))).scalar_one()
        connection.execute(sa.update(schema.measurement).values(artifact_id=first))
        return str(connection.execute(sa.select(a.key).where(a.id == first)).scalar_one())

    shared = year.write(share)
    told = prune(year, now=NOW)
    assert year.samples is not None
    assert (len(told.artifacts), shared in told.artifacts, year.samples.file(shared).exists()) == (5, False, True)
    assert shared in prune(year, now=NOW + 90 * DAY).artifacts


def test_files_that_no_store_names_go_after_a_day(year: Store) -> None:
    """It is written before the store names it: a writer may be about to."""
    assert year.samples is not None
    strays = []
    for seed, age in ((1, 2 * DAY), (2, DAY / 2)):
        key, _ = year.samples.put([{"graph": {"gpu": np.random.default_rng(seed).random(5)}}])
        os.utime(year.samples.file(key), (NOW - age, NOW - age))
        strays.append(year.samples.file(key))
    told = prune(year, 1000 * DAY, now=NOW)
    assert (told.strays, strays[0].exists(), strays[1].exists()) == ((strays[0],), False, True)


def test_a_stray_that_is_written_again_is_no_stray(year: Store) -> None:
    """Its writer is about to name it."""
    assert year.samples is not None
    taken = [{"graph": {"gpu": np.random.default_rng(1).random(5)}}]
    key, _ = year.samples.put(taken)
    os.utime(year.samples.file(key), (NOW - 2 * DAY, NOW - 2 * DAY))
    assert year.samples.put(taken)[0] == key
    assert prune(year, 1e6 * DAY, now=time.time() + DAY / 2).strays == ()


def test_what_a_killed_pruner_left_goes(year: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It noted that they are gone, and deleted none."""
    with monkeypatch.context() as patched:
        patched.setattr("harness.ledger.raw.Samples.drop", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prune(year, now=NOW)
    assert year.samples is not None
    for file in year.samples.files():
        os.utime(file, (NOW - 2 * DAY, NOW - 2 * DAY))
    assert len(prune(year, now=NOW).strays) == 6
    assert kept(year) == {"run-150"}


def plan(folder: Kept, content: int, age: float) -> str:
    """A kept plan that was last put so many seconds before `NOW`."""
    name = folder.put(np.full(1000, content, np.uint8))
    os.utime(folder.path(name), (NOW - age, NOW - age))
    return name


def plans(folder: Kept) -> set[str]:
    return {file.stem for file in folder.folder.iterdir()}


def test_old_plans_go_where_no_baseline_rests_on_them(year: Store, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "plans")
    names = ("old", "late", "in the file", "proposed", "active", "superseded", "rejected")
    made = {name: plan(kept, n, RAW - 1 if name == "late" else RAW + 1) for n, name in enumerate(names)}
    for state in names[3:]:
        year.write(lambda connection, state=state: held(connection, state, "run-150", made[state]))
    in_the_file = [baseline("run-150", plans=(made["in the file"],))]
    would = prune(year, baselines=in_the_file, kept=kept, now=NOW, dry_run=True)
    assert plans(kept) == set(made.values())
    told = prune(year, baselines=in_the_file, kept=kept, now=NOW)
    assert told == would
    assert plans(kept) == {made[name] for name in ("late", "in the file", "proposed", "active")}
    assert {file.stem for file in told.plans} == {made[name] for name in ("old", "superseded", "rejected")}
    assert prune(year, baselines=in_the_file, kept=kept, now=NOW).nbytes == 0
    assert told.nbytes > 3 * 1000, "as many bytes as went, those of the samples included"


def test_a_plan_that_is_put_again_is_new(year: Store, tmp_path: Path) -> None:
    """Each night puts its plan, which is the same for as long as nobody builds another."""
    kept = Kept(tmp_path / "plans")
    name = plan(kept, 1, 2 * RAW)
    kept.put(np.full(1000, 1, np.uint8))
    assert prune(year, RAW, kept=kept, now=time.time() + DAY).plans == ()
    assert plans(kept) == {name}


def test_a_plan_that_something_is_held_against_stays(year: Store, tmp_path: Path) -> None:
    """It may be of another store and another file, which nobody here knows of."""
    kept = Kept(tmp_path / "plans")
    used, left = (plan(kept, n, 2 * RAW) for n in (1, 2))
    kept.used([used, "none"])
    prune(year, RAW, kept=kept, now=time.time() + DAY)
    assert plans(kept) == {used}
    assert left not in plans(kept)


def test_what_a_killed_writer_left_of_a_plan_goes(year: Store, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "plans")
    plan(kept, 1, 0)
    for name, age in (("torn.tmp", RAW + 1), ("README", RAW + 1)):
        (kept.folder / name).write_bytes(bytes(10))
        os.utime(kept.folder / name, (NOW - age, NOW - age))
    assert prune(year, kept=kept, now=NOW).plans == (kept.folder / "torn.tmp",)
