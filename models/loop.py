"""Loop: as often as a sequence is long, as often as an input says, and while a condition holds.

Trip counts, conditions and step numbers are vectors of one element, as spox types them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.spec import InputRule, Values

from .blocks import linear
from .declare import model
from .operators import op

if TYPE_CHECKING:
    from spox import Var

    from .authoring import Graph

WIDTH = 32


def recurrence(g: Graph) -> Var:
    return g.weight("recurrent.weight", (WIDTH, WIDTH), 1.5 * WIDTH**-0.5)


@model("loop_scan", profile={"seq": (1, 6, 12), "batch": (1, 2, 4)}, batch="batch")
def scan(g: Graph) -> None:
    """A recurrent layer spelled out: the state is carried, each step's output collected."""
    x, h = g.input("x", ("seq", "batch", WIDTH)), g.input("h", ("batch", WIDTH))
    x, w = linear(g, "inner", x, WIDTH, WIDTH), recurrence(g)
    true = g.constant([True], "bool")

    def step(i: Var, _: Var, state: Var) -> list[Var]:
        state = op.tanh(op.add(op.squeeze(op.gather(x, i), g.ints(0)), op.matmul(state, w)))
        return [op.identity(true), state, state]

    last, every = op.loop(g.size(x, 0), true, (h,), body=step)
    g.output("last", last, ("batch", WIDTH))
    g.output("every", every, ("seq", "batch", WIDTH))


@model(
    "loop_count",
    profile={"batch": (1, 2, 4)},
    values={"steps": Values((1,), (3,), (6,))},
    batch="batch",
    tags=("shape_tensor",),
)
def count(g: Graph) -> None:
    """The number of steps is an input."""
    x, steps = g.input("x", ("batch", WIDTH)), g.input("steps", (1,), "int64")
    x, w = linear(g, "inner", x, WIDTH, WIDTH), recurrence(g)
    true = g.constant([True], "bool")

    def step(_: Var, __: Var, state: Var) -> list[Var]:
        return [op.identity(true), op.tanh(op.add(x, op.matmul(state, w)))]

    (last,) = op.loop(steps, true, (x,), body=step)
    g.output("y", last, ("batch", WIDTH))


@model(
    "loop_while",
    profile={"batch": (1, 2, 4)},
    inputs=(InputRule("fuel", "integers", low=1, high=20),),
    batch="batch",
)
def condition(g: Graph) -> None:
    """Burns fuel while there is enough for another step; the condition is of integers, so no rounding turns it."""
    x, fuel = g.input("x", ("batch", WIDTH)), g.input("fuel", (1,), "int32")
    x, w = linear(g, "inner", x, WIDTH, WIDTH), recurrence(g)
    price = g.constant([3], "int32")

    def step(_: Var, __: Var, left: Var, state: Var) -> list[Var]:
        left = op.sub(left, price)
        return [op.greater_or_equal(left, price), left, op.tanh(op.add(x, op.matmul(state, w)))]

    start = op.greater_or_equal(fuel, price)
    left, state = op.loop(None, start, (fuel, x), body=step)
    g.output("left", left, (1,))
    g.output("y", state, ("batch", WIDTH))


MODELS = scan + count + condition
