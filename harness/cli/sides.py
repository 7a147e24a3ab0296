"""What ``bench`` and ``compare`` measure, from the command line: sides, ways to run, and where it is written."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.output import repeat, say
from harness.cli.target import admits, model_of, named_plan
from harness.errors import SpecError, UnsupportedError
from harness.runtime.devices import devices
from harness.settings import Settings
from harness.spec.profile import POINTS, Point

if TYPE_CHECKING:
    from harness.ledger.measured import Command
    from harness.measure.side import Side
    from harness.runtime.sampling import Sampling
    from harness.runtime.workbench import Workbench

FOLDER = Path(".trt-harness", "measured")  # of sessions that name none, in the current folder

Processes = Annotated[
    int, typer.Option("--processes", metavar="NUMBER", help="processes of a side, each in an engine host of its own")
]
Rebuilds = Annotated[
    int | None,
    typer.Option("--rebuilds", metavar="NUMBER", help="builds of a side, each measured in one process of its own"),
]
Streams = Annotated[
    int | None, typer.Option("--streams", metavar="NUMBER", help="measure throughput, too, on so many streams")
]
Cold = Annotated[bool, typer.Option("--cold", help="empty the L2 cache before every run")]
Canaries = Annotated[
    bool, typer.Option("--canaries", help="measure two fixed models before and after: is it the same machine?")
]
Seconds = Annotated[
    float | None, typer.Option("--seconds", metavar="SECONDS", help="sample no longer in one process and way to run")
]
Warmup = Annotated[float | None, typer.Option("--warmup", metavar="SECONDS", help="warm up no longer, flat or not")]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="DIR", help="where everything is kept; with what is there already it goes on"),
]
At = Annotated[str, typer.Option("--point", metavar="POINT", help="point of the profile: min, opt, max")]
Device = Annotated[
    int, typer.Option("--device", metavar="NUMBER", help="GPU to measure on, by its number among those visible")
]
InterpreterOf = Annotated[
    str | None, typer.Option("--python", metavar="PYTHON", help="interpreter that has the backend's packages")
]


@dataclass(frozen=True)
class Terms:
    """What both sides are given alike."""

    settings: Settings
    profile: Sequence[str]
    point: Point
    device: int = 0


def terms(profile: Sequence[str] | None, point: str, device: int, **given: Any) -> Terms:
    """SpecError for a point or a GPU that there is not, and as `options.settings`."""
    read = options.settings(**given)
    there = devices()
    if device and device not in there:
        known_ones = f"choose from {', '.join(map(str, there))}" if there else "no GPU is visible here"
        raise SpecError(f"--device: there is no GPU {device}: {known_ones}")
    for known in POINTS:
        if point == known:
            return Terms(read, profile or (), known, device)
    raise SpecError(f"--point: unknown {point!r}: choose from {', '.join(POINTS)}")


def admit(
    targets: Sequence[str],
    models: Sequence[Path],
    own: Sequence[Mapping[str, str | Sequence[str] | None]],
    rebuilds: int | None,
    both: Mapping[str, str | Sequence[str] | None] | None = None,
) -> None:
    """SpecError when one of ``targets`` is a plan and an option of its ``own`` says how to build it.

    What is said of ``both`` is for the one that is built, where there is one. None is built anew if one is a plan.
    """
    found = [model_of(target, models) for target in targets]
    plans = [model.source.kind == "plan" for model in found]
    anew = None if rebuilds is None else str(rebuilds)
    for model, options_ in zip(found, own, strict=True):
        admits(model, {**(both or {} if all(plans) else {}), **options_, "--rebuilds": anew})


def python_of(python: str | None, settings: Settings) -> Settings:
    """``settings`` with an interpreter of the side's own for whatever backend it comes to. SpecError for no program."""
    if python is None:
        return settings
    (_, program) = options.settings(python=[f"onnxruntime={python}"]).python[0]
    return settings.under(program)


def bench_of(terms: Terms, python: str | None, targets: Sequence[str]) -> Workbench:
    """Where a side is built: in hosts under its own interpreter, if it has one."""
    from harness.runtime.workbench import Workbench

    settings = python_of(python, terms.settings)
    trusted = [path for target in targets for path in named_plan(target)]
    return Workbench(settings, device=lambda: terms.device, trusted=trusted, apart=not settings.in_process)


def side(
    terms: Terms, bench: Workbench, name: str, target: str, precision: str, backend: str, option: Sequence[str] | None
) -> Side:
    """The backend is chosen, and said, with its reason. UnsupportedError where none can even build it."""
    from harness.cli.engines import Asked
    from harness.measure.side import Side
    from harness.runtime.choice import Choice, needs_of, roles

    own = options.settings(backend=[backend], precision=[precision], build_option=option)
    given = {**dict(terms.settings.build_option), **dict(own.build_option if option else ())}
    frozen = model_of(target, terms.settings.models).source.kind == "plan"  # whose profiles are its own
    profile = () if frozen else terms.profile
    spec = Asked(target, precision, backend, given, profile).spec(terms.settings.models)
    found = roles(bench.probe, own.backend[0], (*spec.precision.needs, *needs_of(spec.model)))
    chosen = found.runner if isinstance(found.runner, Choice) else found.builder
    if chosen is None:
        assert isinstance(found.runner, UnsupportedError)
        raise found.runner
    made = Side(name, spec, chosen.backend, bench, terms.device, terms.point, terms.settings.seed)
    say(f"{name}: {made.title}: {chosen.reason}")
    return made


def expanded(target: str, models: Sequence[Path]) -> list[str]:
    """A file as it is; names and patterns of the catalog as names, in its order. SpecError where none matches."""
    if Path(target).exists() or not ("," in target or "*" in target or "?" in target):
        return [target]
    from harness.spec.catalog import load

    known = [model.id for model in load(models)]
    found = [name for name in known if any(fnmatch.fnmatchcase(name, one.strip()) for one in target.split(","))]
    if not found:
        raise SpecError(f"{target!r}: no model is called so: `trt-harness models` lists those that there are")
    return found


def ways(streams: int | None, *, cold: bool, seconds: float | None, warmup: float | None) -> dict[str, Sampling]:
    """Graph and plain, and several streams where they are asked for; what a backend has not, it says. SpecError."""
    from harness.measure.process import GRAPH, PLAIN, STREAMS
    from harness.runtime.sampling import Sampling

    given: dict[str, Any] = {"cold": cold, "kept": 2000}
    if seconds is not None:
        given["seconds"] = seconds
    if warmup is not None:
        given |= {"warmup_most": warmup, "warmup_least": min(warmup / 10, Sampling.warmup_least)}
    found = {GRAPH: Sampling(graph=True, **given), PLAIN: Sampling(**given)}
    if streams is not None:
        if streams < 2:
            raise SpecError(f"--streams {streams}: 2 or more; one is what is measured anyway")
        found[STREAMS] = Sampling(streams=streams, **given)
    return found


def command(name: str) -> Command:
    """The one that is under way, as its journal names it when it ends."""
    from harness.ledger.commit import commit_of
    from harness.ledger.measured import Command

    return Command(name, repeat(sys.argv[1:]), commit_of(Path()))


def folder(output: Path | None, command: str) -> Path:
    """``output``, or a new one, named after the time."""
    from harness.ledger.records import new_run_id

    return output or FOLDER / f"{command}-{new_run_id()}"


def request(command: str, sides: Mapping[str, Sequence[Side]], **more: Any) -> dict[str, Any]:
    """What a journal is of."""
    made = {subject: [dict(one.request) for one in pair] for subject, pair in sides.items()}
    return {"command": command, "subjects": made, **more}
