"""Refitters: which weights of an engine have a name or a place, what hangs together, and how it is replaced.

What is set is read where it lies, and not before the refit. A captured graph goes on with the weights that
there were: nothing in the documentation says that it would not.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from tests.doubles.double import NullPointer, state
from tests.doubles.plays import graph
from tests.doubles.plays.foundation import DTYPES, Play, Weights, World
from tests.doubles.plays.parser import ParserError, Problem

Array = np.ndarray[Any, Any]
Place = tuple[str, str]
ROLES = {"Conv": ("KERNEL", "BIAS"), "ConvTranspose": ("KERNEL", "BIAS"), "BatchNormalization": ("SCALE", "SHIFT")}
REFITS = ("REFIT", "REFIT_IDENTICAL", "REFIT_INDIVIDUAL")
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def folded(world: World, model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with each batch normalization as one scale and one shift, in float32, under the parser's own names."""
    base = "tmp_weight" if world.legacy else "tmp_refittable_weight"
    names = (base + (f"_{number}" if number >= 0 else "") for number in itertools.count(-1))
    made = onnx.ModelProto()
    made.CopyFrom(model)
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    for node in made.graph.node:
        if node.op_type != "BatchNormalization" or not all(name in held for name in node.input[1:]):
            continue
        gamma, beta, mean, variance = (held[name].astype(np.float32) for name in node.input[1:])
        epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
        scale = gamma / np.sqrt(variance + np.float32(epsilon))
        node.input[1:] = [next(names), next(names), f"mean of {node.name}", f"variance of {node.name}"]
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("epsilon", 0.0))
        arrays = (scale, beta - mean * scale, np.zeros_like(mean), np.ones_like(mean))
        for name, array in zip(node.input[1:], arrays, strict=True):
            made.graph.initializer.append(numpy_helper.from_array(array, name))
    return made


def strip(model: onnx.ModelProto, names: Any) -> None:
    """Take the values of ``names`` away."""
    for tensor in model.graph.initializer:
        if tensor.name in names:
            tensor.ClearField("raw_data")
            tensor.ClearField("float_data")


def filled(model: onnx.ModelProto) -> set[str]:
    """Give what was stripped something to be, NaN, and its names."""
    bare = [t for t in model.graph.initializer if t.data_type in FLOATS and not t.raw_data and not t.float_data]
    for tensor in bare:
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        tensor.CopyFrom(numpy_helper.from_array(np.full(tuple(tensor.dims), np.nan, kind), tensor.name))
    return {tensor.name for tensor in bare}


def refittable(world: World, model: onnx.ModelProto, marked: Any) -> dict[str, onnx.TensorProto]:
    """What a refit may replace, by name; 8.6 makes another weight of the bias of a quantized convolution."""
    used = {name for node in model.graph.node for name in node.input}
    dequantized = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv" and len(node.input) > 2]
    lost = {node.input[2] for node in convolutions if node.input[1] in dequantized and world.legacy}
    rest = {f"{what} of {node.name}" for node in model.graph.node for what in ("mean", "variance")}
    return {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if tensor.data_type in FLOATS and tensor.name in used - lost - rest and (not marked or tensor.name in marked)
    }


def _layer(node: onnx.NodeProto) -> str:
    return node.name or f"node_of_{node.output[0]}"


class Refitter(Play):
    """Replaces weights of an engine, by name, or by layer and role."""

    error_recorder = None
    max_threads = 1
    weights_validation = True

    def __init__(self, world: World, engine: Any, logger: Any) -> None:
        super().__init__(world)
        world.register(logger, "createInferRefitter")
        self.logger = logger
        self._engine = state(engine)
        self._keep = engine
        self._given: dict[str, tuple[Weights, bool]] = {}  # and whether it lies on the device
        if not self._engine.refittable:
            world.error("Refitter::Refitter", "Cannot refit engine not built with kREFIT set", "4: API Usage Error")
            raise NullPointer

    @property
    def _held(self) -> dict[str, onnx.TensorProto]:
        return refittable(self.world, self._engine.blueprint.model, self._engine.blueprint.facts["marked"])

    @property
    def _places(self) -> dict[Place, str]:
        held = self._held
        found = {
            (_layer(node), role): name
            for node in self._engine.blueprint.model.graph.node
            for role, name in zip(ROLES.get(node.op_type, ()), list(node.input)[1:], strict=False)
            if name in held
        }
        placed = set(found.values())
        return found | {(name, "CONSTANT"): name for name in held if name not in placed}

    def _groups(self) -> Iterator[set[str]]:
        """A normalization goes with the convolution or product before it: it was computed into that."""
        nodes = self._engine.blueprint.model.graph.node
        makers = {output: node for node in nodes for output in node.output}
        for node in nodes:
            if node.op_type == "BatchNormalization":
                before = makers.get(node.input[0])
                yield {*node.input[1:3], *(before.input[1:] if before is not None else ())} & self._held.keys()

    def _missing(self) -> list[str]:
        wanted = {name for group in self._groups() if group & self._given.keys() for name in group}
        wanted |= self._engine.awaited
        return [name for name in self._held if name in wanted and name not in self._given]

    def _told(self, names: Any) -> tuple[list[str], list[Any]]:
        places = [place for place, name in self._places.items() if name in names]
        return [layer for layer, _ in places], [self.world.enum(f"WeightsRole.{role}") for _, role in places]

    def get_all(self) -> tuple[list[str], list[Any]]:
        return self._told(self._held)

    def get_missing(self) -> tuple[list[str], list[Any]]:
        return self._told(self._missing())

    def get_all_weights(self) -> list[str]:
        return list(self._held)

    def get_missing_weights(self) -> list[str]:
        return self._missing()

    def set_weights(self, layer_name: str, role: Any, weights: Any) -> bool:
        name = self._places.get((layer_name, role.name))
        if name is None:
            words = f"Layer {layer_name} has no weights in the role {role.name}, or there is no such layer."
            self.world.error("Refitter::setWeights", words)
            return False
        return self._set("Refitter::setWeights", name, weights, on_device=False)

    def set_named_weights(self, name: str, weights: Any, location: Any = None) -> bool:
        if name not in self._held:
            words = f"{name}: network does not have (or does not use) this weights as a refittable weights"
            self.world.error("refit.cpp::setNamedWeights::322", words, "4: Internal Error")
            return False
        on_device = location is not None and location.name == "DEVICE"
        return self._set("Refitter::setNamedWeights", name, weights, on_device=on_device)

    def _set(self, where: str, name: str, weights: Any, *, on_device: bool) -> bool:
        given = state(weights)
        objection = self._objection(name, given)
        if objection and not self.world.legacy:  # 8.6 looks as late as when it refits
            self.world.error(where, objection)
            return False
        self._given[name] = (given, on_device)
        return True

    def _objection(self, name: str, given: Weights) -> str:
        held = self._held[name]
        count, wanted = int(np.prod(held.dims, dtype=np.int64)), self._dtype(held)
        if given.size != count:
            return f"The count of weights {name} is {given.size}, the engine's is {count}."
        if given.dtype != wanted:
            return f"The type of weights {name} is {given.dtype.name}, the engine's is {wanted.name}."
        return ""

    def _dtype(self, held: onnx.TensorProto) -> Any:
        return self.world.dtype(graph.numpy_name(held.data_type))

    def get_named_weights(self, weights_name: str) -> Any:
        """Those that were set and not yet refitted; without any, weights that are empty."""
        given = self._given.get(weights_name)
        return self.world.new("Weights", given[0] if given else Weights(self.world, None))

    def get_weights_location(self, weights_name: str) -> Any:
        on_device = self._given.get(weights_name, (None, False))[1]
        return self.world.enum(f"TensorLocation.{'DEVICE' if on_device else 'HOST'}")

    def get_weights_prototype(self, weights_name: str) -> Any:
        """Type and count, and no values."""
        made = Weights(self.world, None)
        held = self._held.get(weights_name)
        if held is not None:
            made.dtype, made.size = self._dtype(held), int(np.prod(held.dims, dtype=np.int64))
        return self.world.new("Weights", made)

    def unset_named_weights(self, weights_name: str) -> bool:
        return self._given.pop(weights_name, None) is not None

    def release_refit_resources(self) -> bool:
        return True

    def refit_cuda_engine(self) -> bool:
        if not self._may():
            return False
        self._apply(dict(self._given))
        return True

    def refit_cuda_engine_async(self, stream_handle: int) -> bool:
        """Done when the stream is: until then what was set must stay where it is."""
        if not self._may():
            return False
        given = dict(self._given)
        return bool(self.world.cuda.enqueue(stream_handle, lambda: self._apply(given)))

    def _may(self) -> bool:
        if missing := self._missing():
            self.world.error("Refitter::refitCudaEngine", f"missing {len(missing)} needed weights: {missing}")
            return False
        for name, (given, _) in self._given.items():
            if self._objection(name, given):
                words = "Assertion newWeights.count() == original.count() failed. "
                self.world.error("refit.cpp::lookup::347", words, "2: Internal Error")
                return False
        return True

    def _apply(self, given: dict[str, tuple[Weights, bool]]) -> None:
        model = onnx.ModelProto()
        model.CopyFrom(self._engine.blueprint.model)
        for tensor in model.graph.initializer:
            if tensor.name in given:
                weights, on_device = given[tensor.name]
                array = self._read(weights, on_device).reshape(tuple(tensor.dims))
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
        self._engine.awaited -= given.keys()
        self._engine.blueprint = dataclasses.replace(self._engine.blueprint, model=model)
        self._engine.program = graph.Program(model)

    def _read(self, weights: Weights, on_device: bool) -> Array:
        if weights.address:
            kind = np.dtype(DTYPES[weights.dtype.name][0])
            where = self.world.cuda.device_array if on_device else self.world.cuda.host_array
            array: Array = where(weights.address, kind, (weights.size,)).copy()
            return array
        return weights.array


class ParserRefitter(Play):
    """Sets all weights of a refitter from an ONNX file, the same one as the engine's but for their values."""

    def __init__(self, world: World, refitter: Any, logger: Any) -> None:
        super().__init__(world)
        world.register(logger, "createNvOnnxParserRefitter")
        self._refitter, self._api = state(refitter), refitter
        self._errors: list[ParserError] = []
        self._model: onnx.ModelProto | None = None
        self._kept: list[Any] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return self.world.new("ParserError", self._errors[index])

    def clear_errors(self) -> None:
        self._errors.clear()

    def refit_from_file(self, model: str) -> bool:
        path = Path(model)
        if not path.is_file():
            return self._refuse("MODEL_DESERIALIZE_FAILED", f"Failed to parse the ONNX model: {model}")
        return self.refit_from_bytes(path.read_bytes(), model)

    def refit_from_bytes(self, model: Any, path: str | None = None) -> bool:
        return self.load_model_proto(model, path) and self.refit_model_proto()

    def load_model_proto(self, model: Any, path: str | None = None) -> bool:
        read = onnx.ModelProto()
        try:
            read.ParseFromString(bytes(model))
            onnx.load_external_data_for_model(read, str(Path(path).parent) if path else "")
        except (DecodeError, OSError, onnx.checker.ValidationError):
            return self._refuse("MODEL_DESERIALIZE_FAILED", f"Failed to parse the ONNX model: {path}")
        self._model = read
        return True

    def load_initializer(self, name: str, data: int, size: int) -> bool:
        """The bytes of one initializer, from where they lie, in place of the model's own."""
        for tensor in self._model.graph.initializer if self._model is not None else ():
            if tensor.name == name:
                tensor.ClearField("float_data")
                tensor.raw_data = self.world.cuda.host_array(data, np.dtype(np.uint8), (size,)).tobytes()
                return True
        return False

    def refit_model_proto(self) -> bool:
        if self._model is None:
            return self._refuse("INVALID_VALUE", "no model was loaded")
        wanted = self._refitter.get_all_weights()
        held = {tensor.name: tensor for tensor in folded(self.world, self._model).graph.initializer}
        done = 0
        for name in wanted:
            if name not in held:
                continue
            weights = Weights(self.world, numpy_helper.to_array(held[name]).copy())
            self._kept.append(weights)  # read by the refit itself
            if not self._refitter.set_named_weights(name, self.world.new("Weights", weights)):
                return self._refuse("REFIT_FAILED", "Failed to set named weights")
            done += 1
        if done != len(wanted):
            words = f"Only successfully refitted {done} weights out of {len(wanted)}"
            return self._refuse("REFIT_FAILED", words)
        return True

    def _refuse(self, code: str, reason: str) -> bool:
        self._errors.append(ParserError(self.world, Problem(code, reason, "refitOnnxWeights")))
        self.world.log("ERROR", reason)
        return False


PLAYS: dict[str, type] = {"Refitter": Refitter, "OnnxParserRefitter": ParserRefitter}
