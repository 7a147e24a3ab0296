"""``store``: what is kept of runs over the years: shown, migrated, pruned, and carried from one store to another."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options, runs
from harness.cli.baseline import changing
from harness.cli.exits import FAILED, PASSED
from harness.cli.output import leave, print_table, say
from harness.cli.runs import HOME
from harness.errors import SpecError

if TYPE_CHECKING:
    from harness.ledger.store import Store

File = Annotated[Path, typer.Argument(metavar="FILE", help="a zip of rows and raw samples")]
Since = Annotated[str, typer.Option("--since", metavar="DATE", help="what began on this day, as 2026-01-31, or later")]

app = typer.Typer(
    help="The store of measurements: a file of SQLite, by default .trt-harness/store.sqlite here, or a PostgreSQL "
    "server.",
    no_args_is_help=True,
)


@app.command("info")
def info(store: options.Store = None, json: options.Json = False) -> None:
    """Show where the store is, which schema it has, and how much is in it."""
    from harness.ledger import history, migrate

    with _open(store) as opened:
        counts, sessions = history.counts(opened), history.sessions(opened)
        document = {
            "store": opened.name,
            "schema": opened.revision(),
            "newest_schema": migrate.revisions()[-1],
            "rows": counts,
            "first": _day(sessions[0][1]) if sessions else None,
            "last": _day(sessions[-1][1]) if sessions else None,
            "samples": str(opened.samples.folder) if opened.samples else None,
        }
    if not json:
        _table(counts, f"{document['store']}, schema {document['schema']}")
        if sessions:
            typer.echo(f"sessions from {document['first']} to {document['last']}")
        if document["schema"] != document["newest_schema"]:
            say(f"its schema is not the newest, which is {document['newest_schema']}: trt-harness store migrate")
    leave(PASSED, document, as_json=json)


@app.command("runs")
def runs_(
    store: options.Store = None,
    last: Annotated[int, typer.Option("--last", metavar="NUMBER", help="so many, the latest")] = 20,
    json: options.Json = False,
) -> None:
    """List the commands that came to their end: when, how long, with which exit code, and what they counted."""
    from harness.ledger import history

    with _open(store) as opened:
        opened.require_head()
        found = history.runs(opened)[-last:] if last > 0 else []
    if not json:
        rows = [
            (
                one.session,
                _moment(one.began),
                f"{one.ended - one.began:,.0f} s",
                str(one.code),
                ", ".join(f"{count} {name}" for name, count in one.counts.items()),
                one.command,
            )
            for one in found
        ]
        print_table(("session", "began", "took", "exit", "counts", "command"), rows)
    leave(PASSED, {"runs": found}, as_json=json)


@app.command("migrate")
def migrate(
    store: options.Store = None,
    to: Annotated[
        str, typer.Option("--to", metavar="SCHEMA", help="number of a schema, upwards or downwards")
    ] = "head",
    json: options.Json = False,
) -> None:
    """Bring the store to the newest schema, or to another one: downwards loses what that has no place for."""
    with _open(store) as opened:
        before = opened.revision()
        opened.migrate(to)
        after = opened.revision()
        name = opened.name
    if not json:
        typer.echo(f"{name}: schema {before} before, {after} now")
    leave(PASSED, {"store": name, "before": before, "after": after}, as_json=json)


@app.command("ingest")
def ingest(
    folders: runs.Folders = None,
    store: options.Store = None,
    kept: options.Kept = None,
    commit: Annotated[
        str, typer.Option("--commit", help="of what was tested (default: what the run noted when it began)")
    ] = "",
    json: options.Json = False,
) -> None:
    """Store what runs recorded, and what bench and compare measured; what is stored already is not stored twice.

    Plans that these built are kept, so that a baseline may rest on them.

    Exits with 1 where something could not be read; all the rest is stored. With 2, and nothing stored, where a folder
    has neither a run nor what was measured.
    """
    from harness.ledger.ingest import ingest
    from harness.ledger.kept import Kept

    settings = options.settings(store=store, kept=kept)
    plans = Kept(settings.kept or HOME / "plans")
    found = runs.chosen(folders)
    for run in found:
        _with_a_run(run)
    with _open(store, create=True) as opened:
        told = {str(folder): ingest(opened, folder, commit, plans) for folder in found}
        name = opened.name
    problems = [problem for one in told.values() for problem in one.problems]
    for problem in problems:
        say(problem)
    if not json:
        for folder, one in told.items():
            typer.echo(f"{folder}: {one.words}, {one.new} new rows, in {name}")
    document = {
        "store": name,
        "runs": {k: {"records": o.records, "sessions": o.sessions, "new": o.new} for k, o in told.items()},
    }
    leave(FAILED if problems else PASSED, {**document, "problems": problems}, as_json=json)


@app.command("prune")
def prune(
    store: options.Store = None,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="DAYS", help="age of raw samples and plans that go")
    ] = 90.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go, and leave it")] = False,
    baselines: options.Baselines = None,
    kept: options.Kept = None,
    json: options.Json = False,
) -> None:
    """Delete raw samples and kept plans that are old, and files that the store does not name. Summaries stay for ever.

    What a baseline rests on, in the store or in the file of baselines, and what a change point begins with, stays. So
    do plans that any gate held a cell against meanwhile, whichever store and file it has.
    """
    from harness.ledger import decisions
    from harness.ledger.baselines import State
    from harness.ledger.kept import Kept
    from harness.ledger.retention import DAY, prune

    if not 0 <= older_than < math.inf:
        raise SpecError(f"--older-than {older_than:g}: write days, 0 or more")
    settings = options.settings(baselines=baselines, kept=kept)
    plans = Kept(settings.kept or HOME / "plans")
    with _open(store) as opened, changing(settings) as change:
        known = (*change.held.active.values(), *change.held.releases.values())
        lost = not change.file.is_file() and bool(decisions.filed(opened, State.ACTIVE, State.SUPERSEDED))
        if lost:  # what is pinned is nowhere else: as where the command runs in another folder than it should
            say(f"{change.file}: not there, though baselines were accepted: plans are left: name it by --baselines")
        told = prune(opened, older_than * DAY, baselines=known, kept=None if lost else plans, dry_run=dry_run)
        name = opened.name
    if not json:
        words = "would go" if dry_run else "went"
        typer.echo(f"{name}: {len(told.artifacts)} of its samples and {len(told.strays)} other files {words}")
        typer.echo(f"{plans.folder}: {len(told.plans)} plans that no baseline rests on {words}")
        typer.echo(f"{told.nbytes:,} bytes")
    document = {
        **{"store": name, "artifacts": told.artifacts, "strays": told.strays},
        **{"plans": told.plans, "nbytes": told.nbytes},
    }
    leave(PASSED, {**document, "dry_run": dry_run}, as_json=json)


@app.command("export")
def export(file: File, store: options.Store = None, since: Since = "", json: options.Json = False) -> None:
    """Write a store, or its latest part, into one file that any other store can import."""
    from harness.ledger.exchange import export

    with _open(store) as opened:
        told = export(opened, file, _since(since))
    _told(told.rows, told.samples, told.missing, f"{file}: exported", json)


@app.command("import")
def import_(file: File, store: options.Store = None, json: options.Json = False) -> None:
    """Add what a file has that the store has not."""
    from harness.ledger.exchange import take

    with _open(store, create=True) as opened:
        told = take(opened, file)
        name = opened.name
    _told(told.rows, told.samples, told.missing, f"{name}: new from {file}", json)


@app.command("merge")
def merge(
    other: Annotated[str, typer.Argument(metavar="OTHER", help="path or address of another store, which is only read")],
    store: options.Store = None,
    since: Since = "",
    json: options.Json = False,
) -> None:
    """Add what another store has that this one has not."""
    from harness.ledger.exchange import merge

    with _open(other) as source, _open(store, create=True) as opened:
        told = merge(opened, source, _since(since))
        name = opened.name
    _told(told.rows, told.samples, told.missing, f"{name}: new from {other}", json)


def _open(store: str | None, *, create: bool = False) -> Store:
    from harness.ledger.store import store_in

    return store_in(HOME, options.settings(store=store).store, create=create)


def _with_a_run(folder: Path) -> None:
    """SpecError where ``folder`` is none that a run, `bench` or `compare` left."""
    from harness.ledger import ended
    from harness.ledger.measured import is_measured
    from harness.ledger.records import SUFFIX

    if is_measured(folder) or (folder / ended.FILE).is_file() or any(folder.glob(f"*{SUFFIX}")):
        return
    inside = sorted({str(file.parent) for file in folder.glob(f"*/*{SUFFIX}")})
    hint = f": those in it have some: {', '.join(inside[:5])}" if inside else ""
    raise SpecError(f"{folder}: no run is recorded there, and nothing measured{hint}")


def _since(day: str) -> float | None:
    if not day:
        return None
    try:
        found = datetime.datetime.fromisoformat(day)
    except ValueError:
        raise SpecError(f"--since: {day!r} is no date: write it as 2026-01-31") from None
    return found.replace(tzinfo=found.tzinfo or datetime.timezone.utc).timestamp()


def _day(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%d")


def _moment(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M")


def _table(rows: Mapping[str, int], title: str) -> None:
    typer.echo(title)  # not the table's, which would be folded to its width
    print_table(("table", "rows"), [(name, f"{count:,}") for name, count in rows.items()])


def _told(rows: Mapping[str, int], samples: int, missing: int, title: str, json: bool) -> None:
    if not json:
        _table(rows, title)
        typer.echo(f"{samples} files of raw samples" + f", {missing} are not there" * bool(missing))
    leave(PASSED, {"rows": dict(rows), "samples": samples, "missing": missing}, as_json=json)
