"""Which models a test is worth running on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness.errors import RunError, UnsupportedError
from harness.pytest_plugin.relation import has_rows
from harness.spec import ModelSpec

# What they compute decides on the host what is launched next, so that a graph can't be captured.
# TensorRT makes loops of the recurrent ones.
DECIDING = {"If", "Loop", "Scan", "NonZero", "NonMaxSuppression", "Unique", "Compress", "LSTM", "GRU", "RNN"}
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


@contextlib.contextmanager
def capturing(model: ModelSpec) -> Iterator[None]:
    """A refused capture inside is a missing ability where the model explains it, and a failure elsewhere."""
    from harness.runtime.backend.protocol import UNCAPTURABLE
    from harness.spec.onnx_model import load

    try:
        yield
    except RunError as error:
        if not error.detail.get(UNCAPTURABLE) or model.source.kind != "onnx":
            raise
        deciding = sorted({node.op_type for node in load(model.source.path()).graph.node} & DECIDING)
        if not deciding:
            raise
        raise UnsupportedError(f"cuda_graph: not with {', '.join(deciding)}", error.message) from error
