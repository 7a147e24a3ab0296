"""An ONNX model as one flat flow of values, subgraphs included, to reason about where values come from and go.

If, Loop and Scan are opened: what enters and leaves their bodies is joined by nodes of the kind
``Carry``, which are not ONNX operators, so that a question ("what reaches this output?") follows
values through them without a case of its own. A loop makes the flow cyclic.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, inliner, numpy_helper

from harness.errors import SpecError
from harness.spec.onnx_model import load
from harness.spec.tensor import Dim

CARRY = "Carry"  # output 0 is one of the inputs
Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Node:
    """One operator. ``inputs`` may hold "" where an optional one is left out."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def input(self, index: int) -> str:
        return self.inputs[index] if index < len(self.inputs) else ""


class Flow:
    """The values of a model. Values of the main graph keep their names; those of subgraphs get a scope before them.

    ``dtype`` is numpy's name, ``shape`` has numbers, symbols, or None where nothing is known; both
    hold only what shape inference could tell.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        self.inputs: tuple[str, ...]
        self.outputs = tuple(value.name for value in model.graph.output)
        self.nodes: list[Node] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.dtype: dict[str, str] = {}
        self.shape: dict[str, tuple[Dim | None, ...]] = {}
        self._scopes = 0
        names = self._open(model.graph, "", {})
        self.inputs = tuple(v.name for v in model.graph.input if names[v.name] not in self.constants)
        self.producer: dict[str, Node] = {}
        self.consumers: dict[str, list[tuple[Node, int]]] = defaultdict(list)
        for node in self.nodes:
            for output in node.outputs:
                self.producer[output] = node
            for index, value in enumerate(node.inputs):
                if value:
                    self.consumers[value].append((node, index))

    def constant(self, value: str) -> Array | None:
        """The contents of a constant that lies in the model file itself, else None."""
        tensor = self.constants.get(value)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return np.asarray(numpy_helper.to_array(tensor))

    def upstream(self, value: str, through: frozenset[str]) -> Iterator[str]:
        """``value`` and all it is computed from by operators in ``through``, nearest first, each once."""
        seen, queue = {value}, [value]
        while queue:
            current = queue.pop(0)
            yield current
            node = self.producer.get(current)
            if node is not None and node.op in through:
                fresh = [name for name in node.inputs if name and name not in seen]
                seen.update(fresh)
                queue += fresh

    def _open(self, graph: onnx.GraphProto, scope: str, outer: Mapping[str, str]) -> dict[str, str]:
        """Add ``graph``; returns its names as values of the flow, those of outer graphs included."""
        names = dict(outer)

        def define(name: str) -> str:
            names[name] = scope + name
            return names[name]

        for tensor in graph.initializer:
            value = define(tensor.name)
            self.constants[value] = tensor
            self.dtype[value] = str(helper.tensor_dtype_to_np_dtype(tensor.data_type))
            self.shape[value] = tuple(tensor.dims)
        for info in graph.input:
            if scope or info.name not in names:
                define(info.name)
        for node in graph.node:
            for name in node.output:
                if name:
                    define(name)
        for info in (*graph.input, *graph.value_info, *graph.output):
            if info.name in names and names[info.name] == scope + info.name:
                self._describe(names[info.name], info)
        for node in graph.node:
            self._add(node, names)
        return names

    def _add(self, node: onnx.NodeProto, names: Mapping[str, str]) -> None:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if not a.HasField("g")}
        inputs = tuple(names.get(name, name) for name in node.input)
        outputs = tuple(names[name] if name else "" for name in node.output)
        bodies = {a.name: a.g for a in node.attribute if a.HasField("g")}
        if node.op_type == "Constant":
            tensor = constant_of(node)
            if tensor is not None:
                self.constants[outputs[0]] = tensor
                self.dtype[outputs[0]] = str(helper.tensor_dtype_to_np_dtype(tensor.data_type))
                self.shape[outputs[0]] = tuple(tensor.dims)
                return
        if not bodies:
            self.nodes.append(Node(node.op_type, node.name, inputs, outputs, attributes))
            return
        for body in bodies.values():
            self._scopes += 1
            inner = self._open(body, f"{node.op_type}{self._scopes}\0", names)
            entering = [inner[value.name] for value in body.input]
            leaving = [inner[value.name] for value in body.output]
            self._join(node, inputs, outputs, entering, leaving, attributes)

    def _join(
        self,
        node: onnx.NodeProto,
        inputs: Sequence[str],
        outputs: Sequence[str],
        entering: Sequence[str],
        leaving: Sequence[str],
        attributes: Mapping[str, Any],
    ) -> None:
        def carry(result: str, *sources: str) -> None:
            if result:
                self.nodes.append(Node(CARRY, node.name, tuple(s for s in sources if s), (result,)))

        if node.op_type == "Loop":
            # body: (iteration, condition, states) -> (condition, states, scanned); the trip count and the
            # condition decide how often, so they reach every output
            states = len(entering) - 2
            for formal, initial, final in zip(entering[2:], inputs[2:], leaving[1:], strict=False):
                carry(formal, initial, final)
            carry(entering[0], inputs[0])
            carry(entering[1], inputs[1] if len(inputs) > 1 else "", leaving[0])
            for index, (result, final) in enumerate(zip(outputs, leaving[1:], strict=True)):
                carry(result, final, inputs[2 + index] if index < states else "", inputs[0], leaving[0])
        elif node.op_type == "Scan":
            states = len(entering) - int(attributes["num_scan_inputs"])
            for index, (formal, actual) in enumerate(zip(entering, inputs, strict=True)):
                carry(formal, actual, leaving[index] if index < states else "")
            for index, (result, final) in enumerate(zip(outputs, leaving, strict=True)):
                carry(result, final, inputs[index] if index < states else "")
        else:  # If; both branches reach its outputs, and its condition decides between them
            for result, final in zip(outputs, leaving, strict=True):
                carry(result, final, *inputs, *self._joined(result))

    def _joined(self, result: str) -> tuple[str, ...]:
        """Takes back an earlier join of ``result`` (the other branch of an If), for the two to be one."""
        for position, node in enumerate(self.nodes):
            if node.op == CARRY and node.outputs == (result,):
                return self.nodes.pop(position).inputs
        return ()

    def _describe(self, value: str, info: onnx.ValueInfoProto) -> None:
        kind = info.type.tensor_type
        if not info.type.HasField("tensor_type") or not kind.elem_type:
            return
        self.dtype[value] = str(helper.tensor_dtype_to_np_dtype(kind.elem_type))
        if kind.HasField("shape"):
            self.shape[value] = tuple(
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param.replace(" ", "") or None
                for dim in kind.shape.dim
            )


def constant_of(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """What a Constant holds; None for strings and sparse tensors, which no rule of ours reads."""
    (attribute,) = node.attribute
    if attribute.name == "value":
        tensor: onnx.TensorProto = attribute.t
        return tensor
    if attribute.name in ("value_float", "value_floats"):
        return numpy_helper.from_array(np.asarray(helper.get_attribute_value(attribute), np.float32))
    if attribute.name in ("value_int", "value_ints"):
        return numpy_helper.from_array(np.asarray(helper.get_attribute_value(attribute), np.int64))
    return None


def flow(path: Path) -> Flow:
    """The flow of the model at ``path``, its functions inlined. SpecError when it can't be read."""
    return _flow(path, path.stat().st_mtime_ns if path.exists() else 0)


@functools.lru_cache(maxsize=64)
def _flow(path: Path, _modified: int) -> Flow:
    model = load(path)
    if model.functions:
        model = inliner.inline_local_functions(model)
    try:
        return Flow(model)
    except onnx.shape_inference.InferenceError as error:
        raise SpecError(f"{path}: the model's types or shapes contradict each other: {error}") from None
