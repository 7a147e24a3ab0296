"""How far a float may be from the oracle's, by the precision it was computed in: each number with its source.

The rule is numpy's, |got - want| <= atol + rtol |want|. Each operator rounds once, errors of
independent roundings add in quadrature, and errors of sums go with the size of their terms; so

    atol = factor x unit x sqrt(depth) x magnitude        rtol = 8 to 64 units

where ``unit`` is the unit roundoff of the precision, ``depth`` the number of operators that round on
the longest way to the output, and ``magnitude`` the typical size of the oracle's output. Over the zoo
the error in units of sqrt(depth) is the same for one operator and for the 254 of BERT-base, within a
factor of three, where a tolerance of one number would be ten times too wide or too narrow.
"""

from __future__ import annotations

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
ENOUGH = 1 << 17  # elements that a quartile is taken of, evenly spread over more


@dataclass(frozen=True)
class Tolerance:
    """|got - want| <= ``atol`` + ``rtol`` |want|, and why."""

    atol: float
    rtol: float
    source: str

    def times(self, factor: int, why: str) -> Tolerance:
        """``factor`` times as wide; ``why`` stands in the source."""
        return Tolerance(factor * self.atol, factor * self.rtol, f"{factor} times ({why}) {self.source}")

    def __str__(self) -> str:
        return f"|got - want| <= {self.atol:.3g} + {self.rtol:.3g} |want|"


EXACT = Tolerance(0.0, 0.0, "computed from integers and booleans alone: every element")


@dataclass(frozen=True)
class Row:
    """One precision.

    ``unit`` is its unit roundoff, ``factor`` and ``relative`` are in units, ``measured`` says what
    they rest on. ``quantized`` is the atol, per magnitude, of an output that a rounding to a grid
    comes before: there a difference in the last bit becomes one of a whole quantum.
    """

    unit: float
    factor: float
    relative: float
    measured: str
    quantized: float


_FP16 = "2.5: the zoo in float16 on onnxruntime stays below 1.9 (ResNet 1.6, BERT-base 1.1; loops, counted once, 3.1)"
_FP32 = "32: the zoo on onnxruntime's optimized kernels stays below 15 (attention of 128)"
_TF32 = "2.5: the zoo on onnxruntime, operands of products rounded to 11 bits, stays below 2.3"
TABLE: dict[str, Row] = {
    # in float32 the sums themselves round, in another order on every kernel: sqrt(1,000 terms) is 32
    "fp32": Row(2.0**-24, 32, 64, _FP32, 1e-2),
    "tf32": Row(2.0**-11, 2.5, 8, _TF32, 0.2),
    "fp16": Row(2.0**-11, 2.5, 8, _FP16, 0.2),
    "fp16-weak": Row(2.0**-11, 2.5, 8, "as fp16, which the builder may choose for any layer", 0.2),
}
_QUANTIZED = "a last bit may turn a quantum of the Q/DQ grid (the zoo on onnxruntime: fp32 0.001, fp16 0.098)"


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
        f"{precision}: {row.factor:g} x unit {row.unit:.3g} x sqrt({steps} roundings) x magnitude {magnitude:.3g}, "
        f"{row.relative:g} units ({row.measured})",
    )


def magnitude(want: Array) -> float:
    """The typical size of the finite elements. 0 when nothing is finite or all is zero.

    Their rms; but at most ten upper quartiles of what isn't zero, so that a few huge elements (a
    mask's -1e4) do not hide all others; and of n elements, sqrt(1 + 8 / n) times that, since a few
    may all happen to be small (a single dot product near zero is off by its terms' size, not its own).
    """
    values = np.abs(np.asarray(want, np.float64).reshape(-1))
    values = values[np.isfinite(values)]
    nonzero = values[values > 0]
    if not nonzero.size:
        return 0.0
    top = float(values.max())
    rms = top * math.sqrt(float(np.mean(np.square(values / top))))  # scaled, as squares of 1e200 overflow
    some = nonzero[:: 1 + nonzero.size // ENOUGH]
    rank = some.size * 3 // 4
    quartile = float(np.partition(some, rank)[rank])
    return min(rms, 10 * quartile) * math.sqrt(1 + FEW / values.size)
