"""What parsers store of a model's constants: names, places, and what they compute of a normalization."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from harness.judge.stored import Stored, stored

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
net (float[n, 2, 4, 4] x, bool flag) => (float[n, 2, 4, 4] y)
<float[2, 2, 1, 1] kernel = {1, 2, 3, 4}, float[2] bias = {5, 6}, float[2] gamma = {1, 2}, float[2] beta = {3, 4},
 float[2] mean = {0.5, 1}, float[2] variance = {3, 8}, float[2, 2, 1, 1] up = {1, 0, 0, 1}, int64[1] axis = {1}>
{
    a = Conv (x, kernel, bias)
    b = BatchNormalization <epsilon = 1.0> (a, gamma, beta, mean, variance)
    c = BatchNormalization (b, gamma, beta, mean, variance)
    d = ConvTranspose (c, up)
    two = Constant <value_float = 2.0> ()
    e = Mul (d, two)
    y = If (flag) <
        then_branch = yes () => (float[n, 2, 4, 4] z) <float[1] inner = {7}> { z = Mul (e, inner) },
        else_branch = no () => (float[n, 2, 4, 4] z) { half = Constant <value = float {0.5}> ()  z = Mul (e, half) }
    >
}
"""


@pytest.fixture
def found(tmp_path: Path) -> Stored:
    model = onnx.parser.parse_model(MODEL)
    for node, name in zip(model.graph.node, ("conv", "first", "second"), strict=False):
        node.name = name
    path = tmp_path / "m.onnx"
    onnx.save(model, str(path))
    return stored(path)


def test_constants_keep_their_names_in_subgraphs_too(found: Stored) -> None:
    initializers = {"kernel", "bias", "gamma", "beta", "mean", "variance", "up", "axis", "inner"}
    assert found.names.keys() == initializers | {"two", "half"}
    assert found.names["two"].tolist() == 2
    assert found.names["half"].tolist() == 0.5
    assert found.places["inner", "CONSTANT"].tolist() == [7]
    assert found.named["inner", "CONSTANT"] == "inner"


def test_convolutions_hold_theirs(found: Stored) -> None:
    """A node without a name is called by its output."""
    for place, name in ((("conv", "KERNEL"), "kernel"), (("conv", "BIAS"), "bias"), (("node_of_d", "KERNEL"), "up")):
        assert found.named[place] == name
        assert found.places[place] is found.names[name]
    assert ("node_of_d", "BIAS") not in found.places


def test_what_is_computed_is_not_stored(tmp_path: Path) -> None:
    """A kernel or a scale that an input, or another node, gives."""
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["": 17]>
        net (float[n, 2, 4, 4] x, float[2, 2, 1, 1] k, float[2] s) => (float[n, 2, 4, 4] y)
        <float[2] bias = {5, 6}, float[2] mean = {0, 1}, float[2] variance = {3, 8}>
        {
            a = Conv (x, k, bias)
            y = BatchNormalization (a, s, bias, mean, variance)
            words = Constant <value_string = "none"> ()
        }
        """
    )
    path = tmp_path / "m.onnx"
    onnx.save(model, str(path))
    found = stored(path)
    assert found.names.keys() == {"bias", "mean", "variance"}
    assert [place for place in found.places if place[1] != "CONSTANT"] == [("node_of_a", "BIAS")]


def test_a_normalization_is_a_scale_and_a_shift(found: Stored) -> None:
    """With its own epsilon, or the one that ONNX says; in float32, and without a name."""
    assert found.places["first", "SCALE"].tolist() == [0.5, np.float32(2) / np.float32(3)]
    np.testing.assert_allclose(found.places["first", "SHIFT"], [3 - 0.25, 4 - 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(found.places["second", "SCALE"], [1, 2] / np.sqrt(np.array([3, 8]) + 1e-5), rtol=1e-6)
    assert {found.places[place, role].dtype for place in ("first", "second") for role in ("SCALE", "SHIFT")} == {
        np.dtype(np.float32)
    }
    assert not [place for place in found.named if place[0] in ("first", "second")]


def test_other_values(found: Stored) -> None:
    new = np.ones((2, 2, 1, 1), np.float32)
    other = found.with_names({"kernel": new})
    assert other.names["kernel"] is other.places["conv", "KERNEL"] is other.places["kernel", "CONSTANT"] is new
    assert other.names["bias"] is found.names["bias"]
    assert found.names["kernel"] is not new
    shift = np.zeros(2, np.float32)
    other = found.with_places({("first", "SHIFT"): shift})
    assert other.places["first", "SHIFT"] is shift
    assert other.places["first", "SCALE"] is found.places["first", "SCALE"]
    assert other.names is found.names


def test_names_that_the_file_does_not_tell(found: Stored) -> None:
    other = found.called({("first", "SCALE"): "tmp_weight"})
    assert other.names["tmp_weight"] is found.places["first", "SCALE"]
    assert "tmp_weight" not in found.names
    new = np.ones(2, np.float32)
    assert other.with_names({"tmp_weight": new}).places["first", "SCALE"] is new
