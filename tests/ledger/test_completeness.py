"""A cell that left no record is named, and so is a record that can't be read."""

from __future__ import annotations

from harness.ledger.completeness import NAMED, lost


def test_nothing_is_lost_when_every_cell_is_recorded() -> None:
    assert lost(["a", "b"], ["b", "a", "a", "beside"]) == []
    assert lost([], []) == []


def test_a_cell_without_a_record_is_named() -> None:
    assert lost(["a", "b", "c"], ["b"]) == ["no record: a", "no record: c"]


def test_many_are_counted() -> None:
    said = lost(map(str, range(NAMED + 3)), [])
    assert len(said) == NAMED + 1
    assert said[-1] == "no record: 3 more cells"


def test_what_could_not_be_read_is_told_though_all_are_there() -> None:
    assert lost(["a"], ["a"], ["main.jsonl:2: cut short"]) == ["unreadable record: main.jsonl:2: cut short"]
