"""GRU: bidirectional under one that carries its state; and one over rows of different lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.spec import InputRule

from .declare import model
from .lstm import weights
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph

GATES = 3


@model("gru", profile={"seq": (1, 8, 16), "batch": (1, 2, 4)}, batch="batch", tiny={"inner": 16, "hidden": 32})
def gru(g: Graph, *, inner: int, hidden: int) -> None:
    x, h = g.input("x", ("seq", "batch", inner)), g.input("h", (1, "batch", hidden))
    with g.scope("encoder"):
        y, _ = op.gru(
            x,
            *weights(g, 2, GATES, inner, hidden),
            hidden_size=hidden,
            direction="bidirectional",
            linear_before_reset=1,
        )
        y = op.reshape(op.transpose(y, perm=(0, 2, 1, 3)), g.ints(0, 0, 2 * hidden))
    with g.scope("decoder"):
        y, h = op.gru(y, *weights(g, 1, GATES, 2 * hidden, hidden), initial_h=h, hidden_size=hidden)
    g.output("y", op.squeeze(y, g.ints(1)), ("seq", "batch", hidden))
    g.output("h_out", h, (1, "batch", hidden))


@model(
    "gru_lengths",
    profile={"seq": (1, 8, 16), "batch": (1, 2, 4)},
    batch="batch",
    inputs=(InputRule("lengths", "lengths", symbol="seq"),),
    tiny={"inner": 16, "hidden": 32},
)
def lengths(g: Graph, *, inner: int, hidden: int) -> None:
    x, length = g.input("x", ("seq", "batch", inner)), g.input("lengths", ("batch",), "int32")
    w, r, b = weights(g, 1, GATES, inner, hidden)
    y, h = op.gru(x, w, r, b, length, hidden_size=hidden, linear_before_reset=1)
    g.output("y", op.squeeze(y, g.ints(1)), ("seq", "batch", hidden))
    g.output("last", op.squeeze(h, g.ints(0)), ("batch", hidden))


MODELS = gru + lengths
