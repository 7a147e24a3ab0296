"""The end of a run on the terminal: a table of models by precision, then what did not pass, and why.

Words carry the meaning and colours only repeat it, so that a log file reads as well.
"""

from __future__ import annotations

import io
import textwrap
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.ledger.expectations import FAILING_STAGES, GATE
from harness.ledger.records import UNSEEN, Record, Verdict
from harness.spec.precision import RECIPES

# Verdicts in words, in the order in which they are told: one, several, and in a table.
WORDS: dict[Verdict, tuple[str, str, str]] = {
    "passed": ("passed", "passed", "ok"),
    "failed": ("failed", "failed", "FAILED"),
    "unexpected_pass": ("unexpected pass", "unexpected passes", "UNEXPECTED PASS"),
    "error": ("error", "errors", "ERROR"),
    "known_failure": ("known failure", "known failures", "known"),
    "cached": ("cached", "cached", "cached"),
    "not_covered": ("not covered", "not covered", "n/c"),
}
_STYLES: dict[str, str] = {
    "passed": "green",
    "failed": "bold red",
    "unexpected_pass": "bold red",
    "error": "bold red",
    "known_failure": "yellow",
    "cached": "cyan",
    "not_covered": "dim",
}
_SHORT: tuple[Verdict, ...] = ("known_failure", "not_covered")  # what the words of a table leave to be explained
FOLDED = 5  # so many models that fared alike share a row
_STAGES = (*FAILING_STAGES, GATE)


def summary_lines(records: Iterable[Record], *, width: int = 100, color: bool = False) -> list[str]:
    """``records`` as lines of ``width`` characters; none when there are none.

    A table for each backend, failures by stage, unexpected passes, errors of this project, known
    failures by cause, what was only cached by reason, what was not covered by reason and with its fix, and
    the totals. Names are never cut, so that one of them may make a line longer.
    """
    cells = sorted(records, key=lambda record: (record.backend, record.cell.id, record.node))
    if not cells:
        return []
    page = Page(width, color)
    for backend in dict.fromkeys(record.backend for record in cells):
        of_backend = [record for record in cells if record.backend == backend]
        page.line(_where(of_backend), style="bold")
        if any(record.verdict != "not_covered" for record in of_backend):
            _table(page, of_backend)
        else:
            page.line(f"{_count(of_backend)}, none covered here", indent=2)
        page.line("")
    failed = [record for record in cells if record.verdict == "failed"]
    for stage in sorted({record.stage for record in failed}, key=lambda stage: _rank(stage, _STAGES)):
        _list(page, f"failed at {stage or 'no stage'}", [record for record in failed if record.stage == stage])
    _list(page, "unexpected pass", [record for record in cells if record.verdict == "unexpected_pass"])
    _list(page, "error", [record for record in cells if record.verdict == "error"])
    known = [record for record in cells if record.verdict == "known_failure"]
    _group(page, "known failure", known, lambda record: (record.cause, ""))
    cached = [record for record in cells if record.verdict == "cached"]
    _group(page, "cached", cached, lambda record: (record.message, ""))
    uncovered = [record for record in cells if record.verdict == "not_covered"]
    _group(page, "not covered here", uncovered, lambda record: (record.message, record.fix))
    tally = Counter(record.verdict for record in cells)
    totals = ", ".join(f"{count} {WORDS[verdict][count > 1]}" for verdict in WORDS if (count := tally[verdict]))
    page.line(f"{_count(cells)}: {totals}", style="bold")
    return page.lines()


def engines(records: Iterable[Record]) -> list[str]:
    """How many engines had to be built for the cells, and how many more were for tests that want a build."""
    found = [record for record in records if record.plan_key]
    built, again = (sum(int(record.facts.get(what, 0)) for record in found) for what in ("builds", "rebuilds"))
    rest = f", and {again} once more for tests that ask for it" if again else ""
    return [f"engines built in this run: {built}{rest}"] if found else []


def tried(records: Iterable[Record]) -> list[str]:
    """How much the cells that look for failures have tried: a line for shapes, a line for sequences of steps."""
    drawn = [int(record.facts["examples"]) for record in records if record.facts.get("examples")]
    walked = [record.facts for record in records if record.facts.get("sequences")]
    lines = []
    if drawn:
        lines.append(f"examples inside the profiles: {sum(drawn)} tried, in {_cells(len(drawn))}")
    if walked:
        count = sum(int(facts["sequences"]) for facts in walked)
        steps = sum(sum(facts["steps"].values()) for facts in walked)
        lines.append(f"sequences of steps: {count} tried, of {steps} steps together, in {_cells(len(walked))}")
    return lines


class Page:
    """Lines of text under way, plain or coloured, folded to ``width`` characters."""

    def __init__(self, width: int, color: bool) -> None:
        self.width, self._text = width, io.StringIO()
        self._console = Console(
            file=self._text,
            width=width,
            height=1 << 20,  # with a height given, too, the terminal is never asked
            color_system="standard" if color else None,
            force_terminal=color,
            legacy_windows=False,
        )

    def line(self, text: str, *, indent: int = 0, style: str = "") -> None:
        pieces = textwrap.wrap(
            text,
            self.width,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 4),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for piece in pieces or [""]:
            self.show(Text(piece, style=style, no_wrap=True, overflow="ignore"))

    def show(self, thing: Text | Table) -> None:
        self._console.print(thing, soft_wrap=isinstance(thing, Text))

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._text.getvalue().splitlines()]


def _table(page: Page, cells: Sequence[Record]) -> None:
    precisions = sorted({r.cell.precision for r in cells}, key=lambda name: _rank(name, tuple(RECIPES)))
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("  model", no_wrap=True)
    for precision in precisions:
        table.add_column(precision or "any precision")
    rows: dict[str, list[Text]] = {}
    quiet = set()  # models of which there is nothing to tell
    for model in sorted({r.cell.model for r in cells}):
        of_model = [r for r in cells if r.cell.model == model]
        rows[model] = [_tally([r for r in of_model if r.cell.precision == precision]) for precision in precisions]
        if all(r.verdict in ("passed", *UNSEEN) for r in of_model):
            quiet.add(model)
    for title, model in _folded(rows, quiet):
        table.add_row(Text(f"  {title}"), *rows[model])
    page.show(table)
    legend = [
        f"{WORDS[verdict][2]}: {WORDS[verdict][0]}" for verdict in _SHORT if verdict in {r.verdict for r in cells}
    ]
    if legend:
        page.line("; ".join(legend), indent=2)


def _folded(rows: Mapping[str, Sequence[Text]], quiet: Container[str]) -> Iterator[tuple[str, str]]:
    """Title and model of every row.

    Quiet models of one family (``onnx_relu``, ``onnx_tanh``) that fared alike share one.
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for model, row in rows.items():
        family = model.partition("_")[0] if model in quiet else model
        alike.setdefault((family, *(text.plain for text in row)), []).append(model)
    for (family, *_), models in alike.items():
        if len(models) >= FOLDED:
            yield f"{family}_* ({len(models)} models)", models[0]
        else:
            yield from ((model, model) for model in models)


def _where(cells: Sequence[Record]) -> str:
    """``tensorrt 8.6.1 on NVIDIA H200``, as far as any record tells."""
    told = next((r.environment for r in cells if r.environment.get("version")), {})
    version = f" {told['version']}" if told.get("version") else ""
    gpu = f" on {told['gpu']}" if told.get("gpu") else ""
    return f"{cells[0].backend or 'no backend'}{version}{gpu}"


def _tally(cells: Sequence[Record]) -> Text:
    """``4 ok, 2 FAILED (compare)``: what became of one model at one precision."""
    parts = []
    for verdict, (*_, word) in WORDS.items():
        ours = [record for record in cells if record.verdict == verdict]
        if ours:
            stages = sorted({r.stage for r in ours if r.stage}, key=lambda stage: _rank(stage, _STAGES))
            where = f" ({', '.join(stages)})" if verdict == "failed" and stages else ""
            parts.append(Text(f"{len(ours)} {word}{where}", style=_STYLES[verdict]))
    return Text(", ").join(parts) if parts else Text("-")


def _list(page: Page, title: str, cells: Sequence[Record]) -> None:
    if cells:
        page.line(f"{title}: {_count(cells)}", style=_STYLES["failed"])
        for record in cells:
            page.line(f"{record.cell.id}: {first_line(record.message)}", indent=2)
        page.line("")


def _group(page: Page, title: str, cells: Sequence[Record], reason: Callable[[Record], tuple[str, str]]) -> None:
    """Cells that share a reason, most of them first."""
    if cells:
        page.line(f"{title}: {_count(cells)}", style=_STYLES[cells[0].verdict])
        for (why, fix), number in sorted(Counter(map(reason, cells)).items(), key=lambda item: (-item[1], item[0])):
            page.line(f"{number}: {first_line(why)}", indent=2)
            if fix:
                page.line(f"to cover: {fix}", indent=6)
        page.line("")


def first_line(message: str) -> str:
    """The first that says anything."""
    return next((line.strip() for line in message.splitlines() if line.strip()), "no reason was recorded")


def _count(cells: Sequence[Record]) -> str:
    return _cells(len(cells))


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _rank(name: str, order: Sequence[str]) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)
