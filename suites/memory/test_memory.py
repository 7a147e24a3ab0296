"""How much an engine takes, against its baseline: of the host, of the device, of the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Perf


@pytest.mark.trt(points=("opt",))
def test_memory(trt_perf: Perf) -> None:
    trt_perf(lambda quantity: quantity.unit == "bytes")
