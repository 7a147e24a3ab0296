"""What a model's inputs may hold, read off its graph.

Random ids outside a Gather's range make onnxruntime raise and TensorRT read garbage; a mask that
hides everything makes a softmax divide by zero. So each input is followed, through operators that
only move or cast it, to the operators that give it a meaning.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.judge.graph import CARRY, Flow, Node, flow
from harness.judge.provenance import FLOATS
from harness.spec.data import Kind
from harness.spec.tensor import Dim


@dataclass(frozen=True)
class Found:
    """What one input may hold, and the operator that says so.

    ``low`` and ``high`` (None: no more than ``low``) are inclusive; ``sizes`` are dimensions, numbers or
    symbols that go by the binding: integers stay below every one of them, lengths reach the least.
    ``distinct`` is the axis along which no value may come twice, since a scatter that writes one place
    twice has no defined result. ``tuples`` says that the last axis holds one index for each of ``sizes``.
    """

    kind: Kind
    reason: str
    low: float = 0.0
    high: float | None = None
    sizes: tuple[Dim, ...] = ()
    distinct: int | None = None
    tuples: bool = False


def infer(path: Path) -> Mapping[str, Found]:
    """What the graph says of its inputs, by name; an input that it says nothing of is left out."""
    return read(path)[0]


def _infer(graph: Flow) -> Mapping[str, Found]:
    found = {}
    for name in graph.inputs:
        merged = _merged(list(_uses(graph, name)))
        if merged is not None:
            found[name] = merged
    return found


def shape_tensors(path: Path) -> frozenset[str]:
    """Integer inputs whose contents decide shapes, so that a profile has to give them values."""
    return read(path)[1]


def read(path: Path) -> tuple[Mapping[str, Found], frozenset[str]]:
    """What `infer` and what `shape_tensors` says, for one look at the file."""
    return _read(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _read(path: Path, _modified: int) -> tuple[Mapping[str, Found], frozenset[str]]:
    graph = flow(path)
    return _infer(graph), _shape_tensors(graph)


def _shape_tensors(graph: Flow) -> frozenset[str]:
    return frozenset(
        name
        for name in graph.inputs
        if graph.dtype.get(name) in _INTEGERS
        and any((node.op, index) in _SHAPE_POSITIONS for _, node, index in _reached(graph, name, _ARITHMETIC))
    )


_INTEGERS = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})
# operators that hand on the elements of these inputs as they are
_MOVES = frozenset(
    {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand", "Slice", "Concat"}
    | {"Tile", "Split", "Gather", CARRY}
)
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Min", "Max", "Neg", "Abs", "Floor", "Ceil"})
# what leads from a mask to the scores that it hides
_MASKING = frozenset({"Not", "And", "Or", "Equal", "Sub", "Mul", "Add", "Where", "Greater", "Less", "GreaterOrEqual"})
_FIRST_ONLY = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Expand", "Slice", "Tile", "Split", "Gather"})
_SHAPE_POSITIONS = frozenset(
    {
        ("Reshape", 1),
        ("Expand", 1),
        ("Tile", 1),
        ("ConstantOfShape", 0),
        ("Range", 0),
        ("Range", 1),
        ("Range", 2),
        ("Slice", 1),
        ("Slice", 2),
        ("Slice", 4),
        ("Pad", 1),
        ("Split", 1),
        ("Resize", 3),
        ("TopK", 1),
        ("Squeeze", 1),
        ("Unsqueeze", 1),
    }
)
# float operators that are defined on a part of the line only: (operator, input) -> [low, high]
_DOMAINS: Mapping[tuple[str, int], tuple[float, float]] = {
    ("Sqrt", 0): (0.0, 4.0),
    ("Log", 0): (0.1, 4.0),
    ("Reciprocal", 0): (0.5, 2.0),
    ("Div", 1): (0.5, 2.0),
    ("Mod", 1): (0.5, 2.0),
    ("Pow", 0): (0.1, 2.0),
    ("Acos", 0): (-1.0, 1.0),
    ("Asin", 0): (-1.0, 1.0),
    ("Atanh", 0): (-0.9, 0.9),
    ("Acosh", 0): (1.0, 4.0),
    ("BatchNormalization", 4): (0.5, 2.0),  # a variance
    ("NonMaxSuppression", 0): (0.0, 1.0),
    ("NonMaxSuppression", 1): (0.0, 1.0),
    ("RoiAlign", 1): (0.0, 4.0),
    ("Bernoulli", 0): (0.0, 1.0),
}


def _uses(graph: Flow, name: str) -> Iterator[Found]:
    dtype = graph.dtype.get(name, "")
    integer = dtype in _INTEGERS
    if (integer or dtype == "bool") and _masks(graph, name):
        yield Found("mask", "a mask: it reaches a Softmax through logic alone")
    elif dtype in FLOATS and "mask" in name.lower() and _masks(graph, name):
        yield Found("mask", "a mask by its name, and it reaches a Softmax through logic alone")
    for value, node, index in _reached(graph, name):
        if integer:
            found = _index_use(graph, value, node, index)
            if found is not None:
                yield found
        elif (node.op, index) in _DOMAINS and dtype in FLOATS and not _whole_exponent(graph, node):
            low, high = _DOMAINS[node.op, index]
            yield Found("uniform", f"{node.op} {node.name!r} is defined there", low, high)


def _index_use(graph: Flow, value: str, node: Node, index: int) -> Found | None:
    """What ``node`` demands of the integers it takes as input ``index``."""
    where = f"{node.op} {node.name!r}"
    position = (node.op, index)
    if position in (("Gather", 1), ("GatherElements", 1), ("ScatterElements", 1)):
        axis = int(node.attributes.get("axis", 0))
        size = _size(graph, node.input(0), axis)
        reason = f"ids under {where}, whose axis {axis} has {size} places"
        # what is read twice does no harm, what is written twice has no defined result
        distinct = axis if node.op == "ScatterElements" and _overwrites(node) else None
        return Found("integers", reason, sizes=_known(size), distinct=distinct)
    if position in (("GatherND", 1), ("ScatterND", 1)):
        shape, batch = graph.shape.get(node.input(0), ()), int(node.attributes.get("batch_dims", 0))
        width = graph.shape.get(value, (None,))[-1:]
        count = width[0] if width and isinstance(width[0], int) else len(shape) - batch
        sizes = _known(*shape[batch : batch + count])
        reason = f"places under {where} in a tensor of shape {list(shape)}"
        distinct = -1 if node.op == "ScatterND" and _overwrites(node) else None
        return Found("integers", reason, sizes=sizes, tuples=True, distinct=distinct)
    if position == ("OneHot", 0):
        depth = graph.constant(node.input(1))
        size = None if depth is None else int(depth.reshape(-1)[0])
        return Found("integers", f"ids under {where} of depth {size}", sizes=_known(size))
    if position in (("LSTM", 4), ("GRU", 4), ("RNN", 4)):
        return _lengths(_size(graph, node.input(0), int(node.attributes.get("layout", 0))), where)
    if position == ("ReverseSequence", 1):
        return _lengths(_size(graph, node.input(0), int(node.attributes.get("time_axis", 0))), where)
    if node.op in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual") and index < 2:
        steps = graph.producer.get(_source(graph, node.input(1 - index)))
        if steps is not None and steps.op == "Range":
            return _lengths(_measured(graph, steps.input(1)), f"{where} with a Range")
    if position == (CARRY, 0) and graph.shape.get(value) in ((), (1,)):
        return Found("integers", f"how often {node.name!r} goes round", low=1, high=4)
    if node.op in ("Div", "Mod") and index == 1:
        return Found("integers", f"divisor of {where}", low=1, high=100)
    if position == ("BitShift", 1):
        return Found("integers", f"bits to shift in {where}", low=0, high=7)
    if position == ("TopK", 1):
        size = _size(graph, node.input(0), int(node.attributes.get("axis", -1)))
        return Found("integers", f"how many {where} picks", low=1, high=size if isinstance(size, int) else 1)
    return None


def _merged(found: list[Found]) -> Found | None:
    """One rule that meets them all: an id that two tables look up must be in both."""
    if not found:
        return None
    merged = next((item for item in found if item.kind == "mask"), found[0])
    for other in found:
        if other.kind != merged.kind or other == merged:
            continue
        highs = [high for high in (merged.high, other.high) if high is not None]
        merged = replace(
            merged,
            low=max(merged.low, other.low),
            high=min(highs, default=None),
            sizes=tuple(dict.fromkeys((*merged.sizes, *other.sizes))),
            distinct=other.distinct if merged.distinct is None else merged.distinct,
            reason=f"{merged.reason}; {other.reason}",
        )
    return merged


def _moves(node: Node, index: int) -> bool:
    """Whether ``node`` hands on the elements of input ``index`` as they are."""
    if node.op == "Where":
        return index > 0
    return node.op in _MOVES and not (node.op in _FIRST_ONLY and index > 0)


def _reached(graph: Flow, name: str, also: frozenset[str] = frozenset()) -> Iterator[tuple[str, Node, int]]:
    """(value, operator, input index) for all that takes ``name``, moved or passed through operators in ``also``."""
    seen, queue = {name}, [name]
    while queue:
        value = queue.pop(0)
        for node, index in graph.consumers.get(value, ()):
            yield value, node, index
            if _moves(node, index) or node.op in also:
                fresh = [output for output in node.outputs if output and output not in seen]
                seen.update(fresh)
                queue += fresh


def _masks(graph: Flow, name: str) -> bool:
    """Whether the input decides, through moves, logic and sums, what a Softmax attends to."""
    return any(node.op == "Softmax" for _, node, _ in _reached(graph, name, _MASKING))


def _overwrites(node: Node) -> bool:
    return bool(node.attributes.get("reduction", b"none") == b"none")


def _lengths(size: Dim | None, where: str) -> Found:
    return Found("lengths", f"lengths under {where}, at most {size}", low=1, sizes=_known(size))


def _known(*sizes: Dim | None) -> tuple[Dim, ...]:
    return tuple(size for size in sizes if size is not None)


def _size(graph: Flow, value: str, axis: int) -> Dim | None:
    shape = graph.shape.get(value, ())
    return shape[axis] if -len(shape) <= axis < len(shape) else None


def _source(graph: Flow, value: str) -> str:
    """Back through what only moves or casts."""
    while (node := graph.producer.get(value)) is not None and node.op in _FIRST_ONLY | {"Identity", "Cast"}:
        value = node.input(0)
    return value


def _measured(graph: Flow, value: str) -> Dim | None:
    """The dimension that ``value``, a number taken from a Shape, stands for."""
    picked = 0
    while (node := graph.producer.get(value)) is not None:
        if node.op == "Shape":
            return _size(graph, node.input(0), picked + int(node.attributes.get("start", 0)))
        if node.op in ("Gather", "Slice"):
            index = graph.constant(node.input(1))
            if index is None:
                return None
            picked = int(np.reshape(index, -1)[0])
        elif node.op not in ("Squeeze", "Unsqueeze", "Cast", "Identity", "Reshape"):
            return None
        value = node.input(0)
    constant = graph.constant(value)
    return int(constant.reshape(-1)[0]) if constant is not None and constant.size == 1 else None


def _whole_exponent(graph: Flow, node: Node) -> bool:
    """Whether a Pow is defined everywhere, its exponent being a whole number."""
    if node.op != "Pow":
        return False
    exponent = graph.constant(node.input(1))
    return exponent is not None and bool((exponent == np.round(exponent)).all() and (exponent >= 0).all())
