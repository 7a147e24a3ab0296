"""``bench``: one subject in several processes: how fast, how sure, how much memory."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options, sides
from harness.cli.compare import print_details
from harness.cli.exits import FAILED, INTERRUPTED, NOTHING, OPEN, PASSED
from harness.cli.output import leave, print_table, repeat, say, telling
from harness.errors import SpecError
from harness.settings import BEST

if TYPE_CHECKING:
    from harness.measure.bench import Measured
    from harness.measure.finding import Finding
    from harness.measure.side import Side
    from harness.runtime.sampling import Sampling


def bench(
    target: Annotated[str, typer.Argument(help="a plan, a model's name, an .onnx or .toml file", metavar="X")],
    precision: Annotated[str, typer.Option("--precision", metavar="NAME", help="precision recipe")] = "fp32",
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="backend")] = BEST,
    python: sides.InterpreterOf = None,
    build_option: options.BuildOptions = None,
    profile: options.Profiles = None,
    point: sides.At = "opt",
    device: sides.Device = 0,
    processes: sides.Processes = 8,
    rebuilds: sides.Rebuilds = None,
    streams: sides.Streams = None,
    cold: sides.Cold = False,
    seconds: sides.Seconds = None,
    warmup: sides.Warmup = None,
    output: sides.Output = None,
    seed: options.Seed = None,
    models: options.Models = None,
    cache: options.Cache = None,
    trust: options.Trust = None,
    build_timeout: options.BuildTimeout = None,
    run_timeout: options.RunTimeout = None,
    probe_timeout: options.ProbeTimeout = None,
    in_process: options.InProcess = False,
    json: options.Json = False,
) -> None:
    """Measure one engine: latency, set-up, memory, each over processes that are started for it.

    Exits with 0 when it was measured, 1 when it fails or gives wrong numbers, 4 when there is no one number to
    give, 3 when nothing could be measured. Interrupted, it goes on with --output.
    """
    number = rebuilds or processes
    if number < 1:
        raise SpecError(f"--processes {processes}: 1 or more")
    terms = sides.terms(
        profile,
        point,
        device,
        build_option=build_option,
        seed=seed,
        models=models,
        cache=cache,
        trust=trust,
        build_timeout=build_timeout,
        run_timeout=run_timeout,
        probe_timeout=probe_timeout,
        in_process=in_process,
    )
    ways = sides.ways(streams, cold=cold, seconds=seconds, warmup=warmup)
    where = sides.folder(output, "bench")
    with sides.bench_of(terms, python, [target]) as work:
        side = sides.side(terms, work, "X", target, precision, backend, None)
        asked = {"ways": ways, "rebuilds": rebuilds, "point": point, "seed": terms.settings.seed}
        request = sides.request("bench", {"X": [side]}, **asked)
        try:
            measured, findings = _measured(side, ways, where, request, number, rebuilds is not None)
        except KeyboardInterrupt:
            again = [*sys.argv[1:], *([] if output else ["--output", str(where)])]
            say(f"interrupted; to go on: {repeat(again)}")
            leave(INTERRUPTED, {"folder": str(where)}, as_json=json)
        title = side.title
    _leave(title, measured, findings, str(where), as_json=json)


def _measured(
    side: Side, ways: dict[str, Sampling], where: Path, request: dict[str, Any], number: int, rebuilt: bool
) -> tuple[list[Measured], list[Finding]]:
    from harness.measure.answers import answers
    from harness.measure.bench import measured
    from harness.measure.finding import Finding, Said
    from harness.measure.journal import Journal
    from harness.measure.quantity import BUILD, DEVICE_MEMORY, PARSE, PLAN_SIZE, by_profile, covered, quantities
    from harness.measure.runner import Runner, SideFailed

    subject = side.spec.model.id
    with contextlib.closing(Journal(where, request)) as journal, telling() as tell:
        if journal.taken_over:
            say(f"{where}: goes on after {journal.taken_over} processes")
        runner = Runner(subject, [side], ways, journal, rebuilt, tell, planned=number)
        with contextlib.closing(runner):
            try:
                processes = [runner.process(ordinal, 0, ordinal) for ordinal in range(number)]
            except SideFailed as failed:
                return [], [failed.finding(subject)]
            of_builds = (PLAN_SIZE, DEVICE_MEMORY, PARSE, BUILD)
            wanted = [*quantities(tuple(ways), 0.02), *by_profile(processes), *of_builds]
            found, missing = covered(wanted, processes)
            findings = [Finding(subject, name, Said.NOT_COVERED, why) for name, why in missing.items()]
            return [measured(one, processes) for one in found], [*findings, *answers(runner)]


def _leave(title: str, measured: list[Measured], findings: list[Finding], where: str, *, as_json: bool) -> None:
    from harness.measure.finding import BAD
    from harness.report.findings import BENCH_COLUMNS, bench_rows, rows
    from harness.report.findings import as_json as json_of

    if not as_json:
        print_table(BENCH_COLUMNS, bench_rows(measured), title)
        print_table(("metric", "", "words"), [(one[1], one[4], one[5]) for one in rows(findings)])
        print_details(findings)
        typer.echo(f"all of it in {where}")
    code = PASSED if measured else NOTHING
    if any(one.note and one.decides for one in measured):
        code = OPEN
    if any(one.said in BAD for one in findings):
        code = FAILED
    document = {
        "subject": title,
        "measured": measured,
        "findings": [json_of(one) for one in findings],
        "folder": where,
    }
    leave(code, document, as_json=as_json)
