"""Outputs that were decided by comparing floats, judged by the floats behind them.

Two numbers that lie nearer to each other than their errors may change order, so an honest engine
may pick either: what it picked has to be worth as much, and nothing clear may be decided otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.judge.comparison import Failure, OutputComparison
from harness.judge.elements import Mask, equal, first, marked, near, off, wide
from harness.judge.layout import laid, undone
from harness.judge.oracle import Reference
from harness.judge.provenance import FLOATS, Choice, Kind, Origin
from harness.judge.suppression import Suppression, objection
from harness.judge.tolerance import EXACT, Tolerance

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

_BOOLEANS = "booleans that floats decide: equal, but where those floats are nearer to each other than their errors"
_ROUNDED = "integers rounded from floats: one step, since a float between two may be rounded to either"
_LAWFUL = "kept otherwise than by the oracle, where scores or overlaps are nearer to each other than their errors"
_FOUND = "places that {} finds: equal, but where the floats behind them are nearer to the limit than their errors"


@dataclass(frozen=True)
class ChoiceJudge:
    """Judges the choices of one reference. ``bounds`` gives the tolerance of floats such as the given ones."""

    reference: Reference
    bounds: Callable[[str, Array], Tolerance]

    def judge(self, result: OutputComparison, got: Array, want: Array, origin: Origin) -> OutputComparison:
        """``got`` and ``want`` are of the same rank; of the same shape, unless how many there are is part of it."""
        choice, seen = origin.choice, self.reference.seen
        if origin.kind is Kind.DECIDED:
            return self.decided(result, got, want, choice)
        indices = None if choice is None or choice.raw not in seen else undone(got, choice.layout, seen[choice.raw])
        if choice is None or indices is None:
            return equal(result, got, want)
        judges = {Kind.SELECTED: self.selected, Kind.FOUND: self.found, Kind.KEPT: self.kept}
        return judges[origin.kind](result, indices.astype(np.int64), seen[choice.raw].astype(np.int64), choice)

    def decided(self, result: OutputComparison, got: Array, want: Array, choice: Choice | None) -> OutputComparison:
        """Booleans may differ where the floats behind them all but touch; rounded integers by one step."""
        pairs = () if choice is None else self.pairs(choice)
        if not pairs and want.dtype.kind != "b":
            step = Tolerance(1.0, 0.0, _ROUNDED)
            wrong = np.abs(wide(got) - wide(want)) > 1
            return off(replace(result, tolerance=step), wrong, want, worst=first(wrong, got, want, step))
        doubtful = np.zeros(want.shape, np.bool_)
        for left, right in pairs:
            close = laid(self.touching(result.name, left, right), choice.layout if choice else (), want.shape)
            if close is not None:
                doubtful |= close
        return equal(result, got, want, Tolerance(0.0, 0.0, _BOOLEANS), excused=doubtful)

    def selected(self, result: OutputComparison, got: Indices, want: Indices, choice: Choice) -> OutputComparison:
        """Indices by the values at them: in range, none twice, and worth as much as the reference's."""
        values = self.reference.seen[choice.values]
        axis = choice.axis % max(values.ndim, 1)
        if not choice.keepdims:
            got, want = np.expand_dims(got, axis), np.expand_dims(want, axis)
        size = values.shape[axis]
        outside = (got < -size) | (got >= size)
        if outside.any():
            what = f"lie outside the {size} places of axis {axis}"
            return marked(result, Failure.SELECTION, outside, what, got, want)
        ordered = np.sort(got % size, axis=axis)
        twice = np.diff(ordered, axis=axis) == 0
        if twice.any():
            return marked(result, Failure.SELECTION, twice, "were selected twice", got, want)
        picked, due = (np.take_along_axis(values, indices % size, axis) for indices in (got, want))
        if not choice.ordered:
            picked, due = np.sort(picked, axis=axis), np.sort(due, axis=axis)
        bounds = self.bounds(result.name, values).times(2, "two numbers are compared")
        if str(values.dtype) not in FLOATS:
            bounds = EXACT
        source = f"values that {choice.operator} selects, ties allowed; {bounds.source}"
        judged = near(result, picked, due, replace(bounds, source=source))
        moved = int(np.count_nonzero(got != want))
        note = f"{moved} of {got.size} indices differ" if moved else result.note
        return replace(judged, failure=Failure.SELECTION if judged.failure else None, note=note)

    def found(self, result: OutputComparison, got: Indices, want: Indices, choice: Choice) -> OutputComparison:
        """Coordinates [rank, count]: in order, none twice, and only doubtful places found or left out."""
        pairs = self.pairs(choice)
        shape = np.broadcast_shapes(*(array.shape for pair in pairs for array in pair))
        if got.shape[0] != len(shape):
            return replace(
                result, failure=Failure.SHAPE, detail=f"{got.shape[0]} coordinates a place, not {len(shape)}"
            )
        outside = ((got < 0) | (got >= np.asarray(shape, np.int64).reshape(-1, 1))).any(axis=0)
        if outside.any():
            detail = f"{int(outside.sum())} places lie outside {list(shape)}, as {got[:, outside][:, 0].tolist()} does"
            return replace(result, failure=Failure.SELECTION, detail=detail)
        places, due = (np.ravel_multi_index(tuple(found), shape) for found in (got, want))
        if (np.diff(places) <= 0).any():
            return replace(result, failure=Failure.SELECTION, detail="places are not in order, or come twice")
        doubtful = np.zeros(shape, np.bool_)
        for left, right in pairs:
            doubtful |= self.touching(result.name, left, right)
        differing = np.setxor1d(places, due)
        clear = differing[~doubtful.reshape(-1)[differing]]
        result = replace(result, tolerance=Tolerance(0.0, 0.0, _FOUND.format(choice.operator)), wrong=int(clear.size))
        if clear.size:
            place = [int(i) for i in np.unravel_index(int(clear[0]), shape)]
            verb = "found" if clear[0] in places else "left out"
            detail = f"{clear.size} clear places are wrong, first {place}, which is {verb}"
            return replace(result, failure=Failure.SELECTION, detail=detail)
        return replace(result, note=f"{differing.size} doubtful places differ" if differing.size else result.note)

    def kept(self, result: OutputComparison, got: Indices, want: Indices, choice: Choice) -> OutputComparison:
        """Boxes, as rows of (batch, class, box): worth as much as the reference's, or what else may be kept."""
        scores = self.reference.seen[choice.values]
        if got.shape[1:] != (3,):
            return replace(result, failure=Failure.SHAPE, detail=f"rows of {list(got.shape[1:])}, not of [3]")
        outside = ((got < 0) | (got >= np.asarray(scores.shape))).any(axis=1)
        if outside.any():
            detail = f"{int(outside.sum())} rows lie outside {list(scores.shape)}, as {got[outside][0].tolist()} does"
            return replace(result, failure=Failure.SELECTION, detail=detail)
        if len(np.unique(got, axis=0)) < len(got):
            return replace(result, failure=Failure.SELECTION, detail="a box was kept twice")
        judged = self.worth_as_much(result, got, want, scores)
        if choice.suppression is None or choice.suppression.boxes not in self.reference.seen:
            return judged
        reason = self.objection(result.name, got, choice.suppression, scores)
        if reason:
            return replace(judged, failure=Failure.SELECTION, detail=reason)
        return replace(judged, failure=None, detail="", wrong=0, where="", note=_LAWFUL) if judged.failure else judged

    def worth_as_much(self, result: OutputComparison, got: Indices, want: Indices, scores: Array) -> OutputComparison:
        """As many boxes for each batch and class, with the same scores."""
        for group in _groups(got, want):
            many, due = (len(_of(rows, group)) for rows in (got, want))
            if many != due:
                detail = f"batch {group[0]}, class {group[1]}: {many} boxes are kept, {due} expected"
                return replace(result, failure=Failure.SELECTION, detail=detail)
        bounds = self.bounds(result.name, scores).times(2, "two numbers are compared")
        source = f"scores of the boxes kept, by batch and class; {bounds.source}"
        judged = near(result, _by_score(got, scores), _by_score(want, scores), replace(bounds, source=source))
        return replace(judged, failure=Failure.SELECTION if judged.failure else None)

    def objection(self, output: str, got: Indices, rule: Suppression, scores: Array) -> str:
        """Why the operator can't have kept these; "" when it can."""
        boxes = self.reference.seen[rule.boxes]
        near_boxes, near_scores = self.bounds(output, boxes), self.bounds(output, scores)
        for batch, label in np.ndindex(scores.shape[:2]):
            kept = _of(got, np.array([batch, label]))
            reason = objection(kept, boxes[batch], scores[batch, label], rule, near_boxes, near_scores)
            if reason:
                return f"batch {batch}, class {label}: {reason}"
        return ""

    def pairs(self, choice: Choice) -> tuple[tuple[Array, Array], ...]:
        """The floats that were compared."""
        seen = self.reference.seen
        return tuple(
            (seen[left], seen[right] if right else np.zeros((), seen[left].dtype))
            for left, right in choice.compared
            if left in seen and (not right or right in seen)
        )

    def touching(self, output: str, left: Array, right: Array) -> Mask:
        """Where two tensors are so near that their order may turn. Infinities and NaN touch nothing."""
        bounds = self.bounds(output, left).times(2, "two numbers are compared")
        x, y = wide(left), wide(right)
        with np.errstate(invalid="ignore"):
            close: Mask = np.abs(x - y) <= bounds.atol + bounds.rtol * np.maximum(np.abs(x), np.abs(y))
        return close & np.isfinite(x) & np.isfinite(y)


def _groups(*rows: Indices) -> Indices:
    """The pairs of batch and class that there are."""
    groups: Indices = np.unique(np.concatenate(rows)[:, :2], axis=0)
    return groups


def _of(rows: Indices, group: Indices) -> Indices:
    """The boxes of one batch and class."""
    boxes: Indices = rows[(rows[:, :2] == group).all(axis=1), 2]
    return boxes


def _by_score(rows: Indices, scores: Array) -> Array:
    """Scores of the boxes in ``rows``, by batch and class, the best first."""
    worth = scores[rows[:, 0], rows[:, 1], rows[:, 2]]
    return worth[np.lexsort((-worth, rows[:, 1], rows[:, 0]))]
