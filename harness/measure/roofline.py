"""The floor of a model: no run can be faster than its arithmetic and its traffic take at the device's own ceilings.

Williams, Waterman and Patterson, "Roofline" (2009). The ceilings are measured, by a canary bound by arithmetic and
one bound by memory, so that the floor is what this device can do today and not what its data sheet says. The
work is the least that is possible: products alone count as arithmetic, and every input, weight and output is moved
once, whatever lies between them. So a floor is never too high, and a ratio of time to floor far above that of other
models says where to look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from harness.errors import SpecError
from harness.spec.onnx_model import load

Shape = tuple[int, ...]
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
_GATHERS = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})  # read no more of a weight than they give


@dataclass(frozen=True)
class Work:
    """What one run has to do at least: floating-point operations, two a multiply-add, and bytes moved.

    ``uncounted`` are operators with products that could not be counted, by kind: their shapes are unknown
    before a run, or they are inside a loop or a branch. The floor leaves them out.
    """

    operations: int
    nbytes: int
    uncounted: Mapping[str, int]


@dataclass(frozen=True)
class Ceilings:
    """What the device was measured to do at best: operations a second at a precision, and bytes a second."""

    operations: float
    nbytes: float


def floor(work: Work, ceilings: Ceilings) -> float:
    """Seconds that a run takes at least."""
    return max(work.operations / ceilings.operations, work.nbytes / ceilings.nbytes)


def work_of(path: Path, shapes: Mapping[str, Shape], *, weight_bytes: int | None = None) -> Work:
    """The least work of the ONNX model at ``path`` with inputs of these ``shapes``.

    Tensors take what their types say; floating weights ``weight_bytes``, where a builder may narrow them.
    SpecError for shapes that do not fit the model.
    """
    model = _inferred(load(path), shapes)
    graph = model.graph
    known = {value.name: value for value in (*graph.input, *graph.output, *graph.value_info)}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    sizes = {name: _shape(value) for name, value in known.items()}
    sizes |= {name: tuple(tensor.dims) for name, tensor in weights.items()}
    operations, uncounted = 0, dict[str, int]()
    for node in graph.node:
        count = _PRODUCTS.get(node.op_type)
        try:
            operations += 0 if count is None else count(node, sizes)
        except KeyError:
            uncounted[node.op_type] = uncounted.get(node.op_type, 0) + 1
        for inner in _inside(node):
            uncounted[inner] = uncounted.get(inner, 0) + 1
    moved = sum(
        _nbytes(known[value.name].type.tensor_type.elem_type, sizes[value.name] or ())
        for value in (*graph.input, *graph.output)
        if value.name not in weights
    )
    moved += sum(_read(name, tensor, graph, sizes, weight_bytes) for name, tensor in weights.items())
    return Work(operations, moved, uncounted)


def _inferred(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> onnx.ModelProto:
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        given = shapes.get(value.name)
        if given is None:
            continue
        if len(given) != len(dims):
            raise SpecError(f"input {value.name!r} has {len(dims)} dimensions, and is given {list(given)}")
        for dim, size in zip(dims, given, strict=True):
            dim.dim_value = size
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise SpecError(f"shapes {dict(shapes)} do not fit the model: {error}") from None


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    kind = value.type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
    return tuple(sizes) if kind.HasField("shape") and -1 not in sizes else None


def _of(name: str, sizes: Mapping[str, Shape | None]) -> Shape:
    """KeyError where it is not known."""
    found = sizes[name]
    if found is None:
        raise KeyError(name)
    return found


def _product(node: onnx.NodeProto, sizes: Mapping[str, Shape | None]) -> int:
    """MatMul: a multiply-add for each element of the result and each of the axis that is summed over."""
    return 2 * math.prod(_of(node.output[0], sizes)) * _of(node.input[0], sizes)[-1]


def _gemm(node: onnx.NodeProto, sizes: Mapping[str, Shape | None]) -> int:
    turned = _attributes(node).get("transA", 0)
    return 2 * math.prod(_of(node.output[0], sizes)) * _of(node.input[0], sizes)[0 if turned else 1]


def _convolution(node: onnx.NodeProto, sizes: Mapping[str, Shape | None]) -> int:
    """The kernel, [out, in / groups, ...], at each place of the output."""
    return 2 * math.prod(_of(node.output[0], sizes)) * math.prod(_of(node.input[1], sizes)[1:])


def _transposed(node: onnx.NodeProto, sizes: Mapping[str, Shape | None]) -> int:
    """The kernel, [in, out / groups, ...], at each place of the input."""
    return 2 * math.prod(_of(node.input[0], sizes)) * math.prod(_of(node.input[1], sizes)[1:])


def _recurrence(node: onnx.NodeProto, sizes: Mapping[str, Shape | None]) -> int:
    """Both weights, [directions, gates, ...], at each step of each sequence: [steps, batch, ...]."""
    steps, batch, _ = _of(node.input[0], sizes)
    return 2 * steps * batch * sum(math.prod(_of(name, sizes)) for name in node.input[1:3])


_PRODUCTS = {
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "Gemm": _gemm,
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "ConvTranspose": _transposed,
    "RNN": _recurrence,
    "GRU": _recurrence,
    "LSTM": _recurrence,
}


def _inside(node: onnx.NodeProto) -> list[str]:
    """Kinds of operators with products in the bodies of a loop or a branch, at any depth."""
    bodies = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    found = [inner for body in bodies for inner in body.node]
    kinds = [inner.op_type for inner in found if inner.op_type in _PRODUCTS]
    return kinds + [kind for inner in found for kind in _inside(inner)]


def _read(
    name: str, tensor: onnx.TensorProto, graph: onnx.GraphProto, sizes: Mapping[str, Shape | None], each: int | None
) -> int:
    """Bytes of a weight that have to be read: all, or what is gathered from it where nobody else takes it."""
    whole = _nbytes(tensor.data_type, tuple(tensor.dims), each)
    takers = [node for node in graph.node if name in node.input]
    if not takers or any(node.op_type not in _GATHERS or node.input[0] != name for node in takers):
        return whole
    given = [sizes.get(node.output[0]) for node in takers]
    return min(whole, sum(_nbytes(tensor.data_type, shape or (), each) for shape in given))


def _nbytes(kind: int, shape: Shape, float_bytes: int | None = None) -> int:
    narrowed = float_bytes if kind in _FLOATS else None
    return math.prod(shape) * (narrowed or helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
