"""Names come out of files: what of them may go to a terminal or into a report."""

from __future__ import annotations


def shown(text: str) -> str:
    """``text`` with all that a terminal would act on, or not show, in Python's notation."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)
