"""Every model at shapes drawn from all over its profiles, sides and ends drawn often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from suites.shapes.inside import inside as inside
from suites.shapes.which import dynamic

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Explore
    from suites.shapes.inside import Inside


@pytest.mark.trt(models=dynamic, over=("model", "precision", "backend"))
def test_inside(trt_explore: Explore, inside: Inside) -> None:
    """Against the oracle, and by every relation that the model has."""
    trt_explore(inside)
