"""``shapes``: a map of how far a model is off over the sizes that its profiles admit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.exits import FAILED, NOTHING, PASSED
from harness.cli.output import console, leave, progress_bar, repeat, say
from harness.cli.target import model_of, with_profile
from harness.errors import SpecError
from harness.settings import BEST
from harness.spec import EngineSpec, recipe

if TYPE_CHECKING:
    from harness.report.shape_map import ShapeMap

PICTURES = Path(".trt-harness", "shapes")


def shapes(
    model: Annotated[str, typer.Argument(help="a model's name, an .onnx or .toml file", metavar="MODEL")],
    over: Annotated[
        str | None,
        typer.Option(
            "--over",
            metavar="DIM[,DIM]",
            help="the dimensions along the axes (default: every two that vary, a map each)",
        ),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option("--at", metavar="DIM=SIZE", help="the size of a dimension on no axis (default: that of opt)"),
    ] = None,
    cells: Annotated[
        int, typer.Option("--cells", min=1, metavar="NUMBER", help="shapes to ask at most, all maps together")
    ] = 256,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture", metavar="SVG", help=f"file for the picture (default: {PICTURES}/MODEL-PRECISION-BACKEND.svg)"
        ),
    ] = None,
    profile: options.Profiles = None,
    precision: Annotated[str, typer.Option("--precision", metavar="NAME", help="precision of the engine")] = "fp32",
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="backend that runs it")] = BEST,
    seed: options.Seed = None,
    build_option: options.BuildOptions = None,
    models: options.Models = None,
    cache: options.Cache = None,
    timing_cache: options.TimingCache = None,
    python: options.Pythons = None,
    build_timeout: options.BuildTimeout = None,
    run_timeout: options.RunTimeout = None,
    probe_timeout: options.ProbeTimeout = None,
    in_process: options.InProcess = False,
    json: options.Json = False,
) -> None:
    """Run a model over the sizes of its profiles and draw how far each shape is off, as text and as an SVG picture.

    A grid over two dimensions, both bounds of each included; error is in units of what the tolerance
    allows at that shape. One engine does it all. Latency is not drawn: `trt-harness bench` measures it, at one point.
    """
    from harness.cli.sweep import Sweep, plots
    from harness.report.shape_map import picture as drawing
    from harness.runtime.choice import choose, needs_of
    from harness.runtime.workbench import Workbench

    settings = options.settings(
        backend=[backend],
        precision=[precision],
        seed=seed,
        build_option=build_option,
        models=models,
        cache=cache,
        timing_cache=timing_cache,
        python=python,
        build_timeout=build_timeout,
        run_timeout=run_timeout,
        probe_timeout=probe_timeout,
        in_process=in_process,
    )
    asked = with_profile(model_of(model, settings.models), profile or ())
    if asked.source.kind != "onnx" or asked.data is not None:
        what = "a model with inputs of its own" if asked.data is not None else f"a {asked.source.kind}"
        raise SpecError(f"{asked.id}: {what} is asked in one way only: `trt-harness check` does that")
    wanted = plots(asked, _symbols(over), _sizes(at or ()), cells)
    spec = EngineSpec.of(asked, recipe(precision), asked.config.with_options(dict(settings.build_option)))

    given: list[object] = ["shapes", model]
    repeated = {"profile": profile, "build-option": build_option, "models": models, "python": python}
    for name, values in repeated.items():
        given += [word for value in values or () for word in (f"--{name}", value)]
    given += ["--seed", seed] if seed is not None else []
    given += ["--in-process"] if in_process else []

    with Workbench(settings) as bench, progress_bar() as progress:
        choice = choose(bench.probe, settings.backend[0], ("run", *spec.precision.needs, *needs_of(asked)))
        say(f"{choice.backend} runs {asked.id} at {precision}{choice.why}")
        given += ["--precision", precision, "--backend", choice.backend]
        again = repeat([str(word) for word in given])
        sweep = Sweep(bench, spec, choice.backend, settings.seed, again, progress)
        found = list(sweep.maps(wanted))
        oracle = bench.oracle.description
    file = picture or PICTURES / f"{asked.id}-{precision}-{choice.backend.replace(':', '_')}.svg"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(drawing(found), encoding="utf-8")
    if not json:
        _show(found, oracle)
    say(f"picture: {file}")
    document = {
        "model": asked.id,
        "precision": precision,
        "backend": choice.backend,
        "oracle": oracle,
        "maps": [one.as_json() for one in found],
        "picture": str(file),
    }
    leave(_code(found), document, as_json=json)


def _show(maps: Sequence[ShapeMap], oracle: str) -> None:
    """Every map, and of each the smallest failure in full."""
    from harness.report.shape_map import drawn

    page = console()
    for one in maps:
        for line in drawn(one):
            page.print(line, soft_wrap=True)
        typer.echo("")
    typer.echo(f"error in units of what is allowed, against {oracle}")
    for failure in dict.fromkeys(one.failures[0].message for one in maps if one.failures):
        typer.echo(f"\nthe smallest shape that fails: {failure}")


def _code(maps: Sequence[ShapeMap]) -> int:
    """Failed if any shape is; nothing covered when none could be asked."""
    if any(one.failures for one in maps):
        return FAILED
    return PASSED if any(spot.verdict == "within" for one in maps for spot in one.spots) else NOTHING


def _symbols(over: str | None) -> list[str]:
    symbols = [symbol.strip() for symbol in over.split(",")] if over else []
    if len(symbols) > 2 or len(set(symbols)) < len(symbols) or not all(symbols):
        raise SpecError(f"--over {over!r}: name one dimension or two, as in batch,seq")
    return symbols


def _sizes(at: Sequence[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for text in at:
        symbol, _, size = text.rpartition("=")
        if not symbol or not size.isdecimal() or symbol in sizes:
            raise SpecError(f"--at {text!r}: write DIM=SIZE, each dimension once, as in seq=16")
        sizes[symbol] = int(size)
    return sizes
