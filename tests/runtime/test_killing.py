"""What is left of a cache whose builders are killed at 500 random moments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.runtime import inventory
from harness.runtime.cache import PlanCache
from tests.runtime.killing import content, read_journal

pytestmark = pytest.mark.runs

ROOT = Path(__file__).parents[2]


def killing(folder: Path, kills: int, limit: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.runtime.killing", str(folder), str(kills), str(limit)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_500_killed_builders_leave_a_whole_cache(tmp_path: Path) -> None:
    went = killing(tmp_path, 500)
    assert went == {"killed": 500, "ended": 0}, "none was held up, and none ended by itself"
    journal = read_journal(tmp_path)
    # No corrupt entry is ever served, nor does one come to be.
    assert [entry for entry in journal if entry[0] in ("corrupt", "warned")] == []
    cache = PlanCache(tmp_path / "cache")
    found = inventory.items(cache.folder)
    assert not [item.path.name for item in found if item.what == inventory.SET_ASIDE]
    assert {item.verify() for item in found if item.is_entry} == {""}
    # No work that was finished is lost: it is there to the last byte, and nobody has done it again.
    built = {number: plan_key for what, number, plan_key in journal if what == "built"}
    assert len(built) > 50, "builders came to work between two kills"
    assert Counter(number for what, number, _ in journal if what == "built").most_common(1)[0][1] == 1
    for number, plan_key in built.items():
        plan = cache.get(plan_key)
        assert plan is not None, number
        assert plan.tobytes() == content(f"m{number}").tobytes()
    assert sum(what == "served" for what, _, _ in journal) > 50, "and shared it"
    # No lock is left behind that holds anybody up, and the next to come takes all that is left away.
    left = [item for item in found if item.what == inventory.LEFT_BEHIND]
    assert left, "some were killed while they built"
    for plan_key in {item.key for item in left}:
        with cache.lock(plan_key):
            pass
    inventory.make_room(cache.folder, 1 << 40)
    assert {path.suffix for path in cache.folder.iterdir()} == {".plan"}


def test_killed_builders_of_a_cache_that_is_full_serve_nothing_corrupt(tmp_path: Path) -> None:
    """While entries come and go."""
    went = killing(tmp_path, 100, limit=1_500_000)
    assert went == {"killed": 100, "ended": 0}
    journal = read_journal(tmp_path)
    assert [entry for entry in journal if entry[0] in ("corrupt", "warned")] == []
    assert {"built", "served"} <= {what for what, _, _ in journal}
    assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.plan")) < 4_000_000
