"""What TensorRT's parsers store of a model's constants, and under which names: the values that a refit would bring.

An initializer and the output of a Constant keep their names. In the network a constant is a layer of that
name, in the role CONSTANT, except where it is a kernel or bias of a convolution, which the layer named after
the node holds. A batch normalization is no constant of the file: the parser computes one scale and one shift,
gamma / sqrt(variance + epsilon) and beta - mean * scale, in float32 (later than 8.6 in float16 where all of it
is), and gives them names of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from harness.judge.graph import constant_of
from harness.spec.onnx_model import load

Array = npt.NDArray[Any]
Place = tuple[str, str]  # layer, and role in it as TensorRT's ``WeightsRole`` calls it

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_EPSILON = 1e-5  # of a BatchNormalization that names none (ONNX)


@dataclass(frozen=True, eq=False)
class Stored:
    """Values by name, and by every place that an engine may list; which of them it does is for it to say.

    ``named`` tells of which name the value at a place is; what is computed has none.
    """

    names: Mapping[str, Array]
    places: Mapping[Place, Array]
    named: Mapping[Place, str]

    def with_names(self, values: Mapping[str, Array]) -> Stored:
        """The same with other values of these names, wherever they stand."""
        standing = {place: values[name] for place, name in self.named.items() if name in values}
        return Stored({**self.names, **values}, {**self.places, **standing}, self.named)

    def called(self, names: Mapping[Place, str]) -> Stored:
        """The same with names for what stands at these places, which the model's file does not tell."""
        values = {name: self.places[place] for place, name in names.items()}
        return Stored({**self.names, **values}, self.places, {**self.named, **names})

    def with_places(self, values: Mapping[Place, Array]) -> Stored:
        """The same with other values at these places, which have no name."""
        return Stored(self.names, {**self.places, **values}, self.named)


def stored(path: Path) -> Stored:
    """Of the model at ``path``, its subgraphs included."""
    names: dict[str, Array] = {}
    places: dict[Place, Array] = {}
    named: dict[Place, str] = {}
    for graph in _graphs(load(path, weights=True).graph):
        names |= {tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
        for node in graph.node:
            tensor = constant_of(node) if node.op_type == "Constant" else None
            if tensor is not None:
                names[node.output[0]] = np.asarray(numpy_helper.to_array(tensor))
        for node in graph.node:
            layer = node.name or f"node_of_{node.output[0]}"
            inputs = list(node.input)[1:]
            if node.op_type in _CONVOLUTIONS:
                named |= {
                    (layer, role): name for role, name in zip(("KERNEL", "BIAS"), inputs, strict=False) if name in names
                }
            elif node.op_type == "BatchNormalization" and all(name in names for name in inputs):
                scale, shift = _folded(node, *(names[name].astype(np.float32) for name in inputs))
                places |= {(layer, "SCALE"): scale, (layer, "SHIFT"): shift}
    named |= {(name, "CONSTANT"): name for name in names}
    return Stored(names, places | {place: names[name] for place, name in named.items()}, named)


def _folded(node: onnx.NodeProto, gamma: Array, beta: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
    epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), _EPSILON)
    scale = gamma / np.sqrt(variance + np.float32(epsilon))
    return scale, beta - mean * scale


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
