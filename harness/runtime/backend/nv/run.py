"""From a plan to results."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.errors import DeserializeError, RunError, UnsupportedError
from harness.runtime.backend.nv import inspect
from harness.runtime.backend.nv.dialect import Dialect
from harness.runtime.backend.protocol import (
    POISON,
    UNCAPTURABLE,
    Array,
    EngineInfo,
    IOTensor,
    Shape,
    asked_name,
    poison,
)
from harness.runtime.device import Buffer, CudaError, Graph, Stream


class NvEngine:
    """A deserialized plan. Sessions must be closed before it is."""

    def __init__(self, dialect: Dialect, runtime: Any, plan: Array, logger: Any) -> None:
        self.dialect, self.logger = dialect, logger
        started = time.perf_counter()
        with logger.listen() as heard:
            self.engine = runtime.deserialize_cuda_engine(plan.tobytes())
        if self.engine is None:
            raise DeserializeError(heard.says("the runtime returned no engine and named no reason"))
        self.info: EngineInfo = inspect.describe(dialect, self.engine, time.perf_counter() - started)

    def session(self, profile: int = 0) -> NvSession:
        return NvSession(self, profile)

    def close(self) -> None:
        self.engine = None  # TensorRT frees what is no longer referred to


class NvSession:
    """One execution context on one profile, with a stream and buffers of its own."""

    def __init__(self, engine: NvEngine, profile: int) -> None:
        self.engine, self.logger = engine, engine.logger
        self.tensors = {tensor.name: tensor for tensor in engine.info.tensors}
        if not 0 <= profile < engine.info.profiles:
            raise DeserializeError(f"there is no profile {profile}: the engine has {engine.info.profiles}")
        self._resources = contextlib.ExitStack()
        self.stream = self._resources.enter_context(Stream())
        self._buffers = {name: self._resources.enter_context(Buffer()) for name in self.tensors}
        self._host: dict[str, Array] = {}  # shape tensors live here; TensorRT reads and writes them in place
        self._graph: Graph | None = None
        self._graphed: Any = None  # what the graph was captured for
        self._dynamic: dict[str, Shape] = {}  # shapes that the output allocators were told
        self._allocators: dict[str, Any] = {}  # TensorRT does not keep them alive
        with self.logger.listen() as heard:
            self.context = engine.engine.create_execution_context()
            if self.context is None:
                self._resources.close()
                words = heard.says("no execution context could be made, and no reason was given")
                raise DeserializeError(words)
            if not self.context.set_optimization_profile_async(profile, self.stream.handle):
                self.close()
                raise DeserializeError(heard.says(f"profile {profile} was refused"))
        self.stream.synchronize()

    def run(self, inputs: Mapping[str, Array], *, graph: bool = False) -> dict[str, Array]:
        with self.logger.listen():
            given = self._bind_inputs(inputs)
            outputs = self._bind_outputs()
            if graph:
                self._capture(given, outputs)
            self._fill(given, outputs)
            if graph and self._graph is not None:
                self._graph.launch(self.stream)
            else:
                self._enqueue()
            return self._collect(outputs)

    def _bind_inputs(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Shapes, and contents that decide shapes, told to the context; arrays in the engine's types."""
        names = {tensor.name: asked_name(tensor.name, inputs) for tensor in self.engine.info.inputs}
        if inputs.keys() != set(names.values()):
            raise RunError(f"inputs given: {sorted(inputs)}; the engine takes {sorted(names)}")
        given = {}
        for tensor in self.engine.info.inputs:
            array = as_dtype(tensor, inputs[names[tensor.name]])
            with self.logger.listen() as heard:
                if not self.context.set_input_shape(tensor.name, array.shape):
                    words = heard.says("refused without a reason")
                    raise RunError(f"input {tensor.name!r} of shape {array.shape}: {words}")
            if tensor.shape_tensor:
                home = self._home(tensor.name, array.shape, array.dtype)
                home[...] = array
                self._address(tensor.name, home.ctypes.data)
            else:
                array = packed(tensor.dtype, array)
                self._buffers[tensor.name].reserve(array.nbytes)
                self._address(tensor.name, self._buffers[tensor.name].address)
            given[tensor.name] = array
        with self.logger.listen() as heard:
            try:
                shown = [tensor.name for tensor in self.engine.info.outputs]
                missing = self.engine.dialect.missing_inputs(self.context, shown)
            except RunError as error:
                raise RunError(heard.says(error.message)) from error
        if missing or heard.errors:
            raise RunError(heard.says(f"not enough is known to infer shapes: {missing}"))
        return given

    def _bind_outputs(self) -> dict[str, Shape | None]:
        """Every output with an address or, where its shape depends on data (None), an allocator."""
        shapes: dict[str, Shape | None] = {}
        for tensor in self.engine.info.outputs:
            shape = tuple(self.context.get_tensor_shape(tensor.name))
            # Once it has run, a context gives the size that the data made for the one that they will make.
            if -1 in shape or tensor.name in self._allocators:
                shapes[tensor.name] = None
                self._dynamic.pop(tensor.name, None)
                if tensor.name not in self._allocators:
                    # Weak, or the session and its allocator would keep each other alive.
                    self._allocators[tensor.name] = self.engine.dialect.output_allocator(
                        functools.partial(_allocate, self._buffers, self.stream, _byte(tensor.dtype)),
                        self._dynamic.__setitem__,
                    )
                    if not self.context.set_output_allocator(tensor.name, self._allocators[tensor.name]):
                        raise RunError(f"output {tensor.name!r}: the output allocator was refused")
                continue
            shapes[tensor.name] = shape
            if tensor.shape_tensor:
                self._address(tensor.name, self._home(tensor.name, shape, storage(tensor.dtype)).ctypes.data)
            else:
                self._buffers[tensor.name].reserve(nbytes(tensor.dtype, shape))
                self._address(tensor.name, self._buffers[tensor.name].address)
        return shapes

    def _home(self, name: str, shape: Shape, dtype: np.dtype[Any]) -> Array:
        """Memory of a shape tensor, the same as long as its shape is: a captured graph goes on using it."""
        kept = self._host.get(name)
        if kept is None or kept.shape != shape or kept.dtype != dtype:
            kept = self._host[name] = np.empty(shape, dtype)
        return kept

    def _address(self, name: str, address: int) -> None:
        with self.logger.listen() as heard:
            if not self.context.set_tensor_address(name, address):
                raise RunError(f"{name!r}: {heard.says('its address was refused')}")

    def _fill(self, given: Mapping[str, Array], outputs: Mapping[str, Shape | None]) -> None:
        for name, array in given.items():
            if not self.tensors[name].shape_tensor:
                self.stream.upload(array, self._buffers[name])
        for name, shape in outputs.items():
            tensor = self.tensors[name]
            if shape is None:
                continue  # poisoned as it is allocated
            if tensor.shape_tensor:
                poison(self._host[name])
            else:
                self.stream.fill(self._buffers[name], _byte(tensor.dtype), nbytes(tensor.dtype, shape))

    def _enqueue(self) -> None:
        with self.logger.listen() as heard:
            if not self.context.execute_async_v3(self.stream.handle):
                raise RunError(heard.says("the enqueue said False and named no reason"))

    def _capture(self, given: Mapping[str, Array], outputs: Mapping[str, Shape | None]) -> None:
        """Have a graph for these shapes and addresses; any other one is dropped, for it would be stale."""
        on_host = [tensor.name for tensor in self.engine.info.outputs if tensor.shape_tensor]
        if on_host:  # written by the host as it enqueues, which no replay repeats
            raise UnsupportedError("cuda_graph: a replay leaves outputs on the host as they were", ", ".join(on_host))
        shapes = {name: tuple(self.context.get_tensor_shape(name)) for name in given}
        contents = {name: array.tobytes() for name, array in given.items() if self.tensors[name].shape_tensor}
        wanted = (shapes, contents, {name: buffer.address for name, buffer in self._buffers.items()})
        if self._graphed == wanted:
            return
        self._drop_graph()
        for name, array in given.items():
            if not self.tensors[name].shape_tensor:
                self.stream.upload(array, self._buffers[name])
        self._enqueue()  # the first run after a new shape does work that must not be captured
        self.stream.synchronize()
        try:
            self._graph = self.stream.capture(self._enqueue)
        except RunError as error:
            # The same enqueue went well a moment ago: what it lacks is not right inputs but the ability.
            waits = [name for name, shape in outputs.items() if shape is None]
            if waits or contents:
                why = f"sizes of {', '.join(waits)} depend on data" if waits else f"{', '.join(contents)} decide shapes"
                raise UnsupportedError(f"cuda_graph: this engine can't be captured: {why}", error.message) from error
            detail = {**error.detail, UNCAPTURABLE: True}
            raise RunError(f"this engine can't be captured: {error.message}", log=error.log, detail=detail) from error
        self._graphed = wanted

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
        self._graph = self._graphed = None

    def _collect(self, outputs: Mapping[str, Shape | None]) -> dict[str, Array]:
        results: dict[str, Array] = {}
        shapes: dict[str, Shape] = {}
        # The number of elements of a data-dependent output is known only when the launch is over.
        try:
            self.stream.synchronize()
        except CudaError as error:
            # After an illegal access nothing in this process can use the device again.
            detail = {**error.detail, "replace_host": True}
            raise RunError(f"the launch failed: {error.message}", detail=detail) from error
        for name, bound in outputs.items():
            tensor = self.tensors[name]
            shape = self._dynamic.get(name) if bound is None else bound
            if shape is None:
                raise RunError(f"output {name!r}: its allocator was never told a shape")
            shapes[name] = shape
            if tensor.shape_tensor and bound is not None:
                results[name] = self._host[name].copy()
                continue
            results[name] = np.empty(nbytes(tensor.dtype, shape), np.uint8)
            self.stream.download(self._buffers[name], results[name])
        self.stream.synchronize()
        return {name: unpacked(self.tensors[name].dtype, held, shapes[name]) for name, held in results.items()}

    def close(self) -> None:
        self._drop_graph()
        self.context = None
        self._allocators.clear()
        self._resources.close()


def _allocate(buffers: dict[str, Buffer], stream: Stream, byte: int, name: str, size: int) -> int:
    buffers[name].reserve(size)
    stream.fill(buffers[name], byte, size)
    return buffers[name].address


def _byte(dtype: str) -> int:
    return 0xFF if "float" in dtype else POISON


def storage(dtype: str) -> np.dtype[Any]:
    """The numpy type that holds ``dtype``: its own, or unsigned integers of its size for ml_dtypes' names.

    Four bits are held by a byte each, in its lower half.
    """
    if dtype in PACKED:
        return np.dtype(np.uint8)
    try:
        return np.dtype(dtype)
    except TypeError:
        return np.dtype(np.uint16 if dtype == "bfloat16" else np.uint8)


def nbytes(dtype: str, shape: Shape) -> int:
    """Bytes of a linear tensor; types of four bits are packed in pairs."""
    count = 1
    for size in shape:
        count *= size
    return (count + 1) // 2 if dtype in PACKED else count * storage(dtype).itemsize


def packed(dtype: str, array: Array) -> Array:
    """``array`` as an engine reads it: four bits in pairs, the first of each in the lower half of a byte."""
    if dtype not in PACKED:
        return array
    flat = np.append(array.reshape(-1), np.zeros(array.size % 2, np.uint8)) & 0xF
    return flat[::2] | flat[1::2] << 4


def unpacked(dtype: str, held: Array, shape: Shape) -> Array:
    """The tensor whose bytes are ``held``; see `packed`."""
    if dtype not in PACKED:
        return held.view(storage(dtype)).reshape(shape)
    flat = np.stack([held & 0xF, held >> 4], axis=-1).reshape(-1)
    return flat[: int(np.prod(shape, dtype=np.int64))].reshape(shape)


def as_dtype(tensor: IOTensor, array: Array) -> Array:
    """``array``, contiguous, in the engine's type. RunError for an integer that does not fit it.

    Versions before 10 bind int64 as int32, and all bind double as float, so a caller's own types are
    narrowed here (a double is rounded); nothing else is converted.
    """
    wanted = storage(tensor.dtype)
    if array.dtype == wanted:
        return np.ascontiguousarray(array).reshape(array.shape)
    if (array.dtype, wanted) in NARROWED:
        with np.errstate(over="ignore"):
            narrow = array.astype(wanted)
        if wanted.kind == "i" and not np.array_equal(narrow, array):
            raise RunError(f"input {tensor.name!r}: a value does not fit the engine's {tensor.dtype}")
        return narrow
    raise RunError(f"input {tensor.name!r}: got {array.dtype}, the engine takes {tensor.dtype}")


PACKED = ("int4", "float4_e2m1fn")  # two elements a byte
NARROWED = {
    (np.dtype(np.int64), np.dtype(np.int32)),
    (np.dtype(np.float64), np.dtype(np.float32)),
}
