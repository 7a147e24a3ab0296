"""The contract: what every TensorRT behind `NvBackend` does, one function for each promise."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from harness.errors import (
    BuildError,
    DeserializeError,
    ParseError,
    RefitError,
    RunError,
    SpecError,
    StageError,
    UnsupportedError,
)
from harness.report.layers import read
from harness.runtime.backend.protocol import GRANULE, REFUSED_TIMINGS, Plan
from harness.runtime.capability import State
from harness.spec.build import BuildConfig
from tests.contract.subjects import BOOL, FLOAT, HALF, INT64, Bench, Inputs, NotCovered

CHECKS: dict[str, Callable[[Bench], None]] = {}
RELU_RANGE = {"x": ((1, 2), (3, 2), (4, 2))}


def check(function: Callable[[Bench], None]) -> Callable[[Bench], None]:
    """Register one promise."""
    CHECKS[function.__name__] = function
    return function


def floats(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def said(error: StageError, *words: str) -> None:
    """The error has the library's own words: in its message, and in a log without the echo of a missing driver."""
    text = str(error)
    assert all(word in text for word in words), text
    assert error.log, f"no message of the logger is attached: {text}"
    assert not [line for line in error.log if "catchCudaError" in line and "cudaError 35" in line], error.log


# Parsing.


@check
def builds_a_plan(bench: Bench) -> None:
    plan = bench.build(bench.relu(), RELU_RANGE)
    assert plan.data.dtype == np.uint8
    assert plan.data.ndim == 1
    assert plan.data.nbytes > 64
    assert plan.seconds.keys() - {"transfer"} == {"parse", "build"}  # from a host
    assert all(seconds > 0 for seconds in plan.seconds.values())


@check
def refuses_what_is_not_onnx(bench: Bench) -> None:
    """8.6 has no parser error for it: a line of the log, and at times nothing at all for a model cut off."""
    whole = bench.relu().read_bytes()
    for name, data in (("text", b"not an ONNX file at all"), ("cut", whole[:40])):
        with pytest.raises(ParseError) as caught:
            bench.build(bench.file(f"{name}.onnx", data), RELU_RANGE)
        if "code" in caught.value.detail:
            said(caught.value, "MODEL_DESERIALIZE_FAILED")
            assert caught.value.detail["code"] == "MODEL_DESERIALIZE_FAILED"
        else:
            assert bench.legacy
            words = ["Failed to parse ONNX model from file"] + ["no outputs"] * (name == "cut")  # as the cut falls
            assert any(some in str(caught.value) for some in words)


@check
def refuses_an_empty_file(bench: Bench) -> None:
    """The parser says True to it."""
    with pytest.raises(ParseError, match="no outputs"):
        bench.build(bench.file("empty.onnx", b""))


@check
def refuses_a_missing_file(bench: Bench) -> None:
    with pytest.raises(ParseError, match=r"absent\.onnx"):
        bench.build(bench.folder / "absent.onnx")


@check
def names_the_node_that_it_does_not_support(bench: Bench) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="good"),
        helper.make_node("Det", ["a"], ["y"], name="bad"),
    ]
    with pytest.raises(ParseError) as caught:
        bench.build(bench.model(nodes, {"x": (FLOAT, [2, 2])}, {"y": (FLOAT, [])}))
    said(caught.value, "node 1", "Det")
    detail = caught.value.detail
    assert (detail["code"], detail["node"]) == ("UNSUPPORTED_NODE", 1)
    assert detail["operator"] == "Det"
    assert detail["reason"]


@check
def names_an_operator_that_nobody_knows(bench: Bench) -> None:
    node = helper.make_node("NoSuchOperator", ["x"], ["y"], name="bad")
    with pytest.raises(ParseError) as caught:
        bench.build(bench.model([node], {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}))
    said(caught.value, "NoSuchOperator", "Plugin not found")
    assert caught.value.detail["node"] == 0


@check
def refuses_a_graph_with_a_loose_end(bench: Bench) -> None:
    node = helper.make_node("Relu", ["nowhere"], ["y"], name="loose")
    with pytest.raises(ParseError) as caught:
        bench.build(bench.model([node], {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}))
    said(caught.value)


@check
def refuses_a_type_that_it_can_not_bind(bench: Bench) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    kind = onnx.TensorProto.INT16
    with pytest.raises(ParseError) as caught:
        bench.build(bench.model([node], {"x": (kind, [2])}, {"y": (kind, [2])}))
    said(caught.value)


@check
def finds_external_data_beside_the_model(bench: Bench) -> None:
    weight = numpy_helper.from_array(floats(64, 64), "w")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "external",
        [value("x", FLOAT, [1, 64])],
        [value("y", FLOAT, [1, 64])],
        [weight],
    )
    path = bench.folder / "external.onnx"
    onnx.save_model(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        str(path),
        save_as_external_data=True,
        location="external.data",
        size_threshold=0,
    )
    assert bench.build(path).data.nbytes > 64
    (bench.folder / "external.data").unlink()
    with pytest.raises(ParseError) as caught:
        bench.build(path)
    said(caught.value, "external.data")


# Building.


@check
def reports_progress(bench: Bench) -> None:
    """Its own two phases, and those of the version's monitor; a host passes on one in twenty milliseconds or so."""
    nodes = []
    for index in range(40):  # enough to build that a report is due
        nodes += [
            helper.make_node("MatMul", [f"x{index}", "x0"], [f"m{index}"]),
            helper.make_node("Softmax", [f"m{index}"], [f"x{index + 1}"]),
        ]
    model = bench.model(nodes, {"x0": (FLOAT, [64, 64])}, {"x40": (FLOAT, [64, 64])})
    heard: list[tuple[str, int, int]] = []
    bench.backend.build(bench.request(model), lambda phase, step, steps: heard.append((phase, step, steps)))
    phases = [phase for phase, _, _ in heard]
    assert phases[:2] == ["parse", "build"]
    if bench.probe.has("progress"):
        assert len(set(phases)) > 2, "the version has a monitor, and it told nothing"
        assert all(0 <= step <= steps for phase, step, steps in heard if phase not in phases[:2])


@check
def wants_a_profile_for_dynamic_shapes(bench: Bench) -> None:
    request = bench.request(bench.relu())
    bare = type(request)(request.name, request.recipe, request.config, (), (), model=request.model)
    with pytest.raises(BuildError) as caught:
        bench.backend.build(bare)
    said(caught.value, "no optimization profile has been defined")


@check
def refuses_a_profile_out_of_order(bench: Bench) -> None:
    with pytest.raises(BuildError) as caught:
        bench.build(bench.relu(), {"x": ((4, 2), (3, 2), (1, 2))})
    said(caught.value, "profile")


@check
def refuses_a_profile_that_the_model_does_not_admit(bench: Bench) -> None:
    for sizes in (((1, 3), (2, 3), (4, 3)), ((1, 2, 1), (2, 2, 1), (4, 2, 1))):
        with pytest.raises(BuildError) as caught:
            bench.build(bench.relu(), {"x": sizes})
        said(caught.value, "profile 0")


@check
def static_models_need_no_profile(bench: Bench) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    assert bench.build(bench.model([node], {"x": (FLOAT, [3, 2])}, {"y": (FLOAT, [3, 2])})).data.nbytes > 64


@check
def names_an_option_that_it_lacks(bench: Bench) -> None:
    for config in (
        BuildConfig(flags=("NO_SUCH_FLAG",)),
        BuildConfig(tactic_sources=("NO_SUCH_SOURCE",)),
        BuildConfig(profiling_verbosity="NO_SUCH_LEVEL"),
    ):
        with pytest.raises(UnsupportedError, match="NO_SUCH") as caught:
            bench.build(bench.relu(), RELU_RANGE, config=config)
        assert any(name in caught.value.evidence for name in ("TF32", "JIT_CONVOLUTIONS", "DETAILED")), "what there is"


@check
def takes_options(bench: Bench) -> None:
    config = BuildConfig(
        workspace=64 << 20,
        optimization_level=2,
        flags=("DISABLE_TIMING_CACHE",),
        tactic_sources=("JIT_CONVOLUTIONS",),
        aux_streams=0,
        profiling_verbosity="DETAILED",
    )
    assert bench.build(bench.relu(), RELU_RANGE, config=config).data.nbytes > 64


@check
def refuses_an_option_that_it_would_bend(bench: Bench) -> None:
    with pytest.raises(BuildError, match="optimization_level"):
        bench.build(bench.relu(), RELU_RANGE, config=BuildConfig(optimization_level=9))


@check
def hardware_compatibility_is_taken_or_told(bench: Bench) -> None:
    config = BuildConfig(hardware_compatibility="AMPERE_PLUS", tactic_sources=())
    if bench.subject.backend == "tensorrt_rtx":  # the setter warns, and does nothing
        with pytest.raises(BuildError, match="hardware_compatibility_level"):
            bench.build(bench.relu(), RELU_RANGE, config=config)
    else:
        assert bench.build(bench.relu(), RELU_RANGE, config=config).data.nbytes > 64


@check
def targets_are_for_those_that_build_ahead_of_time(bench: Bench) -> None:
    config = BuildConfig(targets=("SM86", "SM89"))
    if bench.subject.backend == "tensorrt_rtx":
        assert bench.build(bench.relu(), RELU_RANGE, config=config).data.nbytes > 64
        with pytest.raises(UnsupportedError, match="SM89"):
            bench.build(bench.relu(), RELU_RANGE, config=BuildConfig(targets=("SM1",)))
    else:
        with pytest.raises(UnsupportedError, match="GPU at hand"):
            bench.build(bench.relu(), RELU_RANGE, config=config)


@check
def refuses_a_plugin_library_that_is_not_there(bench: Bench) -> None:
    with pytest.raises(BuildError) as caught:
        bench.build(bench.relu(), RELU_RANGE, config=BuildConfig(plugins=("/absent/plugin.so",)))
    assert "/absent/plugin.so" in str(caught.value)
    if not bench.legacy:  # which says nothing
        said(caught.value)


@check
def weak_typing_where_there_is_some(bench: Bench) -> None:
    if bench.probe.has("weak_typing"):
        assert bench.build(bench.relu(), RELU_RANGE, precision="fp16-weak").data.nbytes > 64
    else:
        with pytest.raises(UnsupportedError, match="weak typing"):
            bench.build(bench.relu(), RELU_RANGE, precision="fp16-weak")


@check
def types_of_the_model_are_meant(bench: Bench) -> None:
    bench.need("fp16")
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=HALF),
        helper.make_node("Relu", ["half"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["y"], to=FLOAT),
    ]
    model = bench.model(nodes, {"x": (FLOAT, ["n", 2])}, {"y": (FLOAT, ["n", 2])})
    assert bench.build(model, RELU_RANGE, precision="fp16").data.nbytes > 64
    assert bench.build(bench.relu(), RELU_RANGE, precision="tf32").data.nbytes > 64


@check
def quantized_models_are_built(bench: Bench) -> None:
    """A weakly typed network with Q/DQ wants INT8 allowed, whatever the recipe."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
    ]
    x: Inputs = {"x": (FLOAT, ["n", 2])}
    model = bench.model(nodes, x, {"y": (FLOAT, ["n", 2])}, "quantized", constants)
    assert bench.build(model, RELU_RANGE).data.nbytes > 64


# Timing caches.

NOTHING_YET = np.zeros(0, np.uint8)


def _timed(bench: Bench, cache: Any, *flags: str, level: int = 3, relus: int = 1) -> Plan:
    """A build of products that goes by a timing cache, with more layers for more ``relus``."""
    if bench.probe.find("timing_cache").state is State.USELESS:
        raise NotCovered(bench.probe.find("timing_cache").evidence)
    bench.need("timing_cache")
    product = helper.make_node("MatMul", ["x", "x"], ["p0"])
    nodes = [product, *(helper.make_node("Relu", [f"p{index}"], [f"p{index + 1}"]) for index in range(relus))]
    model = bench.model(nodes, {"x": (FLOAT, [64, 64])}, {f"p{relus}": (FLOAT, [64, 64])})
    request = bench.request(model, config=BuildConfig(tactic_sources=(), optimization_level=level, flags=flags))
    return bench.backend.build(replace(request, timing_cache=cache))


@check
def a_timing_cache_knows_what_was_built(bench: Bench) -> None:
    first = _timed(bench, NOTHING_YET).timing_cache
    assert first is not None
    assert (first.dtype, first.ndim) == (np.uint8, 1)
    again = _timed(bench, first).timing_cache
    assert again is not None
    assert again.nbytes == first.nbytes, "nothing was found out anew"


@check
def a_cold_build_has_no_timing_cache(bench: Bench) -> None:
    """Nor has one at the level that respects none, whatever it is given, or one with the flag against it."""
    assert _timed(bench, None).timing_cache is None
    assert _timed(bench, NOTHING_YET, level=0).timing_cache is None
    assert _timed(bench, NOTHING_YET, "DISABLE_TIMING_CACHE").timing_cache is None


@check
def refuses_a_timing_cache_that_is_none(bench: Bench) -> None:
    """TensorRT makes an empty one of it, with a warning."""
    for data in (b"not a timing cache at all", bytes(4096)):
        with pytest.raises(BuildError, match="timing cache") as caught:
            _timed(bench, np.frombuffer(data, np.uint8))
        assert caught.value.detail[REFUSED_TIMINGS]
        assert caught.value.log
        with pytest.raises(BuildError) as caught:
            bench.backend.merged([NOTHING_YET, np.frombuffer(data, np.uint8)])
        assert caught.value.detail[REFUSED_TIMINGS]


@check
def timing_caches_are_merged(bench: Bench) -> None:
    """One that was merged spares the builds of all: it knows as much as each of them."""
    caches = [_timed(bench, NOTHING_YET, relus=relus).timing_cache for relus in (1, 3)]
    assert caches[0] is not None
    assert caches[1] is not None
    both = bench.backend.merged([caches[0], caches[1], caches[0], NOTHING_YET])
    assert both.nbytes >= max(cache.nbytes for cache in caches if cache is not None)
    for relus in (1, 3):
        after = _timed(bench, both, relus=relus).timing_cache
        assert after is not None
        assert after.nbytes == both.nbytes, relus
    assert bench.backend.merged([caches[0], caches[0]]).nbytes == caches[0].nbytes


@check
def a_timing_cache_that_does_nothing_does_no_harm(bench: Bench) -> None:
    """It stays as it is, or without a GPU is refused, in bounded time (RTX); or what a build wrote is refused (8.6)."""
    if bench.probe.find("timing_cache").state is not State.USELESS:
        raise NotCovered("its timing cache is of use, or is none")
    request = bench.request(bench.relu(), RELU_RANGE)
    empty = bench.backend.merged([])
    assert bench.backend.merged([NOTHING_YET]).nbytes == empty.nbytes
    for ask in (
        lambda: bench.backend.build(replace(request, timing_cache=NOTHING_YET)).timing_cache,
        lambda: bench.backend.build(replace(request, timing_cache=empty)).timing_cache,
        lambda: bench.backend.merged([empty, empty]),
    ):
        left = None
        with contextlib.suppress(BuildError):  # which the last lines look at
            left = ask()
        if left is not None and left.nbytes != empty.nbytes:
            with pytest.raises(BuildError) as caught:
                bench.backend.build(replace(request, timing_cache=left))
            assert caught.value.detail[REFUSED_TIMINGS]
    with pytest.raises(BuildError, match="timing cache was refused") as caught:
        bench.backend.merged([np.frombuffer(b"not a timing cache at all", np.uint8)])
    assert caught.value.detail[REFUSED_TIMINGS]


@check
def an_unknown_tactic_is_an_error_where_that_is_asked(bench: Bench) -> None:
    known = _timed(bench, NOTHING_YET).timing_cache
    bench.need("timing_cache_miss")
    with pytest.raises(BuildError) as caught:
        _timed(bench, NOTHING_YET, "ERROR_ON_TIMING_CACHE_MISS")
    said(caught.value)
    assert REFUSED_TIMINGS not in caught.value.detail
    assert _timed(bench, known, "ERROR_ON_TIMING_CACHE_MISS").data.nbytes > 64


# Networks that a callable makes.

CALLABLES = '''
class Holder:
    """Where a module of the user's finds the vendor's types: beside the network's own class."""

def fill(network, logger):
    import sys
    trt = sys.modules[type(network).__module__.partition(".")[0]]
    x = network.add_input("x", trt.DataType.FLOAT, (-1, 2))
    layer = network.add_activation(x, trt.ActivationType.RELU)
    y = layer.get_output(0)
    y.name = "y"
    network.mark_output(y)

def forget(network, logger):
    return None

def fail(network, logger):
    raise ValueError("the user's own words")

def plan(network, logger):
    return b"not looked at"
'''


@check
def a_callable_makes_the_network(bench: Bench) -> None:
    bench.need("network_function")
    folder = bench.folder / "callables"
    folder.mkdir()
    name = f"contract_{bench.subject.name.replace('-', '_').replace('.', '_')}_{folder.parent.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(textwrap.dedent(CALLABLES))

    def ask(function: str) -> Any:
        return bench.build("", RELU_RANGE, network=f"{name}:{function}", folder=str(folder)).data

    assert ask("fill").nbytes > 64
    assert bytes(ask("plan")) == b"not looked at"
    for function, words in (
        ("fail", "raised ValueError: the user's own words"),
        ("forget", "marked no output"),
        ("absent", "package.module:function"),
    ):
        with pytest.raises(ParseError, match=words):
            ask(function)


# Loading.


@check
def refuses_what_is_not_a_plan(bench: Bench) -> None:
    good = bench.build(bench.relu(), RELU_RANGE).data
    wrong = good.copy()
    wrong[0] ^= 1
    for data in (np.zeros(0, np.uint8), np.frombuffer(b"garbage", np.uint8), good[:100], wrong):
        with pytest.raises(DeserializeError) as caught:
            bench.backend.load(data)
        if bench.probe.has("deserialize"):
            said(caught.value)


@check
def says_why_it_can_not_load(bench: Bench) -> None:
    if bench.probe.has("deserialize"):
        raise NotCovered("it can")
    with pytest.raises(DeserializeError, match="driver"):
        bench.backend.load(bench.build(bench.relu(), RELU_RANGE).data)


@check
def an_engine_tells_what_it_takes(bench: Bench) -> None:
    bench.need("deserialize", "profiles")
    nodes = [
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Add", ["i", "i"], ["j"]),
        helper.make_node("Not", ["b"], ["c"]),
    ]
    inputs: Inputs = {"x": (FLOAT, ["n", 2]), "i": (INT64, ["n"]), "b": (BOOL, [3])}
    outputs: Inputs = {"y": (FLOAT, ["n", 2]), "j": (INT64, ["n"]), "c": (BOOL, [3])}
    first = {"x": ((1, 2), (3, 2), (4, 2)), "i": ((1,), (3,), (4,))}
    second = {"x": ((8, 2), (9, 2), (16, 2)), "i": ((8,), (9,), (16,))}
    info = bench.engine(bench.model(nodes, inputs, outputs), first, second).info
    integer = "int64" if "int64" in {tensor.dtype for tensor in info.tensors} else "int32"
    assert {tensor.name: (tensor.dtype, tensor.shape) for tensor in info.inputs} == {
        "x": ("float32", (-1, 2)),
        "i": (integer, (-1,)),
        "b": ("bool", (3,)),
    }
    assert {tensor.name: (tensor.dtype, tensor.shape) for tensor in info.outputs} == {
        "y": ("float32", (-1, 2)),
        "j": (integer, (-1,)),
        "c": ("bool", (3,)),
    }
    assert not any(tensor.shape_tensor for tensor in info.tensors)
    assert info.profiles == 2
    assert info.facts["profile_shapes"][1]["x"] == [[8, 2], [9, 2], [16, 2]]
    assert info.facts["layers"] > 0
    assert info.seconds["deserialize"] > 0
    by_profile = info.facts.get("device_memory_by_profile")
    if bench.probe.version.startswith("8."):
        assert by_profile is None
    else:
        assert len(by_profile) == 2
        assert max(by_profile) <= info.facts["device_memory"]


def _activated(bench: Bench) -> Any:
    """``y = Relu(x @ w)``, by nodes with names."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"], name="the product"),
        helper.make_node("Relu", ["p"], ["y"], name="the relu"),
    ]
    weights = [numpy_helper.from_array(floats(2, 2), "w")]
    return bench.model(nodes, {"x": (FLOAT, ["n", 2])}, {"y": (FLOAT, ["n", 2])}, "activated", weights)


DETAILED = BuildConfig(tactic_sources=(), profiling_verbosity="DETAILED")


@check
def an_engine_tells_its_layers(bench: Bench) -> None:
    """In the form of its version, whole, with what varies as it is at the optimum.

    8.6 tells that only of a context that has run, so of none that is made to be looked at.
    """
    bench.need("deserialize")
    engine = bench.engine(_activated(bench), RELU_RANGE, config=DETAILED)
    told = engine.inspect()
    assert ("Bindings" in told) == bench.probe.has("weak_typing")
    assert ("I/O Tensors" in told) != ("Bindings" in told)
    found = read(told)
    assert found.detailed
    assert len(found.layers) == len(told["Layers"]) == engine.info.facts["layers"]
    assert all(layer.name and layer.kind for layer in found.layers)
    assert {"the product", "the relu"} <= {origin for layer in found.layers for origin in layer.origins}
    assert {"x", "y"} <= {tensor.name for tensor in found.tensors}
    taken = [tensor for layer in found.layers for tensor in layer.inputs if tensor.name == "x"]
    settled = ("", (-1, 2)) if bench.probe.version.startswith("8.") else ("float32", (3, 2))
    assert {(tensor.dtype, tensor.shape) for tensor in taken} == {settled}, told
    assert engine.inspect() == told, "and again"


@check
def an_engine_tells_names_unless_it_was_built_to_tell_more(bench: Bench) -> None:
    bench.need("deserialize")
    engine = bench.engine(_activated(bench), RELU_RANGE)
    found = read(engine.inspect())
    assert not found.detailed
    assert len(found.layers) == engine.info.facts["layers"]
    assert all(layer.name for layer in found.layers)
    assert {"x", "y"} <= {tensor.name for tensor in found.tensors}


@check
def an_engine_tells_its_layers_where_contents_decide(bench: Bench) -> None:
    """8.6 does not tell which contents a profile has, so that nothing can be told at its optimum."""
    bench.need("deserialize", "shape_tensors")
    engine = bench.engine(_reshape(bench), contents=RESHAPE_CONTENTS, config=DETAILED)
    found = read(engine.inspect())
    assert len(found.layers) == engine.info.facts["layers"]
    given = [tensor.shape for layer in found.layers for tensor in layer.outputs if tensor.name == "y"]
    assert given == [(-1, -1) if bench.probe.version.startswith("8.") else (4, 6)]


# Running.


@check
def runs_within_its_profile(bench: Bench) -> None:
    bench.need("run")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE))
    for rows in (1, 4, 3, 1):
        x = floats(rows, 2, seed=rows)
        assert np.array_equal(session.run({"x": x})["y"], np.maximum(x, 0))


@check
def refuses_shapes_outside_of_its_profile(bench: Bench) -> None:
    bench.need("run")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE))
    for shape in ((5, 2), (3, 3), (3, 2, 1)):
        with pytest.raises(RunError) as caught:
            session.run({"x": floats(*shape)})
        said(caught.value, "'x'", str(shape))
    x = floats(2, 2)
    assert np.array_equal(session.run({"x": x})["y"], np.maximum(x, 0)), "and goes on"


@check
def refuses_other_inputs_than_it_has(bench: Bench) -> None:
    bench.need("run")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE))
    for inputs in ({}, {"z": floats(1, 2)}, {"x": floats(1, 2), "z": floats(1, 2)}):
        with pytest.raises(RunError, match="'x'"):
            session.run(inputs)
    with pytest.raises(RunError, match="float32"):
        session.run({"x": np.ones((1, 2), np.int32)})


@check
def every_profile_has_its_own_range(bench: Bench) -> None:
    bench.need("run", "profiles")
    engine = bench.engine(bench.relu(), RELU_RANGE, {"x": ((8, 2), (9, 2), (16, 2))})
    first, second = bench.session(engine, 0), bench.session(engine, 1)
    for session, rows, other in ((first, 4, 8), (second, 8, 4)):
        x = floats(rows, 2)
        assert np.array_equal(session.run({"x": x})["y"], np.maximum(x, 0))
        with pytest.raises(RunError, match="profile"):
            session.run({"x": floats(other, 2)})
    with pytest.raises(DeserializeError, match="no profile 2"):
        engine.session(2)


@check
def two_sessions_do_not_disturb_each_other(bench: Bench) -> None:
    """On one profile: 8.6 allows it only where the builder was asked to."""
    bench.need("run")
    engine = bench.engine(bench.relu(), RELU_RANGE)
    first, second = bench.session(engine), bench.session(engine)
    a, b = floats(4, 2, seed=1), floats(1, 2, seed=2)
    for _ in range(2):
        assert np.array_equal(first.run({"x": a})["y"], np.maximum(a, 0))
        assert np.array_equal(second.run({"x": b})["y"], np.maximum(b, 0))


@check
def an_input_may_be_an_output(bench: Bench) -> None:
    """TensorRT calls such an input ``__x``; its user does not."""
    bench.need("run")
    node = helper.make_node("Relu", ["x"], ["y"])
    path = bench.model([node], {"x": (FLOAT, ["n", 2])}, {"y": (FLOAT, ["n", 2]), "x": (FLOAT, ["n", 2])})
    x = floats(3, 2)
    engine = bench.engine(path, RELU_RANGE)
    session = bench.session(engine)
    for omit in ("", "shape:x", "size:x:0", "address:x", f"address:{engine.info.inputs[0].name}"):
        if omit:
            with pytest.raises(RunError) as caught:
                session.run({"x": x}, omit=omit)
            assert not caught.value.crash
        outputs = session.run({"x": x})
        assert np.array_equal(outputs["x"], x)
        assert np.array_equal(outputs["y"], np.maximum(x, 0))


@check
def integers_are_exact_or_refused(bench: Bench) -> None:
    bench.need("run")
    node = helper.make_node("Add", ["i", "i"], ["j"])
    engine = bench.engine(bench.model([node], {"i": (INT64, [3])}, {"j": (INT64, [3])}))
    session = bench.session(engine)
    small = np.array([1, -2, 3], np.int64)
    assert session.run({"i": small})["j"].tolist() == [2, -4, 6]
    large = np.array([1 << 40, 0, 0], np.int64)
    if engine.info.inputs[0].dtype == "int64":
        assert session.run({"i": large})["j"].tolist() == [1 << 41, 0, 0]
    else:
        with pytest.raises(RunError, match="does not fit"):
            session.run({"i": large})


@check
def doubles_are_bound_as_floats(bench: Bench) -> None:
    bench.need("run")
    node = helper.make_node("Relu", ["x"], ["y"])
    kind = onnx.TensorProto.DOUBLE
    engine = bench.engine(bench.model([node], {"x": (kind, [2])}, {"y": (kind, [2])}))
    assert engine.info.inputs[0].dtype == "float32"
    assert bench.session(engine).run({"x": np.array([-1.5, 2.5])})["y"].tolist() == [0, 2.5]


RESHAPE_CONTENTS = {"shape": ((1, 1), (4, 6), (24, 24))}


def _reshape(bench: Bench) -> Any:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    return bench.model([node], {"x": (FLOAT, [4, 6]), "shape": (INT64, [2])}, {"y": (FLOAT, ["a", "b"])}, "reshape")


@check
def contents_decide_shapes(bench: Bench) -> None:
    bench.need("run", "shape_tensors")
    engine = bench.engine(_reshape(bench), contents=RESHAPE_CONTENTS)
    assert {tensor.name: tensor.shape_tensor for tensor in engine.info.inputs} == {"x": False, "shape": True}
    told = engine.info.facts["profile_shapes"][0]
    assert told["x"] == [[4, 6]] * 3
    assert told.get("shape") == (None if bench.legacy else [[1, 1], [4, 6], [24, 24]])
    session, x = bench.session(engine), floats(4, 6)
    for shape in ((8, 3), (2, 12), (24, 1)):
        got = session.run({"x": x, "shape": np.array(shape, np.int64)})["y"]
        assert np.array_equal(got, x.reshape(shape))


@check
def contents_that_contradict_are_refused(bench: Bench) -> None:
    bench.need("run", "shape_tensors")
    session, x = bench.session(bench.engine(_reshape(bench), contents=RESHAPE_CONTENTS)), floats(4, 6)
    with pytest.raises(RunError) as caught:
        session.run({"x": x, "shape": np.array([5, 5], np.int64)})
    said(caught.value)
    assert session.run({"x": x, "shape": np.array([6, 4], np.int64)})["y"].shape == (6, 4), "and goes on"


@check
def a_shape_tensor_wants_values_in_every_profile(bench: Bench) -> None:
    bench.need("shape_tensors")
    assert bench.build(_reshape(bench), contents=RESHAPE_CONTENTS).data.nbytes > 64
    with pytest.raises(SpecError, match=r"no values for the shape tensor input 'shape'"):
        bench.build(_reshape(bench))


@check
def data_decides_shapes(bench: Bench) -> None:
    bench.need("run")
    node = helper.make_node("NonZero", ["x"], ["y"])
    path = bench.model([node], {"x": (FLOAT, ["n", 2])}, {"y": (INT64, [2, "found"])})
    session = bench.session(bench.engine(path, RELU_RANGE))
    for x in (np.ones((4, 2)), np.eye(2), np.zeros((3, 2)), np.ones((1, 2))):
        given = x.astype(np.float32)
        assert np.array_equal(session.run({"x": given})["y"], np.stack(np.nonzero(given)))


@check
def a_graph_is_replayed_on_new_inputs(bench: Bench) -> None:
    bench.need("run", "cuda_graph")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE))
    before = bench.stage.cuda.launches if bench.stage else 0
    for rows, seed in ((4, 1), (4, 2), (2, 3), (2, 4), (4, 5)):
        x = floats(rows, 2, seed=seed)
        assert np.array_equal(session.run({"x": x}, graph=True)["y"], np.maximum(x, 0))
    if bench.stage:
        assert bench.stage.cuda.launches - before == 5, "each of these was a launch of a graph"
    x = floats(3, 2, seed=6)
    assert np.array_equal(session.run({"x": x})["y"], np.maximum(x, 0)), "and without one again"


@check
def a_graph_is_captured_again_after_another_shape_ran(bench: Bench) -> None:
    """The run of another shape changes what a graph of the first one computes with."""
    bench.need("run", "cuda_graph")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE))
    for rows, graph in ((4, True), (2, False), (4, True)):
        x = floats(rows, 2, seed=rows + graph)
        assert np.array_equal(session.run({"x": x}, graph=graph)["y"], np.maximum(x, 0))


# What is left out, and refused.


def refused_and_goes_on(session: Any, x: Any, words: tuple[str, ...] = (), **asked: Any) -> StageError:
    """A run that is refused in the library's words, with outputs untouched; the next one is right."""
    right = floats(3, 2, seed=9)
    assert np.array_equal(session.run({"x": right})["y"], np.maximum(right, 0))
    with pytest.raises(RunError) as caught:
        session.run({"x": x}, **asked)
    assert not caught.value.crash, caught.value
    said(caught.value, *words)
    assert caught.value.detail["touched"] == (), "outputs of a refused run"
    assert np.array_equal(session.run({"x": right})["y"], np.maximum(right, 0)), "and goes on"
    return caught.value


@check
def a_step_that_is_left_out_is_refused(bench: Bench) -> None:
    bench.need("run")
    engine = bench.engine(bench.relu(), RELU_RANGE)
    session = bench.session(engine)
    for omit in ("shape:x", "size:x:0", "size:x:1", "address:x", "address:y"):
        error = refused_and_goes_on(session, floats(2, 2), omit=omit)
        if omit.startswith("address"):
            assert ("profileObliviousBindings" if bench.legacy else "ddress") in str(error), error
        with pytest.raises(RunError):  # by a context that was told nothing before, too
            bench.session(engine).run({"x": floats(2, 2)}, omit=omit)


@check
def what_a_static_model_needs_not_is_not_missed(bench: Bench) -> None:
    bench.need("run")
    node = helper.make_node("Relu", ["x"], ["y"])
    session = bench.session(bench.engine(bench.model([node], {"x": (FLOAT, [3, 2])}, {"y": (FLOAT, [3, 2])})))
    x = floats(3, 2)
    assert np.array_equal(session.run({"x": x}, omit="shape:x")["y"], np.maximum(x, 0))
    with pytest.raises(RunError):
        session.run({"x": x}, omit="address:x")
    assert np.array_equal(session.run({"x": x})["y"], np.maximum(x, 0))


@check
def only_a_step_that_there_is_can_be_left_out(bench: Bench) -> None:
    bench.need("run")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE))
    for omit, words in (
        ("x", "write shape:<input>"),
        ("size:x", "write shape:<input>"),
        ("size:x:2", "has 2 dimensions"),
        ("shape:y", "is an output"),
        ("address:z", "no tensor 'z'"),
    ):
        with pytest.raises(SpecError, match=words):
            session.run({"x": floats(2, 2)}, omit=omit)
    with pytest.raises(SpecError, match="not with a graph"):
        session.run({"x": floats(2, 2)}, graph=True, omit="shape:x")


@check
def a_shape_tensor_that_is_nowhere_is_refused(bench: Bench) -> None:
    """8.6 reads it all the same, and dies of it."""
    bench.need("run", "shape_tensors")
    session, x = bench.session(bench.engine(_reshape(bench), contents=RESHAPE_CONTENTS)), floats(4, 6)
    shape = np.array([6, 4], np.int64)
    if bench.legacy:
        bench.dies(lambda: session.run({"x": x, "shape": shape}, omit="address:shape"))
        return
    for _ in range(2):
        with pytest.raises(RunError) as caught:
            session.run({"x": x, "shape": shape}, omit="address:shape")
        assert not caught.value.crash
        assert session.run({"x": x, "shape": shape})["y"].shape == (6, 4), "and goes on"


@check
def contents_outside_of_the_profile_are_refused(bench: Bench) -> None:
    """8.6 does not ask: what the network can do with them it does."""
    bench.need("run", "shape_tensors")
    narrow = {"shape": ((2, 2), (4, 6), (12, 12))}
    session, x = bench.session(bench.engine(_reshape(bench), contents=narrow)), floats(4, 6)
    assert session.run({"x": x, "shape": np.array([12, 2], np.int64)})["y"].shape == (12, 2)
    outside = {"x": x, "shape": np.array([24, 1], np.int64)}
    if bench.legacy:
        assert np.array_equal(session.run(outside)["y"], x.reshape(24, 1))
    else:
        with pytest.raises(RunError) as caught:
            session.run(outside)
        said(caught.value)
        assert caught.value.detail["touched"] == ()
    assert session.run({"x": x, "shape": np.array([2, 12], np.int64)})["y"].shape == (2, 12), "and goes on"


@check
def a_refused_run_leaves_its_outputs_alone(bench: Bench) -> None:
    """Refused as it is told a shape, or as late as in the enqueue: 8.6, where another profile admits it."""
    bench.need("run", "profiles")
    engine = bench.engine(bench.relu(), RELU_RANGE, {"x": ((8, 2), (9, 2), (16, 2))})
    session = bench.session(engine)
    for rows in (5, 8, 16, 17, 0):
        refused_and_goes_on(session, floats(rows, 2))
    refused_and_goes_on(session, floats(3, 3))
    refused_and_goes_on(session, floats(6))


# Shapes before a run.


@check
def inferred_shapes_are_those_that_come_out(bench: Bench) -> None:
    bench.need("run")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE))
    for rows in (1, 4, 3):
        x = floats(rows, 2)
        assert session.infer({"x": x}) == {"y": (rows, 2)}
        assert session.run({"x": x})["y"].shape == (rows, 2)


@check
def shapes_are_inferred_from_contents(bench: Bench) -> None:
    bench.need("run", "shape_tensors")
    session, x = bench.session(bench.engine(_reshape(bench), contents=RESHAPE_CONTENTS)), floats(4, 6)
    for shape in ((8, 3), (2, 12)):
        assert session.infer({"x": x, "shape": np.array(shape, np.int64)}) == {"y": shape}
    with pytest.raises(RunError):
        session.infer({"x": x, "shape": np.array([5, 5], np.int64)})
    assert session.infer({"x": x, "shape": np.array([6, 4], np.int64)}) == {"y": (6, 4)}, "and goes on"


@check
def what_data_decide_is_not_inferred(bench: Bench) -> None:
    """Without an allocator for it the run is refused; 8.6 runs, and it is our session that misses a shape."""
    bench.need("run")
    node = helper.make_node("NonZero", ["x"], ["y"])
    path = bench.model([node], {"x": (FLOAT, ["n", 2])}, {"y": (INT64, [2, "found"])})
    session = bench.session(bench.engine(path, RELU_RANGE))
    x = np.eye(2, dtype=np.float32)
    for _ in range(2):  # a context that has run knows the size that came out then
        assert session.infer({"x": x}) == {"y": (2, -1)}
        assert session.run({"x": x})["y"].shape == (2, 2)
    with pytest.raises(RunError) as caught:
        session.run({"x": x}, omit="address:y")
    if bench.legacy:
        assert "'y': its allocator was never told a shape" in str(caught.value)
    else:
        said(caught.value)
    assert session.run({"x": x})["y"].shape == (2, 2), "and goes on"


@check
def inference_refuses_what_a_run_refuses(bench: Bench) -> None:
    bench.need("run", "profiles")
    engine = bench.engine(bench.relu(), RELU_RANGE, {"x": ((8, 2), (9, 2), (16, 2))})
    session = bench.session(engine)
    for shape in ((5, 2), (8, 2), (0, 2), (3, 3), (3, 2, 1)):
        with pytest.raises(RunError, match="'x'"):
            session.infer({"x": floats(*shape)})
        with pytest.raises(RunError):
            session.run({"x": floats(*shape)})
    assert session.infer({"x": floats(2, 2)}) == {"y": (2, 2)}, "and goes on"


# Other profiles, other memory.


@check
def a_context_may_take_another_profile(bench: Bench) -> None:
    bench.need("run", "profiles")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE, {"x": ((8, 2), (9, 2), (16, 2))}))
    graph = bench.probe.has("cuda_graph")
    for profile, rows, other in ((0, 4, 8), (1, 16, 4), (1, 8, 4), (0, 1, 8)):
        session.switch(profile)
        x = floats(rows, 2, seed=rows)
        assert session.infer({"x": x}) == {"y": (rows, 2)}
        with pytest.raises(RunError, match="'x'"):
            session.infer({"x": floats(other, 2)})
        for _ in range(2):
            with pytest.raises(RunError):
                session.run({"x": x}, omit="shape:x")
        for replayed in (False, graph):
            assert np.array_equal(session.run({"x": x}, graph=replayed)["y"], np.maximum(x, 0))
        with pytest.raises(RunError, match="profile"):
            session.run({"x": floats(other, 2)})


@check
def a_switch_forgets_shapes(bench: Bench) -> None:
    """The shape of before lies within the new profile, too: only that it was not told again speaks against it.

    8.6 goes on with it.
    """
    bench.need("run", "profiles")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE, {"x": ((2, 2), (5, 2), (8, 2))}))
    x = floats(4, 2)
    for profile in (1, 0):
        session.run({"x": x})
        session.switch(profile)
        if bench.legacy:
            assert np.array_equal(session.run({"x": x}, omit="shape:x")["y"], np.maximum(x, 0))
        else:
            with pytest.raises(RunError) as caught:
                session.run({"x": x}, omit="shape:x")
            said(caught.value)
        assert np.array_equal(session.run({"x": x})["y"], np.maximum(x, 0)), "and goes on"


@check
def a_switch_forgets_the_graph(bench: Bench) -> None:
    bench.need("run", "profiles", "cuda_graph")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE, {"x": ((2, 2), (3, 2), (8, 2))}))
    for profile in (1, 0, 1):
        x = floats(3, 2, seed=profile)
        assert np.array_equal(session.run({"x": x}, graph=True)["y"], np.maximum(x, 0))
        session.switch(profile)
        assert np.array_equal(session.run({"x": x}, graph=True)["y"], np.maximum(x, 0))


@check
def a_profile_that_there_is_not_is_refused(bench: Bench) -> None:
    bench.need("run", "profiles")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE, {"x": ((8, 2), (9, 2), (16, 2))}))
    for profile in (2, -1):
        with pytest.raises(RunError) as caught:
            session.switch(profile)
        assert not caught.value.crash
        assert f"there is no profile {profile}" in str(caught.value)  # our own session knows: 8.6 dies of it
        x = floats(4, 2)
        assert np.array_equal(session.run({"x": x})["y"], np.maximum(x, 0)), "and stays on its own"


@check
def tensors_move(bench: Bench) -> None:
    bench.need("run")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE))
    graph = bench.probe.has("cuda_graph")
    session.move("x")  # which has no memory yet
    for seed, tensor in enumerate(("x", "y", "x")):
        for replayed in (False, graph, graph):
            x = floats(3, 2, seed=seed)
            assert np.array_equal(session.run({"x": x}, graph=replayed)["y"], np.maximum(x, 0))
        session.move(tensor)
    assert np.array_equal(session.run({"x": x}, graph=graph)["y"], np.maximum(x, 0))
    with pytest.raises(SpecError, match="no tensor 'z'"):
        session.move("z")


@check
def shape_tensors_move(bench: Bench) -> None:
    bench.need("run", "shape_tensors")
    session, x = bench.session(bench.engine(_reshape(bench), contents=RESHAPE_CONTENTS)), floats(4, 6)
    for shape in ((8, 3), (2, 12)):
        assert session.run({"x": x, "shape": np.array(shape, np.int64)})["y"].shape == shape
        session.move("shape")


@check
def memory_that_is_too_small_is_refused(bench: Bench) -> None:
    """TensorRT sees addresses and no sizes: it is our own session that refuses."""
    bench.need("run")
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE))
    for tensor in ("x", "y"):
        session.limit(tensor, 2 * 2 * 4)  # two rows of float32
        for rows in (2, 3, 1, 4):
            x = floats(rows, 2)
            if rows <= 2:
                assert np.array_equal(session.run({"x": x})["y"], np.maximum(x, 0))
                continue
            with pytest.raises(RunError, match=rf"'{tensor}' needs {rows * 8} bytes, .*limited to 16") as caught:
                session.run({"x": x})
            assert caught.value.detail["touched"] == ()
        session.limit(tensor, None)
        x = floats(4, 2)
        assert np.array_equal(session.run({"x": x})["y"], np.maximum(x, 0)), "where it is lifted"


@check
def memory_that_one_output_lacks_is_refused_with_the_others_untouched(bench: Bench) -> None:
    bench.need("run")
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    outputs: Inputs = {"y": (FLOAT, ["n", 2]), "z": (FLOAT, ["n", 2])}
    engine = bench.engine(bench.model(nodes, {"x": (FLOAT, ["n", 2])}, outputs), RELU_RANGE)
    x = floats(4, 2)
    for tensor in ("y", "z"):  # whichever is bound first has fresh memory by then
        session = bench.session(engine)
        session.limit(tensor, 16)
        with pytest.raises(RunError, match=f"'{tensor}' needs") as caught:
            session.run({"x": x})
        assert caught.value.detail.get("touched", ()) == ()
        session.limit(tensor, None)
        got = session.run({"x": x})
        assert np.array_equal(got["y"], np.maximum(x, 0))
        assert np.array_equal(got["z"], -x)


@check
def memory_that_is_too_small_for_what_data_decide_is_refused(bench: Bench) -> None:
    bench.need("run")
    node = helper.make_node("NonZero", ["x"], ["y"])
    path = bench.model([node], {"x": (FLOAT, ["n", 2])}, {"y": (INT64, [2, "found"])})
    session = bench.session(bench.engine(path, RELU_RANGE))
    x = np.ones((4, 2), np.float32)
    session.limit("y", 16)
    with pytest.raises(RunError, match=r"'y' needs .* limited to 16") as caught:
        session.run({"x": x})
    assert "y" not in caught.value.detail.get("touched", ()), "others may have been written by then"
    for enough in (GRANULE, None):
        session.limit("y", enough)
        assert np.array_equal(session.run({"x": x})["y"], np.stack(np.nonzero(x)))


# Weights, plans, and what is left.


def _product(bench: Bench) -> Any:
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return bench.model([node], {"x": (FLOAT, ["n", 2])}, {"y": (FLOAT, ["n", 2])}, "product", [weight])


REFITTABLE = BuildConfig(tactic_sources=(), flags=("REFIT",))


@check
def weights_are_replaced(bench: Bench) -> None:
    """In sessions that are open and in graphs that are captured, and in the plan that is written then."""
    bench.need("run", "refit")
    engine = bench.engine(_product(bench), RELU_RANGE, config=REFITTABLE)
    session, graph = bench.session(engine), bench.probe.has("cuda_graph")
    x = floats(3, 2)
    for seed in range(1, 4):
        weight = floats(2, 2, seed=seed)
        for replayed in (graph, False):
            session.run({"x": x}, graph=replayed)
            engine.refit({"w": weight})
            for one in (session, bench.session(engine)):
                got = one.run({"x": x}, graph=replayed)["y"]
                assert np.allclose(got, x @ weight, rtol=1e-5, atol=1e-5), (seed, replayed)
    again = bench.backend.load(engine.serialize())
    bench.stack.callback(again.close)
    assert np.allclose(bench.session(again).run({"x": x})["y"], x @ weight, rtol=1e-5, atol=1e-5)


@check
def weights_that_do_not_fit_are_refused(bench: Bench) -> None:
    bench.need("run", "refit")
    engine = bench.engine(_product(bench), RELU_RANGE, config=REFITTABLE)
    for weights in ({"v": floats(2, 2)}, {"w": floats(3, 3)}):
        with pytest.raises(RefitError, match=f"weights {next(iter(weights))!r}") as caught:
            engine.refit(weights)
        said(caught.value)
        assert caught.value.detail == ({"unknown": ("v",)} if "v" in weights else {})
    x = floats(3, 2)
    assert np.allclose(bench.session(engine).run({"x": x})["y"], x), "and goes on with what it had"


def _convolution(bench: Bench, weights: Mapping[str, Any], *, normalized: bool = False) -> Any:
    """A convolution of 1 by 1 over x [n, 2, 2, 2], perhaps with a batch normalization behind it."""
    nodes = [helper.make_node("Conv", ["x", "kernel", "bias"], ["c" if normalized else "y"], name="conv")]
    if normalized:
        inputs = ["c", "gamma", "beta", "mean", "variance"]
        nodes.append(helper.make_node("BatchNormalization", inputs, ["y"], name="norm", epsilon=1e-3))
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    shape: Inputs = {"x": (FLOAT, ["n", 2, 2, 2])}
    return bench.model(nodes, shape, {"y": (FLOAT, ["n", 2, 2, 2])}, "convolution", initializers)


IMAGES = {"x": ((1, 2, 2, 2), (3, 2, 2, 2), (4, 2, 2, 2))}


def _convolved(x: Any, weights: Mapping[str, Any]) -> Any:
    y = np.einsum("nchw,dc->ndhw", x, weights["kernel"][:, :, 0, 0]) + weights["bias"][:, None, None]
    if "gamma" in weights:
        gamma, beta, mean, variance = (weights[name][:, None, None] for name in ("gamma", "beta", "mean", "variance"))
        y = (y - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    return y


def _kernels(seed: int = 0) -> dict[str, Any]:
    return {"kernel": floats(2, 2, 1, 1, seed=seed), "bias": floats(2, seed=seed + 10)}


@check
def weights_are_listed(bench: Bench) -> None:
    """By name, and by layer and role; of what was given already, too, since it may need others."""
    bench.need("run", "refit")
    engine = bench.engine(_product(bench), RELU_RANGE, config=REFITTABLE)
    listed = engine.weights()
    assert (listed.names, listed.missing, listed.missing_places) == (("w",), (), ())
    assert listed.places == (("w", "CONSTANT"),)
    assert engine.weights({"w": floats(2, 2)}) == listed
    with pytest.raises(RefitError, match="weights 'v'"):
        engine.weights({"v": floats(2, 2)})


@check
def weights_are_replaced_by_layer_and_role(bench: Bench) -> None:
    """All or none: a place that there is not leaves the others as they were."""
    bench.need("run", "refit")
    old, new = _kernels(), _kernels(seed=1)
    engine = bench.engine(_convolution(bench, old), IMAGES, config=REFITTABLE)
    session, x = bench.session(engine), floats(3, 2, 2, 2)
    assert {("conv", "KERNEL"), ("conv", "BIAS")} <= set(engine.weights().places)
    roles = {"KERNEL": new["kernel"], "BIAS": new["bias"]}
    for layers, words in (
        ({"conv": {**roles, "SCALE": new["bias"]}}, "layer 'conv' in the role 'SCALE'"),
        ({"conv": {**roles, "NOBODY": new["bias"]}}, "there is no such role: TensorRT has KERNEL"),
        ({"conv": roles, "other": {"KERNEL": new["kernel"]}}, "layer 'other' in the role 'KERNEL'"),
    ):
        with pytest.raises(RefitError, match=words):
            engine.refit({}, layers=layers)
        assert np.allclose(session.run({"x": x})["y"], _convolved(x, old), rtol=1e-5, atol=1e-5)
    engine.refit({}, layers={"conv": roles})
    assert np.allclose(session.run({"x": x})["y"], _convolved(x, new), rtol=1e-5, atol=1e-5)
    engine.refit({"kernel": old["kernel"]}, layers={"conv": {"BIAS": old["bias"]}})
    assert np.allclose(session.run({"x": x})["y"], _convolved(x, old), rtol=1e-5, atol=1e-5)


@check
def weights_that_hang_together_are_asked_for(bench: Bench) -> None:
    """A convolution and the normalization behind it are one thing by now; of that the parser has names of its own."""
    bench.need("run", "refit")
    rest = {"gamma": floats(2, seed=2), "beta": floats(2, seed=3), "mean": floats(2, seed=4)}
    rest["variance"] = np.abs(floats(2, seed=5)) + np.float32(0.5)
    old, new = _kernels() | rest, _kernels(seed=1) | rest
    engine = bench.engine(_convolution(bench, old, normalized=True), IMAGES, config=REFITTABLE)
    session, x = bench.session(engine), floats(3, 2, 2, 2)
    given = {name: new[name] for name in ("kernel", "bias")}
    asked = engine.weights(given)
    if not asked.missing:  # they were not made one thing, as 8.6 is known to do
        assert not bench.legacy
        return
    assert not {"gamma", "beta", "mean", "variance"} & set(asked.missing)
    assert set(asked.missing_places) == {("norm", "SCALE"), ("norm", "SHIFT")}
    with pytest.raises(RefitError, match=f"must be given, too: {asked.missing[0]}") as caught:
        engine.refit(given)
    assert caught.value.detail == {"missing": asked.missing, "missing_places": asked.missing_places}
    assert np.allclose(session.run({"x": x})["y"], _convolved(x, old), rtol=1e-4, atol=1e-5)
    scale = rest["gamma"] / np.sqrt(rest["variance"] + np.float32(1e-3))
    layers = {"norm": {"SCALE": scale, "SHIFT": rest["beta"] - rest["mean"] * scale}}
    assert engine.weights(given, layers=layers).missing == ()
    engine.refit(given, layers=layers)
    assert np.allclose(session.run({"x": x})["y"], _convolved(x, new), rtol=1e-4, atol=1e-5)


@check
def weights_come_by_stream_and_from_the_device(bench: Bench) -> None:
    bench.need("run", "refit")
    engine = bench.engine(_product(bench), RELU_RANGE, config=REFITTABLE)
    session, x = bench.session(engine), floats(3, 2)
    for seed, (how, capability) in enumerate((("async", "refit_async"), ("device", "refit_device"))):
        weight = floats(2, 2, seed=seed)
        if not bench.probe.has(capability):
            with pytest.raises(UnsupportedError, match=rf"{capability}: .* has no Refitter"):
                engine.refit({"w": weight}, how=how)
            continue
        engine.refit({"w": weight}, how=how)
        assert np.allclose(session.run({"x": x})["y"], x @ weight, rtol=1e-5, atol=1e-5)
        with pytest.raises(RefitError, match="weights 'w'"):
            engine.refit({"w": floats(3, 3)}, how=how)
        with pytest.raises(RefitError, match="weights 'w', complex64"):
            engine.refit({"w": weight.astype(np.complex64)}, how=how)
        assert np.allclose(session.run({"x": x})["y"], x @ weight, rtol=1e-5, atol=1e-5)


@check
def weights_come_from_a_file(bench: Bench) -> None:
    """Through the parser's refitter, which says itself what it does not take."""
    bench.need("run", "refit")
    engine = bench.engine(_product(bench), RELU_RANGE, config=REFITTABLE)
    session, x, weight = bench.session(engine), floats(3, 2), floats(2, 2)
    model = onnx.load(str(_product(bench)))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    other = bench.file("other.onnx", model.SerializeToString())
    if not bench.probe.has("parser_refit"):
        with pytest.raises(UnsupportedError, match=r"parser_refit: .* has no OnnxParserRefitter"):
            engine.refit_from(str(other))
        return
    engine.refit_from(str(other))
    assert np.allclose(session.run({"x": x})["y"], x @ weight, rtol=1e-5, atol=1e-5)
    del model.graph.initializer[0]
    bare = bench.file("bare.onnx", model.SerializeToString())
    for file, words in (
        (bench.file("text.onnx", b"not an ONNX file"), "MODEL_DESERIALIZE_FAILED"),
        (bench.folder / "absent.onnx", "MODEL_DESERIALIZE_FAILED"),
        (bare, "REFIT_FAILED"),
    ):
        with pytest.raises(RefitError, match=words) as caught:
            engine.refit_from(str(file))
        assert file.name in caught.value.message
        said(caught.value)
        assert np.allclose(session.run({"x": x})["y"], x @ weight, rtol=1e-5, atol=1e-5)


@check
def weights_that_are_marked_can_be_replaced_alone(bench: Bench) -> None:
    old, new = _kernels(), _kernels(seed=1)
    path, config = _convolution(bench, old), BuildConfig(tactic_sources=(), refittable=("bias",))
    if not bench.probe.has("refit_individual"):
        if bench.probe.has("build") and bench.probe.find("refit_individual").state is State.ABSENT:
            with pytest.raises(UnsupportedError, match="REFIT_INDIVIDUAL"):
                bench.build(path, IMAGES, config=config)
        bench.need("refit_individual")
    with pytest.raises(BuildError, match="weights 'nobody' can't be marked"):
        bench.build(path, IMAGES, config=BuildConfig(tactic_sources=(), refittable=("nobody",)))
    engine = bench.engine(path, IMAGES, config=config)
    session, x = bench.session(engine), floats(3, 2, 2, 2)
    assert engine.weights().names == ("bias",)
    with pytest.raises(RefitError, match="weights 'kernel'") as caught:
        engine.refit({"kernel": new["kernel"]})
    assert caught.value.detail == {"unknown": ("kernel",)}
    engine.refit({"bias": new["bias"]})
    assert np.allclose(session.run({"x": x})["y"], _convolved(x, old | {"bias": new["bias"]}), rtol=1e-5, atol=1e-5)


@check
def a_stripped_plan_asks_for_all_its_weights(bench: Bench) -> None:
    bench.need("run", "strip_plan")
    weights = {"kernel": floats(2, 2, 1, 1), "bias": floats(2)}
    path, x = _convolution(bench, weights), floats(3, 2, 2, 2)
    for flag in ("REFIT", "REFIT_IDENTICAL"):
        engine = bench.engine(path, IMAGES, config=BuildConfig(tactic_sources=(), flags=(flag, "STRIP_PLAN")))
        asked = engine.weights()
        assert set(asked.missing) == {"kernel", "bias"} == set(asked.names)
        with pytest.raises(RefitError, match="must be given, too: bias") as caught:
            engine.refit({"kernel": weights["kernel"]})
        assert caught.value.detail["missing"] == ("bias",)
        engine.refit(weights)
        assert engine.weights().missing == ()
        assert np.allclose(bench.session(engine).run({"x": x})["y"], _convolved(x, weights), rtol=1e-5, atol=1e-5)


@check
def weights_of_a_plan_without_refit_are_fixed(bench: Bench) -> None:
    bench.need("run", "refit")
    engine = bench.engine(_product(bench), RELU_RANGE)
    for ask in (engine.weights, engine.refit):
        with pytest.raises(RefitError, match=r"BuilderFlag\.REFIT"):
            ask({"w": floats(2, 2)})
    with pytest.raises(RefitError, match=r"BuilderFlag\.REFIT"):
        engine.refit_from(str(_product(bench)))


@check
def an_engine_is_written_and_read_again(bench: Bench) -> None:
    bench.need("run")
    engine = bench.engine(bench.relu(), RELU_RANGE)
    plan = engine.serialize()
    assert (plan.dtype, plan.ndim) == (np.uint8, 1)
    again = bench.backend.load(plan)
    bench.stack.callback(again.close)
    x = floats(3, 2)
    assert np.array_equal(bench.session(again).run({"x": x})["y"], np.maximum(x, 0))
    assert again.info.facts["profile_shapes"] == engine.info.facts["profile_shapes"]


@check
def what_lives_is_counted(bench: Bench) -> None:
    bench.need("run")
    before = bench.backend.residue()
    plan = bench.build(bench.relu(), RELU_RANGE).data

    def more() -> tuple[int, ...]:
        now = bench.backend.residue()
        counts = ("engines", "sessions", "buffers", "nbytes")
        return tuple(getattr(now, count) - getattr(before, count) for count in counts)

    engine = bench.backend.load(plan)
    assert more() == (1, 0, 0, 0)
    first, second = engine.session(), engine.session()
    assert more() == (1, 2, 0, 0)
    for rows in (4, 1, 4):
        first.run({"x": floats(rows, 2)})
        assert more() == (1, 2, 2, 64), "two tensors of four rows of two floats"
    first.move("y")
    with pytest.raises(RunError):
        first.run({"x": floats(5, 2)})
    assert more() == (1, 2, 2, 64)
    second.run({"x": floats(2, 2)})
    assert more() == (1, 2, 4, 96)
    first.close()
    first.close()  # again is nothing
    assert more() == (1, 1, 2, 32)
    second.close()
    assert more() == (1, 0, 0, 0)
    engine.close()
    assert more() == (0, 0, 0, 0)


@check
def what_is_taken_of_the_device_is_told(bench: Bench) -> None:
    """An input and an output of two MiB each, which the driver gives out whole."""
    bench.need("run")
    x = floats(1 << 18, 2)
    session = bench.session(bench.engine(bench.relu(), {"x": ((1, 2), (3, 2), x.shape)}))
    before = bench.backend.taken_memory()
    session.run({"x": x})
    assert bench.backend.taken_memory() - before >= 2 * x.nbytes


@check
def errors_that_were_told_are_not_left_over(bench: Bench) -> None:
    bench.need("run")
    bench.backend.residue()  # whatever building and probing left
    session = bench.session(bench.engine(bench.relu(), RELU_RANGE))
    bench.backend.residue()
    with pytest.raises(RunError):
        session.run({"x": floats(5, 2)})
    session.run({"x": floats(4, 2)})
    assert bench.backend.residue().errors == ()
