"""The doubles play the traps of the versions that they stand for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx.parser
import pytest
from onnx import TensorProto, helper

from tests.contract.subjects import Crashed, crash
from tests.doubles.install import Stage, installed
from tests.doubles.module import versions


@dataclasses.dataclass
class Play:
    """A double with what most of these tests begin with."""

    stage: Stage
    trt: Any
    logger: Any
    builder: Any

    @property
    def errors(self) -> list[str]:
        """What the logger heard of errors, since the last time it was asked."""
        found = [message for severity, message in self.logger.heard if severity == "ERROR"]
        self.logger.heard.clear()
        return found

    def network(self) -> Any:
        """A network that the ONNX parser takes."""
        flags = self.trt.NetworkDefinitionCreationFlag.__members__
        needed = hasattr(self.trt.Builder, "max_batch_size")
        return self.builder.create_network(1 << int(flags["EXPLICIT_BATCH"]) if needed else 0)

    def parsed(self, model: bytes) -> Any:
        network = self.network()
        assert self.trt.OnnxParser(network, self.logger).parse(model), self.errors
        return network

    def plan(self, network: Any, config: Any = None) -> Any:
        config = config or self.builder.create_builder_config()
        if any(-1 in tuple(network.get_input(i).shape) for i in range(network.num_inputs)):
            profile = self.builder.create_optimization_profile()
            profile.set_shape("x", (1, 2), (2, 2), (4, 2))
            config.add_optimization_profile(profile)
        return self.builder.build_serialized_network(network, config)

    def engine(self, plan: Any) -> Any:
        return self.trt.Runtime(self.logger).deserialize_cuda_engine(plan)


@pytest.fixture(params=versions())
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    with installed(request.param) as stage:
        trt: Any = stage.trt.module

        class Listener(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.heard: list[tuple[str, str]] = []

            def log(self, severity: Any, msg: str) -> None:
                self.heard.append((severity.name, msg))

        logger = Listener()
        stage.trt.world.crash = crash
        yield Play(stage, trt, logger, trt.Builder(logger))
        assert stage.refusals == []


def relu(kind: int = TensorProto.FLOAT) -> bytes:
    """``y = Relu(x)``, x [n, 2]."""
    node = helper.make_node("Relu", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, kind, ["n", 2]) for name in "xy")
    graph = helper.make_graph([node], "relu", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def test_parser_wants_an_explicit_batch_where_there_is_another(play: Play) -> None:
    network = play.builder.create_network(0)
    parser = play.trt.OnnxParser(network, play.logger)
    if hasattr(play.trt.Builder, "max_batch_size"):
        assert not parser.parse(relu())
        assert "EXPLICIT_BATCH" in parser.get_error(0).desc()
    else:
        assert parser.parse(relu())


def test_nothing_is_parsed_into_nothing(play: Play) -> None:
    network = play.network()
    parser = play.trt.OnnxParser(network, play.logger)
    assert parser.parse(b"")
    assert (network.num_layers, network.num_outputs, parser.num_errors) == (0, 0, 0)


def test_parsing_twice_fails_without_an_error_of_the_parser(play: Play) -> None:
    parser = play.trt.OnnxParser(play.network(), play.logger)
    assert parser.parse(relu())
    assert not parser.parse(relu())
    assert parser.num_errors == 0
    assert "non-empty network" in play.errors[0]


def test_supported_operators_are_not_all_supported(play: Play) -> None:
    parser = play.trt.OnnxParser(play.network(), play.logger)
    assert parser.supports_operator("Relu")
    assert not parser.supports_operator("Unique")
    assert parser.supports_operator("Det"), "which it then refuses"


def test_types_as_the_version_binds_them(play: Play) -> None:
    has_int64 = "INT64" in play.trt.DataType.__members__
    for kind, name in (
        (TensorProto.INT64, "INT64" if has_int64 else "INT32"),
        (TensorProto.DOUBLE, "FLOAT"),
        (TensorProto.FLOAT16, "HALF"),
    ):
        assert play.parsed(relu(kind)).get_input(0).dtype.name == name


def test_plans_are_never_the_same_twice(play: Play) -> None:
    network = play.parsed(relu())
    assert bytes(play.plan(network)) != bytes(play.plan(network))


def test_damaged_plans(play: Play) -> None:
    good = bytes(play.plan(play.parsed(relu())))
    flipped = bytearray(good)
    flipped[-1] ^= 1
    assert play.engine(bytes(flipped)) is not None, "nobody notices"
    for bad in (b"", good[:-1], b"x" + good[1:]):
        assert play.engine(bad) is None
        assert "Error Code 1" in play.errors[0]


def test_builder_returns_none_and_says_why(play: Play) -> None:
    assert play.plan(play.network()) is None
    assert "at least one output" in play.errors[0]


def test_flags_and_types_that_do_not_go_together(play: Play) -> None:
    flags = play.trt.BuilderFlag.__members__
    network = play.parsed(relu(TensorProto.FLOAT16))
    config = play.builder.create_builder_config()
    if "FP16" not in flags:
        assert play.plan(network) is not None, "types are meant"
        return
    assert play.plan(network) is None
    assert "fp16 is not configured" in play.errors[0]
    config.set_flag(flags["FP16"])
    assert play.plan(network, config) is not None
    strong = play.trt.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    if strong is not None:
        network = play.builder.create_network(1 << int(strong))
        assert play.trt.OnnxParser(network, play.logger).parse(relu())
        assert play.plan(network, config) is None
        assert "kSTRONGLY_TYPED" in play.errors[0]


def test_options_are_bent_without_a_word(play: Play) -> None:
    config = play.builder.create_builder_config()
    config.builder_optimization_level = 9
    assert config.builder_optimization_level == 5
    assert config.get_flag(play.trt.BuilderFlag.TF32), "on by default"
    assert play.errors == []


def test_profiles_are_shared_where_that_was_asked_for(play: Play) -> None:
    feature = play.trt.PreviewFeature.__members__.get("PROFILE_SHARING_0806")
    config = play.builder.create_builder_config()
    asked = play.builder.create_builder_config()
    if feature is not None:
        asked.set_preview_feature(feature, True)
    for options, may in ((asked, True), (config, not hasattr(play.trt.Builder, "max_batch_size"))):
        engine = play.engine(play.plan(play.parsed(relu()), options))
        first, second = engine.create_execution_context(), engine.create_execution_context()
        assert first.active_optimization_profile == 0
        assert second.set_optimization_profile_async(0, 0) == may
        assert bool(play.errors) == (not may)
        del first
        assert second.set_optimization_profile_async(0, 0), "it is free again"


def test_enqueue_says_false_for_what_is_missing(play: Play) -> None:
    cuda = play.stage.cuda
    context = play.engine(play.plan(play.parsed(relu()))).create_execution_context()
    _, stream = cuda.cudaStreamCreate()
    (_, x), (_, y) = cuda.cudaMalloc(32), cuda.cudaMalloc(32)
    words = ("shape of input x", "not set for input tensor x", "is set for output tensor y")
    if play.trt.__version__.startswith("8."):  # which names none
        words = ("allInputDimensionsSpecified", "profileObliviousIndex)) != nullptr", "getPtrOrNull(mOutputAllocators")
    steps: tuple[Callable[[], Any], ...] = (
        lambda: context.set_input_shape("x", (2, 2)),
        lambda: context.set_tensor_address("x", x),
        lambda: context.set_tensor_address("y", y),
    )
    for missing, supply in zip(words, steps, strict=True):
        assert context.execute_async_v3(int(stream)) is False
        assert missing in play.errors[0]
        assert supply()
    assert context.execute_async_v3(int(stream)) is True
    assert play.errors == []


def test_inferring_shapes_that_contradict_raises(play: Play) -> None:
    node = helper.make_node("Add", ["x", "z"], ["y"])
    x, z, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"n{name}", 2]) for name in "xzy")
    graph = helper.make_graph([node], "add", [x, z], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    config = play.builder.create_builder_config()
    profile = play.builder.create_optimization_profile()
    for name in "xz":
        profile.set_shape(name, (1, 2), (2, 2), (4, 2))
    config.add_optimization_profile(profile)
    plan = play.builder.build_serialized_network(play.parsed(model.SerializeToString()), config)
    context = play.engine(plan).create_execution_context()
    assert context.infer_shapes() == ["x", "z"]
    context.set_input_shape("x", (2, 2))
    context.set_input_shape("z", (3, 2))
    with pytest.raises(Crashed if play.trt.__version__.startswith("8.") else RuntimeError):
        context.infer_shapes()
    assert play.errors


def test_a_shape_of_another_profile_is_refused_late_on_8(play: Play) -> None:
    """As seen on 8.6: what any profile admits can be set, and the enqueue refuses it."""
    if not play.trt.__version__.startswith("8."):
        pytest.skip("only seen on 8.6")
    config = play.builder.create_builder_config()
    for low in (1, 8):
        profile = play.builder.create_optimization_profile()
        profile.set_shape("x", (low, 2), (low, 2), (low + 3, 2))
        config.add_optimization_profile(profile)
    plan = play.builder.build_serialized_network(play.parsed(relu()), config)
    context = play.engine(plan).create_execution_context()
    assert not context.set_input_shape("x", (5, 2))
    assert context.set_input_shape("x", (8, 2))
    assert tuple(context.get_tensor_shape("y")) == (8, 2)
    context.set_tensor_address("x", 1)
    context.set_tensor_address("y", 1)
    assert not context.execute_async_v3(0)
    assert any("exceed min ~ max range" in message for message in play.errors)
    with pytest.raises(Crashed):
        context.infer_shapes()


def test_a_profile_that_there_is_not_ends_8(play: Play) -> None:
    context = play.engine(play.plan(play.parsed(relu()))).create_execution_context()
    for profile in (1, -1):
        if play.trt.__version__.startswith("8."):
            with pytest.raises(Crashed):
                context.set_optimization_profile_async(profile, 0)
        else:
            assert not context.set_optimization_profile_async(profile, 0)
        assert "profileIndex < mEngine.getNbOptimizationProfiles()" in play.errors[-1]


BUILT_WITHOUT_REFIT = {  # by 8.6
    "nms": """nms (float[1, 4, 4] boxes, float[1, 1, 4] scores) => (int64[kept, 3] y)
              { y = NonMaxSuppression (boxes, scores) }""",
    "counted": """counted (float[2] x, int64[1] steps) => (float[2] y)
              { y = Loop <body = step (int64 i, bool going, float[2] a) => (bool on, float[2] b)
                { on = Identity (going)  b = Neg (a) }> (steps, , x) }""",
    "plain": "plain (float[2] x) => (float[2] y) { y = Relu (x) }",
}


@pytest.mark.parametrize("name", BUILT_WITHOUT_REFIT)
def test_what_8_builds_without_refit_alone(play: Play, name: str) -> None:
    text = f'<ir_version: 8, opset_import: ["": 17]> {BUILT_WITHOUT_REFIT[name]}'
    network = play.parsed(onnx.parser.parse_model(text).SerializeToString())
    for flags in ((), ("REFIT",)):
        config = play.builder.create_builder_config()
        for flag in flags:
            config.set_flag(play.trt.BuilderFlag.__members__[flag])
        refused = bool(flags) and name != "plain" and play.trt.__version__.startswith("8.")
        assert (play.plan(network, config) is None) == refused
        assert any("Assertion" in error for error in play.errors) == refused


def test_a_monitor_can_stop_a_build(play: Play) -> None:
    if not hasattr(play.trt, "IProgressMonitor"):
        pytest.skip("this version has no progress monitor")
    trt: Any = play.trt

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self, patience: int) -> None:
            trt.IProgressMonitor.__init__(self)
            self.patience, self.open = patience, 0

        def phase_start(self, _phase_name: str, _parent_phase: str | None, _num_steps: int) -> None:
            self.open += 1

        def step_complete(self, _phase_name: str, _step: int) -> bool:
            self.patience -= 1
            return self.patience > 0

        def phase_finish(self, _phase_name: str) -> None:
            self.open -= 1

    for patience, stopped in ((100, False), (2, True)):
        config = play.builder.create_builder_config()
        config.progress_monitor = monitor = Monitor(patience)
        assert (play.plan(play.parsed(relu()), config) is None) == stopped
        assert bool(monitor.open) == stopped
    assert "BuildCanceled" in play.errors[0]


def test_networks_made_by_hand_compute(play: Play) -> None:
    trt, network = play.trt, play.network()
    x = network.add_input("x", trt.float32, (-1, 2))
    weights = np.array([[1, 2], [3, 4]], np.float32)
    w = network.add_constant((2, 2), weights).get_output(0)
    product = network.add_matrix_multiply(x, trt.MatrixOperation.NONE, w, trt.MatrixOperation.TRANSPOSE)
    total = network.add_elementwise(product.get_output(0), x, trt.ElementWiseOperation.SUM).get_output(0)
    positive = network.add_activation(total, trt.ActivationType.RELU).get_output(0)
    positive.name = "y"
    network.mark_output(positive)
    types = [network[i].type for i in range(len(network))]
    assert [kind.name for kind in types] == ["CONSTANT", "MATRIX_MULTIPLY", "ELEMENTWISE", "RELU"]
    assert types[-1] == trt.ActivationType.RELU, "that class has a `type` of its own"
    cuda, context = play.stage.cuda, play.engine(play.plan(network)).create_execution_context()
    _, stream = cuda.cudaStreamCreate()
    (_, source), (_, target) = cuda.cudaMalloc(24), cuda.cudaMalloc(24)
    given = np.array([[1, -1], [2, -5], [0, 3]], np.float32)
    cuda.device_array(source, given.dtype, given.shape)[...] = given
    assert context.set_input_shape("x", given.shape)
    assert tuple(context.get_tensor_shape("y")) == (3, 2)
    assert context.set_tensor_address("x", source)
    assert context.set_tensor_address("y", target)
    assert context.execute_async_v3(int(stream))
    cuda.flush(int(stream))
    got = cuda.device_array(target, given.dtype, given.shape)
    assert np.array_equal(got, np.maximum(given @ weights.T + given, 0))


def test_inspector_words_it_as_the_version_does(play: Play) -> None:
    engine = play.engine(play.plan(play.parsed(relu())))
    told = engine.create_engine_inspector().get_engine_information(play.trt.LayerInformationFormat.JSON)
    assert ("I/O Tensors" in told) == ("FP16" not in play.trt.BuilderFlag.__members__)
    assert ("Bindings" in told) != ("I/O Tensors" in told)


def test_inspector_tells_as_much_as_was_asked_for(play: Play) -> None:
    layers = {}
    for verbosity in ("NONE", "LAYER_NAMES_ONLY", "DETAILED"):
        config = play.builder.create_builder_config()
        config.profiling_verbosity = play.trt.ProfilingVerbosity.__members__[verbosity]
        engine = play.engine(play.plan(play.parsed(relu()), config))
        told = engine.create_engine_inspector().get_engine_information(play.trt.LayerInformationFormat.JSON)
        layers[verbosity] = json.loads(told, strict=False)["Layers"]
    assert layers["NONE"] == []
    assert layers["LAYER_NAMES_ONLY"] == ["y"]
    (layer,) = layers["DETAILED"]
    modern = "FP16" not in play.trt.BuilderFlag.__members__
    assert set(layer["Inputs"][0]) == {"Name", "Location", "Dimensions"} | (
        {"Format", "DataType"} if modern else {"Format/Datatype"}
    )


def test_inspector_needs_a_context_with_all_shapes_to_tell_of_them(play: Play) -> None:
    config = play.builder.create_builder_config()
    config.profiling_verbosity = play.trt.ProfilingVerbosity.DETAILED
    engine = play.engine(play.plan(play.parsed(relu()), config))
    inspector, context = engine.create_engine_inspector(), engine.create_execution_context()

    def told() -> Any:
        text = inspector.get_engine_information(play.trt.LayerInformationFormat.JSON)
        return json.loads(text, strict=False)["Layers"][0]["Outputs"][0]

    assert told()["Dimensions"] == [-1, 2]
    assert "N/A due to dynamic shapes" in told().values()
    inspector.execution_context = context
    assert told()["Dimensions"] == [-1, 2], "it was told nothing yet"
    assert context.set_input_shape("x", (3, 2))
    if play.stage.trt.world.legacy:
        assert told()["Dimensions"] == [-1, 2], "it has not run"
        (_, memory), (_, stream) = play.stage.cuda.cudaMalloc(24), play.stage.cuda.cudaStreamCreate()
        assert context.set_tensor_address("x", memory)
        assert context.set_tensor_address("y", memory)
        assert context.execute_async_v3(int(stream))
        play.stage.cuda.cudaStreamSynchronize(stream)
    assert told()["Dimensions"] == [3, 2]
    assert "N/A due to dynamic shapes" not in told().values()


def test_plan_says_whether_it_is_valid_where_it_can_be_asked(play: Play) -> None:
    runtime = play.trt.Runtime(play.logger)
    if not hasattr(runtime, "get_engine_validity"):
        pytest.skip("this version can't be asked")
    plan = bytes(play.plan(play.parsed(relu())))
    assert [runtime.get_engine_validity(data)[1] for data in (plan, b"x" * 64, b"")] == [0, 32, 32]
