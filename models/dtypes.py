"""Inputs and outputs that are not float32: integers of both sizes, booleans, bytes, half and double."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.spec import InputRule

from .blocks import conv, linear
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph

BATCH = {"batch": (1, 4, 8)}
WIDTH = 16


@model(
    "integers",
    profile=BATCH,
    batch="batch",
    inputs=(
        InputRule("a", "integers", low=-1000, high=1000),
        InputRule("b", "integers", low=1, high=50),
        InputRule("c", "integers", low=-1000, high=1000),
    ),
)
def integers(g: Graph) -> None:
    a, b = g.input("a", ("batch", WIDTH), "int32"), g.input("b", ("batch", WIDTH), "int32")
    c = g.input("c", ("batch", WIDTH), "int64")
    g.output("sum", op.add(a, b), ("batch", WIDTH))
    g.output("product", op.mul(a, b), ("batch", WIDTH))
    g.output("quotient", op.div(op.abs(a), b), ("batch", WIDTH))  # of nothing negative: no rounding to quarrel about
    g.output("larger", op.max((a, b)), ("batch", WIDTH))
    g.output("wide", op.sub(op.mul(c, g.constant(1000, "int64")), op.cast(a, to="int64")), ("batch", WIDTH))
    g.output("total", op.reduce_sum(c, g.ints(1), keepdims=0), ("batch",))


@model("booleans", profile=BATCH, batch="batch")
def booleans(g: Graph) -> None:
    a, b = g.input("a", ("batch", WIDTH), "bool"), g.input("b", ("batch", WIDTH), "bool")
    g.output("both", op.and_(a, b), ("batch", WIDTH))
    g.output("either", op.or_(a, op.not_(b)), ("batch", WIDTH))
    g.output("one", op.xor(a, b), ("batch", WIDTH))
    g.output("same", op.equal(op.cast(a, to="int32"), op.cast(b, to="int32")), ("batch", WIDTH))


@model("mixed", profile=BATCH, batch="batch", inputs=(InputRule("n", "integers", low=-20, high=20),))
def mixed(g: Graph) -> None:
    """Floats, integers and booleans in, and of each kind one out."""
    x, n = g.input("x", ("batch", WIDTH)), g.input("n", ("batch", WIDTH), "int32")
    use = g.input("use", ("batch", WIDTH), "bool")
    y = op.where(use, linear(g, "fc", x, WIDTH, WIDTH), op.mul(op.cast(n, to="float32"), g.constant(0.1)))
    g.output("y", y, ("batch", WIDTH))
    g.output("chosen", op.where(use, n, op.neg(n)), ("batch", WIDTH))
    g.output("positive", op.greater(n, g.constant(0, "int32")), ("batch", WIDTH))
    g.output("count", op.reduce_sum(op.cast(use, to="int64"), g.ints(1), keepdims=0), ("batch",))


@model("bytes", profile=BATCH, batch="batch", inputs=(InputRule("image", "integers", low=0, high=255),))
def unsigned(g: Graph) -> None:
    """An image as a camera gives it, normalized by the network itself."""
    x = op.cast(g.input("image", ("batch", 3, 8, 8), "uint8"), to="float32")
    x = op.div(op.sub(x, g.constant(127.5)), g.constant(73.9))  # bytes spread evenly have deviation 73.9
    g.output("y", conv(g, "conv", x, 3, 8, 3), ("batch", 8, 8, 8))


@model("half", profile=BATCH, batch="batch")
def half(g: Graph) -> None:
    """float16 at both ends, whatever the precision in between."""
    x = op.cast(g.input("x", ("batch", WIDTH), "float16"), to="float32")
    g.output("y", op.cast(linear(g, "fc", x, WIDTH, WIDTH), to="float16"), ("batch", WIDTH))


@model("double", profile=BATCH, batch="batch")
def double(g: Graph) -> None:
    """float64 at both ends, which some versions bind as float32."""
    x = op.cast(g.input("x", ("batch", WIDTH), "float64"), to="float32")
    g.output("y", op.cast(linear(g, "fc", x, WIDTH, WIDTH), to="float64"), ("batch", WIDTH))


MODELS = integers + booleans + mixed + unsigned + half + double
