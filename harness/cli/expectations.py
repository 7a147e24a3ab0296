"""``expectations``: known failures, checked and kept up to date."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options, runs
from harness.cli.exits import FAILED, NOTHING, PASSED
from harness.cli.output import leave, say
from harness.errors import SpecError

app = typer.Typer(help="Check the files of known failures, or bring them up to date with a run.", no_args_is_help=True)

BESIDE_SUITES = Path("suites", "expectations")
TERM = 90  # days until a new entry expires, unless --expires says otherwise


@app.command("check")
def check(expectations: options.Expectations = None, models: options.Models = None, json: options.Json = False) -> None:
    """Say what is wrong with the files: unknown keys, expired entries, models that do not exist."""
    from harness.ledger.expectations import load
    from harness.spec import catalog

    settings = options.settings(expectations=expectations, models=models)
    folder = _folder(settings.expectations)
    found = load(folder, models=[model.id for model in catalog.load(settings.models)])
    if not json:
        for problem in found.problems:
            say(str(problem))
        typer.echo(f"{folder}: {len(found.entries)} known failures, {len(found.problems)} problems")
    document = {"folder": str(folder), "entries": found.entries, "problems": found.problems}
    leave(FAILED if found.problems else PASSED, document, as_json=json)


@app.command("update")
def update(
    owner: Annotated[str, typer.Option("--owner", help="who will mend what is new", envvar="TRT_HARNESS_OWNER")],
    folders: runs.Folders = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DATE", help=f"last day of new entries (default: in {TERM} days)")
    ] = None,
    expectations: options.Expectations = None,
    json: options.Json = False,
) -> None:
    """Bring the files to what a run recorded: entries that now pass go, failures that no entry explains come.

    A new entry has no cause; `expectations check` fails until somebody writes it. Exits with 3 when
    nothing was recorded.
    """
    from harness.ledger.upkeep import update as bring_up_to_date

    folder = _folder(options.settings(expectations=expectations).expectations)
    last_day = _date(expires)
    records = [record for run in runs.read(folders) for record in run.records]
    if not records:
        leave(NOTHING, {"folder": str(folder), "changes": []}, as_json=json)
    changes = bring_up_to_date(folder, records, owner, last_day)
    if not json:
        for change in changes:
            typer.echo(str(change))
        typer.echo(f"{folder}: {len(changes)} changes from {len(records)} records")
    leave(PASSED, {"folder": str(folder), "changes": changes}, as_json=json)


def _folder(given: Path | None) -> Path:
    folder = BESIDE_SUITES if given is None else given
    if not folder.is_dir():
        raise SpecError(f"{folder}: no such folder: name that of the known failures with --expectations DIR")
    return folder


def _date(text: str | None) -> datetime.date:
    if text is None:
        return datetime.date.today() + datetime.timedelta(days=TERM)
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise SpecError(f"--expires {text!r}: write a date as 2026-12-31") from None
