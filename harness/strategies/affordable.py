"""What the arrays of an example come to, so that none is drawn that takes a machine down."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.spec.onnx_model import Interface
from harness.spec.tensor import Dim, TensorSpec, evaluate, symbols


@dataclass(frozen=True)
class Bounds:
    """At most ``elements`` in all inputs and outputs together, and at most ``memory`` bytes (None: any number).

    Of an output whose size the data or a shape tensor decide, only the known dimensions count. What
    a network holds between its layers is not known here.
    """

    interface: Interface
    elements: int | None = None
    memory: int | None = None

    def __call__(self, binding: Mapping[str, int]) -> bool:
        elements, nbytes = cost(self.interface, binding)
        return (self.elements is None or elements <= self.elements) and (self.memory is None or nbytes <= self.memory)


def cost(interface: Interface, binding: Mapping[str, int]) -> tuple[int, int]:
    """Elements, and bytes, of all inputs and outputs under ``binding``."""
    counted = [(_elements(tensor, binding), _bits(tensor.dtype)) for tensor in (*interface.inputs, *interface.outputs)]
    return sum(count for count, _ in counted), sum(-(-count * bits // 8) for count, bits in counted)


def _elements(tensor: TensorSpec, binding: Mapping[str, int]) -> int:
    return math.prod(_known(tensor.shape, binding))


def _known(shape: tuple[Dim, ...], binding: Mapping[str, int]) -> Iterator[int]:
    for dim in shape:
        if all(symbol in binding for symbol in symbols(dim)):
            yield evaluate(dim, binding)


def _bits(dtype: str) -> int:
    width = re.search(r"\d+", dtype)
    return int(width[0]) if width else 8  # bool
