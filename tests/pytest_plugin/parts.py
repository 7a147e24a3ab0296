"""What the tests of the plugin have in common."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "suites" / "numerics"
RUNS = """
import pytest

@pytest.mark.trt
def test_runs(trt_session, trt_inputs):
    assert trt_session.run(trt_inputs)
"""
