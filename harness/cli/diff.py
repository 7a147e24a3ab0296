"""``diff``: what differs between two engines, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.exits import FAILED, NOTHING, PASSED
from harness.cli.output import leave, print_table, progress_bar, say, shown
from harness.cli.target import admits, named_plan
from harness.errors import SpecError
from harness.settings import BEST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.report.engine_report import EngineDiff

OF_A, OF_B = "of A, where it is not as for both", "of B, where it is not as for both"


def diff(
    a: Annotated[str, typer.Argument(help="a plan, or a model's name, an .onnx or .toml file to build", metavar="A")],
    b: Annotated[str | None, typer.Argument(help="what to compare it with (default: A)", metavar="[B]")] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", metavar="NAME", help="precision of both (default: fp32)")
    ] = None,
    a_precision: Annotated[str | None, typer.Option("--a-precision", metavar="NAME", help=OF_A)] = None,
    b_precision: Annotated[str | None, typer.Option("--b-precision", metavar="NAME", help=OF_B)] = None,
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="backend that loads both")] = BEST,
    a_backend: Annotated[str | None, typer.Option("--a-backend", metavar="NAME", help=OF_A)] = None,
    b_backend: Annotated[str | None, typer.Option("--b-backend", metavar="NAME", help=OF_B)] = None,
    build_option: options.BuildOptions = None,
    a_build_option: Annotated[
        list[str] | None, typer.Option("--a-build-option", metavar="KEY=VALUE", help="of A, beside those of both")
    ] = None,
    b_build_option: Annotated[
        list[str] | None, typer.Option("--b-build-option", metavar="KEY=VALUE", help="of B, beside those of both")
    ] = None,
    profile: options.Profiles = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="build B anew, whatever the cache holds, to see whether builds agree")
    ] = False,
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
    """Match the layers of two engines, by name and by origin, and show what changed from A to B.

    Exits with 0 when nothing differs in their layers and in the device memory that they take, with 1 when
    something does, and with 3 when one of them tells of no layer. What is said of both is for those that are
    built; an option for a plan alone that says how to build is refused. A plan is code: load only what you trust.
    """
    from harness.cli.engines import Asked, chosen, report
    from harness.cli.target import FP32
    from harness.report.engine_report import EngineDiff
    from harness.runtime.workbench import Workbench

    settings = options.settings(
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

    def side(
        target: str, own_precision: str | None, own_backend: str | None, own_option: Sequence[str] | None
    ) -> Asked:
        read = options.settings(
            precision=[own_precision or precision or FP32], backend=[own_backend or backend], build_option=own_option
        )
        own = dict(read.build_option) if own_option else {}
        if named_plan(target) and not (named_plan(a) and named_plan(b or a)):  # what is said of both is for the model
            return Asked(target, own_precision or FP32, read.backend[0], own)
        given = {**dict(settings.build_option), **own}
        return Asked(target, own_precision or precision or FP32, read.backend[0], given, profile or ())

    asked = (
        side(a, a_precision, a_backend, a_build_option),
        side(b or a, b_precision, b_backend, b_build_option),
    )
    if asked[0] == asked[1] and not rebuild:
        raise SpecError("A and B are one engine: name another B, give an option to one of them, or --rebuild")
    specs = [one.spec(settings.models) for one in asked]
    both = {"--precision": precision, "--build-option": build_option, "--profile": profile}
    if any(spec.model.source.kind != "plan" for spec in specs):
        both = {}  # what is said of both is for the one that is built
    admits(specs[0].model, {**both, "--a-precision": a_precision, "--a-build-option": a_build_option})
    admits(
        specs[1].model,
        {**both, "--b-precision": b_precision, "--b-build-option": b_build_option, "--rebuild": rebuild},
    )
    with Workbench(settings, trusted=(*named_plan(a), *named_plan(b or a))) as bench, progress_bar() as progress:
        choices = [chosen(bench, one, spec) for one, spec in zip(asked, specs, strict=True)]
        reports = [
            report(bench, *one, rebuilt=rebuild and number == 1, progress=progress)[0]
            for number, one in enumerate(zip(asked, specs, choices, strict=True))
        ]
    found = EngineDiff.of(*reports)
    told = all(one.layers.layers for one in reports)
    if not json:
        _show(found)
    for one in reports:
        if one.hint:
            say(one.hint)
    code = NOTHING if not told else PASSED if found.same else FAILED
    leave(code, found.as_json(), as_json=json)


def _show(found: EngineDiff) -> None:
    from harness.report.layer_diff import ONLY_A, ONLY_B

    typer.echo(f"A: {shown(found.a.title)}\nB: {shown(found.b.title)}")
    memory = {**found.a.memory, **found.b.memory}
    rows = [
        (f"{name}, bytes" if name in memory else name, *map(_figure, pair), _change(*pair))
        for name, pair in found.figures.items()
    ]
    print_table(("", "A", "B", "change"), rows)
    changed = [
        (shown(match.name), change.what, shown(change.before), shown(change.after))
        for match in found.layers.changed
        for change in match.changes
    ]
    if changed:
        print_table(("layer", "what changed", "A", "B"), changed, whole=True)
    alone = [
        (side, shown(layer.name), shown(layer.kind), layer.precision, shown(", ".join(layer.origins)))
        for side, layers in ((ONLY_A, found.layers.only_a), (ONLY_B, found.layers.only_b))
        for layer in layers
    ]
    if alone:
        print_table(("unmatched", "layer", "kind", "precision", "from"), alone, whole=True)
    counts = ", ".join(f"{what} {count}" for what, count in found.layers.counts.items())
    told = "" if found.a.layers.detailed and found.b.layers.detailed else " as far as they are told"
    typer.echo(f"they differ: {counts or 'device memory'}" if not found.same else f"they are the same{told}")


def _figure(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _change(a: int | None, b: int | None) -> str:
    if a is None or b is None or a == b:
        return ""
    return f"{b - a:+,}" + (f" ({b / a - 1:+.1%})" if a else "")
