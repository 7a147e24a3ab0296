"""LSTM: a bidirectional layer under one that carries its state from call to call; batch is axis 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

GATES = 4
GAIN = 2.0  # gates squash: larger weights keep the states from dying out


def weights(g: Graph, directions: int, gates: int, inner: int, hidden: int, gain: float = GAIN) -> tuple[Var, Var, Var]:
    """W, R and B of a recurrent operator."""
    return (
        g.weight("w", (directions, gates * hidden, inner), gain / math.sqrt(inner)),
        g.weight("r", (directions, gates * hidden, hidden), GAIN / math.sqrt(hidden)),
        g.weight("b", (directions, 2 * gates * hidden), 0.1),
    )


@model("lstm", profile={"seq": (1, 8, 16), "batch": (1, 2, 4)}, batch="batch", tiny={"inner": 16, "hidden": 32})
def lstm(g: Graph, *, inner: int, hidden: int) -> None:
    x = g.input("x", ("seq", "batch", inner))
    h, c = g.input("h", (1, "batch", hidden)), g.input("c", (1, "batch", hidden))
    with g.scope("encoder"):
        y, _, _ = op.lstm(x, *weights(g, 2, GATES, inner, hidden), hidden_size=hidden, direction="bidirectional")
        # [seq, 2, batch, hidden] to [seq, batch, 2 * hidden]
        y = op.reshape(op.transpose(y, perm=(0, 2, 1, 3)), g.ints(0, 0, 2 * hidden))
    with g.scope("decoder"):
        w, r, b = weights(g, 1, GATES, 2 * hidden, hidden, gain=2 * GAIN)
        y, h, c = op.lstm(y, w, r, b, initial_h=h, initial_c=c, hidden_size=hidden)
    g.output("y", op.squeeze(y, g.ints(1)), ("seq", "batch", hidden))
    g.output("h_out", h, (1, "batch", hidden))
    g.output("c_out", c, (1, "batch", hidden))


MODELS = lstm
