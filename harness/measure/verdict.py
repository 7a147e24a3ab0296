"""What a comparison comes to: one of six outcomes, with its interval and the smallest change it could have shown."""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harness.measure.bootstrap import bootstrap
from harness.measure.metric import Metric
from harness.measure.modes import Groups, groups
from harness.measure.stats import LEVEL, Change, block_ratios, over_blocks, visible

USUAL = 4  # blocks of a comparison
LEAST = 0.001  # nothing below a thousandth is called a change: where the linker puts a function moves as much
MUCH = 1000.0  # percent; what is more says nothing but that nothing is known
CHECK = 0.8  # confidence at which a bootstrap has to agree: coarse, since it is wide


class Outcome(str, enum.Enum):
    """What is said of a cell; only REGRESSION fails a gate."""

    PASS = "PASS"  # no worse than tolerated
    REGRESSION = "REGRESSION"
    IMPROVEMENT = "IMPROVEMENT"
    INCONCLUSIVE = "INCONCLUSIVE"  # neither shown to be worse nor shown to be no worse than tolerated
    UNSTABLE = "UNSTABLE"  # several modes: there is no one number to compare
    HOST_CHANGED = "HOST_CHANGED"  # the machine moved meanwhile: nothing is said of the cell


@dataclass(frozen=True)
class Verdict:
    """One metric of one cell, B against A.

    ``estimate``, ``low`` and ``high`` (of the 95 % interval), ``visible`` (the minimum detectable effect, at
    the level of that interval) and ``floor`` are logs of ratios of cost: above 0 B is worse. ``p`` is
    one-sided, in the direction of the estimate, not adjusted; ``level`` is what it was held against.
    """

    outcome: Outcome
    metric: Metric
    estimate: float
    low: float
    high: float
    visible: float
    floor: float
    p: float
    level: float
    blocks: int
    reason: str = ""

    @property
    def words(self) -> str:
        """As in "slower by 2.1 % (1.8 to 2.4), smallest visible change 0.4 %"."""
        smallest = _number(self.metric.percent(self.visible), self.visible)
        return f"{told(self.metric, self.estimate, self.low, self.high)}, smallest visible change {smallest} %"

    def overruled(self, outcome: Outcome, reason: str = "") -> Verdict:
        """Another outcome of the same numbers."""
        return replace(self, outcome=outcome, reason=reason)

    def __str__(self) -> str:
        return f"{self.outcome.value}: {self.words}" + (f"; {self.reason}" if self.reason else "")


@functools.cache
def multiple() -> float:
    """Of the spread of a cell's blocks: its `floor`."""
    return float(visible(1.0, USUAL)) / 2


def floor(spread: npt.ArrayLike, tick: npt.ArrayLike = 0.0) -> npt.NDArray[np.float64]:
    """The smallest estimate that is called a change, of a cell whose blocks have this ``spread``.

    Half of what its `USUAL` blocks can show, 1.25 times the spread: every cell has its own, so that a
    quiet one keeps the change of half a percent that one floor for all would let pass. More blocks
    sharpen the interval and leave the floor: what is far below a cell's noise may be a bias that
    no repetition removes. A step of the clock is the least, which the smallest change may turn.
    """
    return np.maximum(multiple() * np.asarray(spread), np.maximum(LEAST, tick))


def judge(
    medians: npt.ArrayLike,
    metric: Metric,
    *,
    worse: float = LEVEL,
    better: float = LEVEL,
    samples: Sequence[npt.ArrayLike] | None = None,
) -> Verdict:
    """The verdict on ``medians`` (blocks, 2, 2) of one metric; ``samples`` as in `bootstrap`.

    UNSTABLE where they have several modes (`groups`), else as `weigh` says. ValueError as in `log_medians`.
    """
    cost = metric.cost(medians)
    change = over_blocks(block_ratios(cost), metric.tick)
    found = groups(cost, tick=metric.tick)
    if found.clear(metric.harmless_gap):
        return unstable(change, metric, found)
    return weigh(cost, change, metric, worse=worse, better=better, samples=samples)


def weigh(
    cost: npt.ArrayLike,
    change: Change,
    metric: Metric,
    *,
    worse: float,
    better: float,
    samples: Sequence[npt.ArrayLike] | None = None,
) -> Verdict:
    """The verdict on a ``change`` over the blocks of ``cost``, of one mode.

    REGRESSION where the lower bound at the one-sided level ``worse`` is above 0, the estimate no less than the
    cell's `floor`, and a bootstrap agrees; IMPROVEMENT likewise at ``better``. Else PASS where the
    interval ends below the tolerance, and INCONCLUSIVE where not. Levels are adjusted for what is tested
    beside it (`multiplicity`); 0 is for data from which that must not be concluded, since they were
    chosen for showing it. ValueError for one above `LEVEL`: the 95 % interval of what it shows may hold 0.
    """
    if max(worse, better) > LEVEL:
        raise ValueError(f"levels {worse} and {better}: above {LEVEL:.3g}, that of the interval that is told")
    upward = bool(change.mean > 0)
    level = worse if upward else better
    verdict = _passed(change, metric, level)
    if verdict.p < level and abs(verdict.estimate) >= verdict.floor:
        low, high = bootstrap(cost, samples=samples, confidence=CHECK)
        if low <= 0 <= high:
            return verdict.overruled(Outcome.INCONCLUSIVE, "a bootstrap over blocks and processes does not confirm it")
        return verdict.overruled(Outcome.REGRESSION if upward else Outcome.IMPROVEMENT)
    if verdict.high < metric.tolerance:
        return verdict
    most, allowed = (_number(metric.percent(loss), 1.0) for loss in (verdict.high, metric.tolerance))
    return verdict.overruled(Outcome.INCONCLUSIVE, f"up to {most} % is possible, {allowed} % tolerated")


def unstable(change: Change, metric: Metric, found: Groups) -> Verdict:
    """The verdict on a cell of which the processes fall into two groups."""
    return _passed(change, metric, 0.0).overruled(Outcome.UNSTABLE, str(found))


def _passed(change: Change, metric: Metric, level: float) -> Verdict:
    low, high = change.interval()
    least = float(floor(change.spread, metric.tick))
    return Verdict(
        Outcome.PASS,
        metric,
        estimate=float(change.mean),
        low=float(low),
        high=float(high),
        visible=float(visible(change.spread, change.blocks, floor=max(LEAST, metric.tick), multiple=multiple())),
        floor=least,
        p=float(min(change.p_worse, change.p_better)),
        level=float(level),
        blocks=change.blocks,
    )


def told(metric: Metric, estimate: float, low: float, high: float) -> str:
    """A change and its interval in words and percent, turned so that the change is above 0."""
    word, sign = (metric.worse, 1) if estimate > 0 else (metric.better, -1)
    half = (high - low) / 2
    first, last = sorted(sign * metric.percent(end) for end in (low, high))
    size = sign * metric.percent(estimate)
    return f"{word} by {_number(size, half)} % ({_number(first, half)} to {_number(last, half)})"


def _number(percent: float, precision: float) -> str:
    """With one decimal, or up to three where ``precision``, a log, is finer than that shows; beyond `MUCH` no more."""
    if not abs(percent) < MUCH:
        return f"{'over' if percent > 0 else 'below'} {math.copysign(MUCH, percent):.0f}"
    digits = next((digits for digits in (1, 2) if 100 * precision >= 0.5 * 10**-digits), 3)
    return f"{percent:z.{digits}f}"
