"""Whether a GPU was in a state to be measured in, by rules that are stated beforehand.

A block is kept or discarded whole, never one arm of it: what is left out of one arm alone is a choice of results.
Beside clocks that were held back and company on the GPU, what counts is whether all processes of the block
ran at the same clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.runtime.telemetry import Reading

SLOWED = frozenset(
    ("hardware slowdown", "software thermal slowdown", "hardware thermal slowdown", "hardware power brake")
)  # a power cap is how a GPU works under load, and shows in the clocks where it matters
APART = 0.03  # clocks of a block's processes may differ by so much, relative to the highest


@dataclass(frozen=True)
class Bracket:
    """Readings around one process: ``before`` it was started, and ``after`` its last sample, while it still lives."""

    before: Reading
    after: Reading


def spoilt(block: Sequence[Bracket]) -> str:
    """Why the block of these processes is discarded whole; "" where nothing is known against it."""
    slowed = sorted({reason for one in block for reason in one.after.held_back or () if reason in SLOWED})
    if slowed:
        return f"the GPU was slowed down: {', '.join(slowed)}"
    company = sorted({pid for one in block for pid in one.before.processes or ()})
    if company:
        return f"other processes computed on the GPU: {', '.join(map(str, company))}"
    clocks = [one.after.sm_clock for one in block if one.after.sm_clock]
    if clocks and min(clocks) < (1 - APART) * max(clocks):
        return f"the processes of the block ran at {min(clocks)} to {max(clocks)} MHz"
    return ""


def unseen(block: Sequence[Bracket]) -> tuple[str, ...]:
    """What no rule could look at, with the reason, in words; each once."""
    watched = ("held_back", "sm_clock", "processes")
    said = {
        f"{name.replace('_', ' ')}: {reading.missing[name]}"
        for one in block
        for reading in (one.before, one.after)
        for name in watched
        if name in reading.missing
    }
    return tuple(sorted(said))
