"""What is asked, as frozen values: tensors, profiles, models, build options, engines."""

from harness.spec.build import BuildConfig
from harness.spec.data import InputRule
from harness.spec.engine import EngineSpec
from harness.spec.example import Example
from harness.spec.model import ModelSpec, ToleranceOverride, admit
from harness.spec.onnx_model import Interface, interface
from harness.spec.precision import RECIPES, Recipe, recipe
from harness.spec.profile import POINTS, Point, Profile, Range, Values
from harness.spec.source import NetworkFunction, OnnxFile, OnnxFunction, PlanFile, Source
from harness.spec.tensor import Dim, TensorSpec

__all__ = [
    "POINTS",
    "RECIPES",
    "BuildConfig",
    "Dim",
    "EngineSpec",
    "Example",
    "InputRule",
    "Interface",
    "ModelSpec",
    "NetworkFunction",
    "OnnxFile",
    "OnnxFunction",
    "PlanFile",
    "Point",
    "Profile",
    "Range",
    "Recipe",
    "Source",
    "TensorSpec",
    "ToleranceOverride",
    "Values",
    "admit",
    "interface",
    "recipe",
]
