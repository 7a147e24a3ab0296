"""``report``: what came of a run that was recorded, or of several together."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from harness.cli import options, runs
from harness.cli.exits import FAILED, NOTHING, PASSED
from harness.cli.output import leave

WIDTH = 120  # as at the end of a run
NO_SUCCESS = ("failed", "unexpected_pass", "error")


def report(
    folders: runs.Folders = None,
    only: Annotated[
        str, typer.Option("--only", metavar="TEXT", help="cells of tests whose id has this in it: suites/shapes")
    ] = "",
    json: options.Json = False,
) -> None:
    """Print the table that ended a run, from its records.

    Of several runs each cell's last record counts, so that a run of what another left over, or of what failed in it,
    completes that one. Exits with 1 when anything failed, with 3 when nothing was covered.
    """
    from harness.ledger.records import latest
    from harness.report.terminal import summary_lines, tried

    records = [record for record in latest(runs.read(folders)) if only in record.node]
    tally = Counter(record.verdict for record in records)
    if not json:
        for line in summary_lines(records, width=WIDTH):
            typer.echo(line)
        for line in tried(records):
            typer.echo(line)
    code = FAILED if any(record.verdict in NO_SUCCESS for record in records) else PASSED
    if len(records) == tally["not_covered"]:
        code = NOTHING
    leave(code, {"cells": len(records), "verdicts": tally, "tried": tried(records)}, as_json=json)
