"""Outputs chosen by comparing floats: NonZero, whose size depends on the data, and TopK."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


@model("topk", profile={"batch": (1, 4, 8)}, batch="batch")
def topk(g: Graph) -> None:
    x = linear(g, "fc1", g.input("x", ("batch", 32)), 32, 64)
    scores = linear(g, "fc2", op.relu(x), 64, 64, gain=RELU)
    values, indices = op.top_k(scores, g.ints(5), axis=-1)
    g.output("values", values, ("batch", 5))
    g.output("indices", indices, ("batch", 5))
    g.output("best", op.arg_max(scores, axis=1, keepdims=0), ("batch",))


MODELS = nonzero + topk
