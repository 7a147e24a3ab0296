"""Reading and writing ONNX files: what they declare, which files they consist of, what is wrong with them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import SpecError
from harness.spec.source import EXTERNAL_FROM
from harness.spec.tensor import Dim, TensorSpec

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Interface:
    """What a model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def symbols(self) -> frozenset[str]:
        """Every symbol that the inputs' shapes use."""
        return frozenset(symbol for tensor in self.inputs for symbol in tensor.symbols)


def load(path: Path, *, weights: bool = False) -> onnx.ModelProto:
    """The model at ``path``, with its external data when ``weights``.

    SpecError when it isn't ONNX, is cut short, or refers to data that is missing or lies outside
    the model's folder.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file") from None
    except OSError as error:
        raise SpecError(f"{path}: can't be read: {error.strerror}") from None
    except (DecodeError, ValueError) as error:
        raise SpecError(f"{path}: not an ONNX model, or cut short ({error})") from None
    if not model.HasField("graph") or not model.opset_import:
        raise SpecError(f"{path}: not an ONNX model: it holds no graph or names no operator set")
    _external_files(model, path)
    if weights:
        onnx.load_external_data_for_model(model, str(path.parent))
    return model


def validate(path: Path) -> None:
    """SpecError when the model at ``path`` breaks a rule of ONNX itself.

    An operator that ONNX does not know is no such breach: it may be a plugin's, and the parser that
    refuses it names the node.
    """
    import onnx

    if not load(path).graph.output:
        raise SpecError(f"{path}: not a valid ONNX model: it declares no outputs")
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        if "No Op registered for" not in str(error):
            raise SpecError(f"{path}: not a valid ONNX model: {str(error).strip()}") from None


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write ``model``, deterministically; large weights go to ``<name>.data`` beside it."""
    import onnx

    external = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > EXTERNAL_FROM
    if external:
        onnx.save_model(
            model,
            str(path),
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=path.name + ".data",
            size_threshold=1024,
        )
    else:
        path.write_bytes(model.SerializeToString(deterministic=True))


def files_of(path: Path) -> list[Path]:
    """The model file and every external file it refers to, in a fixed order."""
    return [path, *_external(path, _modified(path))]


@functools.lru_cache(maxsize=1024)
def _external(path: Path, _state: int) -> tuple[Path, ...]:
    return tuple(_external_files(load(path), path))


def interface(path: Path) -> Interface:
    """Inputs and outputs as declared; initializers that are listed as inputs don't count as such."""
    return _interface(path, _modified(path))


def _modified(path: Path) -> int:
    """What caches go by; 0 for a file that is not there, which reading it will say."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@functools.lru_cache(maxsize=1024)
def _interface(path: Path, _state: int) -> Interface:
    graph = load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return Interface(
        tuple(_tensor(path, value, is_input=True) for value in graph.input if value.name not in weights),
        tuple(_tensor(path, value, is_input=False) for value in graph.output),
    )


def _tensor(path: Path, value: onnx.ValueInfoProto, *, is_input: bool) -> TensorSpec:
    from onnx import TensorProto, helper

    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or kind.elem_type == TensorProto.UNDEFINED:
        given = value.type.WhichOneof("value") or "nothing"
        raise SpecError(f"{path}: {value.name!r} must be a tensor with an element type, but is declared as {given}")
    if is_input and not kind.HasField("shape"):
        raise SpecError(f"{path}: input {value.name!r} is declared without a rank: export again with its shape")
    shape: list[Dim] = []
    for axis, dim in enumerate(kind.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value >= 0:  # some exporters write -1 for "dynamic"
            shape.append(dim.dim_value)
        else:
            shape.append(dim.dim_param.replace(" ", "") or f"{value.name}:{axis}")
    return TensorSpec(value.name, str(helper.tensor_dtype_to_np_dtype(kind.elem_type)), tuple(shape))


def _external_files(model: onnx.ModelProto, path: Path) -> list[Path]:
    import onnx

    found = set()
    folder = path.parent.resolve()
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = (folder / location).resolve()
        if not location or not file.is_relative_to(folder):
            raise SpecError(
                f"{path}: the external data of {tensor.name!r} lies outside the model's folder: {location!r}: "
                "move the data beside the model and save it again"
            )
        if not file.is_file():
            raise SpecError(
                f"{path}: the external data of {tensor.name!r} is missing: {location!r} is not beside the model: "
                "copy it there"
            )
        end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
        if file.stat().st_size < end:
            raise SpecError(
                f"{path}: the external data of {tensor.name!r} is cut short: {location!r} holds "
                f"{file.stat().st_size} bytes, the model needs {end}: copy it again"
            )
        found.add(file)
    return sorted(found)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that holds weights, in subgraphs and functions too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from _of_graph(graph)
