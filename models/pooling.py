"""Pooling of every kind: padded, strided, ceiling, with and without the padding counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocks import conv
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph


@model("pooling", profile={"batch": (1, 2, 4)}, batch="batch")
def pooling(g: Graph) -> None:
    x = conv(g, "conv", g.input("x", ("batch", 3, 15, 15)), 3, 4, 3)
    g.output("max", op.max_pool(x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1))[0])
    g.output("max_ceiling", op.max_pool(x, kernel_shape=(2, 2), strides=(2, 2), ceil_mode=1)[0])
    g.output("max_same", op.max_pool(x, kernel_shape=(3, 3), strides=(2, 2), auto_pad="SAME_UPPER")[0])
    g.output("mean", op.average_pool(x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)))
    g.output(
        "mean_counted", op.average_pool(x, kernel_shape=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1), count_include_pad=1)
    )
    g.output("global_max", op.global_max_pool(x))
    g.output("global_mean", op.mul(op.global_average_pool(x), g.constant(10.0)))


MODELS = pooling
