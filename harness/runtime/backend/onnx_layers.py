"""The nodes of an ONNX graph, told as TensorRT's inspector tells layers.

For backends whose layers are nodes. The form is that of TensorRT 11: "I/O Tensors" are objects, and a tensor has
its type by itself ("DataType").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.runtime.backend.protocol import EngineInfo, Shape

if TYPE_CHECKING:
    import onnx

# Types as the inspector calls them; others by ONNX's own name.
TYPES = {
    "FLOAT": "Float",
    "FLOAT16": "Half",
    "BFLOAT16": "BFloat16",
    "DOUBLE": "Double",
    "INT8": "Int8",
    "UINT8": "UInt8",
    "INT32": "Int32",
    "INT64": "Int64",
    "BOOL": "Bool",
    "FLOAT8E4M3FN": "FP8",
    "INT4": "Int4",
}
Known = Mapping[str, tuple[str, Shape | None]]  # type and shape by tensor; "" and None where nothing is known


def name_of(node: onnx.NodeProto) -> str:
    """The node's name, or, for one without, what TensorRT's parser calls it: by its first output."""
    return node.name or f"node_of_{next((name for name in node.output if name), node.op_type)}"


def opens(node: onnx.NodeProto) -> bool:
    """Whether it has a subgraph, which may take tensors that are not among its inputs."""
    return any(attribute.HasField("g") for attribute in node.attribute)


def constants(graph: onnx.GraphProto) -> set[str]:
    """The tensors of the main graph that no input has a part in."""
    found = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if all(name in found for name in node.input if name) and not opens(node):
            found.update(node.output)
    return found


def at_optimum(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> Known:
    """Type and shape of every tensor of the main graph, for inputs of ``shapes``, as far as onnx can infer them."""
    import onnx

    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    sized.graph.ClearField("value_info")
    for value in sized.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes.get(value.name, ()), strict=False):
            dim.dim_value = size
    inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    known: dict[str, tuple[str, Shape | None]] = {
        tensor.name: (_type(tensor.data_type), tuple(tensor.dims)) for tensor in inferred.initializer
    }
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        shape = (
            tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)
            if kind.HasField("shape")
            else None
        )
        known.setdefault(value.name, (_type(kind.elem_type), shape))
    return known


def layers(
    graph: onnx.GraphProto,
    info: EngineInfo,
    known: Known,
    origins: Callable[[onnx.NodeProto], Iterable[str]],
    rearranging: Iterable[str] = (),
) -> dict[str, Any]:
    """The inspector's JSON for ``graph``; ``rearranging`` are operators that change nothing but a tensor's layout."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    told = []
    for node in graph.node:
        kind = ".".join(filter(None, (node.domain, node.op_type)))
        layer: dict[str, Any] = {
            "Name": name_of(node),
            "LayerType": kind,
            "Inputs": [_tensor(name, known) for name in node.input if name and name not in weights],
            "Outputs": [_tensor(name, known) for name in node.output if name],
            "ParameterType": "Reformat" if node.op_type in rearranging else node.op_type,
            "Metadata": "\x1f".join(f"[ONNX Layer: {name}]" for name in origins(node)),
        }
        for number, name in enumerate(name for name in node.input if name in weights):
            tensor = weights[name]
            held = {"Type": _type(tensor.data_type), "Count": math.prod(tensor.dims)}
            layer[f"Weights {number}" if number else "Weights"] = held
        told.append(layer)
    return {"Layers": told, "I/O Tensors": _io_tensors(info, known)}


def _io_tensors(info: EngineInfo, known: Known) -> list[dict[str, Any]]:
    return [
        {
            "Name": tensor.name,
            "IOMode": tensor.mode.capitalize(),
            "DataType": known.get(tensor.name, ("", None))[0],
            "Dimensions": list(tensor.shape),
            "Location": "Host",
            "IsShapeInferenceIO": tensor.shape_tensor,
        }
        for tensor in info.tensors
    ]


def _tensor(name: str, known: Known) -> dict[str, Any]:
    kind, shape = known.get(name, ("", None))
    told: dict[str, Any] = {"Name": name, "Location": "Host"}
    if shape is not None:
        told["Dimensions"] = list(shape)
    if kind:
        told["DataType"] = kind
    return told


def _type(number: int) -> str:
    import onnx

    name = onnx.TensorProto.DataType.Name(number) if number else ""
    return TYPES.get(name, name)
