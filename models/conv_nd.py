"""Convolutions over one and three dimensions, and transposed ones with every option."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph


@model("conv1d", profile={"batch": (1, 2, 4), "time": (16, 32, 64)}, batch="batch")
def one(g: Graph) -> None:
    """Causal and dilated, as in a network over sound."""
    x = g.input("x", ("batch", 8, "time"))
    for layer, dilation in enumerate((1, 2, 4)):
        kernel = g.weight(f"conv{layer}.weight", (8, 8, 3), 1 / math.sqrt(24))
        bias = g.weight(f"conv{layer}.bias", (8,), 0.1)
        y = op.conv(x, kernel, bias, kernel_shape=(3,), dilations=(dilation,), pads=(2 * dilation, 0))
        x = op.mul(op.add(x, op.tanh(y)), g.constant(math.sqrt(0.7)))
    g.output("y", x, ("batch", 8, "time"))


@model("conv3d", profile={"batch": (1, 2, 4)}, batch="batch")
def three(g: Graph) -> None:
    x = g.input("x", ("batch", 2, 6, 8, 8))
    kernel = g.weight("conv.weight", (8, 2, 3, 3, 3), 1 / math.sqrt(54))
    x = op.conv(x, kernel, g.weight("conv.bias", (8,), 0.1), kernel_shape=(3, 3, 3), pads=(1,) * 6, strides=(1, 2, 2))
    g.output("y", op.max_pool(x, kernel_shape=(2, 2, 2), strides=(2, 2, 2))[0])


@model("conv_transposed", profile={"batch": (1, 2, 4)}, batch="batch")
def transposed(g: Graph) -> None:
    x = g.input("x", ("batch", 8, 6, 6))
    kernel = g.weight("conv.weight", (8, 4, 3, 3), 1 / math.sqrt(18))
    x = op.conv_transpose(
        x,
        kernel,
        g.weight("conv.bias", (8,), 0.1),
        kernel_shape=(3, 3),
        strides=(2, 2),
        pads=(1, 1, 1, 1),
        output_padding=(1, 1),
        group=2,
    )
    g.output("y", x)


MODELS = one + three + transposed
