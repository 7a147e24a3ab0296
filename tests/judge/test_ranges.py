"""What a graph says of its inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from harness.judge.inputs import make_inputs
from harness.judge.ranges import infer, shape_tensors
from harness.spec.onnx_model import interface
from tests.judge.graphs import BOOL, INT64, body, graph, node, spec, value, weight

TABLE = weight("table", np.ones((100, 4), np.float32))


def drawn(folder: Path, model: onnx.ModelProto, seed: int = 0, **binding: int) -> dict[str, np.ndarray]:
    made = spec(folder, model)
    return make_inputs(made, interface(made.source.path()), binding, {}, seed)


def lookup(*nodes: onnx.NodeProto, ids: str = "ids", shape: tuple[int | str, ...] = (400,)) -> onnx.ModelProto:
    return graph(
        [*nodes, node("Gather", ["table", ids], ["y"], name="embed")],
        [value("ids", shape, INT64)],
        [value("y")],
        [TABLE, weight("zero", np.array([0]))],
    )


def test_ids_stay_inside_the_table(tmp_path: Path) -> None:
    ids = drawn(tmp_path, lookup())["ids"]
    assert ids.min() == 0
    assert ids.max() == 99
    (found,) = infer(spec(tmp_path, lookup()).source.path()).values()
    assert found.reason == "ids under Gather 'embed', whose axis 0 has 100 places"


def test_ids_are_followed_through_what_moves_them(tmp_path: Path) -> None:
    nodes = [
        node("Unsqueeze", ["ids", "zero"], ["a"]),
        node("Cast", ["a"], ["b"], to=onnx.TensorProto.INT32),
        node("Transpose", ["b"], ["c"]),
    ]
    model = lookup(*nodes, ids="c")
    assert 90 < drawn(tmp_path, model)["ids"].max() <= 99


def test_ids_of_two_tables_fit_both(tmp_path: Path) -> None:
    model = graph(
        [node("Gather", ["table", "ids"], ["y"]), node("Gather", ["small", "ids"], ["z"])],
        [value("ids", [400], INT64)],
        [value("y"), value("z")],
        [TABLE, weight("small", np.ones((7, 2), np.float32))],
    )
    assert drawn(tmp_path, model)["ids"].max() == 6


def test_ids_under_a_table_whose_size_is_a_symbol(tmp_path: Path) -> None:
    model = graph(
        [node("Gather", ["x", "ids"], ["y"], axis=1)],
        [value("x", [2, "n"]), value("ids", [300], INT64)],
        [value("y")],
    )
    assert drawn(tmp_path, model, n=5)["ids"].max() == 4
    assert drawn(tmp_path, model, n=9)["ids"].max() == 8


def test_ids_inside_a_branch(tmp_path: Path) -> None:
    def branch(op: onnx.NodeProto) -> onnx.GraphProto:
        return body([op], [], [value("r")])

    model = graph(
        [
            node(
                "If",
                ["flag"],
                ["y"],
                then_branch=branch(node("Gather", ["table", "ids"], ["r"])),
                else_branch=branch(node("Gather", ["other", "ids"], ["r"])),
            )
        ],
        [value("flag", [], BOOL), value("ids", [300], INT64)],
        [value("y")],
        [TABLE, weight("other", np.ones((30, 4), np.float32))],
    )
    assert drawn(tmp_path, model)["ids"].max() == 29


def test_ids_that_a_loop_carries(tmp_path: Path) -> None:
    inner = body(
        [
            node("Identity", ["going"], ["go_on"]),
            node("Identity", ["carried"], ["next"]),
            node("Gather", ["table", "carried"], ["row"]),
        ],
        [value("i", [], INT64), value("going", [], BOOL), value("carried", [3], INT64)],
        [value("go_on", [], BOOL), value("next", [3], INT64), value("row", [3, 4])],
    )
    model = graph(
        [node("Loop", ["rounds", "", "ids"], ["last", "rows"], body=inner)],
        [value("ids", [3], INT64)],
        [value("last", [3], INT64), value("rows")],
        [TABLE, weight("rounds", np.array(2))],
    )
    found = infer(spec(tmp_path, model).source.path())["ids"]
    assert found.sizes == (100,)


def test_gather_nd_stays_inside_every_dimension(tmp_path: Path) -> None:
    model = graph(
        [node("GatherND", ["x", "at"], ["y"])],
        [value("x", [3, 50]), value("at", [200, 2], INT64)],
        [value("y")],
    )
    at = drawn(tmp_path, model)["at"]
    assert at.max() == 2  # of one range, so the smaller dimension's


@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
def test_no_place_is_written_twice(op: str, tmp_path: Path) -> None:
    wide = op == "ScatterElements"
    model = graph(
        [node(op, ["x", "at", "new"], ["y"])],
        [
            value("x", [12, 5]),
            value("at", [8, 5] if wide else [30, 2], INT64),
            value("new", [8, 5] if wide else [30]),
        ],
        [value("y")],
    )
    at = drawn(tmp_path, model)["at"]
    if wide:
        assert all(len(set(column)) == 8 for column in at.T)
        assert at.max() == 11
    else:
        assert len(np.unique(at, axis=0)) == 30
        assert at.max(axis=0).tolist() == [11, 4]


def test_adding_at_one_place_twice_is_defined(tmp_path: Path) -> None:
    model = graph(
        [node("ScatterElements", ["x", "at", "new"], ["y"], reduction="add")],
        [value("x", [3]), value("at", [40], INT64), value("new", [40])],
        [value("y")],
    )
    assert set(drawn(tmp_path, model)["at"]) == {0, 1, 2}


def test_one_hot_ids_stay_below_its_depth(tmp_path: Path) -> None:
    model = graph(
        [node("OneHot", ["ids", "depth", "values"], ["y"])],
        [value("ids", [200], INT64)],
        [value("y")],
        [weight("depth", np.array(6)), weight("values", np.array([0, 1], np.float32))],
    )
    assert set(drawn(tmp_path, model)["ids"]) == set(range(6))


def test_lengths_of_a_recurrent_layer(tmp_path: Path) -> None:
    model = graph(
        [node("GRU", ["x", "w", "r", "", "lengths"], ["", "h"], hidden_size=4)],
        [value("x", ["seq", 64, 3]), value("lengths", [64], onnx.TensorProto.INT32)],
        [value("h")],
        [weight("w", np.ones((1, 12, 3), np.float32)), weight("r", np.ones((1, 12, 4), np.float32))],
    )
    lengths = drawn(tmp_path, model, seq=9)["lengths"]
    assert lengths.min() == 1
    assert lengths.max() == 9


def test_lengths_that_a_range_is_compared_with(tmp_path: Path) -> None:
    model = graph(
        [
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "one"], ["seq"]),
            node("Range", ["zero", "seq", "one"], ["steps"]),
            node("Unsqueeze", ["lengths", "last"], ["column"]),
            node("Less", ["steps", "column"], ["valid"]),
        ],
        [value("x", [200, "seq"]), value("lengths", [200], INT64)],
        [value("valid", None, BOOL)],
        [weight("zero", np.array(0)), weight("one", np.array(1)), weight("last", np.array([1]))],
    )
    lengths = drawn(tmp_path, model, seq=11)["lengths"]
    assert lengths.min() == 1
    assert lengths.max() == 11


def masked(kind: int) -> onnx.ModelProto:
    """Scores of a softmax, hidden where the mask is 0: (1 - mask) * -1e4 is added."""
    hidden = [
        node("Cast", ["mask"], ["float_mask"], to=onnx.TensorProto.FLOAT),
        node("Sub", ["one", "float_mask"], ["hidden"]),
        node("Mul", ["hidden", "large"], ["bias"]),
        node("Add", ["scores", "bias"], ["sum"]),
        node("Softmax", ["sum"], ["y"]),
    ]
    return graph(
        hidden,
        [value("scores", [50, 12]), value("mask", [50, 12], kind)],
        [value("y")],
        [weight("one", np.float32(1)), weight("large", np.float32(-1e4))],
    )


@pytest.mark.parametrize("kind", [INT64, BOOL])
def test_a_mask_leaves_something_to_see(kind: int, tmp_path: Path) -> None:
    mask = drawn(tmp_path, masked(kind))["mask"].astype(int)
    assert (mask[:, 0] == 1).all()
    assert (np.diff(mask, axis=1) <= 0).all()
    assert not mask[:, -1].all()


def test_scores_are_no_mask(tmp_path: Path) -> None:
    assert "scores" not in infer(spec(tmp_path, masked(INT64)).source.path())


def test_ids_are_no_mask_although_their_embedding_reaches_a_softmax(tmp_path: Path) -> None:
    model = graph(
        [node("Gather", ["table", "ids"], ["e"]), node("Softmax", ["e"], ["y"])],
        [value("ids", [300], INT64)],
        [value("y")],
        [TABLE],
    )
    assert drawn(tmp_path, model)["ids"].max() == 99


@pytest.mark.parametrize(("op", "low", "high"), [("Sqrt", 0, 4), ("Log", 0.1, 4), ("Acos", -1, 1)])
def test_operators_are_given_what_they_are_defined_for(op: str, low: float, high: float, tmp_path: Path) -> None:
    model = graph([node(op, ["x"], ["y"])], [value("x", [500])], [value("y", [500])])
    x = drawn(tmp_path, model)["x"]
    assert low <= x.min() < x.max() < high


def test_a_whole_power_is_defined_everywhere(tmp_path: Path) -> None:
    model = graph(
        [node("Pow", ["x", "two"], ["y"])], [value("x", [500])], [value("y", [500])], [weight("two", np.float32(2))]
    )
    assert drawn(tmp_path, model)["x"].min() < -1


def test_no_division_by_zero(tmp_path: Path) -> None:
    model = graph(
        [node("Div", ["a", "b"], ["y"])],
        [value("a", [500], INT64), value("b", [500], INT64)],
        [value("y", [500], INT64)],
    )
    assert drawn(tmp_path, model)["b"].min() == 1


@pytest.mark.parametrize(
    ("op", "position"), [("Reshape", 1), ("Expand", 1), ("Tile", 1), ("Slice", 1), ("Slice", 2), ("Pad", 1)]
)
def test_what_decides_shapes_is_known(op: str, position: int, tmp_path: Path) -> None:
    fixed = {"Slice": ["x", "zeros", "ones"], "Pad": ["x", "pads"]}.get(op, ["x", "ones"])
    size = 4 if op == "Pad" else 2
    inputs = [*fixed[:position], "decides", *fixed[position + 1 :]]
    model = graph(
        [node("Add", ["given", "given"], ["decides"]), node(op, inputs, ["y"])],
        [value("x", [4, 4]), value("given", [size], INT64)],
        [value("y", [None, None])],
        [
            weight("ones", np.ones(2, np.int64)),
            weight("zeros", np.zeros(2, np.int64)),
            weight("pads", np.zeros(4, np.int64)),
        ],
    )
    assert shape_tensors(spec(tmp_path, model).source.path()) == {"given"}


def test_ids_decide_no_shape(tmp_path: Path) -> None:
    assert shape_tensors(spec(tmp_path, lookup()).source.path()) == frozenset()
