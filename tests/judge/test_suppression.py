"""What NonMaxSuppression may keep where scores or overlaps all but tie, and what it may not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.judge.compare import Failure, OutputComparison, compare
from harness.judge.graph import flow
from harness.judge.oracle import Oracle
from harness.judge.provenance import provenance
from harness.judge.suppression import Suppression, objection, overlaps
from harness.judge.tolerance import Tolerance
from harness.spec import ModelSpec
from tests.judge.graphs import INT64, graph, node, spec, value, weight

pytestmark = pytest.mark.usefixtures("exports")

# Along one line: the second overlaps both its neighbours, which hardly overlap each other; the last stands alone.
BOXES = np.array([[0, 0, 1, 10], [0, 3, 1, 13], [0, 6, 1, 16], [0, 40, 1, 50]], np.float32)
RULE = Suppression("boxes", most=3, overlap=0.5, least=0.1, centered=False)
NEAR, CLOSE = Tolerance(0.01, 0, "boxes"), Tolerance(0.001, 0, "scores")


def told(kept: list[int], scores: list[float], rule: Suppression = RULE, boxes: np.ndarray = BOXES) -> str:
    return objection(np.array(kept, np.int64), boxes, np.array(scores, np.float32), rule, NEAR, CLOSE)


def test_overlaps_are_of_areas() -> None:
    iou, blur = overlaps(BOXES, np.array([0]), False, NEAR)
    assert iou[:, 0] == pytest.approx([1, 7 / 13, 4 / 16, 0])
    assert (blur > 0).all()
    centres = np.array([[0.5, 5, 1, 10], [0.5, 8, 1, 10]], np.float32)
    assert overlaps(centres, np.array([0]), True, NEAR)[0][:, 0] == pytest.approx([1, 7 / 13])
    turned = BOXES[:, [2, 3, 0, 1]]  # two corners in any order
    assert overlaps(turned, np.array([0]), False, NEAR)[0][:, 0] == pytest.approx(iou[:, 0])
    assert overlaps(np.zeros((2, 4)), np.array([0]), False, NEAR)[0].tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("kept", "scores", "words"),
    [
        ([0, 2, 3], [0.9, 0.8, 0.7, 0.6], ""),  # the first suppresses the second, which the third does not need
        (
            [1, 3],
            [0.9, 0.8, 0.7, 0.6],
            "box 0 is left out, whose score 0.9 is high enough and which nothing suppresses",
        ),
        ([1, 3], [0.8, 0.9, 0.7, 0.6], ""),
        ([1, 3], [0.8015, 0.8, 0.7, 0.6], ""),  # which of two comes first is within their errors
        ([0, 2, 3], [0.8, 0.8015, 0.7, 0.6], ""),
        ([0, 2, 3], [0.8, 0.9, 0.7, 0.6], "box 1 is left out"),
        ([0, 2], [0.9, 0.8, 0.7, 0.6], "box 3 is left out"),
        ([0, 1, 3], [0.9, 0.8, 0.7, 0.6], "boxes 0 and 1 are kept, which overlap by 0.538"),
        ([0, 2, 3], [0.9, 0.8, 0.7, 0.05], "box 3 is kept, whose score 0.05 is not above 0.1"),
        ([0, 2], [0.9, 0.8, 0.7, 0.1005], ""),  # at the threshold it may stay or go
        ([0, 2, 3], [0.9, 0.8, 0.7, 0.0995], ""),
        ([], [0.05, 0.05, 0.05, 0.05], ""),
        ([], [0.9, 0.05, 0.05, 0.05], "box 0 is left out"),
    ],
)
def test_what_may_be_kept(kept: list[int], scores: list[float], words: str) -> None:
    found = told(kept, scores)
    assert found.startswith(words) if words else not found


def test_an_overlap_at_the_threshold_may_count_or_not() -> None:
    edge = Suppression("boxes", 3, 7 / 13, 0.1, centered=False)
    for kept in ([0, 2, 3], [0, 1, 3]):
        assert (told(kept, [0.9, 0.8, 0.05, 0.6], edge) == "") is (kept == [0, 1, 3])
    assert told([0, 3], [0.9, 0.8, 0.05, 0.6], edge) == ""
    assert told([0, 3], [0.9, 0.8, 0.05, 0.6], Suppression("boxes", 3, 0.6, 0.1, centered=False)) != ""


def test_no_more_than_asked_for_and_the_best_of_them() -> None:
    two = Suppression("boxes", 2, 0.5, 0.1, centered=False)
    assert told([0, 2], [0.9, 0.8, 0.7, 0.6], two) == ""
    assert told([0, 3], [0.9, 0.8, 0.7, 0.6], two).startswith("box 2 is left out")
    assert told([0, 3], [0.9, 0.8, 0.6005, 0.6], two) == ""
    assert told([0, 2, 3], [0.9, 0.8, 0.7, 0.6], two) == "3 boxes are kept, 2 allowed"


def kept_of(folder: Path) -> ModelSpec:
    nodes = [node("NonMaxSuppression", ["boxes", "scores", "most", "overlap", "least"], ["kept"])]
    constants = [
        weight("most", np.array([3], np.int64)),
        weight("overlap", np.array([0.5], np.float32)),
        weight("least", np.array([0.1], np.float32)),
    ]
    inputs = [value("boxes", [1, 4, 4]), value("scores", [1, 1, 4])]
    return spec(folder, graph(nodes, inputs, [value("kept", ["kept", 3], INT64)], constants))


def judged(oracle: Oracle, model: ModelSpec, scores: list[float], kept: list[int]) -> OutputComparison:
    inputs = {"boxes": BOXES[None], "scores": np.array([[scores]], np.float32)}
    got = {"kept": np.array([[0, 0, box] for box in kept], np.int64)}
    (output,) = compare(got, oracle.reference(model, inputs), "fp32").outputs
    return output


def test_one_tie_that_turns_turns_others(tmp_path: Path, oracle: Oracle) -> None:
    """The oracle keeps the second box and none beside it; with the first instead, the third stays too."""
    model = kept_of(tmp_path)
    scores = [0.8, 0.800001, 0.7, 0.6]
    assert judged(oracle, model, scores, [1, 3]).note == ""
    found = judged(oracle, model, scores, [0, 2, 3])
    assert found.failure is None
    assert found.note.startswith("kept otherwise than by the oracle")
    wrong = judged(oracle, model, scores, [0, 3])  # worth as much as the oracle's, and yet not all there is
    assert wrong.failure is Failure.SELECTION
    assert wrong.detail.startswith("batch 0, class 0: box 2 is left out")
    clear = judged(oracle, model, [0.7, 0.9, 0.6, 0.5], [0, 2, 3])
    assert clear.failure is Failure.SELECTION


def test_the_limits_are_read_off_the_model(tmp_path: Path) -> None:
    (origin,) = provenance(flow(kept_of(tmp_path).source.path())).values()
    assert origin.choice is not None
    assert origin.choice.suppression == Suppression("boxes", 3, 0.5, float(np.float32(0.1)), centered=False)
    assert "boxes" in origin.choice.tensors
