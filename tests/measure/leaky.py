"""What a test plants in an engine host that knows nothing of it."""

from __future__ import annotations

_HELD: list[bytes] = []


def hold(nbytes: int) -> None:
    """Keep so many bytes, written to, for as long as the process lives."""
    _HELD.append(b"\x01" * nbytes)
