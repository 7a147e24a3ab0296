"""``export``: what runs measured, in files that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options, runs
from harness.cli.exits import NOTHING, PASSED
from harness.cli.output import leave, say
from harness.errors import SpecError

ALL = "all"


def export(
    folders: runs.Folders = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            help="pytest-benchmark, github-action-smaller, github-action-bigger, bencher, openmetrics, junit, csv, "
            "parquet, or all of them",
        ),
    ] = ALL,
    output: Annotated[
        Path, typer.Option("--output", metavar="PATH", help="file to write, or, where it is one, or for all, a folder")
    ] = Path(),
    commit: Annotated[str, typer.Option("--commit", metavar="ID", help="commit that was measured, to be told")] = "",
    json: options.Json = False,
) -> None:
    """Write what runs measured in the formats of other tools.

    Exits with 3 where nothing was measured: run with --trt-perf screen or gate.
    """
    from harness.report.exports import FORMATS, write
    from harness.report.measurement import measurements

    if format not in (*FORMATS, ALL):
        raise SpecError(f"--format: no format {format!r}: choose from {', '.join([*FORMATS, ALL])}")
    measured = measurements((record for run in runs.read(folders) for record in run.records), commit)
    if not measured:
        say("nothing was measured in these runs: run with --trt-perf screen or gate, or tests of trt_latency")
        leave(NOTHING, {"measurements": 0, "files": []}, as_json=json)
    if format == ALL:
        files = write(measured, output)
    else:
        wanted = FORMATS[format]
        files = [output / wanted.file if output.is_dir() else output]
        files[0].parent.mkdir(parents=True, exist_ok=True)
        files[0].write_bytes(wanted.write(measured))
    if not json:
        typer.echo(f"{len(measured)} measurements in {', '.join(map(str, files))}")
    leave(PASSED, {"measurements": len(measured), "files": files}, as_json=json)
