"""The script of a reproduction: plain TensorRT and cuda-python, or plain onnxruntime, and nothing of ours."""

from __future__ import annotations

import pprint
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from harness.runtime.backend.protocol import BuildRequest, ShapeRange
from harness.spec.build import BuildConfig
from harness.spec.example import Example
from harness.spec.onnx_model import load

TENSORRTS = ("tensorrt", "tensorrt_rtx")
WIDTH = 100  # columns of the numbers in a script

_HEAD = Template('''"""$title

$headline

Needs numpy and $needs:    python show.py
"""

import sys
from pathlib import Path

import numpy as np
''')

_ONNXRUNTIME = Template("""import onnxruntime

HERE = Path(__file__).parent
RUNS = $runs  # in this order; the last one fails
TOLERANCE = $tolerance  # atol, rtol; without one: equal

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
for run in RUNS:
    with np.load(HERE / run) as inputs:
        found = dict(zip(names, session.run(names, dict(inputs))))
""")

_TENSORRT = Template("""import $module as trt
from cuda.bindings import runtime as cuda

HERE = Path(__file__).parent
RUNS = $runs  # in this order, on one context; the last one fails
TOLERANCE = $tolerance  # atol, rtol; without one: equal
PROFILE = $profile
PROFILES = $profiles  # min, opt, max
CONTENTS = $contents  # of shape tensors
STRONG, FLAGS = $strong, $flags  # the flags are for a TensorRT without strong typing, or a weakly typed network


def ok(status):
    code, *values = status
    assert int(code) == 0, f"CUDA: {code}"
    return values[0] if values else None


def build(logger):
    if hasattr(trt, "init_libnvinfer_plugins"):
        trt.init_libnvinfer_plugins(logger, "")$plugins
    builder = trt.Builder(logger)
    kinds = trt.NetworkDefinitionCreationFlag.__members__
    strong = STRONG and "STRONGLY_TYPED" in kinds
    wanted = ["STRONGLY_TYPED"] * strong + ["EXPLICIT_BATCH"] * hasattr(trt.Builder, "max_batch_size")
    network = builder.create_network(sum(1 << int(kinds[kind]) for kind in wanted))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(HERE / "model.onnx")), "the parser refuses the model"
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    for flag in () if strong else FLAGS:
        if flag in trt.BuilderFlag.__members__:
            config.set_flag(getattr(trt.BuilderFlag, flag))$options
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    for shapes, contents in zip(PROFILES, CONTENTS):
        profile = builder.create_optimization_profile()
        for tensor in inputs:
            if -1 in tuple(tensor.shape):
                profile.set_shape(tensor.name, *shapes[asked(tensor.name)])
            if tensor.is_shape_tensor:
                profile.set_shape_input(tensor.name, *contents[asked(tensor.name)])
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, "no plan was built"
    return plan


def asked(name):  # an input that is an output, too, is called __x
    return name if name in PROFILES[0] else name.removeprefix("__")


class Allocator(trt.IOutputAllocator):  # for an output whose size depends on the data
    def __init__(self):
        trt.IOutputAllocator.__init__(self)
        self.shape, self.address = None, 0

    def reallocate_output(self, name, memory, size, alignment):
        self.address = int(ok(cuda.cudaMalloc(max(size, 1))))
        return self.address

    def reallocate_output_async(self, name, memory, size, alignment, stream):
        return self.reallocate_output(name, memory, size, alignment)

    def notify_shape(self, name, shape):
        self.shape = tuple(shape)


def run(engine, context, stream, inputs):
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    keep, found, pending = [], {}, {}
    for name in names:
        if engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT:
            continue
        array = np.ascontiguousarray(inputs[asked(name)])
        if array.dtype.kind != "V":  # older versions bind int64 as int32, and all of them double as float
            array = array.astype(trt.nptype(engine.get_tensor_dtype(name)))
        address = array.ctypes.data
        if not engine.is_shape_inference_io(name):
            address = int(ok(cuda.cudaMalloc(max(array.nbytes, 1))))
            ok(cuda.cudaMemcpy(address, array.ctypes.data, array.nbytes, cuda.cudaMemcpyKind.cudaMemcpyHostToDevice))
        keep.append(array)
        assert context.set_input_shape(name, array.shape), f"{name} of shape {array.shape} was refused"
        assert context.set_tensor_address(name, address)
    for name in names:
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
            continue
        shape, dtype = tuple(context.get_tensor_shape(name)), trt.nptype(engine.get_tensor_dtype(name))
        if -1 in shape:
            pending[name] = Allocator(), dtype
            assert context.set_output_allocator(name, pending[name][0])
            continue
        found[name] = np.empty(shape, dtype)
        if engine.is_shape_inference_io(name):
            assert context.set_tensor_address(name, found[name].ctypes.data)
            continue
        pending[name] = int(ok(cuda.cudaMalloc(max(found[name].nbytes, 1)))), dtype
        assert context.set_tensor_address(name, pending[name][0])
    assert context.execute_async_v3(int(stream)), "the enqueue was refused"
    ok(cuda.cudaStreamSynchronize(stream))
    for name, (source, dtype) in pending.items():
        if isinstance(source, Allocator):
            found[name], source = np.empty(source.shape, dtype), source.address
        held = found[name]
        ok(cuda.cudaMemcpy(held.ctypes.data, source, held.nbytes, cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost))
    return found


logger = trt.Logger(trt.Logger.WARNING)
engine = trt.Runtime(logger).deserialize_cuda_engine(build(logger))
context, stream = engine.create_execution_context(), ok(cuda.cudaStreamCreate())
assert context.set_optimization_profile_async(PROFILE, int(stream))
for name in RUNS:
    with np.load(HERE / name) as inputs:
        found = run(engine, context, stream, dict(inputs))
""")

_COMPARE = """
wrong = False
with np.load(HERE / "expected.npz") as expected:
    for name, want in expected.items():
        got, (atol, rtol) = found[name], TOLERANCE.get(name, (0, 0))
        if got.shape != want.shape:
            wrong = True
            print(f"{name}: got {list(got.shape)}, expected {list(want.shape)}")
            continue
        if want.dtype.kind == "f":
            got, want = got.astype(np.float64), want.astype(np.float64)
            off = ~np.isclose(got, want, rtol, atol, equal_nan=True)
        else:
            off = got != want
        wrong |= bool(off.any())
        print(f"{name}: {off.sum()} of {off.size} elements differ")
        for place in np.argwhere(off)[:5]:
            print(f"  {place.tolist()}: got {got[tuple(place)]}, expected {want[tuple(place)]}")
sys.exit(wrong)
"""

_SHOW = """
for name, array in found.items():
    print(name, array.shape, array.dtype, array.reshape(-1)[:8])
"""


def script(
    request: BuildRequest,
    backend: str,
    example: Example,
    message: str,
    runs: Sequence[str],
    tolerances: Mapping[str, tuple[float, float]],
    *,
    compared: bool = True,
) -> str:
    """The text of ``show.py``: it exits with 1 where an output differs, and prints the first places.

    Without ``compared`` nothing is known of what is right, and it prints what comes out. A backend other
    than a TensorRT is shown with onnxruntime.
    """
    real = backend in TENSORRTS
    title = f"{request.name} at {request.recipe.name} on {backend}, {example}"
    headline = message.partition("\n")[0].replace("\\", "/").replace('"""', "'''")
    head = _HEAD.substitute(
        title=title, headline=headline, needs=f"{backend} and cuda-python" if real else "onnxruntime"
    )
    common = {"runs": _literal(list(runs)), "tolerance": _literal(dict(tolerances))}
    if real:
        recipe = request.recipe
        body = _TENSORRT.substitute(
            common,
            module=backend,
            profile=example.profile,
            profiles=_literal([_ranges(profile) for profile in request.profiles]),
            contents=_literal([_ranges(contents) for contents in request.contents]),
            strong=recipe.typing == "strong",
            flags=_literal([*recipe.flags, *(["INT8"] if _quantizes(request) else [])]),
            plugins="".join(f"\n    __import__('ctypes').CDLL({library!r})" for library in request.config.plugins),
            options="".join(f"\n    config.{line}" for line in _options(request.config)),
        )
    else:
        body = _ONNXRUNTIME.substitute(common)
    return head + body + (_COMPARE if compared else _SHOW)


def _options(config: BuildConfig) -> Iterator[str]:
    """What sets each option on a builder's ``config``."""
    if config.workspace is not None:
        yield f"set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, {config.workspace})"
    if config.optimization_level is not None:
        yield f"builder_optimization_level = {config.optimization_level}"
    if config.aux_streams is not None:
        yield f"max_aux_streams = {config.aux_streams}"
    if config.hardware_compatibility is not None:
        yield f"hardware_compatibility_level = trt.HardwareCompatibilityLevel.{config.hardware_compatibility}"
    if config.tactic_sources is not None:
        sources = " | ".join(f"1 << int(trt.TacticSource.{name})" for name in config.tactic_sources)
        yield f"set_tactic_sources({sources or 0})"
    for flag in config.flags:
        yield f"set_flag(trt.BuilderFlag.{flag})"


def _quantizes(request: BuildRequest) -> bool:
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in load(Path(request.model)).graph.node)


def _ranges(ranges: Mapping[str, ShapeRange]) -> dict[str, tuple[tuple[int, ...], ...]]:
    return {name: (each.min, each.opt, each.max) for name, each in ranges.items()}


def _literal(value: Any) -> str:
    return pprint.pformat(value, width=WIDTH, compact=True)
