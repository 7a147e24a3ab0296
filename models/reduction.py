"""Reductions of every kind, over every axis and set of axes; softmax over every axis; running sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

SHAPE: tuple[int | str, ...] = ("rows", 3, 5, 7)
ROWS = {"rows": (1, 4, 8)}


def less(axes: tuple[int, ...], keep: bool) -> tuple[int | str, ...]:
    """`SHAPE` reduced over ``axes``."""
    gone = {axis % 4 for axis in axes}
    return tuple(1 if axis in gone else size for axis, size in enumerate(SHAPE) if keep or axis not in gone)


@model("reduce_axes", profile=ROWS)
def over_axes(g: Graph) -> None:
    """Sums over each axis, pairs, and all; scaled to variance one."""
    x = g.input("x", SHAPE)
    sizes = (4, 3, 5, 7)
    for axes in ((0,), (1,), (2,), (3,), (-1, 1), (0, 2), (1, 2, 3), (0, 1, 2, 3)):
        for keep in (False, True):
            count = 1
            for axis in axes:
                count *= sizes[axis]
            total = op.reduce_sum(x, g.ints(*axes), keepdims=int(keep))
            name = "_".join(str(axis % 4) for axis in sorted(axis % 4 for axis in axes))
            g.output(f"sum_{name}{'_keep' if keep else ''}", op.mul(total, g.constant(count**-0.5)), less(axes, keep))


@model("reduce_kinds", profile={"batch": (1, 4, 8)}, batch="batch")
def kinds(g: Graph) -> None:
    """Every reduction that there is, over the last axes."""
    x = g.input("x", ("batch", 6, 8))
    outputs: dict[str, Var] = {
        "mean": op.reduce_mean(x, axes=(2,), keepdims=0),
        "max": op.reduce_max(x, axes=(2,), keepdims=0),
        "min": op.reduce_min(x, axes=(2,), keepdims=0),
        "l1": op.reduce_l1(x, axes=(2,), keepdims=0),
        "l2": op.reduce_l2(x, axes=(2,), keepdims=0),
        "log_sum": op.reduce_log_sum(op.abs(x), axes=(2,), keepdims=0),
        "log_sum_exp": op.reduce_log_sum_exp(x, axes=(2,), keepdims=0),
        "sum_square": op.reduce_sum_square(x, axes=(2,), keepdims=0),
        # Eight factors near one: of eight normal ones the product would be near zero.
        "prod": op.reduce_prod(op.add(op.mul(x, g.constant(0.25)), g.constant(1.0)), axes=(2,), keepdims=0),
    }
    for name, value in outputs.items():
        g.output(name, value, ("batch", 6))
    g.output("arg_max", op.arg_max(x, axis=2, keepdims=0), ("batch", 6))
    g.output("arg_min", op.arg_min(x, axis=1), ("batch", 1, 8))


@model("softmax_axes", profile=ROWS, tags=("weak:softmax_0", "weak:log_softmax_0"))
def softmax(g: Graph) -> None:
    """Softmax and its logarithm over each axis, of scores wide enough to matter.

    At min there is one row, whose share of the rows is one.
    """
    x = op.mul(g.input("x", SHAPE), g.constant(2.0))
    for axis in (0, 1, 2, -1):
        g.output(f"softmax_{axis % 4}", op.softmax(x, axis=axis), SHAPE)
        g.output(f"log_softmax_{axis % 4}", op.log_softmax(x, axis=axis), SHAPE)


@model("cumulative", profile={"batch": (1, 4, 8)}, batch="batch")
def cumulative(g: Graph) -> None:
    x = g.input("x", ("batch", 5, 6))
    g.output("forward", op.cum_sum(x, g.constant(1, "int64")), ("batch", 5, 6))
    g.output("backward", op.cum_sum(x, g.constant(2, "int64"), reverse=1, exclusive=1), ("batch", 5, 6))


MODELS = over_axes + kinds + softmax + cumulative
