"""What NonMaxSuppression may keep: any set of boxes that it could have come to, rounding as it may.

Where two scores all but tie, or two boxes overlap by all but the threshold, an honest engine may keep another box,
which spares or suppresses others in turn. So a set is not judged by another, but by what the operator does: it keeps no
two boxes that clearly overlap, and leaves none out for which there is no reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.judge.tolerance import Tolerance

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]
Wide = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Suppression:
    """The operator's limits: ``most`` boxes a class, the ``overlap`` (IoU) and the ``least`` score to be above."""

    boxes: str  # the tensor [batch, count, 4]
    most: int
    overlap: float
    least: float
    centered: bool  # boxes are centre and size, not two corners


def objection(kept: Indices, boxes: Array, scores: Array, rule: Suppression, near: Tolerance, close: Tolerance) -> str:
    """Why the operator can't have kept ``kept``, places of one batch and class; "" when it can.

    ``boxes`` [count, 4] may be off by ``near``, ``scores`` [count] by ``close``.
    """
    worth = scores.astype(np.float64)
    doubt = close.atol + close.rtol * np.abs(worth)  # of each score; of two, twice as much
    if len(kept) > rule.most:
        return f"{len(kept)} boxes are kept, {rule.most} allowed"
    low = kept[worth[kept] <= rule.least - doubt[kept]]
    if low.size:
        return f"box {low[0]} is kept, whose score {worth[low[0]]:.6g} is not above {rule.least:.6g}"
    overlap, blur = overlaps(boxes, kept, rule.centered, near)
    among, unsure = overlap[kept], blur[kept]
    np.fill_diagonal(among, 0.0)
    clear = np.argwhere(among > rule.overlap + unsure)
    if clear.size:
        one, other = (int(kept[index]) for index in clear[0])
        return f"boxes {one} and {other} are kept, which overlap by {among[tuple(clear[0])]:.3g}"
    rest = np.setdiff1d(np.flatnonzero(worth > rule.least + doubt), kept)
    before = worth[kept] + 2 * doubt[kept] >= worth[rest, None]  # may have come first
    suppressed = (before & (overlap[rest] >= rule.overlap - blur[rest])).any(axis=1)
    full = (len(kept) == rule.most) & before.all(axis=1)
    lost = rest[~(suppressed | full)]
    if lost.size:
        return (
            f"box {lost[0]} is left out, whose score {worth[lost[0]]:.6g} is high enough and which nothing suppresses"
        )
    return ""


def overlaps(boxes: Array, with_these: Indices, centered: bool, near: Tolerance) -> tuple[Wide, Wide]:
    """The IoU of every box with some, [count, some], and how far each may be off with coordinates off by ``near``."""
    wide = boxes.astype(np.float64)
    by = near.atol + near.rtol * float(np.abs(wide).max(initial=0))
    first, second = wide[:, :2], wide[:, 2:]
    if centered:
        first, second = first - second / 2, first + second / 2
    low, high = np.minimum(first, second), np.maximum(first, second)
    sides = high - low
    shared = np.minimum(high[:, None], high[with_these]) - np.maximum(low[:, None], low[with_these])
    inner = np.clip(shared, 0, None)
    common, areas = inner.prod(axis=2), sides.prod(axis=1)
    union = areas[:, None] + areas[with_these] - common
    safe = np.where(union > 0, union, 1.0)
    iou = np.where(union > 0, common / safe, 0.0)
    # Each side may be longer by twice ``by``, and with it an area by that times the other side.
    more = 2 * by * inner.sum(axis=2)
    most = more + 2 * by * (sides.sum(axis=1)[:, None] + sides[with_these].sum(axis=1))
    return iou, (more + iou * most) / safe
