"""If: on a flag that is given, and on what the data say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocks import RELU, linear
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

WIDTH = 32


@model("if_flag", profile={"batch": (1, 4, 8)}, batch="batch")
def flag(g: Graph) -> None:
    x = linear(g, "stem", g.input("x", ("batch", WIDTH)), WIDTH, WIDTH)
    g.output("y", choose(g, g.input("flag", (), "bool"), x), ("batch", WIDTH))


@model("if_data", profile={"rows": (1, 4, 8)})
def data(g: Graph) -> None:
    """The condition is the sign of a sum over all rows: scaled, so that rounding does not turn it."""
    x = g.input("x", ("rows", WIDTH))
    total = op.reduce_sum(op.sign(x), keepdims=0)
    g.output("y", choose(g, op.greater(total, g.constant(0.5)), linear(g, "stem", x, WIDTH, WIDTH)), ("rows", WIDTH))


def choose(g: Graph, condition: Var, x: Var) -> Var:
    """Two layers with a ReLU, or one without: weights of both branches are initializers outside."""
    deep = (
        g.weight("then.0.weight", (WIDTH, WIDTH), WIDTH**-0.5),
        g.weight("then.1.weight", (WIDTH, WIDTH), RELU * WIDTH**-0.5, level=(0,)),
    )
    flat = g.weight("else.weight", (WIDTH, WIDTH), WIDTH**-0.5)
    (y,) = op.if_(
        condition,
        then_branch=lambda: [op.matmul(op.relu(op.matmul(x, deep[0])), deep[1])],
        else_branch=lambda: [op.matmul(x, flat)],
    )
    return y


MODELS = flag + data
