"""What a TensorRT can do here, found by doing it, one step at a time.

A step may kill the process (8.6 without a GPU does, in ``Runtime()``): whoever probes runs each step
in a host that may die, and takes the death for the answer. So no step relies on an earlier one, and
each is named after the capability that it decides.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import BuildError, HarnessError, StageError, UnsupportedError
from harness.runtime.backend.nv import timings
from harness.runtime.backend.nv.timings import EDITABLE
from harness.runtime.backend.protocol import BuildRequest, HowToRefit, Plan, ShapeRange
from harness.runtime.capability import Capability, State
from harness.runtime.probing import Found
from harness.settings import RUNTIMES
from harness.spec.build import BuildConfig
from harness.spec.precision import RECIPES

if TYPE_CHECKING:
    from harness.runtime.backend.nv.backend import NvBackend

# y = Relu(x) on float32 [n, 2], opset 17, IR version 8, as `onnx.helper` makes it: a host has no onnx.
RELU = (
    b'\x08\x08:A\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x05probeZ\x14\n\x01x\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01n'
    b"\n\x02\x08\x02b\x14\n\x01y\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01n\n\x02\x08\x02B\x04\n\x00\x10\x11"
)
# y = MatMul(x, w) with w the identity of 2 by 2, as above.
PRODUCT = (
    b'\x08\x08:c\n\x11\n\x01x\n\x01w\x12\x01y"\x06MatMul\x12\x05probe*\x1b\x08\x02\x08\x02\x10\x01B\x01wJ\x10\x00\x00\x80?\x00'
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80?Z\x14\n\x01x\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01n\n\x02\x08\x02b\x14\n\x01y\x12\x0f\n\r\x08\x01\x12\t\n\x03"
    b"\x12\x01n\n\x02\x08\x02B\x04\n\x00\x10\x11"
)
THREES = np.full((2, 2), 3, np.float32)  # other weights for it
FIXES = {
    "tensorrt": "pip install 'trt-harness[trt]'",
    "tensorrt_rtx": "pip install 'trt-harness[rtx]'",
    "tensorrt_lean": "pip install tensorrt_lean",
    "tensorrt_dispatch": "pip install tensorrt_dispatch",
}
_GPU = "an NVIDIA GPU with its driver"
GPUS = {
    "tensorrt": _GPU,
    "tensorrt_lean": _GPU,
    "tensorrt_dispatch": _GPU,
    "tensorrt_rtx": "an NVIDIA RTX GPU (compute capability 7.5, 8.0 to 8.9, 12.x) with its driver",
}


def steps(name: str) -> tuple[str, ...]:
    """The names of the steps, in order, for the backend ``name``."""
    return tuple(RUNTIME_STEPS if name in RUNTIMES else STEPS)


def take(backend: NvBackend, step: str) -> Found:
    """Do one step: capabilities with evidence, and facts for the environment."""
    return (RUNTIME_STEPS if backend.name in RUNTIMES else STEPS)[step](backend)


def _import(backend: NvBackend) -> Found:
    try:
        dialect = backend.dialect
    except ImportError as error:
        return (Capability("import", State.ABSENT, str(error), FIXES[backend.name]),), {}
    module = dialect.trt
    evidence = f"{module.__name__} {dialect.version}"
    if dialect.library_version is not None:
        evidence += f" over libnvinfer {dialect.library_version}"
    found = [Capability("import", State.PRESENT, evidence)]
    for name, there, evidence in (
        ("weak_typing", dialect.weak_typing, "BuilderFlag.FP16"),
        ("strong_typing", dialect.strong_typing, "NetworkDefinitionCreationFlag.STRONGLY_TYPED"),
        ("progress", dialect.progress_monitor, "IProgressMonitor"),
        ("tf32", dialect.has_flag("TF32"), "BuilderFlag.TF32"),
        ("data_dependent_shapes", dialect.allocates_outputs, "IOutputAllocator"),
        ("network_function", dialect.builds, "INetworkDefinition"),
        ("plan_file", True, "Runtime"),
    ):
        if there:
            found.append(Capability(name, State.PRESENT, f"{evidence} exists"))
        else:
            found.append(Capability(name, State.ABSENT, f"{module.__name__} {dialect.version} has no {evidence}"))
    return tuple(found), {
        "version": dialect.version,
        "library_version": dialect.library_version or dialect.version,
        "module": module.__name__,
        "numpy": np.__version__,
    }


def _gpu(backend: NvBackend) -> Found:
    problem, facts = look_for_gpu(backend.device)
    if problem:
        return (Capability("gpu", State.NEEDS_GPU, problem, GPUS[backend.name]),), {"gpu": ""}
    return (
        Capability("gpu", State.PRESENT, f"{facts['gpu']}, compute capability {facts['compute_capability']}"),
    ), facts


def look_for_gpu(index: int) -> tuple[str, dict[str, Any]]:
    """Why there is no GPU for CUDA ("" when there is one), and what is known of it."""
    try:
        from harness.runtime import device
    except ImportError as error:
        return f"cuda-python is not installed ({error})", {}
    try:
        found = device.count()
        if index >= found:
            return f"CUDA sees {found} devices, none numbered {index}", {}
        return "", device.describe(index)
    except device.CudaError as error:
        return error.message, {}


def _build(backend: NvBackend) -> Found:
    names = ("parse", "build")
    try:
        plan = _tiny(backend)
    except (HarnessError, TypeError) as error:  # TypeError: a Builder that is a null pointer, in 8.6
        return _missing(backend, names, str(error)), {}
    evidence = f"a Relu became a plan of {plan.data.nbytes} bytes"
    return tuple(Capability(name, State.PRESENT, evidence) for name in names), {}


def _profiles(backend: NvBackend) -> Found:
    try:
        _tiny(backend, profiles=2)
    except (HarnessError, TypeError) as error:
        return _missing(backend, ("profiles",), str(error)), {}
    return (Capability("profiles", State.PRESENT, "a network was built with two"),), {}


def _shape_tensors(backend: NvBackend) -> Found:
    """An input whose contents are a shape: the target of a reshape."""
    trt = backend.dialect.trt
    names = ("shape_tensors",)
    try:
        builder = backend.builder
    except TypeError as error:
        return _missing(backend, names, str(error)), {}
    network = builder.create_network(backend.dialect.network_flags(strongly_typed=False))
    x = network.add_input("x", trt.DataType.FLOAT, (4, 6))
    shape = network.add_input("shape", backend.dialect.shape_type, (2,))
    reshape = network.add_shuffle(x)
    reshape.set_input(1, shape)
    network.mark_output(reshape.get_output(0))
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape_input("shape", (4, 6), (4, 6), (4, 6))
    with backend.logger.listen() as heard:
        config.add_optimization_profile(profile)
        if builder.build_serialized_network(network, config) is None:
            return _missing(backend, names, heard.says("the build failed")), {}
    return (Capability("shape_tensors", State.PRESENT, "a reshape by an input was built"),), {}


def _fp16(backend: NvBackend) -> Found:
    try:
        _tiny(backend, precision="fp16")
    except (HarnessError, TypeError) as error:
        return _missing(backend, ("fp16",), str(error)), {}
    return (Capability("fp16", State.PRESENT, "a network was built for it"),), {}


def _deserialize(backend: NvBackend) -> Found:
    try:
        plan = _tiny(backend)
        backend.load(plan.data).close()
    except (HarnessError, TypeError) as error:
        return _missing(backend, ("deserialize",), str(error)), {}
    return (Capability("deserialize", State.PRESENT, f"a plan of {plan.data.nbytes} bytes became an engine"),), {}


def _run(backend: NvBackend) -> Found:
    names = ("run", "cuda_graph")
    try:
        engine = backend.load(_tiny(backend).data)
    except (HarnessError, TypeError) as error:
        return _missing(backend, names, str(error)), {}
    found = []
    with contextlib.ExitStack() as stack:
        stack.callback(engine.close)
        session = engine.session()
        stack.callback(session.close)
        for name, graph in zip(names, (False, True), strict=True):
            try:
                found.append(Capability(name, State.PRESENT, _relu_is_right(session, graph=graph)))
            except HarnessError as error:
                found.append(Capability(name, State.USELESS, str(error)))
    return tuple(found), {}


def _relu_is_right(session: Any, *, graph: bool) -> str:
    for value in (-1.0, 2.0):  # the second must not see the first's input
        x = np.full((3, 2), value, np.float32)
        y = session.run({"x": x}, graph=graph)["y"]
        if not np.array_equal(y, np.maximum(x, 0)):
            raise HarnessError(f"Relu of {value} gave {y.ravel().tolist()}")
    return "Relu of two inputs, one after the other, was right"


def _refit(backend: NvBackend) -> Found:
    names = ("refit", "refit_named")
    if not backend.dialect.has_flag("REFIT"):
        return (Capability("refit", State.ABSENT, "BuilderFlag has no REFIT"),), {}
    return _refitted(backend, names, ("REFIT",), lambda engine: engine.refit({"w": THREES}))


def _refit_ways(backend: NvBackend) -> Found:
    """By stream and by memory of the GPU."""
    found: list[Capability] = []
    ways: tuple[tuple[HowToRefit, str], ...] = (("async", "refit_async"), ("device", "refit_device"))
    for how, name in ways:
        if lacking := backend.dialect.lacks_refit(how):
            found.append(Capability(name, State.ABSENT, lacking[1]))
        else:
            found += _refitted(backend, (name,), ("REFIT",), functools.partial(_by, how))[0]
    return tuple(found), {}


def _by(how: HowToRefit, engine: Any) -> None:
    engine.refit({"w": THREES}, how=how)


def _parser_refit(backend: NvBackend) -> Found:
    if not backend.dialect.parser_refitter:
        return (Capability("parser_refit", State.ABSENT, f"{_version(backend)} has no OnnxParserRefitter"),), {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "threes.onnx")
        path.write_bytes(PRODUCT.replace(np.eye(2, dtype=np.float32).tobytes(), THREES.tobytes()))
        return _refitted(backend, ("parser_refit",), ("REFIT",), lambda engine: engine.refit_from(str(path)))


def _refit_individual(backend: NvBackend) -> Found:
    name = "refit_individual"
    if not backend.dialect.has_flag("REFIT_INDIVIDUAL"):
        return (Capability(name, State.ABSENT, f"{_version(backend)} has no BuilderFlag.REFIT_INDIVIDUAL"),), {}
    return _refitted(backend, (name,), (), lambda engine: engine.refit({"w": THREES}), refittable=("w",))


def _strip_plan(backend: NvBackend) -> Found:
    name = "strip_plan"
    if not backend.dialect.has_flag("STRIP_PLAN"):
        return (Capability(name, State.ABSENT, f"{_version(backend)} has no BuilderFlag.STRIP_PLAN"),), {}
    return _refitted(backend, (name,), ("REFIT", "STRIP_PLAN"), lambda engine: engine.refit({"w": THREES}))


def _version(backend: NvBackend) -> str:
    return f"{backend.dialect.trt.__name__} {backend.dialect.version}"


def _refitted(
    backend: NvBackend,
    names: tuple[str, ...],
    flags: tuple[str, ...],
    refit: Callable[[Any], None],
    refittable: tuple[str, ...] = (),
) -> Found:
    """A weight replaced, and the run after it: that one is accepted says little."""
    with contextlib.ExitStack() as stack:
        try:
            engine = backend.load(_tiny(backend, model=PRODUCT, flags=flags, refittable=refittable).data)
            stack.callback(engine.close)
            refit(engine)
            session = engine.session()
            stack.callback(session.close)
            after = session.run({"x": np.ones((1, 2), np.float32)})["y"].tolist()
        except (HarnessError, TypeError) as error:
            return _missing(backend, names, str(error)), {}
    evidence = f"a product of ones with the identity, refitted with threes, gave {after}"
    state = State.PRESENT if after == [[6, 6]] else State.USELESS
    return tuple(Capability(name, state, evidence) for name in names), {}


def _runtime(backend: NvBackend) -> Found:
    """Of a runtime that builds nothing to be tried on: that it can be made. It dies here where there is no GPU."""
    try:
        found = backend.runtime
    except TypeError as error:
        return _missing(backend, ("deserialize",), f"Runtime(): {error}"), {}
    evidence = f"{type(found).__name__}() was made; which plans it takes, each of them shows"
    return (Capability("deserialize", State.PRESENT, evidence),), {}


def _serialize(backend: NvBackend) -> Found:
    with contextlib.ExitStack() as stack:
        try:
            engine = backend.load(_tiny(backend).data)
            stack.callback(engine.close)
            plan = engine.serialize()
            evidence = _runs_right(backend.load(plan), stack)
        except (HarnessError, TypeError) as error:
            return _missing(backend, ("serialize",), str(error)), {}
    return (Capability("serialize", State.PRESENT, f"an engine became a plan, and that an engine: {evidence}"),), {}


def _stream_reader(backend: NvBackend) -> Found:
    if not backend.dialect.reads_streams:
        return _absent(backend, "stream_reader", "IStreamReaderV2")
    with contextlib.ExitStack() as stack:
        try:
            evidence = _runs_right(backend.load(_tiny(backend).data, stream=True), stack)
        except (HarnessError, TypeError, RuntimeError) as error:  # the class needs a driver to be made
            return _missing(backend, ("stream_reader",), str(error)), {}
    return (Capability("stream_reader", State.PRESENT, f"a plan was read piece by piece: {evidence}"),), {}


def _stream_writer(backend: NvBackend) -> Found:
    if not backend.dialect.writes_streams:
        return _absent(backend, "stream_writer", "build_serialized_network_to_stream")
    try:
        plan = _tiny(backend, stream=True)
    except (HarnessError, TypeError) as error:
        return _missing(backend, ("stream_writer",), str(error)), {}
    state = State.PRESENT if plan.data.nbytes else State.USELESS
    return (Capability("stream_writer", state, f"a plan of {plan.data.nbytes} bytes was written piece by piece"),), {}


def _version_compatible(backend: NvBackend) -> Found:
    name = "version_compatible"
    if not backend.dialect.has_flag("VERSION_COMPATIBLE"):
        return _absent(backend, name, "BuilderFlag.VERSION_COMPATIBLE")
    with contextlib.ExitStack() as stack:
        try:
            plan = _optional(backend, flags=("VERSION_COMPATIBLE",)).data
            evidence = _runs_right(backend.load(plan, host_code=True), stack)
        except UnsupportedError as error:
            return (Capability(name, State.USELESS, error.evidence),), {}
        except (HarnessError, TypeError) as error:
            return _missing(backend, (name,), str(error)), {}
    return (Capability(name, State.PRESENT, f"a plan of {plan.nbytes} bytes: {evidence}"),), {}


def _hardware_compatible(backend: NvBackend) -> Found:
    name, level = "hardware_compatible", "AMPERE_PLUS"
    with contextlib.ExitStack() as stack:
        try:
            engine = backend.load(_optional(backend, level=level).data)
            evidence = _runs_right(engine, stack)
        except UnsupportedError as error:
            return (Capability(name, State.USELESS, error.evidence),), {}
        except (HarnessError, TypeError) as error:
            return _missing(backend, (name,), str(error)), {}
    told = engine.info.facts.get("hardware_compatibility")
    state = State.PRESENT if told == level else State.USELESS
    return (Capability(name, state, f"asked for {level}, the engine says {told}: {evidence}"),), {}


def _weight_streaming(backend: NvBackend) -> Found:
    name = "weight_streaming"
    if not (backend.dialect.has_flag("WEIGHT_STREAMING") and backend.dialect.streams_weights):
        return _absent(backend, name, "BuilderFlag.WEIGHT_STREAMING with weight_streaming_budget_v2")
    with contextlib.ExitStack() as stack:
        try:
            engine = backend.load(_tiny(backend, model=PRODUCT, flags=("WEIGHT_STREAMING",)).data)
            stack.callback(engine.close)
            found = engine.stream(0)
            session = engine.session()
            stack.callback(session.close)
            got = session.run({"x": np.ones((1, 2), np.float32)})["y"].tolist()
        except (HarnessError, TypeError) as error:
            return _missing(backend, (name,), str(error)), {}
    evidence = f"{found.streamable} bytes can be streamed; ones by the identity, streamed, are {got}"
    return (Capability(name, State.PRESENT if got == [[1, 1]] else State.USELESS, evidence),), {}


def _optional(backend: NvBackend, **asked: Any) -> Plan:
    """A tiny plan with an option. UnsupportedError where the option is what the builder refuses.

    That is so of one that builds ahead of time, and so needs no GPU.
    """
    try:
        return _tiny(backend, **asked)
    except StageError as error:
        if not backend.dialect.ahead_of_time:
            raise
        raise UnsupportedError(str(asked), error.message) from error


def _runs_right(engine: Any, stack: contextlib.ExitStack) -> str:
    """That the tiny network computes, in words. HarnessError when not."""
    stack.callback(engine.close)
    session = engine.session()
    stack.callback(session.close)
    return _relu_is_right(session, graph=False)


def _absent(backend: NvBackend, name: str, what: str) -> Found:
    dialect = backend.dialect
    return (Capability(name, State.ABSENT, f"{dialect.trt.__name__} {dialect.version} has no {what}"),), {}


def _timing_cache(backend: NvBackend) -> Found:
    """A timing cache that a build leaves as it was is there and does nothing, and so is one that can't be read again.

    8.6 was seen to refuse what it had written itself, in the words of its compiler.
    """
    names = ("timing_cache", "timing_cache_miss", "editable_timing_cache")
    try:
        builder = backend.builder
    except TypeError as error:
        return _missing(backend, names, f"Builder(): {error}"), {}
    before, after, _, words = _timed(backend, builder)
    if after is None:
        return _missing(backend, names, words), {}
    evidence = f"a build left it as it was, {len(after)} bytes" if before == after else ""
    try:
        timings.merged(backend.dialect, builder, [np.frombuffer(after, np.uint8)], backend.logger)
    except BuildError as error:
        evidence = evidence or f"what a build wrote can't be read again: {error.message}"
    if evidence:
        return tuple(Capability(name, State.USELESS, evidence) for name in names), {}
    found = [Capability("timing_cache", State.PRESENT, f"a build made it grow to {len(after)} bytes")]
    for name, flag in (("timing_cache_miss", "ERROR_ON_TIMING_CACHE_MISS"), ("editable_timing_cache", EDITABLE)):
        if not backend.dialect.has_flag(flag):
            found.append(Capability(name, State.ABSENT, f"BuilderFlag has no {flag}"))
            continue
        _, after, keys, words = _timed(backend, builder, flag)
        if name == "timing_cache_miss":
            works, evidence = after is None, f"a build that knew no tactic: {words if after is None else 'went well'}"
        else:
            works, evidence = keys > 0, f"a build left {keys} entries that can be listed"
        found.append(Capability(name, State.PRESENT if works else State.USELESS, evidence))
    return tuple(found), {}


def _timed(backend: NvBackend, builder: Any, flag: str = "") -> tuple[bytes, bytes | None, int, str]:
    """A timing cache before a build and after, None when there was no plan; its entries; what was said."""
    trt = backend.dialect.trt
    network = builder.create_network(backend.dialect.network_flags(strongly_typed=False))
    # A product has tactics to time; an activation alone may have none.
    a = network.add_input("a", trt.DataType.FLOAT, (64, 64))
    product = network.add_matrix_multiply(a, trt.MatrixOperation.NONE, a, trt.MatrixOperation.TRANSPOSE)
    network.mark_output(product.get_output(0))
    config = builder.create_builder_config()
    if flag:
        config.set_flag(backend.dialect.member("BuilderFlag", flag))
    with backend.logger.listen() as heard, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # RTX gives one with every call: it is what is looked for
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
        before = bytes(cache.serialize())
        built = builder.build_serialized_network(network, config)
        after = bytes(config.get_timing_cache().serialize())
        keys = len(cache.queryKeys()) if flag == EDITABLE and built is not None else 0
    return before, None if built is None else after, keys, heard.says("the build failed")


def _tiny(
    backend: NvBackend,
    precision: str = "fp32",
    profiles: int = 1,
    model: bytes = RELU,
    flags: tuple[str, ...] = (),
    refittable: tuple[str, ...] = (),
    level: str | None = None,
    stream: bool = False,
) -> Plan:
    shapes: Mapping[str, ShapeRange] = {"x": ShapeRange((1, 2), (3, 2), (4, 2))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.onnx")
        path.write_bytes(model)
        # Nothing here needs a library beside TensorRT.
        config = BuildConfig(tactic_sources=(), flags=flags, refittable=refittable, hardware_compatibility=level)
        request = BuildRequest(
            "probe", RECIPES[precision], config, (shapes,) * profiles, ({},) * profiles, model=str(path), stream=stream
        )
        return backend.build(request)


def _missing(backend: NvBackend, names: tuple[str, ...], evidence: str) -> tuple[Capability, ...]:
    """``names`` as needing a GPU where there is none; where there is one, as there and of no use."""
    problem, _ = look_for_gpu(backend.device)
    state, fix = (State.NEEDS_GPU, GPUS[backend.name]) if problem else (State.USELESS, "")
    return tuple(Capability(name, state, evidence, fix) for name in names)


STEPS: dict[str, Callable[[NvBackend], Found]] = {
    "import": _import,
    "gpu": _gpu,
    "build": _build,
    "fp16": _fp16,
    "profiles": _profiles,
    "shape_tensors": _shape_tensors,
    "deserialize": _deserialize,
    "run": _run,
    "refit": _refit,
    "refit_ways": _refit_ways,
    "parser_refit": _parser_refit,
    "refit_individual": _refit_individual,
    "strip_plan": _strip_plan,
    "timing_cache": _timing_cache,
    "serialize": _serialize,
    "stream_reader": _stream_reader,
    "stream_writer": _stream_writer,
    "version_compatible": _version_compatible,
    "hardware_compatible": _hardware_compatible,
    "weight_streaming": _weight_streaming,
}
RUNTIME_STEPS: dict[str, Callable[[NvBackend], Found]] = {"import": _import, "gpu": _gpu, "deserialize": _runtime}
