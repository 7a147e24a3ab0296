"""Residual networks of bottleneck blocks; the full size is ResNet-50."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .blocks import RELU, batch_norm, conv, linear
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

EXPANSION = 4
POOLED = 2.5  # the mean over an image is smaller than what it is the mean of


@model(
    "resnet",
    profile={"batch": (1, 4, 8)},
    full_profile={"batch": (1, 2, 4)},
    batch="batch",
    tags=("classifier",),
    tiny={"image": 32, "width": 8, "blocks": (1, 2, 1, 1), "classes": 10},
    full={"image": 224, "width": 64, "blocks": (3, 4, 6, 3), "classes": 1000},
)
def resnet(g: Graph, *, image: int, width: int, blocks: tuple[int, ...], classes: int) -> None:
    x = g.input("image", ("batch", 3, image, image))
    x = op.relu(batch_norm(g, "bn1", conv(g, "conv1", x, 3, width, 7, stride=2, bias=False), width))
    x = op.max_pool(x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))[0]
    inner = width
    share = math.sqrt(0.5 / max(1, sum(blocks) - len(blocks)))
    for stage, count in enumerate(blocks):
        for block in range(count):
            with g.scope(f"layer{stage + 1}.{block}"):
                x = bottleneck(g, x, inner, width << stage, stride=2 if stage and not block else 1, share=share)
                inner = EXPANSION * (width << stage)
    x = op.flatten(op.global_average_pool(x))
    g.output("logits", linear(g, "fc", x, inner, classes, gain=POOLED))


def bottleneck(g: Graph, x: Var, inner: int, width: int, stride: int, share: float) -> Var:
    """1x1, 3x3, 1x1 beside a shortcut, which is a projection where the shape changes.

    A projection and the path beside it each give half of the sum's variance. Where the shortcut is
    ``x`` itself the path adds ``share``: so little that all such blocks together give about one half.
    """
    outer = EXPANSION * width
    project = stride > 1 or inner != outer
    share = math.sqrt(0.5) if project else share
    y = op.relu(batch_norm(g, "bn1", conv(g, "conv1", x, inner, width, 1, gain=RELU, bias=False), width))
    y = op.relu(batch_norm(g, "bn2", conv(g, "conv2", y, width, width, 3, stride=stride, gain=RELU, bias=False), width))
    y = batch_norm(g, "bn3", conv(g, "conv3", y, width, outer, 1, gain=RELU * share, bias=False), outer)
    if project:
        shortcut = conv(g, "downsample.conv", x, inner, outer, 1, stride=stride, gain=RELU * share, bias=False)
        x = batch_norm(g, "downsample.bn", shortcut, outer)
    return op.relu(op.add(y, x))


MODELS = resnet
