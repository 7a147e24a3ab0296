"""What a model gives when values on the edge between two steps of a Q/DQ grid take the other one.

Which of two steps such a value takes is decided by less than an engine's rounding, and then everything
computed from it differs by a whole step. Such values lie inside, often behind integers alone, where moving
the model's inputs moves nothing: so each value is moved where it is rounded, by an input of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from harness.judge.graph import Flow
from harness.judge.provenance import QUANTIZERS

Array = npt.NDArray[Any]

PUSHED = "{} pushed"  # the input that moves a value
# Of the largest value that is rounded with it, in turn: what longer and shorter sums make in another order.
# benchmarks/test_turned_steps.py: the last of these explains every step that onnxruntime's optimized run turns, half
# of it nine in ten.
SIZES = 2.0**-20, 2.0**-21, 2.0**-22, 2.0**-23
STEPS = 256  # of a grid; what is larger than as many is at its end, and no measure of what else is rounded there


def rounded(flow: Flow) -> dict[str, float]:
    """The values that are rounded to a grid, and the largest that this can hold: infinity where that isn't known.

    Left out are constants, and what lies in a body.
    """
    found: dict[str, float] = {}
    for node in flow.nodes:
        value = node.input(0)
        if node.op in QUANTIZERS and "\0" not in value and value not in flow.constants:
            scale = flow.constant(node.input(1)) if len(node.inputs) > 1 else None
            reach = math.inf if scale is None else STEPS * float(np.max(scale, initial=0))
            found[value] = max(reach, found.get(value, 0.0))
    return found


def with_pushes(model: onnx.ModelProto, values: Mapping[str, np.dtype[Any]]) -> onnx.ModelProto:
    """``model``, without functions, with an input more for each of ``values``, to be added before it is rounded."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes = []
    for node in made.graph.node:
        if node.op_type in QUANTIZERS and node.input[0] in values:
            value, moved = node.input[0], f"{node.input[0]} moved for {node.output[0]}"
            nodes.append(helper.make_node("Add", [value, PUSHED.format(value)], [moved]))
            node.input[0] = moved
        nodes.append(node)
    rest = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del made.graph.node[:]
    made.graph.node.extend(rest)
    made.graph.input.extend(
        helper.make_tensor_value_info(PUSHED.format(value), helper.np_dtype_to_tensor_dtype(dtype), None)
        for value, dtype in values.items()
    )
    return made


def pushes(seen: Mapping[str, Array], reach: Mapping[str, float], seed: int) -> dict[str, Array]:
    """What moves each value of ``seen`` by up to one of `SIZES`, either way; the same for the same seed."""
    draw, size = np.random.default_rng(seed), SIZES[seed % len(SIZES)]
    found = {}
    for name, array in seen.items():
        largest = min(float(np.abs(array.astype(np.float64)).max(initial=0)), reach[name])
        found[PUSHED.format(name)] = (size * largest * draw.uniform(-1, 1, array.shape)).astype(array.dtype)
    return found
