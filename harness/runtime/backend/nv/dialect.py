"""What one installed TensorRT has, and how it spells it: the only place that asks.

Everything is asked by name (`hasattr`, members of enums): enum integers moved between majors, and a
version number says less than the thing itself.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from harness.errors import BuildError, RunError, UnsupportedError

MODULES = {
    "tensorrt": ("tensorrt", "tensorrt_bindings"),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
    "tensorrt_lean": ("tensorrt_lean", "tensorrt_lean_bindings"),
    "tensorrt_dispatch": ("tensorrt_dispatch", "tensorrt_dispatch_bindings"),
}
LIBRARIES = {"tensorrt": "nvinfer", "tensorrt_lean": "nvinfer_lean", "tensorrt_dispatch": "nvinfer_dispatch"}

# DataType members as numpy or ml_dtypes call them; `nptype` raises for the newer ones.
DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
    "UINT8": "uint8",
    "FP8": "float8_e4m3fn",
    "INT4": "int4",
    "FP4": "float4_e2m1fn",
    "E8M0": "float8_e8m0fnu",
}

PIECE = 1 << 20  # bytes that a stream reader gives at a time

# Facts of an engine, each under the names that versions give it; the first that exists is read.
FACTS = {
    "name": ("name",),
    "layers": ("num_layers",),
    "refittable": ("refittable",),
    "device_memory": ("device_memory_size_v2", "device_memory_size"),
    "aux_streams": ("num_aux_streams",),
    "hardware_compatibility": ("hardware_compatibility_level",),
    "streamable_weights": ("streamable_weights_size",),
    "profiling_verbosity": ("profiling_verbosity",),
}


def import_tensorrt(backend: str) -> ModuleType:
    """The vendor's module for ``backend``. ImportError, with the loader's words, when there is none."""
    failures = []
    for name in MODULES[backend]:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            failures.append(f"{name}: {error}")
            continue
        # The two are told apart by what they have: RTX resembles 11.x whatever its own version.
        if hasattr(module, "ComputeCapability") != (backend == "tensorrt_rtx"):
            failures.append(f"{name}: is the other kind of TensorRT")
            continue
        return module
    raise ImportError("; ".join(failures))


def library_version(major: str, name: str = "nvinfer") -> str | None:
    """Version of the library ``name`` in this process ("8.6.0"); None where it is called otherwise, as RTX's is.

    Bindings and library come in packages of their own, and need not be of one version.
    """
    try:
        library = ctypes.CDLL(f"lib{name}.so.{major}", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        number = int(library.getInferLibVersion())  # 8601 is 8.6.1; 101601 is 10.16.1
    except (OSError, AttributeError):
        return None
    large = 10_000 if number >= 100_000 else 1_000
    return f"{number // large}.{number % large // 100}.{number % 100}"


class Dialect:
    """Questions about one TensorRT module, answered by looking at it."""

    def __init__(self, trt: ModuleType) -> None:
        self.trt = trt
        self.version: str = trt.__version__
        self.builds = hasattr(trt, "Builder")  # the lean and the dispatch runtime have none
        self.weak_typing = self.has_flag("FP16")
        self.strong_typing = "STRONGLY_TYPED" in self._members("NetworkDefinitionCreationFlag")
        # While a builder has a batch size of its own, batches are implicit unless said otherwise.
        self.must_ask_for_explicit_batch = self.builds and hasattr(trt.Builder, "max_batch_size")
        self.reads_streams = hasattr(trt, "IStreamReaderV2")
        self.writes_streams = self.builds and hasattr(trt.Builder, "build_serialized_network_to_stream")
        self.streams_weights = hasattr(trt.ICudaEngine, "weight_streaming_budget_v2")
        self.progress_monitor = hasattr(trt, "IProgressMonitor")
        self.allocates_outputs = hasattr(trt, "IOutputAllocator")
        self.parser_refitter = hasattr(trt, "OnnxParserRefitter")
        self.ahead_of_time = hasattr(trt, "ComputeCapability")
        library = LIBRARIES.get(trt.__name__.removesuffix("_bindings"), "nvinfer")
        self.library_version = library_version(self.version.split(".")[0], library)
        # Where the library refuses to infer shapes, the bindings of 8.x end the process (segmentation fault).
        self.survives_inference = not self.version.startswith("8.")
        # 8.6.1 added calls to the parser that bindings of 8.6.1 make in a library of 8.6.0 too: it dies.
        self.parser_flags_work = self.library_version is None or self.version.startswith(self.library_version)

    def register_plugins(self, logger: Any) -> None:
        """Once a process; a runtime or a version without the function for it has none to register."""
        if hasattr(self.trt, "init_libnvinfer_plugins"):
            self.trt.init_libnvinfer_plugins(logger, "")

    @property
    def shape_type(self) -> Any:
        """The type of tensors that hold shapes: int64 since there is one."""
        return self.trt.DataType.__members__.get("INT64", self.trt.DataType.INT32)

    def network_flags(self, *, strongly_typed: bool) -> int:
        """The bits that ``create_network`` takes."""
        flags = self.trt.NetworkDefinitionCreationFlag
        bits = 0
        if self.must_ask_for_explicit_batch:
            bits |= 1 << int(flags.EXPLICIT_BATCH)
        if strongly_typed and self.strong_typing:
            bits |= 1 << int(flags.STRONGLY_TYPED)
        return bits

    def member(self, enum: str, name: str) -> Any:
        """The member ``name`` of ``trt.<enum>``. UnsupportedError lists what this version has."""
        members = self._members(enum)
        if name not in members:
            known = ", ".join(members) or f"no {enum} at all"
            raise UnsupportedError(f"{enum}.{name}", f"{self.trt.__name__} {self.version} has {known}")
        return members[name]

    def has_flag(self, name: str) -> bool:
        """Whether ``BuilderFlag`` has ``name``."""
        return name in self._members("BuilderFlag")

    def _members(self, enum: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = getattr(self.trt, enum).__members__ if hasattr(self.trt, enum) else {}
        return found

    def set_option(self, target: Any, name: str, value: Any) -> None:
        """Set a property of a builder config.

        UnsupportedError when this version lacks it, BuildError when it makes another value of it: RTX
        turns an optimization level of 9 into 5 without a word.
        """
        if not hasattr(target, name):
            raise UnsupportedError(f"{type(target).__name__}.{name}", f"{self.trt.__name__} {self.version} lacks it")
        setattr(target, name, value)
        if getattr(target, name) != value:
            raise BuildError(f"{name}: asked for {value}, the builder made {getattr(target, name)} of it")

    def share_profiles(self, config: Any) -> None:
        """Let several contexts use one profile at a time, where that must still be asked for (8.6)."""
        name = "PROFILE_SHARING_0806"
        if name in self.trt.PreviewFeature.__members__:
            config.set_preview_feature(self.trt.PreviewFeature.__members__[name], True)

    def set_target(self, config: Any, targets: tuple[str, ...]) -> None:
        """Ask for compute capabilities ("SM89", ...) to build for, ahead of time."""
        if not self.ahead_of_time:
            raise UnsupportedError("targets", f"{self.trt.__name__} {self.version} builds for the GPU at hand only")
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            if not config.set_compute_capability(self.member("ComputeCapability", target), index):
                raise BuildError(f"the builder refused the target {target}")

    def dtype(self, vendor: Any) -> str:
        """numpy's (or ml_dtypes') name of a ``DataType``."""
        return DTYPES[vendor.name]

    def parser_error(self, error: Any) -> dict[str, Any]:
        """Code, node and reason of one parser error; operator and node's name where this version tells them."""
        # Of the parser's own enumerations 8.6 has ``name`` as a method of no use.
        detail = {"code": str(error.code()).rpartition(".")[2], "node": error.node(), "reason": error.desc()}
        if hasattr(error, "node_operator"):
            detail |= {"operator": error.node_operator(), "name": error.node_name()}
        return detail

    def facts(self, engine: Any) -> dict[str, Any]:
        """What an engine tells of itself, JSON types only. Facts that this version lacks are left out."""
        found: dict[str, Any] = {}
        for fact, names in FACTS.items():
            name = next((name for name in names if hasattr(engine, name)), None)
            if name is None:
                continue
            try:
                value = getattr(engine, name)
            except TypeError:  # bindings without its type: a runtime without a builder is given fewer
                continue
            found[fact] = value if isinstance(value, (bool, int, float, str)) else value.name
        return found

    def profile_memory(self, engine: Any) -> list[int] | None:
        """Bytes that a context needs on each profile; None where a version tells the most of all and no more (8.x)."""
        names = ("get_device_memory_size_for_profile_v2", "get_device_memory_size_for_profile")
        name = next((name for name in names if hasattr(engine, name)), None)
        if name is None:
            return None
        return [int(getattr(engine, name)(index)) for index in range(engine.num_optimization_profiles)]

    def inspector(self, engine: Any) -> Any:
        """What tells of layers; None where it can't be made. UnsupportedError from a runtime that has none."""
        # The bindings of the lean and the dispatch runtime have the call, and lack what it returns.
        if not hasattr(self.trt, "EngineInspector"):
            raise UnsupportedError("engine inspector", f"{self.trt.__name__} {self.version} lacks it")
        return engine.create_engine_inspector()

    def on_host(self, engine: Any, name: str) -> bool:
        """Whether the input or output ``name`` lives on the host, as what decides shapes does.

        Where the bindings have the call and lack what it returns, as those of runtimes without a builder, that
        very use of it tells.
        """
        if not hasattr(self.trt, "TensorLocation"):
            return bool(engine.is_shape_inference_io(name))
        return bool(engine.get_tensor_location(name) == self.trt.TensorLocation.HOST)

    def format(self, engine: Any, name: str) -> str:
        """How the input or output ``name`` lies in memory: a member of ``TensorFormat``.

        "" where the bindings have the call and lack what it returns, as those of runtimes without a builder.
        """
        if not hasattr(self.trt, "TensorFormat"):
            return ""
        return str(engine.get_tensor_format(name).name)

    def allow_host_code(self, runtime: Any, allowed: bool) -> None:
        """Let plans run code that they carry, or no longer: a runtime keeps this from one plan to the next."""
        if runtime.engine_host_code_allowed != allowed:
            runtime.engine_host_code_allowed = allowed

    def serialization_config(self, engine: Any, flags: tuple[str, ...]) -> Any:
        """An ``ISerializationConfig`` with ``flags`` on. UnsupportedError where a version has no such thing."""
        members = [self.member("SerializationFlag", name) for name in flags]
        config = engine.create_serialization_config()
        for flag in members:
            config.set_flag(flag)
        return config

    def profile_values(self, engine: Any, name: str, profile: int) -> list[list[int]] | None:
        """Contents (min, opt, max) that a profile allows a shape tensor; None where the version can't tell them.

        What 8.x has for it, ``get_profile_shape_input``, gives the first element of each.
        """
        if not hasattr(engine, "get_tensor_profile_values"):
            return None
        return [list(part) for part in engine.get_tensor_profile_values(profile, name)]

    def missing_inputs(self, context: Any, outputs: Iterable[str]) -> list[str]:
        """Infer the shapes of ``outputs``; the inputs that are still to be set.

        What contradicts itself is told to the logger. On 8.x each output is asked for its shape, which
        says the same in the same words, but not whether the inputs lie within the profile: there it is
        the enqueue that refuses them.
        """
        if self.survives_inference:
            try:
                return list(context.infer_shapes())
            except RuntimeError as error:  # what the library returns as -1
                raise RunError(str(error)) from error
        for name in outputs:
            context.get_tensor_shape(name)
        return []

    @property
    def checks_profile_as_told(self) -> bool:
        """Whether a shape is held against the context's own profile when it is told, or inferred with.

        8.x takes a shape that any profile of the engine admits, and refuses it as late as in the enqueue.
        """
        return self.survives_inference

    def narrowed(self, array: Any) -> Any:
        """Weights, contiguous, in a type that this version has: it reads int64 as int32, and double as float."""
        kinds = {"float64": "float32"} | ({} if "INT64" in self.trt.DataType.__members__ else {"int64": "int32"})
        array = np.ascontiguousarray(array).reshape(array.shape)
        return array.astype(kinds[array.dtype.name]) if array.dtype.name in kinds else array

    def refitter(self, engine: Any, logger: Any) -> Any:
        """What replaces weights; None where it can't be made, and the logger has heard why."""
        try:
            return self.trt.Refitter(engine, logger)
        except TypeError:  # a null pointer
            return None

    def lacks_refit(self, how: str) -> tuple[str, str] | None:
        """The capability that a refit in the way ``how`` lacks, and what is missing for it; None when it is there."""
        wanted = {"plain": "set_named_weights", "async": "refit_cuda_engine_async", "device": "get_weights_location"}
        capabilities = {"plain": "refit_named", "async": "refit_async", "device": "refit_device"}
        refitter = getattr(self.trt, "Refitter", None)
        if hasattr(refitter, wanted[how]):
            return None
        return capabilities[how], f"{self.trt.__name__} {self.version} has no Refitter.{wanted[how]}"

    def set_named_weights(self, refitter: Any, name: str, weights: Any, on_device: bool) -> bool:
        """Whether they were taken; memory of the GPU has to be asked for."""
        if on_device:
            return bool(refitter.set_named_weights(name, weights, self.trt.TensorLocation.DEVICE))
        return bool(refitter.set_named_weights(name, weights))

    def set_weights(self, refitter: Any, layer: str, role: str, weights: Any) -> bool:
        """Whether they were taken. LookupError for a role that there is not."""
        roles = self.trt.WeightsRole.__members__
        if role not in roles:
            raise LookupError(f"there is no such role: TensorRT has {', '.join(roles)}")
        return bool(refitter.set_weights(layer, roles[role], weights))

    def device_weights(self, array: Any, address: int) -> Any:
        """``Weights`` that lie at ``address`` on the GPU. LookupError for a type that this version does not have."""
        members = self.trt.DataType.__members__
        kind = next((members[m] for m, name in DTYPES.items() if name == array.dtype.name and m in members), None)
        if kind is None:
            raise LookupError(f"TensorRT {self.version} has no type for it")
        return self.trt.Weights(kind, address, array.size)

    def refit(self, refitter: Any, stream: int | None) -> bool:
        """Replace what was set; on ``stream``, where that is asked for, and done when the stream is."""
        if stream is None:
            return bool(refitter.refit_cuda_engine())
        return bool(refitter.refit_cuda_engine_async(stream))

    def refit_from_file(self, refitter: Any, logger: Any, model: str) -> str | None:
        """Set all weights from an ONNX file, by the parser. None when done, otherwise its reason, perhaps "".

        UnsupportedError where there is no such refitter.
        """
        if not self.parser_refitter:
            raise UnsupportedError("parser_refit", f"{self.trt.__name__} {self.version} has no OnnxParserRefitter")
        reader = self.trt.OnnxParserRefitter(refitter, logger)
        if reader.refit_from_file(model):
            return None
        errors = [self.parser_error(reader.get_error(index)) for index in range(reader.num_errors)]
        return "; ".join(f"{error['code']}: {error['reason']}" for error in errors)

    def mark_refittable(self, network: Any, names: Iterable[str]) -> None:
        """Let a refit replace these weights alone. BuildError for one that there is not."""
        for name in names:
            if not network.mark_weights_refittable(name):
                raise BuildError(f"weights {name!r} can't be marked as refittable: the network has none of that name")

    def output_allocator(self, allocate: Any, notify: Any) -> Any:
        """An ``IOutputAllocator``: ``allocate(name, nbytes) -> address``, ``notify(name, shape)``.

        Versions call either spelling of the first; both are there, and the one that a version does
        not know is never called.
        """
        trt = self.trt

        class Allocator(trt.IOutputAllocator):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.IOutputAllocator.__init__(self)

            def reallocate_output(self, tensor_name: str, _memory: Any, size: int, _alignment: int) -> int:
                return int(allocate(tensor_name, size))

            def reallocate_output_async(
                self, tensor_name: str, _memory: Any, size: int, _alignment: int, _stream: int
            ) -> int:
                return int(allocate(tensor_name, size))

            def notify_shape(self, tensor_name: str, shape: Any) -> None:
                notify(tensor_name, tuple(shape))

        return Allocator()

    def stream_reader(self, data: Any) -> Any:
        """An ``IStreamReaderV2`` over ``data``, that gives at most `PIECE` bytes at a time."""
        trt = self.trt

        class Reader(trt.IStreamReaderV2):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.IStreamReaderV2.__init__(self)
                self.place = 0

            def read(self, num_bytes: int, _stream: int) -> bytes:
                piece: bytes = data[self.place : self.place + min(num_bytes, PIECE)].tobytes()
                self.place += len(piece)
                return piece

            def seek(self, offset: int, where: Any) -> bool:
                origin = {"SET": 0, "CUR": self.place, "END": data.nbytes}[where.name]
                place = origin + (-offset if where.name == "END" else offset)  # backwards from the end
                if not 0 <= place <= data.nbytes:
                    return False
                self.place = place
                return True

        return Reader()

    def stream_writer(self, pieces: list[bytes]) -> Any:
        """An ``IStreamWriter`` that adds to ``pieces``."""
        trt = self.trt

        class Writer(trt.IStreamWriter):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.IStreamWriter.__init__(self)

            def write(self, data: bytes) -> int:
                pieces.append(bytes(data))
                return len(data)

        return Writer()

    def monitor(self, report: Any) -> Any:
        """An ``IProgressMonitor`` that calls ``report(phase, step, steps)``."""
        trt = self.trt

        class Monitor(trt.IProgressMonitor):  # type: ignore[misc,name-defined]
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)
                self.steps: dict[str, int] = {}

            def phase_start(self, phase_name: str, _parent_phase: str | None, num_steps: int) -> None:
                self.steps[phase_name] = num_steps
                report(phase_name, 0, num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                report(phase_name, step + 1, self.steps.get(phase_name, 0))
                return True

            def phase_finish(self, phase_name: str) -> None:
                self.steps.pop(phase_name, None)

        return Monitor()
