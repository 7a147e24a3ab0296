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
    """By name, role and rank; types and sizes are judged with the numbers."""
    from harness.runtime.backend.protocol import asked_name

    inputs = {tensor.name for tensor in trt_interface.inputs}
    bound = [("input", asked_name(tensor.name, inputs), len(tensor.shape)) for tensor in trt_engine.info.inputs]
    bound += [("output", tensor.name, len(tensor.shape)) for tensor in trt_engine.info.outputs]
    declared = [("input", tensor.name, len(tensor.shape)) for tensor in trt_interface.inputs]
    declared += [("output", tensor.name, len(tensor.shape)) for tensor in trt_interface.outputs]
    assert sorted(bound) == sorted(declared)
