"""What was said during one call, as much of it as an error can carry."""

from __future__ import annotations

from collections import deque

KEPT = 100  # messages that go with an error


class Messages:
    """Messages in order, at most ``kept``: of more, the least severe go first, and of those the oldest."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept, self._heard, self._left = kept, 0, 0
        self._by_level: dict[int, deque[tuple[int, str]]] = {}

    def add(self, level: int, text: str) -> None:
        """Take in one message; ``level`` is as in `logging`."""
        self._by_level.setdefault(level, deque()).append((self._heard, text))
        self._heard += 1
        self._left += 1
        if self._left > self._kept:
            mildest = min(level for level, messages in self._by_level.items() if messages)
            self._by_level[mildest].popleft()
            self._left -= 1

    @property
    def lines(self) -> tuple[str, ...]:
        """What is kept, in order; before it, how much is not."""
        kept = sorted(message for messages in self._by_level.values() for message in messages)
        cut = self._heard - len(kept)
        head = (f"({cut} earlier or milder messages are left out)",) if cut else ()
        return (*head, *(text for _, text in kept))
