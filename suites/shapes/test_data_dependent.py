"""Outputs of which only the data decide the size: from none to all, and never more than can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import RunError
from suites.shapes.which import TENSORRT, decided_by_data

if TYPE_CHECKING:
    from harness.pytest_plugin.types import (
        Array,
        CellOracle,
        Compare,
        Example,
        Explore,
        InputsAt,
        Interface,
        ModelSpec,
        Sessions,
    )

# How large a dimension can become, by model and symbol; of others nothing is known.
MOST: Mapping[tuple[str, str], Callable[[Mapping[str, int]], int]] = {
    ("nonzero", "found"): lambda sizes: 16 * sizes["rows"],  # every element
    ("nms", "kept"): lambda sizes: 3 * 4 * sizes["batch"],  # 4 boxes of each of 3 classes
    ("detection", "kept"): lambda sizes: 4 * 5 * sizes["batch"],  # 5 boxes of each of 4 classes
}
BY_THE_INPUT = ("nonzero", "nms")  # models whose input itself decides, so that nothing and all can be had


@pytest.mark.trt(models=decided_by_data, needs="data_dependent_shapes", over=("model", "precision", "backend"))
def test_sizes_from_none_to_all(
    trt_model: ModelSpec,
    trt_backend: str,
    trt_explore: Explore,
    trt_sessions: Sessions,
    trt_interface: Interface,
    trt_inputs_at: InputsAt,
    trt_oracle: CellOracle,
    trt_compare: Compare,
    trt_record: dict[str, Any],
) -> None:
    """One session finds nothing, some and all in turn; memory for the most there can be is enough for it.

    TensorRT asks an output allocator for whole granules, so that the most is told up to the next of them.
    """
    from harness.runtime.backend.protocol import GRANULE

    limits = limits_of(trt_model, trt_interface)
    granule = GRANULE if trt_backend in TENSORRT else 1
    shares: list[float] = []

    def check(example: Example) -> None:
        session, plain = trt_sessions(example.profile), trt_inputs_at(example)
        for fill in (nothing, as_drawn, beyond_one):
            inputs = {name: fill(array) if array.dtype.kind == "f" else array for name, array in plain.items()}
            got = session.run(inputs)
            trt_compare(got, trt_oracle(inputs), weak="note")
            shares.extend(limit.share(got[limit.output], example) for limit in limits)
        for limit in limits:  # the last was the most that these data can give
            array = got[limit.output]
            enough = limit.bytes(array, example, granule)
            session.limit(limit.output, enough)
            trt_compare(session.run(inputs), trt_oracle(inputs), weak="note")
            session.limit(limit.output, array.nbytes - 1)
            with pytest.raises(RunError, match=limit.output):
                session.run(inputs)
            session.limit(limit.output, None)

    trt_explore(check)
    trt_record["share_found"] = [min(shares), max(shares)] if shares else []
    if trt_model.name in BY_THE_INPUT:
        assert trt_record["share_found"] == [0.0, 1.0]


@dataclass(frozen=True)
class Limit:
    """An output, the axis of which the data decide the size, and how large that can become."""

    output: str
    axis: int
    most: Callable[[Mapping[str, int]], int]

    def share(self, array: Array, example: Example) -> float:
        """How much of what could be found was; never more than all of it."""
        found, most = array.shape[self.axis], self.most(example.binding)
        assert found <= most, f"{self.output} {list(array.shape)}: at {example} there are {most} at most"
        return float(found / most)

    def bytes(self, array: Array, example: Example, granule: int = 1) -> int:
        """Of the largest there can be, shaped otherwise as ``array``, which is not empty: whole granules."""
        each = int(array.nbytes // array.shape[self.axis])
        return granule * -(-each * self.most(example.binding) // granule)


def limits_of(model: ModelSpec, interface: Interface) -> list[Limit]:
    return [
        Limit(tensor.name, axis, MOST[model.name, dim])
        for tensor in interface.outputs
        for axis, dim in enumerate(tensor.shape)
        if isinstance(dim, str) and (model.name, dim) in MOST
    ]


def nothing(array: Array) -> Array:
    """No number above zero, so that nothing is found by being large."""
    zeros: Array = array * array.dtype.type(0)
    return zeros


def as_drawn(array: Array) -> Array:
    return array


def beyond_one(array: Array) -> Array:
    """No number below one, so that all is found that can be found by being large."""
    large: Array = abs(array) + array.dtype.type(1)
    return large
