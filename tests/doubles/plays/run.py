"""Runtimes, engines and execution contexts: a plan put to work on the double of CUDA."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.doubles.cuda_runtime import KERNEL
from tests.doubles.double import state
from tests.doubles.plays import graph
from tests.doubles.plays.build import HEADER, Blueprint, magic, read_plan, write_plan
from tests.doubles.plays.foundation import DTYPES, Dims, HostMemory, Play, PluginRegistry, World
from tests.doubles.plays.inspector import Inspector, layers_of
from tests.doubles.plays.refit import filled, refittable, strip

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
GRANULE = 512  # bytes


class Runtime(Play):
    """Turns plans into engines, where there is a GPU."""

    DLA_core = -1
    num_DLA_cores = 0
    max_threads = 1
    error_recorder = None
    gpu_allocator = None
    engine_host_code_allowed = False
    temporary_directory = ""
    tempfile_control_flags = 3
    defer_weights_loading = False
    engine_header_size = HEADER.size

    def __init__(self, world: World, logger: Any) -> None:
        super().__init__(world)
        world.register(logger, "createInferRuntime")
        self.logger = logger
        if not world.double.gpu and not world.rtx:
            world.crash(signal.SIGSEGV)  # what the real one does

    def deserialize_cuda_engine(self, plan: Any) -> Any:
        reads = self.world.has("IStreamReaderV2") and isinstance(plan, self.world.double.classes["IStreamReaderV2"])
        blueprint = read_plan(self.world, self._drawn(plan) if reads else bytes(plan))
        if not isinstance(blueprint, str):
            blueprint = self._refusal(blueprint) or blueprint
        if isinstance(blueprint, str):
            self.world.error("IRuntime::deserializeCudaEngine", blueprint, "1: Serialization")
            return None
        if not self.world.double.gpu:
            words = "In ScopedCudaStream (cudaError 35: CUDA driver version is insufficient for CUDA runtime version)"
            self.world.error("IRuntime::deserializeCudaEngine", words, "1: Cuda Runtime")
            return None
        return self.world.new("ICudaEngine", Engine(self.world, blueprint))

    def _refusal(self, blueprint: Blueprint) -> str:
        """Why this kind of runtime does not load such a plan, as it was set; "" if it does."""
        facts, kind = blueprint.facts, self.world.kind
        if kind and not facts["compatible"]:
            return "The plan was not built with kVERSION_COMPATIBLE"
        if kind == "dispatch" and not facts["runtime"]:
            return "Unexpected call to stub"
        if facts["runtime"] and not self.engine_host_code_allowed:
            return "Cannot deserialize engine with lean runtime: engineHostCodeAllowed is not set"
        return ""

    def _drawn(self, reader: Any) -> bytes:
        """A whole plan from a stream reader, as the bindings draw it: asked again until all that was wanted came."""
        call, positions = self.world.double.call, self.world.double.enums["SeekPosition"].__members__

        def drawn(wanted: int) -> bytes:
            got = b""
            while len(got) < wanted:
                piece = call(reader, "read", wanted - len(got), 0)
                if not piece:
                    break
                got += piece
            return got

        call(reader, "seek", 0, positions["SET"])
        head = drawn(HEADER.size)
        if len(head) < HEADER.size:
            return head
        _, _, facts, model = HEADER.unpack(head)
        assert call(reader, "seek", -HEADER.size, positions["CUR"])
        return drawn(HEADER.size + facts + model + 16)

    def get_plugin_registry(self) -> Any:
        return self.world.new("IPluginRegistry", PluginRegistry(self.world))

    def get_engine_validity(self, plan: Any) -> tuple[Any, int]:
        data = bytes(plan)
        if len(data) < HEADER.size or not data.startswith(magic(self.world)):
            return self.world.enum("EngineValidity.INVALID"), 32
        return self.world.enum(f"EngineValidity.{'VALID' if self.world.double.gpu else 'INVALID'}"), 0


class Engine(Play):
    """A plan that can be run."""

    error_recorder = None
    has_implicit_batch_dimension = False
    max_batch_size = 1
    device_memory_size = device_memory_size_v2 = 1 << 10
    minimum_weight_streaming_budget = 0

    def __init__(self, world: World, blueprint: Blueprint) -> None:
        super().__init__(world)
        self.blueprint = blueprint
        self.awaited = filled(blueprint.model) if blueprint.facts["stripped"] else set()
        self.program = graph.Program(blueprint.model)
        self.contexts: list[Any] = []
        model = blueprint.model
        self.inputs = [value.name for value in graph.inputs_of(model)]
        self.outputs = [value.name for value in model.graph.output]
        self._known = graph.inferred(model)
        self.name = blueprint.facts["name"]
        self.num_layers = len(layers_of(model)) * self.num_optimization_profiles  # those of each profile are its own
        self.refittable = blueprint.facts["refittable"]
        self.profiling_verbosity = world.enum(f"ProfilingVerbosity.{blueprint.facts['verbosity']}")
        self.hardware_compatibility_level = world.enum(f"HardwareCompatibilityLevel.{blueprint.facts['hardware']}")
        self.engine_capability = world.enum("EngineCapability.STANDARD")
        self.num_aux_streams = blueprint.facts["aux streams"]
        weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
        self.streamable_weights_size = weights if blueprint.facts["streams"] else 0
        self.weight_streaming_budget = self._budget = self.streamable_weights_size
        self.world.cuda.resident[self] = weights

    @property
    def weight_streaming_budget_v2(self) -> int:
        return self._budget

    @weight_streaming_budget_v2.setter
    def weight_streaming_budget_v2(self, budget: int) -> None:
        """A refusal is logged, and nothing else: the setter's False gets lost."""
        where = "ICudaEngine::setWeightStreamingBudgetV2"
        if not self.blueprint.facts["streams"]:
            self.world.error(where, "The engine was not built with kWEIGHT_STREAMING")
        elif budget < 0:
            self.world.error(where, f"Parameter check failed, condition: gpuMemoryBudget >= 0. Got {budget}")
        elif any(context() is not None for context in self.contexts):
            self.world.error(where, "The budget can't be set while there are active IExecutionContexts")
        else:
            self._budget = min(budget, self.streamable_weights_size)
            self.world.cuda.resident[self] = self._budget

    @property
    def weight_streaming_scratch_memory_size(self) -> int:
        return 1 << 10 if self._budget < self.streamable_weights_size else 0

    @property
    def num_io_tensors(self) -> int:
        return len(self.inputs) + len(self.outputs)

    num_bindings = num_io_tensors

    @property
    def num_optimization_profiles(self) -> int:
        return max(1, len(self.blueprint.shapes))

    def get_tensor_name(self, index: int) -> Any:
        names = [*self.inputs, *self.outputs]
        if 0 <= index < len(names):
            return names[index]
        self.world.error("ICudaEngine::getIOTensorName", f"Parameter check failed, condition: index. Got {index}")
        return ""

    def __getitem__(self, index: Any) -> Any:
        names = [*self.inputs, *self.outputs]
        return names.index(index) if isinstance(index, str) else names[index]

    def __len__(self) -> int:
        return self.num_io_tensors

    def _exists(self, name: str, where: str) -> bool:
        if name in self.inputs or name in self.outputs:
            return True
        self.world.error(
            f"ICudaEngine::{where}", f"Given invalid tensor name: {name}. Get valid tensor names with getIOTensorName()"
        )
        return False

    def get_tensor_mode(self, name: str) -> Any:
        self._exists(name, "getTensorIOMode")
        mode = "INPUT" if name in self.inputs else "OUTPUT" if name in self.outputs else "NONE"
        return self.world.enum(f"TensorIOMode.{mode}")

    def get_tensor_dtype(self, name: str) -> Any:
        if not self._exists(name, "getTensorDataType"):
            return self.world.enum("DataType.FLOAT")
        return self.world.dtype(graph.numpy_name(self._known[name][0]))

    def get_tensor_shape(self, name: str) -> Shape:
        return self._known[name][1] if self._exists(name, "getTensorShape") else ()

    def get_tensor_location(self, name: str) -> Any:
        return self.world.enum(f"TensorLocation.{'HOST' if self.is_shape_inference_io(name) else 'DEVICE'}")

    def is_shape_inference_io(self, name: str) -> bool:
        return name in self.program.shaping

    def get_tensor_format(self, _name: str, _profile: int = 0) -> Any:
        return self.world.enum("TensorFormat.LINEAR")

    def get_tensor_bytes_per_component(self, name: str, _profile: int = 0) -> int:
        return int(DTYPES[self.get_tensor_dtype(name).name][1])

    def _profile(self, table: Any, name: str, index: int) -> Any:
        if not 0 <= index < self.num_optimization_profiles:
            self.world.error("ICudaEngine::getProfileShape", f"Parameter check failed: there is no profile {index}")
            return None
        return table[index].get(name) if table else None

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[Shape]:
        if name not in self.inputs:
            self.world.error("ICudaEngine::getProfileShape", f"{name} is no input")
            return []
        found = self._profile(self.blueprint.shapes, name, profile)
        return list(found or [self.get_tensor_shape(name)] * 3)

    def get_tensor_profile_values(self, profile: int, name: str) -> list[list[int]]:
        return [list(values) for values in self._profile(self.blueprint.contents, name, profile) or ()]

    def get_profile_shape_input(self, profile: int, name: Any) -> list[list[int]]:
        """The first element of each, as seen on 8.6."""
        name = name if isinstance(name, str) else self.get_tensor_name(name)
        return [values[:1] for values in self.get_tensor_profile_values(profile, name)]

    def serialize(self) -> Any:
        return HostMemory.of(self.world, write_plan(self.world, self.blueprint))

    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        return self.device_memory_size >> profile

    get_device_memory_size_for_profile = get_device_memory_size_for_profile_v2

    def create_serialization_config(self) -> Any:
        return self.world.new("ISerializationConfig", SerializationConfig(self.world))

    def serialize_with_config(self, config: Any) -> Any:
        """What is left out is left out; that it can be refitted stays only where that is asked for."""
        asked, facts, model = state(config).names, dict(self.blueprint.facts), type(self.blueprint.model)()
        model.CopyFrom(self.blueprint.model)
        if "EXCLUDE_WEIGHTS" in asked and facts["refittable"]:
            strip(model, refittable(self.world, model, facts["marked"]))
            facts["stripped"] = True
        facts["refittable"] = facts["refittable"] and "INCLUDE_REFIT" in asked
        facts["runtime"] = facts["runtime"] and "EXCLUDE_LEAN_RUNTIME" not in asked
        return HostMemory.of(
            self.world, write_plan(self.world, dataclasses.replace(self.blueprint, facts=facts, model=model))
        )

    def create_engine_inspector(self) -> Any:
        return self.world.new("EngineInspector", Inspector(self.world, self))

    def create_execution_context(self, _strategy: Any = None) -> Any:
        context = Context(self.world, self)
        # What the engine knows of its contexts are the objects, so that freed ones are forgotten.
        made = self.world.new("IExecutionContext", context)
        self.contexts = [other for other in self.contexts if other() is not None]
        taken = {state(other()).active_optimization_profile for other in self.contexts}
        self.contexts.append(context.api)
        # The first context gets profile 0; a later one must choose, if it may not share.
        context.active_optimization_profile = -1 if 0 in taken and not self.may_share else 0
        return made

    @property
    def may_share(self) -> bool:
        return bool(self.blueprint.facts["shared profiles"]) or not self.blueprint.shapes


class SerializationConfig(Play):
    """What goes into a plan, and what does not."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.flags = 0

    @property
    def names(self) -> set[str]:
        members = self.world.double.enums["SerializationFlag"].__members__
        return {name for name, member in members.items() if self.get_flag(member)}

    def set_flag(self, flag: Any) -> bool:
        self.flags |= 1 << int(flag)
        return True

    def clear_flag(self, flag: Any) -> bool:
        self.flags &= ~(1 << int(flag))
        return True

    def get_flag(self, flag: Any) -> bool:
        return bool(self.flags >> int(flag) & 1)


class NegativeRank(Dims):
    """What 8.x gives for a shape that contradicts itself: sizes that are none, and of which there are fewer."""

    def __init__(self, world: World) -> None:
        super().__init__(world, [])

    def __len__(self) -> int:
        raise ValueError("__len__() should return >= 0")

    def __repr__(self) -> str:
        return "(0)"


class Context(Play):
    """One execution context."""

    error_recorder = None
    profiler = None
    debug_sync = False
    enqueue_emits_profile = True
    persistent_cache_limit = 0
    name = ""

    def __init__(self, world: World, engine: Engine) -> None:
        super().__init__(world)
        self._engine = engine
        self._keep = engine.api() if engine.api else None  # pybind11 keeps the engine alive for it
        self.active_optimization_profile = 0
        self._shapes: dict[str, Shape] = {
            name: engine.get_tensor_shape(name) for name in engine.inputs if -1 not in engine.get_tensor_shape(name)
        }
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._made: dict[str, Shape] = {}  # what output allocators were told
        self._prepared: Any = None  # the shapes and contents enqueued last

    @property
    def engine(self) -> Any:
        return self._keep

    def set_optimization_profile_async(self, index: int, _stream: int) -> bool:
        engine = self._engine
        where = "IExecutionContext::setOptimizationProfileAsync"
        if not 0 <= index < engine.num_optimization_profiles:
            self.world.error(
                where,
                "Parameter check failed, condition: profileIndex < mEngine.getNbOptimizationProfiles(). "
                f"There is no profile {index}.",
            )
            if self.world.legacy:
                self.world.crash(signal.SIGSEGV)  # as seen on 8.6
            return False
        others = [state(other()) for other in engine.contexts if other() is not None and state(other()) is not self]
        if not engine.may_share and any(other.active_optimization_profile == index for other in others):
            self.world.error(
                where,
                f"Profile {index} has been chosen by another IExecutionContext. Use another profileIndex or destroy "
                "the IExecutionContext that use this profile.",
            )
            return False
        if index != self.active_optimization_profile:
            self._prepared = None
            if not self.world.legacy:  # 8.6 keeps what was told before
                self._shapes = {
                    name: shape for name, shape in self._shapes.items() if -1 not in engine.get_tensor_shape(name)
                }
        self.active_optimization_profile = index
        return True

    def _range(self, name: str) -> tuple[Shape, Shape, Shape] | None:
        shapes = self._engine.blueprint.shapes
        return shapes[self.active_optimization_profile].get(name) if shapes else None

    def set_input_shape(self, name: str, shape: Any) -> bool:
        where, sizes = "IExecutionContext::setInputShape", tuple(shape)
        if name not in self._engine.inputs:
            self.world.error(where, f"Given invalid tensor name: {name}. Get valid tensor names with getIOTensorName()")
            return False
        if self.active_optimization_profile < 0:
            self.world.error(where, "Parameter check failed, condition: mOptimizationProfile >= 0.")
            return False
        declared = self._engine.get_tensor_shape(name)
        if len(declared) != len(sizes) or any(d not in (-1, s) for d, s in zip(declared, sizes, strict=True)):
            self.world.error(
                where,
                f"Static dimension mismatch while setting input shape for {name}. Set dimensions are {list(sizes)}. "
                f"Expected dimensions are {list(declared)}.",
            )
            return False
        allowed = self._range(name)
        if allowed is not None and not _within(sizes, allowed):
            low, _, high = allowed
            others = [ranges[name] for ranges in self._engine.blueprint.shapes]
            if not (self.world.legacy and any(_within(sizes, other) for other in others)):  # 8.6 looks at all of them
                self.world.error(
                    where,
                    f"Parameter check failed, condition: satisfyProfile. Set dimension {list(sizes)} for tensor {name} "
                    f"does not satisfy any optimization profiles. Valid range for profile "
                    f"{self.active_optimization_profile}: {list(low)}..{list(high)}.",
                )
                return False
        self._shapes[name] = sizes
        return True

    def _in_range(self) -> bool:
        """Whether all inputs lie within the active profile, which 8.6 asks as late as when it infers or runs."""
        for name, sizes in self._shapes.items():
            allowed = self._range(name)
            if allowed is not None and not _within(sizes, allowed):
                self.world.error(
                    "executionContext.cpp::validateInputBindings",
                    f"Parameter check failed, condition: profileMaxDims.d[i] >= dimensions.d[i]. Supplied binding "
                    f"dimension {list(sizes)} for {name} exceed min ~ max range of the profile "
                    f"{list(allowed[0])}..{list(allowed[2])}.",
                )
                return False
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in (*self._engine.inputs, *self._engine.outputs):
            self.world.error("IExecutionContext::setTensorAddress", f"Given invalid tensor name: {name}.")
            return False
        self._addresses[name] = memory
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        if name not in self._engine.outputs:
            self.world.error("IExecutionContext::setOutputAllocator", f"{name} is no output")
            return False
        if allocator is None:
            self._allocators.pop(name, None)
        else:
            self._allocators[name] = allocator
        return True

    def get_output_allocator(self, name: str) -> Any:
        return self._allocators.get(name)

    def _missing(self) -> list[str]:
        engine = self._engine
        return [
            name
            for name in engine.inputs
            if name not in self._shapes or (name in engine.program.shaping and not self._addresses.get(name))
        ]

    @property
    def all_binding_shapes_specified(self) -> bool:
        return all(name in self._shapes for name in self._engine.inputs)

    @property
    def all_shape_inputs_specified(self) -> bool:
        return not self._missing()

    def infer_shapes(self) -> list[str]:
        missing = self._missing()
        if not missing and not (self._in_range() and self._output_shapes()):
            if self.world.legacy:
                self.world.crash(signal.SIGSEGV)  # what the real one does
            raise RuntimeError("infer_shapes error code: -1")
        return missing

    def get_tensor_shape(self, name: str) -> Any:
        engine = self._engine
        if name in engine.inputs:
            return self._shapes.get(name, engine.get_tensor_shape(name))
        if self._missing():
            return engine.get_tensor_shape(name)
        shapes = self._output_shapes()
        if shapes is not None:
            # Of a size that the data decide, the one that they made last.
            return self._made.get(name, shapes[name]) if -1 in shapes[name] else shapes[name]
        return self.world.new("Dims", NegativeRank(self.world)) if self.world.legacy else engine.get_tensor_shape(name)

    def get_max_output_size(self, name: str) -> int:
        shape = self.get_tensor_shape(name)
        element = DTYPES[self._engine.get_tensor_dtype(name).name][1]
        return -1 if -1 in shape else int(np.prod(shape, dtype=np.int64) * element)

    def _contents(self) -> dict[str, Array]:
        """What the shape tensors hold: they are read from the host at once."""
        return {
            name: self.world.cuda.host_array(self._addresses[name], *self._layout(name))
            for name in self._engine.program.shaping
        }

    def _layout(self, name: str) -> tuple[np.dtype[Any], Shape]:
        return self._storage(name), self._shapes[name]

    def _storage(self, name: str) -> np.dtype[Any]:
        known = DTYPES[self._engine.get_tensor_dtype(name).name][0]
        try:
            return np.dtype(known)
        except TypeError:
            import ml_dtypes

            kind: np.dtype[Any] = np.dtype(getattr(ml_dtypes, known))
            return kind

    def _output_shapes(self) -> Mapping[str, Shape] | None:
        """The outputs' shapes, or None (and a message) when inputs contradict the network or the profile."""
        contents = self._contents()
        for name, values in contents.items():
            ranges = self._engine.blueprint.contents[self.active_optimization_profile].get(name)
            inside = ranges and all(a <= v <= b for a, v, b in zip(ranges[0], values.ravel(), ranges[2], strict=True))
            if ranges and not inside and not self.world.legacy:  # 8.6 does not ask
                self.world.error(
                    "IExecutionContext::inferShapes",
                    f"Parameter check failed: values {values.ravel().tolist()} of the shape tensor {name} are outside "
                    f"the profile's {ranges[0]}..{ranges[2]}.",
                )
                return None
        try:
            return self._engine.program.output_shapes(self._shapes, contents)
        except Exception as error:  # whatever the evaluator raises is a contradiction
            self.world.error("IExecutionContext::inferShapes", str(error).replace("\n", " "), "7: Internal Error")
            return None

    def execute_async_v3(self, stream: int) -> bool:
        where = "IExecutionContext::enqueueV3"
        engine, cuda = self._engine, self.world.cuda
        legacy = self.world.legacy
        for name in engine.inputs:
            if name not in self._shapes:
                condition = "condition: allInputDimensionsSpecified(routine)"
                words = condition if legacy else f"the shape of input {name} is not specified."
                self.world.error(where, f"Parameter check failed: {words}")
                return False
            if not self._addresses.get(name):
                if legacy and name in engine.program.shaping:
                    self.world.crash(signal.SIGSEGV)  # as seen on 8.6, which reads from there
                self.world.error(
                    where,
                    "Parameter check failed, "
                    "condition: (mContext.profileObliviousBindings.at(profileObliviousIndex)) != nullptr"
                    + f". Address is not set for input tensor {name}. "
                    "Call setInputTensorAddress or setTensorAddress before enqueue/execute." * (not legacy),
                )
                return False
        shapes = self._output_shapes() if self._in_range() else None
        if shapes is None:
            return False
        for name in engine.outputs:
            if not self._addresses.get(name) and name not in self._allocators:
                self.world.error(
                    where,
                    "Parameter check failed, condition: mContext.profileObliviousBindings.at(profileObliviousIndex) "
                    "|| getPtrOrNull(mOutputAllocators, profileObliviousIndex)"
                    + f". Neither address or allocator is set for output tensor {name}. "
                    "Call setOutputTensorAddress, setTensorAddress or setOutputAllocator before enqueue/execute."
                    * (not legacy),
                )
                return False
            if -1 in shapes[name] and name not in self._allocators and not legacy:
                self.world.error(where, f"Output {name} has a data-dependent shape and no output allocator.")
                return False
        contents = self._contents()
        inputs = {name: (self._addresses[name], *self._layout(name)) for name in engine.inputs if name not in contents}
        outputs = {name: self._addresses.get(name, 0) for name in engine.outputs if name not in self._allocators}
        allocators = dict(self._allocators)

        captured, program = cuda.captures(stream), engine.program
        prepared = (tuple(sorted(self._shapes.items())), tuple((n, c.tobytes()) for n, c in sorted(contents.items())))

        def run() -> None:
            # The first enqueue after a new shape prepares what replays go on using, and is in no graph.
            if not captured:
                self._prepared = prepared
            elif self._prepared != prepared:
                return
            given = {name: cuda.device_array(*place) for name, place in inputs.items()} | contents
            results = program.run(given)
            for name, result in results.items():
                array = np.ascontiguousarray(result.astype(self._storage(name)))
                if name in allocators:
                    handed.append(self._hand_over(name, array, allocators[name], stream))
                else:
                    cuda.device_array(outputs[name], array.dtype, array.shape)[...] = array

        handed: list[bool] = []
        seconds = KERNEL * len(program.model.graph.node)
        if allocators:  # sizes have to come back to the host, which nothing captured can do
            return bool(cuda.run_now(stream, run, seconds)) and all(handed)
        return bool(cuda.enqueue(stream, run, seconds))

    def _hand_over(self, name: str, array: Array, allocator: Any, stream: int) -> bool:
        """Ask ``allocator`` for memory, as the version does, tell it the shape, and write. False when it has none."""
        call = self.world.double.call
        # 8.6 asks for multiples of 512 bytes. A context that lost its allocator after that runs on, and tells no
        # shape: as if the address were what was got here.
        size = GRANULE * -(-max(array.nbytes, 1) // GRANULE) if self.world.legacy else array.nbytes
        if self.world.double.overrides(allocator, "reallocate_output_async") and not self.world.legacy:
            address = call(allocator, "reallocate_output_async", name, 0, size, 256, stream)
        else:
            address = call(allocator, "reallocate_output", name, 0, size, 256)
        if not address:
            self.world.error(
                "IExecutionContext::enqueueV3",
                f"IOutputAllocator returned nullptr for allocation request of {size} bytes.",
                "2: Internal Error",
            )
            return False
        if self.world.legacy:
            self._addresses[name] = address
        call(allocator, "notify_shape", name, self.world.double.classes["Dims"](list(array.shape)))
        self._made[name] = array.shape
        self.world.cuda.flush(stream)  # what the allocator itself put on the stream comes before the result
        self.world.cuda.device_array(address, array.dtype, array.shape)[...] = array
        return True


def _within(sizes: Shape, allowed: tuple[Shape, Shape, Shape]) -> bool:
    return all(low <= size <= high for low, size, high in zip(allowed[0], sizes, allowed[2], strict=True))


PLAYS: dict[str, type] = {
    "Runtime": Runtime,
    "ICudaEngine": Engine,
    "ISerializationConfig": SerializationConfig,
    "IExecutionContext": Context,
    "EngineInspector": Inspector,
}
