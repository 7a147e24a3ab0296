"""Outputs against a reference: figures and a verdict, as a value. Raising is a separate step.

Judged in this order, the first that fails names the failure: is the output there, of its shape and
type; was it written; is it finite where the reference is; is each element near enough; and was the
reference worth comparing with.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.errors import ComparisonFailure
from harness.judge.oracle import Reference
from harness.judge.poison import unwritten
from harness.judge.provenance import FLOATS, Choice, Kind, Layout, Origin
from harness.judge.tolerance import EXACT, Tolerance, magnitude, tolerance
from harness.spec.cell import Cell
from harness.spec.precision import Recipe

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

WORST = 5  # elements shown
CHUNK = 1 << 20  # elements looked at together; float64 copies of all of a large output would take its eightfold


class Failure(str, enum.Enum):
    """What is wrong with an output."""

    MISSING = "missing output"
    EXTRA = "extra output"
    TYPE = "wrong type"
    SHAPE = "wrong shape"
    DOES_NOT_FIT = "value does not fit the type"
    UNWRITTEN = "unwritten elements"
    NOT_FINITE = "not finite where the reference is"
    NOT_SPECIAL = "finite where the reference is not"
    MISMATCH = "values differ"
    SELECTION = "selected other values"
    WEAK_ORACLE = "weak oracle"


# Types that an engine may bind instead of the model's, by backend. TensorRT before 10 has no INT64, and none
# has DOUBLE: its parser turns both into the narrower type.
NARROWER: Mapping[str, Mapping[str, str]] = {
    "tensorrt": {"int64": "int32", "float64": "float32"},
    "tensorrt_rtx": {"float64": "float32"},
    "onnxruntime": {},
}


@dataclass(frozen=True)
class Element:
    """One element and what was allowed. ``excess`` is the error in units of what is allowed."""

    index: tuple[int, ...]
    got: float
    want: float
    error: float
    allowed: float

    @property
    def excess(self) -> float:
        return self.error / self.allowed if self.allowed else math.inf if self.error else 0.0

    def __str__(self) -> str:
        times = f", {self.excess:.3g} times that" if math.isfinite(self.excess) else ""
        return (
            f"[{', '.join(map(str, self.index))}] got {self.got:.9g}, expected {self.want:.9g}: "
            f"off by {self.error:.3g}, allowed {self.allowed:.3g}{times}"
        )


@dataclass(frozen=True)
class Figures:
    """Errors over the elements that are finite on both sides; beside the verdict, not part of it.

    ``max_rel`` and ``mean_rel`` are relative to the reference, elements where that is 0 left out.
    ``max_ulp`` and ``mean_ulp`` count representable numbers of the output's type between the two.
    ``snr`` is in dB. ``top`` is, for a classifier, the share of rows whose k highest classes are the
    same set, by k.
    """

    max_abs: float
    mean_abs: float
    max_rel: float
    mean_rel: float
    max_ulp: float
    mean_ulp: float
    rmse: float
    cosine: float
    snr: float
    top: Mapping[int, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class OutputComparison:
    """One output. ``count`` elements were compared, ``wrong`` of them are off, ``where`` says in which rows."""

    name: str
    kind: str
    failure: Failure | None
    detail: str
    got: str  # type and shape
    want: str
    tolerance: Tolerance | None = None
    count: int = 0
    wrong: int = 0
    where: str = ""
    figures: Figures | None = None
    worst: tuple[Element, ...] = ()
    note: str = ""  # what a reader should know although it is no failure

    def as_json(self) -> dict[str, Any]:
        """JSON's own types; what JSON can't spell ("nan", "inf", "-inf") as text."""
        plain: dict[str, Any] = _plain(self)
        return plain


@dataclass(frozen=True)
class Comparison:
    """One run against one reference."""

    model: str
    precision: str
    oracle: str
    outputs: tuple[OutputComparison, ...]

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def failures(self) -> tuple[OutputComparison, ...]:
        return tuple(output for output in self.outputs if output.failure is not None)

    def as_json(self) -> dict[str, Any]:
        """JSON's own types; what JSON can't spell ("nan", "inf", "-inf") as text."""
        plain: dict[str, Any] = {"passed": self.passed, **_plain(self)}
        return plain

    def require(self, where: Cell | str, command: str) -> None:
        """ComparisonFailure unless passed. ``where`` says what ran, ``command`` repeats it."""
        if not self.passed:
            raise ComparisonFailure(self.message(where, command), self)

    def message(self, where: Cell | str, command: str) -> str:
        """What, where, got, expected, tolerance and its source, the worst elements, the command."""
        failures = self.failures
        kinds = ", ".join(dict.fromkeys(output.failure.value for output in failures if output.failure))
        place = _place(where, self)
        lines = [f"{place}: {kinds} ({len(failures)} of {len(self.outputs)} outputs)"]
        for output in failures:
            lines += _told(output, self.oracle)
        lines.append(f"  repeat     {command}")
        return "\n".join(lines)


def compare(
    got: Mapping[str, Array],
    reference: Reference,
    precision: Recipe | str,
    *,
    narrower: Mapping[str, str] | None = None,
    weak: Literal["fail", "note"] = "fail",
    bitwise: Tolerance | None = None,
) -> Comparison:
    """Judge ``got``, outputs by name, against ``reference``.

    ``narrower`` gives, by the model's type, the type that this backend may bind in its place
    (`NARROWER`); a value that does not fit it is a failure all the same. ``weak="note"`` accepts an
    oracle whose outputs are constant or tiny, for inputs that make them so. With ``bitwise`` every
    bit has to agree, and its source says why.
    """
    name = precision if isinstance(precision, str) else precision.name
    judge = _Judge(reference, name, narrower or {}, weak, bitwise)
    results = [judge.output(output, got.get(output), want) for output, want in reference.outputs.items()]
    results += [
        OutputComparison(extra, "", Failure.EXTRA, "the model has no such output", _described(got[extra]), "nothing")
        for extra in got
        if extra not in reference.outputs
    ]
    return Comparison(reference.model, name, reference.oracle, tuple(results))


@dataclass(frozen=True)
class _Judge:
    reference: Reference
    precision: str
    narrower: Mapping[str, str]
    weak: str
    bitwise: Tolerance | None

    def output(self, name: str, got: Array | None, want: Array) -> OutputComparison:
        origin = self.reference.origins[name]
        if got is None:
            return OutputComparison(name, origin.kind.value, Failure.MISSING, "", "nothing", _described(want))
        result = OutputComparison(name, origin.kind.value, None, "", _described(got), _described(want), count=want.size)
        bound = self.bound(want.dtype)
        if str(got.dtype) not in (str(want.dtype), bound):
            allowed = str(want.dtype) if bound is None else f"{want.dtype}, or {bound} on this backend"
            return replace(result, failure=Failure.TYPE, detail=f"got {got.dtype}, expected {allowed}")
        kind = Kind.FLOAT if self.bitwise and origin.kind is not Kind.EXACT else origin.kind
        free = self.bitwise is None and kind in (Kind.FOUND, Kind.KEPT)  # how many there are is part of the answer
        if got.shape != want.shape and not (free and got.ndim == want.ndim):
            return replace(result, failure=Failure.SHAPE, detail=f"got {list(got.shape)}, expected {list(want.shape)}")
        if got.dtype != want.dtype:
            misfit = _misfit(want, got.dtype)
            if misfit:
                return replace(result, failure=Failure.DOES_NOT_FIT, detail=misfit)
            result = replace(result, note=f"bound as {got.dtype} instead of {want.dtype}")
        blank = _blank(got, want)
        if blank.any():
            return _marked(result, Failure.UNWRITTEN, blank, got, want, "hold the poison that was there before the run")
        if self.bitwise is not None:
            result = _bits(result, got, want, self.bitwise)
        elif kind is Kind.EXACT:
            result = _equal(result, got, want, EXACT)
        elif kind is Kind.FLOAT:
            result = self.floats(result, got, want, origin)
        elif kind is Kind.DECIDED:
            result = self.decided(result, got, want, origin)
        elif origin.choice is None or origin.choice.raw not in self.reference.seen:
            result = _equal(result, got, want, EXACT)
        else:
            result = self.chosen(result, got, want, origin.choice, kind)
        return self.worth(result, want)

    def bound(self, dtype: np.dtype[Any]) -> str | None:
        return self.narrower.get(str(dtype))

    def tolerance(self, output: str, want: Array) -> Tolerance:
        """For floats such as ``want``, on which ``output`` rests."""
        origin = self.reference.origins[output]
        return tolerance(
            self.precision,
            output,
            depth=origin.depth,
            magnitude=magnitude(want),
            quantized=origin.quantized,
            overrides=self.reference.tolerances,
        )

    def floats(self, result: OutputComparison, got: Array, want: Array, origin: Origin) -> OutputComparison:
        got_wide, want_wide = _number(got), _number(want)
        finite, expected = np.isfinite(got_wide), np.isfinite(want_wide)
        lost = expected & ~finite
        if lost.any():
            return _marked(result, Failure.NOT_FINITE, lost, got, want, "are NaN or infinite")
        special = ~expected & ~_same(got_wide, want_wide)
        if special.any():
            return _marked(
                result, Failure.NOT_SPECIAL, special, got, want, "should be NaN or infinite, as the reference is"
            )
        bounds = self.tolerance(result.name, want)
        top = (1, 5) if "classifier" in self.reference.tags and want.ndim == 2 else ()
        result = _near(replace(result, tolerance=bounds), got, want, top)
        if result.failure is not None and origin.follows:
            advice = f"it depends on what {', '.join(origin.follows)} chose by comparing floats"
            result = replace(result, detail=f"{result.detail}; {advice}")
        return result

    def decided(self, result: OutputComparison, got: Array, want: Array, origin: Origin) -> OutputComparison:
        """Booleans may differ where the floats behind them all but touch; rounded integers by one step."""
        choice = origin.choice
        pairs = () if choice is None else self.pairs(choice)
        near = np.zeros(want.shape, np.bool_)
        for pair in pairs:
            close = self.touching(result.name, *pair)
            if _broadcasts(close.shape, want.shape):
                near |= np.broadcast_to(_laid(close, choice.layout if choice else (), want.shape), want.shape)
        if pairs or want.dtype.kind == "b":
            source = "booleans that floats decide: equal, except where the floats compared are nearer than their errors"
            return _equal(result, got, want, Tolerance(0.0, 0.0, source), excused=near)
        step = Tolerance(
            1.0, 0.0, "integers rounded from floats: one step either way, as rounding may fall on either side"
        )
        wrong = np.abs(got.astype(np.float64) - want.astype(np.float64)) > 1
        return _verdict(replace(result, tolerance=step), wrong, got, want, Failure.MISMATCH)

    def pairs(self, choice: Choice) -> tuple[tuple[Array, Array], ...]:
        seen = self.reference.seen
        return tuple(
            (seen[left], seen[right] if right else np.zeros((), seen[left].dtype))
            for left, right in choice.compared
            if left in seen and (not right or right in seen)
        )

    def touching(self, output: str, left: Array, right: Array) -> Mask:
        """Where two tensors are so near that their order may turn."""
        bounds = self.tolerance(output, left).doubled()
        left, right = _number(left), _number(right)
        with np.errstate(invalid="ignore"):  # infinities and NaN touch nothing
            near: Mask = np.abs(left - right) <= bounds.atol + bounds.rtol * np.maximum(np.abs(left), np.abs(right))
        return near & np.isfinite(left) & np.isfinite(right)

    def chosen(self, result: OutputComparison, got: Array, want: Array, choice: Choice, kind: Kind) -> OutputComparison:
        raw = self.reference.seen[choice.raw]
        indices = _undone(got, choice.layout, raw)
        if indices is None:
            return _equal(result, got, want, EXACT)
        if kind is Kind.SELECTED:
            return self.selected(result, indices.astype(np.int64), raw.astype(np.int64), choice)
        if kind is Kind.FOUND:
            return self.found(result, indices.astype(np.int64), raw.astype(np.int64), choice)
        return self.kept(result, indices.astype(np.int64), raw.astype(np.int64), choice)

    def selected(
        self, result: OutputComparison, got: npt.NDArray[np.int64], want: npt.NDArray[np.int64], choice: Choice
    ) -> OutputComparison:
        """Indices by the values at them: in range, none twice, and worth as much as the reference's."""
        values = self.reference.seen[choice.values]
        axis = choice.axis % max(values.ndim, 1)
        if not choice.keepdims:
            got, want = np.expand_dims(got, axis), np.expand_dims(want, axis)
        size = values.shape[axis]
        outside = (got < -size) | (got >= size)
        if outside.any():
            return _marked(
                result, Failure.SELECTION, outside, got, want, f"lie outside the {size} places of axis {axis}"
            )
        ordered = np.sort(got % size, axis=axis)
        twice = np.diff(ordered, axis=axis) == 0
        if twice.any():
            return _marked(result, Failure.SELECTION, twice, ordered, ordered, "were selected twice")
        picked, due = (np.take_along_axis(values, indices % size, axis) for indices in (got, want))
        if not choice.ordered:
            picked, due = np.sort(picked, axis=axis), np.sort(due, axis=axis)
        integers = str(values.dtype) not in FLOATS
        bounds = EXACT if integers else self.tolerance(result.name, values).doubled()
        source = f"values selected by {choice.operator}, ties allowed; {bounds.source}"
        judged = _near(replace(result, tolerance=replace(bounds, source=source)), picked, due, ())
        moved = int(np.count_nonzero(got != want))
        note = f"{moved} of {got.size} indices differ" if moved else ""
        failure = Failure.SELECTION if judged.failure else None
        return replace(judged, failure=failure, note=note)

    def found(
        self, result: OutputComparison, got: npt.NDArray[np.int64], want: npt.NDArray[np.int64], choice: Choice
    ) -> OutputComparison:
        """Coordinates: in order, none twice, and only doubtful places found or left out."""
        pairs = self.pairs(choice)
        shape = np.broadcast_shapes(*(array.shape for pair in pairs for array in pair))
        sizes = np.asarray(shape, np.int64).reshape(-1, 1)
        outside = ((got < 0) | (got >= sizes)).any(axis=0) if len(shape) else np.zeros(got.shape[1:], np.bool_)
        if outside.any():
            return replace(
                result,
                failure=Failure.SELECTION,
                detail=f"{int(outside.sum())} coordinates lie outside {list(shape)}, as {got[:, outside][:, 0].tolist()} does",
            )
        places, due = (np.ravel_multi_index(tuple(found), shape) if shape else found[0] for found in (got, want))
        if (np.diff(places) <= 0).any():
            return replace(result, failure=Failure.SELECTION, detail="coordinates are not in order, or come twice")
        doubtful = np.zeros(shape, np.bool_)
        for pair in pairs:
            doubtful |= self.touching(result.name, *pair)
        differing = np.setxor1d(places, due)
        clear = differing[~doubtful.reshape(-1)[differing]]
        source = (
            f"places that {choice.operator} finds: equal, except where the floats behind them all but touch the limit"
        )
        result = replace(result, tolerance=Tolerance(0.0, 0.0, source), wrong=int(clear.size))
        if clear.size:
            first = [int(i) for i in np.unravel_index(int(clear[0]), shape)] if shape else []
            verb = "found" if clear[0] in places else "left out"
            detail = f"{clear.size} places are wrongly found or left out, {verb} first: {first}"
            return replace(result, failure=Failure.SELECTION, detail=detail)
        return replace(result, note=f"{differing.size} doubtful places differ" if differing.size else "")

    def kept(
        self, result: OutputComparison, got: npt.NDArray[np.int64], want: npt.NDArray[np.int64], choice: Choice
    ) -> OutputComparison:
        """Boxes, as rows of (batch, class, box): for each batch and class, worth as much as the reference's."""
        scores = self.reference.seen[choice.values]
        bad = ((got < 0) | (got >= np.asarray(scores.shape))).any(axis=1)
        if bad.any():
            return replace(
                result,
                failure=Failure.SELECTION,
                detail=f"{int(bad.sum())} rows lie outside {list(scores.shape)}, as {got[bad][0].tolist()} does",
            )
        if len(np.unique(got, axis=0)) < len(got):
            return replace(result, failure=Failure.SELECTION, detail="a box was kept twice")
        for batch, label in sorted({(int(row[0]), int(row[1])) for row in (*got, *want)}):
            counts = [int(((rows[:, 0] == batch) & (rows[:, 1] == label)).sum()) for rows in (got, want)]
            if counts[0] != counts[1]:
                detail = f"batch {batch}, class {label}: kept {counts[0]} boxes, expected {counts[1]}"
                return replace(result, failure=Failure.SELECTION, detail=detail)
        bounds = self.tolerance(result.name, scores).doubled()
        source = f"scores of the boxes kept, by batch and class; {bounds.source}"
        worth = [_by_score(rows, scores) for rows in (got, want)]
        judged = _near(replace(result, tolerance=replace(bounds, source=source)), worth[0], worth[1], ())
        return replace(judged, failure=Failure.SELECTION if judged.failure else None)

    def worth(self, result: OutputComparison, want: Array) -> OutputComparison:
        """A pass against an oracle that would pass anything is none."""
        reason = self.reference.weak.get(result.name, "")
        bounds = result.tolerance
        if not reason and result.kind == Kind.FLOAT.value and self.bitwise is None and bounds is not None:
            values = _number(want)[np.isfinite(_number(want))]
            constant = self.reference.origins[result.name].constant
            if values.size and not constant and (np.abs(values) * (1 - bounds.rtol) <= bounds.atol).all():
                reason = f"zeros would pass: nothing in it is larger than the tolerance {bounds.atol:.3g}"
        if not reason or result.failure is not None or self.bitwise is not None:
            return result
        if self.weak == "note":
            return replace(result, note=f"weak oracle: {reason}")
        return replace(result, failure=Failure.WEAK_ORACLE, detail=reason)


def _near(result: OutputComparison, got: Array, want: Array, top: Iterable[int]) -> OutputComparison:
    """Element by element within the tolerance of ``result``, with all figures; non-finite elements agree already."""
    bounds = result.tolerance or EXACT
    flat_got, flat_want = got.reshape(-1), want.reshape(-1)
    totals = _Totals()
    wrong = np.zeros(flat_want.size, np.bool_)
    worst: list[tuple[float, int]] = []
    for start in range(0, flat_want.size, CHUNK):
        part = slice(start, start + CHUNK)
        a, b = flat_got[part], flat_want[part]
        x, y = _number(a), _number(b)
        usable = np.isfinite(y)
        x, y = np.where(usable, x, 0.0), np.where(usable, y, 0.0)
        error = np.abs(x - y)
        allowed = bounds.atol + bounds.rtol * np.abs(y)
        wrong[part] = error > allowed
        totals.add(x, y, error, _ulps(a, b, usable), int(usable.sum()))
        excess = np.divide(error, allowed, out=np.where(error > 0, np.inf, 0.0), where=allowed > 0)
        count = min(WORST, excess.size)
        places = np.argpartition(excess, -count)[-count:] if count else []
        worst += [(float(excess[i]), start + int(i)) for i in places]
    elements = []
    for _, place in sorted(worst, key=lambda item: (-item[0], item[1]))[:WORST]:
        x, y = float(flat_got[place]), float(flat_want[place])
        if math.isfinite(y):
            index = tuple(int(i) for i in np.unravel_index(place, want.shape))
            elements.append(Element(index, x, y, abs(x - y), bounds.atol + bounds.rtol * abs(y)))
    figures = totals.figures({k: _agreement(got, want, k) for k in top if want.shape[-1] > k})
    result = replace(result, figures=figures, worst=tuple(elements), tolerance=bounds)
    return _verdict(result, wrong.reshape(want.shape), got, want, Failure.MISMATCH, keep_worst=True)


def _equal(
    result: OutputComparison, got: Array, want: Array, bounds: Tolerance, excused: Mask | None = None
) -> OutputComparison:
    wrong: Mask = np.asarray(got != want)
    differing = int(np.count_nonzero(wrong))
    if excused is not None:
        wrong = wrong & ~excused
        spared = differing - int(np.count_nonzero(wrong))
        if spared:
            result = replace(result, note=f"{spared} doubtful elements differ")
    return _verdict(replace(result, tolerance=bounds), wrong, got, want, Failure.MISMATCH)


def _bits(result: OutputComparison, got: Array, want: Array, bounds: Tolerance) -> OutputComparison:
    wrong = np.zeros(want.size, np.bool_)
    if want.size:
        raw = [np.ascontiguousarray(a).reshape(-1).view(np.uint8).reshape(want.size, -1) for a in (got, want)]
        wrong = (raw[0] != raw[1]).any(axis=1)
    return _verdict(replace(result, tolerance=bounds), wrong.reshape(want.shape), got, want, Failure.MISMATCH)


def _verdict(
    result: OutputComparison, wrong: Mask, got: Array, want: Array, failure: Failure, *, keep_worst: bool = False
) -> OutputComparison:
    count = int(np.count_nonzero(wrong))
    if not count:
        return result
    share = f"{count} of {want.size} elements are off ({100 * count / want.size:.3g} %)"
    worst = result.worst if keep_worst else _first(wrong, got, want, result.tolerance or EXACT)
    return replace(result, failure=failure, detail=share, wrong=count, where=_rows(wrong), worst=worst)


def _marked(
    result: OutputComparison, failure: Failure, places: Mask, got: Array, want: Array, what: str
) -> OutputComparison:
    """A failure of the elements in ``places``, whatever a tolerance would say."""
    count = int(np.count_nonzero(places))
    return replace(
        result,
        failure=failure,
        detail=f"{count} of {places.size} elements {what}",
        wrong=count,
        where=_rows(places),
        worst=_first(places, got, want, EXACT) if got.shape == want.shape == places.shape else (),
    )


def _first(wrong: Mask, got: Array, want: Array, bounds: Tolerance) -> tuple[Element, ...]:
    """The first wrong elements, in the order of memory."""
    elements = []
    for place in np.flatnonzero(wrong)[:WORST]:
        x, y = float(got.reshape(-1)[place]), float(want.reshape(-1)[place])
        index = tuple(int(i) for i in np.unravel_index(int(place), want.shape))
        elements.append(Element(index, x, y, abs(x - y), bounds.atol + bounds.rtol * abs(y)))
    return tuple(elements)


def _rows(wrong: Mask) -> str:
    """Along which axes the wrong elements keep to a few places: what points at a row, a head, a channel."""
    told = []
    for axis, size in enumerate(wrong.shape):
        others = tuple(i for i in range(wrong.ndim) if i != axis)
        places = np.flatnonzero(wrong.any(axis=others))
        if len(places) <= max(1, size // 2) and size > 1:
            shown = ", ".join(map(str, places[:8])) + (", ..." if len(places) > 8 else "")
            told.append(f"axis {axis} at {shown} of {size}")
    return "; ".join(told)


def _blank(got: Array, want: Array) -> Mask:
    """Unwritten elements; an integer that is rightly equal to the poison is not one."""
    blank = unwritten(got)
    if got.shape != want.shape:
        # data-dependent size: a row that is poison throughout
        return blank & (got.dtype.kind == "f")
    if got.dtype.kind in "biu":
        raw = got.view(np.uint8) if got.dtype.kind == "b" else got  # 0xA5 is no boolean, and compares as true
        blank &= np.asarray(raw != want)
    return blank


def _misfit(want: Array, dtype: np.dtype[Any]) -> str:
    """What of ``want`` the narrower type can't hold; "" when all fits."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        beyond = (want < info.min) | (want > info.max)
    else:
        beyond = np.isfinite(want) & (np.abs(want) > np.finfo(dtype).max)
    if not beyond.any():
        return ""
    value = want[beyond].reshape(-1)[0]
    return f"{int(beyond.sum())} expected values, such as {value}, do not fit {dtype}, which the engine binds for {want.dtype}"


def _number(array: Array) -> npt.NDArray[np.float64]:
    return array.astype(np.float64)


def _same(got: npt.NDArray[np.float64], want: npt.NDArray[np.float64]) -> Mask:
    same: Mask = (got == want) | (np.isnan(got) & np.isnan(want))
    return same


def _described(array: Array) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, to) == to or math.prod(shape) == math.prod(to)
    except ValueError:
        return math.prod(shape) == math.prod(to)


def _laid(array: Array, layout: tuple[Layout, ...], shape: tuple[int, ...]) -> Array:
    """``array`` moved as the layout says."""
    for step in layout:
        if step.op == "transpose":
            array = array.transpose(step.permutation)
    return array.reshape(shape) if array.size == math.prod(shape) else array


def _undone(got: Array, layout: tuple[Layout, ...], raw: Array) -> Array | None:
    """``got`` as the operator gave it; None when the steps can't be taken back."""
    for position, step in enumerate(reversed(layout)):
        if step.op == "transpose":
            got = got.transpose(np.argsort(step.permutation))
        elif any(left.op == "transpose" for left in tuple(reversed(layout))[position + 1 :]):
            return None  # the shape between a reshape and a transpose isn't known
    if got.ndim == raw.ndim and got.shape == raw.shape:
        return got
    if got.size == raw.size:
        return got.reshape(raw.shape)
    return got if got.ndim == raw.ndim else None


def _by_score(rows: npt.NDArray[np.int64], scores: Array) -> Array:
    """Scores of the boxes in ``rows``, sorted by batch and class, the best first."""
    worth = scores[rows[:, 0], rows[:, 1], rows[:, 2]]
    return worth[np.lexsort((-worth, rows[:, 1], rows[:, 0]))]


def _ulps(got: Array, want: Array, usable: Mask) -> npt.NDArray[np.float64]:
    """How many representable numbers of the coarser type lie between; 0 where not usable."""
    if got.dtype.kind not in "fV" and str(got.dtype) not in FLOATS:
        return np.zeros(got.shape)
    kind = got.dtype if got.dtype.itemsize <= want.dtype.itemsize else want.dtype
    lines = []
    for array in (got, want):
        with np.errstate(over="ignore"):  # a value that float32 can't hold has failed already
            bits = np.ascontiguousarray(array.astype(kind)).view(f"i{kind.itemsize}").astype(np.float64)
        lines.append(np.where(bits < 0, -(bits + 2.0 ** (8 * kind.itemsize - 1)), bits))
    return np.where(usable, np.abs(lines[0] - lines[1]), 0.0)


def _agreement(got: Array, want: Array, k: int) -> float:
    """Share of rows whose ``k`` highest are the same set."""
    sets = [np.sort(np.argpartition(-_number(a), k - 1, axis=-1)[..., :k], axis=-1) for a in (got, want)]
    return float((sets[0] == sets[1]).all(axis=-1).mean())


class _Totals:
    """Sums over chunks."""

    def __init__(self) -> None:
        self.count = self.nonzero = 0
        self.max_abs = self.max_rel = self.max_ulp = 0.0
        self.abs = self.rel = self.ulp = self.square = self.dot = self.got = self.want = 0.0

    def add(
        self,
        x: npt.NDArray[np.float64],
        y: npt.NDArray[np.float64],
        error: npt.NDArray[np.float64],
        ulps: npt.NDArray[np.float64],
        usable: int,
    ) -> None:
        if not x.size:
            return
        nonzero = y != 0
        relative = error[nonzero] / np.abs(y[nonzero])
        self.count += usable
        self.nonzero += relative.size
        self.max_abs = max(self.max_abs, float(error.max()))
        self.max_rel = max(self.max_rel, float(relative.max(initial=0.0)))
        self.max_ulp = max(self.max_ulp, float(ulps.max()))
        self.abs += float(error.sum())
        self.rel += float(relative.sum())
        self.ulp += float(ulps.sum())
        self.square += float(error @ error)
        self.dot += float(x @ y)
        self.got += float(x @ x)
        self.want += float(y @ y)

    def figures(self, top: Mapping[int, float]) -> Figures:
        count, nonzero = max(self.count, 1), max(self.nonzero, 1)
        norms = math.sqrt(self.got) * math.sqrt(self.want)
        cosine = self.dot / norms if norms else 1.0 if self.got == self.want else 0.0
        snr = math.inf if not self.square else 10 * math.log10(self.want / self.square) if self.want else -math.inf
        return Figures(
            self.max_abs,
            self.abs / count,
            self.max_rel,
            self.rel / nonzero,
            self.max_ulp,
            self.ulp / count,
            math.sqrt(self.square / count),
            cosine,
            snr,
            dict(top),
        )


def _told(output: OutputComparison, oracle: str) -> Iterator[str]:
    label = output.failure.value if output.failure else ""
    yield f"  output {output.name!r}: {label}" + (f": {output.detail}" if output.detail else "")
    yield f"  got        {output.got}" + (f", off in {output.where}" if output.where else "")
    yield f"  expected   {output.want} from {oracle}"
    if output.tolerance is not None:
        yield f"  tolerance  {output.tolerance}: {output.tolerance.source}"
    if output.figures is not None:
        f = output.figures
        yield (
            f"  errors     abs max {f.max_abs:.3g} mean {f.mean_abs:.3g}, rel max {f.max_rel:.3g} mean {f.mean_rel:.3g}, "
            f"ulp max {f.max_ulp:.3g} mean {f.mean_ulp:.3g}, rmse {f.rmse:.3g}, cosine {f.cosine:.6g}, SNR {f.snr:.3g} dB"
        )
        if f.top:
            yield "  agreement  " + ", ".join(f"top-{k} {100 * share:.3g} %" for k, share in f.top.items())
    for element in output.worst:
        yield f"  worst      {element}"
    if output.note:
        yield f"  note       {output.note}"


def _place(where: Cell | str, comparison: Comparison) -> str:
    if isinstance(where, str):
        return where
    parts = [where.model or comparison.model, f"at {where.precision or comparison.precision}"]
    parts += [text for text in (where.variant, where.point and f"at {where.point}") if text]
    return " ".join(parts) + (f" on {where.backend}" if where.backend else "")


def _plain(value: Any) -> Any:
    import dataclasses

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
