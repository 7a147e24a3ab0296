"""A build that is refused: with a reason, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.errors import StageError

ERRORS = ("[ERROR]", "[INTERNAL_ERROR]", "[E]")  # how a line of the library's own begins that says what is wrong


def reason(error: StageError) -> str:
    """The library's own words, in one line. ``error`` itself is raised when it has none, or is no refusal."""
    words = error.message.strip().partition("\n")[0]
    if error.crash is not None or not words or not any(line.startswith(ERRORS) for line in error.log):
        raise error
    return words
