"""Which models a test is worth running on."""

from __future__ import annotations

from harness.pytest_plugin.relation import has_rows
from harness.spec import ModelSpec

PARSE_ONLY = "parse_only"  # its weights are all one number: whatever goes in, the same comes out
SHIPPED = "shipped"  # a model that comes with the onnx package, many of them one operator with its expected output


def judged(model: ModelSpec) -> bool:
    """Against the oracle; a model of the onnx package that has its outputs beside it is judged by those."""
    return PARSE_ONLY not in model.tags and not (SHIPPED in model.tags and model.golden is not None)


def explored(model: ModelSpec) -> bool:
    """In every way there is."""
    return judged(model) and SHIPPED not in model.tags


def batched(model: ModelSpec) -> bool:
    """By relations between rows."""
    return explored(model) and has_rows(model)
