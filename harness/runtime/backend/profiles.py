"""What an engine reports of one profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.runtime.backend.protocol import IOTensor, ShapeRange


def reported(
    inputs: Iterable[IOTensor], shapes: Mapping[str, ShapeRange], contents: Mapping[str, ShapeRange]
) -> dict[str, list[list[int]]]:
    """Smallest, optimal and largest shape of each input, or contents of a shape tensor: ``facts["profile_shapes"]``."""
    found = {}
    for tensor in inputs:
        fixed = ShapeRange(tensor.shape, tensor.shape, tensor.shape)
        told = contents.get(tensor.name) or shapes.get(tensor.name) or fixed
        found[tensor.name] = [list(told.min), list(told.opt), list(told.max)]
    return found
