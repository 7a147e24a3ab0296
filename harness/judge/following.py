"""What a model gives once its choices are made: the same model, with the choices as inputs.

Where two scores all but tie, an engine may rightly keep another box than the oracle did, and then
everything computed from that box is rightly another too. Such outputs are judged against what the
oracle gives for the engine's own choice; the choice itself is judged by the floats behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from harness.judge.layout import undone
from harness.judge.provenance import Kind, Origin

Array = npt.NDArray[Any]
CHOSEN = (Kind.SELECTED, Kind.FOUND, Kind.KEPT)


def followers(origins: Mapping[str, Origin]) -> tuple[str, ...]:
    """The outputs that rest on choices without showing one."""
    return tuple(name for name, origin in origins.items() if origin.follows and origin.kind not in CHOSEN)


def choices_of(
    got: Mapping[str, Array], want: Mapping[str, Array], origins: Mapping[str, Origin], seen: Mapping[str, Array]
) -> dict[str, Array]:
    """The choices of a run that are not the reference's, as its operators would have given them (int64)."""
    found = {}
    for name, origin in origins.items():
        choice = origin.choice
        if origin.kind not in CHOSEN or choice is None or choice.raw not in seen or name not in got:
            continue
        if got[name].dtype.kind != "i" or np.array_equal(got[name], want[name]):
            continue
        raw = undone(got[name], choice.layout, seen[choice.raw])
        if raw is not None:
            found[choice.raw] = raw.astype(np.int64)
    return found


def with_choices_given(model: onnx.ModelProto, choices: tuple[str, ...], outputs: tuple[str, ...]) -> onnx.ModelProto:
    """``model``, without functions, that takes ``choices`` (int64) as inputs and gives ``outputs`` alone."""
    given = onnx.ModelProto()
    given.CopyFrom(model)
    for node in given.graph.node:
        for index, name in enumerate(node.output):
            if name in choices:
                node.output[index] = f"{name} of its own"
    described = [value for value in given.graph.value_info if value.name not in choices]
    shown = [value for value in given.graph.output if value.name in outputs]
    del given.graph.value_info[:], given.graph.output[:]
    given.graph.value_info.extend(described)
    given.graph.output.extend(shown)
    given.graph.input.extend(helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None) for name in choices)
    return given
