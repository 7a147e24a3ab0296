"""A value on the edge between two steps of a Q/DQ grid may take either; nothing else may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.judge.compare import NUDGED, Failure, OutputComparison, compare
from harness.judge.edges import SIZES, pushes, rounded
from harness.judge.graph import flow
from harness.judge.oracle import NUDGES, Oracle
from harness.spec import ModelSpec
from tests.judge.graphs import graph, node, spec, value, weight

pytestmark = pytest.mark.usefixtures("exports")


def grid(folder: Path) -> ModelSpec:
    """Whole numbers, by Q/DQ."""
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    constants = [weight("scale", np.float32(1)), weight("zero", np.int8(0))]
    return spec(folder, graph(nodes, [value("x", ["n"])], [value("y", ["n"])], constants))


def halved(folder: Path) -> ModelSpec:
    """Whole numbers, by Q/DQ, and the halves of those rounded to whole ones: nothing but integers lies between."""
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["whole"]),
        node("Mul", ["whole", "half"], ["halves"]),
        node("QuantizeLinear", ["halves", "scale", "zero"], ["r"]),
        node("DequantizeLinear", ["r", "scale", "zero"], ["y"]),
    ]
    constants = [weight("scale", np.float32(1)), weight("zero", np.int8(0)), weight("half", np.float32(0.5))]
    return spec(folder, graph(nodes, [value("x", ["n"])], [value("y", ["n"])], constants))


def judged(oracle: Oracle, model: ModelSpec, x: list[float], y: list[float]) -> OutputComparison:
    reference = oracle.reference(model, {"x": np.array(x, np.float32)})
    (output,) = compare({"y": np.array(y, np.float32)}, reference, "fp32").outputs
    return output


def test_a_value_on_an_edge_may_take_either_step(tmp_path: Path, oracle: Oracle) -> None:
    model = grid(tmp_path)
    found = judged(oracle, model, [2.5, 1.0, 3.5], [3.0, 1.0, 4.0])
    assert found.failure is None
    assert found.note == NUDGED


def test_a_value_off_the_edge_may_not(tmp_path: Path, oracle: Oracle) -> None:
    assert judged(oracle, grid(tmp_path), [2.499, 1.0, 3.5], [3.0, 1.0, 4.0]).failure is Failure.MISMATCH
    assert oracle.runs == 2 + NUDGES


def test_an_edge_behind_integers_is_one_too(tmp_path: Path, oracle: Oracle) -> None:
    """No input that moves by a last bit moves what is rounded there."""
    model = halved(tmp_path)
    assert judged(oracle, model, [5.2, 8.0], [2.0, 4.0]).note == ""
    found = judged(oracle, model, [5.2, 8.0], [3.0, 4.0])
    assert (found.failure, found.note) == (None, NUDGED)
    assert judged(oracle, model, [5.2, 8.0], [2.0, 5.0]).failure is Failure.MISMATCH


def test_what_lies_beyond_the_grid_moves_nothing_else(tmp_path: Path, oracle: Oracle) -> None:
    """2.499 is off the edge, whatever saturates beside it."""
    rest = [1.0, 2.0, 3.0] * 40
    assert judged(oracle, grid(tmp_path), [2.499, *rest, 1e6], [3.0, *rest, 127.0]).failure is Failure.MISMATCH
    assert judged(oracle, grid(tmp_path), [2.5, *rest, 1e6], [3.0, *rest, 127.0]).failure is None


def test_the_oracle_is_asked_once_where_all_is_well(tmp_path: Path, oracle: Oracle) -> None:
    assert judged(oracle, grid(tmp_path), [2.4, 1.0], [2.0, 1.0]).note == ""
    assert oracle.runs == 1


def test_a_model_without_a_grid_is_not_nudged(tmp_path: Path, oracle: Oracle) -> None:
    model = spec(tmp_path, graph([node("Floor", ["x"], ["y"])], [value("x", ["n"])], [value("y", ["n"])]))
    assert oracle.reference(model, {"x": np.ones(2, np.float32)}).nudged is None
    assert judged(oracle, model, [2.9999998, 1.0], [3.0, 1.0]).failure is Failure.MISMATCH


def test_a_push_is_of_a_last_bit_or_two() -> None:
    array = np.linspace(-3, 3, 64, dtype=np.float32)
    (push,) = pushes({"x": array}, {"x": np.inf}, 0).values()
    assert push.dtype == np.float32
    assert 0.8 * 3 * SIZES[0] < np.abs(push).max() <= 3 * SIZES[0]
    assert (push < 0).any()
    assert (push > 0).any()
    assert not np.array_equal(push, pushes({"x": array}, {"x": np.inf}, len(SIZES))["x pushed"])
    assert np.abs(pushes({"x": array}, {"x": 0.5}, 1)["x pushed"]).max() <= 0.5 * SIZES[1]
    assert pushes({"x": np.zeros((0, 3), np.float32)}, {"x": 1.0}, 0)["x pushed"].shape == (0, 3)


def test_only_what_is_rounded_as_it_runs_is_pushed(tmp_path: Path) -> None:
    """Constants are rounded once, by whoever builds."""
    nodes = [
        node("QuantizeLinear", ["w", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["weight"]),
        node("MatMul", ["x", "weight"], ["z"]),
        node("QuantizeLinear", ["z", "scale", "zero"], ["r"]),
        node("DequantizeLinear", ["r", "scale", "zero"], ["y"]),
    ]
    constants = [weight("scale", np.float32(0.5)), weight("zero", np.int8(0)), weight("w", np.eye(2, dtype="f"))]
    model = spec(tmp_path, graph(nodes, [value("x", ["n", 2])], [value("y", ["n", 2])], constants))
    assert rounded(flow(model.source.path())) == {"z": 128.0}
