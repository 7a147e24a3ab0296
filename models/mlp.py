"""A multi-layer perceptron: the smallest thing that is a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocks import RELU, linear
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph


@model("mlp", profile={"batch": (1, 4, 8)}, batch="batch", tags=("classifier",), tiny={"width": 128, "layers": 3})
def mlp(g: Graph, *, width: int, layers: int) -> None:
    x = linear(g, "stem", g.input("x", ("batch", 64)), 64, width)
    for layer in range(layers):
        x = linear(g, f"layer{layer}", op.relu(x), width, width, gain=RELU)
    g.output("logits", linear(g, "head", op.relu(x), width, 10, gain=RELU))


MODELS = mlp
