"""Plans that baselines refer to: whole, and those that were kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.errors import SpecError
from harness.ledger.kept import Kept

PLAN = np.arange(100, dtype=np.uint8)


def test_what_is_kept_is_found_by_its_digest(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "plans")
    name = kept.put(PLAN)
    assert kept.put(PLAN) == name
    assert kept.path(name).read_bytes() == PLAN.tobytes()
    assert len(list((tmp_path / "plans").iterdir())) == 1


def test_damaged_bytes_are_not_loaded_and_are_kept_anew(tmp_path: Path) -> None:
    """Also where they are as many."""
    kept = Kept(tmp_path)
    name = kept.put(PLAN)
    kept.path(name).write_bytes(bytes(100))
    with pytest.raises(SpecError, match="not the plan that was kept"):
        kept.path(name)
    kept.put(PLAN)
    assert kept.path(name).read_bytes() == PLAN.tobytes()


def test_what_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="not there"):
        Kept(tmp_path).path("ab")
