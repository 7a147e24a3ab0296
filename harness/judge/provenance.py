"""How each output of a model came about, and therefore how it must be judged.

An output computed from integers and booleans alone is exact. Floats round. And some integers and
booleans were *decided* by comparing floats: an honest engine of lower precision decides otherwise
where the floats lie close together, so such an output is judged by the floats behind it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.judge.graph import CARRY, Flow, Node
from harness.judge.suppression import Suppression


class Kind(str, enum.Enum):
    """How an output is judged."""

    EXACT = "exact"  # from integers and booleans alone: every element equal
    FLOAT = "float"  # within a tolerance
    SELECTED = "selected"  # indices that pick floats (TopK, ArgMax, ArgMin): by the values they pick
    FOUND = "found"  # coordinates where floats meet a condition (NonZero): by how clearly they meet it
    KEPT = "kept"  # boxes that NonMaxSuppression kept: by their scores
    DECIDED = "decided"  # other integers and booleans that floats decided: by the floats compared


@dataclass(frozen=True)
class Layout:
    """One step from the indices that an operator gave to the output that shows them."""

    op: str  # "reshape" or "transpose"
    permutation: tuple[int, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What decided an output.

    ``raw`` is the tensor as the operator gave it and ``layout`` the steps from there to the output.
    ``values`` holds what the indices pick (SELECTED), the scores (KEPT) or nothing; ``compared`` the
    pairs of floats that were compared (FOUND, DECIDED), the second "" where it is zero.
    """

    operator: str
    node: str
    raw: str
    layout: tuple[Layout, ...] = ()
    values: str = ""
    compared: tuple[tuple[str, str], ...] = ()
    axis: int = 0
    keepdims: bool = True
    ordered: bool = True  # False where the operator leaves the order of what it picks open
    suppression: Suppression | None = None  # KEPT, where the limits stand in the model

    @property
    def tensors(self) -> tuple[str, ...]:
        """Everything that must be seen to judge it."""
        pairs = [value for pair in self.compared for value in pair]
        boxes = self.suppression.boxes if self.suppression else ""
        return tuple(dict.fromkeys(value for value in (self.raw, self.values, boxes, *pairs) if value))


@dataclass(frozen=True)
class Origin:
    """Where an output comes from.

    ``depth`` is the number of operators that round on the longest way to it, a loop counted as
    `ROUNDS` of its body. ``follows`` names operators whose choices reach it.
    """

    kind: Kind
    constant: bool = False  # no input's contents reach it
    quantized: bool = False  # values that were rounded to a grid reach it
    depth: int = 1
    choice: Choice | None = None
    follows: tuple[str, ...] = ()


FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
CHOOSERS = frozenset({"TopK", "ArgMax", "ArgMin", "NonZero", "NonMaxSuppression", "Unique"})
COMPARISONS = frozenset({"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"})
QUANTIZERS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})
ROUNDS = 4
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_STEPS = 64  # what a recurrent operator counts for: 16 steps of 4 roundings in a row; older errors its gates forget
_EXACT = frozenset(  # operators that move, pick or negate, and so don't round
    {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand", "Slice", "Concat", "Tile"}
    | {"Split", "Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements", "Where", "Pad", "Shape", "Size"}
    | {"Relu", "MaxPool", "GlobalMaxPool", "Max", "Min", "Clip", "Neg", "Abs", "ReduceMax", "ReduceMin", "TopK", CARRY}
    | {"ArgMax", "ArgMin", "NonZero", "NonMaxSuppression", "Dropout", "DepthToSpace", "SpaceToDepth"}
)
_SHAPE_ONLY = frozenset({"Shape", "Size"})  # what comes out depends on the shape of what goes in
_SAME = frozenset({"Identity", "Cast"})
_RESHAPES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_LOGIC = frozenset({"And", "Or", "Xor", "Not", "Identity", "Cast"})  # element by element, from bools to bools


def provenance(flow: Flow) -> dict[str, Origin]:
    """The origin of every output, by name."""
    taints, depths = _taints(flow), _depths(flow)
    return {
        output: replace(_origin(flow, output, taints), depth=max(1, depths.get(output, 1))) for output in flow.outputs
    }


@dataclass(frozen=True)
class _Taint:
    """What reached a value."""

    inputs: bool = False
    floats: bool = False
    quantized: bool = False
    counted: bool = False  # its very shape was decided by floats
    chosen: frozenset[str] = frozenset()

    def __or__(self, other: _Taint) -> _Taint:
        return _Taint(
            self.inputs or other.inputs,
            self.floats or other.floats,
            self.quantized or other.quantized,
            self.counted or other.counted,
            self.chosen | other.chosen,
        )


def _taints(flow: Flow) -> dict[str, _Taint]:
    """A fixed point, since loops make the flow cyclic; taints only grow, so it ends."""
    taints = {name: _Taint(inputs=True, floats=flow.dtype.get(name) in FLOATS) for name in flow.inputs}
    for name in flow.constants:
        taints[name] = _Taint(floats=flow.dtype.get(name) in FLOATS)
    none = _Taint()
    changed = True
    while changed:
        changed = False
        for node in flow.nodes:
            taint = none
            for value in node.inputs:
                taint |= taints.get(value, none)
            if node.op in _SHAPE_ONLY:
                taint = _Taint(inputs=taint.counted, floats=taint.counted, counted=taint.counted, chosen=taint.chosen)
            elif node.op in CHOOSERS and taints.get(node.input(0), none).floats:
                counts = node.op in ("NonZero", "NonMaxSuppression", "Unique")
                taint |= _Taint(floats=True, counted=counts, chosen=frozenset({_label(node)}))
            elif node.op in QUANTIZERS:
                taint |= _Taint(floats=True, quantized=True)
            for output in node.outputs:
                if output and taints.get(output, none) | taint != taints.get(output, none):
                    taints[output] = taints.get(output, none) | taint
                    changed = True
    return taints


def _depths(flow: Flow) -> dict[str, int]:
    """The number of roundings on the longest way to each value."""
    depths: dict[str, int] = {}
    for _ in range(ROUNDS):  # nodes are in order but for loops, where each pass goes round once more
        for node in flow.nodes:
            own = _STEPS if node.op in _RECURRENT else int(node.op not in _EXACT)
            depth = own + max((depths.get(value, 0) for value in node.inputs), default=0)
            for output in node.outputs:
                depths[output] = max(depth, depths.get(output, 0))
    return depths


def _label(node: Node) -> str:
    return f"{node.op} {node.name!r}" if node.name else node.op


def _origin(flow: Flow, output: str, taints: Mapping[str, _Taint]) -> Origin:
    taint = taints.get(output, _Taint())
    constant, quantized, follows = not taint.inputs, taint.quantized, tuple(sorted(taint.chosen))
    if flow.dtype.get(output) in FLOATS:
        return Origin(Kind.FLOAT, constant, quantized, follows=follows)
    raw, layout = _raw(flow, output)
    node = flow.producer.get(raw)
    kind, choice = _choice(flow, node, raw, layout) if node is not None else (Kind.EXACT, None)
    if choice is None and not taint.floats:
        return Origin(Kind.EXACT, constant, quantized)
    if choice is not None and not choice.values and not choice.compared:
        # a condition that no float entered: NonZero of integers
        kind, choice = (Kind.EXACT, None) if not taint.floats else (Kind.DECIDED, None)
    if kind is Kind.EXACT and taint.floats:
        kind = Kind.DECIDED
    return Origin(kind, constant, quantized, choice=choice, follows=follows)


def _raw(flow: Flow, output: str) -> tuple[str, tuple[Layout, ...]]:
    """Back through what only moves elements: the tensor as decided, and the steps from it to the output.

    It does not enter bodies, so that all a choice rests on can be made an output of the model.
    """
    steps: list[Layout] = []
    value = output
    while (node := flow.producer.get(value)) is not None:
        if node.op == "Cast" and flow.dtype.get(node.input(0)) in FLOATS:
            break
        if node.op in _RESHAPES:
            steps.append(Layout("reshape"))
        elif node.op == "Transpose":
            rank = len(flow.shape.get(value, ()))
            steps.append(Layout("transpose", tuple(node.attributes.get("perm", range(rank)[::-1]))))
        elif node.op not in _SAME:
            break
        value = node.input(0)
    return value, tuple(reversed(steps))


def _choice(flow: Flow, node: Node, raw: str, layout: tuple[Layout, ...]) -> tuple[Kind, Choice | None]:
    facts: dict[str, Any] = {"operator": node.op, "node": node.name, "raw": raw, "layout": layout}
    if node.op == "TopK" and node.outputs.index(raw) == 1:
        axis, ordered = int(node.attributes.get("axis", -1)), bool(node.attributes.get("sorted", 1))
        return Kind.SELECTED, Choice(**facts, values=node.input(0), axis=axis, ordered=ordered)
    if node.op in ("ArgMax", "ArgMin"):
        axis, keepdims = int(node.attributes.get("axis", 0)), bool(node.attributes.get("keepdims", 1))
        return Kind.SELECTED, Choice(**facts, values=node.input(0), axis=axis, keepdims=keepdims)
    if node.op == "NonMaxSuppression":
        return Kind.KEPT, Choice(**facts, values=node.input(1), suppression=_suppression(flow, node))
    if node.op == "NonZero":
        return Kind.FOUND, Choice(**facts, compared=_compared(flow, node.input(0)))
    if node.op != CARRY:
        compared = _compared(flow, raw)
        if compared:
            return Kind.DECIDED, Choice(**facts, compared=compared)
    return Kind.EXACT, None


def _suppression(flow: Flow, node: Node) -> Suppression | None:
    """None where a limit is computed as the model runs."""
    limits = [flow.constant(node.input(index)) if node.input(index) else np.zeros(()) for index in (2, 3)]
    least = flow.constant(node.input(4)) if node.input(4) else np.array(-np.inf)
    if least is None or any(limit is None for limit in limits):
        return None
    most, overlap, low = (float(np.reshape(limit, -1)[0]) for limit in (*limits, least) if limit is not None)
    return Suppression(node.input(0), int(most), overlap, low, bool(node.attributes.get("center_point_box", 0)))


def _compared(flow: Flow, value: str) -> tuple[tuple[str, str], ...]:
    """The pairs of floats whose comparison decides ``value``, element by element."""
    if flow.dtype.get(value) in FLOATS:
        return ((value, ""),)  # taken as a truth value
    pairs: list[tuple[str, str]] = []
    for current in flow.upstream(value, _LOGIC):
        node = flow.producer.get(current)
        if node is None or flow.dtype.get(node.input(0)) not in FLOATS:
            continue
        if node.op in COMPARISONS:
            pairs.append((node.input(0), node.input(1)))
        elif node.op == "Cast" and flow.dtype.get(current) == "bool":
            pairs.append((node.input(0), ""))
    return tuple(pairs)
