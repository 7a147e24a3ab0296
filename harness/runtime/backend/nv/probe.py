"""What a TensorRT can do here, found by doing it, one step at a time.

A step may kill the process (8.6 without a GPU does, in ``Runtime()``): whoever probes runs each step
in a host that may die, and takes the death for the answer. So steps don't rely on earlier ones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import HarnessError
from harness.runtime.backend.protocol import BuildRequest, Plan, ShapeRange
from harness.runtime.capability import Capability, State
from harness.spec.build import BuildConfig
from harness.spec.precision import RECIPES

if TYPE_CHECKING:
    from harness.runtime.backend.nv.backend import NvBackend

Findings = tuple[tuple[Capability, ...], dict[str, Any]]

# y = Relu(x) on float32 [n, 2], opset 17, IR version 8, as `onnx.helper` makes it: a host has no onnx.
RELU = (
    b'\x08\x08:A\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x05probeZ\x14\n\x01x\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01n'
    b"\n\x02\x08\x02b\x14\n\x01y\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01n\n\x02\x08\x02B\x04\n\x00\x10\x11"
)
FIXES = {
    "tensorrt": "pip install 'trt-harness[trt]'",
    "tensorrt_rtx": "pip install 'trt-harness[rtx]'",
}
GPUS = {
    "tensorrt": "an NVIDIA GPU with its driver",
    "tensorrt_rtx": "an NVIDIA RTX GPU (compute capability 7.5, 8.0 to 8.9, 12.x) with its driver",
}


def steps() -> tuple[str, ...]:
    """The names of the steps, in order."""
    return tuple(STEPS)


def take(backend: NvBackend, step: str) -> Findings:
    """Do one step: capabilities with evidence, and facts for the environment.

    Where TensorRT is not installed the first step says so and the others find nothing.
    """
    if step != "import":
        try:
            _ = backend.dialect
        except ImportError:
            return (), {}
    return STEPS[step](backend)


def _import(backend: NvBackend) -> Findings:
    try:
        dialect = backend.dialect
    except ImportError as error:
        return (Capability("import", State.ABSENT, str(error), FIXES[backend.name]),), {}
    module = dialect.trt
    found = [Capability("import", State.PRESENT, f"{module.__name__} {dialect.version}")]
    for name, there, evidence in (
        ("weak_typing", dialect.weak_typing, "BuilderFlag.FP16"),
        ("strong_typing", dialect.strong_typing, "NetworkDefinitionCreationFlag.STRONGLY_TYPED"),
        ("progress", dialect.progress_monitor, "IProgressMonitor"),
        ("tf32", dialect.has_flag("TF32"), "BuilderFlag.TF32"),
    ):
        if there:
            found.append(Capability(name, State.PRESENT, f"{evidence} exists"))
        else:
            found.append(Capability(name, State.ABSENT, f"{module.__name__} {dialect.version} has no {evidence}"))
    return tuple(found), {"version": dialect.version, "module": module.__name__, "numpy": np.__version__}


def _gpu(backend: NvBackend) -> Findings:
    problem, facts = look_for_gpu(backend.device)
    if problem:
        return (Capability("gpu", State.NEEDS_GPU, problem, GPUS[backend.name]),), {}
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


def _build(backend: NvBackend) -> Findings:
    try:
        plan = _tiny(backend)
    except HarnessError as error:
        return _missing(backend, ("parse", "build", "fp16"), str(error)), {}
    except TypeError as error:  # what the bindings make of a Builder that is a null pointer
        return _missing(backend, ("parse", "build", "fp16"), f"Builder(): {error}"), {}
    half = "built a float16 network"
    try:
        _tiny(backend, precision="fp16")
        fp16 = Capability("fp16", State.PRESENT, half)
    except HarnessError as error:
        fp16 = Capability("fp16", State.ABSENT, str(error))
    evidence = f"a Relu became a plan of {plan.data.nbytes} bytes"
    return (Capability("parse", State.PRESENT, evidence), Capability("build", State.PRESENT, evidence), fp16), {}


def _run(backend: NvBackend) -> Findings:
    names = ("deserialize", "run", "cuda_graph")
    try:
        plan = _tiny(backend)
        engine = backend.load(plan.data)
    except HarnessError as error:
        return _missing(backend, names, str(error)), {}
    except TypeError as error:
        return _missing(backend, names, f"Builder() or Runtime(): {error}"), {}
    found = [Capability("deserialize", State.PRESENT, f"a plan of {plan.data.nbytes} bytes became an engine")]
    session = engine.session()
    try:
        for name, graph in (("run", False), ("cuda_graph", True)):
            found.append(_try(name, lambda graph=graph: _relu_is_right(session, graph=graph)))  # type: ignore[misc]
    finally:
        session.close()
        engine.close()
    return tuple(found), {}


def _relu_is_right(session: Any, *, graph: bool) -> str:
    for value in (-1.0, 2.0):  # the second must not see the first's input
        x = np.full((3, 2), value, np.float32)
        y = session.run({"x": x}, graph=graph)["y"]
        if not np.array_equal(y, np.maximum(x, 0)):
            raise HarnessError(f"Relu of {value} gave {y.ravel().tolist()}")
    return "Relu of two inputs, one after the other, was right"


def _try(name: str, action: Callable[[], str]) -> Capability:
    try:
        return Capability(name, State.PRESENT, action())
    except HarnessError as error:
        return Capability(name, State.ABSENT, str(error))


def _timing_cache(backend: NvBackend) -> Findings:
    """A timing cache that a build leaves as it was is there and does nothing."""
    trt = backend.dialect.trt
    try:
        builder = trt.Builder(backend.logger)
    except TypeError as error:
        return _missing(backend, ("timing_cache",), f"Builder(): {error}"), {}
    network = builder.create_network(backend.dialect.network_flags(strongly_typed=False))
    # A product has tactics to time; an activation alone may have none.
    a = network.add_input("a", trt.DataType.FLOAT, (64, 64))
    product = network.add_matrix_multiply(a, trt.MatrixOperation.NONE, a, trt.MatrixOperation.TRANSPOSE)
    network.mark_output(product.get_output(0))
    config = builder.create_builder_config()
    with backend.logger.listen() as heard:
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
        before = bytes(cache.serialize())
        built = builder.build_serialized_network(network, config)
        after = bytes(config.get_timing_cache().serialize())
    if built is None:
        return _missing(backend, ("timing_cache",), heard.says("the build failed")), {}
    if before == after:
        evidence = f"a build left it as it was, {len(after)} bytes"
        return (Capability("timing_cache", State.USELESS, evidence),), {}
    return (Capability("timing_cache", State.PRESENT, f"a build made it grow to {len(after)} bytes"),), {}


def _tiny(backend: NvBackend, precision: str = "fp32") -> Plan:
    shapes: Mapping[str, ShapeRange] = {"x": ShapeRange((1, 2), (3, 2), (4, 2))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "relu.onnx")
        path.write_bytes(RELU)
        config = BuildConfig(tactic_sources=())  # nothing here needs a library beside TensorRT
        return backend.build(BuildRequest("probe", RECIPES[precision], config, (shapes,), ({},), model=str(path)))


def _missing(backend: NvBackend, names: tuple[str, ...], evidence: str) -> tuple[Capability, ...]:
    """``names`` as needing a GPU where there is none, as absent where there is."""
    problem, _ = look_for_gpu(backend.device)
    state, fix = (State.NEEDS_GPU, GPUS[backend.name]) if problem else (State.ABSENT, "")
    return tuple(Capability(name, state, evidence, fix) for name in names)


STEPS: dict[str, Callable[[NvBackend], Findings]] = {
    "import": _import,
    "gpu": _gpu,
    "build": _build,
    "run": _run,
    "timing_cache": _timing_cache,
}
