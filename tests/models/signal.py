"""How strong the signal is inside a network: the deviation of every activation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from models.blocks import MASKED

Arrays = Mapping[str, "np.ndarray[Any, Any]"]

# Softmax over the most keys that a tiny profile has, 32, gives the lower end: shares of 1/32 that differ by as much.
ACTIVATIONS = (1 / 34, 8.0)
OUTPUTS = (1 / 8, 8.0)
ENOUGH = 16  # elements: of fewer a deviation says little


@dataclass(frozen=True)
class Activation:
    tensor: str
    operator: str
    values: np.ndarray[Any, Any]

    @property
    def deviation(self) -> float:
        """Standard deviation, without what a mask has put out of play on purpose."""
        return float(self.values[self.values > MASKED / 2].astype("float64").std())

    def __str__(self) -> str:
        return f"{self.operator} {self.tensor} {list(self.values.shape)}: deviation {self.deviation:.3g}"


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(path: Path, inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    """The outputs of the model at ``path``."""
    made = session(onnx.load(path))
    return dict(zip((value.name for value in made.get_outputs()), made.run(None, dict(inputs)), strict=True))


def activations(model: onnx.ModelProto, inputs: Arrays) -> Iterator[Activation]:
    """Every floating tensor of the main graph that depends on an input and on a float input or weight.

    What comes of integers and constants alone (masks, positions) carries no signal; what comes of
    weights alone is no activation.
    """
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    typed = {value.name: value for value in (*inferred.graph.value_info, *inferred.graph.output)}
    from_input = {value.name for value in model.graph.input}
    from_float = {value.name for value in model.graph.input if value.type.tensor_type.elem_type in floats}
    from_float |= {tensor.name for tensor in model.graph.initializer if tensor.data_type in floats}
    operator: dict[str, str] = {}
    for node in model.graph.node:
        for name in node.output:
            if from_input.intersection(node.input):
                from_input.add(name)
            if from_float.intersection(node.input):
                from_float.add(name)
            if name in from_input & from_float and typed[name].type.tensor_type.elem_type in floats:
                operator[name] = node.op_type
    if not operator:
        return
    del inferred.graph.output[:]
    inferred.graph.output.extend(typed[name] for name in operator)
    for name, values in zip(operator, session(inferred).run(list(operator), dict(inputs)), strict=True):
        yield Activation(name, operator[name], values)


def strays(model: onnx.ModelProto, inputs: Arrays) -> list[str]:
    """Activations that are not finite or whose deviation lies outside `ACTIVATIONS`, or `OUTPUTS` for outputs."""
    outputs = {value.name for value in model.graph.output}
    found = []
    for each in activations(model, inputs):
        low, high = OUTPUTS if each.tensor in outputs else ACTIVATIONS
        if not np.isfinite(each.values).all():
            found.append(f"{each.operator} {each.tensor}: not finite")
        elif each.values.size >= ENOUGH and not low <= each.deviation <= high:
            found.append(f"{each}, outside {low:.3g} to {high:.3g}")
    return found


def share_of_rows(values: np.ndarray[Any, Any], axis: int) -> float:
    """How much of the variance in ``values`` is between rows along ``axis``: 0 when all rows are alike, to 1."""
    total = float(values.astype("float64").var())
    return float(values.astype("float64").var(axis=axis).mean()) / total if total else 0.0
