"""Nine networks of their time, which the onnx package ships without their weights.

As shipped every weight is one constant and so is every output, whatever the input: enough to parse
and to build, at one precision, as a build takes long. The full size has weights from a seed in the
same places and serves numerics as well.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.spec import ModelSpec, OnnxFile, OnnxFunction

from .blocks import BIAS, RELU
from .shipped import data_folder

if TYPE_CHECKING:
    from typing import Any

    import onnx
    from numpy.typing import NDArray

SHARE = 0.3  # scale of what is added to a shortcut: a sum after each of 16 blocks must not grow without end
# Scale of the logits. A softmax makes the error of a logit a relative one, and long chains of ReLU enlarge
# rounding errors (see `blocks`): in float16 these must stay below what another image changes.
LOGITS = {"light_bvlc_alexnet": 0.2, "light_inception_v1": 0.06, "light_inception_v2": 0.04, "light_vgg19": 0.015}
CARRIERS = ("AveragePool", "Concat", "Dropout", "GlobalAveragePool", "LRN", "MaxPool", "Reshape", "Transpose")


def reseeded(identity: str, file: Path) -> onnx.ModelProto:
    """The network in ``file`` with every floating weight, stored or filled in, drawn from a seed.

    Each is drawn by what reads it: kernels scaled by the sizes of their sums, normalizations near
    one and zero.
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper

    from .authoring import IR_VERSION, noise

    model = onnx.load(str(file))
    graph = model.graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    filled = {node.output[0]: stored[node.input[0]] for node in graph.node if node.op_type == "ConstantOfShape"}
    shapes = {name: tuple(int(size) for size in sizes) for name, sizes in filled.items()}
    shapes |= {name: array.shape for name, array in stored.items() if array.dtype == np.float32}

    kept = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    wiring = Wiring(kept, stored, LOGITS.get(file.stem, 1.0))
    weights = [
        numpy_helper.from_array(array, name)
        for name, array in stored.items()
        if name in wiring.readers and name not in shapes
    ]
    for name, shape in shapes.items():
        if name in wiring.readers:
            law = wiring.law(name, shape)
            values = noise(f"{identity}/{name}", law.shape, law.level) * np.float32(law.std) + np.float32(law.mean)
            weights.append(numpy_helper.from_array(values.reshape(shape), name))
    inputs = [value for value in graph.input if value.name not in stored]

    for field, entries in (("node", kept), ("initializer", weights), ("input", inputs)):
        graph.ClearField(field)
        getattr(graph, field).extend(entries)
    model.ir_version = IR_VERSION  # from 4 on an initializer need not be an input
    return model


class Law(NamedTuple):
    """How to draw a weight; the arguments of `noise`, and what to make of it."""

    shape: tuple[int, ...]  # as it is read, which need not be as it is stored
    std: float
    mean: float = 0.0
    level: tuple[int, ...] = ()


class Wiring:
    """Which node reads and which gives each tensor, and what that means for a weight."""

    def __init__(self, nodes: list[onnx.NodeProto], stored: dict[str, NDArray[Any]], logits: float = 1.0) -> None:
        self.stored, self.logits = stored, logits
        self.giver = {name: node for node in nodes for name in node.output}
        self.readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in nodes:
            for place, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, place))

    def law(self, name: str, shape: tuple[int, ...]) -> Law:
        """How to draw the weight ``name``: by the operator that reads it and the place it has there."""
        node, place = self.readers[name][0]
        while node.op_type in ("Unsqueeze", "Reshape"):  # such as a bias brought to the rank of an image
            if node.op_type == "Reshape":
                shape = tuple(int(size) for size in self.stored[node.input[1]])
            node, place = self.readers[node.output[0]][0]
        match node.op_type, place:
            case "Conv", 1:
                return Law(shape, self._gain(node) / math.sqrt(math.prod(shape[1:])), level=(1, 2, 3))
            case "Gemm", 1:
                summed = int(any(attribute.name == "transB" and attribute.i for attribute in node.attribute))
                return Law(shape, self._gain(node) / math.sqrt(shape[summed]), level=(summed,))
            case "BatchNormalization", 1:
                added = any(reader.op_type == "Sum" for reader, _ in self.readers.get(node.output[0], ()))
                return Law(shape, 0.1 * SHARE, SHARE) if added else Law(shape, 0.1, 1.0)
            case ("BatchNormalization", 4) | ("Mul", _):
                return Law(shape, 0.1, 1.0)
            case ("Conv" | "Gemm", 2) | ("BatchNormalization", 2 | 3) | ("Add", _):
                return Law(shape, BIAS)
        raise ValueError(f"{name}: no rule for a weight that {node.op_type} reads as input {place}")

    def _gain(self, node: onnx.NodeProto) -> float:
        """What makes up for a ReLU before ``node``, and the scale of logits if that is what it gives."""
        last = any(reader.op_type == "Softmax" for reader, _ in self.readers.get(node.output[0], ()))
        scale = self.logits if last else 1.0
        before = self.giver.get(node.input[0])
        while before is not None and before.op_type in CARRIERS:
            before = self.giver.get(before.input[0])
        return scale * (RELU if before is not None and before.op_type == "Relu" else 1.0)


def declare(file: Path) -> tuple[ModelSpec, ModelSpec]:
    """As shipped, and with weights from a seed."""
    identity = f"{file.stem}_full"
    build = functools.partial(reseeded, identity, file)
    origin = str(file)
    parsed, seeded = ("shipped", "parse_only", "fp32_only"), ("shipped", "classifier")
    return (
        ModelSpec(file.stem, OnnxFile(file), family="light", tags=parsed, origin=origin),
        ModelSpec(file.stem, OnnxFunction(identity, build), size="full", family="light", tags=seeded, origin=origin),
    )


MODELS = tuple(spec for file in sorted((data_folder() / "light").glob("*.onnx")) for spec in declare(file))
