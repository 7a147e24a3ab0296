"""Plain convolutions over images whose height and width are dynamic."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocks import RELU, conv, linear
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph


@model(
    "conv",
    profile={"batch": (1, 2, 4), "height": (16, 24, 32), "width": (16, 32, 40)},
    batch="batch",
    tags=("classifier",),
    tiny={"channels": 16},
)
def plain(g: Graph, *, channels: int) -> None:
    x = op.relu(conv(g, "conv1", g.input("image", ("batch", 3, "height", "width")), 3, channels, 3))
    x = op.max_pool(x, kernel_shape=(2, 2), strides=(2, 2))[0]
    x = op.relu(conv(g, "conv2", x, channels, 2 * channels, 5, gain=RELU))
    x = op.average_pool(x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    x = conv(g, "conv3", x, 2 * channels, 4 * channels, 3, dilation=2, gain=RELU)
    x = op.flatten(op.global_max_pool(op.leaky_relu(x, alpha=0.1)))
    g.output("logits", linear(g, "head", x, 4 * channels, 10, gain=3.0), ("batch", 10))


MODELS = plain
