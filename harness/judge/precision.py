"""Models at a recipe's precision: the same graph with its floats in another format.

onnxconverter_common.float16 is the library for this, and 1.16 turns 6 of 10 ten-line graphs into invalid
ones: casts named after nodes without names, an output that is also used inside or is an initializer,
Resize's scales, a weight that a Q/DQ pair and another node share, a loop whose body reads an outer
value. So the operators' own schemas decide here: where a type constraint admits the format, inputs
get it and outputs have it; where it does not, they stay. What stays float32 on purpose:

- inputs and outputs of the model (so that all precisions have one interface);
- Q/DQ, whose float16 scales are invalid before opset 19 and coarser after it;
- arithmetic on shapes: float16 counts to 2,048 only;
- running sums, where an error grows with every element.

Numbers outside the format become its largest (a mask's -1e9 must not become -inf, which a softmax
turns into NaN), and small ones its smallest but not zero (an epsilon is there to be divided by).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, MutableSequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, inliner, numpy_helper

from harness.errors import SpecError
from harness.spec.model import ModelSpec
from harness.spec.onnx_model import load
from harness.spec.precision import Recipe
from harness.spec.source import exported

VERSION = 1  # of this conversion; exported models of an older one are not taken for it
FORMATS = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}
FLOAT = onnx.TensorProto.FLOAT
Names = MutableSequence[str]
Rename = Callable[[str], None]

# kept in float32: see above
_STAY = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "CumSum"})
_STAYING_INPUTS = frozenset({("Resize", 1)})  # a region is about shapes, as scales are, which have no choice
_MEASURES = frozenset({"Shape", "Size"})  # take a tensor of any type, and give nothing of its contents
_BODIES = frozenset({"If", "Loop", "Scan"})
_SHAPE_ARITHMETIC = _MEASURES | frozenset(
    {"Cast", "Add", "Sub", "Mul", "Div", "Mod", "Neg", "Floor", "Ceil", "Round", "Sqrt", "Reciprocal", "Pow", "Min"}
    | {"Max", "Range", "Where", "Concat", "Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape"}
)
_SMALL = 8  # elements; a constant that takes part in arithmetic on shapes has no more


def converted(model: ModelSpec, recipe: Recipe) -> Path:
    """The ONNX of ``model`` at the precision of ``recipe``, made once in the export folder.

    A recipe that converts nothing gives the model's own file. Initializers and the model's inputs and
    outputs keep their names. SpecError when the model has no ONNX, or the result isn't valid.
    """
    path = model.source.path()
    if recipe.convert is None:
        return path
    name = f"{model.id}-{model.source.digest()[:16]}-{recipe.convert}-v{VERSION}"

    def build() -> onnx.ModelProto:
        half = convert(load(path, weights=True), recipe.convert or "")
        try:
            if half.ByteSize() < onnx.checker.MAXIMUM_PROTOBUF:
                onnx.checker.check_model(half)
        except onnx.checker.ValidationError as error:
            raise SpecError(f"{model.id}: conversion to {recipe.convert} gave an invalid model: {error}") from None
        return half

    return exported(name, build)


def convert(model: onnx.ModelProto, to: str) -> onnx.ModelProto:
    """``model``, weights included, with its float32 in the format ``to``; the argument is left as it is."""
    if to not in FORMATS:
        raise SpecError(f"no conversion to {to!r}; formats: {', '.join(FORMATS)}")
    if model.functions:
        model = inliner.inline_local_functions(model)
    typed = _inferred(model)
    _Converter(typed, to).convert()
    return typed


def narrowed(values: npt.NDArray[Any], to: str) -> npt.NDArray[Any]:
    """``values`` rounded to the format; what is finite and not zero stays so."""
    dtype = np.dtype(getattr(ml_dtypes, to, to))
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    finite = np.isfinite(values)
    clipped = np.where(finite, np.clip(values, float(info.min), float(info.max)), values)
    small = np.asarray(finite & (values != 0) & (np.abs(values) < float(info.smallest_subnormal)))
    clipped = np.where(small, np.copysign(float(info.smallest_subnormal), values), clipped)
    return clipped.astype(dtype)


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """With the types of all values, inferred on a copy without large weights (protobuf ends at 2 GiB)."""
    hollow = onnx.ModelProto()
    hollow.CopyFrom(model)
    kept: list[bytes] = []
    for tensor in hollow.graph.initializer:
        if len(tensor.raw_data) > 1024:
            kept.append(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="elsewhere")
    hollow = onnx.shape_inference.infer_shapes(hollow)
    restored = iter(kept)
    for tensor in hollow.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = next(restored)
    return hollow


@dataclass(eq=False)
class _Weight:
    """A float32 constant, and who uses it in which type. Its type is settled when all uses are known."""

    tensor: onnx.TensorProto
    uses: list[tuple[int, Rename]] = field(default_factory=list)


@dataclass(eq=False)
class _Value:
    """A value that was float32: the name under which it is there in each type."""

    home: _Scope  # the graph that makes it, and where casts of it go
    names: dict[int, str]
    weight: _Weight | None = None


class _Scope:
    """One graph, with those around it."""

    def __init__(self, graph: onnx.GraphProto, outer: _Scope | None) -> None:
        self.graph, self.outer = graph, outer
        self.values: dict[str, _Value] = {}
        self.others: set[str] = set()  # what is defined here and isn't float32
        self.small: set[str] = set()  # small constants
        self.from_shapes: set[str] = set()  # computed from shapes and small constants alone
        self.nodes: list[onnx.NodeProto] = []  # in their new order, casts among them
        self.types = {
            info.name: info.type.tensor_type.elem_type for info in (*graph.input, *graph.value_info, *graph.output)
        }  # 0, UNDEFINED, for a sequence

    def find(self, name: str) -> _Value | None:
        """The value that was float32 and is called ``name`` here."""
        if name in self.values or name in self.others or self.outer is None:
            return self.values.get(name)
        return self.outer.find(name)

    def is_small(self, name: str) -> bool:
        return name in self.small or (self.outer is not None and self.outer.is_small(name))

    def is_from_shapes(self, name: str) -> bool:
        return name in self.from_shapes or (self.outer is not None and self.outer.is_from_shapes(name))


class _Converter:
    """Converts one model in place."""

    def __init__(self, model: onnx.ModelProto, to: str) -> None:
        self.model, self.to, self.half = model, to, FORMATS[to]
        self.opsets = {item.domain or "": item.version for item in model.opset_import}
        self.taken = set(_names(model.graph))
        self.scopes: list[_Scope] = []
        self.kept = frozenset(
            value.name for value in model.graph.output if value.type.tensor_type.elem_type == FLOAT
        )  # outputs of the model, which keep name and type

    def convert(self) -> None:
        scope = self.open(self.model.graph, None)
        for value in self.model.graph.input:
            if value.name not in scope.values:
                self.define(scope, value.name, value.type.tensor_type.elem_type)
        self.walk(scope)
        for name in self.kept:
            found = scope.find(name)
            if found is not None and found.weight is not None:
                found.weight.uses.append((FLOAT, lambda _: None))
        for scope in reversed(self.scopes):  # inner graphs before the nodes that hold them
            self.settle(scope)

    def open(self, graph: onnx.GraphProto, outer: _Scope | None) -> _Scope:
        scope = _Scope(graph, outer)
        self.scopes.append(scope)
        for tensor in graph.initializer:
            self.define_weight(scope, tensor.name, tensor)
        return scope

    def define_weight(self, scope: _Scope, name: str, tensor: onnx.TensorProto) -> None:
        if tensor.data_type == FLOAT:
            scope.values[name] = _Value(scope, {FLOAT: name}, _Weight(tensor))
        else:
            scope.others.add(name)
        if int(np.prod(tensor.dims)) <= _SMALL:
            scope.small.add(name)

    def define(self, scope: _Scope, name: str, kind: int, actual: int = FLOAT) -> None:
        """``name``, of type ``kind`` in the original, is there in type ``actual`` now if it was float32."""
        if kind == FLOAT:
            scope.values[name] = _Value(scope, {actual: name})
        else:
            scope.others.add(name)

    def ask(self, scope: _Scope, name: str, kind: int, rename: Rename) -> None:
        """Call ``rename`` with the name under which ``name`` is there in type ``kind``."""
        value = scope.find(name)
        if value is None:
            return
        if value.weight is not None:
            value.weight.uses.append((kind, rename))
            return
        if kind not in value.names:
            value.names[kind] = self.fresh(f"{name}_{self.to if kind == self.half else 'float32'}")
            (source,) = (other for other in value.names.items() if other[0] != kind)
            value.home.nodes.append(_cast(source[1], value.names[kind], kind))
        rename(value.names[kind])

    def fresh(self, name: str) -> str:
        number, unique = 1, name
        while unique in self.taken:
            number += 1
            unique = f"{name}_{number}"
        self.taken.add(unique)
        return unique

    def walk(self, scope: _Scope) -> None:
        for node in scope.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name in ("value", "value_float", "value_floats"):
                self.constant(scope, node)
            elif node.op_type in _BODIES and node.domain in ("", "ai.onnx"):
                self.bodies(scope, node)
            else:
                self.operator(scope, node)

    def constant(self, scope: _Scope, node: onnx.NodeProto) -> None:
        (attribute,) = node.attribute
        if attribute.name != "value":
            values = np.asarray(helper.get_attribute_value(attribute), np.float32)
            attribute.CopyFrom(helper.make_attribute("value", numpy_helper.from_array(values)))
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        scope.nodes.append(kept)
        self.define_weight(scope, node.output[0], kept.attribute[0].t)

    def operator(self, scope: _Scope, node: onnx.NodeProto) -> None:
        """One node without bodies: its inputs in the types it takes now, its outputs as they are now."""
        signature = self.signature(node)
        from_shapes = self.computes_shapes(scope, node)
        if from_shapes:
            scope.from_shapes.update(node.output)
        stays = from_shapes or signature is None or node.op_type in _STAY
        given: dict[str, int] = {}  # type variables that float32 inputs stand for, and their type now
        for index, name in enumerate(node.input):
            if not name or scope.find(name) is None:
                continue
            variable, admits = signature.input(index) if signature else ("", False)
            half = admits and not stays and (node.op_type, index) not in _STAYING_INPUTS
            given[variable] = self.half if half else FLOAT
            if node.op_type in _MEASURES:
                self.ask_any(scope, name, _at(node.input, index))
            else:
                self.ask(scope, name, given[variable], _at(node.input, index))
        scope.nodes.append(node)
        for index, name in enumerate(node.output):
            if not name:
                continue
            variable = signature.output(index) if signature else ""
            kind = scope.types.get(name, FLOAT if variable in given else onnx.TensorProto.UNDEFINED)
            actual = given.get(variable, FLOAT)
            if kind == FLOAT and not stays and self.makes_half(node):
                actual = self.half
            self.result(scope, node.output, index, kind, actual)

    def result(self, scope: _Scope, outputs: Names, index: int, kind: int, actual: int) -> None:
        """Define output ``index`` of the node just appended; an output of the model gets its own type back."""
        name = outputs[index]
        if scope.outer is None and name in self.kept and actual != FLOAT:
            outputs[index] = self.fresh(f"{name}_{self.to}")
            scope.nodes.append(_cast(outputs[index], name, FLOAT))
            scope.values[name] = _Value(scope, {actual: outputs[index], FLOAT: name})
        else:
            self.define(scope, name, kind, actual)

    def bodies(self, scope: _Scope, node: onnx.NodeProto) -> None:
        """If, Loop, Scan: every float tensor that enters or leaves a body is in the new format."""
        graphs = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        for index, name in enumerate(node.input):
            if name:
                self.ask(scope, name, self.half, _at(node.input, index))
        floats = []
        for graph in graphs:
            inner = self.open(graph, scope)
            for value in graph.input:
                self.define(inner, value.name, value.type.tensor_type.elem_type, self.half)
                _retype(value, self.half)
            self.walk(inner)
            leaving = list(graph.output)[1 if node.op_type == "Loop" else 0 :]
            floats = [inner.find(value.name) is not None for value in leaving]
            for value in leaving:
                self.ask(inner, value.name, self.half, _renamer(value))
                _retype(value, self.half)
        scope.nodes.append(node)
        for index, name in enumerate(node.output):
            if name:
                self.result(
                    scope, node.output, index, FLOAT if floats[index] else onnx.TensorProto.UNDEFINED, self.half
                )

    def ask_any(self, scope: _Scope, name: str, rename: Rename) -> None:
        """For a node to which the type makes no difference."""
        value = scope.find(name)
        if value is not None and value.weight is None:
            rename(next(iter(value.names.values())))

    def signature(self, node: onnx.NodeProto) -> _Signature | None:
        """None for an operator that onnx doesn't know, or that takes sequences: it stays as it is."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain not in self.opsets or not onnx.defs.has(node.op_type, domain):
            return None
        return _signature(node.op_type, self.opsets[domain], domain, f"tensor({self.to})")

    def computes_shapes(self, scope: _Scope, node: onnx.NodeProto) -> bool:
        if node.op_type in _MEASURES:
            return True
        inputs = [name for name in node.input if name]
        return (
            node.op_type in _SHAPE_ARITHMETIC
            and any(scope.is_from_shapes(name) for name in inputs)
            and all(scope.is_from_shapes(name) or scope.is_small(name) for name in inputs)
        )

    def makes_half(self, node: onnx.NodeProto) -> bool:
        """Turn a node whose type stands in an attribute; False when it isn't one."""
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT:
                attribute.i = self.half
                return True
            if node.op_type == "ConstantOfShape" and attribute.name == "value" and attribute.t.data_type == FLOAT:
                self.narrow(attribute.t)
                return True
        return False

    def narrow(self, tensor: onnx.TensorProto) -> None:
        tensor.CopyFrom(numpy_helper.from_array(narrowed(numpy_helper.to_array(tensor), self.to), tensor.name))

    def settle(self, scope: _Scope) -> None:
        """Give every weight its type, every graph its nodes, every description its type."""
        for name, value in scope.values.items():
            if value.weight is None:
                continue
            kinds = {kind for kind, _ in value.weight.uses}
            if kinds == {self.half}:
                self.narrow(value.weight.tensor)
                value.names = {self.half: name}
            elif self.half in kinds:  # the weight stays, under its name, and those who want less get a cast
                cast = self.fresh(f"{name}_{self.to}")
                maker = next((i for i, node in enumerate(scope.nodes) if name in node.output), -1)
                scope.nodes.insert(maker + 1, _cast(name, cast, self.half))
                for kind, rename in value.weight.uses:
                    if kind == self.half:
                        rename(cast)
        for info in (*scope.graph.value_info, *(scope.graph.input if scope.outer is None else ())):
            described = scope.values.get(info.name)
            if described is not None and described.names.get(self.half) == info.name:
                _retype(info, self.half)
        nodes = []
        for node in scope.nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            nodes.append(copy)
        del scope.graph.node[:]
        scope.graph.node.extend(nodes)


@dataclass(frozen=True)
class _Signature:
    """The type variables of an operator, and which of them admit the format."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    admits: frozenset[str]

    def input(self, index: int) -> tuple[str, bool]:
        variable = self.inputs[min(index, len(self.inputs) - 1)]  # the last may come many times
        return variable, variable in self.admits

    def output(self, index: int) -> str:
        return self.outputs[min(index, len(self.outputs) - 1)]


@functools.cache
def _signature(op: str, version: int, domain: str, kind: str) -> _Signature | None:
    try:
        schema = onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    formals = [formal.type_str for formal in (*schema.inputs, *schema.outputs)]
    if any(not any(t.startswith("tensor") for t in allowed.get(formal, {formal})) for formal in formals):
        return None
    return _Signature(
        tuple(formal.type_str for formal in schema.inputs),
        tuple(formal.type_str for formal in schema.outputs),
        frozenset(variable for variable, kinds in allowed.items() if kind in kinds),
    )


def _cast(source: str, result: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], name=result, to=kind)


def _at(names: Names, index: int) -> Rename:
    def rename(new: str) -> None:
        names[index] = new

    return rename


def _renamer(value: onnx.ValueInfoProto) -> Rename:
    def rename(new: str) -> None:
        value.name = new

    return rename


def _retype(value: onnx.ValueInfoProto, kind: int) -> None:
    if value.type.tensor_type.elem_type == FLOAT:
        value.type.tensor_type.elem_type = kind


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    """Every name of a value, in subgraphs too."""
    for item in (*graph.input, *graph.output, *graph.initializer):
        yield item.name
    for node in graph.node:
        yield from node.output
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _names(attribute.g)
