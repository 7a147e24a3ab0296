"""Outputs that floats decided: near ties may go either way, and nothing else may."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.judge.compare import Failure, OutputComparison, compare
from harness.judge.oracle import Reference
from harness.judge.provenance import Choice, Kind, Layout, Origin

VALUES = np.array([[5, 4, 3.001, 3, 1, 0], [9, 8, 7, 6, 5, 4]], np.float32)  # rank 3 and 4 of row 0 all but tie
TOP3 = np.array([[0, 1, 2], [0, 1, 2]])


def judged(
    got: np.ndarray, want: np.ndarray, kind: Kind, seen: dict[str, np.ndarray], precision: str = "fp16", **choice: Any
) -> OutputComparison:
    made = Choice(choice.pop("operator", "TopK"), "n", "raw", **choice)
    reference = Reference("m", "o", {"y": want}, {"y": Origin(kind, choice=made)}, {"raw": want, **seen})
    (output,) = compare({"y": got}, reference, precision).outputs
    return output


def selected(got: Any, want: np.ndarray = TOP3, precision: str = "fp16", **choice: Any) -> OutputComparison:
    fields = {"values": "v", "axis": -1, **choice}
    return judged(np.asarray(got), want, Kind.SELECTED, {"v": VALUES}, precision, **fields)


def test_the_same_indices_pass() -> None:
    assert selected(TOP3).failure is None


def test_a_near_tie_may_go_either_way_at_low_precision_only() -> None:
    other = [[0, 1, 3], [0, 1, 2]]
    result = selected(other)
    assert result.failure is None
    assert result.note == "1 of 6 indices differ"
    assert selected(other, precision="fp32").failure is Failure.SELECTION


def test_a_lesser_value_is_a_failure() -> None:
    assert selected([[0, 1, 4], [0, 1, 2]]).failure is Failure.SELECTION


def test_the_order_of_a_sorted_selection_counts() -> None:
    other = [[1, 0, 2], [0, 1, 2]]
    assert selected(other).failure is Failure.SELECTION
    assert selected(other, ordered=False).failure is None


@pytest.mark.parametrize("index", [6, -7, 1000])
def test_an_index_outside_is_a_failure(index: int) -> None:
    result = selected([[0, 1, index], [0, 1, 2]])
    assert result.failure is Failure.SELECTION
    assert "lie outside the 6 places of axis 1" in result.detail


def test_selecting_the_same_twice_is_a_failure() -> None:
    """Values alone would pass: 3 and 3.001 are near."""
    result = selected([[0, 2, 2], [0, 1, 2]], want=np.array([[0, 2, 3], [0, 1, 2]]))
    assert result.failure is Failure.SELECTION
    assert "were selected twice" in result.detail


def test_arguments_without_the_axis() -> None:
    want = np.array([0, 0])
    fields = {"operator": "ArgMax", "axis": 1, "keepdims": False}
    assert selected(np.array([0, 0]), want, **fields).failure is None
    assert selected(np.array([0, 3]), want, **fields).failure is Failure.SELECTION


def test_a_selection_that_was_moved_is_moved_back() -> None:
    want = TOP3
    made = Choice("TopK", "n", "raw", (Layout("transpose", (1, 0)), Layout("reshape")), "v", axis=-1)
    assert made.tensors == ("raw", "v")
    layout = (Layout("transpose", (1, 0)),)
    reference = Reference(
        "m",
        "o",
        {"y": want.T},
        {"y": Origin(Kind.SELECTED, choice=Choice("TopK", "n", "raw", layout, "v", axis=-1))},
        {"raw": want, "v": VALUES},
    )
    tie, wrong = np.array([[0, 1, 3], [0, 1, 2]]).T, np.array([[0, 1, 2], [0, 1, 5]]).T
    assert compare({"y": tie}, reference, "fp16").passed
    assert not compare({"y": wrong}, reference, "fp16").passed


def test_indices_into_integers_are_exact_but_for_ties() -> None:
    numbers = np.array([[3000, 3000, 2999]])  # as floats, 3000 and 2999 would all but tie
    fields: dict[str, Any] = {"values": "v", "axis": -1}
    want = np.array([[0]])
    assert judged(np.array([[1]]), want, Kind.SELECTED, {"v": numbers}, **fields).failure is None
    assert judged(np.array([[2]]), want, Kind.SELECTED, {"v": numbers}, **fields).failure is Failure.SELECTION


FIELD = np.array([[0.5, 2.0, -1.0], [0.0005, 3.0, -2.0]], np.float32)


def found(got: Any, want: Any, precision: str = "fp16") -> OutputComparison:
    """Where the field is above 0, which it barely is at [1, 0]."""
    zero = np.zeros((), np.float32)
    return judged(
        np.asarray(got),
        np.asarray(want),
        Kind.FOUND,
        {"field": FIELD, "zero": zero},
        precision,
        operator="NonZero",
        compared=(("field", "zero"),),
    )


PLACES = [[0, 0, 1, 1], [0, 1, 0, 1]]


def test_the_same_places_pass() -> None:
    assert found(PLACES, PLACES).failure is None


def test_a_doubtful_place_may_be_left_out() -> None:
    without = [[0, 0, 1], [0, 1, 1]]
    assert found(without, PLACES).note == "1 doubtful places differ"
    assert found(without, PLACES).failure is None
    assert found(without, PLACES, "fp32").failure is Failure.SELECTION


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ([[0, 1, 1], [0, 0, 1]], "first [0, 1], which is left out"),
        ([[0, 0, 0, 1, 1], [0, 1, 2, 0, 1]], "first [0, 2], which is found"),
        ([[0, 0, 1, 1], [1, 0, 0, 1]], "not in order"),
        ([[0, 0, 0, 1, 1], [0, 1, 1, 0, 1]], "come twice"),
        ([[0, 0, 1, 2], [0, 1, 0, 1]], "lie outside [2, 3]"),
    ],
)
def test_wrong_places_fail(places: list[list[int]], says: str) -> None:
    result = found(places, PLACES)
    assert result.failure is Failure.SELECTION
    assert says in result.detail


SCORES = np.array([[[0.9, 0.8, 0.8001, 0.1]]], np.float32)  # batch 1, class 1; boxes 1 and 2 all but tie


def kept(boxes: list[int], precision: str = "fp16", **rows: Any) -> OutputComparison:
    got = np.array(rows.get("rows") or [[0, 0, box] for box in boxes])
    want = np.array([[0, 0, 0], [0, 0, 1]])
    return judged(got, want, Kind.KEPT, {"s": SCORES}, precision, operator="NonMaxSuppression", values="s")


def test_boxes_worth_the_same_may_be_kept() -> None:
    assert kept([0, 1]).failure is None
    assert kept([0, 2]).failure is None
    assert kept([0, 2], "fp32").failure is Failure.SELECTION


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        ([0, 3], "elements are off"),
        ([0], "1 boxes are kept, 2 expected"),
        ([0, 1, 2], "3 boxes are kept, 2 expected"),
        ([0, 0], "kept twice"),
        ([0, 7], "lie outside"),
    ],
)
def test_other_boxes_fail(boxes: list[int], says: str) -> None:
    result = kept(boxes)
    assert result.failure is Failure.SELECTION
    assert says in result.detail


def decided(got: Any, want: Any, precision: str = "fp16") -> OutputComparison:
    left, right = np.array([1.0, 1.0001, -3.0], np.float32), np.float32(1)
    return judged(
        np.asarray(got),
        np.asarray(want),
        Kind.DECIDED,
        {"left": left, "right": np.asarray(right)},
        precision,
        operator="Greater",
        compared=(("left", "right"),),
    )


def test_a_comparison_of_near_floats_may_go_either_way() -> None:
    want = [False, True, False]
    assert decided([True, False, False], want).failure is None
    assert decided([True, False, False], want).note == "2 doubtful elements differ"
    assert decided([False, False, False], want, "fp32").failure is Failure.MISMATCH


def test_a_clear_comparison_may_not() -> None:
    result = decided([False, True, True], [False, True, False])
    assert result.failure is Failure.MISMATCH
    assert result.worst[0].index == (2,)


def test_a_rounded_integer_may_be_one_off() -> None:
    want = np.array([3, 4, 5])
    reference = Reference("m", "o", {"y": want}, {"y": Origin(Kind.DECIDED)})
    assert compare({"y": want + 1}, reference, "fp16").passed
    assert compare({"y": want + 2}, reference, "fp16").failures[0].failure is Failure.MISMATCH
