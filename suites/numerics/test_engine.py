"""Every model becomes a plan, and the plan an engine that takes and gives what the model does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from suites.numerics.which import judged

if TYPE_CHECKING:
    from harness.pytest_plugin.types import BuiltPlan, Handle, Interface


@pytest.mark.trt(over=("model", "precision", "backend"))
def test_builds(trt_plan: BuiltPlan) -> None:
    """Parsed, built and serialized; where nothing can run, that much is covered."""
    assert trt_plan.data.nbytes > 0


@pytest.mark.trt(models=judged, over=("model", "precision", "backend"))
def test_binds_what_the_model_declares(trt_engine: Handle, trt_interface: Interface) -> None:
    """By name and rank; types and sizes are judged with the numbers."""
    bound = {tensor.name: (tensor.mode, len(tensor.shape)) for tensor in trt_engine.info.tensors}
    declared = {tensor.name: ("input", len(tensor.shape)) for tensor in trt_interface.inputs}
    declared |= {tensor.name: ("output", len(tensor.shape)) for tensor in trt_interface.outputs}
    assert bound == declared
