"""Data moved and nothing computed: transpose, concat, split, pad, tile, depth and space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph


@model("movement", profile={"batch": (1, 2, 4), "width": (4, 6, 8)}, batch="batch", special=True)
def movement(g: Graph) -> None:
    x = g.input("x", ("batch", 8, 6, "width"))
    left, right = op.split(x, g.ints(3, 5), outputs_count=2, axis=1)
    g.output("transposed", op.transpose(x, perm=(0, 3, 1, 2)), ("batch", "width", 8, 6))
    g.output("left", left, ("batch", 3, 6, "width"))
    g.output("swapped", op.concat((right, left), axis=1), ("batch", 8, 6, "width"))
    g.output("backwards", op.slice(x, g.ints(-1), g.ints(-100), g.ints(2), g.ints(-1)), ("batch", 8, 6, "width"))
    g.output("every_other", op.slice(x, g.ints(1), g.ints(8), g.ints(1), g.ints(2)), ("batch", 4, 6, "width"))
    g.output("tiled", op.tile(x, g.ints(1, 2, 1, 1)), ("batch", 16, 6, "width"))
    g.output("flat", op.flatten(op.transpose(x, perm=(0, 3, 1, 2)), axis=2))
    for mode in ("constant", "reflect", "edge"):
        fill = g.constant(0.5) if mode == "constant" else None
        padded = op.pad(x, g.ints(0, 0, 1, 0, 0, 0, 2, 0), fill, mode=mode)
        g.output(f"padded_{mode}", padded, ("batch", 8, 9, "width"))
    g.output("space", op.depth_to_space(x, blocksize=2, mode="CRD"))
    g.output("depth", op.space_to_depth(op.transpose(x, perm=(0, 3, 1, 2)), blocksize=2))


MODELS = movement
