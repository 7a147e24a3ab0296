"""Small ONNX files, good and bad, for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str | None]


def linear(
    path: Path,
    *,
    shape: Shape = ("batch", 4),
    weights: np.ndarray | None = None,
    external: str = "",
    operator: str = "MatMul",
    name: str = "linear",
) -> Path:
    """``y = x @ w`` with ``w`` of 4 by 3 (by seed), as a file; ``external`` names a file for the weights."""
    if weights is None:
        weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    tensor = numpy_helper.from_array(weights, "w")
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"], name="product")],
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [*shape[:-1], weights.shape[1]])],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if external:
        onnx.save_model(model, str(path), save_as_external_data=True, location=external, size_threshold=0)
    else:
        path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def edit(path: Path, change: object) -> Path:
    """``path`` after ``change(model)``, external data left where it is."""
    model = onnx.load(str(path), load_external_data=False)
    change(model)  # type: ignore[operator]
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def move_external(path: Path, location: str) -> Path:
    """``path`` with its external data said to lie at ``location``."""

    def change(model: onnx.ModelProto) -> None:
        for entry in model.graph.initializer[0].external_data:
            if entry.key == "location":
                entry.value = location

    return edit(path, change)
