"""Conversion: valid for every graph, near the original in numbers, and the same bytes every time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from harness.errors import SpecError
from harness.judge.precision import convert, converted, narrowed
from harness.spec import OnnxFile, recipe
from tests.judge.graphs import BOOL, FLOAT, INT64, body, graph, node, spec, value, weight

HALF = onnx.TensorProto.FLOAT16
rng = np.random.default_rng(0)
W = weight("w", rng.normal(size=(4, 4)).astype(np.float32))
X = value("x", [4, 4])
Y = value("y", [4, 4])


def branching(then: str, other: str, weights: tuple[onnx.TensorProto, ...] = ()) -> onnx.ModelProto:
    """If, whose bodies read ``x`` and ``w`` from outside."""

    def branch(op: str) -> onnx.GraphProto:
        return body([node(op, ["x", "w"], ["r"])], [], [value("r", [4, 4])], weights)

    return graph(
        [
            node("ReduceSum", ["x"], ["s"], keepdims=0),
            node("Cast", ["s"], ["flag"], to=BOOL),
            node("If", ["flag"], ["y"], then_branch=branch(then), else_branch=branch(other)),
        ],
        [X],
        [Y],
        () if weights else [W],
    )


def looping() -> onnx.ModelProto:
    inner = body(
        [
            node("MatMul", ["state", "w"], ["product"]),
            node("Add", ["product", "x"], ["sum"]),  # of an outer value
            node("Tanh", ["sum"], ["next"]),
            node("Identity", ["going"], ["go_on"]),
            node("ReduceMax", ["next"], ["top"], keepdims=0),
        ],
        [value("i", [], INT64), value("going", [], BOOL), value("state", [4, 4])],
        [value("go_on", [], BOOL), value("next", [4, 4]), value("top", [])],
    )
    return graph(
        [node("Loop", ["rounds", "", "x"], ["y", "tops"], body=inner)],
        [X],
        [Y, value("tops", [None])],
        [W, weight("rounds", np.array(3))],
    )


def scanning() -> onnx.ModelProto:
    inner = body(
        [node("Add", ["sum", "row"], ["next"]), node("Relu", ["next"], ["out"])],
        [value("sum", [4]), value("row", [4])],
        [value("next", [4]), value("out", [4])],
    )
    return graph(
        [node("Scan", ["start", "x"], ["last", "y"], body=inner, num_scan_inputs=1)],
        [X],
        [value("last", [4]), Y],
        [weight("start", np.zeros(4, np.float32))],
    )


def quantizing() -> onnx.ModelProto:
    """A weight that a Q/DQ pair and another node share."""
    return graph(
        [
            node("QuantizeLinear", ["w", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("MatMul", ["x", "d"], ["m"]),
            node("Add", ["m", "w"], ["y"]),
        ],
        [X],
        [Y],
        [W, weight("s", np.float32(0.02)), weight("z", np.int8(0))],
    )


def suppressing() -> onnx.ModelProto:
    return graph(
        [
            node("Sigmoid", ["x"], ["p"]),
            node("Unsqueeze", ["p", "zero"], ["boxes"]),
            node("Unsqueeze", ["scores", "zero"], ["s"]),
            node("NonMaxSuppression", ["boxes", "s", "many", "overlap", "least"], ["y"]),
        ],
        [X, value("scores", [1, 4])],
        [value("y", [None, 3], INT64)],
        [
            weight("zero", np.array([0])),
            weight("many", np.array([4])),
            weight("overlap", np.float32([0.5])),
            weight("least", np.float32([0.1])),
        ],
    )


def picking() -> onnx.ModelProto:
    """A sequence, whose element type stays."""
    return graph(
        [
            node("SequenceConstruct", ["x", "x"], ["pair"]),
            node("SequenceAt", ["pair", "one"], ["second"]),
            node("MatMul", ["second", "w"], ["y"]),
        ],
        [X],
        [Y],
        [W, weight("one", np.array(1))],
    )


def collecting() -> onnx.ModelProto:
    """A loop that carries a sequence of what it computes."""
    from onnx import helper

    row = helper.make_tensor_type_proto(FLOAT, [4, 4])
    rows = helper.make_sequence_type_proto(row)
    inner = body(
        [
            node("MatMul", ["x", "w"], ["product"]),
            node("SequenceInsert", ["rows", "product"], ["more"]),
            node("Identity", ["going"], ["go_on"]),
        ],
        [value("i", [], INT64), value("going", [], BOOL), helper.make_value_info("rows", rows)],
        [value("go_on", [], BOOL), helper.make_value_info("more", rows)],
    )
    return graph(
        [
            node("SequenceEmpty", [], ["none"]),
            node("Loop", ["rounds", "", "none"], ["all"], body=inner),
            node("ConcatFromSequence", ["all"], ["joined"], axis=0),
            node("Relu", ["joined"], ["y"]),
        ],
        [X],
        [value("y", [None, 4])],
        [W, weight("rounds", np.array(3))],
    )


GRAPHS = {
    "nodes without names": graph(
        [node("Relu", ["x"], ["a"]), node("Neg", ["x"], ["b"]), node("Add", ["a", "b"], ["y"])], [X], [Y]
    ),
    "output used inside": graph([node("Relu", ["x"], ["z"]), node("Neg", ["z"], ["y"])], [X], [Y, value("z", [4, 4])]),
    "output is input": graph([node("Relu", ["x"], ["y"])], [X], [Y, X]),
    "output is initializer": graph([node("Add", ["x", "w"], ["y"])], [X], [Y, value("w", [4, 4])], [W]),
    "constant output": graph(
        [node("Relu", ["x"], ["y"]), node("Neg", ["w"], ["z"])], [X], [Y, value("z", [4, 4])], [W]
    ),
    "constant nodes": graph(
        [
            node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0, 4.0]),
            node("Constant", [], ["d"], value_float=0.5),
            node("Add", ["x", "c"], ["t"]),
            node("Mul", ["t", "d"], ["y"]),
        ],
        [X],
        [Y],
    ),
    "resize": graph(
        [node("Resize", ["x", "", "scales"], ["y"], mode="linear")],
        [value("x", [1, 1, 4, 4])],
        [value("y", [1, 1, 8, 8])],
        [weight("scales", np.float32([1, 1, 2, 2]))],
    ),
    "topk": graph(
        [node("TopK", ["x", "k"], ["y", "i"])], [X], [value("y"), value("i", None, INT64)], [weight("k", [2])]
    ),
    "lstm": graph(
        [node("LSTM", ["x", "w1", "r1"], ["y"], hidden_size=3)],
        [value("x", [5, 2, 4])],
        [value("y")],
        [weight("w1", rng.normal(size=(1, 12, 4)).astype("f")), weight("r1", rng.normal(size=(1, 12, 3)).astype("f"))],
    ),
    "normalized": graph(
        [node("LayerNormalization", ["x", "g"], ["n"], axis=-1), node("Softmax", ["n"], ["y"])],
        [X],
        [Y],
        [weight("g", np.float32([1, 2, 3, 4]))],
    ),
    "if reads outside": branching("MatMul", "Add"),
    "if with weights of its own": branching("MatMul", "Sub", (W,)),
    "loop": looping(),
    "scan": scanning(),
    "q/dq": quantizing(),
    "nms": suppressing(),
    "sequence": picking(),
    "sequence that a loop carries": collecting(),
    "cast and fill": graph(
        [
            node("Cast", ["n"], ["f"], to=FLOAT),
            node("Shape", ["x"], ["shape"]),
            node("ConstantOfShape", ["shape"], ["c"], value=weight("v", np.float32([1.5]))),
            node("Mul", ["f", "c"], ["t"]),
            node("Add", ["t", "x"], ["y"]),
        ],
        [X, value("n", [4, 4], INT64)],
        [Y],
    ),
    "opset 21 q/dq": graph(
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("MatMul", ["d", "w"], ["y"]),
        ],
        [X],
        [Y],
        [W, weight("s", np.float32(0.02)), weight("z", np.int8(0))],
        opset=21,
    ),
}


def run(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, dict(inputs)), strict=True))


def inputs_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(1)
    weights = {tensor.name for tensor in model.graph.initializer}
    made = {}
    for item in model.graph.input:
        if item.name not in weights:
            shape = [dim.dim_value for dim in item.type.tensor_type.shape.dim]
            is_float = item.type.tensor_type.elem_type == FLOAT
            made[item.name] = drawn.normal(size=shape).astype("f") if is_float else drawn.integers(0, 4, shape)
    return made


@pytest.mark.parametrize("name", GRAPHS)
def test_the_result_is_valid_runs_and_is_near(name: str) -> None:
    model = GRAPHS[name]
    half = convert(model, "float16")
    onnx.checker.check_model(half, full_check=True)
    assert [o.SerializeToString() for o in half.graph.output] == [o.SerializeToString() for o in model.graph.output]
    assert [i.name for i in half.graph.input] == [i.name for i in model.graph.input]
    inputs = inputs_of(model)
    got, want = run(half, inputs), run(model, inputs)
    for output, array in want.items():
        np.testing.assert_allclose(got[output], array, atol=0.01, rtol=0.01)


@pytest.mark.parametrize("name", GRAPHS)
def test_initializers_keep_their_names(name: str) -> None:
    before = {tensor.name: tuple(tensor.dims) for tensor in GRAPHS[name].graph.initializer}
    after = {tensor.name: tuple(tensor.dims) for tensor in convert(GRAPHS[name], "float16").graph.initializer}
    assert after == before


@pytest.mark.parametrize("name", GRAPHS)
def test_the_same_bytes_every_time(name: str) -> None:
    first, second = (convert(GRAPHS[name], "float16").SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", ["loop", "if reads outside", "normalized", "lstm", "constant nodes"])
def test_products_are_really_in_the_format(name: str) -> None:
    """All that computes takes float16: what stays float32 are casts at the rim."""
    half = onnx.shape_inference.infer_shapes(convert(GRAPHS[name], "float16"))
    kinds = {info.name: info.type.tensor_type.elem_type for info in (*half.graph.value_info, *half.graph.input)}
    kinds |= {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    computing = [n for n in half.graph.node if n.op_type in ("LayerNormalization", "LSTM", "Loop", "If", "Add", "Mul")]
    assert computing
    assert not [name for n in computing for name in n.input if kinds.get(name) == FLOAT]


def kinds_of(model: onnx.ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def test_a_weight_that_some_need_in_float32_stays_so() -> None:
    half = convert(quantizing(), "float16")
    assert kinds_of(half)["w"] == FLOAT
    assert kinds_of(half)["s"] == FLOAT
    assert kinds_of(convert(looping(), "float16"))["w"] == HALF


def test_scales_of_quantization_stay_where_float16_ones_are_valid_too() -> None:
    assert kinds_of(convert(GRAPHS["opset 21 q/dq"], "float16"))["s"] == FLOAT


def test_regions_of_a_resize_stay() -> None:
    model = graph(
        [node("Resize", ["x", "roi", "scales"], ["y"], coordinate_transformation_mode="tf_crop_and_resize")],
        [value("x", [1, 1, 4, 4])],
        [value("y", [1, 1, 8, 8])],
        [weight("roi", np.float32([0, 0, 0, 0, 1, 1, 0.9, 0.9])), weight("scales", np.float32([1, 1, 2, 2]))],
    )
    assert kinds_of(convert(model, "float16")) == {"roi": FLOAT, "scales": FLOAT}


def test_values_outside_the_format_stay_finite_and_not_zero() -> None:
    """A mask's -1e9 must not become -inf, nor an epsilon 0."""
    values = np.array([-1e9, 1e38, 1e-12, -1e-12, 0.0, 1.0, np.inf, np.nan], np.float32)
    half = narrowed(values, "float16")
    np.testing.assert_array_equal(half, np.float16([-65504, 65504, 2**-24, -(2**-24), 0, 1, np.inf, np.nan]))


def test_arithmetic_on_shapes_stays_exact() -> None:
    """4,099 is no float16: a length halved and doubled in it would come out as another."""
    model = graph(
        [
            node("Shape", ["x"], ["shape"]),
            node("Cast", ["shape"], ["f"], to=FLOAT),
            node("Mul", ["f", "two"], ["double"]),
            node("Cast", ["double"], ["target"], to=INT64),
            node("Concat", ["x", "x"], ["xx"], axis=0),
            node("Reshape", ["xx", "target"], ["y"]),
        ],
        [value("x", [4099])],
        [value("y", [None])],
        [weight("two", np.float32(2))],
    )
    half = convert(model, "float16")
    assert run(half, {"x": np.ones(4099, np.float32)})["y"].shape == (8198,)


def test_a_running_sum_stays_exact_where_float16_stops_counting() -> None:
    model = graph(
        [node("CumSum", ["x", "axis"], ["y"])],
        [value("x", [3001])],
        [value("y", [3001])],
        [weight("axis", np.array(0))],
    )
    assert run(convert(model, "float16"), {"x": np.ones(3001, np.float32)})["y"][-1] == 3001


def test_functions_are_inlined() -> None:
    from onnx import helper

    twice = helper.make_function(
        "own", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    inner = helper.make_graph([node("Twice", ["x"], ["y"], domain="own")], "g", [X], [Y])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = helper.make_model(inner, opset_imports=opsets, functions=[twice], ir_version=9)
    half = convert(model, "float16")
    assert [n.op_type for n in half.graph.node] == ["Cast", "Add", "Cast"]


def test_an_operator_that_onnx_does_not_know_stays_in_float32() -> None:
    from onnx import helper

    inner = helper.make_graph(
        [node("Plugin", ["x"], ["p"], domain="mine"), node("MatMul", ["p", "w"], ["y"])], "g", [X], [Y], [W]
    )
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)])
    half = convert(model, "float16")
    assert [(n.op_type, list(n.input)) for n in half.graph.node] == [
        ("Plugin", ["x"]),
        ("Cast", ["p"]),
        ("MatMul", ["p_float16", "w"]),
        ("Cast", ["y_float16"]),
    ]


def test_bfloat16_is_only_another_format() -> None:
    half = convert(GRAPHS["normalized"], "bfloat16")
    onnx.checker.check_model(half, full_check=True)
    assert kinds_of(half)["g"] == onnx.TensorProto.BFLOAT16


def test_the_argument_is_left_as_it_is() -> None:
    model = looping()
    before = model.SerializeToString(deterministic=True)
    convert(model, "float16")
    assert model.SerializeToString(deterministic=True) == before


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(SpecError, match="no conversion to 'float8'; formats: float16, bfloat16"):
        convert(looping(), "float8")


@pytest.mark.parametrize("name", ["fp32", "tf32", "fp16-weak"])
def test_recipes_that_convert_nothing_give_the_file_itself(name: str, tmp_path: Path) -> None:
    model = spec(tmp_path, looping())
    assert converted(model, recipe(name)) == model.source.path()


@pytest.mark.usefixtures("exports")
def test_a_model_is_converted_once_and_again_when_it_changes(tmp_path: Path) -> None:
    model = spec(tmp_path, looping())
    first = converted(model, recipe("fp16"))
    stamp = first.stat().st_mtime_ns
    assert converted(model, recipe("fp16")) == first
    assert first.stat().st_mtime_ns == stamp
    assert converted(spec(tmp_path, quantizing(), name="other"), recipe("fp16")) != first


@pytest.mark.usefixtures("exports")
def test_external_data(tmp_path: Path) -> None:
    """Weights that lie beside the model come along, whatever they are called."""
    model = looping()
    onnx.save_model(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "m.onnx").touch()
    from harness.spec import ModelSpec

    path = converted(ModelSpec("m", OnnxFile(tmp_path / "m.onnx")), recipe("fp16"))
    half = onnx.load(path)
    (w,) = (tensor for tensor in half.graph.initializer if tensor.name == "w")
    np.testing.assert_allclose(numpy_helper.to_array(w), numpy_helper.to_array(W), rtol=1e-3)
