"""What an engine says of its layers, in the words of its version.

As NVIDIA's documents show it: names alone unless the plan was built to tell more; -1 and no format for what varies,
unless an execution context was told all shapes; the layers of every profile after the first named so. 8.6 and 10 list
bindings by name, 11 describes them. An activation is fused with what it follows, and the metadata of both is joined by
a control character, which 8.6 leaves in the JSON as it is.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from tests.doubles.double import state
from tests.doubles.plays import graph
from tests.doubles.plays.foundation import DTYPES, Play, World

if TYPE_CHECKING:
    from tests.doubles.plays.run import Engine

VARIES = "N/A due to dynamic shapes"
FUSED = ("Relu", "Sigmoid", "Tanh")
WORDS = {  # of a type: alone, and in the phrase for a linear tensor
    "float32": ("Float", "Row major linear FP32"),
    "float16": ("Half", "Row major linear FP16 format"),
    "int32": ("Int32", "Row major linear INT32"),
    "int64": ("Int64", "Row major linear INT8 format"),  # sic, as seen of 10.0
    "int8": ("Int8", "Row major Int8 format"),
    "bool": ("Bool", "Row major linear BOOL"),
}


def layers_of(model: onnx.ModelProto) -> list[list[onnx.NodeProto]]:
    """The nodes of each layer: an activation goes with the node whose output nothing else takes."""
    takers: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            takers[name] = takers.get(name, 0) + 1
    ends = {value.name for value in model.graph.output}
    layers: list[list[onnx.NodeProto]] = []
    for node in model.graph.node:
        before = layers[-1][-1] if layers else None
        if (
            node.op_type in FUSED
            and before is not None
            and list(before.output) == [node.input[0]]
            and takers[node.input[0]] == 1
            and node.input[0] not in ends
        ):
            layers[-1].append(node)
        else:
            layers.append([node])
    return layers


class Inspector(Play):
    """Tells of one engine or, once it has one, of an execution context."""

    execution_context = None
    error_recorder = None

    def __init__(self, world: World, engine: Engine) -> None:
        super().__init__(world)
        self._engine = engine
        self._keep = engine.api() if engine.api else None  # pybind11 keeps the engine alive for it

    def get_layer_information(self, index: int, _format: Any) -> str:
        layers = self._layers()
        return json.dumps(layers[index]) if 0 <= index < len(layers) else ""

    def get_engine_information(self, format: Any) -> str:
        layers = self._layers()
        if format.name == "ONELINE":
            return "\n".join(layer if isinstance(layer, str) else layer["Name"] for layer in layers)
        told = json.dumps({"Layers": layers, **self._ends()})
        return told.replace("\\u001e", "\x1e") if self.world.legacy else told

    @property
    def _modern(self) -> bool:
        """The form of 11; it came with the end of weak typing."""
        return not self.world.has("BuilderFlag.FP16")

    def _layers(self) -> list[Any]:
        engine = self._engine
        verbosity = engine.profiling_verbosity.name
        if verbosity == "NONE":
            return []
        model = engine.blueprint.model
        known = self._known(model)
        profiles = [""] + [f" [profile {number}]" for number in range(1, engine.num_optimization_profiles)]
        found = []
        for suffix in profiles:
            for nodes in layers_of(model):
                name = " + ".join(node.name or node.output[0] for node in nodes) + suffix
                found.append(self._layer(name, nodes, model, known) if verbosity == "DETAILED" else name)
        return found

    def _known(self, model: onnx.ModelProto) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Type and shape of every tensor, for what the context was told, if it was told all that decides shapes."""
        context = None if self.execution_context is None else state(self.execution_context)
        if context is None or not context.all_binding_shapes_specified or not context.all_shape_inputs_specified:
            return graph.inferred(model)
        if self.world.legacy and context._prepared is None:  # 8.6 settles them when it enqueues
            return graph.inferred(model)
        engine = self._engine
        told = {name: tuple(context.get_tensor_shape(name)) for name in (*engine.inputs, *engine.outputs)}
        known = graph.inferred(model, {name: told[name] for name in engine.inputs})
        return known | {name: (known[name][0], shape) for name, shape in told.items()}

    def _layer(self, name: str, nodes: list[onnx.NodeProto], model: onnx.ModelProto, known: Any) -> dict[str, Any]:
        weights = {tensor.name: tensor for tensor in model.graph.initializer}
        made = {output for node in nodes for output in node.output}
        taken = [name for node in nodes for name in node.input if name and name not in made]
        layer = {
            "Name": name,
            "LayerType": f"Cask{nodes[0].op_type}",
            "Inputs": [self._tensor(name, known) for name in taken if name not in weights],
            "Outputs": [self._tensor(name, known) for name in nodes[-1].output],
            "ParameterType": nodes[0].op_type,
            "TacticName": "sm80_xmma_f32f32_tf32f32_f32",
            "TacticValue": "0x0000000000000000",
            "StreamId": 0,
            "Metadata": ("\x1e" if self.world.legacy else "\x1f").join(
                f"[ONNX Layer: {node.name or 'node_of_' + node.output[0]}]" for node in nodes
            ),
        }
        for role, tensor in zip(
            ("Weights", "Bias"), (weights[name] for name in taken if name in weights), strict=False
        ):
            kind = WORDS[graph.numpy_name(tensor.data_type)][0]
            layer[role] = {"Type": kind, "Count": int(np.prod(tensor.dims, dtype=np.int64))}
        return layer

    def _tensor(self, name: str, known: Any) -> dict[str, Any]:
        element, shape = known.get(name, (0, None))
        kind, phrase = WORDS[DTYPES[self.world.dtype(graph.numpy_name(element)).name][0]]
        told = {"Name": name, "Location": "Device", "Dimensions": list(shape or ())}
        phrase = VARIES if -1 in (shape or ()) else phrase
        return told | ({"Format": phrase, "DataType": kind} if self._modern else {"Format/Datatype": phrase})

    def _ends(self) -> dict[str, Any]:
        engine = self._engine
        names = [*engine.inputs, *engine.outputs]
        if not self._modern:
            later = range(1, engine.num_optimization_profiles)
            return {"Bindings": names + [f"{name} [profile {number}]" for number in later for name in names]}
        return {
            "I/O Tensors": [
                {
                    "Name": name,
                    "IOMode": "Input" if name in engine.inputs else "Output",
                    "DataType": WORDS[DTYPES[engine.get_tensor_dtype(name).name][0]][0],
                    "Dimensions": list(engine.get_tensor_shape(name)),
                    "Location": "Host" if engine.is_shape_inference_io(name) else "Device",
                    "IsShapeInferenceIO": engine.is_shape_inference_io(name),
                    "ProfileInfo": [
                        {
                            **dict(zip(("MinShape", "OptShape", "MaxShape"), self._range(name, index), strict=False)),
                            "Format": f"{WORDS['float32'][1]} format (kLINEAR)",
                        }
                        for index in range(engine.num_optimization_profiles)
                    ],
                }
                for name in names
            ]
        }

    def _range(self, name: str, profile: int) -> list[list[int]]:
        if name not in self._engine.inputs:
            return []
        return [list(shape) for shape in self._engine.get_tensor_profile_shape(name, profile)]
