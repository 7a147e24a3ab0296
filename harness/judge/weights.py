"""A model with other weights, to see whether an engine that was refitted computes with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from harness.judge.graph import Flow, constant_of, flow
from harness.spec.canonical import digest
from harness.spec.model import ModelSpec
from harness.spec.onnx_model import load
from harness.spec.source import OnnxFile, exported

Array = npt.NDArray[Any]

SPREAD = 0.25  # a new weight is an old one of the same tensor, times 1 - SPREAD to 1 + SPREAD
_FLOATS = frozenset({"float16", "float32", "float64", "bfloat16"})
# Where a float constant is a weight and nothing else: the inputs of these operators. No operator is here whose
# result is undefined for some weights (Div, Pow) or whose constants the parsers compute others from (batch norm).
_WEIGHTS: dict[str, frozenset[int]] = {
    "MatMul": frozenset({0, 1}),
    "Gemm": frozenset({1, 2}),
    "Conv": frozenset({1, 2}),
    "ConvTranspose": frozenset({1, 2}),
    "Add": frozenset({0, 1}),
    "Mul": frozenset({0, 1}),
    "LayerNormalization": frozenset({1, 2}),
    "Gather": frozenset({0}),
}


def weights(model: ModelSpec) -> tuple[str, ...]:
    """The initializers of ``model`` that can be given other numbers, in the file's order: floats used as weights alone.

    A tensor of one value everywhere is left out, since it can hardly be told from a constant of the algorithm.
    """
    path = model.source.path()
    graph = flow(path)
    return tuple(
        tensor.name
        for tensor in load(path, weights=True).graph.initializer
        if graph.dtype.get(tensor.name) in _FLOATS
        and _is_weight(graph, tensor.name)
        and np.ptp(np.asarray(numpy_helper.to_array(tensor), np.float64)) > 0
    )


def reweighted(model: ModelSpec, names: Collection[str], seed: int) -> ModelSpec:
    """``model`` with ``names`` of its weights drawn anew: the old ones in another order, and each up to a quarter off.

    So new tensors have the size and sign of the old, and the model stays as well conditioned as it was. The same
    for the same seed; the file goes to the export folder.
    """

    def build() -> Any:
        changed = load(model.source.path(), weights=True)
        for place, tensor in enumerate(changed.graph.initializer):
            if tensor.name in names:
                new = redrawn(np.asarray(numpy_helper.to_array(tensor)), seed, place)
                tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
        return changed

    return _changed(model, "reweighted", {"weights": sorted(names), "seed": seed}, build)


def redrawn(old: Array, seed: int, place: int = 0) -> Array:
    """The numbers of ``old`` in another order, and each up to a quarter off; ``place`` keeps several apart."""
    bits = np.random.Philox(key=[seed, place])
    order = np.argsort(bits.random_raw(old.size), kind="stable")
    factor = 1 + SPREAD * (bits.random_raw(old.size) / 2.0**63 - 1)
    return np.asarray(old.reshape(-1)[order].astype(np.float64) * factor, old.dtype).reshape(old.shape)


def revalued(model: ModelSpec, values: Mapping[str, Array]) -> ModelSpec:
    """``model`` with other ``values`` in the initializers and Constant nodes of these names, in the old types."""

    def build() -> Any:
        changed = load(model.source.path(), weights=True)
        for tensor in changed.graph.initializer:
            if tensor.name in values:
                tensor.CopyFrom(_typed(values[tensor.name], tensor, tensor.name))
        for node in changed.graph.node:
            if node.op_type == "Constant" and node.output[0] in values:
                old = constant_of(node)
                if old is not None:
                    del node.attribute[:]
                    node.attribute.append(helper.make_attribute("value", _typed(values[node.output[0]], old, "")))
        return changed

    told = {name: digest([str(array.dtype), array.shape, array.tobytes().hex()]) for name, array in values.items()}
    return _changed(model, "revalued", {"values": told}, build)


def _typed(array: Array, like: TensorProto, name: str) -> TensorProto:
    kind = helper.tensor_dtype_to_np_dtype(like.data_type)
    return numpy_helper.from_array(array.astype(kind).reshape(tuple(like.dims)), name)


def _changed(model: ModelSpec, what: str, said: Mapping[str, Any], build: Callable[[], Any]) -> ModelSpec:
    key = digest({"model": model.source.digest(), **said})
    return dataclasses.replace(model, source=OnnxFile(exported(f"{model.id}-{what}-{key[:16]}", build)), golden=None)


def initializers(path: Path) -> dict[str, Array]:
    """The initializers of the model at ``path``, by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in load(path, weights=True).graph.initializer}


def _is_weight(graph: Flow, name: str) -> bool:
    uses = graph.consumers.get(name, [])
    alone = name not in graph.outputs and all(index in _WEIGHTS.get(node.op, ()) for node, index in uses)
    return bool(uses) and alone
