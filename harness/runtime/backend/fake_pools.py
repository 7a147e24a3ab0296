"""Pools of onnx's reference evaluator, all windows at once: its own look at each of them in Python, .1 s a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from onnx.reference.ops import op_average_pool, op_max_pool

from harness.runtime.backend.protocol import Array

_AveragePool: Any = op_average_pool.AveragePool_19  # onnx.reference has no types
_MaxPool: Any = op_max_pool.MaxPool


def windows(x: Array, sizes: Sequence[int], strides: Sequence[int], pads: Sequence[int], outside: float) -> Array:
    """``x`` of (N, C, D1, ...) as (N, C, O1, ..., K1, ...), with ``outside`` where a window goes beyond it."""
    half = len(pads) // 2
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:half], pads[half:], strict=True)], constant_values=outside)
    axes = tuple(range(2, x.ndim))
    every = sliding_window_view(padded, tuple(sizes), axes)
    found: Array = every[(slice(None), slice(None), *(slice(None, None, step) for step in strides))]
    return found


def _plain(asked: dict[str, Any]) -> tuple[Sequence[int], Sequence[int], Sequence[int]] | None:
    """Sizes, strides and pads of what ``asked`` for; None of what is left to the reference."""
    dilated = {*(asked.get("dilations") or ())} - {1}
    if asked.get("auto_pad") not in (None, "NOTSET") or asked.get("ceil_mode") or dilated:
        return None
    sizes = asked["kernel_shape"]
    return sizes, asked.get("strides") or [1] * len(sizes), asked.get("pads") or [0] * 2 * len(sizes)


class AveragePool(_AveragePool):  # type: ignore[misc]  # as above
    op_domain = ""

    def _run(self, x: Array, **asked: Any) -> tuple[Array]:
        plain = _plain(asked)
        if plain is None:
            return super()._run(x, **asked)  # type: ignore[no-any-return]  # as above
        inner = tuple(range(x.ndim, 2 * x.ndim - 2))
        total = windows(x, *plain, 0).sum(inner, dtype=x.dtype)
        inside = np.ones_like(x[:1, :1]) if not asked.get("count_include_pad") else None
        count = np.prod(plain[0]) if inside is None else windows(inside, *plain, 0).sum(inner)
        return ((total / count).astype(x.dtype),)


class MaxPool(_MaxPool):  # type: ignore[misc]  # likewise
    op_domain = ""

    def _run(self, x: Array, **asked: Any) -> tuple[Array, ...]:
        plain = _plain(asked)
        if plain is None or len(self.onnx_node.output) > 1 or x.dtype.kind != "f":
            return super()._run(x, **asked)  # type: ignore[no-any-return]  # as above
        return (windows(x, *plain, -np.inf).max(tuple(range(x.ndim, 2 * x.ndim - 2))),)


POOLS: list[Any] = [AveragePool, MaxPool]
