"""Pairwise coverage: exact, small, the same each time, and held against an oracle that goes through everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from harness.spec.pairwise import pairs, pairwise, product

factor = st.integers(1, 4).map(lambda count: tuple(range(count)))
tables = st.lists(factor, min_size=1, max_size=6).map(lambda values: {f"f{n}": v for n, v in enumerate(values)})


def wanted(factors: Mapping[str, Any], admissible: Any) -> set[Any]:
    return {pair for row in product(factors) if admissible(row) for pair in pairs(row)}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tables, st.data())
def test_every_admissible_pair_is_in_some_row(factors: dict[str, tuple[int, ...]], data: st.DataObject) -> None:
    rows = list(product(factors))
    refused = data.draw(st.lists(st.sampled_from(rows), max_size=len(rows) // 2))

    def admissible(row: Mapping[str, int]) -> bool:
        return row not in refused

    found = pairwise(factors, admissible)
    assert all(admissible(row) and row.keys() == factors.keys() for row in found)
    assert {pair for row in found for pair in pairs(row)} == wanted(factors, admissible)
    assert found == pairwise(factors, admissible), "the same each time"
    sizes = sorted(map(len, factors.values()))
    assert len(found) <= len(wanted(factors, admissible)), "no row is for nothing"
    if not refused and len(sizes) > 1:
        assert len(found) >= sizes[-1] * sizes[-2]


def test_it_is_small() -> None:
    """Ten options on and off: 6 rows are the least there can be, 1,024 are all."""
    factors = {f"f{number}": (False, True) for number in range(10)}
    assert 6 <= len(pairwise(factors)) <= 9
    assert len(list(product(factors))) == 1024


def test_rows_that_are_there_already_count() -> None:
    narrow: dict[str, tuple[int, ...]] = {"a": (0, 1), "b": (0, 1), "c": (0,)}
    start = pairwise(narrow)
    wide = {**narrow, "c": (0, 1)}
    found = pairwise(wide, start=start)
    assert found[: len(start)] == start
    assert {pair for row in found for pair in pairs(row)} == wanted(wide, lambda _: True)
    assert all(row["c"] for row in found[len(start) :])


@pytest.mark.parametrize("factors", [{}, {"a": ()}, {"a": (1, 2, 3)}])
def test_without_two_factors_there_is_nothing_to_pair(factors: dict[str, tuple[int, ...]]) -> None:
    assert pairwise(factors) == ()
