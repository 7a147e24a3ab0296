"""How far a float may be from the oracle's, by the precision it was computed in: each number with its source.

The rule is numpy's, |got - want| <= atol + rtol |want|. Each operator rounds once, errors of
independent roundings add in quadrature, and errors of sums go with the size of their terms; so

    atol = factor x unit x sqrt(depth) x magnitude        rtol = 8 to 64 units

where ``unit`` is the unit roundoff of the precision, ``depth`` the number of operators that round on
the longest way to the output, and ``magnitude`` the typical size of the oracle's output. Over the zoo
the error in units of sqrt(depth) is the same for one operator and for the 254 of BERT-base, within a
factor of three, where a tolerance of one number would be ten times too wide or too narrow.

The magnitude is that of an output as a whole. Elements that rest on larger terms than is typical of it are allowed as
much more where this does not do: `harness.judge.terms` has the oracle show their size. Two engines, each rounding on
its own, may be apart by twice the tolerance: `harness.judge.metamorphic.judge_alike`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.spec.model import ToleranceOverride

Array = npt.NDArray[Any]

SHALLOW = 16  # a depth below this counts as this: a single sum of a thousand products has no more
FEW = 8  # elements; see `magnitude`
TINY, HUGE = 1e-100, 1e100  # between them float64 holds the squares
ENOUGH = 1 << 17  # elements that a quartile is taken of, evenly spread over more


@dataclass(frozen=True)
class Tolerance:
    """|got - want| <= ``atol`` + ``rtol`` |want|, and why.

    ``magnitude`` is the size of terms that ``atol`` allows for, 0 where that has nothing to do with it.
    """

    atol: float
    rtol: float
    source: str
    magnitude: float = 0.0

    def times(self, factor: int, why: str) -> Tolerance:
        """``factor`` times as wide; ``why`` stands in the source."""
        source = f"{factor} times ({why}) {self.source}"
        return Tolerance(factor * self.atol, factor * self.rtol, source, self.magnitude)

    def special(self, precision: str) -> Tolerance:
        """For special inputs. Numbers below the smallest normal one may be flushed to zero: ONNX does not say."""
        least = TABLE[precision].least if precision in TABLE else 0.0
        return Tolerance(
            SPECIAL * (self.atol + least),
            SPECIAL * self.rtol,
            f"{SPECIAL} times, and as often the smallest normal number {least:.3g}, for special inputs; {self.source}",
        )

    def __str__(self) -> str:
        return f"|got - want| <= {self.atol:.3g} + {self.rtol:.3g} |want|"


EXACT = Tolerance(0.0, 0.0, "computed from integers and booleans alone: every element")


@dataclass(frozen=True)
class Row:
    """One precision.

    ``unit`` is its unit roundoff and ``least`` its smallest normal number, ``factor`` and ``relative``
    are in units, ``measured`` says what they rest on. ``quantized`` is the atol, per magnitude, of an
    output that a rounding to a grid comes before: a difference in the last bit becomes one of a
    whole quantum there.
    """

    unit: float
    least: float
    factor: float
    relative: float
    quantized: float
    measured: str


# Over shapes drawn from all over the profiles by benchmarks/test_honest_engine.py; at the profiles' ends and middle on
# the cards, at optimization levels 1 (H200) and 0 (H100). What needs more needs it for its terms.
_CARDS = "TensorRT 8.6 on an H200 and an H100"
TABLE: dict[str, Row] = {
    # in float32 the sums themselves round, in another order on every kernel: sqrt(1,000 terms) is 32
    "fp32": Row(
        2.0**-24, 2.0**-126, 32, 64, 1e-2, f"zoo: onnxruntime optimized below 20, {_CARDS} below 6 but for tanh"
    ),
    "tf32": Row(2.0**-11, 2.0**-126, 3, 8, 0.2, f"zoo: {_CARDS} below 2.1"),
    "fp16": Row(2.0**-11, 2.0**-14, 3, 8, 0.2, f"zoo: onnxruntime below 3, {_CARDS} below 2.6"),
    "fp16-weak": Row(
        2.0**-11, 2.0**-14, 3, 8, 0.2, f"as fp16, which the builder may choose for any layer; {_CARDS} below 2.8"
    ),
}
_QUANTIZED = "a last bit may turn a quantum of the Q/DQ grid (zoo: onnxruntime fp32 0.003, fp16 0.098)"
SPECIAL = 4  # times the tolerance at special inputs: in tensors of one number sums cancel and roundings line up


def tolerance(
    precision: str,
    output: str,
    *,
    depth: int = 1,
    magnitude: float = 1.0,
    quantized: bool = False,
    overrides: Iterable[ToleranceOverride] = (),
) -> Tolerance:
    """The tolerance of ``output``. An override by hand counts as it stands, one for this output before one for "*".

    SpecError for a precision that the table lacks.
    """
    fitting = [o for o in overrides if o.precision in (precision, "*") and o.output in (output, "*")]
    if fitting:
        best = max(fitting, key=lambda o: (o.output != "*", o.precision != "*"))
        return Tolerance(best.atol, best.rtol, f"set by hand for {best.output} at {best.precision}: {best.reason}")
    if precision not in TABLE:
        raise SpecError(f"no tolerance for precision {precision!r}: set one, or choose from {', '.join(TABLE)}")
    row = TABLE[precision]
    rtol = row.relative * row.unit
    if quantized:
        source = f"{precision}: {row.quantized:g} x magnitude {magnitude:.3g}; {_QUANTIZED}"
        return Tolerance(row.quantized * magnitude, rtol, source)
    steps = max(depth, SHALLOW)
    return Tolerance(
        row.factor * row.unit * math.sqrt(steps) * magnitude,
        rtol,
        _source(precision, steps).format(magnitude),
        magnitude,
    )


@functools.cache
def _source(precision: str, steps: int) -> str:
    """Where the numbers come from, with a place for the magnitude."""
    row = TABLE[precision]
    return (
        f"{precision}: {row.factor:g} x unit {row.unit:.3g} x sqrt({steps} roundings) x magnitude {{:.3g}}, "
        f"{row.relative:g} units ({row.measured})"
    )


def magnitude(want: Array) -> float:
    """The typical size of the finite elements. 0 when nothing is finite or all is zero.

    Their rms; but at most ten upper quartiles of what isn't zero, so that a few huge elements (a
    mask's -1e4) do not hide all others; and of n elements, sqrt(1 + 8 / n) times that, since a few
    may all happen to be small (a single dot product near zero is off by its terms' size, not its own).
    """
    values = want.astype(np.float64).reshape(-1)
    np.abs(values, out=values)
    squares = float(np.einsum("i,i", values, values))
    scale = 1.0
    if not TINY**2 < squares < HUGE**2:  # or NaN
        values = values[np.isfinite(values)]
        scale = float(values.max(initial=0.0))
        if not scale:
            return 0.0
        scaled = values / scale
        squares = float(np.einsum("i,i", scaled, scaled))
    rms = scale * math.sqrt(squares / values.size)
    nonzero = values if np.count_nonzero(values) == values.size else values[values > 0]
    some = nonzero[:: 1 + nonzero.size // ENOUGH]
    rank = some.size * 3 // 4
    if np.count_nonzero(some >= rms / 10) < some.size - rank:  # else the quartile is above that: no need to sort
        rms = min(rms, 10 * float(np.partition(some, rank)[rank]))
    return rms * math.sqrt(1 + FEW / values.size)
