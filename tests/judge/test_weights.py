"""Weights drawn anew: which may be, that they differ from the old ones, and that the model stays what it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.judge.stored import stored
from harness.judge.weights import SPREAD, initializers, revalued, reweighted, weights
from harness.spec import ModelSpec, OnnxFile


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    """``y = reshape(x @ w * scale + bias, shape) / divisor``, with an output that is a weight, too."""
    random = np.random.default_rng(0)
    constants = {
        "w": random.standard_normal((4, 6)).astype(np.float32),
        "bias": random.standard_normal(6).astype(np.float32),
        "scale": np.full((1,), 0.125, np.float32),  # one value everywhere: of the algorithm
        "shape": np.array([-1, 3], np.int64),
        "divisor": np.array([1.5, 2.0, 3.0], np.float32),  # where zero must not stand
        "shown": random.standard_normal(3).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Mul", ["product", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["sum"]),
        helper.make_node("Reshape", ["sum", "shape"], ["split"]),
        helper.make_node("Add", ["split", "shown"], ["shifted"]),
        helper.make_node("Div", ["shifted", "divisor"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "shown")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return ModelSpec("m", OnnxFile(path))


def test_only_floats_that_are_weights_and_nothing_else(model: ModelSpec) -> None:
    assert weights(model) == ("w", "bias")


def test_a_constant_used_in_another_way_as_well_is_none(model: ModelSpec) -> None:
    proto = onnx.load(str(model.source.path()))
    proto.graph.node.append(helper.make_node("Div", ["x", "w"], ["z"]))
    onnx.save(proto, str(model.source.path()))
    assert weights(model) == ("bias",)


def test_neither_whole_numbers_nor_what_nobody_uses(model: ModelSpec) -> None:
    proto = onnx.load(str(model.source.path()))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 3], np.int64), "whole"))
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 3], np.float32), "idle"))
    proto.graph.input.append(helper.make_tensor_value_info("n", TensorProto.INT64, [3]))
    proto.graph.node.append(helper.make_node("Add", ["n", "whole"], ["z"]))
    onnx.save(proto, str(model.source.path()))
    assert weights(model) == ("w", "bias")


def test_weights_that_are_alike_become_unlike(model: ModelSpec) -> None:
    """Or two that are swapped would give the same results."""
    proto = onnx.load(str(model.source.path()))
    (bias,) = (tensor for tensor in proto.graph.initializer if tensor.name == "bias")
    proto.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(bias), "again"))
    proto.graph.node.insert(3, helper.make_node("Add", ["sum", "again"], ["more"]))
    proto.graph.node[4].input[0] = "more"
    onnx.save(proto, str(model.source.path()))
    new = initializers(reweighted(model, ["bias", "again"], 1).source.path())
    assert not np.array_equal(new["bias"], new["again"])


def test_of_another_model_of_that_name_the_weights_are_others(model: ModelSpec, tmp_path: Path) -> None:
    proto = onnx.load(str(model.source.path()))
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.eye(4, 6, dtype=np.float32), "w"))
    path = tmp_path / "later.onnx"
    onnx.save(proto, str(path))
    later = replace(model, source=OnnxFile(path))
    assert reweighted(model, ["bias"], 1).source.path() != reweighted(later, ["bias"], 1).source.path()
    np.testing.assert_array_equal(initializers(reweighted(later, ["bias"], 1).source.path())["w"], np.eye(4, 6))


def test_what_was_right_for_the_old_weights_is_forgotten(model: ModelSpec, tmp_path: Path) -> None:
    known = replace(model, data=tmp_path / "in.npz", golden=(tmp_path / "in.npz", tmp_path / "out.npz"))
    assert reweighted(known, ["w"], 1).golden is None


def test_new_numbers_of_the_old_kind(model: ModelSpec) -> None:
    old, new = initializers(model.source.path()), initializers(reweighted(model, ["w"], 1).source.path())
    assert [name for name in old if not np.array_equal(old[name], new[name])] == ["w"]
    assert (new["w"].dtype, new["w"].shape) == (old["w"].dtype, old["w"].shape)
    assert np.mean(new["w"] != old["w"]) > 0.9
    ratios = np.sort(np.abs(new["w"]), None) / np.sort(np.abs(old["w"]), None)
    assert ratios.min() > (1 - SPREAD) ** 2
    assert ratios.max() < (1 + SPREAD) ** 2
    assert np.count_nonzero(new["w"] > 0) == np.count_nonzero(old["w"] > 0)


def test_the_same_for_the_same_seed_alone(model: ModelSpec) -> None:
    first, again, second = (reweighted(model, ["w", "bias"], seed) for seed in (1, 1, 2))
    assert first.source.path() == again.source.path()
    assert first.source.digest() != second.source.digest()
    assert first.source.digest() != reweighted(model, ["w"], 1).source.digest()


def test_models_of_the_zoo_have_some() -> None:
    from harness.spec.catalog import load

    zoo = load(())
    assert {name: len(weights(zoo[name])) for name in ("mlp", "conv", "bert")} == {"mlp": 10, "conv": 8, "bert": 37}


def test_other_values_in_constants_too(model: ModelSpec) -> None:
    proto = onnx.load(str(model.source.path()))
    tensor = numpy_helper.from_array(np.array([0.5], np.float32))
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["half"], value=tensor))
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["words"], value_string=b"no number"))
    onnx.save(proto, str(model.source.path()))
    new = {"bias": np.arange(6.0), "half": np.array([4.0], np.float32)}
    assert revalued(model, {"words": np.zeros(1, np.float32)}).source.path().is_file(), "it is left as it is"
    changed = revalued(model, new)
    assert changed.source.path() == revalued(model, dict(reversed(new.items()))).source.path()
    assert changed.source.digest() != revalued(model, {"bias": new["bias"] + 1}).source.digest()
    old, found = stored(model.source.path()).names, stored(changed.source.path()).names
    assert found["bias"].dtype == np.float32, "the type of the file"
    np.testing.assert_array_equal(found["bias"], new["bias"])
    np.testing.assert_array_equal(found["half"], new["half"])
    assert found.keys() == old.keys()
    assert all(np.array_equal(found[name], old[name]) for name in old if name not in new)
