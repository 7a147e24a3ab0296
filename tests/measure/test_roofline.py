from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from harness.errors import SpecError
from harness.measure.roofline import Ceilings, Work, floor, work_of
from harness.spec import ModelSpec, interface
from harness.spec.catalog import load


def saved(folder: Path, text: str, *weights: onnx.TensorProto) -> Path:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    model.graph.initializer.extend(weights)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def zeros(name: str, *shape: int, kind: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.zeros(shape, kind), name)


def test_a_product(tmp_path: Path) -> None:
    path = saved(tmp_path, "g (float[n, 8] x) => (float[n, 3] y) { y = MatMul (x, w) }", zeros("w", 8, 3))
    assert work_of(path, {"x": (5, 8)}) == Work(2 * 5 * 8 * 3, 4 * (5 * 8 + 8 * 3 + 5 * 3), {})
    assert work_of(path, {"x": (5, 8)}, weight_bytes=2).nbytes == 4 * (5 * 8 + 5 * 3) + 2 * (8 * 3)


@pytest.mark.parametrize(
    ("text", "weights", "operations"),
    [
        ("y = Gemm <transA = 1> (x, w)", (zeros("w", 2, 3),), 2 * 8 * 3 * 2),
        ("y = Conv <pads = [1, 1]> (x, w)", (zeros("w", 4, 8, 3),), 2 * (2 * 4 * 6) * 8 * 3),
        ("y = Conv <group = 8, pads = [1, 1]> (x, w)", (zeros("w", 8, 1, 3),), 2 * (2 * 8 * 6) * 3),
        ("y = ConvTranspose <strides = [2]> (x, w)", (zeros("w", 8, 5, 2),), 2 * (2 * 8 * 6) * 5 * 2),
        ("y, h = GRU <hidden_size = 4> (x, w, r)", (zeros("w", 1, 12, 6), zeros("r", 1, 12, 4)), 2 * 2 * 8 * 12 * 10),
    ],
)
def test_operators(tmp_path: Path, text: str, weights: tuple[onnx.TensorProto, ...], operations: int) -> None:
    shape = (2, 8) if "Gemm" in text else (2, 8, 6)
    declared = ", ".join(map(str, shape))
    rank = {"Gemm": "a, b", "GRU": "a, b, c, d"}.get(text.split("= ")[1].split(" ")[0], "a, b, c")
    path = saved(tmp_path, f"g (float[{declared}] x) => (float[{rank}] y) {{ {text} }}", *weights)
    assert work_of(path, {"x": shape}).operations == operations


def test_of_a_table_no_more_is_read_than_is_gathered(tmp_path: Path) -> None:
    table = zeros("t", 1000, 16)
    path = saved(tmp_path, "g (int64[n] i) => (float[n, 16] y) { y = Gather (t, i) }", table)
    assert work_of(path, {"i": (3,)}).nbytes == 8 * 3 + 4 * 3 * 16 * 2
    both = (
        "g (int64[n] i) => (float[n, 16] y, float[n, 1000] z) { y = Gather (t, i) s = Transpose (t) z = MatMul (y, s) }"
    )
    assert work_of(saved(tmp_path, both, table), {"i": (3,)}).nbytes == 8 * 3 + 4 * (3 * 16 + 3 * 1000 + 16_000)


def test_what_is_not_known_before_a_run_is_left_out_and_named(tmp_path: Path) -> None:
    body = "c = NonZero (x) d = Transpose (c) f = Cast <to = 1> (d) y = MatMul (f, w)"
    text = f"g (float[n, 4] x) => (float[m, 4] y) {{ {body} }}"
    found = work_of(saved(tmp_path, text, zeros("w", 2, 4)), {"x": (3, 4)})
    assert (found.operations, found.uncounted) == (0, {"MatMul": 1})


def test_a_body_is_left_out_and_named(tmp_path: Path) -> None:
    def body(name: str) -> onnx.GraphProto:
        product = helper.make_node("MatMul", ["x", "x"], [name])
        return helper.make_graph([product], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2])])

    node = helper.make_node("If", ["c"], ["y"], then_branch=body("a"), else_branch=body("b"))
    inputs = [("c", TensorProto.BOOL, []), ("x", TensorProto.FLOAT, [2, 2])]
    values = [helper.make_tensor_value_info(*one) for one in inputs]
    graph = helper.make_graph([node], "g", values, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    assert work_of(tmp_path / "model.onnx", {}).uncounted == {"MatMul": 2}


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    path = saved(tmp_path, "g (float[n, 8] x) => (float[n, 3] y) { y = MatMul (x, w) }", zeros("w", 8, 3))
    with pytest.raises(SpecError, match="'x' has 2 dimensions"):
        work_of(path, {"x": (5, 8, 1)})
    with pytest.raises(SpecError, match="do not fit"):
        work_of(path, {"x": (5, 7)})


def test_the_floor_is_the_higher_ceiling_of_two() -> None:
    ceilings = Ceilings(operations=1e12, nbytes=1e9)
    assert floor(Work(10**9, 10**3, {}), ceilings) == pytest.approx(1e-3)
    assert floor(Work(10**3, 10**6, {}), ceilings) == pytest.approx(1e-3)


def test_a_known_model() -> None:
    """ResNet-50: 4.1 billion multiply-adds an image with strides in the 3x3 convolutions, 25.6 million weights.

    He et al. 2016 have 3.8 billion, with strides in the 1x1 ones.
    """
    model: ModelSpec = load()["resnet_full"]
    path = model.source.path()
    shapes = {tensor.name: tensor.resolve({"batch": 1}) for tensor in interface(path).inputs}
    found = work_of(path, shapes)
    assert found.operations / 2e9 == pytest.approx(4.1, rel=0.02)
    assert found.nbytes / 4e6 == pytest.approx(25.6, rel=0.02)
    assert not found.uncounted
