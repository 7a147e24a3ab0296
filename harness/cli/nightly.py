"""``nightly``: everything that a night does, in one command with one exit code; killed, it goes on where it was."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import options
from harness.cli.exits import INTERRUPTED
from harness.cli.night_stages import SUITES, Night
from harness.cli.output import leave, repeat, say
from harness.cli.runs import HOME
from harness.errors import SpecError

NIGHTS = HOME / "nights"
Suites = Annotated[
    list[str] | None, typer.Option(metavar="PATH", help="what pytest runs in this stage (default: the suites)")
]


def nightly(
    passed: Annotated[
        list[str] | None, typer.Argument(metavar="[-- OPTION...]", help="options of pytest, for all that it runs")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="where it all goes; a night that is there already goes on"),
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="TIME", help="begin no cell after 2h, 90m or 3600 seconds")
    ] = None,
    correctness: Suites = None,
    performance: Suites = None,
    canaries: Annotated[bool, typer.Option(help="measure two fixed models: is it the same machine?")] = True,
    backend: options.Backends = None,
    store: options.Store = None,
    baselines: options.Baselines = None,
    kept: options.Kept = None,
    models: options.Models = None,
    cache: options.Cache = None,
    python: options.Pythons = None,
    probe_timeout: options.ProbeTimeout = None,
    json: options.Json = False,
) -> None:
    """Check numerics and shapes, gate performance, store, export and summarize it all, and go on if it was killed.

    Exits with 1 when anything failed, 4 when a measurement is open or the host changed meanwhile, 3 when nothing was
    covered here or a backend that was asked for is not there, 2 when pytest refuses its options, a PATH is not there
    or the baselines can't be read, and 0 when all passed.
    """
    from harness.ledger.baseline_file import FILE
    from harness.ledger.night_state import NightState, alone
    from harness.ledger.records import new_run_id
    from harness.ledger.store import FILE as STORE

    given: dict[str, Any] = {
        "backend": backend,
        "store": store,
        "baselines": baselines,
        "kept": kept,
        "models": models,
        "cache": cache,
        "python": python,
        "probe_timeout": probe_timeout,
    }
    settings = options.settings(budget=budget, **given)
    places = {  # which pytest would look for in its root folder
        "store": settings.store or str((HOME / STORE).absolute()),
        "baselines": str((settings.baselines or Path(FILE)).absolute()),
        "kept": str((settings.kept or HOME / "plans").absolute()),
    }
    for_pytest = [
        f"--trt-{name.replace('_', '-')}={value}"
        for name, values in {**given, **places}.items()
        for value in ([values] if isinstance(values, str) else values or ())
    ]
    suites = {"correctness": correctness or [], "performance": performance or []}
    asked = [*(f"--{stage}={one}" for stage in SUITES for one in suites[stage]), *for_pytest, *(passed or ())]
    new = new_run_id()
    folder = output or NIGHTS / new
    terminated = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as CI systems cancel
    try:
        with alone(folder, say) as lock:
            state = NightState.of(folder, new, [*asked, f"--{'' if canaries else 'no-'}canaries"])
            if state.code is not None:
                say(f"{folder}: this night is over: name another --output for a new one")
                _leave(state.code, state.stages["summary"], as_json=json)
            if state.goes_on:
                say(f"{folder}: goes on after {', '.join(state.stages)}")
            night = Night(state, settings, suites, [*for_pytest, *(passed or ())], lock, canaries, json)
            try:
                code, told = night.run()
            except SpecError:
                if state.stages.keys() <= {"environment"}:
                    state.forget()  # so that what is put right may have this folder
                raise
    except KeyboardInterrupt:
        say(f"interrupted; to go on: {repeat(_again(folder, output is not None))}")
        leave(INTERRUPTED, {"folder": str(folder)}, as_json=json)
    finally:
        signal.signal(signal.SIGTERM, terminated)
    _leave(code, told, as_json=json)


def _leave(code: int, told: dict[str, Any], *, as_json: bool) -> None:
    if not as_json:
        summary = Path(told["summary"])
        typer.echo(summary.read_text(encoding="utf-8").splitlines()[2])
        typer.echo(f"summary: {summary}")
    leave(code, told, as_json=as_json)


def _again(folder: Path, named: bool) -> list[str]:
    own = sys.argv[1:]
    at = own.index("nightly") + 1
    return own if named else [*own[:at], "--output", str(folder), *own[at:]]
