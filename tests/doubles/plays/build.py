"""Builders, their options and profiles, and the plans they make."""

from __future__ import annotations

import json
import os
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from tests.doubles.double import NullPointer, state
from tests.doubles.plays import graph
from tests.doubles.plays.foundation import HostMemory, Play, PluginRegistry, World
from tests.doubles.plays.network import QUANTIZING
from tests.doubles.plays.refit import REFITS, folded, refittable, strip

HEADER = struct.Struct("<4s4x24sQQ16x")  # magic, version, bytes of facts, bytes of model: 64 in all
Shape = tuple[int, ...]

NO_PROFILE = "Network has dynamic or shape inputs, but no optimization profile has been defined."
TIMING_NOTE = "Use Deprecated in TensorRT-RTX 1.2. Timing cache operations are no-ops in TensorRT-RTX. instead."
PIECE = 100  # bytes that a stream writer is given at a time
DEVICE = "GPU-5f1c"  # that the double plays
STEPS = (("Building engine", None, 3), ("Optimizing graph", "Building engine", 2))


@dataclass(frozen=True)
class Blueprint:
    """What a plan holds: the model, the shapes and contents of each profile, and how it was built."""

    version: str
    shapes: tuple[Mapping[str, tuple[Shape, Shape, Shape]], ...]
    contents: tuple[Mapping[str, tuple[Shape, Shape, Shape]], ...]
    facts: Mapping[str, Any]
    model: onnx.ModelProto


def write_plan(world: World, blueprint: Blueprint) -> bytes:
    """Bytes of a plan; never the same twice, as TensorRT's are not."""
    facts = json.dumps({"shapes": blueprint.shapes, "contents": blueprint.contents, "facts": blueprint.facts}).encode()
    model: bytes = blueprint.model.SerializeToString()
    header = HEADER.pack(magic(world), world.double.version.encode(), len(facts), len(model))
    return header + facts + model + os.urandom(16)


def magic(world: World) -> bytes:
    return b"vtrt" if world.rtx else b"ftrt"


def read_plan(world: World, data: bytes) -> Blueprint | str:
    """What a plan holds, or what is wrong with it. A damaged model goes unnoticed, as it does in TensorRT."""
    if len(data) < HEADER.size:
        return "Assertion bufferSize >= minBufferSize failed."
    tag, version, facts, model = HEADER.unpack_from(data)
    if tag != magic(world):
        return "Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed."
    if version.rstrip(b"\0").decode() != world.double.version:
        return "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION failed. Version tag does not match."
    if len(data) != HEADER.size + facts + model + 16:
        return "Serialization assertion plan.header.size == blobSize failed."
    entry = json.loads(data[HEADER.size : HEADER.size + facts])
    held = onnx.ModelProto()
    held.ParseFromString(data[HEADER.size + facts : -16])

    def ranges(found: Any) -> Any:
        return tuple({name: tuple(map(tuple, sizes)) for name, sizes in one.items()} for one in found)

    return Blueprint(world.double.version, ranges(entry["shapes"]), ranges(entry["contents"]), entry["facts"], held)


class Profile(Play):
    """Ranges of shapes and contents by input."""

    extra_memory_target = 1.0
    profile_stream = 0

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.shapes: dict[str, tuple[Shape, Shape, Shape]] = {}
        self.contents: dict[str, tuple[Shape, Shape, Shape]] = {}

    def set_shape(self, name: str, low: Any, opt: Any, high: Any) -> None:
        self.shapes[name] = (tuple(low), tuple(opt), tuple(high))

    def get_shape(self, name: str) -> list[Shape]:
        if name not in self.shapes:
            self.world.error(
                "IOptimizationProfile::getDimensions",
                f"Cannot get dimensions for input: {name}. Input is not present in this OptimizationProfile",
                "4: API Usage Error",
            )
        return list(self.shapes.get(name, ()))

    def set_shape_input(self, name: str, low: Any, opt: Any, high: Any) -> None:
        self.contents[name] = (tuple(low), tuple(opt), tuple(high))

    def get_shape_input(self, name: str) -> list[list[int]]:
        return [list(values) for values in self.contents.get(name, ())]

    def is_ordered(self) -> bool:
        """Whether every range goes from its minimum over its optimum to its maximum."""
        return all(
            len(low) == len(opt) == len(high) and all(a <= b <= c for a, b, c in zip(low, opt, high, strict=True))
            for low, opt, high in (*self.shapes.values(), *self.contents.values())
        )


class TimingCache(Play):
    """Learns the layers of every build, except where the version made it a no-op.

    Of bytes that can't be read it is made empty, with warnings alone, as RTX 1.7.1 was seen to do; those
    of another device are refused when they are to be used, as TensorRT's documentation says.
    """

    def __init__(self, world: World, data: bytes = b"") -> None:
        super().__init__(world)
        self.device, self.tactics = DEVICE, dict[str, int]()
        if data and not self._read(data):
            world.log("WARNING", "The timing cache will not be used!")
            world.log("WARNING", "Failed to deserialize timing cache. Returning an empty timing cache.")

    def _read(self, data: bytes) -> bool:
        head, _, rest = data.partition(b"\n")
        mark, _, device = head.decode(errors="replace").partition(" on ")
        if mark != self._mark():
            return False
        self.device, self.tactics = device, json.loads(rest)
        return True

    def _mark(self) -> str:
        return f"timing cache of {self.world.double.version}"

    def serialize(self) -> Any:
        rest = json.dumps(self.tactics, sort_keys=True)
        return HostMemory.of(self.world, f"{self._mark()} on {self.device}\n{rest}".encode())

    def combine(self, other: Any, ignore_mismatch: bool) -> bool:
        added = state(other)
        if self.world.rtx and added is self:
            raise AssertionError("a cache that is combined with itself never comes to an end")
        if added.device != self.device and not ignore_mismatch:
            self.world.error("ITimingCache::combine", "device mismatch")
            return False
        self.tactics = {**added.tactics, **self.tactics}
        return True

    def reset(self) -> bool:
        self.tactics = {}
        return True

    def queryKeys(self) -> list[Any]:
        return [self.world.new("TimingCacheKey", TimingCacheKey(self.world)) for _ in self.tactics]

    def lacks(self, layers: set[str]) -> set[str]:
        """Those of ``layers`` that it knows nothing of."""
        return layers - self.tactics.keys()

    def learn(self, layers: set[str]) -> None:
        self.tactics |= {layer: len(layer) for layer in self.lacks(layers)}


class TimingCacheKey(Play):
    """What one entry is known by."""


class Config(Play):
    """Build options. Those without effect here are kept all the same."""

    DLA_core = -1
    avg_timing_iterations = 1
    min_timing_iterations = 1
    max_workspace_size = 0
    max_aux_streams = -1
    profile_stream = 0
    l2_limit_for_tiling = 0
    max_num_tactics = -1
    progress_monitor = None
    int8_calibrator = None
    algorithm_selector = None
    quantization_flags = 0
    build_route = ""
    all_build_routes = ""
    remote_auto_tuning_config = ""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.flags = 1 << int(world.enum("BuilderFlag.TF32"))  # on by default, in every version
        self.profiling_verbosity = world.enum("ProfilingVerbosity.LAYER_NAMES_ONLY")
        self.default_device_type = world.enum("DeviceType.GPU")
        self.engine_capability = world.enum("EngineCapability.STANDARD")
        self.plugins_to_serialize: list[str] = []
        self.profiles: list[Profile] = []
        self.targets: list[Any] = []
        self.timing_cache: TimingCache | None = None
        self._level = 3
        self._hardware = world.enum("HardwareCompatibilityLevel.NONE")
        self._pools: dict[str, int] = {}
        self._tactics = sum(1 << int(source) for source in world.double.enums["TacticSource"].__members__.values())
        self._features: set[str] = set()

    def set_flag(self, flag: Any) -> None:
        if flag.name == "EXCLUDE_LEAN_RUNTIME" and not self.is_set("VERSION_COMPATIBLE"):
            self.world.error(
                "IBuilderConfig::setFlag",
                "Parameter check failed, condition: builderFlag != BuilderFlag::kEXCLUDE_LEAN_RUNTIME || "
                "flags[BuilderFlag::kVERSION_COMPATIBLE]. kEXCLUDE_LEAN_RUNTIME can only be set if "
                "kVERSION_COMPATIBLE is set.",
            )
            return
        self.flags |= 1 << int(flag)

    def clear_flag(self, flag: Any) -> None:
        self.flags &= ~(1 << int(flag))

    def get_flag(self, flag: Any) -> bool:
        return bool(self.flags >> int(flag) & 1)

    def is_set(self, name: str) -> bool:
        """Whether the version has the flag ``name`` and it is on."""
        return self.world.has(f"BuilderFlag.{name}") and self.get_flag(self.world.enum(f"BuilderFlag.{name}"))

    @property
    def builder_optimization_level(self) -> int:
        return self._level

    @builder_optimization_level.setter
    def builder_optimization_level(self, level: int) -> None:
        self._level = min(level, 5)  # without a word

    @property
    def hardware_compatibility_level(self) -> Any:
        return self._hardware

    @hardware_compatibility_level.setter
    def hardware_compatibility_level(self, level: Any) -> None:
        if self.world.rtx:
            self.world.log("WARNING", "setHardwareCompatibilityLevel() is unsupported in TensorRT-RTX.")
        else:
            self._hardware = level

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._pools[pool.name] = size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool.name, 64 << 30)

    def set_tactic_sources(self, sources: int) -> bool:
        self._tactics = sources
        return True

    def get_tactic_sources(self) -> int:
        return self._tactics

    def set_preview_feature(self, feature: Any, enable: bool) -> None:
        (self._features.add if enable else self._features.discard)(feature.name)

    def get_preview_feature(self, feature: Any) -> bool:
        return feature.name in self._features

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def add_optimization_profile(self, profile: Any) -> int:
        play = state(profile)
        if not play.is_ordered():
            self.world.error(
                "IBuilderConfig::addOptimizationProfile", "Parameter check failed, condition: profile->isValid()."
            )
            return -1
        self.profiles.append(play)
        return len(self.profiles) - 1

    @property
    def num_compute_capabilities(self) -> int:
        return len(self.targets)

    @num_compute_capabilities.setter
    def num_compute_capabilities(self, number: int) -> None:
        self.targets = [self.world.enum("ComputeCapability.NONE")] * number

    def set_compute_capability(self, target: Any, index: int) -> bool:
        if not 0 <= index < len(self.targets):
            self.world.error(
                "IBuilderConfig::setComputeCapability", f"Parameter check failed, condition: index >= 0. Got {index}"
            )
            return False
        self.targets[index] = target
        return True

    def get_compute_capability(self, index: int) -> Any:
        return self.targets[index]

    def _timing_note(self) -> None:
        if self.world.rtx:
            warnings.warn(TIMING_NOTE, DeprecationWarning, stacklevel=4)

    def create_timing_cache(self, data: Any) -> Any:
        self._timing_note()
        return self.world.new("ITimingCache", TimingCache(self.world, bytes(data)))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        self._timing_note()
        given = state(cache)
        if given.device != DEVICE and not ignore_mismatch:
            self.world.error("IBuilderConfig::setTimingCache", f"device {given.device} is not {DEVICE}")
            return False
        self.timing_cache = given
        return True

    def get_timing_cache(self) -> Any:
        self._timing_note()
        return self.world.new("ITimingCache", self.timing_cache)


class Builder(Play):
    """Makes networks, and plans of them."""

    error_recorder = None
    gpu_allocator = None
    max_batch_size = 1
    max_threads = 1
    num_DLA_cores = 0
    max_DLA_batch_size = 1 << 28
    platform_has_fast_fp16 = True
    platform_has_fast_int8 = True
    platform_has_tf32 = True

    def __init__(self, world: World, logger: Any) -> None:
        super().__init__(world)
        world.register(logger, "createInferBuilder")
        self.logger = logger
        if not world.double.gpu and not world.rtx:
            world.log("ERROR", "CUDA initialization failure with error: 35")
            raise NullPointer

    def create_network(self, flags: int) -> Any:
        from tests.doubles.plays.network import Network

        assert self.api is not None
        network = self.world.new("INetworkDefinition", Network(self.world, self.api, flags))
        vars(network)["what pybind11 keeps alive"] = self.api()
        return network

    def create_builder_config(self) -> Any:
        return self.world.new("IBuilderConfig", Config(self.world))

    def create_optimization_profile(self) -> Any:
        return self.world.new("IOptimizationProfile", Profile(self.world))

    def get_plugin_registry(self) -> Any:
        return self.world.new("IPluginRegistry", PluginRegistry(self.world))

    def is_network_supported(self, network: Any, config: Any) -> bool:
        return self._objection(state(network), state(config)) is None

    def build_serialized_network(self, network: Any, config: Any, _kernel_text: Any = None) -> Any:
        plan = self._plan(state(network), state(config))
        return None if plan is None else HostMemory.of(self.world, plan)

    def build_serialized_network_to_stream(self, network: Any, config: Any, writer: Any) -> bool:
        """In pieces; a writer that takes less than it is given ends it."""
        plan = self._plan(state(network), state(config)) or b""
        pieces = [plan[at : at + PIECE] for at in range(0, len(plan), PIECE)]
        return bool(plan) and all(self.world.double.call(writer, "write", piece) == len(piece) for piece in pieces)

    def _plan(self, given: Any, options: Config) -> bytes | None:
        objection = self._objection(given, options)
        if objection:
            self.world.error("IBuilder::buildSerializedNetwork", objection, "4: API Usage Error")
            return None
        if not self._report(options.progress_monitor):
            self.world.error("IBuilder::buildSerializedNetwork", "Build canceled by user", "7: BuildCanceled")
            return None
        if not self._time(given, options):
            return None
        refits, stripped = any(map(options.is_set, REFITS)), options.is_set("STRIP_PLAN")
        model = folded(self.world, given.model) if refits else given.model
        if stripped:
            strip(model, refittable(self.world, model, given.marked))
        facts = {
            "name": given.name,
            "layers": given.num_layers,
            "refittable": refits,
            "marked": sorted(given.marked) if options.is_set("REFIT_INDIVIDUAL") else [],
            "stripped": stripped,
            "verbosity": options.profiling_verbosity.name,
            "hardware": options.hardware_compatibility_level.name,
            "shared profiles": self._shares_profiles(options),
            "aux streams": max(options.max_aux_streams, 0),
            "compatible": options.is_set("VERSION_COMPATIBLE"),
            "runtime": options.is_set("VERSION_COMPATIBLE") and not options.is_set("EXCLUDE_LEAN_RUNTIME"),
            "streams": options.is_set("WEIGHT_STREAMING"),
        }
        blueprint = Blueprint(
            self.world.double.version,
            tuple(profile.shapes for profile in options.profiles),
            tuple(profile.contents for profile in options.profiles),
            facts,
            model,
        )
        return write_plan(self.world, blueprint)

    def _time(self, network: Any, options: Config) -> bool:
        """Take tactics from the timing cache and leave them there; False where one is missed that must be there."""
        cache = options.timing_cache
        if cache is None or self.world.rtx or options.builder_optimization_level == 0:
            return True
        layers = {f"{node.op_type} {node.input} {node.output}" for node in network.model.graph.node}
        if cache.lacks(layers) and options.is_set("ERROR_ON_TIMING_CACHE_MISS"):
            self.world.error("IBuilder::buildSerializedNetwork", "Assertion !errorOnMiss failed.", "2: Internal Error")
            return False
        cache.learn(layers)
        return True

    def _shares_profiles(self, options: Config) -> bool:
        # 8.6 allows it on request; from 10 on it is always so.
        member = "PreviewFeature.PROFILE_SHARING_0806"
        return not self.world.legacy or options.get_preview_feature(self.world.enum(member))

    def _report(self, monitor: Any) -> bool:
        """Tell ``monitor`` of every step; False as soon as it says so."""
        if monitor is None:
            return True
        call = self.world.double.call
        for phase, parent, steps in STEPS:
            call(monitor, "phase_start", phase, parent, steps)
        for phase, _, steps in reversed(STEPS):
            for step in range(steps):
                if call(monitor, "step_complete", phase, step) is False:
                    return False
            call(monitor, "phase_finish", phase)
        return True

    def _objection(self, network: Any, options: Config) -> str | None:
        if not network.num_outputs:
            return "Network must have at least one output."
        shaping = graph.shape_tensors(network.model)
        inputs = [(value.name, network.known(value.name)[1]) for value in graph.inputs_of(network.model)]
        dynamic = {name: shape for name, shape in inputs if -1 in shape}
        if (dynamic or shaping) and not options.profiles:
            return NO_PROFILE
        for index, profile in enumerate(options.profiles):
            for name, shape in dynamic.items():
                if name not in profile.shapes:
                    return f"Dynamic input tensor {name} is missing dimensions in profile {index}."
                low, opt, high = profile.shapes[name]
                if len(low) != len(shape):
                    return (
                        f"Dynamic-shaped input tensor {name} has {len(shape)} dimensions but profile {index} "
                        f"has {len(low)} dimensions."
                    )
                for axis, size in enumerate(shape):
                    if size >= 0 and not low[axis] == opt[axis] == high[axis] == size:
                        return (
                            f"Dimension mismatch for tensor {name} and profile {index}. At dimension axis {axis}, "
                            f"profile has min={low[axis]}, opt={opt[axis]}, max={high[axis]} but tensor has {size}."
                        )
            for name in shaping - profile.contents.keys():
                return f"Shape input tensor {name} is missing values in profile {index}."
        if options.is_set("WEIGHT_STREAMING") and not network.strongly_typed and self.world.has("BuilderFlag.FP16"):
            return "Weight streaming is enabled for a network that was not created with kSTRONGLY_TYPED"
        if self.world.rtx and options.is_set("VERSION_COMPATIBLE") and not options.is_set("EXCLUDE_LEAN_RUNTIME"):
            return "Unable to load library: libnvinfer_lean.so.1: cannot open shared object file"
        return self._refit_objection(network, options) or self._typing_objection(network, options)

    def _refit_objection(self, network: Any, options: Config) -> str | None:
        """As seen on 8.6, of networks that it builds without the flag."""
        if not (self.world.legacy and options.is_set("REFIT")):
            return None
        nodes = network.model.graph.node
        if any(node.op_type == "NonMaxSuppression" for node in nodes):
            return "Assertion it != valueMap.end() failed. analyzeShapes failed to add t to valueMap."
        inputs = {value.name for value in graph.inputs_of(network.model)}
        if any(node.op_type == "Loop" and node.input[0] in inputs for node in nodes):
            return "Assertion weightsPtr.tensor != nullptr failed. "
        return None

    def _typing_objection(self, network: Any, options: Config) -> str | None:
        weak = ("FP16", "INT8", "BF16", "FP8")
        if network.strongly_typed and any(options.is_set(flag) for flag in weak):
            return "fp16 precision has been set for a network created with kSTRONGLY_TYPED flag"
        quantized = any(node.op_type in QUANTIZING for node in network.model.graph.node)
        if quantized and not network.strongly_typed and not options.is_set("INT8"):
            return "Int8 precision has been set for a layer or layer output, but int8 is not configured in the builder"
        elements = {network.known(name)[0] for node in network.model.graph.node for name in node.output}
        half = onnx.TensorProto.FLOAT16 in elements
        if half and not network.strongly_typed and not options.is_set("FP16"):
            return "fp16 precision has been set for a layer or layer output, but fp16 is not configured in the builder"
        return None


PLAYS: dict[str, type] = {
    "Builder": Builder,
    "IBuilderConfig": Config,
    "IOptimizationProfile": Profile,
    "ITimingCache": TimingCache,
    "TimingCacheKey": TimingCacheKey,
}
