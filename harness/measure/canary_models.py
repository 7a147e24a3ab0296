"""The two canaries as models: one that the arithmetic of a device limits, and one that its memory does.

They say whether the device is still the one that a session began on (`harness.measure.canary`), and what it can do
at best (`harness.measure.roofline`). They are the project's own and never change, or their series would.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.measure.roofline import Ceilings, Work
from harness.spec.data import InputRule
from harness.spec.model import ModelSpec
from harness.spec.profile import Profile
from harness.spec.source import OnnxFunction

if TYPE_CHECKING:
    import onnx

COMPUTE, MEMORY = "canary_compute", "canary_memory"
PRODUCTS = 8  # of square matrices, one after the other
# Sizes, for a device that makes short work of either and for a CPU: some milliseconds on both.
SIDE, ROWS = {"gpu": 4096, "cpu": 512}, {"gpu": 1 << 14, "cpu": 1 << 10}
COLUMNS = 4096


def canaries(kind: str) -> tuple[ModelSpec, ModelSpec]:
    """Those for a ``kind`` of device, "gpu" or "cpu". KeyError for another."""
    side, rows = SIDE[kind], ROWS[kind]
    return (
        ModelSpec(
            f"{COMPUTE}_{kind}",
            OnnxFunction(f"{COMPUTE}_{kind}", _products),
            profiles=(Profile.of({"side": side}),),
            inputs=(InputRule("x", "uniform", -steady(side), steady(side)),),
            size="full",
            family="canary",
        ),
        ModelSpec(
            f"{MEMORY}_{kind}",
            OnnxFunction(f"{MEMORY}_{kind}", _sum),
            profiles=(Profile.of({"rows": rows}),),
            size="full",
            family="canary",
        ),
    )


def steady(side: int) -> float:
    """The bound of uniform numbers in a square matrix whose powers stay as large: their variance is 1 / side."""
    return float((3 / side) ** 0.5)


def ceilings(kind: str, seconds: Mapping[str, float]) -> Ceilings:
    """What the device does at best, from the ``seconds`` of a run of each canary by its name.

    Inputs and outputs are float32 at any precision.
    """
    side, rows = SIDE[kind], ROWS[kind]
    work = Work(PRODUCTS * 2 * side**3, 2 * 4 * rows * COLUMNS, {})
    return Ceilings(work.operations / seconds[f"{COMPUTE}_{kind}"], work.nbytes / seconds[f"{MEMORY}_{kind}"])


def _products() -> onnx.ModelProto:
    from onnx import helper

    names = ["x", *(f"p{number}" for number in range(1, PRODUCTS)), "y"]
    nodes = [helper.make_node("MatMul", [one, "x"], [other]) for one, other in itertools.pairwise(names)]
    return _model(nodes, ["side", "side"])


def _sum() -> onnx.ModelProto:
    from onnx import helper

    return _model([helper.make_node("Add", ["x", "one"], ["y"])], ["rows", COLUMNS], one=1.0)


def _model(nodes: list[onnx.NodeProto], shape: list[str | int], **constants: float) -> onnx.ModelProto:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    held = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "canary", ends[:1], ends[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
