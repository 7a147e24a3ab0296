"""Shapes by onnx's inference: right, or said not to be known."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from harness.errors import RunError
from harness.runtime.backend.inference import ShapeInference
from harness.runtime.backend.protocol import Shape

HEAD = '<ir_version: 8, opset_import: ["": 17]>'


def inference(text: str, *weights: onnx.TensorProto) -> ShapeInference:
    model = onnx.parser.parse_model(f"{HEAD} {text}")
    model.graph.initializer.extend(weights)
    return ShapeInference(model)


@pytest.mark.parametrize(
    ("text", "shapes", "expected"),
    [
        ("g (float[n, 4] x) => (float[a, b] y) { y = Transpose (x) }", {"x": (3, 4)}, {"y": (4, 3)}),
        ("g (float[n, 4] x) => (float[n, 9] y) { y = Relu (x) }", {"x": (3, 4)}, {"y": (3, 4)}),  # not as declared
        ("g (float[n, 4] x) => (int64[2, k] y) { y = NonZero (x) }", {"x": (3, 4)}, {"y": (2, -1)}),
        (
            "g (float[n, 4] x) => (float[n, 4] y, float[n, 4] x) { y = Relu (x) }",
            {"x": (0, 4)},
            {"y": (0, 4), "x": (0, 4)},
        ),
        ("g (float[] x) => (float[] y) { y = Relu (x) }", {"x": ()}, {"y": ()}),
    ],
)
def test_sizes_are_those_of_the_inputs(text: str, shapes: dict[str, Shape], expected: dict[str, Shape]) -> None:
    assert inference(text)(shapes, {}) == expected


def test_contents_decide() -> None:
    infer = inference("g (float[12] x, int64[2] shape) => (float[a, b] y) { y = Reshape (x, shape) }")
    shapes = {"x": (12,), "shape": (2,)}
    for shape in ((3, 4), (6, 2), (3, 4)):
        assert infer(shapes, {"shape": np.array(shape)}) == {"y": shape}
    assert infer(shapes, {"shape": np.array([2, -1])}) == {"y": (2, 6)}
    assert infer(shapes, {}) == {"y": (-1, -1)}


def test_what_contradicts_the_model_is_refused_in_onnx_words() -> None:
    infer = inference("g (float[n, 4] x, float[k, 4] z) => (float[a, b] y) { y = Gemm (x, z) }")
    assert infer({"x": (3, 4), "z": (4, 4)}, {}) == {"y": (3, 4)}
    with pytest.raises(RunError, match=r"shapes can't be inferred: .*dimension"):
        inference("g (float[n, 4] x, float[n, 4] z) => (float[n, c] y) { y = MatMul (x, z) }")(
            {"x": (3, 4), "z": (3, 4)}, {}
        )


def test_weights_count_by_their_shape_and_small_ones_by_value() -> None:
    big = numpy_helper.from_array(np.zeros((64, 32), np.float32), "w")
    shape = numpy_helper.from_array(np.array([-1, 2, 16]), "shape")
    infer = inference(
        "g (float[n, 64] x) => (float[a, b, c] y) { p = MatMul (x, w)  y = Reshape (p, shape) }", big, shape
    )
    assert infer({"x": (3, 64)}, {}) == {"y": (3, 2, 16)}
    assert infer._model.ByteSize() < big.ByteSize()


def test_what_was_asked_before_is_not_computed_again() -> None:
    infer = inference("g (float[n, 4] x) => (float[n, 4] y) { y = Relu (x) }")
    for rows in (1, 2, 1, 2):
        infer({"x": (rows, 4)}, {})["y"] = ()  # the answer is the asker's
        assert infer({"x": (rows, 4)}, {}) == {"y": (rows, 4)}
    assert infer._inferred.cache_info().misses == 2
