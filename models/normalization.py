"""Every normalization, over inputs that are neither centred nor of variance one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocks import batch_norm, layer_norm
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

CHANNELS, WIDTH = 12, 48
IMAGES = {"batch": (1, 2, 4), "height": (4, 8, 12), "width": (4, 8, 12)}
SEQUENCES = {"batch": (1, 2, 4), "seq": (1, 8, 16)}


def image(g: Graph) -> Var:
    """[batch, channels, height, width], moved and stretched channel by channel."""
    x = g.input("x", ("batch", CHANNELS, "height", "width"))
    return op.add(
        op.mul(x, g.weight("stretch", (CHANNELS, 1, 1), 0.3, mean=1.0)), g.weight("move", (CHANNELS, 1, 1), 0.5)
    )


def sequence(g: Graph) -> Var:
    """[batch, seq, width], moved and stretched feature by feature."""
    x = g.input("x", ("batch", "seq", WIDTH))
    return op.add(op.mul(x, g.weight("stretch", (WIDTH,), 0.3, mean=1.0)), g.weight("move", (WIDTH,), 0.5))


def give(g: Graph, y: Var) -> None:
    """The output, with the shape of the input."""
    rank = len(y.unwrap_tensor().shape or ())
    g.output("y", y, ("batch", CHANNELS, "height", "width") if rank == 4 else ("batch", "seq", WIDTH))


@model("norm_batch", profile=IMAGES, batch="batch")
def batch(g: Graph) -> None:
    give(g, batch_norm(g, "norm", image(g), CHANNELS))


@model("norm_instance", profile=IMAGES, batch="batch")
def instance(g: Graph) -> None:
    give(
        g,
        op.instance_normalization(
            image(g), g.weight("norm.weight", (CHANNELS,), 0.1, mean=1.0), g.weight("norm.bias", (CHANNELS,), 0.1)
        ),
    )


@model("norm_group", profile=IMAGES, batch="batch")
def group(g: Graph) -> None:
    """Spelled as exporters spell it before opset 18: instance normalization over channels folded into groups."""
    x, groups = image(g), 3
    folded = op.reshape(x, g.ints(0, groups, -1))
    normed = op.instance_normalization(
        folded,
        g.initializer("norm.one", [1.0] * groups, "float32"),
        g.initializer("norm.zero", [0.0] * groups, "float32"),
    )
    y = op.reshape(normed, op.shape(x))
    weight, bias = (
        g.weight("norm.weight", (CHANNELS, 1, 1), 0.1, mean=1.0),
        g.weight("norm.bias", (CHANNELS, 1, 1), 0.1),
    )
    give(g, op.add(op.mul(y, weight), bias))


@model("norm_layer", profile=SEQUENCES, batch="batch")
def layer(g: Graph) -> None:
    give(g, layer_norm(g, "norm", sequence(g), WIDTH))


@model("norm_layer_parts", profile=SEQUENCES, batch="batch")
def parts(g: Graph) -> None:
    """Layer normalization in its parts, as exporters write it before opset 17."""
    x = sequence(g)
    centred = op.sub(x, op.reduce_mean(x, axes=(-1,)))
    variance = op.reduce_mean(op.pow(centred, g.constant(2.0)), axes=(-1,))
    y = op.div(centred, op.sqrt(op.add(variance, g.constant(1e-5))))
    give(g, op.add(op.mul(y, g.weight("norm.weight", (WIDTH,), 0.1, mean=1.0)), g.weight("norm.bias", (WIDTH,), 0.1)))


@model("norm_rms", profile=SEQUENCES, batch="batch")
def rms(g: Graph) -> None:
    give(g, rms_norm(g, "norm", sequence(g), WIDTH))


def rms_norm(g: Graph, name: str, x: Var, width: int) -> Var:
    """``x`` over its root mean square along the last axis, times a weight."""
    square = op.reduce_mean(op.mul(x, x), axes=(-1,))
    y = op.mul(x, op.reciprocal(op.sqrt(op.add(square, g.constant(1e-5)))))
    return op.mul(y, g.weight(f"{name}.weight", (width,), 0.1, mean=1.0))


MODELS = batch + instance + group + layer + parts + rms
