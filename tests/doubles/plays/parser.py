"""The ONNX parser: what it accepts, and the words in which it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from tests.doubles.double import state
from tests.doubles.plays import graph
from tests.doubles.plays.foundation import Play, World

PLUGIN_MISSING = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
UNKNOWN_TYPE = (
    'convertDtype(onnxDtype.elem_type(), &trtDtype) && "Failed to convert ONNX date type to TensorRT data type."'
)
NOT_EXPLICIT = (
    '!_importer_ctx.network()->hasImplicitBatchDimension() && "This version of the ONNX parser only supports TensorRT '
    "INetworkDefinitions with an explicit batch dimension. Please ensure the network was created using the "
    'EXPLICIT_BATCH NetworkDefinitionCreationFlag."'
)


@dataclass
class Problem(Exception):
    """What the parser did not take, and where."""

    code: str
    reason: str
    func: str
    node: int = -1
    name: str = ""
    operator: str = ""
    output: str = ""


class ParserError(Play):
    """One thing that the parser did not take."""

    def __init__(self, world: World, problem: Problem) -> None:
        super().__init__(world)
        self._problem = problem

    def code(self) -> Any:
        return self.world.enum(f"ErrorCode.{self._problem.code}")

    def desc(self) -> str:
        return self._problem.reason

    def file(self) -> str:
        return "ModelImporter.cpp"

    def func(self) -> str:
        return self._problem.func

    def line(self) -> int:
        return 0

    def node(self) -> int:
        return self._problem.node

    def node_name(self) -> str:
        return self._problem.name

    def node_operator(self) -> str:
        return self._problem.operator

    def local_function_stack(self) -> list[str]:
        return []

    def local_function_stack_size(self) -> int:
        return 0


class Parser(Play):
    """Reads ONNX into a network."""

    def __init__(self, world: World, network: Any, logger: Any) -> None:
        super().__init__(world)
        world.register(logger, "createNvOnnxParser")
        self._network = state(network)
        self._api = network  # lives as long as the parser
        self._errors: list[ParserError] = []
        # Native from version 10 on, and a plugin that needs cuDNN before.
        self.flags = 0 if world.legacy else 1 << int(world.enum("OnnxParserFlag.NATIVE_INSTANCENORM"))

    def set_flag(self, flag: Any) -> None:
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self.flags >> int(flag) & 1)

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        if 0 <= index < len(self._errors):
            return self.world.new("ParserError", self._errors[index])
        self.world.log("ERROR", f"vector::_M_range_check: __n (which is {index}) >= this->size() ({len(self._errors)})")
        return None

    def clear_errors(self) -> None:
        self._errors.clear()

    def supports_operator(self, op_name: str) -> bool:
        # Not the truth: these two are refused when they are met.
        known = onnx.defs.has(op_name) and op_name not in graph.UNSUPPORTED
        return known or op_name in ("Det", "StringNormalizer")

    def parse_from_file(self, model: str) -> bool:
        path = Path(model)
        if self.world.legacy and path.is_file() and not _parses(path):
            if not path.read_bytes().decode("latin-1").isprintable():
                return True  # a model cut off is taken for an empty one
            self.world.log("ERROR", f"ModelImporter.cpp:730: Failed to parse ONNX model from file: {model}")
            return False
        if not path.is_file():
            reason = f"Input file cannot be found, or is not a regular file: {model}"
            return self._refuse(Problem("INVALID_VALUE", f"Assertion failed: {reason}", "parseFromFile"))
        return self.parse(path.read_bytes(), model)

    def parse(self, model: Any, path: str | None = None) -> bool:
        if self._network.num_layers or self._network.num_inputs:
            self.world.log("ERROR", "ModelImporter.cpp:1170: Parse was called with a non-empty network definition")
            return False
        try:
            read = self._read(bytes(model), path)
            for value in graph.inputs_of(read):
                self._admit(value)
            for index, node in enumerate(read.graph.node):
                self._import(index, node, read)
        except Problem as problem:
            return self._refuse(problem)
        _part_inputs_from_outputs(read)
        self._network.fill(read)
        return True

    def _read(self, data: bytes, path: str | None) -> onnx.ModelProto:
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
        except DecodeError:
            reason = "Assertion failed: model->ParseFromCodedStream(&codedInput): Failed to parse the ONNX model."
            raise Problem("MODEL_DESERIALIZE_FAILED", reason, "deserializeOnnxModel") from None
        if self._network.has_implicit_batch_dimension:
            raise Problem("INVALID_VALUE", f"Assertion failed: {NOT_EXPLICIT}", "importModel")
        try:
            onnx.load_external_data_for_model(model, str(Path(path).parent) if path else "")
        except (OSError, onnx.checker.ValidationError) as error:
            raise Problem("INVALID_VALUE", f"Failed to open file: {error}", "parseExternalWeights") from None
        return model

    def _admit(self, value: onnx.ValueInfoProto) -> None:
        element = value.type.tensor_type.elem_type
        name = graph.numpy_name(element)
        if self.world.dtype(name) is None:
            raise Problem("UNSUPPORTED_NODE", f"Assertion failed: {UNKNOWN_TYPE}", "importInput")
        if name == "int64":
            where = "Make sure input {} has Int64 binding." if self.world.has("DataType.INT64") else ""
            words = where.format(value.name) or (
                "Your ONNX model has been generated with INT64 weights, while TensorRT does not natively support "
                "INT64. Attempting to cast down to INT32."
            )
            self.world.log("WARNING", f"ModelImporter.cpp: {words}")

    def _import(self, index: int, node: onnx.NodeProto, model: onnx.ModelProto) -> None:
        at = (index, node.name, node.op_type, node.output[0])
        earlier = {name for before in list(model.graph.node)[:index] for name in before.output}
        known = earlier | {v.name for v in model.graph.input} | {t.name for t in model.graph.initializer} | {""}
        if not onnx.defs.has(node.op_type, node.domain):
            code = "UNSUPPORTED_NODE" if self.world.legacy else "INVALID_NODE"
            raise Problem(code, PLUGIN_MISSING, "checkFallbackPluginImporter", *at)
        if node.op_type in graph.UNSUPPORTED:
            raise Problem("UNSUPPORTED_NODE", "false", f"check{node.op_type}", *at)
        if set(node.input) - known:
            reason = "Assertion failed: (ctx->tensors().count(inputName)): Node input was not registered."
            raise Problem("INVALID_GRAPH", reason, "parseNode", *at)
        if node.op_type == "NonZero" and self.world.rtx and not self.world.double.gpu:
            reason = "NonZero plugin creator version 1 was not found in plugin registry."
            raise Problem("UNSUPPORTED_NODE", f"Assertion failed: creator: {reason}", "importNonZero", *at)

    def _refuse(self, problem: Problem) -> bool:
        self._errors.append(ParserError(self.world, problem))
        if problem.node >= 0:
            at = f'{problem.node} [{problem.operator} -> "{problem.output}"]'
            self.world.log("ERROR", f"ModelImporter.cpp:140: While parsing node number {at}:")
        self.world.log("ERROR", f"In node {problem.node} ({problem.func}): {problem.code}: {problem.reason}")
        return False


def _parses(path: Path) -> bool:
    try:
        onnx.ModelProto().ParseFromString(path.read_bytes())
    except DecodeError:
        return False
    return True


def _part_inputs_from_outputs(model: onnx.ModelProto) -> None:
    """TensorRT has no input that is an output: the parser copies it, and renames the *input*."""
    outputs = {value.name for value in model.graph.output}
    for value in graph.inputs_of(model):
        if value.name in outputs:
            name, renamed = value.name, f"__{value.name}"
            kept = [output for output in model.graph.output if output.name == name]
            graph.rename(model, name, renamed)
            for output in model.graph.output:
                if output.name == renamed:
                    output.CopyFrom(kept[0])
                    output.name = name
            model.graph.node.append(onnx.helper.make_node("Identity", [renamed], [name], name=f"copy of {name}"))


PLAYS: dict[str, type] = {"OnnxParser": Parser, "ParserError": ParserError}
