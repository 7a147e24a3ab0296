"""What a comparison found, as a value: verdict, figures, the worst elements, and the message that tells it."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import ComparisonFailure
from harness.judge.tolerance import Tolerance
from harness.spec.cell import Cell


class Failure(str, enum.Enum):
    """What is wrong with an output."""

    MISSING = "missing output"
    EXTRA = "extra output"
    TYPE = "wrong type"
    SHAPE = "wrong shape"
    DOES_NOT_FIT = "value does not fit the type"
    UNWRITTEN = "unwritten elements"
    NOT_FINITE = "not finite where the reference is"
    NOT_SPECIAL = "not NaN or infinite as the reference is"
    MISMATCH = "values differ"
    SELECTION = "other values selected"
    WEAK_ORACLE = "weak oracle"


@dataclass(frozen=True)
class Element:
    """One element and what was allowed."""

    index: tuple[int, ...]
    got: float
    want: float
    error: float
    allowed: float

    @property
    def excess(self) -> float:
        """The error in units of what is allowed; above 1 it fails."""
        return self.error / self.allowed if self.allowed else math.inf if self.error else 0.0

    def __str__(self) -> str:
        place = f"[{', '.join(map(str, self.index))}] got {self.got:.9g}, expected {self.want:.9g}"
        if not math.isfinite(self.error):
            return place
        times = f", {self.excess:.3g} times that" if math.isfinite(self.excess) else ""
        return f"{place}: off by {self.error:.3g}, allowed {self.allowed:.3g}{times}"


@dataclass(frozen=True)
class Figures:
    """Errors over the elements that are finite on both sides; beside the verdict, not part of it.

    ``max_rel`` and ``mean_rel`` are relative to the reference, elements where that is 0 left out.
    ``max_ulp`` and ``mean_ulp`` count the representable numbers of the output's type between the two.
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

    def __str__(self) -> str:
        return (
            f"abs max {self.max_abs:.3g} mean {self.mean_abs:.3g}, "
            f"rel max {self.max_rel:.3g} mean {self.mean_rel:.3g}, "
            f"ulp max {self.max_ulp:.3g} mean {self.mean_ulp:.3g}, rmse {self.rmse:.3g}, cosine {self.cosine:.6g}, "
            f"SNR {self.snr:.3g} dB"
        )


@dataclass(frozen=True)
class OutputComparison:
    """One output: ``wrong`` of its ``count`` elements are off, ``where`` says to which places they keep."""

    name: str
    kind: str
    got: str  # type and shape
    want: str
    failure: Failure | None = None
    detail: str = ""
    tolerance: Tolerance | None = None
    count: int = 0
    wrong: int = 0
    where: str = ""
    figures: Figures | None = None
    worst: tuple[Element, ...] = ()
    note: str = ""  # what a reader should know although it is no failure

    @property
    def excess(self) -> float:
        """The largest error in units of what is allowed; 0 where no element was measured."""
        return max((element.excess for element in self.worst), default=0.0)

    def as_json(self) -> dict[str, Any]:
        """JSON's own types; what JSON can't spell ("nan", "inf", "-inf") as text."""
        plain: dict[str, Any] = _plain(self)
        return plain

    def told(self, oracle: str) -> Iterator[str]:
        """Lines for a message."""
        label = self.failure.value if self.failure else "as expected"
        yield f"  output {self.name!r}: {label}" + (f": {self.detail}" if self.detail else "")
        yield f"    got        {self.got}" + (f", off in {self.where}" if self.where else "")
        yield f"    expected   {self.want} from {oracle}"
        if self.tolerance is not None:
            yield f"    tolerance  {self.tolerance}: {self.tolerance.source}"
        if self.figures is not None:
            yield f"    errors     {self.figures}"
            if self.figures.top:
                yield "    agreement  " + ", ".join(f"top-{k} {100 * s:.3g} %" for k, s in self.figures.top.items())
        for element in self.worst:
            yield f"    worst      {element}"
        if self.note:
            yield f"    note       {self.note}"


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

    @property
    def worst(self) -> OutputComparison:
        """The first output that failed; if none did, the one nearest to failing."""
        return next(iter(self.failures), max(self.outputs, key=lambda output: output.excess))

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
        kinds = ", ".join(dict.fromkeys(output.failure.value for output in failures if output.failure)) or "passed"
        lines = [f"{self._place(where)}: {kinds} ({len(failures)} of {len(self.outputs)} outputs)"]
        for output in failures:
            lines += output.told(self.oracle)
        lines.append(f"  repeat       {command}")
        return "\n".join(lines)

    def _place(self, where: Cell | str) -> str:
        if isinstance(where, str):
            return where
        parts = [where.model or self.model, f"at {where.precision or self.precision}"]
        parts += [where.variant] * bool(where.variant)
        parts += [f"at {where.point}"] * bool(where.point) + [f"on {where.backend}"] * bool(where.backend)
        return " ".join(parts)


def _plain(value: Any) -> Any:
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
