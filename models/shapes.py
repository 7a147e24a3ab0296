"""Shapes that are computed: from the shapes of other tensors, or from inputs whose contents are sizes.

The second kind is what a profile's values are for. Every value between the bounds is a legal one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.spec import Values

from .blocks import linear
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph

WIDTH = 24


@model("reshape_like", profile={"batch": (1, 2, 4), "rows": (1, 4, 8), "keep": (1, 8, 16)}, batch="batch")
def like(g: Graph) -> None:
    """[batch, rows, width] to [batch * rows, width] and back, cut to the length of another input."""
    x, short = g.input("x", ("batch", "rows", WIDTH)), g.input("short", ("batch", "keep"))
    flat = linear(g, "fc", op.reshape(x, g.ints(-1, WIDTH)), WIDTH, WIDTH)
    back = op.reshape(flat, op.concat((op.slice(op.shape(x), g.ints(0), g.ints(-1)), g.ints(WIDTH)), axis=0))
    cut = op.slice(back, g.ints(0), g.size(short, 1), g.ints(2))
    g.output("y", op.add(cut, op.unsqueeze(short, g.ints(1))), ("batch", "rows", "keep"))


@model(
    "reshape_values",
    profile={"batch": (1, 2, 4)},
    values={"shape": Values((1, 1), (3, 4), (4, 6))},
    batch="batch",
    tags=("shape_tensor",),
)
def reshape(g: Graph) -> None:
    """As many columns as ``shape`` has room for, folded into it."""
    x, shape = g.input("x", ("batch", WIDTH)), g.input("shape", (2,), "int64")
    x = linear(g, "fc", x, WIDTH, WIDTH)
    room = op.mul(op.slice(shape, g.ints(0), g.ints(1)), op.slice(shape, g.ints(1), g.ints(2)))
    folded = op.reshape(op.slice(x, g.ints(0), room, g.ints(1)), op.concat((g.size(x, 0), shape), axis=0))
    g.output("y", folded, ("batch", "high", "wide"))


@model(
    "slice_values",
    profile={"batch": (1, 2, 4)},
    values={"starts": Values((0, 0), (1, 2), (2, 3)), "ends": Values((3, 4), (5, 12), (8, WIDTH))},
    batch="batch",
    tags=("shape_tensor",),
)
def slices(g: Graph) -> None:
    x = linear(g, "fc", g.input("x", ("batch", 8, WIDTH)), WIDTH, WIDTH)
    starts, ends = g.input("starts", (2,), "int64"), g.input("ends", (2,), "int64")
    g.output("y", op.slice(x, starts, ends, g.ints(1, 2)), ("batch", "high", "wide"))


@model(
    "expand_values",
    profile={"batch": (1, 2, 4)},
    values={"copies": Values((1,), (3,), (8,))},
    batch="batch",
    tags=("shape_tensor",),
)
def expand(g: Graph) -> None:
    """Rows copied ``copies`` times, each with its number added."""
    x, copies = g.input("x", ("batch", WIDTH)), g.input("copies", (1,), "int64")
    x = op.unsqueeze(linear(g, "fc", x, WIDTH, WIDTH), g.ints(1))
    x = op.expand(x, op.concat((g.size(x, 0), copies, g.ints(WIDTH)), axis=0))
    numbers = op.range(g.constant(0, "int64"), op.squeeze(copies, g.ints(0)), g.constant(1, "int64"))
    number = op.mul(op.unsqueeze(op.cast(numbers, to="float32"), g.ints(0, 2)), g.constant(0.25))
    g.output("y", op.add(x, number), ("batch", "copies", WIDTH))


@model(
    "resize_values",
    profile={"batch": (1, 2, 4)},
    values={"size": Values((4, 4), (8, 12), (16, 16))},
    batch="batch",
    tags=("shape_tensor",),
)
def resize(g: Graph) -> None:
    """An image brought to the size that an input gives."""
    x, size = g.input("x", ("batch", 3, 8, 8)), g.input("size", (2,), "int64")
    sizes = op.concat((g.size(x, 0), g.ints(3), size), axis=0)
    y = op.resize(x, sizes=sizes, mode="linear", coordinate_transformation_mode="half_pixel")
    g.output("y", y, ("batch", 3, "high", "wide"))


@model("empty", profile={"batch": (1, 2, 4), "past": (0, 4, 8)}, batch="batch", tags=("weak:total",))
def empty(g: Graph) -> None:
    """A dimension that may be zero: what comes first is the new part alone."""
    past, x = g.input("past", ("batch", "past", WIDTH)), g.input("x", ("batch", 1, WIDTH))
    joined = op.concat((past, linear(g, "fc", x, WIDTH, WIDTH)), axis=1)
    g.output("joined", joined, ("batch", "past+1", WIDTH))
    g.output("past_out", op.mul(past, g.constant(2.0)), ("batch", "past", WIDTH))
    g.output("total", op.reduce_sum(past, g.ints(1), keepdims=0), ("batch", WIDTH))


MODELS = like + reshape + slices + expand + resize + empty
