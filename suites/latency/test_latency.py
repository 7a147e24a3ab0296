"""How fast an engine is, against its baseline: runs, and what takes place once a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Perf

at_the_optimum = pytest.mark.trt(points=("opt",))


@at_the_optimum
def test_runs(trt_perf: Perf) -> None:
    """By graph and plainly enqueued, by the device's clock and the host's."""
    trt_perf(lambda quantity: bool(quantity.way))


@at_the_optimum
def test_once(trt_perf: Perf) -> None:
    """Loading, the first run, a new shape, the build, and what a run costs in energy."""
    trt_perf(lambda quantity: not quantity.way and quantity.unit in ("s", "J"))
