"""Gather, scatter and embedding: reading and writing where integers say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.spec import InputRule

from .blocks import linear
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph

ROWS, WIDTH = 8, 16
WHERE = InputRule("where", "integers", low=0, high=ROWS - 1)


@model(
    "embedding",
    profile={"batch": (1, 4, 8), "bag": (1, 4, 8)},
    batch="batch",
    inputs=(
        InputRule("ids", "integers", low=0, high=999),
        InputRule("kinds", "integers", low=-4, high=3),
        InputRule("mask", "mask"),
    ),
    tiny={"vocabulary": 1000, "width": 32},
)
def embedding(g: Graph, *, vocabulary: int, width: int) -> None:
    """Recommender style: bags of ids summed under a mask, one id counted from the end, dense features beside."""
    ids, kinds = g.input("ids", ("batch", "bag"), "int64"), g.input("kinds", ("batch",), "int32")
    mask, dense = g.input("mask", ("batch", "bag"), "float32"), g.input("dense", ("batch", width))
    bag = op.mul(op.gather(g.weight("ids.weight", (vocabulary, width), 0.5), ids), op.unsqueeze(mask, g.ints(2)))
    summed = op.reduce_sum(bag, g.ints(1), keepdims=0)
    kind = op.gather(g.weight("kinds.weight", (4, width), 1.0), kinds, axis=0)
    features = op.concat([op.unsqueeze(each, g.ints(1)) for each in (summed, kind, dense)], axis=1)
    features = op.mul(features, g.constant(width**-0.5))
    pairs = op.flatten(op.matmul(features, op.transpose(features, perm=(0, 2, 1))))  # [batch, 3 * 3]
    g.output("score", linear(g, "head", op.concat((dense, pairs), axis=1), width + 9, 1), ("batch", 1))


@model("gather", profile={"batch": (1, 2, 4)}, batch="batch", inputs=(WHERE,))
def gather(g: Graph) -> None:
    x, where = g.input("x", ("batch", ROWS, WIDTH)), g.input("where", ("batch", 3), "int64")
    x = linear(g, "fc", x, WIDTH, WIDTH)
    wide = op.expand(op.unsqueeze(where, g.ints(2)), g.ints(1, 1, WIDTH))
    g.output("columns", op.gather(x, g.constant((0, -1, 5, 5), "int64"), axis=2), ("batch", ROWS, 4))
    g.output("elements", op.gather_elements(x, wide, axis=1), ("batch", 3, WIDTH))
    g.output("rows", op.gather_nd(x, op.unsqueeze(where, g.ints(2)), batch_dims=1), ("batch", 3, WIDTH))


@model("scatter", profile={"batch": (1, 2, 4)}, batch="batch", inputs=(WHERE,))
def scatter(g: Graph) -> None:
    """No place is written twice: the order of two writes is nowhere defined."""
    x, where = g.input("x", ("batch", ROWS, WIDTH)), g.input("where", ("batch", 1), "int64")
    new = linear(g, "fc", g.input("new", ("batch", 3, WIDTH)), WIDTH, WIDTH)
    places = op.mod(op.add(where, g.constant((0, 2, 5), "int64")), g.constant(ROWS, "int64"))  # [batch, 3], distinct
    wide = op.expand(op.unsqueeze(places, g.ints(2)), g.ints(1, 1, WIDTH))
    g.output("elements", op.scatter_elements(x, wide, new, axis=1), ("batch", ROWS, WIDTH))

    rows = op.range(g.constant(0, "int64"), op.squeeze(g.size(x, 0)), g.constant(1, "int64"))
    pair = op.concat((op.unsqueeze(rows, g.ints(1)), where), axis=1)  # [batch, (row, place)]
    first = op.squeeze(op.slice(new, g.ints(0), g.ints(1), g.ints(1)), g.ints(1))
    g.output("rows", op.scatter_nd(x, pair, first), ("batch", ROWS, WIDTH))


@model("one_hot", profile={"batch": (1, 4, 8)}, batch="batch", inputs=(InputRule("ids", "integers", low=0, high=15),))
def one_hot(g: Graph) -> None:
    ids = g.input("ids", ("batch", 5), "int64")
    hot = op.one_hot(ids, g.constant(16, "int64"), g.constant((0.0, 1.0)), axis=-1)
    g.output("y", op.matmul(hot, g.weight("table.weight", (16, WIDTH), 1.0)), ("batch", 5, WIDTH))


MODELS = embedding + gather + scatter + one_hot
