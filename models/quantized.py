"""Int8 by Q/DQ: a convolutional network, a transformer layer, and weights stored as int8.

Scales are float32, as opset 17 demands. Activations have variance one, so that a range of four
standard deviations loses next to nothing at its ends.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .blocks import RELU, gelu, layer_norm, linear, merge_heads, split_heads
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

LARGEST = 127
RANGE = 4.0  # standard deviations


def fake_quantize(g: Graph, name: str, x: Var, largest: float = RANGE) -> Var:
    """Q and DQ of an activation: one scale, symmetric."""
    with g.scope(name):
        scale = g.initializer("scale", largest / LARGEST, "float32")
        zero = g.initializer("zero", 0, "int8")
        return op.dequantize_linear(op.quantize_linear(x, scale, zero), scale, zero)


def quantized_weight(g: Graph, name: str, shape: tuple[int, ...], std: float, axis: int) -> Var:
    """Q and DQ of a float weight with a scale for each output channel."""
    channels = shape[axis]
    weight = g.weight(f"{name}.weight", shape, std, level=tuple(other for other in range(len(shape)) if other != axis))
    # Channels differ, as they do in trained networks: a scale applied to the wrong one shows.
    steps = [RANGE * std / LARGEST * (1 + 0.5 * (channel % 3)) for channel in range(channels)]
    scale = g.initializer(f"{name}.weight.scale", steps, "float32")
    zero = g.initializer(f"{name}.weight.zero", [0] * channels, "int8")
    return op.dequantize_linear(op.quantize_linear(weight, scale, zero, axis=axis), scale, zero, axis=axis)


def quantized_conv(
    g: Graph, name: str, x: Var, inner: int, outer: int, kernel: int, stride: int = 1, gain: float = 1.0
) -> Var:
    shape = (outer, inner, kernel, kernel)
    weight = quantized_weight(g, name, shape, gain / math.sqrt(inner * kernel * kernel), axis=0)
    return op.conv(
        fake_quantize(g, f"{name}.input", x),
        weight,
        g.weight(f"{name}.bias", (outer,), 0.1),
        kernel_shape=(kernel, kernel),
        strides=(stride, stride),
        pads=(kernel // 2,) * 4,
    )


def quantized_linear(g: Graph, name: str, x: Var, inner: int, outer: int, gain: float = 1.0) -> Var:
    weight = quantized_weight(g, name, (inner, outer), gain / math.sqrt(inner), axis=1)
    y = op.matmul(fake_quantize(g, f"{name}.input", x), weight)
    return op.add(y, g.weight(f"{name}.bias", (outer,), 0.1))


@model("qdq_conv", profile={"batch": (1, 4, 8)}, batch="batch", tags=("qdq", "classifier"), tiny={"channels": 16})
def convolutions(g: Graph, *, channels: int) -> None:
    """A residual block whose sum is quantized on both sides, as TensorRT fuses it."""
    x = op.relu(quantized_conv(g, "conv1", g.input("image", ("batch", 3, 16, 16)), 3, channels, 3, stride=2))
    y = op.relu(quantized_conv(g, "conv2", x, channels, channels, 3, gain=RELU))
    y = quantized_conv(g, "conv3", y, channels, channels, 3, gain=RELU)
    x = op.relu(op.add(y, fake_quantize(g, "shortcut", x)))
    x = op.flatten(op.global_average_pool(x))
    g.output("logits", linear(g, "head", x, channels, 10, gain=3.0), ("batch", 10))


@model(
    "qdq_transformer",
    profile={"batch": (1, 2, 4), "seq": (4, 16, 32)},
    batch="batch",
    tags=("qdq",),
    tiny={"width": 64, "heads": 4},
)
def transformer(g: Graph, *, width: int, heads: int) -> None:
    """Every matrix product has both sides quantized, those of attention too."""
    dim = width // heads
    x = g.input("x", ("batch", "seq", width))
    q, k, v = (
        split_heads(g, quantized_linear(g, f"attn.{part}", x, width, width), heads, dim) for part in ("q", "k", "v")
    )
    q, k, v = (fake_quantize(g, f"attn.{part}.output", each) for part, each in (("q", q), ("k", k), ("v", v)))
    scores = op.mul(op.matmul(q, op.transpose(k, perm=(0, 1, 3, 2))), g.constant(1 / math.sqrt(dim)))
    shares = fake_quantize(g, "attn.softmax", op.softmax(scores, axis=-1), largest=1.0)
    mixed = merge_heads(g, op.matmul(shares, v), width)
    x = layer_norm(g, "attn.norm", op.add(x, quantized_linear(g, "attn.out", mixed, width, width, gain=2.0)), width)
    wide = gelu(g, quantized_linear(g, "mlp.up", x, width, 2 * width))
    y = quantized_linear(g, "mlp.down", wide, 2 * width, width, gain=1.5)
    g.output("y", layer_norm(g, "mlp.norm", op.add(x, y), width), ("batch", "seq", width))


@model("qdq_stored", profile={"batch": (1, 4, 8)}, batch="batch", tags=("qdq",))
def stored(g: Graph) -> None:
    """Weights that are int8 in the file, as quantizers which drop the float ones write them."""
    x, width = g.input("x", ("batch", 32)), 32
    for layer in range(2):
        with g.scope(f"fc{layer}"):
            codes = g.integers("weight", (width, width), -LARGEST, LARGEST)
            # Integers spread evenly over +-127 have deviation 73.6.
            steps = [1 / (73.6 * math.sqrt(width)) * (1 + 0.1 * (channel % 3)) for channel in range(width)]
            scale = g.initializer("weight.scale", steps, "float32")
            zero = g.initializer("weight.zero", [0] * width, "int8")
            weight = op.dequantize_linear(codes, scale, zero, axis=1)
            x = op.matmul(fake_quantize(g, "input", x), weight)
    g.output("y", x, ("batch", width))


MODELS = convolutions + transformer + stored
