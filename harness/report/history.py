"""A series of nights in the terminal: values and their intervals, epochs, the baseline, and change points in words.

Columns are nights, so that weeks without one take no room; where there are more nights than columns, a column
is several. Letters mark where an epoch begins and numbers where the level changed; below, each is told in words.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from harness.measure.epochs import DATE, Night
from harness.measure.history import Cause, ChangePoint, History
from harness.measure.steps import held

Array = npt.NDArray[np.float64]

VALUE, BAND, LEVEL, BASELINE, CUT = "●", "░", "─", "╌", "┊"
ABOVE, BELOW = "▲", "▼"  # a night that is beyond what is drawn
HEIGHT = 12  # rows of the drawing
LEAST_WIDTH = 40
LETTERS = string.ascii_uppercase


def history_lines(
    history: History,
    title: str,
    *,
    unit: str = "",
    baseline: float | None = None,
    verdict: str = "",
    standings: Mapping[int, str] = MappingProxyType({}),
    others: Sequence[str] = (),
    width: int = 100,
    height: int = HEIGHT,
) -> list[str]:
    """``history`` as lines of at most ``width`` characters, words of the legend apart, which are never cut.

    ``baseline`` is a level in the unit of the nights, ``verdict`` what was said of the last night. ``standings`` say of
    changes, by their index, whether they are decided, ``others`` are proposals of earlier nights that are in words
    already. At least `LEAST_WIDTH` characters and 3 rows are taken.
    """
    if not history.nights:
        return [title, "no night has been measured"]
    changes = [change for change in history.changes if change.cause is not Cause.ENVIRONMENT]
    epochs = [epoch.start for epoch in history.epochs[1:]]
    scale = _scale(history, baseline, max(height, 3), unit)
    margin = max(len(label) for label in scale.labels) + 2
    columns = min(max(width, LEAST_WIDTH) - margin, len(history.nights))
    drawing = _Drawing(scale, len(history.nights), columns)
    drawing.nights(history.nights)
    drawing.level(0, len(history.nights), baseline, BASELINE)
    for low, high, level in history.segments:
        drawing.level(low, high, level, LEVEL)
    drawing.cuts(epochs)
    lines = [title]
    lines += [
        f"{label:>{margin - 2}} ┤{''.join(row)}".rstrip() for label, row in zip(scale.labels, drawing.rows, strict=True)
    ]
    lines.append(" " * (margin - 1) + "└" + "─" * columns)
    for marks in (
        drawing.marks(epochs, [_letter(number) for number in range(len(epochs))]),
        drawing.marks([change.index for change in changes], [str(number + 1) for number in range(len(changes))]),
    ):
        lines += [" " * margin + marks] if marks else []
    lines.append(" " * margin + _dates(history.nights, columns))
    return [*lines, *_legend(history, changes, unit, baseline, verdict, standings, others)]


def _legend(
    history: History,
    changes: Sequence[ChangePoint],
    unit: str,
    baseline: float | None,
    verdict: str,
    standings: Mapping[int, str],
    others: Sequence[str],
) -> Iterator[str]:
    count = len(history.nights)
    nights = "1 night" if count == 1 else f"{count} nights"
    yield f"{VALUE} value, {BAND} interval, {LEVEL} level between changes, {CUT} another environment; {nights}"
    if baseline is not None:
        yield f"{BASELINE} baseline {_number(baseline, unit)}"
    shifts = {change.index: change for change in history.changes if change.cause is Cause.ENVIRONMENT}
    for number, epoch in enumerate(history.epochs[1:]):
        moved = ", ".join(map(str, epoch.moved))
        since = f"{_letter(number)}: since night {history.nights[epoch.start].at:{DATE}} with {moved}"
        shift = shifts.get(epoch.start)
        yield f"{since}: {shift.size(history.metric)}" if shift else f"{since}: no other level was shown"
    for number, change in enumerate(changes):
        standing = standings.get(change.index, "")
        yield f"{number + 1}: {change.proposal(history.metric)}{f': {standing}' if standing else ''}"
    if not changes:
        yield "no change point inside an epoch"
    yield from (f"of an earlier night: {one}" for one in others)
    if history.proposals or others:
        yield "a change point is a proposal: a fresh comparison decides"
    last = history.nights[-1]
    interval = f"{_number(last.low)} to {_number(last.high, unit)}"
    of = f" at {last.commit}" if last.commit else ""
    yield f"last night {last.at:{DATE}}{of}: {_number(last.value, unit)} ({interval}): {verdict or 'not judged'}"


@dataclass(frozen=True)
class _Scale:
    """Values from ``low`` to ``high``, the highest in the first of the rows that are labelled."""

    low: float
    high: float
    labels: tuple[str, ...]

    def row(self, value: float) -> int:
        """Below 0 above the drawing, from the number of labels on beneath it."""
        last = len(self.labels) - 1
        return round(last * (self.high - value) / (self.high - self.low)) if math.isfinite(value) else -1


def _scale(history: History, baseline: float | None, height: int, unit: str) -> _Scale:
    """What all but flaky nights need, and at least 1 %: noise of a tenth of that should look like none."""
    usual = np.exp(held(np.log([night.value for night in history.nights])))
    wanted = [*usual, *(level for *_, level in history.segments), *([baseline] if baseline is not None else [])]
    low, high = float(min(wanted)), float(max(wanted))
    spare = max(0.05 * (high - low), 0.005 * high - (high - low) / 2)
    low, high = low - spare, high + spare
    values = np.linspace(high, low, height)
    digits = max(0, 2 - math.floor(math.log10((high - low) / 2)))
    some = {0, height // 2, height - 1}
    labels = (f"{value:.{digits}f} {unit}".rstrip() if row in some else "" for row, value in enumerate(values))
    return _Scale(low, high, tuple(labels))


@dataclass
class _Drawing:
    """Characters by row and column; later ones are drawn only where there is room."""

    scale: _Scale
    count: int  # nights
    columns: int
    rows: list[list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = [[" "] * self.columns for _ in self.scale.labels]

    def column(self, night: int) -> int:
        return night * self.columns // self.count

    def nights(self, nights: Sequence[Night]) -> None:
        for column in range(self.columns):
            here = [night for number, night in enumerate(nights) if self.column(number) == column]
            last = len(self.rows) - 1
            top, bottom = (self.scale.row(end) for end in (max(n.high for n in here), min(n.low for n in here)))
            row = self.scale.row(float(np.median([night.value for night in here])))
            mark = ABOVE if row < 0 else BELOW if row > last else VALUE
            self.rows[min(max(row, 0), last)][column] = mark
            for between in range(max(top, 0), min(bottom, last) + 1):
                self._put(between, column, BAND)

    def level(self, first: int, stop: int, value: float | None, mark: str) -> None:
        if value is not None and 0 <= (row := self.scale.row(value)) < len(self.rows):
            for column in range(self.column(first), self.column(stop - 1) + 1):
                self._put(row, column, mark, over=BAND)

    def cuts(self, nights: Sequence[int]) -> None:
        for night in nights:
            for row in range(len(self.rows)):
                self._put(row, self.column(night), CUT, over=BAND + LEVEL + BASELINE)

    def marks(self, nights: Sequence[int], names: Sequence[str]) -> str:
        """``names`` under their columns; one that has no room goes to the next."""
        line = ""
        for night, name in zip(nights, names, strict=True):
            line = line.ljust(self.column(night)) + name
        return line

    def _put(self, row: int, column: int, mark: str, over: str = "") -> None:
        if self.rows[row][column] in " " + over:
            self.rows[row][column] = mark


def _letter(number: int) -> str:
    return LETTERS[number % len(LETTERS)] + str(number // len(LETTERS) or "")


def _dates(nights: Sequence[Night], columns: int) -> str:
    first, last = (f"{night.at:{DATE}}" for night in (nights[0], nights[-1]))
    return first if len(nights) == 1 else f"{first}{last:>{max(columns - len(first), len(last) + 1)}}"


def _number(value: float, unit: str = "") -> str:
    return f"{value:.5g} {unit}".rstrip()
