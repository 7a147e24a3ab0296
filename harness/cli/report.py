"""``report``: what came of a run that was recorded, or of several together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
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
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="write a summary in Markdown, below 64 KB")
    ] = None,
    json: options.Json = False,
) -> None:
    """Print the table that ended a run, from its records.

    Of several runs each cell's last record counts, so that a run of what another left over, or of what failed in it,
    completes that one. Exits with 1 when anything failed, with 3 when nothing was covered.
    """
    from harness.ledger.records import latest
    from harness.report.terminal import summary_lines, tried

    read = runs.read(folders)
    records = [record for record in latest(read) if only in record.node]
    tally = Counter(record.verdict for record in records)
    if not json:
        for line in summary_lines(records, width=WIDTH):
            typer.echo(line)
        for line in tried(records):
            typer.echo(line)
    if markdown is not None:
        from harness.ledger.records import Run
        from harness.report.night import summary

        problems = tuple(problem for run in read for problem in run.problems)
        markdown.write_text(summary([Run(tuple(records), problems)]), encoding="utf-8")
    code = FAILED if any(record.verdict in NO_SUCCESS for record in records) else PASSED
    if len(records) == tally["not_covered"]:
        code = NOTHING
    leave(code, {"cells": len(records), "verdicts": tally, "tried": tried(records)}, as_json=json)
