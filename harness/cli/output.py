"""What is shown: results on standard output, everything about them on standard error."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from harness.report.printable import shown as shown
from harness.spec.canonical import plain

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {
    "passed": "green",
    "present": "green",
    "failed": "bold red",
    "error": "bold red",
    "useless": "red",
    "not covered": "yellow",
    "needs-gpu": "yellow",
    "absent": "yellow",
    "PASS": "green",
    "IMPROVEMENT": "green",
    "FAILED": "bold red",
    "LEAK": "bold red",
    "REGRESSION": "bold red",
    "HOST CHANGED": "yellow",
    "UNSTABLE": "yellow",
    "INCONCLUSIVE": "yellow",
    "NOT COVERED": "yellow",
}


WHOLE = 1 << 20  # columns that no row fills


def print_json(document: Any) -> None:
    """``document`` as JSON on standard output."""
    typer.echo(json.dumps(plain(document), indent=2, default=str, allow_nan=False))


def say(text: str) -> None:
    """A line for a person, on standard error, so that ``--json`` leaves standard output to programs."""
    typer.echo(text, err=True)


def repeat(arguments: Iterable[str]) -> str:
    """The command line that runs this program with ``arguments``."""
    return shlex.join(["trt-harness", *arguments])


def console(width: int = 160) -> Console:
    """Standard output; ``width`` columns where nobody's terminal sets another."""
    from rich.console import Console

    found = Console(highlight=False, soft_wrap=False)
    return found if found.is_terminal else Console(highlight=False, width=width)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", *, whole: bool = False) -> None:
    """A table; a cell that holds one of `STYLES` alone is coloured so.

    No cell is cut: what is too long is folded, and with ``whole``, outside of a terminal, not even that.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    console(WHOLE if whole else 160).print(table)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar on standard error that shows the phase and step of a build; None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID, TimeElapsedColumn

    with Progress(*Progress.get_default_columns()[:3], TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def show(phase: str, step: int, steps: int) -> None:
            if phase not in tasks:
                tasks[phase] = bar.add_task(phase, total=steps)
            bar.update(tasks[phase], completed=step, total=steps)

        yield show


@contextlib.contextmanager
def telling() -> Iterator[Callable[[str], None]]:
    """Shows what is being done: on a terminal the latest, with the time since it began, elsewhere a line for each."""
    if not sys.stderr.isatty():
        yield say
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda text: bar.update(task, description=shown(text))


def leave(code: int, document: Any = None, *, as_json: bool = False) -> NoReturn:
    """End the command; with ``as_json`` after printing ``document`` and the exit code."""
    if as_json:
        print_json({**plain(document), "exit_code": code})
    sys.stdout.flush()
    raise typer.Exit(code)
