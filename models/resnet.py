"""Residual networks of bottleneck blocks; the full size is ResNet-50."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .blocks import HE, RELU, batch_norm, conv, linear
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

EXPANSION = 4
PROJECTED = math.sqrt(0.8)  # deviation that a projected shortcut gives to a sum of variance one
POOLED = 2.5  # the mean over an image is smaller than what it is the mean of


@model(
    "resnet",
    profile={"batch": (1, 4, 8)},
    full_profile={"batch": (1, 2, 4)},
    batch="batch",
    tags=("classifier",),
    tiny={"image": 32, "width": 8, "blocks": (1, 2, 1, 1), "classes": 10, "level": False},
    full={"image": 224, "width": 64, "blocks": (3, 4, 6, 3), "classes": 1000, "level": True},
)
def resnet(g: Graph, *, image: int, width: int, blocks: tuple[int, ...], classes: int, level: bool) -> None:
    """With ``level`` what all images have in common is taken away where a stage begins.

    Else, with many pixels to take the mean of, the logits would hardly depend on the image.
    """
    x = g.input("image", ("batch", 3, image, image))
    x = op.relu(batch_norm(g, "bn1", conv(g, "conv1", x, 3, width, 7, stride=2, bias=False), width))
    x = op.max_pool(x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))[0]
    inner = width
    share = math.sqrt(0.5 / max(1, sum(blocks) - len(blocks)))
    for stage, count in enumerate(blocks):
        for block in range(count):
            with g.scope(f"layer{stage + 1}.{block}"):
                stride = 2 if stage and not block else 1
                x = bottleneck(g, x, inner, width << stage, stride=stride, share=share, level=level)
                inner = EXPANSION * (width << stage)
    x = op.flatten(op.global_average_pool(x))
    g.output("logits", linear(g, "fc", x, inner, classes, gain=POOLED))


def bottleneck(g: Graph, x: Var, inner: int, width: int, *, stride: int, share: float, level: bool) -> Var:
    """1x1, 3x3, 1x1 beside a shortcut, which is a projection where the shape changes.

    A projection gives most of the sum. Where the shortcut is ``x`` itself the path adds ``share``:
    so little that all such blocks together give about one half.
    """
    outer = EXPANSION * width
    project = stride > 1 or inner != outer
    level = level and project
    y = op.relu(normalized(g, "1", x, inner, width, 1, level=level))
    y = op.relu(normalized(g, "2", y, width, width, 3, stride=stride))
    y = normalized(g, "3", y, width, outer, 1, share=math.sqrt(1 - PROJECTED**2) if project else share)
    if project:
        with g.scope("downsample"):
            x = normalized(g, "", x, inner, outer, 1, stride=stride, share=PROJECTED, level=level)
    return op.relu(op.add(y, x))


def normalized(
    g: Graph,
    number: str,
    x: Var,
    inner: int,
    outer: int,
    kernel: int,
    *,
    stride: int = 1,
    share: float = 1.0,
    level: bool = False,
) -> Var:
    """A convolution of what a ReLU gave, scaled by ``share``, and its batch norm."""
    gain = share * (RELU if level else HE)
    y = conv(g, f"conv{number}", x, inner, outer, kernel, stride=stride, gain=gain, bias=False, level=level)
    return batch_norm(g, f"bn{number}", y, outer)


MODELS = resnet
