"""A runtime as it is used: shapes, profiles, contexts, graphs, weights and plans, one after the other in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from suites.shapes.which import dynamic

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Walked


@pytest.mark.trt(models=dynamic, precisions="fp32", over=("model", "precision", "backend"))
def test_stateful(trt_walk: Walked) -> None:
    """Every output is that of the current weights, shapes and inputs; nothing is left behind, no error unheard."""
    trt_walk()
