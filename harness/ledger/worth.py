"""What a cell is worth to a night that has no time for all: what gave trouble, then what something is held to.

Trouble is what failed or was left open when the cell was last held against a baseline, and a change point for the worse
that is not cleared. That takes no more than every other place: the others are of what was begun longest ago, whatever
it is worth. So of n engines each is reached within n / (k // 2) nights, rounded up, that have time for k of them, two
at least; and within n / k where all are worth as much. A night that has time for one alone takes what is worth most.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

if TYPE_CHECKING:
    from harness.ledger.store import Store

NEVER = -math.inf
Place = tuple[int, float]  # a rank, of which 0 is worth most, and when it was begun last
T = TypeVar("T")


@dataclass(frozen=True)
class Worth:
    """By the names of cells, on whichever device: ``bert-fp16-opt-tensorrt``.

    ``troubled`` cells failed or were left open, ``changed`` ones have a change point that is not cleared, of
    ``baselines`` there is one; ``last`` says when each was measured last, in seconds since 1970. ``begun`` says by
    pytest's id when a test was begun last that did not pass, whether it measured or not.
    """

    troubled: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    baselines: frozenset[str] = frozenset()
    last: Mapping[str, float] = field(default_factory=dict)
    begun: Mapping[str, float] = field(default_factory=dict)
    LEAST: ClassVar[int] = 2

    @classmethod
    def by(cls, store: Store, baselines: Iterable[str]) -> Worth:
        """Of cells as a store names them, with their device.

        What a comparison by hand said is no trouble, nor what a metric left open that decides nothing, such as energy.
        """
        from harness.ledger.change_states import uncleared
        from harness.ledger.history import held, last_begun, last_measured
        from harness.measure.finding import BAD, OPEN
        from harness.measure.quantity import every

        bad, left_open = ({said.value for said in outcomes} for outcomes in (BAD, OPEN))
        deciding = {name for name, one in every().items() if one.decides}

        def trouble(said: set[tuple[str, str]]) -> bool:
            return any(what in bad or (what in left_open and metric in deciding) for metric, what in said)

        measured = last_measured(store)
        last: dict[str, float] = {}
        newest: dict[str, float] = {}  # by cell and device: a change point of another model, that had its name, is past
        for _, cell, at in measured:
            last[named(cell)] = max(at, last.get(named(cell), NEVER))
            newest[cell] = max(at, newest.get(cell, NEVER))
        now = {key for key, cell, at in measured if at == newest[cell]}
        return cls(
            frozenset(named(cell) for cell, said in held(store).items() if trouble(said)),
            frozenset(named(one.line.cell) for one in uncleared(store).values() if one.line.cell_key in now),
            frozenset(map(named, baselines)),
            last,
            last_begun(store),
        )

    @classmethod
    def of_plain(cls, told: Mapping[str, Any]) -> Worth:
        """Of what `plain` tells."""
        troubled, changed, baselines = (frozenset(told[name]) for name in ("troubled", "changed", "baselines"))
        return cls(troubled, changed, baselines, told["last"], told["begun"])

    def plain(self) -> dict[str, Any]:
        """For another process, in lists and dictionaries."""
        return {name: sorted(one) if isinstance(one, frozenset) else dict(one) for name, one in vars(self).items()}

    def of(self, name: str, node: str = "") -> Place:
        """What is worth most is least: its rank, up to `LEAST`, and when it was begun last; ``node`` is pytest's id."""
        rank = 1 if name in self.baselines else self.LEAST
        last = max(self.last.get(name, NEVER), self.begun.get(node, NEVER))
        return 0 if name in self.troubled or name in self.changed else rank, last

    @property
    def unmeasured(self) -> Place:
        """Of what measures nothing, and has no say in what comes first beside it."""
        return self.LEAST, math.inf if self.last or self.begun else NEVER


def in_turns(found: Mapping[T, Collection[Place]]) -> list[T]:
    """In turns what is worth most, and what was begun longest ago, each once; as they come where that is the same."""
    by_worth = sorted(found, key=lambda one: min(found[one]))
    by_age = sorted(found, key=lambda one: min(last for _, last in found[one]))
    return list(dict.fromkeys(itertools.chain.from_iterable(zip(by_worth, by_age, strict=True))))


def named(cell: str) -> str:
    """``bert-fp16-opt-tensorrt`` of ``bert-fp16-opt-tensorrt on NVIDIA H200``."""
    return cell.partition(" on ")[0]
