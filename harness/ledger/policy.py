"""How much a metric may lose, and when that counts: one policy for each kind of metric.

Latency is known to a fraction of a percent and says what a user waits for; a build's time is a lottery, and its
policy wide. The owner of a repository sets them in the file of baselines (`harness.ledger.baseline_file`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import SpecError
from harness.measure.quantity import BUILD, BYTES, PARSE, PLAN_SIZE, Quantity
from harness.measure.special import stdtrit
from harness.measure.stats import CONFIDENCE, POWER, usual

LATENCY, MEMORY, SIZE, BUILDING, ONCE = "latency", "memory", "size", "build", "once"
RECENT = 30  # sessions that a tolerance is taken from


@dataclass(frozen=True)
class Policy:
    """Relative losses.

    Up to ``tolerance`` a loss passes: of sizes, memory and what takes place once one that is shown, of latency and
    throughput one that may be there and is not shown (what is, beyond the cell's own floor, is a regression however
    small), and of everything where history alone decides. What a cell's own sessions show of its noise widens that, up
    to ``cap`` and only when a baseline is accepted: between two baselines nothing moves. ``drift`` is what a cell may
    lose in all since the pinned release. What is not ``gated`` is measured, judged and shown, and fails nothing.
    SpecError for what makes no sense.
    """

    tolerance: float
    cap: float
    drift: float
    gated: bool = True

    def __post_init__(self) -> None:
        if type(self.gated) is not bool:
            raise SpecError(f"gated = {self.gated!r}: expected true or false")
        if not 0 < self.tolerance <= self.cap or self.drift <= 0:
            given = f"tolerance {self.tolerance}, cap {self.cap}, drift {self.drift}"
            raise SpecError(f"{given}: expected 0 < tolerance <= cap, and 0 < drift")

    def tolerated(self, sessions: Sequence[float]) -> float:
        """The tolerance of a cell whose ``sessions`` had these values: what one more could show, within limits."""
        return float(min(self.cap, max(self.tolerance, shown_by_one_more(sessions))))


DEFAULTS: Mapping[str, Policy] = {
    LATENCY: Policy(0.01, 0.05, 0.03),
    MEMORY: Policy(0.02, 0.05, 0.05),
    SIZE: Policy(0.02, 0.05, 0.05),
    BUILDING: Policy(0.25, 1.0, 1.0),
    ONCE: Policy(0.1, 0.5, 0.3),
}


def kind_of(quantity: Quantity) -> str:
    """Which policy a quantity is under."""
    if quantity.way:
        return LATENCY
    if quantity.name == PLAN_SIZE.name:
        return SIZE
    if quantity.unit == BYTES and not quantity.step:  # what goes by steps of the driver is known less well
        return MEMORY
    return BUILDING if quantity.name in (BUILD.name, PARSE.name) else ONCE


def shown_by_one_more(sessions: Sequence[float]) -> float:
    """The smallest change, as a log ratio, that one session more than these shows with power `POWER`.

    By the prediction interval of Student's t over the sessions' own spread, that of flaky ones left out; infinite for
    fewer than two.
    """
    values = usual(np.log(np.asarray(sessions[-RECENT:], np.float64)))
    count = values.size
    if count < 2:
        return float("inf")
    spread = float(values.std(ddof=1))
    quantiles = stdtrit(count - 1, (1 + CONFIDENCE) / 2) + stdtrit(count - 1, POWER)
    return float(quantiles * spread * (1 + 1 / count) ** 0.5)
