"""Layers that several families share.

Weights are scaled by what goes into a layer, so that a signal of variance one comes out with
variance one; ``gain`` makes up for what the activation before took away. Those of one output sum to
zero, so that the mean which an activation leaves does not come through. What comes through instead is
enlarged, rounding errors with it: by `RELU` / `HE` = 1.2 at each ReLU. A convolution in a long chain
of them is therefore not ``level``, and lets the mean pass.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

RELU = 1.713  # 1 / deviation of relu(z), z standard normal
HE = math.sqrt(2)  # 1 / root mean square of relu(z): the gain of a layer that is not level (He et al., 2015)
GELU = 1.701  # 1 / deviation of gelu(z)
BIAS = 0.1  # standard deviation of a bias: enough to show, too little to matter
MASKED = -1e4  # score of a key that must not be seen; fits float16


def linear(g: Graph, name: str, x: Var, inner: int, outer: int, gain: float = 1.0, bias: bool = True) -> Var:
    """``x @ weight + bias`` over the last axis, ``inner`` to ``outer`` wide."""
    y = op.matmul(x, g.weight(f"{name}.weight", (inner, outer), gain / math.sqrt(inner), level=(0,)))
    return op.add(y, g.weight(f"{name}.bias", (outer,), BIAS)) if bias else y


def conv(
    g: Graph,
    name: str,
    x: Var,
    inner: int,
    outer: int,
    kernel: int,
    *,
    stride: int = 1,
    group: int = 1,
    dilation: int = 1,
    gain: float = 1.0,
    bias: bool = True,
    level: bool = True,
) -> Var:
    """A square convolution over NCHW that keeps height and width, divided by ``stride``."""
    shape = (outer, inner // group, kernel, kernel)
    pad = dilation * (kernel // 2)
    return op.conv(
        x,
        g.weight(f"{name}.weight", shape, gain / math.sqrt(math.prod(shape[1:])), level=(1, 2, 3) if level else ()),
        g.weight(f"{name}.bias", (outer,), BIAS) if bias else None,
        kernel_shape=(kernel, kernel),
        strides=(stride, stride),
        pads=(pad,) * 4,
        dilations=(dilation, dilation),
        group=group,
    )


def batch_norm(g: Graph, name: str, x: Var, channels: int) -> Var:
    """Batch normalization with the statistics of a trained network: near 0 and 1, never quite."""
    with g.scope(name):
        return g.batch_normalization(
            x,
            g.weight("weight", (channels,), 0.1, mean=1.0),
            g.weight("bias", (channels,), BIAS),
            g.weight("running_mean", (channels,), 0.1),
            g.weight("running_var", (channels,), 0.1, mean=1.0),
        )


def layer_norm(g: Graph, name: str, x: Var, width: int) -> Var:
    """LayerNormalization over the last axis."""
    with g.scope(name):
        return op.layer_normalization(
            x, g.weight("weight", (width,), 0.1, mean=1.0), g.weight("bias", (width,), BIAS), axis=-1
        )[0]


def gelu(g: Graph, x: Var) -> Var:
    """The exact GELU, spelled as exporters spell it at opset 17."""
    half = op.mul(x, g.constant(0.5))
    return op.mul(half, op.add(op.erf(op.div(x, g.constant(math.sqrt(2)))), g.constant(1.0)))


def feed_forward(g: Graph, name: str, x: Var, width: int, gain: float = 1.0) -> Var:
    """Up to four times ``width``, GELU, and down again."""
    with g.scope(name):
        wide = gelu(g, linear(g, "up", x, width, 4 * width))
        return linear(g, "down", wide, 4 * width, width, gain=GELU * gain)


def split_heads(g: Graph, x: Var, heads: int, dim: int) -> Var:
    """[batch, seq, heads * dim] to [batch, heads, seq, dim]."""
    return op.transpose(op.reshape(x, g.ints(0, 0, heads, dim)), perm=(0, 2, 1, 3))


def merge_heads(g: Graph, x: Var, width: int) -> Var:
    """[batch, heads, seq, dim] to [batch, seq, width]."""
    return op.reshape(op.transpose(x, perm=(0, 2, 1, 3)), g.ints(0, 0, width))


def attend(g: Graph, q: Var, k: Var, v: Var, dim: int, *, bias: Var | None = None, allowed: Var | None = None) -> Var:
    """Scaled dot-product attention over [batch, heads, seq, dim]; half of the scale on either side, as PyTorch does.

    ``bias`` is added to the scores; where ``allowed`` is false they become `MASKED`.
    """
    scale = g.constant(dim**-0.25)
    scores = op.matmul(op.mul(q, scale), op.mul(op.transpose(k, perm=(0, 1, 3, 2)), scale))
    if bias is not None:
        scores = op.add(scores, bias)
    if allowed is not None:
        scores = op.where(allowed, scores, g.constant(MASKED))
    return op.matmul(op.softmax(scores, axis=-1), v)


# Attention averages over keys, which shrinks a signal; with a few dozen keys this brings it back.
AVERAGED = 2.0


def self_attention(
    g: Graph, name: str, x: Var, width: int, heads: int, *, bias: Var | None = None, gain: float = 1.0
) -> Var:
    """Multi-head self-attention over [batch, seq, width]."""
    dim = width // heads
    with g.scope(name):
        q, k, v = (split_heads(g, linear(g, part, x, width, width), heads, dim) for part in ("q", "k", "v"))
        mixed = merge_heads(g, attend(g, q, k, v, dim, bias=bias), width)
        return linear(g, "out", mixed, width, width, gain=AVERAGED * gain)
