"""What is left of a store whose writers are killed at 500 random moments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from harness.ledger import history, schema
from harness.ledger.batch import write
from harness.ledger.store import Store
from tests.ledger import stored
from tests.ledger.store_killing import SERIES

pytestmark = pytest.mark.runs

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)
def test_killed_writers_lose_nothing_that_was_reported(store_url: str, tmp_path: Path) -> None:
    """SQLite is a file that killed processes have open; of a server they are clients, and fewer kills are enough."""
    kills = 500 if "://" not in store_url else 60
    Store(store_url).close()
    done = subprocess.run(
        [sys.executable, "-m", "tests.ledger.store_killing", str(tmp_path), str(kills), store_url],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    went = json.loads(done.stdout)
    assert [path.read_text() for path in tmp_path.glob("failed*")] == []
    assert (went["killed"], went["ended"]) == (kills, 0), "none was held up, and none ended by itself"
    assert went["went_on"] >= 100, "and those that were left went on"
    lines = [line.split() for log in tmp_path.glob("writer*.log") for line in log.read_text().splitlines()]
    reported = {name for name, _ in lines}
    assert {new for _, new in lines} == {str(SERIES + 1)}
    assert len(reported) > kills / 5, "writers came to work between two kills"
    with Store(store_url, create=False) as store:
        kept = dict(store.read(_measurements))
        # Nothing that was reported is lost, and what was not reported is there whole or not at all.
        assert reported <= kept.keys()
        assert set(kept.values()) == {(SERIES, 1)}
        if store.path is not None:
            said = store.read(lambda connection: connection.exec_driver_sql("PRAGMA integrity_check").scalars().all())
            assert said == ["ok"]
            assert store.read(lambda connection: connection.exec_driver_sql("PRAGMA foreign_key_check").all()) == []
        assert write(store, stored.batch()) == 12, "and no lock is left behind"
        assert history.counts(store)["session"] == len(kept) + 4


def _measurements(connection: sa.Connection) -> list[tuple[str, tuple[int, int]]]:
    """Of each session how many measurements and records it has."""
    s, m, r = schema.session.c, schema.measurement.c, schema.record.c
    measured = sa.select(sa.func.count()).where(m.session_id == s.id).scalar_subquery()
    recorded = sa.select(sa.func.count()).where(r.session_id == s.id).scalar_subquery()
    return [(row[0], (row[1], row[2])) for row in connection.execute(sa.select(s.name, measured, recorded))]
