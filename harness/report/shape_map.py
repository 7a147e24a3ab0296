"""Maps of a model's shapes: how far each is off, over one or two dimensions, for a terminal and as a picture.

A dark or red region is seen at a glance; its words, its figures and its colours all say the same.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich.text import Text

from harness.spec.canonical import plain

Verdict = Literal["within", "off", "wrong", "not asked"]


@dataclass(frozen=True)
class Spot:
    """One shape. ``excess`` is its largest error in units of what is allowed: above 1 it is off.

    ``wrong`` is what fails in any other way, without such a figure: an output of another shape, NaN, a
    refused or crashed run; ``why`` says which. ``not asked``, too, says why.
    """

    sizes: Mapping[str, int]
    verdict: Verdict
    excess: float = 0.0
    output: str = ""  # the one that came off worst
    error: float | None = None  # largest absolute one of that output
    why: str = ""  # one line
    message: str = ""  # of what failed, in full


@dataclass(frozen=True)
class Axis:
    """A dimension, and the sizes of it that were asked, in increasing order."""

    symbol: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class ShapeMap:
    """The shapes of one profile over ``x``, and over ``y`` if there is one, with all other sizes ``fixed``.

    ``spots`` has every pair of sizes once.
    """

    title: str  # model, precision and backend
    profile: int
    x: Axis
    y: Axis | None
    fixed: Mapping[str, int]
    spots: tuple[Spot, ...]

    @property
    def rows(self) -> tuple[tuple[str, tuple[Spot, ...]], ...]:
        """Spots along ``x`` for each size of ``y``, the largest first, as in a plot; one row without ``y``."""
        found = {
            (spot.sizes.get(self.y.symbol) if self.y else None, spot.sizes[self.x.symbol]): spot for spot in self.spots
        }
        heights = reversed(self.y.sizes) if self.y else (None,)
        return tuple(
            ("" if height is None else str(height), tuple(found[height, width] for width in self.x.sizes))
            for height in heights
        )

    @property
    def failures(self) -> tuple[Spot, ...]:
        """What is off or wrong, the smallest shapes first."""
        bad = (spot for spot in self.spots if spot.verdict in ("off", "wrong"))
        return tuple(sorted(bad, key=lambda spot: (math.prod(spot.sizes.values()), sorted(spot.sizes.items()))))

    @property
    def region(self) -> dict[str, tuple[int, int]]:
        """Between which sizes, by dimension, all failures lie; empty without one."""
        symbols = sorted(axis.symbol for axis in (self.x, self.y) if axis) if self.failures else []
        return {s: (min(f.sizes[s] for f in self.failures), max(f.sizes[s] for f in self.failures)) for s in symbols}

    @property
    def heading(self) -> str:
        """What is drawn: ``mlp at fp32 on fake, profile 0: hidden (up) by batch (right), seq=16``."""
        axes = f"{self.y.symbol} (up) by {self.x.symbol} (right)" if self.y else f"{self.x.symbol} (right)"
        fixed = "".join(f", {symbol}={size}" for symbol, size in sorted(self.fixed.items()))
        return f"{self.title}, profile {self.profile}: {axes}{fixed}"

    @property
    def summary(self) -> str:
        """How many shapes, the worst of those within, and where the failures lie."""
        asked = [spot for spot in self.spots if spot.verdict != "not asked"]
        within = [spot for spot in asked if spot.verdict == "within"]
        parts = [f"{len(asked)} shapes, {len(within)} within what is allowed"]
        if within:
            worst = max(within, key=lambda spot: spot.excess)
            parts[0] += f" (at most {worst.excess:.2g} of it, at {sized(worst.sizes)})"
        if self.failures:
            inside = [s for s in asked if all(low <= s.sizes[k] <= high for k, (low, high) in self.region.items())]
            share = "all" if len(inside) == len(self.failures) else f"{len(self.failures)} of {len(inside)} shapes"
            where = ", ".join(
                f"{symbol} {low}" + f" to {high}" * (low < high) for symbol, (low, high) in self.region.items()
            )
            parts.append(f"{len(self.failures)} fail: {share} with {where}")
        if len(asked) < len(self.spots):
            reasons = dict.fromkeys(spot.why for spot in self.spots if spot.verdict == "not asked")
            parts.append(f"{len(self.spots) - len(asked)} not asked ({'; '.join(reasons)})")
        return "; ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """All of it in JSON's own types; an error without a bound is the text "inf"."""
        document: dict[str, Any] = plain(self)
        spots = [
            {**spot, "excess": _finite(spot["excess"]), "error": _finite(spot["error"])} for spot in document["spots"]
        ]
        return {**document, "spots": spots, "region": self.region, "summary": self.summary}


def sized(sizes: Mapping[str, int]) -> str:
    """``batch=3 seq=7``."""
    return " ".join(f"{symbol}={size}" for symbol, size in sorted(sizes.items()))


@dataclass(frozen=True)
class _Level:
    """How a spot is drawn: from this excess on."""

    excess: float
    mark: str
    words: str
    style: str  # rich's
    colour: str  # of the picture


# Four levels within the tolerance, lighter to darker, so that a cliff shows before it is a failure.
_WITHIN = (
    _Level(0.0, "·", "up to a tenth of what is allowed", "green", "#e5f5e0"),
    _Level(0.1, "░", "to a third", "green", "#a1d99b"),
    _Level(1 / 3, "▒", "to two thirds", "yellow", "#fee391"),
    _Level(2 / 3, "▓", "to all of it", "yellow", "#fe9929"),
)
_OFF = _Level(1.0, "█", "off: more than is allowed", "bold red", "#cb181d")
_WRONG = _Level(math.inf, "X", "wrong otherwise: shape, NaN, refused, crashed", "bold magenta", "#6a51a3")
_BLANK = _Level(math.nan, " ", "not asked", "dim", "#ffffff")
_LEGEND = (*_WITHIN, _OFF, _WRONG)


def _level(spot: Spot) -> _Level:
    other = {"off": _OFF, "wrong": _WRONG, "not asked": _BLANK}
    return other.get(spot.verdict) or next(level for level in reversed(_WITHIN) if spot.excess >= level.excess)


def drawn(shapes: ShapeMap) -> Iterator[Text]:
    """The map as lines for a terminal: heading, a block a shape, sizes along both sides, legend, summary."""
    yield Text(shapes.heading, style="bold")
    wide = max(len(str(size)) for size in shapes.x.sizes) + 1
    margin = max(len(label) for label, _ in shapes.rows)
    for label, spots in shapes.rows:
        line = Text(f"  {label:>{margin}} ")
        for spot in spots:
            level = _level(spot)
            line.append(level.mark * wide, style=level.style)
        yield line
    yield Text(f"  {'':{margin}} " + "".join(f"{size:>{wide}}" for size in shapes.x.sizes))
    used = {_level(spot).mark for spot in shapes.spots}
    legend = Text("  ")
    for level in _LEGEND:
        if level.mark in used:
            legend.append(level.mark * 2, style=level.style).append(f" {level.words}   ")
    yield legend
    yield Text(f"  {shapes.summary}")


_CELL, _GAP, _LINE = 34, 24, 18  # pixels


def picture(maps: Sequence[ShapeMap]) -> str:
    """The maps one below the other as SVG, with the figure of each shape in it and its words as a tooltip."""
    parts: list[str] = []
    top = _GAP
    width = 640
    for shapes in maps:
        drawing, right, top = _drawing(shapes, top)
        parts += drawing
        width = max(width, right)
    x = _GAP
    for level in _LEGEND:
        parts.append(_rect(x, top, 14, 14, level.colour))
        parts.append(_text(x + 20, top + 12, level.words))
        top += _LINE
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + _GAP}" '
            f'viewBox="0 0 {width} {top + _GAP}" font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{top + _GAP}" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _drawing(shapes: ShapeMap, top: int) -> tuple[list[str], int, int]:
    """One map from ``top`` down: its elements, and how far it comes to the right and down."""
    parts = [_text(_GAP, top + 12, shapes.heading, "bold"), _text(_GAP, top + 12 + _LINE, shapes.summary)]
    left = _GAP + 8 * max(len(label) for label, _ in shapes.rows) + 8
    top += 2 * _LINE + 8
    for label, spots in shapes.rows:
        parts.append(_text(left - 6, top + _CELL // 2 + 4, label, anchor="end"))
        for column, spot in enumerate(spots):
            x, level = left + column * _CELL, _level(spot)
            parts.append(_rect(x, top, _CELL - 1, _CELL - 1, level.colour, told(spot)))
            light = spot.verdict in ("off", "wrong")
            figure = {"wrong": "X", "not asked": ""}.get(spot.verdict, _short(spot.excess))
            parts.append(
                _text(
                    x + _CELL // 2,
                    top + _CELL // 2 + 4,
                    figure,
                    anchor="middle",
                    fill="#ffffff" if light else "#333333",
                )
            )
        top += _CELL
    for column, size in enumerate(shapes.x.sizes):
        parts.append(_text(left + column * _CELL + _CELL // 2, top + 14, str(size), anchor="middle"))
    right = left + len(shapes.x.sizes) * _CELL + _GAP
    words = max(len(shapes.heading), len(shapes.summary))
    return parts, max(right, 2 * _GAP + 7 * words), top + 14 + _GAP


def _short(excess: float) -> str:
    """In four characters: 0.07, 12, 4e5."""
    if excess >= 999.5:
        return f"{excess:.0e}".replace("e+0", "e")
    return f"{excess:.2f}" if excess < 9.995 else f"{excess:.0f}"


def told(spot: Spot) -> str:
    """A shape in one line: ``batch=3 seq=7: off, 12 times what is allowed (output 'y')``."""
    if spot.verdict in ("wrong", "not asked"):
        return f"{sized(spot.sizes)}: {spot.verdict}: {spot.why}"
    output = f" (output {spot.output!r})" if spot.output else ""
    return f"{sized(spot.sizes)}: {spot.verdict}, {spot.excess:.3g} times what is allowed{output}"


def _rect(x: int, y: int, width: int, height: int, colour: str, title: str = "") -> str:
    rect = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}" stroke="#bbbbbb"'
    return f"{rect}><title>{html.escape(title)}</title></rect>" if title else f"{rect}/>"


def _text(x: int, y: int, text: str, weight: str = "normal", *, anchor: str = "start", fill: str = "#333333") -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" fill="{fill}">{html.escape(text)}</text>'
    )


def _finite(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
