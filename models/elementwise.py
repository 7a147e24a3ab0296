"""Elementwise operators, activations, and those whose results IEEE 754 gives for NaN and infinities too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.spec import InputRule

from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

BATCH = {"batch": (1, 4, 8)}
WIDTH = 32
SHAPE: tuple[int | str, ...] = ("batch", WIDTH)


def give(g: Graph, outputs: dict[str, Var]) -> None:
    for name, value in outputs.items():
        g.output(name, value, SHAPE)


@model("unary", profile=BATCH, batch="batch", inputs=(InputRule("eighths", "integers", low=-12, high=12),))
def unary(g: Graph) -> None:
    """Functions of one argument, each inside its domain.

    Those with steps take odd eighths, which every type holds: of another number, rounding to float16
    may lead over a step, and both sides of it are right.
    """
    x, eighths = g.input("x", SHAPE), g.input("eighths", SHAPE, "int32")
    stepped = op.add(op.mul(op.cast(eighths, to="float32"), g.constant(0.25)), g.constant(0.125))
    size = op.add(op.abs(x), g.constant(0.5))
    small = op.mul(op.tanh(x), g.constant(0.9))
    give(
        g,
        {
            "exp": op.exp(x),
            "log": op.log(size),
            "sqrt": op.sqrt(size),
            "reciprocal": op.reciprocal(size),
            "erf": op.erf(x),
            "sin": op.sin(x),
            "cos": op.cos(x),
            "tan": op.tan(small),
            "asin": op.asin(small),
            "acos": op.acos(small),
            "atan": op.atan(x),
            "sinh": op.sinh(x),
            "cosh": op.cosh(x),
            "asinh": op.asinh(x),
            "acosh": op.acosh(op.add(size, g.constant(1.0))),
            "atanh": op.atanh(small),
            "floor": op.floor(stepped),
            "ceil": op.ceil(stepped),
            "round": op.round(stepped),
            "sign": op.sign(stepped),
        },
    )


@model("binary", profile=BATCH, batch="batch")
def binary(g: Graph) -> None:
    """Functions of two arguments and more, broadcast in every direction."""
    x, y = g.input("x", SHAPE), g.input("y", ("batch", 1))
    row = g.weight("row", (WIDTH,), 1.0)
    size = op.add(op.abs(x), g.constant(0.5))
    give(
        g,
        {
            "add": op.add(x, y),
            "sub": op.sub(y, row),
            "mul": op.mul(x, row),
            "div": op.div(op.add(y, row), size),
            "pow": op.pow(size, g.constant(1.5)),
            "max": op.max((x, y, row)),
            "min": op.min((x, y, row)),
            "mean": op.mean((x, y, row)),
            "mod": op.mod(x, size, fmod=1),
            "where": op.where(op.less(x, y), x, row),
        },
    )


@model("activations", profile=BATCH, batch="batch")
def activations(g: Graph) -> None:
    x = g.input("x", SHAPE)
    inner = op.mul(op.add(x, op.mul(op.mul(x, op.mul(x, x)), g.constant(0.044715))), g.constant(0.7978845608))
    give(
        g,
        {
            "relu": op.relu(x),
            "leaky_relu": op.leaky_relu(x, alpha=0.2),
            "prelu": op.prelu(x, g.weight("slope", (WIDTH,), 0.1, mean=0.25)),
            "elu": op.elu(x, alpha=1.5),
            "selu": op.selu(x),
            "celu": op.celu(x, alpha=0.5),
            "thresholded": op.thresholded_relu(x, alpha=0.3),
            "sigmoid": op.sigmoid(x),
            "hard_sigmoid": op.hard_sigmoid(x),
            "hard_swish": op.hard_swish(x),
            "tanh": op.tanh(x),
            "softplus": op.softplus(x),
            "softsign": op.softsign(x),
            "swish": op.mul(x, op.sigmoid(x)),
            "gelu_tanh": op.mul(op.mul(x, g.constant(0.5)), op.add(op.tanh(inner), g.constant(1.0))),
            "clip": op.clip(x, g.constant(-0.5), g.constant(1.0)),
        },
    )


@model("special", profile=BATCH, batch="batch", special=True)
def special(g: Graph) -> None:
    """Only what IEEE 754 and ONNX define for NaN, infinities and the largest numbers."""
    x, y = g.input("x", SHAPE), g.input("y", SHAPE)
    nan = op.isnan(x)
    give(
        g,
        {
            "isnan": nan,
            "isinf": op.isinf(x),
            "cleaned": op.where(nan, g.constant(0.0), x),
            "abs": op.abs(x),
            "neg": op.neg(x),
            "half": op.mul(x, g.constant(0.5)),
            "sum": op.add(x, y),
            "root": op.sqrt(op.abs(x)),
            "greater": op.greater(x, y),
            "less_or_equal": op.less_or_equal(x, y),
            "equal": op.equal(x, y),
        },
    )


@model("bounds", profile=BATCH, batch="batch")
def bounds(g: Graph) -> None:
    """Smallest, largest and sign: what they make of NaN differs from kernel to kernel."""
    x, y = g.input("x", SHAPE), g.input("y", SHAPE)
    give(
        g,
        {
            "least": op.min((x, y)),
            "most": op.max((x, y)),
            "sign": op.sign(x),
            "kept": op.where(op.greater(x, y), x, y),
        },
    )


MODELS = unary + binary + activations + special + bounds
