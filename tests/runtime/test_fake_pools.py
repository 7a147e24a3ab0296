"""The fake's pools are those of onnx's reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from harness.runtime.backend.fake_pools import POOLS

ASKED: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2]},
    {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3]},
    {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [0, 1, 1, 1, 0, 1]},
]
INCLUDED = [{**asked, "count_include_pad": 1} for asked in ASKED[:3]]
DILATED = [
    {"kernel_shape": [2, 2], "dilations": [2, 2]},
    {"kernel_shape": [2, 2], "strides": [2, 2], "dilations": [1, 2]},
]


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        *(("AveragePool", asked) for asked in (*ASKED, *INCLUDED)),
        *(("MaxPool", asked) for asked in (*ASKED, *DILATED)),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_pools(name: str, asked: dict[str, Any], dtype: type) -> None:
    sizes = [2, 3, *(7, 8, 6)[: len(asked["kernel_shape"])]]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node(name, ["x"], ["y"], **asked)
    ends = [helper.make_tensor_value_info(tensor, kind, None) for tensor in "xy"]
    graph = helper.make_graph([node], "pools", [ends[0]], [ends[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    x = np.random.default_rng(0).standard_normal(sizes).astype(dtype)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    (got,) = ReferenceEvaluator(model, new_ops=POOLS).run(None, {"x": x})
    assert (got.dtype, got.shape) == (x.dtype, expected.shape)
    near = 8 * float(np.finfo(dtype).eps)  # sums are in another order
    assert np.allclose(got, expected, rtol=near, atol=near)


def test_with_their_places_it_is_the_references() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y", "places"], kernel_shape=[2, 2])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    places = helper.make_tensor_value_info("places", TensorProto.INT64, None)
    graph = helper.make_graph([node], "pools", ends[:1], [ends[1], places])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    expected = ReferenceEvaluator(model).run(None, {"x": x})
    got = ReferenceEvaluator(model, new_ops=POOLS).run(None, {"x": x})
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
