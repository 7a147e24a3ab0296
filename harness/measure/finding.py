"""What is said of one metric, so that a list of them can be sorted and acted upon."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.measure.quantity import BYTES, Quantity
from harness.measure.verdict import Outcome, Verdict, told


class Said(str, enum.Enum):
    """Outcomes of verdicts, and what else may be said; the worst comes first."""

    FAILED = "FAILED"  # it does not build, load or run, or gives wrong numbers
    LEAK = "LEAK"  # what rounds of building, loading, running and dropping take and do not give back
    REGRESSION = "REGRESSION"
    HOST_CHANGED = "HOST_CHANGED"
    UNSTABLE = "UNSTABLE"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOTED = "NOTED"  # worth knowing, and no reason to stop
    PASS = "PASS"
    IMPROVEMENT = "IMPROVEMENT"
    NOT_COVERED = "NOT_COVERED"


BAD = (Said.FAILED, Said.LEAK, Said.REGRESSION)
OPEN = (Said.HOST_CHANGED, Said.UNSTABLE, Said.INCONCLUSIVE)
SETTLED = (Said.PASS, Said.IMPROVEMENT)
_RANK = {said: rank for rank, said in enumerate(Said)}


@dataclass(frozen=True)
class Finding:
    """One line: what ``metric`` of ``subject`` comes to.

    ``a`` and ``b`` are what both sides come to in ``unit`` (`of_both`), None where there are none. ``decides``: whether
    an open outcome leaves the whole open. ``detail`` is the rest of a failure's message. ``timed``: it is a verdict on
    what the machine has a say in.
    """

    subject: str
    metric: str
    said: Said
    words: str
    a: float | None = None
    b: float | None = None
    unit: str = ""
    decides: bool = True
    verdict: Verdict | None = None
    detail: str = ""
    timed: bool = False

    @property
    def open(self) -> bool:
        return self.decides and self.said in OPEN

    @classmethod
    def of(cls, subject: str, quantity: Quantity, verdict: Verdict, a: float, b: float) -> Finding:
        """A verdict in words. Of sizes and of what takes place once, a loss below the tolerance passes."""
        tolerated = not quantity.strict and verdict.outcome is Outcome.REGRESSION
        if tolerated and verdict.estimate < verdict.metric.tolerance:
            allowed = f"{verdict.metric.percent(verdict.metric.tolerance):.0f} % tolerated"
            verdict = verdict.overruled(Outcome.PASS, allowed)
        words = verdict.words + (f"; {verdict.reason}" if verdict.reason else "")
        said = Said(verdict.outcome.value)
        timed = quantity.unit != BYTES
        return cls(subject, quantity.name, said, words, a, b, quantity.unit, quantity.decides, verdict, timed=timed)


def of_both(values: npt.NDArray[np.float64], verdict: Verdict) -> tuple[float, float]:
    """What A and B come to, in the unit of ``values`` (blocks, 2, 2): apart by just the change that the words tell.

    The geometric mean of all is between them, so that they are the geometric means of A and B where ``values`` are just
    those that were judged. Medians may tell another direction than the words where a machine is noisy; they are told
    where a value is not above 0.
    """
    if not (np.isfinite(values) & (values > 0)).all():
        return float(np.median(values[:, 0])), float(np.median(values[:, 1]))
    middle = float(np.log(values).mean())
    half = verdict.estimate / 2 * (-1 if verdict.metric.more_is_better else 1)
    return float(np.exp(middle - half)), float(np.exp(middle + half))


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """By outcome, and of one outcome by how much worse B is."""

    def key(one: Finding) -> tuple[int, float]:
        return _RANK[one.said], -one.verdict.estimate if one.verdict else 0.0

    return sorted(findings, key=key)


def mean_over(findings: Sequence[Finding], quantity: Quantity) -> str:
    """The geometric mean of B over A over the subjects of ``findings`` of one quantity, in words; "" of fewer than two.

    Subjects are independent, so that the squares of their intervals' halves add up.
    """
    verdicts = [one.verdict for one in findings if one.metric == quantity.name and one.verdict]
    if len(verdicts) < 2:
        return ""
    estimate = float(np.mean([one.estimate for one in verdicts]))
    half = float(np.sqrt(np.sum([((one.high - one.low) / 2) ** 2 for one in verdicts])) / len(verdicts))
    return f"{told(quantity.metric, estimate, estimate - half, estimate + half)}, mean of {len(verdicts)} models"
