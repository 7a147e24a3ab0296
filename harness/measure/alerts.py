"""Changes of many cells in the same nights are one alert: they have one cause, and one comparison decides them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from harness.measure.epochs import DATE, Night
from harness.measure.history import ChangePoint, History
from harness.measure.metric import Metric

TOGETHER = timedelta(days=3)  # from the surest change of a group to any other
_COMMITS = re.compile(r"\(commits (\S+\.\.\S+)\)")


@dataclass(frozen=True)
class Alert:
    """Unexplained changes of one or several cells in the same nights, the surest first."""

    changes: tuple[tuple[str, ChangePoint], ...]  # by cell
    searched: int  # cells

    @property
    def lost(self) -> float:
        """What its cells lost together, as a sum of logs of ratios of cost; 0 where they gained."""
        return sum(max(change.estimate, 0.0) for _, change in self.changes)

    @property
    def cells(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell for cell, _ in self.changes))

    @property
    def good(self) -> Night:
        """The last night that is good for all, where their ranges meet; else that of the strongest."""
        return self._range[0]

    @property
    def bad(self) -> Night:
        return self._range[1]

    @property
    def _range(self) -> tuple[Night, Night]:
        good = max((change.good for _, change in self.changes), key=lambda night: night.at)
        bad = min((change.bad for _, change in self.changes), key=lambda night: night.at)
        strongest = self.changes[0][1]
        return (good, bad) if good.at < bad.at else (strongest.good, strongest.bad)

    def words(self, metric: Metric) -> str:
        """How many cells, since when and in which commits, and the surest change."""
        cell, change = self.changes[0]
        cells = f"{len(self.cells)} of {self.searched} cells since night {self.bad.at:{DATE}}"
        commits = f" (commits {self.good.commit}..{self.bad.commit})" if self.good.commit and self.bad.commit else ""
        return f"{cells}{commits}; the surest: {cell}, {change.size(metric)}"


def commits_in(words: str) -> str:
    """``abc..def`` of what `Alert.words` said; "" where it named none."""
    found = _COMMITS.search(words)
    return found[1] if found else ""


def alerts(histories: Mapping[str, History], together: timedelta = TOGETHER) -> tuple[Alert, ...]:
    """The proposals of ``histories``, by cell, grouped by night, the group first whose cells lost most together.

    Each group is that of the surest change that is left: with those ``together`` with it, and those that may as well
    have begun in its night, by the range of nights that they tell. That all of them are sure was shown before: how much
    is lost, and by how many, is what a reader has to know first, which no p tells, that of the surest of many cells
    being smaller than that of one by their number alone.
    """
    left = sorted(
        ((cell, change) for cell, one in histories.items() for change in one.proposals),
        key=lambda pair: (_evidence(histories, pair), pair[0]),
    )
    found = []
    while left:
        surest = _began(histories, left[0])
        group = [
            pair
            for pair in left
            if abs(_began(histories, pair) - surest) <= together or pair[1].good.at < surest <= pair[1].bad.at
        ]
        left = [pair for pair in left if pair not in group]
        found.append(Alert(tuple(group), len(histories)))
    return tuple(sorted(found, key=lambda alert: (-alert.lost, -len(alert.cells))))


def began(found: Sequence[History]) -> tuple[datetime, ...]:
    """The nights that cells without a change are asked about: the first one of every alert, as its surest cell has it.

    A commit mostly makes several cells slower. Once one of them is sure of it, the night is known, and the others have
    to be sure of this one alone, not of every night there is. An alert gets more cells by it; none is added.
    """
    by_name = {str(number): one for number, one in enumerate(found)}
    return tuple(sorted(_began(by_name, alert.changes[0]) for alert in alerts(by_name)))


def _began(histories: Mapping[str, History], pair: tuple[str, ChangePoint]) -> datetime:
    """The first night on the new level."""
    cell, change = pair
    return histories[cell].nights[change.index].at


def _evidence(histories: Mapping[str, History], pair: tuple[str, ChangePoint]) -> tuple[float, float]:
    """p, of all changes as if they had been looked for in all nights of their series.

    A cell that was asked about the night of another has a smaller one by that alone, and is none the surer.
    """
    cell, change = pair
    return change.alone * len(histories[cell].nights), -abs(change.estimate)
