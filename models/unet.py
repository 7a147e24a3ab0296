"""A U-Net over images of any size: transposed convolution and both kinds of resize on the way up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocks import HE, conv
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph


@model(
    "unet",
    profile={"batch": (1, 1, 2), "height": (16, 24, 40), "width": (16, 32, 40)},
    batch="batch",
    tiny={"channels": 8},
)
def unet(g: Graph, *, channels: int) -> None:
    x = g.input("image", ("batch", 3, "height", "width"))
    top = double(g, "down0", x, 3, channels, gain=1.0)
    middle = double(g, "down1", op.max_pool(top, kernel_shape=(2, 2), strides=(2, 2))[0], channels, 2 * channels)
    low = double(g, "down2", op.max_pool(middle, kernel_shape=(2, 2), strides=(2, 2))[0], 2 * channels, 4 * channels)

    # A bilinear resize to the size of what it joins, whatever the size of the image was.
    size = op.concat(
        (op.slice(op.shape(low), g.ints(0), g.ints(2)), op.slice(op.shape(middle), g.ints(2), g.ints(4))), axis=0
    )
    up = op.resize(low, sizes=size, mode="linear", coordinate_transformation_mode="half_pixel")
    x = double(g, "up1", op.concat((up, middle), axis=1), 6 * channels, 2 * channels)

    # Nearest by a fixed factor, beside a transposed convolution; cut to the size of what they join.
    up = op.resize(
        x,
        scales=g.constant((1, 1, 2, 2)),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    kernel = g.weight("up0.transposed.weight", (2 * channels, channels, 2, 2), HE / (2 * channels) ** 0.5)
    learned = op.conv_transpose(x, kernel, kernel_shape=(2, 2), strides=(2, 2))
    padded = op.concat((up, learned), axis=1)
    size = op.slice(op.shape(padded), g.ints(2), g.ints(4))
    top = op.slice(top, g.ints(0, 0), size, g.ints(2, 3))
    x = double(g, "up0", op.concat((padded, top), axis=1), 4 * channels, channels)
    g.output(
        "mask", conv(g, "head", x, channels, 2, 1, gain=HE, level=False), ("batch", 2, "mask_height", "mask_width")
    )


def double(g: Graph, name: str, x: Var, inner: int, outer: int, gain: float = HE) -> Var:
    """Two convolutions of 3 by 3, each with a ReLU."""
    with g.scope(name):
        x = op.relu(conv(g, "conv1", x, inner, outer, 3, gain=gain, level=False))
        return op.relu(conv(g, "conv2", x, outer, outer, 3, gain=HE, level=False))


MODELS = unet
