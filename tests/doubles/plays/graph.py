"""What a network is, seen as an ONNX model: types, shapes, shape tensors, and how it is computed.

Networks are held as ONNX, whether a parser read them or a program added layer by layer, and are
run by onnx's own reference evaluator; a plan carries the model.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

# Operators that TensorRT's parser refuses: `supports_operator` of RTX 1.7.1 over every ONNX operator,
# and Det and StringNormalizer, which it takes for supported and then refuses.
_REFUSED = """
    AffineGrid Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im
    Compress ConcatFromSequence ConvInteger CumProd DFT DeformConv Det DynamicQuantizeLinear ImageDecoder
    MatMulInteger MaxRoiPool MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional
    OptionalGetElement OptionalHasElement QLinearConv QLinearMatMul RegexFullMatch SequenceAt SequenceConstruct
    SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap SoftmaxCrossEntropyLoss
    SplitToSequence StringConcat StringNormalizer StringSplit SwiGLU TfIdfVectorizer Unique
"""
UNSUPPORTED = frozenset(_REFUSED.split())
# Inputs, by operator and place, whose contents decide shapes.
SHAPING = {
    "Reshape": (1,),
    "Expand": (1,),
    "ConstantOfShape": (0,),
    "Slice": (1, 2, 3, 4),
    "Tile": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (3,),
    "TopK": (1,),
    "OneHot": (1,),
}
DATA_DEPENDENT = frozenset({"NonZero", "NonMaxSuppression"})
INTEGERS = (TensorProto.INT32, TensorProto.INT64)


def empty() -> onnx.ModelProto:
    """A model without anything in it, opset 17."""
    graph = helper.make_graph([], "network", [], [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def numpy_name(element: int) -> str:
    """numpy's (or ml_dtypes') name of an ONNX element type."""
    return str(helper.tensor_dtype_to_np_dtype(element)) if element != TensorProto.STRING else "string"


def inputs_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs that are not weights."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in weights]


def declared(value: onnx.ValueInfoProto) -> Shape:
    """The shape with -1 where it is dynamic."""
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim)


def shape_tensors(model: onnx.ModelProto) -> frozenset[str]:
    """Integer inputs whose contents reach an operand that decides a shape, through anything but Shape."""
    makers = {output: node for node in model.graph.node for output in node.output}
    wanted = [
        node.input[place]
        for node in model.graph.node
        for place in SHAPING.get(node.op_type, ())
        if place < len(node.input) and node.input[place]
    ]
    reached: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in reached:
            continue
        reached.add(name)
        maker = makers.get(name)
        if maker is not None and maker.op_type not in ("Shape", "Size"):
            wanted += maker.input
    return frozenset(
        value.name
        for value in inputs_of(model)
        if value.name in reached and value.type.tensor_type.elem_type in INTEGERS
    )


def data_dependent(model: onnx.ModelProto) -> frozenset[str]:
    """Tensors that are computed from something whose size only its contents tell."""
    tainted: set[str] = set()
    for node in model.graph.node:
        if node.op_type in DATA_DEPENDENT or tainted & set(node.input):
            tainted |= set(node.output)
    return frozenset(tainted)


def inferred(model: onnx.ModelProto, shapes: Mapping[str, Shape] | None = None) -> dict[str, tuple[int, Shape]]:
    """Element type and shape, -1 where unknown, of every tensor, with the inputs of ``shapes``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in copy.graph.input:
        for index, size in enumerate((shapes or {}).get(value.name, ())):
            value.type.tensor_type.shape.dim[index].dim_value = size
    for value in copy.graph.output:  # what is declared may hide what is known, or claim what is not
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    found: dict[str, tuple[int, Shape | None]] = {}
    for value in [*graph.value_info, *graph.output, *graph.input]:
        kind = value.type.tensor_type
        found[value.name] = (kind.elem_type, declared(value) if kind.HasField("shape") else None)
    for tensor in graph.initializer:
        found[tensor.name] = (tensor.data_type, tuple(tensor.dims))
    return {name: (kind, _completed(model, name, found)) for name, (kind, _) in found.items()}


def _completed(model: onnx.ModelProto, name: str, found: Mapping[str, tuple[int, Shape | None]]) -> Shape:
    """What inference found, and beside it what follows from a shape tensor's length or was declared."""
    shape = found[name][1]
    if shape is None:
        for node in model.graph.node:
            if name in node.output and node.op_type in ("Reshape", "Expand", "ConstantOfShape"):
                lengths = found.get(node.input[SHAPING[node.op_type][0]], (0, None))[1]
                shape = (-1,) * lengths[0] if lengths and lengths[0] > 0 else None
    for value in model.graph.output:
        if value.name == name:
            sizes = declared(value)
            shape = sizes if shape is None else shape
            if len(sizes) == len(shape):
                return tuple(own if known < 0 else known for known, own in zip(shape, sizes, strict=True))
    return shape or ()


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Call a tensor something else, everywhere."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
    for value in (*model.graph.input, *model.graph.output):
        if value.name == old:
            value.name = new


class Program:
    """A model that can be run, and asked which shapes its outputs would have."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.shaping = shape_tensors(model)
        self.dynamic = data_dependent(model)
        self.elements = {value.name: value.type.tensor_type.elem_type for value in inputs_of(model)}
        self._shapes: dict[Any, dict[str, Shape]] = {}

    @functools.cached_property
    def _evaluator(self) -> ReferenceEvaluator:
        return ReferenceEvaluator(self.model)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, in the model's own types, whatever integers or floats came in."""
        given = {
            name: np.asarray(array, helper.tensor_dtype_to_np_dtype(self.elements[name]))
            for name, array in inputs.items()
        }
        names = [value.name for value in self.model.graph.output]
        with np.errstate(all="ignore"):
            results = self._evaluator.run(None, given)
        return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}

    def output_shapes(self, shapes: Mapping[str, Shape], contents: Mapping[str, Array]) -> dict[str, Shape]:
        """The outputs' shapes for inputs of ``shapes``; -1 where only the data will tell.

        Raises whatever the reference evaluator does, when the shapes contradict each other.
        """
        key = (tuple(sorted(shapes.items())), tuple((n, c.tobytes()) for n, c in sorted(contents.items())))
        if key not in self._shapes:
            given = {name: contents.get(name, np.zeros(shape)) for name, shape in shapes.items()}
            made = {name: array.shape for name, array in self.run(given).items()}
            if self.dynamic & made.keys():
                known = inferred(self.model, dict(shapes))
                for name in self.dynamic & made.keys():
                    made[name] = known[name][1]
            self._shapes[key] = made
        return self._shapes[key]


def constant(name: str, array: Array) -> onnx.NodeProto:
    """A node that gives ``array``."""
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))
