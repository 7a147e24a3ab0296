"""What an engine says of itself is what was asked for, of every model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from suites.serialization.facts import consistent as consistent
from suites.serialization.which import AXES, written

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Handle


@pytest.mark.trt(models=written, over=AXES)
def test_facts(trt_engine: Handle, consistent: Callable[[Handle], None]) -> None:
    consistent(trt_engine)
