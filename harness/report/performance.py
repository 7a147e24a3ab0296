"""What performance came to, on the terminal: each metric of each cell with what was said of it, the worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from harness.ledger.records import Record
from harness.measure.finding import BAD, OPEN, SETTLED
from harness.report.findings import figure
from harness.report.measurement import perf_of
from harness.report.night import Line, lines_of
from harness.report.terminal import Page

SHOWN = 20  # metrics, the worst first: whoever wants the others has the summary of a night
LONGEST = 300  # characters of words
_STYLES = {**dict.fromkeys(BAD, "bold red"), **dict.fromkeys(OPEN, "yellow"), **dict.fromkeys(SETTLED, "green")}


def performance_lines(records: Iterable[Record], *, width: int = 100, color: bool = False) -> list[str]:
    """Of what `trt_perf` measured, as lines of ``width`` characters; none where it measured nothing.

    How often each was said, then the metrics: value, baseline and change, what was said, and the words of what is not
    well. More than `SHOWN` are counted.
    """
    found = [line for line in lines_of([record for record in records if perf_of(record)]) if line.metric]
    if not found:
        return []
    page = Page(width, color)
    tally = Counter(line.said.value for line in found)  # the worst first, as they come
    said = ", ".join(f"{count} {_word(name)}" for name, count in tally.items())
    cells = len({line.subject for line in found})
    counts = f"{cells} cell{'s' * (cells != 1)}, {len(found)} metric{'s' * (len(found) != 1)}"
    page.line(f"performance: {counts}: {said}", style="bold")
    for line in found[:SHOWN]:
        page.line(_told(line), indent=2, style=_STYLES.get(line.said, ""))
    if len(found) > SHOWN:
        page.line(f"and {len(found) - SHOWN} more: trt-harness report --markdown FILE has more", indent=2)
    page.line("")
    return page.lines()


def _told(line: Line) -> str:
    """``bert on NVIDIA H200: gpu, graph: 1.24 ms (baseline 1.2 ms, +3.33 %): REGRESSION: slower by 3.3 % ...``"""
    value = figure(line.b, line.unit)
    if line.a is not None:
        value += f" (baseline {', '.join(filter(None, [figure(line.a, line.unit), line.change]))})"
    said = _word(line.said.value) + (f" ({line.excuse})" if line.excuse else "")
    words = "" if line.said in SETTLED else line.words
    words = words if len(words) <= LONGEST else f"{words[:LONGEST]}..."
    return ": ".join(filter(None, [line.subject, line.title, value, said, words]))


def _word(name: str) -> str:
    return name.replace("_", " ")
