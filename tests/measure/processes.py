"""Processes as they would be measured, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from harness.measure.conditions import Bracket
from harness.measure.process import PLAIN, Process
from harness.runtime.sampling import END_TO_END, Samples, Stop
from harness.runtime.telemetry import Reading

IDLE = Bracket(Reading(sm_clock=1900, held_back=(), processes=()), Reading(sm_clock=1900, held_back=(), processes=()))


def samples(level: float = 1e-4, seed: int = 0, *, noise: float = 0.002, count: int = 200) -> Samples:
    """Honest ones, of ``end_to_end``."""
    seconds = level * (1 + noise * np.random.default_rng(seed).standard_normal(count))
    at = np.cumsum(seconds) - seconds
    total = float(seconds.sum())
    one = {END_TO_END: seconds}
    return Samples(
        one, {END_TO_END: at}, {END_TO_END: seconds[:50]}, {END_TO_END: count}, END_TO_END, 1, Stop.PRECISE, True,
        0.001, 1.1 * total, wall=1.5 * total,
    )  # fmt: skip


def process(level: float = 1e-4, seed: int = 0, *, bracket: Bracket = IDLE, **nbytes: int) -> Process:
    """One that runs plainly, on a device that is its own."""
    held: Mapping[str, int] = {name.replace("_", " "): value for name, value in nbytes.items()}
    return Process({PLAIN: samples(level, seed)}, {"deserialize": 0.01}, held, f"digest {seed}", bracket)


def drifting(level: float = 1e-4, seed: int = 0) -> Process:
    """Its second half is a tenth slower."""
    one = samples(level, seed)
    slower = one.seconds[END_TO_END] * np.where(np.arange(200) < 100, 1.0, 1.1)
    made = replace(one, seconds={END_TO_END: slower}, elapsed=2 * one.elapsed, wall=2 * one.wall)
    return replace(process(level, seed), samples={PLAIN: made})
