"""Outputs chosen by comparing floats: NonZero and NonMaxSuppression, whose sizes depend on the data, and TopK."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.spec import InputRule, Values

from .blocks import RELU, linear
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph


@model("nonzero", profile={"rows": (1, 4, 8)}, tags=("data_dependent",))
def nonzero(g: Graph) -> None:
    """The input itself decides, so that rounding inside the network changes no size."""
    x = g.input("x", ("rows", 16))
    where = op.non_zero(op.greater(x, g.constant(0.5)))  # [2, found]
    y = linear(g, "fc", x, 16, 16)
    g.output("where", where, (2, "found"))
    g.output("values", op.gather_nd(y, op.transpose(where, perm=(1, 0))), ("found",))


@model(
    "nms",
    profile={"batch": (1, 2, 4), "boxes": (8, 16, 32)},
    inputs=(InputRule("corners", "uniform", low=0, high=1), InputRule("scores", "uniform", low=0, high=1)),
    tags=("data_dependent",),
)
def nms(g: Graph) -> None:
    """The scores themselves decide how many boxes are kept: none of those below the threshold."""
    corners, scores = g.input("corners", ("batch", "boxes", 4)), g.input("scores", ("batch", 3, "boxes"))
    kept = op.non_max_suppression(corners, scores, g.constant(4, "int64"), g.constant(0.5), g.constant(0.6))
    g.output("kept", kept, ("kept", 3))


@model(
    "topk_values",
    profile={"batch": (1, 4, 8)},
    values={"k": Values((1,), (5,), (64,))},
    batch="batch",
    tags=("shape_tensor",),
)
def topk_values(g: Graph) -> None:
    """As many of the scores as an input says, up to all of them."""
    x, k = g.input("x", ("batch", 32)), g.input("k", (1,), "int64")
    values, indices = op.top_k(linear(g, "fc", x, 32, 64), k, axis=-1)
    g.output("values", values, ("batch", "k"))
    g.output("indices", indices, ("batch", "k"))


@model("topk", profile={"batch": (1, 4, 8)}, batch="batch")
def topk(g: Graph) -> None:
    x = linear(g, "fc1", g.input("x", ("batch", 32)), 32, 64)
    scores = linear(g, "fc2", op.relu(x), 64, 64, gain=RELU)
    values, indices = op.top_k(scores, g.ints(5), axis=-1)
    g.output("values", values, ("batch", 5))
    g.output("indices", indices, ("batch", 5))
    g.output("best", op.arg_max(scores, axis=1, keepdims=0), ("batch",))


MODELS = nonzero + nms + topk + topk_values
