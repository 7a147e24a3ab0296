"""Which models a test of shapes is worth running on."""

from __future__ import annotations

from harness.spec import ModelSpec
from suites.numerics.which import explored

TENSORRT = ("tensorrt", "tensorrt_rtx")  # backends that it is
DECIDED_BY_DATA = "data_dependent"  # the tag of a model with outputs whose sizes only a run can tell


def dynamic(model: ModelSpec) -> bool:
    """Inputs can be made at any place of its profiles, and there is more than one."""
    made = model.source.kind == "onnx" and model.data is None
    return made and explored(model) and not all(profile.is_static for profile in model.profiles)


def decided_by_data(model: ModelSpec) -> bool:
    return dynamic(model) and DECIDED_BY_DATA in model.tags


def switching(model: ModelSpec) -> bool:
    return dynamic(model) and len(model.profiles) > 1
