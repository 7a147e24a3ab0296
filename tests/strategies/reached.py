"""What a strategy drew, and what it never did: the test of strategies, itself tested."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from harness.spec import Example
from harness.spec.space import Space

T = TypeVar("T")

DRAWS = 200  # in so many, each profile, bound, zero and one has come
PAIRS = 500  # in so many, each pair of bounds, two variables of one profile at their ends together


def drawn(strategy: SearchStrategy[T], number: int, start: int) -> list[T]:
    """The first ``number`` draws from a seed."""
    found: list[T] = []

    @seed(start)
    @settings(
        max_examples=number,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: T) -> None:
        found.append(value)

    collect()
    return found


def missing(examples: Sequence[Example], spaces: Sequence[Space], *, pairs: bool = False) -> list[str]:
    """What ``examples`` leave out or do wrong, in words; nothing when all is well."""
    return list(_missing(examples, spaces, pairs))


def _missing(examples: Sequence[Example], spaces: Sequence[Space], pairs: bool) -> Iterator[str]:
    for space in spaces:
        own = [example for example in examples if example.profile == space.number]
        sizes = [space.sizes_of(example) for example in own]
        if not own:
            yield f"profile {space.number}"
        for example, size in zip(own, sizes, strict=True):
            if not space.admits(size):
                yield f"outside: {example}"
        varying = [name for name, allowed in space.ranges.items() if allowed.min != allowed.max]
        for name in varying:
            seen, allowed = {size[name] for size in sizes}, space.ranges[name]
            low, high = space.least({}) or {}, space.largest(name)
            wanted = {"min": low[name], "max": high, **{str(n): n for n in (0, 1) if allowed.min <= n <= allowed.max}}
            yield from (f"{name} at {what}" for what, value in wanted.items() if value not in seen)
            if allowed.max - allowed.min > 3 and len(seen - {allowed.min, allowed.opt, allowed.max}) < 2:
                yield f"{name} inside"
        if pairs:
            ends = {name: (space.ranges[name].min, space.ranges[name].max) for name in varying}
            for a, b in itertools.combinations(varying, 2):
                for x, y in itertools.product(ends[a], ends[b]):
                    if not any(size[a] == x and size[b] == y for size in sizes):
                        yield f"{a}={x} with {b}={y}"
    if len({example.seed for example in examples}) < min(len(examples), DRAWS) / 4:
        yield "seeds"
