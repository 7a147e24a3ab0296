"""Attention alone, over the head sizes at which kernels change: aligned, odd, large."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .blocks import attend
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph

HEADS = 2


def author(g: Graph, *, dim: int) -> None:
    """Queries and keys of different lengths; heads come first and go last, as kernels take them."""
    q = g.input("q", ("batch", HEADS, "queries", dim))
    k, v = g.input("k", ("batch", HEADS, "keys", dim)), g.input("v", ("batch", HEADS, "keys", dim))
    # An average over keys is small; the projection gives it back its size.
    y = op.matmul(attend(g, q, k, v, dim), g.weight("out.weight", (dim, dim), 2 * dim**-0.5))
    g.output("y", y, ("batch", HEADS, "queries", dim))


MODELS = tuple(
    spec
    for dim in (8, 9, 40, 64, 128)
    for spec in model(
        f"attention_{dim}",
        profile={"batch": (1, 2, 4), "queries": (1, 8, 16), "keys": (1, 16, 32)},
        batch="batch",
        tiny={"dim": dim},
    )(author)
)
