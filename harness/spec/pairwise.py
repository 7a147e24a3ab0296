"""Few combinations in which every two choices that go together meet: pairwise coverage, exact."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

Value = TypeVar("Value", bound=Hashable)


def pairwise(
    factors: Mapping[str, Sequence[Value]],
    admissible: Callable[[Mapping[str, Value]], bool] = lambda _: True,
    start: Sequence[Mapping[str, Value]] = (),
) -> tuple[dict[str, Value], ...]:
    """``start``, and rows after it, so that every admissible pair of values is in one of them.

    A row has a value of each factor. A pair is admissible when some admissible row has it. Each row is the one
    that brings most new pairs; of several, the one that comes first in the product of ``factors``, which is
    gone through whole: meant for thousands of rows, not millions. The same for the same arguments.
    """
    rows = [row for row in product(factors) if admissible(row)]
    numbers = {pair: number for number, pair in enumerate(dict.fromkeys(p for row in rows for p in pairs(row)))}

    def bits(row: Mapping[str, Value]) -> int:
        return sum(1 << numbers[pair] for pair in pairs(row) if pair in numbers)

    held = [bits(row) for row in rows]
    missing = (1 << len(numbers)) - 1
    chosen = [dict(row) for row in start]
    for row in chosen:
        missing &= ~bits(row)
    while missing:
        best = max(range(len(rows)), key=lambda index: ((held[index] & missing).bit_count(), -index))
        chosen.append(rows[best])
        missing &= ~held[best]
    return tuple(chosen)


def product(factors: Mapping[str, Sequence[Value]]) -> Iterator[dict[str, Value]]:
    """Every row there is, the last factor changing fastest."""
    for values in itertools.product(*factors.values()):
        yield dict(zip(factors, values, strict=True))


def pairs(row: Mapping[str, Value]) -> Iterator[tuple[tuple[str, Value], tuple[str, Value]]]:
    """The pairs that meet in ``row``, in the order of its factors."""
    return itertools.combinations(row.items(), 2)
