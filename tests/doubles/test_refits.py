"""The refitters of the doubles: what the versions list of them, and how each plays it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.doubles.double import state
from tests.doubles.test_plays import Play
from tests.doubles.test_plays import play as play

ROWS = np.array([[1, 2], [3, 4]], np.float32)
EYE, THREES = np.eye(2, dtype=np.float32), np.full((2, 2), 3, np.float32)


def product(**weights: Any) -> bytes:
    """``y = x @ w + b``."""
    held = {"w": EYE, "b": np.zeros(2, np.float32)} | weights
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Add", ["a", "b"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    tensors = [numpy_helper.from_array(array, name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "product", [x], [y], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def engine_of(play: Play, *flags: str, marked: tuple[str, ...] = ()) -> Any:
    network = play.parsed(product())
    for name in marked:
        assert network.mark_weights_refittable(name)
    config = play.builder.create_builder_config()
    for flag in flags or ("REFIT",):
        config.set_flag(play.trt.BuilderFlag.__members__[flag])
    return play.engine(play.plan(network, config))


def computed(engine: Any) -> Any:
    return state(engine).program.run({"x": ROWS})["y"]


def later(play: Play) -> None:
    if play.trt.__version__.startswith("8."):
        pytest.skip("8.6 lists none of this")


def test_places_and_names(play: Play) -> None:
    refitter = play.trt.Refitter(engine_of(play), play.logger)
    layers, roles = refitter.get_all()
    assert (layers, [role.name for role in roles]) == (["w", "b"], ["CONSTANT", "CONSTANT"])
    assert refitter.get_all_weights() == ["w", "b"]
    assert refitter.get_missing() == ([], [])
    assert refitter.get_missing_weights() == []


def test_a_place_that_there_is_not(play: Play) -> None:
    engine = engine_of(play)
    refitter, roles = play.trt.Refitter(engine, play.logger), play.trt.WeightsRole
    for layer, role in (("w", roles.KERNEL), ("nobody", roles.CONSTANT)):
        assert not refitter.set_weights(layer, role, play.trt.Weights(THREES))
        assert layer in play.errors[0]
    assert refitter.set_weights("w", roles.CONSTANT, play.trt.Weights(THREES))
    assert refitter.refit_cuda_engine()
    np.testing.assert_array_equal(computed(engine), ROWS @ THREES)


def test_sizes_count_when_they_are_set_or_for_8_when_it_refits(play: Play) -> None:
    engine = engine_of(play)
    refitter = play.trt.Refitter(engine, play.logger)
    old = play.trt.__version__.startswith("8.")
    assert refitter.set_named_weights("w", play.trt.Weights(np.zeros(3, np.float32))) == old
    assert bool(play.errors) != old
    assert refitter.refit_cuda_engine() != old
    assert any("newWeights.count() == original.count()" in error for error in play.errors) == old
    np.testing.assert_array_equal(computed(engine), ROWS)


def test_what_was_set_can_be_looked_at_and_taken_back(play: Play) -> None:
    later(play)
    engine = engine_of(play)
    refitter, trt = play.trt.Refitter(engine, play.logger), play.trt
    prototype = refitter.get_weights_prototype("w")
    assert (prototype.dtype, prototype.size) == (trt.DataType.FLOAT, 4)
    assert refitter.get_weights_prototype("nobody").size == 0
    assert not refitter.set_named_weights("w", trt.Weights(np.zeros((2, 2), np.float16)))
    assert "type of weights w" in play.errors[0]
    assert refitter.get_named_weights("w").size == 0
    assert refitter.set_named_weights("w", trt.Weights(THREES))
    assert refitter.get_weights_location("w") == trt.TensorLocation.HOST
    np.testing.assert_array_equal(refitter.get_named_weights("w").numpy(), THREES)
    assert refitter.unset_named_weights("w")
    assert not refitter.unset_named_weights("w")
    assert refitter.refit_cuda_engine()
    np.testing.assert_array_equal(computed(engine), ROWS)
    assert refitter.weights_validation
    refitter.weights_validation = False
    if hasattr(refitter, "release_refit_resources"):
        assert refitter.release_refit_resources()


def test_memory_of_the_host_and_of_the_device(play: Play) -> None:
    later(play)
    engine, trt, cuda = engine_of(play), play.trt, play.stage.cuda
    refitter = trt.Refitter(engine, play.logger)
    lent = THREES.copy()
    weights = trt.Weights(trt.DataType.FLOAT, lent.ctypes.data, 4)
    assert (len(weights), weights.nbytes) == (4, 16)
    assert refitter.set_named_weights("w", weights, trt.TensorLocation.HOST)
    lent[...] = 2  # what counts is what lies there when it refits
    assert refitter.refit_cuda_engine()
    np.testing.assert_array_equal(computed(engine), ROWS @ lent)
    _, address = cuda.cudaMalloc(16)
    cuda.device_array(address, np.dtype(np.float32), (2, 2))[...] = THREES
    assert refitter.set_named_weights("w", trt.Weights(trt.DataType.FLOAT, address, 4), trt.TensorLocation.DEVICE)
    assert refitter.get_weights_location("w") == trt.TensorLocation.DEVICE
    assert refitter.refit_cuda_engine()
    np.testing.assert_array_equal(computed(engine), ROWS @ THREES)
    cuda.cudaFree(address)


def test_by_stream(play: Play) -> None:
    later(play)
    engine, cuda = engine_of(play), play.stage.cuda
    refitter = play.trt.Refitter(engine, play.logger)
    _, stream = cuda.cudaStreamCreate()
    refitter.set_named_weights("w", play.trt.Weights(THREES))
    assert refitter.refit_cuda_engine_async(int(stream))
    np.testing.assert_array_equal(computed(engine), ROWS, "not yet")
    cuda.cudaStreamSynchronize(stream)
    np.testing.assert_array_equal(computed(engine), ROWS @ THREES)
    cuda.cudaStreamDestroy(stream)


def test_a_parser_brings_all(play: Play, tmp_path: Path) -> None:
    later(play)
    engine, trt = engine_of(play), play.trt
    refitter = trt.Refitter(engine, play.logger)
    parser = trt.OnnxParserRefitter(refitter, play.logger)
    assert parser.refit_from_bytes(product(w=THREES))
    assert refitter.refit_cuda_engine()
    np.testing.assert_array_equal(computed(engine), ROWS @ THREES)
    path = tmp_path / "ones.onnx"
    path.write_bytes(product(b=np.ones(2, np.float32)))
    assert parser.refit_from_file(str(path))
    assert refitter.refit_cuda_engine()
    np.testing.assert_array_equal(computed(engine), ROWS + 1)
    assert parser.load_model_proto(product())
    twos = np.full((2, 2), 2, np.float32)
    assert parser.load_initializer("w", twos.ctypes.data, twos.nbytes)
    assert not parser.load_initializer("nobody", twos.ctypes.data, twos.nbytes)
    assert parser.refit_model_proto()
    assert refitter.refit_cuda_engine()
    np.testing.assert_array_equal(computed(engine), ROWS @ twos)
    assert parser.num_errors == 0
    bare = onnx.ModelProto.FromString(product())
    del bare.graph.initializer[1]
    assert not parser.refit_from_bytes(bare.SerializeToString())
    assert parser.get_error(0).code() == trt.ErrorCode.REFIT_FAILED
    assert "1 weights out of 2" in parser.get_error(0).desc()
    parser.clear_errors()
    assert not parser.refit_from_bytes(b"no model at all")
    assert not parser.refit_from_file(str(tmp_path / "absent.onnx"))
    assert parser.num_errors == 2
    assert not trt.OnnxParserRefitter(refitter, play.logger).refit_model_proto()


def test_only_what_is_marked(play: Play) -> None:
    later(play)
    refitter = play.trt.Refitter(engine_of(play, "REFIT_INDIVIDUAL", marked=("b",)), play.logger)
    assert refitter.get_all_weights() == ["b"]
    assert not refitter.set_named_weights("w", play.trt.Weights(THREES))
    network = play.parsed(product())
    assert not network.mark_weights_refittable("nobody")
    assert network.mark_weights_refittable("w")
    assert network.are_weights_marked_refittable("w")
    assert network.unmark_weights_refittable("w")
    assert not network.are_weights_marked_refittable("w")


def test_a_stripped_plan_has_no_numbers(play: Play) -> None:
    later(play)
    engine = engine_of(play, "REFIT", "STRIP_PLAN")
    assert np.isnan(computed(engine)).all()
    refitter = play.trt.Refitter(engine, play.logger)
    assert refitter.get_missing_weights() == ["w", "b"]
    refitter.set_named_weights("w", play.trt.Weights(THREES))
    assert not refitter.refit_cuda_engine()
    assert "missing 1 needed weights" in play.errors[-1]
    refitter.set_named_weights("b", play.trt.Weights(np.zeros(2, np.float32)))
    assert refitter.refit_cuda_engine()
    np.testing.assert_array_equal(computed(engine), ROWS @ THREES)
    assert play.trt.Refitter(engine, play.logger).get_missing_weights() == []


def test_a_type_that_tensorrt_has_not(play: Play) -> None:
    with pytest.raises(TypeError, match="Could not implicitly convert NumPy data type: complex64"):
        play.trt.Weights(np.zeros(2, np.complex64))
