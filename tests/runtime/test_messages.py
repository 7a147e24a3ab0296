"""Messages of a call: in order, bounded, and never cut in silence."""

from __future__ import annotations

import logging

from harness.runtime.messages import Messages


def heard(*said: tuple[int, str], kept: int) -> tuple[str, ...]:
    messages = Messages(kept)
    for level, text in said:
        messages.add(level, text)
    return messages.lines


def test_all_are_kept_in_order() -> None:
    said = ((logging.INFO, "a"), (logging.ERROR, "b"), (logging.INFO, "c"), (logging.WARNING, "d"))
    assert heard(*said, kept=4) == ("a", "b", "c", "d")


def test_the_mildest_and_of_them_the_oldest_go_first_and_it_is_said() -> None:
    said = ((logging.WARNING, "a"), (logging.INFO, "b"), (logging.ERROR, "c"), (logging.INFO, "d"))
    assert heard(*said, kept=3) == ("(1 earlier or milder messages are left out)", "a", "c", "d")
    assert heard(*said, kept=1) == ("(3 earlier or milder messages are left out)", "c")


def test_a_flood_is_bounded() -> None:
    lines = heard(*((logging.INFO, str(number)) for number in range(1000)), kept=10)
    assert lines == ("(990 earlier or milder messages are left out)", *map(str, range(990, 1000)))
