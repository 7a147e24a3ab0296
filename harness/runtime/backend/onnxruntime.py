"""ONNX Runtime on the CPU: the backend that every machine has, and the runtime of the oracle.

Under another interpreter, in an engine host, it needs numpy and onnxruntime. What takes the model itself apart
needs onnx, too, and is not covered without: layers, shapes without a run, models with external data.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnxruntime

from harness.errors import BuildError, DeserializeError, ParseError, RunError, StageError, UnsupportedError
from harness.runtime import probing
from harness.runtime.backend import onnx_layers
from harness.runtime.backend.inference import ShapeInference
from harness.runtime.backend.living import Living
from harness.runtime.backend.mapped import mapped
from harness.runtime.backend.omission import Omission, tensor_named
from harness.runtime.backend.profiles import reported
from harness.runtime.backend.protocol import (
    BuildRequest,
    EngineInfo,
    HowToRefit,
    IOTensor,
    LayerWeights,
    Plan,
    Progress,
    Refittable,
    Residue,
    Shape,
    ShapeRange,
    Streaming,
    Weights,
)
from harness.runtime.capability import Capability, Probe, State
from harness.runtime.probing import Found
from harness.runtime.sampling import END_TO_END, Repeated, Samples, Sampling, by_host_clock, repeated, sample
from harness.spec.onnx_model import files_of

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[Any]
T = TypeVar("T")
FORMAT = "trt-harness onnxruntime plan"
PLUGINS = "plugin libraries are TensorRT's"
# Without it processors that have AVX2 and no VNNI add products of int8 in pairs, in 16 bits, which overflow.
EXACT_INT8 = "session.x64quantprecision"
SILENT = 4  # onnxruntime's severity FATAL: whatever is wrong comes as an exception, and nothing is printed

_MISSING = {
    "tf32": "the CPU kernels compute float32 in full",
    "weak_typing": "onnxruntime computes in the types that the model has",
    "cuda_graph": "the CPU provider has no CUDA graphs",
    **dict.fromkeys(
        ("refit", "refit_named", "refit_async", "refit_device", "parser_refit", "refit_individual", "strip_plan"),
        "a session's weights are fixed",
    ),
    "timing_cache": "the CPU provider times no tactics",
    "timing_cache_miss": "the CPU provider times no tactics",
    "editable_timing_cache": "the CPU provider times no tactics",
    "progress": "a session is made in one call, which reports nothing",
    "network_function": "a callable fills a TensorRT network",
    "plan_file": "a plan belongs to the TensorRT that built it",
    "stream_reader": "a plan is read at once",
    "stream_writer": "a plan is written at once",
    "weight_streaming": "weights are where the kernels are",
    "strip_plan": "a plan has no weights to leave out",
    "version_compatible": "a plan is a model and its profiles, whatever the version",
    "hardware_compatible": "there is one kind of CPU that it was built for: any",
}
_WORKS = ("parse", "build", "deserialize", "run", "profiles", "shape_tensors", "data_dependent_shapes", "serialize")
_EXTERNAL = b"location"  # a key of every tensor that lies in another file, written out in the model's own
_ONNX_TYPES = {"float32": 1, "float16": 10}  # of onnx.TensorProto
_LONGEST = 1 << 20  # bytes of what a plan says before its model: a path and a few profiles
_MOST_THREADS = 1 << 12
_HALF = {
    "fp16": "float16 tensors are rounded and stored, float32 kernels compute on them",
    "strong_typing": "the types in the model are meant literally",
}
_TENSORRT = "a machine with TensorRT: pip install 'trt-harness[trt]'"


class OnnxRuntimeBackend:
    """onnxruntime's CPU provider on ``threads`` threads; ``optimized=False`` runs the graph as written."""

    name = "onnxruntime"

    def __init__(self, optimized: bool = True, threads: int = 1) -> None:
        self.optimized, self.threads = optimized, threads
        self._living = Living()

    def probe(self) -> Probe:
        return probing.probe(self.name, self.probe_steps(), self.probe_step)

    def probe_steps(self) -> tuple[str, ...]:
        return ("import",)

    def probe_step(self, step: str) -> Found:  # noqa: ARG002 - there is one: nothing in it takes the process along
        version = onnxruntime.__version__
        seen = f"onnxruntime {version}, CPUExecutionProvider, optimizations {'on' if self.optimized else 'off'}"
        single, half = _tried("float32"), _tried("float16")
        capabilities = [Capability("import", State.PRESENT, seen)]
        capabilities += [_found(name, single, seen) for name in _WORKS]
        capabilities += [_found(name, half, f"{seen}; {evidence}") for name, evidence in _HALF.items()]
        capabilities += [Capability(name, State.ABSENT, why, _TENSORRT) for name, why in _MISSING.items()]
        environment = {
            "version": version,
            "onnxruntime": version,
            "provider": "CPUExecutionProvider",
            "optimized": self.optimized,
            "threads": self.threads,
        }
        return tuple(capabilities), environment

    def build(self, request: BuildRequest, progress: Progress | None = None) -> Plan:
        """A plan is the model and the profiles; making a session shows that the model can be run.

        A model with external data stays where it is, and its plan, which only names it, is not worth keeping.
        """
        if request.network:
            raise UnsupportedError("network_function", _MISSING["network_function"], _TENSORRT)
        if request.stream:
            raise UnsupportedError("stream_writer", _MISSING["stream_writer"], _TENSORRT)
        self._refuse(request)
        start = time.perf_counter()
        _session(request.model, self.optimized, self.threads)
        path = Path(request.model)
        model = path.read_bytes()
        elsewhere = _EXTERNAL in model and _with_onnx(lambda: len(files_of(path)) > 1)
        plan = {
            "format": FORMAT,
            "model": str(path.resolve()) if elsewhere else "",
            "optimized": self.optimized,
            "threads": self.threads,
            "profiles": [_ranges(profile) for profile in request.profiles],
            "contents": [_ranges(contents) for contents in request.contents],
        }
        data = _serialized(plan, b"" if elsewhere else model)
        seconds = time.perf_counter() - start
        if progress is not None:
            progress("build", 1, 1)
        return Plan(data, {"build": seconds}, keep=not elsewhere)

    def merged(self, timing_caches: Sequence[Array]) -> Array:  # noqa: ARG002 - whatever they hold
        raise UnsupportedError("timing_cache", _MISSING["timing_cache"], _TENSORRT)

    def load(
        self,
        plan: Array | Path,
        plugins: tuple[str, ...] = (),
        *,
        host_code: bool = False,  # noqa: ARG002 - there is none
        stream: bool = False,
    ) -> OnnxRuntimeEngine:
        if plugins:
            raise UnsupportedError("plugins", PLUGINS, _TENSORRT)
        if stream:
            raise UnsupportedError("stream_reader", _MISSING["stream_reader"], _TENSORRT)
        start = time.perf_counter()
        described, model = _described(mapped(plan))
        try:
            session = _session(described["model"] or model, described["optimized"], described["threads"])
        except (ParseError, BuildError) as error:
            raise DeserializeError(error.message, log=error.log) from None
        return OnnxRuntimeEngine(session, described, model, start, self._living)

    def taken_memory(self) -> int:
        raise UnsupportedError("device memory", "onnxruntime runs on the CPU, whose memory is the host's")

    def residue(self) -> Residue:
        """No buffers: onnxruntime gives outputs away, and holds nothing between runs."""
        return Residue(self._living.engines, self._living.sessions)

    def close(self) -> None:
        """Nothing is held."""

    def _refuse(self, request: BuildRequest) -> None:
        """UnsupportedError for what the request asks beyond a session on the CPU."""
        if "TF32" in request.recipe.flags:
            raise UnsupportedError("tf32", _MISSING["tf32"], _TENSORRT)
        if request.recipe.typing == "weak":
            raise UnsupportedError("weak_typing", _MISSING["weak_typing"], _TENSORRT)
        if request.config.plugins:
            raise UnsupportedError("plugins", PLUGINS, _TENSORRT)


class OnnxRuntimeEngine:
    """One session of onnxruntime, shared by all of ours: it holds no state between runs."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        plan: Mapping[str, Any],
        model: bytes,
        start: float,
        living: Living,
    ) -> None:
        self.runtime: onnxruntime.InferenceSession | None = session
        self.living = living
        self._plan, self._model = plan, model
        deciding = {name for contents in plan["contents"] for name in contents}
        self.ranges = [_read_ranges(ranges) for ranges in plan["profiles"]] or [{}]
        self.contents = [_read_ranges(contents) for contents in plan["contents"]] or [{}]
        inputs = [_tensor(item, "input", item.name in deciding) for item in session.get_inputs()]
        outputs = [_tensor(item, "output", False) for item in session.get_outputs()]
        self.info = EngineInfo(
            tensors=(*inputs, *outputs),
            profiles=len(self.ranges),
            facts={
                "optimized": plan["optimized"],
                "threads": plan["threads"],
                "profile_shapes": [
                    reported(inputs, *profile) for profile in zip(self.ranges, self.contents, strict=True)
                ],
            },
            seconds={"deserialize": time.perf_counter() - start},  # of the load, which ends here
        )
        self._held = contextlib.ExitStack()
        living.add_engine(self._held)

    @functools.cached_property
    def infer(self) -> ShapeInference:
        return _with_onnx(lambda: ShapeInference(self._asked()))

    def session(self, profile: int = 0) -> OnnxRuntimeSession:
        if self.runtime is None:
            raise DeserializeError("the engine is closed")
        self.has_profile(profile, DeserializeError)
        return OnnxRuntimeSession(self, profile)

    def has_profile(self, profile: int, failure: type[StageError]) -> None:
        if not 0 <= profile < self.info.profiles:
            raise failure(f"no profile {profile}: the engine has {self.info.profiles}")

    def serialize(self, flags: tuple[str, ...] = ()) -> Array:
        if flags:
            raise UnsupportedError(f"SerializationFlag.{flags[0]}", "onnxruntime's plans have no parts to leave out")
        return _serialized(self._plan, self._model)

    def stream(self, budget: int | None = None) -> Streaming:  # noqa: ARG002 - whatever it is
        raise UnsupportedError("weight_streaming", _MISSING["weight_streaming"], _TENSORRT)

    def weights(self, given: Weights | None = None, *, layers: LayerWeights | None = None) -> Refittable:  # noqa: ARG002
        raise UnsupportedError("refit", _MISSING["refit"], _TENSORRT)

    def refit(
        self,
        weights: Weights,  # noqa: ARG002 - whichever they are
        *,
        layers: LayerWeights | None = None,  # noqa: ARG002
        how: HowToRefit = "plain",  # noqa: ARG002
        keep_graphs: bool = False,  # noqa: ARG002
    ) -> None:
        raise UnsupportedError("refit", _MISSING["refit"], _TENSORRT)

    def refit_from(self, model: str) -> None:  # noqa: ARG002
        raise UnsupportedError("parser_refit", _MISSING["refit"], _TENSORRT)

    def inspect(self) -> dict[str, Any]:
        """The nodes of the graph that onnxruntime runs, each with the model's nodes that it was made from."""
        return _with_onnx(self._inspected)

    def _inspected(self) -> dict[str, Any]:
        import onnx

        from harness.runtime.backend.optimized import REARRANGING, Ancestry

        model, threads = self._plan["model"] or self._model, self._plan["threads"]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "optimized.onnx")
            try:
                _session(model, self._plan["optimized"], threads, write=file)
            except (ParseError, BuildError) as error:
                raise DeserializeError(error.message, log=error.log) from None
            optimized = onnx.load(str(file), load_external_data=False).graph
        shapes = {name: sizes.opt for name, sizes in self.ranges[0].items()}
        ancestry = Ancestry(self._asked(), optimized, shapes)
        return onnx_layers.layers(optimized, self.info, ancestry.known, ancestry.origins, REARRANGING)

    def _asked(self) -> onnx.ModelProto:
        """The model that the plan is of, without external data."""
        import onnx

        if self._plan["model"]:
            return onnx.load(self._plan["model"], load_external_data=False)
        return onnx.load_model_from_string(self._model)

    def close(self) -> None:
        self.runtime = None
        self._held.close()


class OnnxRuntimeSession:
    """Runs one profile: shapes and contents outside it are refused, as TensorRT would refuse them."""

    def __init__(self, engine: OnnxRuntimeEngine, profile: int) -> None:
        self._engine, self._info = engine, engine.info
        self._runtime = engine.runtime
        self._profile, self._ranges, self._contents = profile, engine.ranges[profile], engine.contents[profile]
        self._limits: dict[str, int] = {}
        self._held = contextlib.ExitStack()
        engine.living.add_session(self._held)

    def run(self, inputs: Mapping[str, Array], *, graph: bool = False, omit: str = "") -> dict[str, Array]:
        runtime = self._open()
        if graph:
            raise UnsupportedError("cuda_graph", _MISSING["cuda_graph"], _TENSORRT)
        omission = Omission.parse(omit, self._info)
        self._admit(inputs)
        omission.refuse(inputs, needs_shape=any(-1 in t.shape for t in self._info.inputs if t.name == omission.tensor))
        self._fits(inputs)
        outputs = run(runtime, inputs)
        self._fits(outputs)
        return outputs

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Shape]:
        """By onnx's own shape inference, which knows fewer shapes than a runtime: -1 for those, too."""
        self._open()
        self._admit(inputs)
        deciding = {tensor.name: inputs[tensor.name] for tensor in self._info.inputs if tensor.shape_tensor}
        return self._engine.infer({name: array.shape for name, array in inputs.items()}, deciding)

    def measure(self, inputs: Mapping[str, Array], sampling: Sampling) -> Samples:
        """As `Session.measure`; of the metrics only ``end_to_end``, by the host's clock."""
        runtime = self._open()
        if sampling.graph:
            raise UnsupportedError("cuda_graph", _MISSING["cuda_graph"], _TENSORRT)
        if sampling.cold:
            raise UnsupportedError("cold L2 cache", "onnxruntime runs on the CPU, whose caches it does not empty")
        if sampling.streams > 1:
            raise UnsupportedError(f"{sampling.streams} streams", "onnxruntime on the CPU has none")
        self._admit(inputs)
        self._fits(inputs)
        self._fits(run(runtime, inputs))
        return sample(by_host_clock(lambda: run(runtime, inputs)), sampling, END_TO_END)

    def repeat(self, inputs: Mapping[str, Array], seconds: float, *, graph: bool = False) -> Repeated:
        if graph:
            raise UnsupportedError("cuda_graph", _MISSING["cuda_graph"], _TENSORRT)
        runtime = self._open()
        self._admit(inputs)
        self._fits(inputs)
        return repeated(lambda: run(runtime, inputs), lambda: None, seconds)

    def reshape(
        self,
        inputs: Mapping[str, Array],  # noqa: ARG002 - whatever they are
        others: Mapping[str, Array],  # noqa: ARG002
        times: int,  # noqa: ARG002
    ) -> Array:
        raise UnsupportedError("shape switch", "onnxruntime is told no shapes before a run")

    def switch(self, profile: int) -> None:
        self._open()
        self._engine.has_profile(profile, RunError)
        self._profile = profile
        self._ranges, self._contents = self._engine.ranges[profile], self._engine.contents[profile]

    def move(self, tensor: str) -> None:
        """Every run has memory of its own, so there is nothing to move."""
        self._open()
        tensor_named(tensor, self._info)

    def limit(self, tensor: str, nbytes: int | None) -> None:
        self._open()
        name = tensor_named(tensor, self._info)
        if nbytes is None:
            self._limits.pop(name, None)
        else:
            self._limits[name] = nbytes

    def close(self) -> None:
        self._runtime = None
        self._held.close()

    def _open(self) -> onnxruntime.InferenceSession:
        if self._runtime is None:
            raise RunError("the session is closed")
        return self._runtime

    def _fits(self, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            limit = self._limits.get(name)
            if limit is not None and array.nbytes > limit:
                raise RunError(
                    f"{name!r} of shape {array.shape} needs {array.nbytes} bytes, its memory is limited to {limit}"
                )

    def _admit(self, inputs: Mapping[str, Array]) -> None:
        expected = {tensor.name: tensor for tensor in self._info.inputs}
        differing = sorted(expected.keys() ^ inputs.keys())
        if differing:
            raise RunError(
                f"inputs {', '.join(differing)} are missing or unknown; the model takes {', '.join(expected)}"
            )
        for name, array in inputs.items():
            if str(array.dtype) != expected[name].dtype:
                raise RunError(f"input {name!r} is {array.dtype}, the model takes {expected[name].dtype}")
            if name in self._ranges:
                self._within(f"input {name!r}", "dimension", array.shape, self._ranges[name])
            if name in self._contents:
                values = tuple(int(value) for value in array.reshape(-1))
                self._within(f"shape tensor {name!r}", "element", values, self._contents[name])

    def _within(self, what: str, part: str, got: Shape, allowed: ShapeRange) -> None:
        if len(got) != len(allowed.min):
            raise RunError(f"{what} has {len(got)} {part}s, profile {self._profile} {len(allowed.min)}: {list(got)}")
        for index, (value, low, high) in enumerate(zip(got, allowed.min, allowed.max, strict=True)):
            if not low <= value <= high:
                raise RunError(
                    f"{what}: {part} {index} is {value}, profile {self._profile} allows {low} to {high} "
                    f"(got {list(got)}, min {list(allowed.min)}, max {list(allowed.max)})"
                )


def reference_runner(threads: int = 1, sessions: int = 8) -> Callable[[Path, Mapping[str, Array]], dict[str, Array]]:
    """What an `Oracle` runs models with: optimizations off, the last ``sessions`` sessions kept."""
    kept: OrderedDict[tuple[Path, int], onnxruntime.InferenceSession] = OrderedDict()

    def runner(path: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
        key = (path, path.stat().st_mtime_ns)
        if key not in kept:
            kept[key] = _session(str(path), False, threads)
            while len(kept) > sessions:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return run(kept[key], inputs)

    return runner


def reference_name(threads: int = 1) -> str:
    """Runtime, version and settings of `reference_runner`, for an `Oracle` to show."""
    noun = "thread" if threads == 1 else "threads"
    return f"onnxruntime {onnxruntime.__version__} (CPU, optimizations off, {threads} {noun}, the float32 model)"


def run(session: onnxruntime.InferenceSession, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name. RunError with onnxruntime's words."""
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise RunError(_words(error)) from error


def _session(
    model: str | bytes, optimized: bool, threads: int, *, write: Path | None = None
) -> onnxruntime.InferenceSession:
    """Of a model by its path, or by its bytes.

    ParseError when the model can't be read, BuildError when no session can be made of it.
    ``write``: file for the graph that it runs, with its weights in another beside it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = SILENT
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    options.add_session_config_entry(EXACT_INT8, "1")
    if write is not None:
        options.optimized_model_filepath = str(write)
        # A file of protobuf can hold 2 GiB, and nobody reads the weights.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as in `run`
        words = _words(error)
        kind = type(error).__name__
        unread = kind in ("InvalidProtobuf", "NoSuchFile", "InvalidGraph", "InvalidArgument") or "Load model" in words
        raise (ParseError if unread else BuildError)(words, detail={"reason": kind}) from error


def doubling(dtype: str) -> bytes:
    """An ONNX file of ``y = x + x``, x of one dimension, "float32" or "float16": as onnx would write it."""

    def message(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    def integer(number: int, value: int) -> bytes:
        return bytes([number << 3, value])

    def end(number: int, name: bytes) -> bytes:
        shape = message(2, message(1, message(2, b"n")))
        return message(number, message(1, name) + message(2, message(1, integer(1, _ONNX_TYPES[dtype]) + shape)))

    node = message(1, message(1, b"x") + message(1, b"x") + message(2, b"y") + message(4, b"Add"))
    graph = node + message(2, b"probe") + end(11, b"x") + end(12, b"y")
    return integer(1, 8) + message(7, graph) + message(8, message(1, b"") + integer(2, 17))


def _with_onnx(work: Callable[[], T]) -> T:
    """What ``work`` gives. UnsupportedError where there is no onnx to do it with."""
    try:
        return work()
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise UnsupportedError(
            "onnx", f"{sys.executable} has no onnx", f"{sys.executable} -m pip install onnx"
        ) from None


@functools.cache
def _tried(dtype: str) -> str:
    """What happens to a model of one operator: "" when it gives what it should, else onnxruntime's words."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    try:
        session = onnxruntime.InferenceSession(doubling(dtype), options, providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {"x": np.ones(3, dtype)})
    except Exception as error:  # as in `run`
        return _words(error)
    return "" if got.tolist() == [2, 2, 2] else f"1 + 1 gave {got.tolist()}"


def _found(name: str, trouble: str, evidence: str) -> Capability:
    if trouble:
        return Capability(name, State.USELESS, f"{evidence}: {trouble}", "pip install --force-reinstall onnxruntime")
    return Capability(name, State.PRESENT, evidence)


def _words(error: Exception) -> str:
    return str(error).removeprefix("[ONNXRuntimeError] : ").strip()


def _ranges(ranges: Mapping[str, ShapeRange]) -> dict[str, list[list[int]]]:
    return {name: [list(r.min), list(r.opt), list(r.max)] for name, r in ranges.items()}


def _read_ranges(ranges: Mapping[str, list[list[int]]]) -> dict[str, ShapeRange]:
    return {name: ShapeRange(*(tuple(shape) for shape in shapes)) for name, shapes in ranges.items()}


def _described(plan: Array) -> tuple[dict[str, Any], bytes]:
    """What `_serialized` was given. DeserializeError for anything else; nothing in it is taken on trust."""
    text, end, _ = plan[:_LONGEST].tobytes().partition(b"\n")
    if not end:
        raise DeserializeError(f"not a plan of the onnxruntime backend: no line ends in its first {_LONGEST} bytes")
    try:
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise KeyError("format")
        kinds = {"model": str, "optimized": bool, "threads": int, "profiles": list, "contents": list}
        wrong = [name for name, kind in kinds.items() if type(found[name]) is not kind]
        if wrong or len(found["profiles"]) != len(found["contents"]) or not 0 <= found["threads"] <= _MOST_THREADS:
            raise ValueError(f"{', '.join(wrong) or 'a number'} is not what it should be")
        for ranges in (*found["profiles"], *found["contents"]):
            for three in ranges.values():
                if len(three) != 3 or not all(type(size) is int for shape in three for size in shape):
                    raise ValueError(f"{three} is no range")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DeserializeError(f"not a plan of the onnxruntime backend ({type(error).__name__}: {error})") from None
    described: dict[str, Any] = found
    return described, plan[len(text) + 1 :].tobytes()


def _serialized(plan: Mapping[str, Any], model: bytes) -> Array:
    return np.frombuffer(json.dumps(plan, sort_keys=True).encode() + b"\n" + model, np.uint8)


_TYPES = {"float": "float32", "double": "float64"}


def _tensor(item: onnxruntime.NodeArg, mode: str, deciding: bool) -> IOTensor:
    kind = item.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(size if isinstance(size, int) else -1 for size in item.shape)
    return IOTensor(item.name, mode, _TYPES.get(kind, kind), shape, deciding)
