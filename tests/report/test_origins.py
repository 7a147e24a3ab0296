"""What no layer came from, and need not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from harness.report.layers import Layer
from harness.report.origins import unaccounted
from tests.judge.graphs import INT64, body, graph, node, value, weight


def model(*nodes: onnx.NodeProto, shape: tuple[int, ...] = (4,)) -> onnx.ModelProto:
    """``nodes`` from x to y, of float32."""
    return graph(nodes, [value("x", [4])], [value("y", shape)], [weight("w", np.ones(4, np.float32))])


RELU, EXP = node("Relu", ["x"], ["a"], name="relu"), node("Exp", ["a"], ["y"], name="exp")


def test_each_node_by_its_name_or_as_an_origin() -> None:
    assert unaccounted(model(RELU, EXP), [Layer("relu"), Layer("exp")]) == []
    assert unaccounted(model(RELU, EXP), [Layer("fused", origins=("relu", "exp"))]) == []
    assert unaccounted(model(RELU, EXP), [Layer("relu"), Layer("other")]) == ["exp"]
    assert unaccounted(model(RELU, EXP), []) == ["relu", "exp"]


def test_a_node_without_a_name_has_that_of_its_output() -> None:
    nameless = model(node("Exp", ["x"], ["y"]))
    assert unaccounted(nameless, [Layer("z", origins=("node_of_y",))]) == []
    assert unaccounted(nameless, [Layer("z")]) == ["node_of_y"]


@pytest.mark.parametrize(
    "nodes",
    [
        pytest.param(
            [node("Add", ["w", "w"], ["a"], name="gone"), node("Add", ["x", "a"], ["y"], name="kept")], id="constant"
        ),
        pytest.param([node("Identity", ["x"], ["a"], name="gone"), node("Exp", ["a"], ["y"], name="kept")], id="moves"),
        pytest.param(
            [
                node("Shape", ["x"], ["s"], name="gone"),
                node("Add", ["s", "s"], ["t"], name="gone, too"),
                node("Cast", ["t"], ["f"], name="cast", to=1),
                node("Add", ["x", "f"], ["y"], name="kept"),
            ],
            id="whole numbers",
        ),
        pytest.param(
            [
                node("Exp", ["x"], ["a"], name="kept"),
                node("Exp", ["x"], ["b"], name="the same"),
                node("Relu", ["a"], ["c"], name="kept, too"),
                node("Relu", ["b"], ["d"], name="the same again"),
                node("Add", ["c", "d"], ["y"], name="sum"),
            ],
            id="twice",
        ),
    ],
)
def test_what_need_not_be_left(nodes: list[onnx.NodeProto]) -> None:
    layers = [Layer(one.name) for one in nodes if one.name in ("kept", "kept, too", "sum")]
    assert unaccounted(model(*nodes), layers) == []
    without = [layer for layer in layers if layer.name != "kept"]
    assert unaccounted(model(*nodes), without) == ["kept"]


def test_what_is_alike_but_not_the_same_counts_each() -> None:
    clipped = [
        node("LeakyRelu", ["x"], ["a"], name="one", alpha=0.1),
        node("LeakyRelu", ["x"], ["b"], name="other", alpha=0.2),
        node("Add", ["a", "b"], ["y"], name="sum"),
    ]
    assert unaccounted(model(*clipped), [Layer("one"), Layer("sum")]) == ["other"]
    assert unaccounted(model(*clipped), [Layer("other"), Layer("sum")]) == ["one"]


def test_an_operator_with_a_body() -> None:
    then = body([node("Exp", ["x"], ["t"], name="inside")], [], [value("t")])
    made = graph(
        [node("If", ["flag"], ["y"], name="if", then_branch=then, else_branch=then)],
        [value("x", [4]), value("flag", [], onnx.TensorProto.BOOL)],
        [value("y", [4])],
    )
    assert unaccounted(made, []) == []


def test_whole_numbers_of_a_model_that_has_no_others() -> None:
    made = graph([node("Add", ["i", "i"], ["j"], name="add")], [value("i", [4], INT64)], [value("j", [4], INT64)])
    assert unaccounted(made, []) == []
