"""Outputs against a reference: figures and a verdict, as a value. Raising is a separate step.

Judged in this order, and the first that fails names the failure: is the output there, of its type and
shape; was it written; is it finite where the reference is; is each element near enough; and was the
reference worth comparing with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from harness.judge.choices import ChoiceJudge
from harness.judge.comparison import Comparison, Element, Failure, Figures, OutputComparison
from harness.judge.elements import Mask, dtype_name, equal, marked, near, same_bits, wide, worst
from harness.judge.following import CHOSEN
from harness.judge.oracle import Reference
from harness.judge.poison import unwritten
from harness.judge.provenance import Kind, Origin
from harness.judge.tolerance import TABLE, Tolerance, magnitude, tolerance
from harness.spec.precision import Recipe

__all__ = ["NARROWER", "Comparison", "Element", "Failure", "Figures", "OutputComparison", "compare"]

Array = npt.NDArray[Any]
Weak = Literal["fail", "note", "ignore"]

# Types that an engine may bind instead of the model's, by backend. TensorRT before 10 has no INT64, and none
# has DOUBLE: its parser turns both into the narrower type.
NARROWER: Mapping[str, Mapping[str, str]] = {
    "tensorrt": {"int64": "int32", "float64": "float32"},
    "tensorrt_rtx": {"float64": "float32"},
    "onnxruntime": {},
}

NUDGED = "what the oracle gives where values on the edge of a Q/DQ step take the other one"
TERMS = "{} of {} elements pass by the size of their terms, which is up to {:.2g} times the magnitude"
APART = "two engines, each of which may be off by it"
RECHOSEN = "judged by what the engine chose, not by what the oracle would have"


def compare(
    got: Mapping[str, Array],
    reference: Reference,
    precision: Recipe | str,
    *,
    narrower: Mapping[str, str] | None = None,
    weak: Weak = "fail",
    bitwise: Tolerance | None = None,
    apart: bool = False,
    brief: bool = False,
) -> Comparison:
    """Judge ``got``, outputs by name, against ``reference``.

    ``narrower`` gives, by the model's type, the type that this backend may bind in its place
    (`NARROWER`); a value that does not fit it is a failure all the same. ``weak="note"`` is for
    special inputs: an oracle whose outputs they make constant or tiny is accepted and noted, and
    tolerances are wider (`Tolerance.special`). ``weak="ignore"`` is for references that are no oracle's.
    With ``bitwise`` every bit has to agree, and its source says why; but a choice by comparing floats may
    fall otherwise between equals. ``apart`` is for references that are another engine's, rounded on its own:
    floats may be apart by twice the tolerance. ``brief`` is for runs by the thousand: floats that pass without
    a doubt are told by their worst element alone, with no figures.
    """
    name = precision if isinstance(precision, str) else precision.name
    again = reference.rechosen(got) if reference.rechosen is not None else {}
    if again:
        reference = replace(reference, outputs={**reference.outputs, **again})
    judge = _Judge(reference, name, narrower or {}, weak, bitwise, apart, brief, frozenset(again))
    results = [judge.output(output, got.get(output), want) for output, want in reference.outputs.items()]
    results = [
        replace(one, note="; ".join(filter(None, (one.note, RECHOSEN)))) if one.name in again else one
        for one in results
    ]
    results += [
        OutputComparison(extra, "", _described(array), "nothing", Failure.EXTRA, "the model has no such output")
        for extra, array in got.items()
        if extra not in reference.outputs
    ]
    return Comparison(reference.model, name, reference.oracle, tuple(results))


@dataclass(frozen=True)
class _Judge:
    reference: Reference
    precision: str
    narrower: Mapping[str, str]
    weak: Weak
    bitwise: Tolerance | None
    apart: bool
    brief: bool
    again: frozenset[str]  # outputs whose reference is the oracle's, for the choice that the engine made

    def output(self, name: str, got: Array | None, want: Array) -> OutputComparison:
        origin = self.reference.origins[name]
        if self.brief and got is not None and (passed := self.clear(name, got, want, origin)) is not None:
            return passed
        result = OutputComparison(name, origin.kind.value, "nothing", _described(want), count=want.size)
        if got is None:
            return replace(result, failure=Failure.MISSING)
        result = replace(result, got=_described(got))
        bound = self.narrower.get(dtype_name(want.dtype))
        if dtype_name(got.dtype) not in (dtype_name(want.dtype), bound):
            allowed = dtype_name(want.dtype) if bound is None else f"{want.dtype}, or {bound} on this backend"
            return replace(result, failure=Failure.TYPE, detail=f"got {got.dtype}, expected {allowed}")
        counted = origin.kind in (Kind.FOUND, Kind.KEPT) and self.bitwise is None  # how many is part of the answer
        if got.shape != want.shape and not (counted and got.ndim == want.ndim):
            detail = f"got {list(got.shape)}, expected {list(want.shape)}"
            return replace(result, failure=Failure.SHAPE, detail=detail + _advice(origin))
        if got.dtype != want.dtype:
            misfit = _misfit(want, got.dtype)
            if misfit:
                return replace(result, failure=Failure.DOES_NOT_FIT, detail=misfit)
            result = replace(result, note=f"bound as {got.dtype} instead of {want.dtype}")
        blank = _blank(got, want)
        if blank.any():
            what = "still hold what was put there before the run"
            return marked(result, Failure.UNWRITTEN, blank, what, got, want)
        return self.worth(self.values(result, got, want, origin), want)

    def clear(self, name: str, got: Array, want: Array, origin: Origin) -> OutputComparison | None:
        """The verdict on floats that are finite and near enough, or on equal bits; None for what is to be looked at."""
        alike = got.dtype == want.dtype and got.shape == want.shape and want.size > 0
        if alike and self.bitwise is not None and got.tobytes() == want.tobytes() and not unwritten(got).any():
            kind, told = origin.kind.value, _described(want)
            return OutputComparison(name, kind, told, told, tolerance=self.bitwise, count=want.size)
        doubted = self.bitwise is not None or name in self.reference.weak or name in self.reference.admitted
        if origin.kind is not Kind.FLOAT or not alike or doubted:
            return None
        bounds = self.allowed(name, want)
        found = worst(got, want, bounds)
        if found is None or not found.excess <= 1:
            return None
        kind, told = origin.kind.value, _described(want)
        result = OutputComparison(name, kind, told, told, tolerance=bounds, count=want.size, worst=(found,))
        if self.weak == "ignore" or abs(found.want) > found.allowed:  # so zeros would not pass
            return result
        return None if self.blind(result, float(np.abs(want).max())) else result

    def values(self, result: OutputComparison, got: Array, want: Array, origin: Origin) -> OutputComparison:
        if self.bitwise is not None and result.name not in self.again:
            found = same_bits(result, got, want, self.bitwise)
            tied = origin.kind in CHOSEN and origin.choice is not None and origin.choice.raw in self.reference.seen
            if found.failure is None or not tied:
                return found
        if origin.kind is Kind.EXACT:
            return equal(result, got, want)
        if origin.kind is not Kind.FLOAT:
            return ChoiceJudge(self.reference, self.bounds).judge(result, got, want, origin)
        x, y = wide(got), wide(want)
        lost = np.isfinite(y) & ~np.isfinite(x)
        if lost.any():
            return marked(result, Failure.NOT_FINITE, lost, "are NaN or infinite", got, want)
        plain = ~np.isfinite(y) & (x != y) & ~(np.isnan(x) & np.isnan(y))
        if plain.any():
            return marked(result, Failure.NOT_SPECIAL, plain, "are not the NaN or infinity they should be", got, want)
        top = (1, 5) if "classifier" in self.reference.tags and want.ndim == 2 else ()
        bounds = self.allowed(result.name, want)
        fresh, result = result, near(result, got, want, bounds, top)
        if result.failure and bounds.magnitude and not origin.follows:
            result = self.by_terms(fresh, result, got, want, bounds, top)
        if result.failure and origin.quantized and self.reference.nudged is not None:
            nearest = want  # element by element: rows of a batch turn apart from each other
            for outputs in self.reference.nudged():
                other = outputs[result.name]
                nearest = np.where(np.abs(wide(got) - other) < np.abs(wide(got) - nearest), other, nearest)
                again = near(fresh, got, nearest, bounds, top)
                if not again.failure:
                    return replace(again, note="; ".join(filter(None, (again.note, NUDGED))))
        return replace(result, detail=result.detail + _advice(origin)) if result.failure else result

    def by_terms(
        self,
        fresh: OutputComparison,
        failed: OutputComparison,
        got: Array,
        want: Array,
        bounds: Tolerance,
        top: tuple[int, ...],
    ) -> OutputComparison:
        """``failed`` again, with more for elements whose terms are larger than what is typical of the output."""
        sizes = {} if self.reference.terms is None else self.reference.terms(TABLE[self.precision].unit)
        size = sizes.get(fresh.name)
        if size is None or size.shape != want.shape:
            return failed
        wider = np.maximum(1.0, size / bounds.magnitude)
        found = near(fresh, got, want, bounds, top, wider=wider)
        spared = failed.wrong - found.wrong
        note = TERMS.format(
            spared, want.size, max(e.allowed - bounds.rtol * abs(e.want) for e in found.worst) / bounds.atol
        )
        return replace(found, note="; ".join(filter(None, (found.note, note)))) if spared else failed

    def allowed(self, output: str, want: Array) -> Tolerance:
        """What the elements of the floating ``output`` may be off by."""
        found = self.bounds(output, want)
        return found.times(2, APART) if self.apart and output not in self.again else found

    def bounds(self, output: str, want: Array) -> Tolerance:
        """The tolerance for floats such as ``want``, on which ``output`` rests."""
        origin = self.reference.origins[output]
        found = tolerance(
            self.precision,
            output,
            depth=origin.depth,
            magnitude=magnitude(want),
            quantized=origin.quantized,
            overrides=self.reference.tolerances,
        )
        return found.special(self.precision) if self.weak == "note" else found

    def worth(self, result: OutputComparison, want: Array) -> OutputComparison:
        """A pass against an oracle that would pass anything is none."""
        if result.failure is not None or self.weak == "ignore" or self.bitwise is not None:
            return result
        admitted = self.reference.admitted.get(result.name, "")
        floats = result.kind == Kind.FLOAT.value
        top = float(np.max(np.abs(want), where=np.isfinite(want), initial=0)) if floats else 0.0
        reason = self.reference.weak.get(result.name) or admitted or self.blind(result, top)
        if not reason:
            return result
        if self.weak == "note" or admitted:
            return replace(result, note=f"weak oracle: {reason}")
        return replace(result, failure=Failure.WEAK_ORACLE, detail=reason)

    def blind(self, result: OutputComparison, top: float) -> str:
        """Why this tolerance, on an output whose largest finite number is ``top``, sees nothing."""
        bounds = result.tolerance
        if result.kind != Kind.FLOAT.value or bounds is None or self.reference.origins[result.name].constant:
            return ""
        if not top or top > bounds.atol + bounds.rtol * top:
            return ""
        return f"zeros would pass: nothing in it is larger than the tolerance {bounds.atol:.3g}"


def _blank(got: Array, want: Array) -> Mask:
    """Unwritten elements; an integer that is rightly equal to the poison is not one."""
    blank = unwritten(got)
    if got.dtype.kind not in "biu" or got.shape != want.shape:
        return blank
    raw = got.view(np.uint8) if got.dtype.kind == "b" else got  # 0xA5 is no boolean, and would compare as true
    differs: Mask = np.asarray(raw != want)
    return blank & differs


def _misfit(want: Array, dtype: np.dtype[Any]) -> str:
    """What of ``want`` the narrower type can't hold; "" when all fits."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        beyond = (want < info.min) | (want > info.max)
    else:
        beyond = np.isfinite(want) & (np.abs(want) > np.finfo(dtype).max)
    if not beyond.any():
        return ""
    return (
        f"{int(beyond.sum())} expected values, such as {want[beyond][0]}, do not fit {dtype}, "
        f"which the engine binds for {want.dtype}"
    )


def _advice(origin: Origin) -> str:
    """What to look at first when an output that rests on choices is off."""
    return f"; it rests on what {', '.join(origin.follows)} chose by comparing floats" if origin.follows else ""


def _described(array: Array) -> str:
    return f"{dtype_name(array.dtype)} {list(array.shape)}"
