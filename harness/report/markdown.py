"""Text from anywhere in Markdown, as GitHub and others show it: no name makes structure, markup, HTML or a mention."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.report.printable import shown

MOST = 300  # characters of one text
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}  # a table splits at any | that stands in its source
_ESCAPED = re.compile(r"[\\`*_\[\]~$#!(){}]|[&<>|]|@(?=\w)")


def escaped(text: str, most: int = MOST) -> str:
    """``text`` as one line that reads as it is, cut to ``most`` characters."""
    flat = " ".join(text.split())
    flat = shown(flat[: most + 1])  # which may be longer, and is never shorter
    cut = flat if len(flat) <= most else flat[: most - 1] + "…"
    return _ESCAPED.sub(_inert, cut)


def row(cells: Sequence[str]) -> str:
    """Of a table; ``cells`` are Markdown already."""
    return f"| {' | '.join(cells)} |"


def head(columns: Sequence[str]) -> list[str]:
    return [row(columns), row(["---"] * len(columns))]


def _inert(found: re.Match[str]) -> str:
    sign = found[0]
    if sign == "@":
        return "@\u200b"  # a mention is told from the text, after all escapes are gone
    return _ENTITIES.get(sign) or f"\\{sign}"
