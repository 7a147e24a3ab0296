"""Networks, tensors and layers."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.doubles.double import state
from tests.doubles.plays import graph
from tests.doubles.plays.foundation import DTYPES, Play, World

ACTIVATIONS = {"RELU": "Relu", "SIGMOID": "Sigmoid", "TANH": "Tanh", "ELU": "Elu", "SOFTSIGN": "Softsign"}
ELEMENTWISE = {"SUM": "Add", "PROD": "Mul", "SUB": "Sub", "DIV": "Div", "MAX": "Max", "MIN": "Min", "POW": "Pow"}
UNARY = {"EXP": "Exp", "LOG": "Log", "SQRT": "Sqrt", "ABS": "Abs", "NEG": "Neg", "SIN": "Sin", "COS": "Cos"}
# The classes of layers that are played, and ONNX operators that become one of them.
LAYERS = {
    "IActivationLayer": ("ACTIVATION", tuple(ACTIVATIONS.values())),
    "IElementWiseLayer": ("ELEMENTWISE", tuple(ELEMENTWISE.values())),
    "IUnaryLayer": ("UNARY", tuple(UNARY.values())),
    "IMatrixMultiplyLayer": ("MATRIX_MULTIPLY", ("MatMul",)),
    "IShuffleLayer": ("SHUFFLE", ("Reshape", "Transpose")),
    "IConstantLayer": ("CONSTANT", ("Constant",)),
    "IIdentityLayer": ("IDENTITY", ("Identity",)),
}

QUANTIZING = {"QuantizeLinear": "QUANTIZE", "DequantizeLinear": "DEQUANTIZE"}


class Tensor(Play):
    """One tensor of a network, by name."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__(network.world)
        self._network, self._name = network, name

    @property
    def name(self) -> str:
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._network.rename(self._name, name)
        self._name = name

    @property
    def shape(self) -> tuple[int, ...]:
        return self._network.known(self._name)[1]

    @property
    def dtype(self) -> Any:
        return self.world.dtype(graph.numpy_name(self._network.known(self._name)[0]))

    @property
    def is_shape_tensor(self) -> bool:
        return self._name in graph.shape_tensors(self._network.model)

    @property
    def is_execution_tensor(self) -> bool:
        return not self.is_shape_tensor

    @property
    def is_network_input(self) -> bool:
        return any(value.name == self._name for value in graph.inputs_of(self._network.model))

    @property
    def is_network_output(self) -> bool:
        return any(value.name == self._name for value in self._network.model.graph.output)

    @property
    def location(self) -> Any:
        return self.world.enum(f"TensorLocation.{'HOST' if self.is_shape_tensor else 'DEVICE'}")


class Layer(Play):
    """One node of a network."""

    def __init__(self, network: Network, node: onnx.NodeProto, cls: str = "") -> None:
        super().__init__(network.world)
        self._network, self._node = network, node
        self.cls = cls or next((name for name, (_, known) in LAYERS.items() if node.op_type in known), "ILayer")

    @property
    def name(self) -> str:
        return self._node.name

    @name.setter
    def name(self, name: str) -> None:
        self._node.name = name

    @property
    def type(self) -> Any:
        if self.cls == "IActivationLayer":  # its own `type` hides that of all layers
            return self.world.enum(f"ActivationType.{_member(ACTIVATIONS, self._node.op_type)}")
        if self._node.op_type in QUANTIZING:
            return self.world.enum(f"LayerType.{QUANTIZING[self._node.op_type]}")
        member = LAYERS[self.cls][0] if self.cls in LAYERS else "PLUGIN_V2"
        return self.world.enum(f"LayerType.{member}")

    @property
    def num_inputs(self) -> int:
        return len(self._node.input)

    @property
    def num_outputs(self) -> int:
        return len(self._node.output)

    def get_input(self, index: int) -> Any:
        return self._network.tensor(self._node.input[index])

    def get_output(self, index: int) -> Any:
        return self._network.tensor(self._node.output[index])


def _member(table: dict[str, str], operator: str) -> str:
    return next(member for member, known in table.items() if known == operator)


class Shuffle(Layer):
    """A reshape, once it is told to what."""

    def set_input(self, index: int, tensor: Any) -> None:
        if index == 0:
            self._node.input[0] = tensor.name
            return
        name = f"{tensor.name} as shape of {self.name}"
        cast = helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.INT64)
        self._reshape(cast, name)

    @property
    def reshape_dims(self) -> tuple[int, ...]:
        return self._network.known(self._node.output[0])[1]

    @reshape_dims.setter
    def reshape_dims(self, sizes: Any) -> None:
        name = f"shape of {self.name}"
        self._reshape(graph.constant(name, np.array(tuple(sizes), np.int64)), name)

    def _reshape(self, maker: onnx.NodeProto, name: str) -> None:
        nodes = self._network.model.graph.node
        place = next(i for i, node in enumerate(nodes) if node.name == self.name)
        nodes.insert(place, maker)
        self._node = nodes[place + 1]
        self._node.op_type = "Reshape"
        self._node.input.append(name)
        self._network.changed()


class Network(Play):
    """A network, held as an ONNX model."""

    def __init__(self, world: World, builder: weakref.ref[Any], flags: int) -> None:
        super().__init__(world)
        self._builder, self.flags, self.name = builder, flags, "Unnamed Network 0"
        self.error_recorder = None
        self.model = graph.empty()
        self.marked: set[str] = set()  # weights that alone a refit may replace
        self._known: dict[str, tuple[int, tuple[int, ...]]] | None = None
        self._tensors: dict[str, Tensor] = {}
        self._layers: list[Layer] = []

    @property
    def builder(self) -> Any:
        return self._builder()

    def _flag(self, name: str) -> bool:
        path = f"NetworkDefinitionCreationFlag.{name}"
        return self.world.has(path) and bool(self.flags >> int(self.world.enum(path)) & 1)

    @property
    def strongly_typed(self) -> bool:
        # Versions without weak typing have one way only.
        return self._flag("STRONGLY_TYPED") or not self.world.has("BuilderFlag.FP16")

    @property
    def has_implicit_batch_dimension(self) -> bool:
        return self.world.legacy and not self._flag("EXPLICIT_BATCH")

    def get_flag(self, flag: Any) -> bool:
        return self._flag(flag.name)

    def fill(self, model: onnx.ModelProto) -> None:
        """Become what a parser read."""
        self.model = model
        self.changed()
        self._layers = [Layer(self, node) for node in model.graph.node]

    def changed(self) -> None:
        self._known = None

    def known(self, name: str) -> tuple[int, tuple[int, ...]]:
        """Element type and shape, -1 where dynamic, of a tensor."""
        if self._known is None:
            self._known = graph.inferred(self.model)
        return self._known[name]

    def rename(self, old: str, new: str) -> None:
        graph.rename(self.model, old, new)
        self._tensors[new] = self._tensors.pop(old)
        self.changed()

    def tensor(self, name: str) -> Any:
        return self.world.new("ITensor", self._tensors.setdefault(name, Tensor(self, name)))

    @property
    def num_inputs(self) -> int:
        return len(graph.inputs_of(self.model))

    @property
    def num_outputs(self) -> int:
        return len(self.model.graph.output)

    @property
    def num_layers(self) -> int:
        return len(self._layers)

    def __len__(self) -> int:
        return self.num_layers

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.num_layers:
            raise IndexError("Out of bounds")
        return self.get_layer(index)

    def _at(self, values: Any, index: int, what: str) -> Any:
        if 0 <= index < len(values):
            return values[index]
        self.world.error(
            f"INetworkDefinition::get{what}",
            f"Parameter check failed, condition: (0) <= (index). Invalid index: {index}",
        )
        return None

    def get_input(self, index: int) -> Any:
        value = self._at(graph.inputs_of(self.model), index, "Input")
        return None if value is None else self.tensor(value.name)

    def get_output(self, index: int) -> Any:
        value = self._at(self.model.graph.output, index, "Output")
        return None if value is None else self.tensor(value.name)

    def get_layer(self, index: int) -> Any:
        layer = self._at(self._layers, index, "Layer")
        return None if layer is None else self.world.new(layer.cls, layer)

    def mark_weights_refittable(self, name: str) -> bool:
        if not any(tensor.name == name for tensor in self.model.graph.initializer):
            return False
        self.marked.add(name)
        return True

    def unmark_weights_refittable(self, name: str) -> bool:
        marked = name in self.marked
        self.marked.discard(name)
        return marked

    def are_weights_marked_refittable(self, name: str) -> bool:
        return name in self.marked

    def mark_output(self, tensor: Any) -> None:
        element, shape = self.known(tensor.name)
        sizes = [None if size < 0 else size for size in shape]
        self.model.graph.output.append(helper.make_tensor_value_info(tensor.name, element, sizes))

    def unmark_output(self, tensor: Any) -> None:
        kept = [value for value in self.model.graph.output if value.name != tensor.name]
        del self.model.graph.output[:]
        self.model.graph.output.extend(kept)

    def add_input(self, name: str, dtype: Any, shape: Any) -> Any:
        if any(value.name == name for value in self.model.graph.input):
            self.world.error(
                "INetworkDefinition::addInput", "Parameter check failed, condition: inName != knownInput->getName()."
            )
            return None
        element = helper.np_dtype_to_tensor_dtype(np.dtype(DTYPES[dtype.name][0]))
        sizes = [f"{name}:{axis}" if size < 0 else size for axis, size in enumerate(shape)]
        self.model.graph.input.append(helper.make_tensor_value_info(name, element, sizes))
        self.changed()
        return self.tensor(name)

    def _add(self, cls: str, operator: str, inputs: list[str], label: str, **attributes: Any) -> Any:
        name = f"(Unnamed Layer* {len(self._layers)}) [{label}]"
        node = helper.make_node(operator, inputs, [f"{name}_output"], name=name, **attributes)
        self.model.graph.node.append(node)
        self.changed()
        layer = PLAYS[cls](self, self.model.graph.node[-1], cls)
        self._layers.append(layer)
        return self.world.new(cls, layer)

    def add_identity(self, tensor: Any) -> Any:
        return self._add("IIdentityLayer", "Identity", [tensor.name], "Identity")

    def add_shuffle(self, tensor: Any) -> Any:
        return self._add("IShuffleLayer", "Identity", [tensor.name], "Shuffle")

    def add_activation(self, tensor: Any, kind: Any) -> Any:
        return self._add("IActivationLayer", self._operator(ACTIVATIONS, kind), [tensor.name], "Activation")

    def add_unary(self, tensor: Any, kind: Any) -> Any:
        return self._add("IUnaryLayer", self._operator(UNARY, kind), [tensor.name], "Unary")

    def add_elementwise(self, first: Any, second: Any, kind: Any) -> Any:
        names = [first.name, second.name]
        return self._add("IElementWiseLayer", self._operator(ELEMENTWISE, kind), names, "ElementWise")

    def _operator(self, table: dict[str, str], kind: Any) -> str:
        if kind.name not in table:
            raise NotImplementedError(f"{self.world.double.title}: the double plays no layer of {kind}")
        return table[kind.name]

    def add_constant(self, _shape: Any, weights: Any) -> Any:
        array = state(weights).array.reshape(tuple(_shape))
        tensor = numpy_helper.from_array(array)
        return self._add("IConstantLayer", "Constant", [], "Constant", value=tensor)

    def add_matrix_multiply(self, first: Any, op0: Any, second: Any, op1: Any) -> Any:
        names: list[str] = []
        for tensor, operation in ((first, op0), (second, op1)):
            name = tensor.name
            if operation.name == "TRANSPOSE":
                rank = len(self.known(name)[1])
                order = [*range(rank - 2), rank - 1, rank - 2]
                turned = f"{name} transposed for layer {len(self._layers)}.{len(names)}"
                self.model.graph.node.append(helper.make_node("Transpose", [name], [turned], perm=order))
                name = turned
            elif operation.name != "NONE":
                raise NotImplementedError(f"{self.world.double.title}: the double plays no {operation}")
            names.append(name)
        return self._add("IMatrixMultiplyLayer", "MatMul", names, "Matrix Multiply")


PLAYS: dict[str, type] = (
    {"ITensor": Tensor, "INetworkDefinition": Network, "ILayer": Layer}
    | dict.fromkeys(LAYERS, Layer)
    | {"IShuffleLayer": Shuffle}
)
