"""How outputs came about."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from harness.judge.graph import Flow
from harness.judge.provenance import ROUNDS, Kind, Layout, Origin, provenance
from tests.judge.graphs import BOOL, FLOAT, INT64, body, graph, node, value, weight

X = value("x", [4, 6])


def origin(*nodes: onnx.NodeProto, kind: int = INT64, shape: tuple[int | None, ...] | None = None) -> Origin:
    """Of ``y``, in a model with x float32 [4, 6] and n int64 [4]."""
    weights = [
        weight("k", np.array([2])),
        weight("axis", np.array([1])),
        weight("minus", np.array([-1])),
        weight("w", np.ones((6, 6), np.float32)),
        weight("half", np.float32(0.5)),
        weight("scale", np.float32(0.1)),
        weight("zero", np.int8(0)),
    ]
    made = graph(nodes, [X, value("n", [4], INT64)], [value("y", shape, kind)], weights)
    return provenance(Flow(made))["y"]


def test_integers_alone_are_exact() -> None:
    assert origin(node("Add", ["n", "n"], ["y"])).kind is Kind.EXACT


def test_booleans_of_integers_are_exact() -> None:
    assert origin(node("Greater", ["n", "k"], ["y"]), kind=BOOL).kind is Kind.EXACT


def test_a_shape_is_exact_although_the_tensor_is_float() -> None:
    assert origin(node("Shape", ["x"], ["y"])).kind is Kind.EXACT


def test_the_shape_of_what_floats_found_is_not() -> None:
    assert origin(node("NonZero", ["x"], ["f"]), node("Shape", ["f"], ["y"])).kind is Kind.DECIDED


def test_floats_are_floats() -> None:
    found = origin(node("Relu", ["x"], ["y"]), kind=FLOAT)
    assert found == Origin(Kind.FLOAT)


def test_an_output_that_no_input_reaches_is_constant() -> None:
    assert origin(node("Neg", ["w"], ["y"]), kind=FLOAT).constant
    assert not origin(node("Neg", ["x"], ["y"]), kind=FLOAT).constant


def test_topk_indices_are_selected_from_its_values() -> None:
    choice = origin(node("Neg", ["x"], ["v"]), node("TopK", ["v", "k"], ["t", "y"], name="best", sorted=0)).choice
    assert choice is not None
    assert (choice.operator, choice.node, choice.values, choice.axis, choice.ordered) == (
        "TopK",
        "best",
        "v",
        -1,
        False,
    )


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_arguments_of_extremes_are_selected(op: str) -> None:
    found = origin(node(op, ["x"], ["y"], axis=1, keepdims=0))
    assert found.kind is Kind.SELECTED
    assert found.choice is not None
    assert (found.choice.values, found.choice.axis, found.choice.keepdims) == ("x", 1, False)


def test_indices_selected_from_integers_are_judged_alike() -> None:
    """Ties are allowed there too."""
    assert origin(node("ArgMax", ["n"], ["y"], axis=0)).kind is Kind.SELECTED


def test_indices_are_followed_through_what_moves_them() -> None:
    found = origin(node("NonZero", ["x"], ["f"]), node("Transpose", ["f"], ["t"]), node("Cast", ["t"], ["y"], to=INT64))
    assert found.kind is Kind.FOUND
    assert found.choice is not None
    assert found.choice.raw == "f"
    assert found.choice.layout == (Layout("transpose", (1, 0)),)
    assert found.choice.compared == (("x", ""),)


def test_places_where_integers_are_not_zero_are_exact() -> None:
    assert origin(node("NonZero", ["n"], ["y"])).kind is Kind.EXACT


def test_conditions_are_traced_to_the_floats_compared() -> None:
    found = origin(
        node("Constant", [], ["two"], value_float=2.0),
        node("Greater", ["x", "half"], ["a"]),
        node("Less", ["x", "two"], ["b"]),
        node("Not", ["b"], ["c"]),
        node("And", ["a", "c"], ["y"]),
        kind=BOOL,
    )
    assert found.kind is Kind.DECIDED
    assert found.choice is not None
    assert set(found.choice.compared) == {("x", "half"), ("x", "two")}


def test_a_rounded_integer_is_decided_without_a_comparison() -> None:
    found = origin(node("Cast", ["x"], ["y"], to=INT64))
    assert (found.kind, found.choice) == (Kind.DECIDED, None)


def test_quantized_integers_are_decided() -> None:
    found = origin(node("QuantizeLinear", ["x", "scale", "zero"], ["y"]), kind=onnx.TensorProto.INT8)
    assert found.kind is Kind.DECIDED


def test_a_float_output_knows_of_the_choices_and_grids_before_it() -> None:
    found = origin(
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        node("TopK", ["d", "k"], ["t", "i"], name="best"),
        node("Gather", ["w", "i"], ["y"]),
        kind=FLOAT,
    )
    assert found.quantized
    assert found.follows == ("TopK 'best'",)


def branched(inner: onnx.NodeProto, kind: int) -> Origin:
    made = graph(
        [
            node("ReduceSum", ["x"], ["s"], keepdims=0),
            node("Cast", ["s"], ["flag"], to=BOOL),
            node(
                "If",
                ["flag"],
                ["y"],
                then_branch=body([inner], [], [value("r", None, kind)]),
                else_branch=body([node("Identity", ["n"], ["r"])], [], [value("r", None, kind)]),
            ),
        ],
        [X, value("n", [4], INT64)],
        [value("y", None, kind)],
    )
    return provenance(Flow(made))["y"]


def test_floats_are_followed_into_bodies() -> None:
    """The condition is a float, and so is what one branch rounds."""
    assert branched(node("Neg", ["n"], ["r"]), INT64).kind is Kind.DECIDED


def test_a_choice_inside_a_body_cannot_be_seen() -> None:
    found = branched(node("ArgMax", ["x"], ["r"], axis=1, keepdims=0), INT64)
    assert (found.kind, found.choice) == (Kind.DECIDED, None)


def looped(op: str) -> Origin:
    inner = body(
        [node(op, ["state", "state"], ["next"]), node("Identity", ["going"], ["go_on"])],
        [value("i", [], INT64), value("going", [], BOOL), value("state", [4, 6])],
        [value("go_on", [], BOOL), value("next", [4, 6])],
    )
    made = graph(
        [node("Loop", ["k", "", "x"], ["y"], body=inner)], [X], [value("y", [4, 6])], [weight("k", np.array(3))]
    )
    return provenance(Flow(made))["y"]


def test_a_loop_counts_as_some_rounds() -> None:
    assert looped("Mul").depth == ROUNDS
    assert looped("Max").depth == 1  # nothing is rounded


def test_depth_counts_what_rounds() -> None:
    chain = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Transpose", ["a"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("Exp", ["c"], ["y"]),
    ]
    assert origin(*chain, kind=FLOAT).depth == 2
