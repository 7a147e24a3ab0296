"""Outputs computed from a choice are judged by the choice that the engine made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.judge import metamorphic
from harness.judge.compare import RECHOSEN, Comparison, Failure, OutputComparison, compare
from harness.judge.oracle import Oracle
from harness.spec import ModelSpec
from tests.judge.graphs import INT64, graph, node, spec, value, weight

pytestmark = pytest.mark.usefixtures("exports")

SCORES = np.array([[1.0, 5.0, 3.0, 2.9999, 0.0]], np.float32)  # 2 and 3 all but tie
ROWS = np.array([[10.0, 20.0, 30.0, 40.0, 50.0]], np.float32)
GIVEN = {"scores": SCORES, "rows": ROWS}


def best_two(folder: Path) -> ModelSpec:
    """The places of the two best scores, and the rows that lie there, doubled."""
    nodes = [
        node("TopK", ["scores", "k"], ["best", "places"], axis=1),
        node("GatherElements", ["rows", "places"], ["picked"], axis=1),
        node("Mul", ["picked", "two"], ["doubled"]),
    ]
    constants = [weight("k", np.array([2], np.int64)), weight("two", np.array([2.0], np.float32))]
    inputs = [value("scores", ["n", 5]), value("rows", ["n", 5])]
    return spec(folder, graph(nodes, inputs, [value("places", ["n", 2], INT64), value("doubled", ["n", 2])], constants))


def judged(oracle: Oracle, model: ModelSpec, places: list[int], doubled: list[float]) -> dict[str, OutputComparison]:
    got = {"places": np.array([places], np.int32), "doubled": np.array([doubled], np.float32)}
    found = compare(got, oracle.reference(model, GIVEN), "fp16", narrower={"int64": "int32"})
    return {output.name: output for output in found.outputs}


def test_what_follows_a_near_tie_may_follow_it(tmp_path: Path, oracle: Oracle) -> None:
    model = best_two(tmp_path)
    assert oracle.reference(model, GIVEN).outputs["doubled"].tolist() == [[40.0, 60.0]]
    found = judged(oracle, model, [1, 3], [40.0, 80.0])
    assert found["places"].failure is None
    assert found["doubled"].failure is None
    assert found["doubled"].note == RECHOSEN


def test_the_oracle_is_asked_again_only_when_the_choice_is_another(tmp_path: Path, oracle: Oracle) -> None:
    found = judged(oracle, best_two(tmp_path), [1, 2], [40.0, 60.0])
    assert found["doubled"].failure is None
    assert not found["doubled"].note
    assert oracle.runs == 1


def test_it_has_to_be_what_follows_from_that_choice(tmp_path: Path, oracle: Oracle) -> None:
    """The oracle's own answer, to a choice that is not the oracle's, is wrong."""
    found = judged(oracle, best_two(tmp_path), [1, 3], [40.0, 60.0])
    assert found["places"].failure is None
    assert found["doubled"].failure is Failure.MISMATCH


def test_a_wrong_choice_stays_wrong(tmp_path: Path, oracle: Oracle) -> None:
    found = judged(oracle, best_two(tmp_path), [1, 4], [40.0, 100.0])
    assert found["places"].failure is Failure.SELECTION


def test_a_choice_of_what_is_not_there_is_told_where_it_is_shown(tmp_path: Path, oracle: Oracle) -> None:
    found = judged(oracle, best_two(tmp_path), [1, 9], [40.0, 60.0])
    assert found["places"].failure is Failure.SELECTION
    assert "outside" in found["places"].detail
    assert found["doubled"].failure is None


def boxes_found(folder: Path) -> ModelSpec:
    """What NonMaxSuppression keeps, and the boxes that lie there."""
    nodes = [
        node("NonMaxSuppression", ["boxes", "scores", "most"], ["kept"]),
        node("Gather", ["kept", "last"], ["which"], axis=1),
        node("Gather", ["flat", "which"], ["found"], axis=0),
        node("Reshape", ["boxes", "shape"], ["flat"]),
    ]
    nodes = [nodes[0], nodes[1], nodes[3], nodes[2]]
    constants = [
        weight("most", np.array([3], np.int64)),
        weight("last", np.array(2, np.int64)),
        weight("shape", np.array([-1, 4], np.int64)),
    ]
    inputs = [value("boxes", [1, 3, 4]), value("scores", [1, 2, 3])]
    outputs = [value("kept", ["kept", 3], INT64), value("found", ["kept", 4])]
    return spec(folder, graph(nodes, inputs, outputs, constants))


BOXES = np.array([[[0, 0, 1, 1], [0, 0, 2, 2], [3, 3, 4, 4]]], np.float32)
BOXED = {"boxes": BOXES, "scores": np.array([[[1, 3, 2], [6, 5, 4]]], np.float32)}


def test_boxes_kept_in_another_order(tmp_path: Path, oracle: Oracle) -> None:
    """Rows of NonMaxSuppression have no order among classes, nor have the boxes gathered by them."""
    boxes, reference = BOXES, oracle.reference(boxes_found(tmp_path), BOXED)
    kept = reference.outputs["kept"][::-1]
    got = {"kept": kept, "found": boxes[0][kept[:, 2]]}
    assert not np.array_equal(got["found"], reference.outputs["found"])
    assert [output.failure for output in compare(got, reference, "fp32").outputs] == [None, None]
    wrong = {**got, "found": reference.outputs["found"]}
    assert [output.failure for output in compare(wrong, reference, "fp32").outputs] == [None, Failure.MISMATCH]


def test_boxes_kept_in_another_order_from_run_to_run(tmp_path: Path, oracle: Oracle) -> None:
    """As 8.6 does with rows of equal scores, on one plan and the same inputs."""
    model = boxes_found(tmp_path)
    reference = oracle.reference(model, BOXED)

    def found(*rows: list[int]) -> dict[str, np.ndarray]:
        kept = np.array(rows, np.int32)
        return {"kept": kept, "found": BOXES[0][kept[:, 2]]}

    def both(got: dict[str, np.ndarray]) -> list[list[Failure | None]]:
        return [
            verdicts(metamorphic.same_bits(got, first, model.id, "fp32", "alone", reference)),
            verdicts(metamorphic.judge_alike(got, first, reference, "fp32", "a rebuild")),
        ]

    first = found([0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 2])
    assert both(first) == [[None, None]] * 2
    assert both(found([0, 0, 1], [0, 1, 0], [0, 0, 2], [0, 1, 2])) == [[None, None]] * 2
    assert both(found([0, 0, 0], [0, 0, 2], [0, 1, 0], [0, 1, 2])) == [[Failure.SELECTION, None]] * 2


# Two runs of one plan, and two engines -----------------------------------------------------------

FIRST = {"places": np.array([[1, 2]], np.int32), "doubled": np.array([[40.0, 60.0]], np.float32)}


def again(oracle: Oracle, model: ModelSpec, places: list[int], doubled: list[float], how: str) -> Comparison:
    """A run that gave these, after one that gave `FIRST`, or one that gave what it does not say of them."""
    got = {"places": np.array([places], np.int32), "doubled": np.array([doubled], np.float32)}
    reference = oracle.reference(model, GIVEN)
    if how == "the same plan":
        return metamorphic.same_bits(got, FIRST, model.id, "fp16", "the first run", reference)
    return metamorphic.judge_alike(got, FIRST, reference, "fp16", "the first engine")


def verdicts(comparison: Comparison) -> list[Failure | None]:
    return [output.failure for output in comparison.outputs]


both = pytest.mark.parametrize("how", ["the same plan", "another engine"])


@both
def test_a_tie_may_turn_from_run_to_run(tmp_path: Path, oracle: Oracle, how: str) -> None:
    assert verdicts(again(oracle, best_two(tmp_path), [1, 3], [40.0, 80.0], how)) == [None, None]


@both
def test_a_tie_that_turned_away_from_the_oracle_may_turn_back(tmp_path: Path, oracle: Oracle, how: str) -> None:
    model = best_two(tmp_path)
    turned = {"places": np.array([[1, 3]], np.int32), "doubled": np.array([[40.0, 80.0]], np.float32)}
    reference = oracle.reference(model, GIVEN)
    if how == "the same plan":
        found = metamorphic.same_bits(FIRST, turned, model.id, "fp16", "the first run", reference)
    else:
        found = metamorphic.judge_alike(FIRST, turned, reference, "fp16", "the first engine")
    assert verdicts(found) == [None, None]


@both
def test_what_follows_has_to_turn_with_it(tmp_path: Path, oracle: Oracle, how: str) -> None:
    assert verdicts(again(oracle, best_two(tmp_path), [1, 3], [40.0, 60.0], how)) == [None, Failure.MISMATCH]


@both
def test_a_clear_choice_may_not_turn(tmp_path: Path, oracle: Oracle, how: str) -> None:
    assert verdicts(again(oracle, best_two(tmp_path), [1, 4], [40.0, 100.0], how))[0] is Failure.SELECTION


def test_what_did_not_turn_keeps_every_bit(tmp_path: Path, oracle: Oracle) -> None:
    off = [40.0, float(np.nextafter(np.float32(60), np.float32(61)))]
    model = best_two(tmp_path)
    assert verdicts(again(oracle, model, [1, 2], off, "the same plan")) == [None, Failure.MISMATCH]
    assert verdicts(again(oracle, model, [1, 2], off, "another engine")) == [None, None]


def test_without_the_oracle_every_bit_counts() -> None:
    got = {"places": np.array([[1, 3]], np.int32), "doubled": np.array([[40.0, 80.0]], np.float32)}
    found = metamorphic.same_bits(got, FIRST, "m", "fp16", "the first run")
    assert verdicts(found) == [Failure.MISMATCH, Failure.MISMATCH]
