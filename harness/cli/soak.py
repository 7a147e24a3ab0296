"""``soak``: one engine built, loaded, run and dropped again and again: does anything grow?"""

from __future__ import annotations

import contextlib
import json as json_of
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options, sides
from harness.cli.compare import print_details
from harness.cli.exits import FAILED, INTERRUPTED, NOTHING, OPEN, PASSED
from harness.cli.output import leave, print_table, say, telling
from harness.errors import RunError, SpecError
from harness.settings import BEST

if TYPE_CHECKING:
    from harness.measure.side import Side
    from harness.measure.soak import Soak


def soak(
    target: Annotated[str, typer.Argument(help="a plan, a model's name, an .onnx or .toml file", metavar="X")],
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="NUMBER", help="rounds of build, load, run and drop")
    ] = 500,
    whole: Annotated[bool, typer.Option("--whole", help="go on to the last round though a leak shows")] = False,
    precision: Annotated[str, typer.Option("--precision", metavar="NAME", help="precision recipe")] = "fp32",
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="backend")] = BEST,
    python: sides.InterpreterOf = None,
    build_option: options.BuildOptions = None,
    profile: options.Profiles = None,
    point: sides.At = "opt",
    device: sides.Device = 0,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="where the samples are kept, a line a round")
    ] = None,
    seed: options.Seed = None,
    models: options.Models = None,
    trust: options.Trust = None,
    build_timeout: options.BuildTimeout = None,
    run_timeout: options.RunTimeout = None,
    probe_timeout: options.ProbeTimeout = None,
    json: options.Json = False,
) -> None:
    """Build, load, run and drop one engine in one process, round after round, and judge what it holds after each.

    Exits with 0 when nothing grows, 1 for a leak, a failure or outputs that differ, 4 when the rounds were too few,
    3 when nothing could be done. Interrupted, it judges the rounds that there are.
    """
    if rounds < 1:
        raise SpecError(f"--rounds {rounds}: 1 or more")
    terms = sides.terms(
        profile,
        point,
        device,
        build_option=build_option,
        seed=seed,
        models=models,
        trust=trust,
        build_timeout=build_timeout,
        run_timeout=run_timeout,
        probe_timeout=probe_timeout,
    )
    if terms.settings.in_process:
        raise SpecError("in-process: a soak needs a process for itself: it is the memory of that process that counts")
    where = sides.folder(output, "soak")
    with sides.bench_of(terms, python, [target]) as work:
        side = sides.side(terms, work, "X", target, precision, backend, None)
        done = _soaked(side, where, rounds, whole)
        title = side.title
    _leave(title, done, str(where), as_json=json)


def _soaked(side: Side, where: Path, rounds: int, whole: bool) -> Soak:
    from harness.measure.soak import FILE, Soak, Work
    from harness.runtime.backend.hosted import HostedBackend
    from harness.runtime.lines import LineLog
    from harness.runtime.telemetry import monitor

    if (where / FILE).exists():
        raise SpecError(f"{where}: holds another soak, and the memory of a process can't be resumed: name another")
    if broken := side.broken():
        raise RunError(f"{side.backend}: {broken}")
    work, gpu = Work.of(side), str(side.bench.probe(side.backend).environment.get("gpu_uuid", ""))
    side.rest()  # the host that probed is company on the device
    backend = side.process()
    assert isinstance(backend, HostedBackend)
    with (
        contextlib.closing(backend),
        contextlib.closing(monitor(gpu)) as watch,
        LineLog(where / FILE) as lines,
        telling() as tell,
    ):
        lines.append([json_of.dumps({"kind": "soak", "rounds": rounds, **side.request})])
        done = Soak(backend, work, watch, lines, rounds, whole, tell)
        with side.lock.alone(f"soak of {work.subject}", tell):  # what others take of the device is no leak
            done.run()
    return done


def _leave(title: str, done: Soak, where: str, *, as_json: bool) -> None:
    from harness.measure.finding import BAD
    from harness.measure.soak import FILE
    from harness.report.findings import as_json as finding_as_json
    from harness.report.findings import rows

    findings, slopes = done.findings(), done.slopes()
    rounds = len(done.done)
    told = f"{rounds} of {done.rounds} rounds" + (", interrupted" if done.interrupted else "")
    if not as_json:
        shown = [(one[1], one[2], one[3], one[4], one[5]) for one in rows(findings)]
        print_table(("metric", "at first", "at last", "", "words"), shown, f"{title}: {told}")
        print_details(findings)
        typer.echo(f"every round in {Path(where, FILE)}")
    elif done.interrupted:
        say(told)
    code = PASSED if rounds else NOTHING
    if any(one.open for one in findings):
        code = OPEN
    if done.interrupted:
        code = INTERRUPTED
    if any(one.said in BAD for one in findings):
        code = FAILED
    document: dict[str, Any] = {
        "subject": title,
        "rounds": rounds,
        "planned": done.rounds,
        "interrupted": done.interrupted,
        "slopes": {
            name: {
                "a_round": one.estimate,
                "low": one.low,
                "high": one.high,
                "visible": one.visible,
                "quantum": one.quantum,
                "rounds": one.rounds,
                "warm_up": one.warm_up,
            }
            for name, one in slopes.items()
        },
        "findings": [finding_as_json(one) for one in findings],
        "folder": where,
    }
    leave(code, document, as_json=as_json)
