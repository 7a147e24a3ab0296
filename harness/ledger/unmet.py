"""Accepted baselines that no cell of a run met: what is not measured is held against nothing, and nobody would know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Unmet:
    """The baseline of ``cell``, and ``why`` nothing met it.

    ``within`` says that its cell was within what the run was to do on this device: that leaves a night open. What the
    run was not asked for, or has told of already, does not.
    """

    cell: str
    why: str
    within: bool


def outside(unmet: Collection[Unmet]) -> str:
    """Those that are not within, counted, in one line; "" where there are none."""
    reasons = Counter(one.why for one in unmet if not one.within)
    told = ", ".join(f"{count:,} {why}" for why, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
    return f"{reasons.total():,} of what this run was not to do, or tells elsewhere: {told}" if told else ""
