"""The program: its commands, and what becomes of an error."""

from __future__ import annotations

import functools
import logging
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer

import harness
from harness.cli import (
    baseline,
    bench,
    build,
    cache,
    check,
    compare,
    diff,
    doctor,
    expectations,
    export,
    history,
    inspect,
    models,
    nightly,
    report,
    shapes,
    soak,
    store,
)
from harness.cli.exits import FAILED, FAULT, INVALID, NOTHING
from harness.cli.output import print_json, repeat, say
from harness.errors import ComparisonFailure, Regression, SpecError, StageError, StoreError, UnsupportedError

HELP = """Build, check and inspect models on NVIDIA TensorRT.

Exit codes: 0 passed, 1 failed, 2 the request can't be met as written, 3 nothing was covered here,
4 a measurement is inconclusive, 130 interrupted, 70 a fault of this program.
"""

app = typer.Typer(
    name="trt-harness",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich takes longer to import than the rest together
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("doctor")(doctor.doctor)
app.add_typer(models.app, name="models")
app.command("build")(build.build)
app.command("check")(check.check)
app.command("shapes")(shapes.shapes)
app.command("inspect")(inspect.inspect)
app.command("diff")(diff.diff)
app.command("bench")(bench.bench)
app.command("soak")(soak.soak)
app.command("compare")(compare.compare)
app.command("nightly")(nightly.nightly)
app.command("report")(report.report)
app.command("export")(export.export)
app.command("history")(history.history)
app.add_typer(expectations.app, name="expectations")
app.add_typer(cache.app, name="cache")
app.add_typer(baseline.app, name="baseline")
app.add_typer(store.app, name="store")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"trt-harness {harness.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="show the version")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="show every message of the backends as it comes")] = False,
    traceback: Annotated[bool, typer.Option("--traceback", help="show where in the program an error arose")] = False,
) -> None:
    del version, traceback  # the one has its callback; `main` looks for the other, as errors end there
    # What a backend says during a call stands in the error of that call; without a handler Python would print it, too.
    logging.getLogger("harness").addHandler(logging.StreamHandler() if verbose else logging.NullHandler())


@functools.cache
def _command() -> Callable[[], object]:
    """``app`` with the options of all its commands, which take a while to make: once a process."""
    return typer.main.get_command(app)


def main() -> None:
    """Run the command line and exit."""
    try:
        _command()()
    except Exception as error:
        arguments = sys.argv[1:]
        code, message = _told(error, arguments)
        if "--traceback" in arguments:
            traceback.print_exception(error)
        if "--json" in arguments:
            print_json({"exit_code": code, "error": {"kind": type(error).__name__, "message": message}})
        say(message)
        sys.exit(code)


def _told(error: Exception, arguments: list[str]) -> tuple[int, str]:
    """Exit code, and what to say of ``error``."""
    if isinstance(error, (SpecError, StoreError)):
        return INVALID, f"error: {error}"
    if isinstance(error, UnsupportedError):
        return NOTHING, f"not covered here: {error}"
    if isinstance(error, (StageError, ComparisonFailure, Regression)):
        return FAILED, f"failed: {error}"
    again = [argument for argument in arguments if argument != "--traceback"]
    return FAULT, (
        f"internal error: {type(error).__name__}: {error}\n"
        "This is a fault of trt-harness, not of your request. Please report it with the output of\n"
        f"  {repeat(['--traceback', *again])}"
    )
