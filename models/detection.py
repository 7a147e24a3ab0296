"""A one-stage detector: boxes from anchors, class scores, and non-maximum suppression at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocks import RELU, conv
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

IMAGE, CLASSES = 64, 4
CELLS = IMAGE // 8  # along each side, after three strides of two
SIDES = (0.2, 0.4)  # of the square anchors at each cell; all coordinates are shares of the image


@model("detection", profile={"batch": (1, 2, 4)}, tags=("data_dependent",), tiny={"channels": 16})
def detection(g: Graph, *, channels: int) -> None:
    x = g.input("image", ("batch", 3, IMAGE, IMAGE))
    for stage, (inner, outer) in enumerate(((3, channels), (channels, 2 * channels), (2 * channels, 2 * channels))):
        x = op.relu(conv(g, f"conv{stage}", x, inner, outer, 3, stride=2, gain=RELU if stage else 1.0))
    count = len(SIDES)
    deltas = flat(g, conv(g, "boxes", x, 2 * channels, 4 * count, 1, gain=RELU), 4)
    scores = op.sigmoid(
        op.transpose(
            flat(g, conv(g, "classes", x, 2 * channels, CLASSES * count, 1, gain=RELU), CLASSES), perm=(0, 2, 1)
        )
    )

    places = [(row, column, side) for row in range(CELLS) for column in range(CELLS) for side in SIDES]
    centres = [[(row + 0.5) / CELLS, (column + 0.5) / CELLS] for row, column, _ in places]
    sides = g.initializer("anchors.side", [[side, side] for *_, side in places], "float32")
    shift, growth = op.split(deltas, g.ints(2, 2), outputs_count=2, axis=-1)
    middle = op.add(g.initializer("anchors.centre", centres, "float32"), op.mul(shift, sides))
    half = op.mul(op.exp(op.mul(growth, g.constant(0.2))), op.mul(sides, g.constant(0.5)))
    boxes = op.concat((op.sub(middle, half), op.add(middle, half)), axis=-1)  # top, left, bottom, right
    boxes = op.clip(boxes, g.constant(0.0), g.constant(1.0))

    kept = op.non_max_suppression(
        boxes, scores, g.constant(5, "int64"), g.constant(0.5), g.constant(0.6)
    )  # [kept, (batch, class, box)]
    place = op.concat((column(g, kept, 0), column(g, kept, 2)), axis=1)
    g.output("boxes", boxes, ("batch", count * CELLS**2, 4))
    g.output("scores", scores, ("batch", CLASSES, count * CELLS**2))
    g.output("kept", kept, ("kept", 3))
    g.output("kept_boxes", op.gather_nd(boxes, place), ("kept", 4))


def flat(g: Graph, x: Var, size: int) -> Var:
    """[batch, size * anchors, height, width] to [batch, height * width * anchors, size]."""
    return op.reshape(op.transpose(x, perm=(0, 2, 3, 1)), g.ints(0, -1, size))


def column(g: Graph, x: Var, index: int) -> Var:
    return op.slice(x, g.ints(index), g.ints(index + 1), g.ints(1))


MODELS = detection
