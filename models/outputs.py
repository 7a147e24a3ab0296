"""Outputs out of the ordinary: several, repeated, constant, and inputs that come out again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocks import RELU, linear
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph

WIDTH = 16


@model("outputs", profile={"batch": (1, 4, 8)}, batch="batch")
def several(g: Graph) -> None:
    """What one layer gives is an output and goes on; an input comes out under another name; one never changes."""
    x = g.input("x", ("batch", WIDTH))
    hidden = linear(g, "fc1", x, WIDTH, WIDTH)
    g.output("hidden", hidden)
    g.output("again", hidden)
    g.output("y", linear(g, "fc2", op.relu(hidden), WIDTH, WIDTH, gain=RELU))
    g.output("copy", x)
    g.output("fixed", g.constant((1.0, -2.0, 0.5)))


@model("passthrough", profile={"batch": (1, 4, 8)}, batch="batch")
def passthrough(g: Graph) -> None:
    """An input that is an output itself, under its own name and with no operator between."""
    g.output("y", linear(g, "fc", g.input("x", ("batch", WIDTH)), WIDTH, WIDTH))
    g.pass_through("x")


MODELS = several + passthrough
