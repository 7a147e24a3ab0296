"""A backend that needs no vendor: onnx's reference evaluator, honest, or wrong in one way on demand.

It is there for the tests of everything that judges backends: each `Fault` is a way in which a real one
was seen, or must be expected, to fail. ``fake:wrong_rows`` names one, ``fake:crash_run@mlp`` for one
model alone; without a fault in its name a backend takes the one in $TRT_HARNESS_FAKE.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import BuildError, DeserializeError, ParseError, RunError, SpecError, UnsupportedError
from harness.runtime import probing
from harness.runtime.backend.protocol import (
    UNCAPTURABLE,
    Array,
    BuildRequest,
    EngineInfo,
    IOTensor,
    Plan,
    Progress,
    Shape,
    ShapeRange,
    poison,
)
from harness.runtime.capability import Capability, Probe, State
from harness.runtime.probing import Found

if TYPE_CHECKING:
    import onnx

FAULT_VARIABLE = "TRT_HARNESS_FAKE"
_MAGIC = b"FAKEPLAN"
_FLAGS = frozenset({"FP16", "TF32"})


class Fault(str, enum.Enum):
    """The ways to misbehave."""

    NONE = ""
    # what probing meets
    ABSENT = "absent"  # nothing to import
    NEEDS_GPU = "needs_gpu"  # builds, but can't load or run
    CRASH_PROBE = "crash_probe"
    HANG_PROBE = "hang_probe"
    # no answer: a signal, an exit, silence
    CRASH_PARSE = "crash_parse"
    CRASH_BUILD = "crash_build"
    CRASH_LOAD = "crash_load"
    CRASH_RUN = "crash_run"
    EXIT_RUN = "exit_run"
    HANG_BUILD = "hang_build"
    HANG_LOAD = "hang_load"
    HANG_RUN = "hang_run"
    HANG_GIL = "hang_gil"  # in run, and no other thread of the process runs either
    SLOW = "slow"  # in run, by `SLOWNESS`
    # refusals, and calls that fail by what they return
    PARSE_ERROR = "parse_error"
    BUILDER_NONE = "builder_none"
    DESERIALIZE_NONE = "deserialize_none"
    ENQUEUE_FALSE = "enqueue_false"
    BUG = "bug"  # an exception in run that is nobody's refusal
    # outputs of the wrong kind
    MISSING_OUTPUT = "missing_output"
    EXTRA_OUTPUT = "extra_output"
    RESHAPED_OUTPUT = "reshaped_output"
    OTHER_TYPE = "other_type"
    # wrong numbers
    WRONG_ROWS = "wrong_rows"  # from the second of a batch on
    ROWS_LEAK = "rows_leak"  # a row depends on its neighbour
    STALE = "stale"  # the previous run's output, where it has the shape
    NAN = "nan"  # one in each floating output
    UNWRITTEN = "unwritten"  # the last element of each output
    IMPRECISE = "imprecise"  # floats off by a hundredth of the largest
    WIDE_PROFILE = "wide_profile"  # as above, where the profile is not of one shape
    UNCAPTURABLE = "uncapturable"  # no graph can be captured, and the engine does not show why
    STALE_GRAPH = "stale_graph"  # a replayed graph computes on the inputs of its capture
    SECOND_SESSION = "second_session"  # off while another session of the engine is open
    OTHER_REBUILD = "other_rebuild"  # off in every build but the first of a process


SLOWNESS = 0.1  # seconds that `Fault.SLOW` adds to a run


class FakeBackend:
    """Plays a small engine. ``fault`` is that of the name: ``wrong_rows``, ``crash_run@mlp``, or nothing."""

    name = "fake"

    def __init__(self, fault: str = "") -> None:
        text, _, self._model = (fault or os.environ.get(FAULT_VARIABLE, "")).partition("@")
        try:
            self._fault = Fault(text)
        except ValueError:
            raise SpecError(
                f"unknown fault {text!r} of the backend fake: choose from {', '.join(f.value for f in Fault if f)}"
            ) from None
        self._builds = 0

    def probe(self) -> Probe:
        return probing.probe(self.name, self.probe_steps(), self.probe_step)

    def probe_steps(self) -> tuple[str, ...]:
        return ("import", "build", "run")

    def probe_step(self, step: str) -> Found:
        if step == "import":
            if self._fault is Fault.ABSENT:
                return (Capability("import", State.ABSENT, "No module named 'fake'", "pip install fake"),), {}
            import onnx

            # A plan holds its fault, so that the version, which plans are kept by, does too.
            fault = f"+{self._fault.value}@{self._model}" if self._fault else ""
            gpu = "" if self._fault is Fault.NEEDS_GPU else "fake GPU"
            facts = {"version": onnx.__version__ + fault, "gpu": gpu}
            return (Capability("import", State.PRESENT, f"onnx {onnx.__version__}, reference evaluator"),), facts
        if step == "build":
            evidence = "the reference evaluator takes any ONNX operator, and every type as it is"
            names = ("parse", "build", "tf32", "fp16", "strong_typing", "weak_typing", "profiles", "shape_tensors")
            return tuple(Capability(name, State.PRESENT, evidence) for name in (*names, "progress", "plan_file")), {}
        if self._fault is Fault.CRASH_PROBE:
            _crash()
        if self._fault is Fault.HANG_PROBE:
            _hang()
        state, evidence, fix = State.PRESENT, "plain numpy", ""
        if self._fault is Fault.NEEDS_GPU:
            state, evidence, fix = State.NEEDS_GPU, "no fake GPU was found", "a fake GPU"
        found = ("deserialize", "run", "data_dependent_shapes", "cuda_graph")
        return tuple(Capability(name, state, evidence, fix) for name in found), {}

    def build(self, request: BuildRequest, progress: Progress | None = None) -> Plan:
        fault = self._fault if self._model in ("", request.name) else Fault.NONE
        started = time.perf_counter()
        if progress:
            progress("parse", 0, 1)
        model = self._parse(request, fault)
        parsed = time.perf_counter()
        if progress:
            progress("build", 0, 1)
        data = self._builder(request, model, fault)
        if data is None:
            raise BuildError(f"{request.name}: the builder returned None instead of a plan", log=(_COMPLAINT,))
        if progress:
            progress("Writing", 1, 1)
        seconds = {"parse": parsed - started, "build": time.perf_counter() - parsed}
        return Plan(np.frombuffer(data, np.uint8), seconds)

    def load(self, plan: Array, plugins: tuple[str, ...] = ()) -> FakeEngine:
        absent = [library for library in plugins if not os.path.exists(library)]  # noqa: PTH110 - text, as TensorRT's
        if absent:
            raise DeserializeError(f"{absent[0]}: the plugin library could not be loaded")
        if self._fault is Fault.NEEDS_GPU:
            raise UnsupportedError("fake deserialize: needs-gpu", "no fake GPU was found", "a fake GPU")
        return FakeEngine(plan.tobytes())

    def close(self) -> None: ...

    def _parse(self, request: BuildRequest, fault: Fault) -> onnx.ModelProto:
        if fault is Fault.CRASH_PARSE:
            _crash()
        if request.network:
            raise UnsupportedError("fake network_function: absent", "the fake backend reads ONNX alone")
        if refused := sorted({*request.recipe.flags, *request.config.flags} - _FLAGS) + list(request.config.plugins):
            raise UnsupportedError(f"fake {refused[0]}: absent", "the fake backend has no such flag or plugin")
        import onnx
        from google.protobuf.message import DecodeError
        from onnx.checker import ValidationError
        from onnx.reference import ReferenceEvaluator

        try:
            model = onnx.load(request.model)
            ReferenceEvaluator(model)
        except (DecodeError, ValidationError, NotImplementedError, RuntimeError, OSError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ParseError(f"{request.name}: {request.model} can't be read: {reason}") from None
        if not model.graph.output:
            raise ParseError(f"{request.name}: {request.model} has no outputs")
        if fault is Fault.PARSE_ERROR:
            node = model.graph.node[0]
            raise ParseError(
                f"{request.name}: node {node.name!r} ({node.op_type}): not today",
                detail={"node": node.name, "operator": node.op_type, "reason": "not today"},
            )
        return model

    def _builder(self, request: BuildRequest, model: onnx.ModelProto, fault: Fault) -> bytes | None:
        """As a builder does: a plan, or None and a message that was logged."""
        if fault is Fault.CRASH_BUILD:
            _crash()
        if fault is Fault.HANG_BUILD:
            _hang()
        if fault is Fault.BUILDER_NONE:
            return None
        self._builds += 1
        header = {
            "name": request.name,
            "fault": fault.value,
            "build": self._builds,
            "profiles": [_ranges(profile) for profile in request.profiles],
            "contents": [_ranges(contents) for contents in request.contents],
        }
        text = json.dumps(header).encode()
        body: bytes = model.SerializeToString(deterministic=True)
        return _MAGIC + len(text).to_bytes(8, "little") + text + body


_COMPLAINT = "[E] no implementation was found that meets the request"


class FakeEngine:
    """A plan, read."""

    def __init__(self, plan: bytes) -> None:
        started = time.perf_counter()
        if not plan.startswith(_MAGIC):
            raise DeserializeError(f"not a plan of the fake backend: it begins with {plan[:8]!r}")
        import onnx
        from google.protobuf.message import DecodeError
        from onnx.reference import ReferenceEvaluator

        begin = len(_MAGIC) + 8
        end = begin + int.from_bytes(plan[len(_MAGIC) : begin], "little")
        try:
            header = json.loads(plan[begin:end])
            model = onnx.ModelProto.FromString(plan[end:])
        except (ValueError, DecodeError) as error:
            raise DeserializeError(f"the plan is damaged or cut short: {error}") from None
        self.fault, self.builds = Fault(header["fault"]), int(header["build"])
        if self.fault is Fault.CRASH_LOAD:
            _crash()
        if self.fault is Fault.HANG_LOAD:
            _hang()
        if self.fault is Fault.DESERIALIZE_NONE:
            raise DeserializeError("the runtime returned None instead of an engine", log=(_COMPLAINT,))
        self.profiles = [_read_ranges(profile) for profile in header["profiles"]]
        self.contents = [_read_ranges(contents) for contents in header["contents"]]
        self.evaluator = ReferenceEvaluator(model)
        self.open_sessions = 0
        weights = {tensor.name for tensor in model.graph.initializer}
        shape_tensors = {name for contents in self.contents for name in contents}
        inputs = [_tensor(v, "input", v.name in shape_tensors) for v in model.graph.input if v.name not in weights]
        outputs = [_tensor(value, "output", False) for value in model.graph.output]
        self.info = EngineInfo(
            (*inputs, *outputs),
            len(self.profiles),
            {"nodes": len(model.graph.node)},
            {"deserialize": time.perf_counter() - started},
        )

    def session(self, profile: int = 0) -> FakeSession:
        if not 0 <= profile < len(self.profiles):
            raise DeserializeError(f"profile {profile} of {len(self.profiles)}: there is no such profile")
        return FakeSession(self, profile)

    def close(self) -> None: ...


class FakeSession:
    """An execution context: checks shapes against its profile, computes, then does its mischief."""

    def __init__(self, engine: FakeEngine, profile: int) -> None:
        self._engine, self._profile = engine, profile
        self._before: dict[str, Array] = {}
        self._captured: dict[tuple[Shape, ...], dict[str, Array]] = {}
        engine.open_sessions += 1

    def run(self, inputs: Mapping[str, Array], *, graph: bool = False) -> dict[str, Array]:
        fault = self._engine.fault
        self._check(inputs)
        if fault is Fault.UNCAPTURABLE and graph:
            raise RunError("this engine can't be captured", log=(_COMPLAINT,), detail={UNCAPTURABLE: True})
        if fault is Fault.STALE_GRAPH and graph:
            shapes = tuple(array.shape for _, array in sorted(inputs.items()))
            inputs = self._captured.setdefault(shapes, {name: array.copy() for name, array in inputs.items()})
        outputs = self._enqueue(inputs, fault)
        if outputs is None:
            raise RunError("the enqueue returned False", log=(_COMPLAINT,))
        return outputs

    def close(self) -> None:
        self._engine.open_sessions -= 1

    def _check(self, inputs: Mapping[str, Array]) -> None:
        declared = {tensor.name: tensor for tensor in self._engine.info.inputs}
        if inputs.keys() != declared.keys():
            raise RunError(f"inputs {sorted(inputs)} were given, the engine has {sorted(declared)}")
        ranges, contents = self._engine.profiles[self._profile], self._engine.contents[self._profile]
        for name, array in inputs.items():
            if array.dtype.name != declared[name].dtype:
                raise RunError(f"input {name!r} is {array.dtype}, the engine takes {declared[name].dtype}")
            if not _admits(ranges.get(name), array.shape, declared[name].shape):
                raise RunError(f"input {name!r} of shape {array.shape} lies outside profile {self._profile}")
            if name in contents and not _admits(contents[name], tuple(int(v) for v in array.reshape(-1)), ()):
                raise RunError(f"shape tensor {name!r}: {array.tolist()} lies outside profile {self._profile}")

    def _enqueue(self, inputs: Mapping[str, Array], fault: Fault) -> dict[str, Array] | None:
        """As an enqueue does: fill the output buffers, or give None for its False."""
        if fault is Fault.CRASH_RUN:
            _crash()
        if fault is Fault.EXIT_RUN:
            os._exit(3)
        if fault is Fault.HANG_RUN:
            _hang()
        if fault is Fault.HANG_GIL:
            ctypes.PyDLL(None).pause()
        if fault is Fault.SLOW:
            time.sleep(SLOWNESS)
        if fault is Fault.ENQUEUE_FALSE:
            return None
        if fault is Fault.BUG:
            raise ZeroDivisionError("a bug in the backend")
        outputs = {}
        try:
            with np.errstate(all="ignore"):
                results = self._engine.evaluator.run(None, dict(inputs))
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise RunError(f"the reference evaluator: {type(error).__name__}: {error}") from error
        for tensor, result in zip(self._engine.info.outputs, results, strict=True):
            written = np.asarray(result)
            buffer = np.empty(written.shape, written.dtype)
            poison(buffer)
            buffer[...] = written
            outputs[tensor.name] = self._spoil(tensor.name, buffer, fault)
        return self._rename(outputs, fault)

    def _spoil(self, name: str, right: Array, fault: Fault) -> Array:
        wrong = right.copy()
        ranges = self._engine.profiles[self._profile].values()
        rows = right.ndim > 0 and len(right) > 1
        if fault is Fault.WRONG_ROWS and rows:
            wrong[1:] = _off(right[1:])
        elif fault is Fault.ROWS_LEAK and rows:
            wrong[:-1] = right[1:]
        elif fault is Fault.STALE:
            before = self._before.get(name)
            self._before[name] = right
            wrong = before if before is not None and before.shape == right.shape else wrong
        elif fault is Fault.NAN and right.size and right.dtype.kind == "f":
            wrong.reshape(-1)[right.size // 2] = np.nan
        elif fault is Fault.UNWRITTEN and right.size:
            poison(wrong.reshape(-1)[-1:])
        elif (
            fault is Fault.IMPRECISE
            or (fault is Fault.WIDE_PROFILE and any(sizes.min != sizes.max for sizes in ranges))
            or (fault is Fault.SECOND_SESSION and self._engine.open_sessions > 1)
            or (fault is Fault.OTHER_REBUILD and self._engine.builds > 1)
        ):
            wrong = _off(right)
        return wrong

    def _rename(self, outputs: dict[str, Array], fault: Fault) -> dict[str, Array]:
        name = next(iter(outputs))
        if fault is Fault.MISSING_OUTPUT:
            del outputs[name]
        elif fault is Fault.EXTRA_OUTPUT:
            outputs["unasked"] = outputs[name]
        elif fault is Fault.RESHAPED_OUTPUT:
            outputs[name] = outputs[name][None]
        elif fault is Fault.OTHER_TYPE:
            other = np.float64 if outputs[name].dtype != np.float64 else np.float32
            outputs[name] = outputs[name].astype(other)
        return outputs


def _off(right: Array) -> Array:
    """``right``, wrong everywhere: floats by a hundredth of the largest, other types by one."""
    if right.dtype.kind == "b":
        return np.logical_not(right)
    if right.dtype.kind != "f":
        return np.add(right, 1, dtype=right.dtype)
    finite = np.abs(right[np.isfinite(right)].astype(np.float64))
    step = 0.01 * max(float(finite.max(initial=0.0)), 1e-3)
    wrong: Array = (right.astype(np.float64) + step).astype(right.dtype)
    return wrong


def _admits(sizes: ShapeRange | None, got: Shape, declared: Shape) -> bool:
    if sizes is None:
        return got == declared
    if len(got) != len(sizes.min):
        return False
    return all(low <= n <= high for low, n, high in zip(sizes.min, got, sizes.max, strict=True))


def _ranges(profile: Mapping[str, ShapeRange]) -> dict[str, list[Shape]]:
    return {name: [sizes.min, sizes.opt, sizes.max] for name, sizes in profile.items()}


def _read_ranges(profile: Mapping[str, list[list[int]]]) -> dict[str, ShapeRange]:
    return {name: ShapeRange(*(tuple(shape) for shape in shapes)) for name, shapes in profile.items()}


def _tensor(value: onnx.ValueInfoProto, mode: str, shape_tensor: bool) -> IOTensor:
    from onnx import helper

    kind: Any = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)
    return IOTensor(value.name, mode, str(helper.tensor_dtype_to_np_dtype(kind.elem_type)), shape, shape_tensor)


def _crash() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    while True:
        time.sleep(3600)
