"""``inspect``: what an engine is made of, layer by layer."""

from __future__ import annotations

import json as jsons
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.exits import NOTHING, PASSED
from harness.cli.output import leave, print_table, progress_bar, say, shown
from harness.cli.target import admits, named_plan
from harness.errors import SpecError
from harness.settings import BEST

if TYPE_CHECKING:
    from harness.report.engine_report import EngineReport
    from harness.report.layers import Layer

SORTS = ("order", "name", "kind", "precision", "weights", "origins")


def inspect(
    target: Annotated[
        str, typer.Argument(help="a plan, or a model's name, an .onnx or .toml file to build", metavar="PLAN_OR_MODEL")
    ],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer", metavar="PATTERN", help="only layers with this in their name or in that of a node they came from"
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="BY", help=f"order of the layers: {', '.join(SORTS)}")
    ] = "order",
    raw: Annotated[
        Path | None, typer.Option("--raw", metavar="FILE", help="write what the inspector itself says, its JSON, there")
    ] = None,
    profile: options.Profiles = None,
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="NAME", help="precision of the engine (default: fp32)")
    ] = None,
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="backend that loads it")] = BEST,
    build_option: options.BuildOptions = None,
    models: options.Models = None,
    cache: options.Cache = None,
    timing_cache: options.TimingCache = None,
    trust: options.Trust = None,
    python: options.Pythons = None,
    build_timeout: options.BuildTimeout = None,
    run_timeout: options.RunTimeout = None,
    probe_timeout: options.ProbeTimeout = None,
    in_process: options.InProcess = False,
    json: options.Json = False,
) -> None:
    """Show an engine's layers: precision, shapes, tactics, weights, what was fused, and the memory that it takes.

    A model is built with profiling_verbosity=DETAILED, unless --build-option says otherwise; a plan is as it is,
    and an option that says how to build is refused. A plan is code: load only what you trust. Exits with 3 when
    the engine tells of no layer.
    """
    from harness.cli.engines import Asked, chosen, report
    from harness.cli.target import FP32
    from harness.report.engine_report import layer_as_json
    from harness.report.layers import ORDERS, matching
    from harness.runtime.workbench import Workbench

    if sort not in SORTS:
        raise SpecError(f"--sort {sort!r}: choose from {', '.join(SORTS)}")
    settings = options.settings(
        backend=[backend],
        precision=[precision or FP32],
        build_option=build_option,
        models=models,
        cache=cache,
        timing_cache=timing_cache,
        trust=trust,
        python=python,
        build_timeout=build_timeout,
        run_timeout=run_timeout,
        probe_timeout=probe_timeout,
        in_process=in_process,
    )
    asked = Asked(target, precision or FP32, settings.backend[0], dict(settings.build_option), profile or ())
    spec = asked.spec(settings.models)
    admits(spec.model, {"--precision": precision, "--build-option": build_option, "--profile": profile})
    with Workbench(settings, trusted=named_plan(target)) as bench, progress_bar() as progress:
        choice = chosen(bench, asked, spec)
        found, told = report(bench, asked, spec, choice, progress=progress)
    if raw is not None:
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.write_text(jsons.dumps(told, indent=1), encoding="utf-8")
    layers = list(found.layers.layers)
    if layer:
        layers = matching(layers, layer)
        if not layers and found.layers.layers:
            wanted = " or ".join(map(repr, layer))
            raise SpecError(f"--layer: none of the {len(found.layers.layers)} layers has {wanted} in a name")
    if sort != "order":
        layers.sort(key=ORDERS[sort])
    if not json:
        _show(found, layers)
    if found.hint:
        say(found.hint)
    document = {
        "backend": choice.backend,
        "reason": choice.reason,
        **found.as_json(),
        "layers": [layer_as_json(one) for one in layers],
    }
    leave(PASSED if found.layers.layers else NOTHING, document, as_json=json)


def _show(found: EngineReport, layers: Sequence[Layer]) -> None:
    from harness.report.layers import totals

    typer.echo(shown(found.title))
    print_layers(layers, detailed=found.layers.detailed)
    if found.layers.detailed:
        for by in ("kind", "precision"):
            rows = [
                (total.name or "unknown", str(total.layers), f"{total.weights:,}")
                for total in totals(found.layers.layers, by)
            ]
            print_table((by, "layers", "bytes of weights"), [tuple(map(shown, row)) for row in rows])
    counts = {name: f"{found.counts[name]:,}" for name in ("layers", "fused", "reformats")}
    memory = {name: f"{size:,} bytes" for name, size in found.memory.items()}
    print_table(("engine", ""), list({**counts, **memory}.items()))


def print_layers(layers: Sequence[Layer], *, detailed: bool) -> None:
    """A table of ``layers``, without the columns that are empty in all of them; no name is cut."""
    columns = ("layer", "kind", "by", "precision", "in", "out", "tactic", "weights", "from")
    rows = [_row(layer) for layer in layers]
    told = [index for index, name in enumerate(columns) if name == "layer" or any(row[index] for row in rows)]
    unknown = "?" if detailed else ""
    print_table(
        [columns[index] for index in told],
        [[shown(row[index]) or (unknown if columns[index] == "precision" else "") for index in told] for row in rows],
        whole=True,
    )


def _row(layer: Layer) -> tuple[str, ...]:
    made = layer.implementation if layer.implementation != layer.kind else ""
    # A layer that is one node under the node's own name says nothing new by it.
    origins = "" if layer.origins == (layer.name,) else ", ".join(layer.origins)
    return (
        layer.name,
        layer.kind,
        made,
        layer.precision,
        ", ".join(map(str, layer.inputs)),
        ", ".join(map(str, layer.outputs)),
        layer.tactic,
        f"{layer.weights:,}" if layer.weights else "",
        origins,
    )
