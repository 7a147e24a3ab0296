"""Whether a run recorded all that it was to record: a cell that left nothing must not pass for covered."""

from __future__ import annotations

from collections.abc import Iterable

NAMED = 10  # of the cells that left no record; the rest are counted


def lost(cells: Iterable[str], recorded: Iterable[str], problems: Iterable[str] = ()) -> list[str]:
    """What is missing, in words; nothing when every one of ``cells`` is among ``recorded`` and all could be read.

    Both by whatever name tells cells apart; ``problems`` are those of `harness.ledger.records.read_run`.
    """
    missing = sorted(set(cells) - set(recorded))
    said = [f"unreadable record: {problem}" for problem in problems]
    said += [f"no record: {name}" for name in missing[:NAMED]]
    if len(missing) > NAMED:
        said.append(f"no record: {len(missing) - NAMED} more cells")
    return said
