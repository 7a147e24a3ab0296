"""Which models a test of refits is worth running on."""

from __future__ import annotations

from harness.spec import ModelSpec
from suites.numerics.which import explored

# Models of the zoo without a weight that a refit may change: no floats at all, or (lstm, gru) ones that the parsers
# cut up before the builder sees them. Others, of which nobody knows, are skipped when they turn out to have none.
WITHOUT = frozenset(
    {"lstm", "gru", "gru_lengths", "resize_values", "nms", "reduce_axes", "reduce_kinds", "softmax_axes", "cumulative"}
    | {"unary", "binary", "activations", "special", "bounds", "movement", "integers", "booleans", "qdq_stored"}
)
REBUILT_AT_FP16 = frozenset({"mlp", "conv", "resnet", "bert"})  # at fp32 every model is


def refitted(model: ModelSpec) -> bool:
    """By every test: its inputs are made, and it has weights."""
    return explored(model) and model.source.kind == "onnx" and model.data is None and model.name not in WITHOUT


def rebuilt(model: ModelSpec, precision: str) -> bool:
    """Whether an engine of the changed model is built, for the refitted one to be held against."""
    return precision == "fp32" or model.name in REBUILT_AT_FP16
