"""What a cell is worth to a night that has no time for all: what gave trouble last, then what something is held to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from harness.ledger.store import Store


@dataclass(frozen=True)
class Worth:
    """``troubled`` cells failed or were left open, ``baselines`` are of cells; both as a store names cells."""

    troubled: frozenset[str] = frozenset()
    baselines: frozenset[str] = frozenset()
    LEAST: ClassVar[int] = 2

    @classmethod
    def by(cls, store: Store, baselines: Iterable[str]) -> Worth:
        """Trouble is that of the last session in the store that was held against baselines, and not by hand."""
        from harness.ledger.history import sessions, verdicts
        from harness.ledger.nights import BY_HAND
        from harness.measure.finding import BAD, OPEN

        trouble = {said.value for said in (*BAD, *OPEN)}
        each = (verdicts(store, name) for name, _, _ in reversed(sessions(store)))
        held = ([one for one in found if one.question != BY_HAND] for found in each)
        told = next((found for found in held if found), [])
        return cls(frozenset(one.cell for one in told if one.outcome in trouble), frozenset(baselines))

    def of(self, name: str) -> int:
        """0 for what is worth most, `LEAST` for the least; ``name`` is the cell's, on whichever device."""
        on_any = f"{name} on "
        if any(cell.startswith(on_any) for cell in self.troubled):
            return 0
        return 1 if any(cell.startswith(on_any) for cell in self.baselines) else self.LEAST
