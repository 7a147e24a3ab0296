"""Weights drawn anew: which may be, that they differ from the old ones, and that the model stays what it was."""

from __future__ import annotations

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
    onnx.save(proto, str(model.source.path()))
    new = {"bias": np.arange(6.0), "half": np.array([4.0], np.float32)}
    changed = revalued(model, new)
    assert changed.source.path() == revalued(model, dict(reversed(new.items()))).source.path()
    assert changed.source.digest() != revalued(model, {"bias": new["bias"] + 1}).source.digest()
    old, found = stored(model.source.path()).names, stored(changed.source.path()).names
    assert found["bias"].dtype == np.float32, "the type of the file"
    np.testing.assert_array_equal(found["bias"], new["bias"])
    np.testing.assert_array_equal(found["half"], new["half"])
    assert found.keys() == old.keys()
    assert all(np.array_equal(found[name], old[name]) for name in old if name not in new)
