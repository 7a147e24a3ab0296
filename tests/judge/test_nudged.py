"""A value on the edge between two steps of a Q/DQ grid may take either; nothing else may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.judge.compare import NUDGED, Failure, OutputComparison, compare
from harness.judge.oracle import NUDGE, NUDGES, Oracle, nudge
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
    assert oracle.runs == 1 + NUDGES


def test_the_oracle_is_asked_once_where_all_is_well(tmp_path: Path, oracle: Oracle) -> None:
    assert judged(oracle, grid(tmp_path), [2.4, 1.0], [2.0, 1.0]).note == ""
    assert oracle.runs == 1


def test_a_model_without_a_grid_is_not_nudged(tmp_path: Path, oracle: Oracle) -> None:
    model = spec(tmp_path, graph([node("Floor", ["x"], ["y"])], [value("x", ["n"])], [value("y", ["n"])]))
    assert judged(oracle, model, [2.9999999, 1.0], [2.0, 1.0]).failure is Failure.MISMATCH
    assert oracle.runs == 1


def test_a_nudge_is_of_a_last_bit_or_two() -> None:
    array = np.linspace(-3, 3, 64, dtype=np.float32)
    moved = nudge(array, 0)
    assert moved.dtype == np.float32
    assert 0 < np.abs(moved / array - 1).max() <= max(NUDGE) + 2**-23
    assert not np.array_equal(moved, nudge(array, 1))
    whole = np.arange(3)
    assert nudge(whole, 0) is whole
