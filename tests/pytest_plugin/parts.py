"""What the tests of the plugin have in common."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.ledger.records import Record

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "suites" / "numerics"
RUNS = """
import pytest

@pytest.mark.trt
def test_runs(trt_session, trt_inputs):
    assert trt_session.run(trt_inputs)
"""


def complaints(found: Iterable[Record]) -> str:
    """What records say of failures: the words of a detector, where pytest shows its source as well."""
    return "\n".join(record.message for record in found if record.verdict == "failed")
