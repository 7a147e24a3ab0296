"""Matrix products of every spelling: Gemm with its options, broadcast batches, vectors, Einsum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .declare import model
from .operators import op

if TYPE_CHECKING:
    from .authoring import Graph

WIDTH = 24


@model("matmul", profile={"batch": (1, 4, 8), "seq": (1, 6, 12)}, batch="batch")
def matmul(g: Graph) -> None:
    x, y = g.input("x", ("batch", WIDTH)), g.input("y", ("batch", "seq", WIDTH))
    std = WIDTH**-0.5
    gemm = op.gemm(
        x, g.weight("gemm.weight", (16, WIDTH), std), g.weight("gemm.bias", (16,), 0.5), alpha=0.8, beta=0.6, transB=1
    )
    g.output("gemm", gemm, ("batch", 16))
    g.output("vector", op.matmul(y, g.weight("vector.weight", (WIDTH,), std)), ("batch", "seq"))
    g.output(
        "row",
        op.matmul(op.unsqueeze(x, g.ints(1)), op.transpose(op.mul(y, g.constant(std)), perm=(0, 2, 1))),
        ("batch", 1, "seq"),
    )
    g.output(
        "stack",
        op.matmul(op.unsqueeze(y, g.ints(1)), g.weight("stack.weight", (3, WIDTH, 8), std)),
        ("batch", 3, "seq", 8),
    )
    g.output(
        "einsum",
        op.einsum((y, g.weight("einsum.weight", (4, WIDTH, 5), std)), equation="bsw,hwd->bhsd"),
        ("batch", 4, "seq", 5),
    )


MODELS = matmul
