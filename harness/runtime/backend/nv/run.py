"""From a plan to results."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from harness.errors import DeserializeError, HarnessError, RefitError, RunError, UnsupportedError
from harness.runtime.backend.living import Living
from harness.runtime.backend.nv import inspect
from harness.runtime.backend.nv.dialect import Dialect
from harness.runtime.backend.nv.elements import as_dtype, nbytes, packed, storage, unpacked
from harness.runtime.backend.nv.log import Heard
from harness.runtime.backend.nv.measure import Lane, measured
from harness.runtime.backend.nv.memory import Memory
from harness.runtime.backend.nv.refit import Refit
from harness.runtime.backend.omission import Omission, tensor_named
from harness.runtime.backend.protocol import (
    UNCAPTURABLE,
    Array,
    EngineInfo,
    HowToRefit,
    LayerWeights,
    Refittable,
    Shape,
    Streaming,
    Weights,
    asked_name,
)
from harness.runtime.device import CudaError, Graph, Stream, free_memory
from harness.runtime.sampling import Repeated, Samples, Sampling, repeated

STEP = 2 << 20  # bytes in which the driver gives out memory of the device


class NvEngine:
    """A deserialized plan. Sessions must be closed before it is."""

    def __init__(
        self, dialect: Dialect, runtime: Any, plan: Array, logger: Any, living: Living, *, stream: bool = False
    ) -> None:
        self.dialect, self.logger, self.living = dialect, logger, living
        self._free = free_memory()  # of the device, before the engine takes any
        started = time.perf_counter()
        with logger.listen() as heard:
            source = dialect.stream_reader(plan) if stream else plan  # read where it lies: it may be long
            self.engine = runtime.deserialize_cuda_engine(source)
            if self.engine is None:
                raise DeserializeError(heard.says("the runtime returned no engine and named no reason"))
        self.info: EngineInfo = inspect.describe(dialect, self.engine, time.perf_counter() - started)
        self.sessions: weakref.WeakSet[NvSession] = weakref.WeakSet()
        self._resources = contextlib.ExitStack()
        living.add_engine(self._resources)

    def session(self, profile: int = 0) -> NvSession:
        session = NvSession(self, profile)
        self.sessions.add(session)
        return session

    def serialize(self, flags: tuple[str, ...] = ()) -> Array:
        with self.logger.listen() as heard:
            if flags:
                config = self.dialect.serialization_config(self.engine, flags)  # which a version may lack
                memory = self.engine.serialize_with_config(config)
            else:
                memory = self.engine.serialize()
            if memory is None:
                raise DeserializeError(heard.says("the engine could not be serialized, and no reason was given"))
        return np.frombuffer(bytes(memory), np.uint8)

    def stream(self, budget: int | None = None) -> Streaming:
        if not self.dialect.streams_weights:
            trt = self.dialect.trt
            raise UnsupportedError("weight_streaming", f"{trt.__name__} {self.dialect.version} has no budget for it")
        if budget is not None:
            self._keep_at_most(budget)
        return Streaming(
            int(self.engine.streamable_weights_size),
            int(self.engine.weight_streaming_budget_v2),
            int(self.engine.weight_streaming_scratch_memory_size),
            max(0, self._free - free_memory()),
            STEP,
        )

    def _keep_at_most(self, budget: int) -> None:
        # TensorRT must not be asked while contexts are alive, and does not promise to look for any.
        if any(session.is_open for session in self.sessions):
            raise DeserializeError("a weight budget is set while no session is open: close them first")
        with self.logger.listen() as heard:
            try:
                self.engine.weight_streaming_budget_v2 = budget
            except (RuntimeError, TypeError) as error:  # a setter that says False may raise
                raise DeserializeError(heard.says(str(error))) from error
            made, streamable = int(self.engine.weight_streaming_budget_v2), int(self.engine.streamable_weights_size)
            if heard.errors or made not in (budget, min(budget, streamable)):
                raise DeserializeError(heard.says(f"asked for {budget} bytes, TensorRT made {made} of it"))

    def weights(self, given: Weights | None = None, *, layers: LayerWeights | None = None) -> Refittable:
        with self.logger.listen(), self._refit() as refit:
            refit.set(given or {}, layers or {})
            return refit.lists()

    def refit(
        self,
        weights: Weights,
        *,
        layers: LayerWeights | None = None,
        how: HowToRefit = "plain",
        keep_graphs: bool = False,
    ) -> None:
        with self.logger.listen(), self._refit(how) as refit:
            refit.set(weights, layers or {})
            self._drop_graphs(keep=keep_graphs)
            refit.apply()

    def refit_from(self, model: str) -> None:
        with self.logger.listen(), self._refit() as refit:
            self._drop_graphs()
            refit.apply_from(model)

    def _refit(self, how: HowToRefit = "plain") -> Refit:
        if not self.info.facts.get("refittable"):
            raise RefitError("this engine can't be refitted: build it with BuilderFlag.REFIT")
        return Refit(self.dialect, self.engine, self.logger, how)

    def _drop_graphs(self, *, keep: bool = False) -> None:
        for session in () if keep else self.sessions:
            session.drop_graph()

    def inspect(self) -> dict[str, Any]:
        """As `Engine.inspect`: without a context that knows its shapes TensorRT tells neither sizes nor formats."""
        if not any(tensor.shape_tensor or -1 in tensor.shape for tensor in self.info.inputs):
            return inspect.layers(self.dialect, self.engine, None, self.logger)
        with contextlib.closing(self.session()) as session:
            context = session.context if session.suppose_optimum() else None
            return inspect.layers(self.dialect, self.engine, context, self.logger)

    def close(self) -> None:
        self.engine = None  # TensorRT frees what is no longer referred to
        self._resources.close()


class NvSession:
    """One execution context, with a stream and memory of its own."""

    def __init__(self, engine: NvEngine, profile: int) -> None:
        self.engine, self.dialect, self.logger = engine, engine.dialect, engine.logger
        self.tensors = {tensor.name: tensor for tensor in engine.info.tensors}
        if not 0 <= profile < engine.info.profiles:
            raise DeserializeError(f"there is no profile {profile}: the engine has {engine.info.profiles}")
        self.profile = profile
        self._graph: Graph | None = None
        self._graphed: Any = None  # what the graph was captured for
        self._bound: dict[str, tuple[Shape, bytes]] = {}  # shapes, and contents that decide shapes, told last
        self._told = False  # whether the context may know shapes from before
        self._waits: dict[str, tuple[int, ...]] = {}  # axes of outputs whose sizes the data decide
        self._dynamic: dict[str, Shape] = {}  # shapes that the output allocators were told
        self._allocators: dict[str, Any] = {}  # TensorRT does not keep them alive
        with contextlib.ExitStack() as resources:
            engine.living.add_session(resources)
            self.stream = resources.enter_context(Stream())
            self.memory = resources.enter_context(Memory(self.tensors, self.stream))
            resources.callback(self._let_go)
            self._make_context()
            self._resources = resources.pop_all()

    def run(self, inputs: Mapping[str, Array], *, graph: bool = False, omit: str = "") -> dict[str, Array]:
        omission = Omission.parse(omit, self.engine.info, graph=graph)
        with self.logger.listen(), self._refusals():
            return self._collect(self._launch(inputs, omission, graph=graph, omit=omit)[1])

    def measure(self, inputs: Mapping[str, Array], sampling: Sampling) -> Samples:
        with self.logger.listen() as heard, contextlib.ExitStack() as others:
            beside = [others.enter_context(contextlib.closing(self._another())) for _ in range(sampling.streams - 1)]
            lanes = [session._lane(inputs, heard, graph=sampling.graph) for session in (self, *beside)]
            for lane in lanes:
                others.enter_context(lane.memory.as_it_is())
            with self._failures():
                return measured(lanes, sampling)

    def repeat(self, inputs: Mapping[str, Array], seconds: float, *, graph: bool = False) -> Repeated:
        with self.logger.listen() as heard:
            lane = self._lane(inputs, heard, graph=graph)
            with self.memory.as_it_is(), self._failures():
                try:
                    return repeated(lane.launch, self.stream.synchronize, seconds)
                finally:  # what an error left under way
                    self.stream.synchronize()

    def reshape(self, inputs: Mapping[str, Array], others: Mapping[str, Array], times: int) -> Array:
        with self.logger.listen(), self._refusals(), self.memory.as_it_is():
            for asked in (inputs, others):  # memory for either, before anything is timed
                self._finish(self._launch(asked, Omission(), graph=False)[1])
            return np.array([self._reshaped(inputs, others) for _ in range(times)], np.float64)

    def _reshaped(self, inputs: Mapping[str, Array], others: Mapping[str, Array]) -> float:
        """Seconds of the host for one switch, with nothing left on the device but this session's run."""
        self._finish(self._launch(others, Omission(), graph=False)[1])
        given = self._given(inputs)
        laid = dict(given)
        self._give(laid, Omission())
        self._fill(laid)
        self._wait()
        began = time.perf_counter()
        self._tell(given, Omission())
        outputs = self._bind_outputs(Omission())
        self._enqueue()
        passed = time.perf_counter() - began
        self._finish(outputs)
        return passed

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Shape]:
        """As `Session.infer`.

        Nothing is enqueued, and on 8.x it is the enqueue that holds shapes against the profile: there our
        own session refuses what is outside of it, by what the engine reports of its profiles. What a shape
        tensor may hold 8.x does not report, nor does it ever refuse contents outside of the profile.
        """
        with self.logger.listen():
            given = self._given(inputs)
            if not self.dialect.checks_profile_as_told:
                self._within_profile(given)
            self._tell(given, Omission())
            return {tensor.name: self._shape_of(tensor.name) for tensor in self.engine.info.outputs}

    def switch(self, profile: int) -> None:
        if not 0 <= profile < self.engine.info.profiles:  # 8.6 says that it refuses it, and dies
            raise RunError(f"there is no profile {profile}: the engine has {self.engine.info.profiles}")
        with self.logger.listen() as heard:
            if not self.context.set_optimization_profile_async(profile, self.stream.handle):
                raise RunError(heard.says(f"profile {profile} was refused, and no reason was given"))
            self.stream.synchronize()
        self.drop_graph()
        if profile != self.profile:
            self.profile, self._told = profile, False  # TensorRT forgets shapes with the profile; 8.6 does not

    def move(self, tensor: str) -> None:
        self.drop_graph()
        self.memory.move(tensor_named(tensor, self.engine.info))

    def limit(self, tensor: str, nbytes: int | None) -> None:
        self.memory.limit(tensor_named(tensor, self.engine.info), nbytes)

    def suppose_optimum(self) -> bool:
        """Tell the context what its inputs would be at the optimum of its profile; nothing gets memory for it.

        False, and nothing is told, where contents decide shapes and the version keeps them to itself (8.x).
        """
        told = self.engine.info.facts["profile_shapes"][self.profile]
        inputs = self.engine.info.inputs
        if any(tensor.name not in told for tensor in inputs):
            return False
        supposed: dict[str, Array] = {}
        for tensor in inputs:
            _, optimum, _ = told[tensor.name]
            kind = storage(tensor.dtype)
            if tensor.shape_tensor:
                supposed[tensor.name] = np.asarray(optimum, kind).reshape(tensor.shape)
            else:
                supposed[tensor.name] = np.broadcast_to(np.zeros((), kind), optimum)
        with self.logger.listen():
            self._tell(supposed, Omission())
        return True

    def drop_graph(self) -> None:
        """Forget the captured graph: what it computed with is no longer so."""
        if self._graph is not None:
            self._graph.close()
        self._graph = self._graphed = None

    @property
    def is_open(self) -> bool:
        return self.context is not None

    def close(self) -> None:
        self._resources.close()

    def _another(self) -> NvSession:
        """One more session beside this one, on the same profile. UnsupportedError where a profile is for one alone."""
        try:
            return self.engine.session(self.profile)
        except DeserializeError as error:
            if "refused_profile" not in error.detail:
                raise
            raise UnsupportedError(f"several streams on profile {self.profile}", error.message) from error

    def _lane(self, inputs: Mapping[str, Array], heard: Heard, *, graph: bool) -> Lane:
        """This session as it is after a run on ``inputs``, to be run again and again."""
        with self._refusals():
            given, bound = self._launch(inputs, Omission(), graph=graph)
            shapes = self._finish(bound)
        context, stream = self.context, self.stream.handle

        def enqueue() -> None:
            if not context.execute_async_v3(stream):
                raise RunError(heard.says("the enqueue said False and named no reason"))

        here = [tensor for tensor in self.tensors.values() if not tensor.shape_tensor or tensor.name in self._dynamic]
        return Lane(
            self.stream,
            self.memory,
            enqueue,
            self._graph if graph else None,
            {tensor.name: given[tensor.name] for tensor in here if tensor.name in given},
            {tensor.name: nbytes(tensor.dtype, shapes[tensor.name]) for tensor in here if tensor.name in shapes},
        )

    # The context -------------------------------------------------------------------------------------

    def _make_context(self) -> None:
        """A context that was told nothing yet, in place of any other."""
        self._let_go()
        with self.logger.listen() as heard:
            self.context = self.engine.engine.create_execution_context()
            if self.context is None:
                raise DeserializeError(heard.says("no execution context could be made, and no reason was given"))
            if not self.context.set_optimization_profile_async(self.profile, self.stream.handle):
                detail = {"refused_profile": self.profile}
                raise DeserializeError(heard.says(f"profile {self.profile} was refused"), detail=detail)
            self.stream.synchronize()
        self._told = False

    def _let_go(self) -> None:
        self.drop_graph()
        self.context = None
        self._allocators.clear()

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """A RunError takes along which outputs changed in spite of it."""
        try:
            yield
        except RunError as error:
            if (touched := self.memory.touched()) is not None:
                error.detail["touched"] = touched
            raise

    # Binding -----------------------------------------------------------------------------------------

    def _given(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The engine's inputs in the engine's types, each within its limit."""
        names = {tensor.name: asked_name(tensor.name, inputs) for tensor in self.engine.info.inputs}
        if inputs.keys() != set(names.values()):
            raise RunError(f"inputs given: {sorted(inputs)}; the engine takes {sorted(names)}")
        given = {tensor.name: as_dtype(tensor, inputs[names[tensor.name]]) for tensor in self.engine.info.inputs}
        for name, array in given.items():
            self.memory.has_room(name, array.shape)
        return given

    def _tell(self, given: Mapping[str, Array], omission: Omission) -> bool:
        """Shapes, and contents that decide shapes, told to the context. False when too little is known to go on."""
        self._bound = {  # what a graph holds for, beside addresses
            name: (array.shape, array.tobytes() if self.tensors[name].shape_tensor else b"")
            for name, array in given.items()
        }
        if self._graph is not None and self._graphed[0] != self._bound:
            self.drop_graph()  # the first run after a new shape changes what a graph computes with
        if omission.step == "shape" and self._told:
            self._make_context()  # one that was told a shape can't be made to forget it
        self._told = True
        for name, array in given.items():
            if not omission.is_shape_of(name):
                shape = omission.told(name, array.shape)
                with self.logger.listen() as heard:
                    if not self.context.set_input_shape(name, shape):
                        raise RunError(f"input {name!r} of shape {shape}: {heard.says('refused without a reason')}")
            if self.tensors[name].shape_tensor:
                home = self.memory.home(name, array.shape, array.dtype)
                home[...] = array
                self._address(name, home.ctypes.data, omission)
        if omission.step == "address":
            if omission.tensor in given and self.tensors[omission.tensor].shape_tensor:
                return False
        elif omission.step and -1 in tuple(self.context.get_tensor_shape(omission.tensor)):
            return False
        with self.logger.listen() as heard:
            try:
                shown = [tensor.name for tensor in self.engine.info.outputs]
                missing = self.dialect.missing_inputs(self.context, shown)
            except RunError as error:
                raise RunError(heard.says(error.message)) from error
            if missing or heard.errors:
                raise RunError(heard.says(f"not enough is known to infer shapes: {missing}"))
        return True

    def _give(self, given: dict[str, Array], omission: Omission) -> None:
        """Memory for all other inputs."""
        for name, array in given.items():
            tensor = self.tensors[name]
            if tensor.shape_tensor:
                continue
            # Its shape is what the context takes it to have, should it differ from what it was not told.
            shape = tuple(self.context.get_tensor_shape(name)) if omission.is_shape_of(name) else array.shape
            self.memory.reserve(name, array.shape if -1 in shape else shape)
            self.memory.reserve(name, array.shape)
            given[name] = packed(tensor.dtype, array)
            self._address(name, self.memory.address(name), omission)

    def _within_profile(self, given: Mapping[str, Array]) -> None:
        ranges = self.engine.info.facts["profile_shapes"][self.profile]
        for name, array in given.items():
            if self.tensors[name].shape_tensor:
                continue
            low, _, high = ranges[name]
            if len(low) != array.ndim or not all(a <= n <= b for a, n, b in zip(low, array.shape, high, strict=True)):
                raise RunError(
                    f"input {name!r} of shape {array.shape}: profile {self.profile} allows {low} to {high} "
                    f"(TensorRT {self.dialect.version} would say so as it enqueues)"
                )

    def _shape_of(self, name: str) -> Shape:
        """An output's shape as it is inferred, -1 where the data decide.

        Once it has run, a context gives the size that the data made for the one that they will make.
        """
        shape = tuple(self.context.get_tensor_shape(name))
        if -1 in shape:
            self._waits[name] = tuple(axis for axis, size in enumerate(shape) if size < 0)
        return tuple(-1 if axis in self._waits.get(name, ()) else size for axis, size in enumerate(shape))

    def _bind_outputs(self, omission: Omission) -> dict[str, Shape | None]:
        """Every output with an address or, where its shape depends on data (None), an allocator."""
        shapes: dict[str, Shape | None] = {}
        for tensor in self.engine.info.outputs:
            name, shape = tensor.name, self._shape_of(tensor.name)
            if -1 in shape:
                shapes[name] = None
                self._dynamic.pop(name, None)
                self._allocator(name, omission)
                continue
            shapes[name] = shape
            self.memory.has_room(name, shape)
            if tensor.shape_tensor:
                home = self.memory.home(name, shape, storage(tensor.dtype))
                self._address(name, home.ctypes.data, omission)
            else:
                self.memory.reserve(name, shape)
                self._address(name, self.memory.address(name), omission)
        return shapes

    def _allocator(self, name: str, omission: Omission) -> None:
        if omission.is_address_of(name):
            self._allocators.pop(name, None)
            self.context.set_output_allocator(name, None)
        elif name not in self._allocators:
            # Not through this session, or it and its allocator would keep each other alive.
            self._allocators[name] = self.dialect.output_allocator(self.memory.allocate, self._dynamic.__setitem__)
            if not self.context.set_output_allocator(name, self._allocators[name]):
                raise RunError(f"output {name!r}: the output allocator was refused")

    def _address(self, name: str, address: int, omission: Omission) -> None:
        with self.logger.listen() as heard:
            if not self.context.set_tensor_address(name, 0 if omission.is_address_of(name) else address):
                raise RunError(f"{name!r}: {heard.says('its address was refused')}")

    # Launching ---------------------------------------------------------------------------------------

    def _launch(
        self, inputs: Mapping[str, Array], omission: Omission, *, graph: bool, omit: str = ""
    ) -> tuple[dict[str, Array], dict[str, Shape | None]]:
        """All that comes before the results: the inputs as they were given to the engine, and the outputs bound."""
        self.memory.poison()
        given = self._given(inputs)
        known = self._tell(given, omission)
        self._give(given, omission)
        if not known:
            self._enqueue_blindly(omit)
        outputs = self._bind_outputs(omission)
        if graph:
            self._capture(given, outputs)
        self._fill(given)
        if graph and self._graph is not None:
            self._graph.launch(self.stream)
        else:
            self._enqueue()
        return given, outputs

    def _fill(self, given: Mapping[str, Array]) -> None:
        self.memory.poison()
        for name, array in given.items():
            if not self.tensors[name].shape_tensor:
                self.memory.upload(name, array)

    def _enqueue(self) -> None:
        with self.logger.listen() as heard:
            done = self.context.execute_async_v3(self.stream.handle)
            self.memory.refuse_shortage()
            if not done:
                raise RunError(heard.says("the enqueue said False and named no reason"))

    def _enqueue_blindly(self, omit: str) -> None:
        """Enqueue although a shape is not known, to be refused."""
        for tensor in self.engine.info.outputs:
            if not tensor.shape_tensor and tensor.name not in self._allocators:
                self.memory.reserve(tensor.name, ())
                self._address(tensor.name, self.memory.address(tensor.name), Omission())
        self._enqueue()
        raise HarnessError(f"TensorRT enqueued a run without {omit}: what it read and wrote is anyone's guess")

    def _capture(self, given: Mapping[str, Array], outputs: Mapping[str, Shape | None]) -> None:
        """Have a graph for these shapes and addresses; any other one is dropped, for it would be stale."""
        on_host = [tensor.name for tensor in self.engine.info.outputs if tensor.shape_tensor]
        if on_host:  # written by the host as it enqueues, which no replay repeats
            raise UnsupportedError("cuda_graph: a replay leaves outputs on the host as they were", ", ".join(on_host))
        wanted = (self._bound, self.memory.addresses)
        if self._graphed == wanted:
            return
        self.drop_graph()
        for name, array in given.items():
            if not self.tensors[name].shape_tensor:
                self.memory.upload(name, array)
        self._enqueue()  # the first run after a new shape does work that must not be captured
        self.stream.synchronize()
        self.memory.poison()  # a refused capture has given no outputs
        try:
            self._graph = self.stream.capture(self._enqueue)
        except RunError as error:
            # The same enqueue went well a moment ago: what it lacks is not right inputs but the ability.
            waits = [name for name, shape in outputs.items() if shape is None]
            contents = [name for name in given if self.tensors[name].shape_tensor]
            if waits or contents:
                why = f"sizes of {', '.join(waits)} depend on data" if waits else f"{', '.join(contents)} decide shapes"
                raise UnsupportedError(f"cuda_graph: this engine can't be captured: {why}", error.message) from error
            detail = {**error.detail, UNCAPTURABLE: True}
            raise RunError(f"this engine can't be captured: {error.message}", log=error.log, detail=detail) from error
        self._graphed = wanted

    def _collect(self, outputs: Mapping[str, Shape | None]) -> dict[str, Array]:
        shapes = self._finish(outputs)
        results: dict[str, Array] = {}
        for name, shape in shapes.items():
            dtype = self.tensors[name].dtype
            if self.tensors[name].shape_tensor and outputs[name] is not None:
                results[name] = self.memory.home(name, shape, storage(dtype)).copy()
            else:
                results[name] = self.memory.download(name, nbytes(dtype, shape))
        self.stream.synchronize()
        return {name: unpacked(self.tensors[name].dtype, held, shapes[name]) for name, held in results.items()}

    def _finish(self, outputs: Mapping[str, Shape | None]) -> dict[str, Shape]:
        """Wait for the launch, and the outputs' shapes: those that depend on data are known only when it is over."""
        self._wait()
        shapes: dict[str, Shape] = {}
        for name, bound in outputs.items():
            shape = self._dynamic.get(name) if bound is None else bound
            if shape is None:
                raise RunError(f"output {name!r}: its allocator was never told a shape")
            shapes[name] = shape
        return shapes

    def _wait(self) -> None:
        with self._failures():
            self.stream.synchronize()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """What fails on the device fails the launch."""
        try:
            yield
        except CudaError as error:
            if error.is_shortage:
                raise
            # After an illegal access nothing in this process can use the device again.
            detail = {**error.detail, "replace_host": True}
            raise RunError(f"the launch failed: {error.message}", detail=detail) from error
