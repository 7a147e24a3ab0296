"""Small models for the tests of the runtime."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from harness.spec import ModelSpec, OnnxFile, Profile, Values


def save(path: Path, nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[int | str]]], output: str) -> Path:
    """A model of ``nodes``, with inputs of an ONNX type and shape, and one output."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def relu(folder: Path, name: str = "relu", profile: Profile | None = None) -> ModelSpec:
    """``y = Relu(x)``, x float32 [batch, 2]; the graph is named after the model, so each has a key of its own."""
    path = save(
        folder / f"{name}.onnx",
        [helper.make_node("Relu", ["x"], ["y"], name=name)],
        {"x": (TensorProto.FLOAT, ["batch", 2])},
        "y",
    )
    return ModelSpec(name, OnnxFile(path), (profile or Profile.of({"batch": (1, 2, 4)}),))


def concat(folder: Path) -> Path:
    """``y = Concat(past, new)`` with a mask over both: the KV cache of a decoder, as exporters write it."""
    return save(
        folder / "concat.onnx",
        [
            helper.make_node("Concat", ["past", "new"], ["both"], axis=1),
            helper.make_node("Mul", ["both", "mask"], ["y"]),
        ],
        {
            "past": (TensorProto.FLOAT, ["batch", "past"]),
            "new": (TensorProto.FLOAT, ["batch", "seq"]),
            "mask": (TensorProto.FLOAT, ["batch", "past + seq"]),
        },
        "y",
    )


def reshape(folder: Path) -> ModelSpec:
    """``y = Reshape(x, shape)``, where ``shape`` is an input of two elements."""
    path = save(
        folder / "reshape.onnx",
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        {"x": (TensorProto.FLOAT, [12]), "shape": (TensorProto.INT64, [2])},
        "y",
    )
    return ModelSpec("reshape", OnnxFile(path), (Profile.of(values={"shape": Values((1, 1), (3, 4), (12, 12))}),))
