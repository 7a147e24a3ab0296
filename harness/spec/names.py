"""Names that people type: what to say when one is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

SHOWN = 20  # names that a message lists


def suggestion(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'profiles'? "``, or nothing when nothing known comes close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def listed(known: Sequence[str]) -> str:
    """``known`` with commas, as far as a reader will follow: ``"bert, conv and 155 more"``."""
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"{', '.join(known[:SHOWN]) or 'none'}{more}"
