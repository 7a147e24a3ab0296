"""What a store tells is the same from both databases, byte for byte."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness.ledger import history
from harness.ledger.batch import Batch, Measurement, Series, Session, write
from harness.ledger.ingest import ingest
from harness.ledger.store import Store
from tests.ledger import postgres, stored


def told(store: Store) -> bytes:
    """All that history asks for, as bytes."""
    lines = history.lines(store)
    every = {
        "lines": [dataclasses.astuple(line) for line in lines],
        "points": {
            line.key: [dataclasses.astuple(point) for point in history.points(store, line.key)] for line in lines
        },
        "histories": {key: dataclasses.asdict(one) for key, one in history.histories(store).items()},
        "sessions": history.sessions(store),
        "verdicts": [
            [dataclasses.astuple(v) for v in history.verdicts(store, s)] for s, _, _ in history.sessions(store)
        ],
        "counts": history.counts(store),
    }
    return json.dumps(every).encode()


def test_both_databases_tell_the_same(postgres_server: postgres.Server, tmp_path: Path) -> None:
    """Though what they hold was written in another order."""
    runs = [stored.run_folder(tmp_path / str(n), f"run-{n}", stored.START + n * stored.DAY / 7) for n in range(8)]
    with Store(tmp_path / "store.sqlite") as one, Store(postgres_server.new(), samples=tmp_path / "samples") as other:
        for store, order in ((one, runs), (other, runs[::-1])):
            for run in order:
                ingest(store, run, "abc")
            write(store, stored.batch())
        assert stored.rows(one) == stored.rows(other)
        assert told(one) == told(other)
        assert len(told(one)) > 10_000


def test_a_series_by_time(store: Store) -> None:
    write(store, stored.batch(range(2), (5, 1, 3)))
    key = stored.series(1).key
    found = history.points(store, key)
    assert [point.session for point in found] == ["run-0001", "run-0003", "run-0005"]
    assert [point.commit for point in found] == [stored.session(n).commit for n in (1, 3, 5)]
    assert found[0].environment == stored.facts()
    assert found[0].value == pytest.approx(1e-3 * (1 + 1 / 7 + 1 / 1000))
    since, until = (stored.session(n).at for n in (2, 4))
    assert [point.session for point in history.points(store, key, since, until)] == ["run-0003"]
    assert history.points(store, "0" * 64) == []


def test_series_by_their_names(store: Store) -> None:
    write(store, stored.batch(range(3)))
    assert [line.cell for line in history.lines(store)] == ["bert-0", "bert-1", "bert-2"]
    assert [line.cell for line in history.lines(store, "bert-1", "gpu, graph")] == ["bert-1"]
    assert history.lines(store, "BERT") == history.lines(store, "bert_") == history.lines(store, metric="gpu") == []


def test_histories_of_some_cells(store: Store) -> None:
    write(store, stored.batch(range(3)))
    one = stored.series(1)
    (found,) = history.histories(store, [one.cell_key]).values()
    assert (found.cell, len(found.seen)) == (one.cell, 4)
    assert [seen.at for seen in found.seen] == sorted(stored.session(n).at for n in range(4))
    assert history.histories(store, []) == {}
    assert history.histories(store, [f"{n:064x}" for n in range(40_000)]) == {}, "more than one statement may name"


def test_a_cell_that_was_renamed_is_told_by_time(store: Store) -> None:
    """And by its last name: what counts as the latest sessions must not depend on how the cell was called."""
    for number, name in enumerate(("zebra", "ant", "zebra", "moth")):
        series = Series("k", name, f"metric {name}", "s")
        one = Measurement(series, Session(f"s{number}", 1e9 + number), 1.0, 0.0, 4, {}, ("p",))
        write(store, Batch(measurements=[one]))
    found = history.histories(store)["k"]
    assert [one.session for one in found.seen] == ["s0", "s1", "s2", "s3"]
    assert found.cell == "moth"
