"""Optimization profiles: what a model's dynamic dimensions may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from harness.errors import SpecError

Point = Literal["min", "opt", "max"]
POINTS: tuple[Point, ...] = get_args(Point)
GIVEN = "given"  # where a model is asked that brings its own inputs: at no point of its profiles


@dataclass(frozen=True)
class Range:
    """Smallest, optimal and largest size of one dimension, all inclusive."""

    min: int
    opt: int
    max: int

    @classmethod
    def parse(cls, text: str) -> Range:
        """``"1:8:32"`` (min:opt:max), or ``"8"`` for all three. SpecError for anything else."""
        parts = text.split(":")
        if len(parts) in (1, 3) and all(part.strip().isdecimal() for part in parts):
            numbers = [int(part) for part in parts]
            return cls(*(numbers * 3 if len(numbers) == 1 else numbers))
        raise SpecError(f"{text!r} is not a range: write min:opt:max, as in 1:8:32, or one number")

    def at(self, point: Point) -> int:
        number: int = getattr(self, point)
        return number

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"


@dataclass(frozen=True)
class Values:
    """Smallest, optimal and largest contents of a shape tensor, element by element."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def at(self, point: Point) -> tuple[int, ...]:
        values: tuple[int, ...] = getattr(self, point)
        return values


@dataclass(frozen=True)
class Profile:
    """One range a symbol, and one set of values a shape tensor.

    ``ranges`` goes by symbol, or by ``tensor:axis`` for a dimension without a name. A model without
    dynamic dimensions has one empty profile.
    """

    ranges: tuple[tuple[str, Range], ...] = ()
    values: tuple[tuple[str, Values], ...] = ()

    @classmethod
    def of(
        cls,
        ranges: Mapping[str, Range | tuple[int, int, int] | int] | None = None,
        values: Mapping[str, Values] | None = None,
    ) -> Profile:
        """A profile from ``{"batch": (1, 8, 32), "seq": 16}``."""
        made = {}
        for symbol, sizes in (ranges or {}).items():
            if isinstance(sizes, Range):
                made[symbol] = sizes
            elif isinstance(sizes, int):
                made[symbol] = Range(sizes, sizes, sizes)
            elif len(sizes) == 3:
                made[symbol] = Range(*sizes)
            else:
                raise SpecError(f"dimension {symbol!r}: {sizes} is not (min, opt, max)")
        return cls(tuple(sorted(made.items())), tuple(sorted((values or {}).items())))

    def __str__(self) -> str:
        """``batch=1:8:32 seq=4:16:64``, or ``fixed``."""
        values = (f"{tensor}={list(v.min)}:{list(v.opt)}:{list(v.max)}" for tensor, v in self.values)
        return " ".join([*(f"{symbol}={sizes}" for symbol, sizes in self.ranges), *values]) or "fixed"

    @property
    def is_static(self) -> bool:
        """True when every point of the profile is the same, so that one of them is enough."""
        return all(r.min == r.max for _, r in self.ranges) and all(v.min == v.max for _, v in self.values)

    def binding(self, point: Point) -> dict[str, int]:
        """The size of every symbol at one point."""
        return {symbol: sizes.at(point) for symbol, sizes in self.ranges}

    def contents(self, point: Point) -> dict[str, tuple[int, ...]]:
        """What every shape tensor holds at one point."""
        return {tensor: values.at(point) for tensor, values in self.values}

    def admits(self, binding: Mapping[str, int]) -> bool:
        """Whether every symbol of this profile is bound within its range."""
        return all(s in binding and r.min <= binding[s] <= r.max for s, r in self.ranges)


def places(profiles: Sequence[Profile], points: Sequence[Point] = POINTS) -> Iterator[tuple[str, int, Point]]:
    """Where a model is asked: (name, number of the profile, point), as in ``("opt_p1", 1, "opt")``.

    All points of a static profile are one, called opt.
    """
    for number, profile in enumerate(profiles):
        suffix = f"_p{number}" if number else ""
        asked: Sequence[Point] = ("opt",) if profile.is_static and points else points
        for point in asked:
            yield f"{point}{suffix}", number, point
