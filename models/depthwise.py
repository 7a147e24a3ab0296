"""Inverted residuals of depthwise convolutions with squeeze-and-excitation, as in MobileNet v3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocks import RELU, batch_norm, conv, linear
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

SWISH = 1.81  # 1 / deviation of hardswish(z)
AVERAGED = 4.0  # the mean over an image is small: this brings it back
SMOOTH = 1.3  # neighbours resemble each other, so that a kernel which sums to zero gives less


@model(
    "depthwise",
    profile={"batch": (1, 4, 8)},
    batch="batch",
    tags=("classifier",),
    tiny={"image": 32, "width": 16, "classes": 10},
)
def depthwise(g: Graph, *, image: int, width: int, classes: int) -> None:
    x = g.input("image", ("batch", 3, image, image))
    x = hard_swish(batch_norm(g, "stem.bn", conv(g, "stem.conv", x, 3, width, 3, stride=2, bias=False), width))
    for block, (kernel, stride) in enumerate(((3, 1), (5, 2), (3, 1))):
        with g.scope(f"block{block}"):
            x = inverted_residual(g, x, width, kernel, stride)
    x = op.clip(conv(g, "last", x, width, 4 * width, 1, gain=SWISH), g.constant(0.0), g.constant(6.0))
    x = op.flatten(op.global_average_pool(x))
    g.output("logits", linear(g, "head", x, 4 * width, classes, gain=2 * RELU))


def hard_swish(x: Var) -> Var:
    return op.mul(x, op.hard_sigmoid(x, alpha=1 / 6, beta=0.5))


def inverted_residual(g: Graph, x: Var, width: int, kernel: int, stride: int) -> Var:
    """Wider by four, one convolution a channel, weighed channels, and narrow again."""
    inner = 4 * width
    y = hard_swish(batch_norm(g, "expand.bn", conv(g, "expand.conv", x, width, inner, 1, gain=1.2, bias=False), inner))
    y = conv(g, "depth.conv", y, inner, inner, kernel, stride=stride, group=inner, gain=SMOOTH * SWISH, bias=False)
    y = hard_swish(batch_norm(g, "depth.bn", y, inner))
    squeezed = op.relu(conv(g, "squeeze.down", op.global_average_pool(y), inner, width, 1, gain=AVERAGED))
    weights = op.hard_sigmoid(conv(g, "squeeze.up", squeezed, width, inner, 1, gain=2 * RELU), alpha=1 / 6, beta=0.5)
    y = conv(g, "project.conv", op.mul(y, weights), inner, width, 1, gain=1.2 * SWISH, bias=False)
    y = batch_norm(g, "project.bn", y, width)
    return op.add(x, y) if stride == 1 else y


MODELS = depthwise
