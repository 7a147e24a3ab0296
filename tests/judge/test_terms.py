"""An element may be off by the size of its terms, as the oracle shows it; nothing else may."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.judge.compare import Failure, OutputComparison, compare
from harness.judge.oracle import Oracle
from harness.judge.terms import MOVES, terms
from harness.spec import ModelSpec, ToleranceOverride
from tests.judge.graphs import INT64, graph, node, spec, value, weight

pytestmark = pytest.mark.usefixtures("exports")

WIDE = np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)
WIDE[0, 0] -= WIDE.sum(dtype=np.float64)  # all but nothing is left of the sum


def total(folder: Path) -> ModelSpec:
    nodes = [node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)]
    constants = [weight("axes", np.array([1], np.int64))]
    return spec(folder, graph(nodes, [value("x", ["n", "m"])], [value("y", ["n"])], constants))


def judged(oracle: Oracle, model: ModelSpec, x: np.ndarray, off: np.ndarray | float, precision: str = "fp32"):
    reference = oracle.reference(model, {"x": x})
    got = {"y": (reference.outputs["y"] + off).astype(np.float32)}
    (output,) = compare(got, reference, precision, weak="ignore").outputs
    return output


def test_the_size_of_terms_is_measured() -> None:
    rows = np.concatenate([WIDE, np.ones((1, 64), np.float32)])

    def run(inputs):
        return {"y": inputs["x"].sum(axis=1, dtype=np.float64), "n": np.arange(2)}

    once, thrice = (terms(run, {"x": x}, run({"x": x}), 2.0**-11) for x in (rows, 3 * rows))
    assert once.keys() == {"y"}
    norms = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
    assert (np.abs(once["y"] / norms - 1) < 0.5).all()
    np.testing.assert_allclose(thrice["y"], 3 * once["y"], rtol=1e-3)


def test_what_cancels_may_be_off_by_its_terms(tmp_path: Path, oracle: Oracle) -> None:
    model = total(tmp_path)
    assert abs(oracle.reference(model, {"x": WIDE}).outputs["y"][0]) < 1e-5
    found = judged(oracle, model, WIDE, 1e-5)
    assert found.failure is None
    assert "1 of 1 elements pass by the size of their terms" in found.note
    assert judged(oracle, model, WIDE, 2e-3).failure is Failure.MISMATCH


def test_each_element_by_its_own_terms(tmp_path: Path, oracle: Oracle) -> None:
    """What the first row may be off by, on account of large terms, the second may not."""
    x = np.concatenate([1000 * WIDE, WIDE + 1 / 64])
    assert judged(oracle, total(tmp_path), x, np.array([1e-2, 0])).failure is None
    found = judged(oracle, total(tmp_path), x, np.array([1e-2, 1e-2]))
    assert found.failure is Failure.MISMATCH
    assert (found.wrong, found.worst[0].index) == (1, (1,))


def test_the_oracle_is_moved_only_where_the_tolerance_does_not_do(tmp_path: Path, oracle: Oracle) -> None:
    model = total(tmp_path)
    assert judged(oracle, model, WIDE, 0).note == ""
    assert oracle.runs == 1
    judged(oracle, model, WIDE, 1e-5)
    judged(oracle, model, WIDE, 2e-5)
    assert oracle.runs == 1 + 2 * MOVES


def test_a_tolerance_set_by_hand_counts_as_it_stands(tmp_path: Path, oracle: Oracle) -> None:
    by_hand = replace(total(tmp_path), tolerances=(ToleranceOverride("fp32", 1e-6, 0, "a reason"),))
    assert judged(oracle, by_hand, WIDE, 1e-5).failure is Failure.MISMATCH


def test_special_inputs_have_a_tolerance_of_their_own(tmp_path: Path, oracle: Oracle) -> None:
    """The sine of 1e30 moves by its whole range with the last bit of that, and has to be right all the same."""
    model = spec(tmp_path, graph([node("Sin", ["x"], ["y"])], [value("x", ["n"])], [value("y", ["n"])]))
    reference = oracle.reference(model, {"x": np.full(4, 1e30, np.float32)})
    got = {"y": np.zeros(4, np.float32)}
    assert compare(got, reference, "fp32", weak="note").failures[0].failure is Failure.MISMATCH


@pytest.mark.parametrize("at", [2.9999998, 3.0])
def test_a_threshold_is_no_term(tmp_path: Path, oracle: Oracle, at: float) -> None:
    """On its other side lies another answer, for an input that nobody gave."""
    model = spec(tmp_path, graph([node("Floor", ["x"], ["y"])], [value("x", ["n"])], [value("y", ["n"])]))
    found: OutputComparison = judged(oracle, model, np.array([at, 1.0], np.float32), np.array([1.0, 0.0]))
    assert found.failure is Failure.MISMATCH


def test_nothing_is_told_of_what_data_decide_or_where_nothing_can_be_moved() -> None:
    def run(inputs):
        array = inputs["x"]
        with np.errstate(all="ignore"):
            return {"found": array[array > 0], "log": np.log(array)}

    x = np.array([0.0, 1.0, 2.0, 1e-9], np.float32)
    found = terms(run, {"x": x}, {"found": np.ones(7), "log": run({"x": x})["log"]}, 2.0**-11)
    assert (found["found"] == 0).all()
    assert found["log"][0] == 0
    assert found["log"][1] == pytest.approx(1, rel=0.6)
    whole = terms(lambda _: {"y": np.ones(3)}, {"x": np.arange(3)}, {"y": np.zeros(3)}, 2.0**-11)
    assert (whole["y"] == 0).all()


def test_what_rests_on_a_choice_has_no_terms_to_tell(tmp_path: Path, oracle: Oracle) -> None:
    """A move may turn the choice, and with it everything behind it."""
    nodes = [node("TopK", ["x", "k"], ["best", "places"], axis=1), node("Gather", ["rows", "places"], ["y"], axis=0)]
    constants = [weight("k", np.array([1], np.int64)), weight("rows", np.array([1.0, 50.0], np.float32))]
    outputs = [value("places", ["n", 1], INT64), value("y", ["n", 1])]
    model = spec(tmp_path, graph(nodes, [value("x", ["n", 2])], outputs, constants))
    reference = oracle.reference(model, {"x": np.array([[1.0, 1.0000001]], np.float32)})
    got = {"places": reference.outputs["places"], "y": reference.outputs["y"] + np.float32(1)}
    assert [o.failure for o in compare(got, reference, "fp32", weak="ignore").outputs] == [None, Failure.MISMATCH]
