"""``check``: the quick qualification of one model, from its file to a verdict on its numbers."""

from __future__ import annotations

import json as jsons
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.exits import FAILED, NOTHING, PASSED
from harness.cli.output import leave, print_table, progress_bar, repeat, say
from harness.cli.target import admits, model_of, named_plan, with_profile
from harness.errors import SpecError
from harness.settings import BEST, Settings
from harness.spec import POINTS, EngineSpec, ModelSpec, ToleranceOverride, recipe
from harness.spec.cell import Cell

if TYPE_CHECKING:
    from harness.judge.compare import Comparison, OutputComparison
    from harness.ledger.records import Record
    from harness.runtime.choice import Roles

STAGES = ("export", "parse", "build", "deserialize", "context")


def check(
    model: Annotated[str, typer.Argument(help="a model's name, an .onnx or .toml file, or a plan", metavar="MODEL")],
    profile: options.Profiles = None,
    precision: options.Precisions = None,
    backend: options.Backends = None,
    inputs: Annotated[Path | None, typer.Option("--inputs", metavar="NPZ", help="inputs to use, by name")] = None,
    outputs: Annotated[
        Path | None, typer.Option("--outputs", metavar="NPZ", help="outputs that --inputs must give, by name")
    ] = None,
    atol: Annotated[
        float | None, typer.Option("--atol", min=0, help="absolute tolerance (0 with --rtol alone)")
    ] = None,
    rtol: Annotated[
        float | None, typer.Option("--rtol", min=0, help="relative tolerance (0 with --atol alone)")
    ] = None,
    point: options.Points = None,
    seed: options.Seed = None,
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
    """Build a model and compare what it computes with onnxruntime, or with --outputs, at every point.

    Without --precision at fp32, that is as the model is; without --backend on the best one here.
    """
    from harness.cli.qualify import Qualification
    from harness.ledger.completeness import lost
    from harness.runtime.choice import needs_of, roles
    from harness.runtime.workbench import Workbench

    settings = options.settings(
        precision=precision,
        backend=backend,
        point=point,
        seed=seed,
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
    asked = with_profile(model_of(model, settings.models), profile or ())
    admits(asked, {"--build-option": build_option})
    asked = _with_options(asked, settings, inputs, outputs, atol, rtol)
    specs = [EngineSpec.of(asked, recipe(name)) for name in _said(settings, "precision", ("fp32",))]

    def again(cell: Cell) -> str:
        given: list[object] = ["check", model]
        for name, values in {
            "profile": profile,
            "build-option": build_option,
            "models": models,
            "trust": trust,
            "python": python,
        }.items():
            given += [word for value in values or () for word in (f"--{name}", value)]
        single = {"inputs": inputs, "outputs": outputs, "atol": atol, "rtol": rtol, "seed": seed}
        given += [word for name, value in single.items() if value is not None for word in (f"--{name}", value)]
        given += ["--precision", cell.precision, "--backend", cell.backend]
        given += ["--point", cell.point.partition("_")[0]] if cell.point in ("min", "opt", "max") else []
        return repeat([str(word) for word in given])

    points = [known for known in POINTS if known in settings.point]
    records: list[Record] = []
    expected: list[Cell] = []
    with Workbench(settings, trusted=named_plan(model)) as bench, progress_bar() as progress:
        run = Qualification(bench, points, settings.seed, again, progress)
        work = [
            (spec, roles(bench.probe, name, (*spec.precision.needs, *needs_of(asked))))
            for spec in specs
            for name in _said(settings, "backend", (BEST,))
        ]
        _explain(work)
        for spec, chosen in work:
            expected += run.cells(spec, chosen)
            records += run.records(spec, chosen)
        described = bench.oracle.description
    if not json:
        _show(asked, records, run.comparisons)
    whole = {record.cell for record in records if not record.cell.point}
    left = [cell.id for cell in expected if replace(cell, point="") not in whole]
    problems = lost(left, (record.cell.id for record in records))
    for problem in problems:
        say(problem)
    code = FAILED if problems else _code(records)
    document = {
        "model": asked.id,
        "oracle": described,
        "records": [jsons.loads(r.to_json()) for r in records],
        "problems": problems,
    }
    leave(code, document, as_json=json)


def _with_options(
    model: ModelSpec,
    settings: Settings,
    inputs: Path | None,
    outputs: Path | None,
    atol: float | None,
    rtol: float | None,
) -> ModelSpec:
    """``model`` with what the command line says about it. SpecError when that can't be judged."""
    if outputs is not None and inputs is None:
        raise SpecError("--outputs needs --inputs: the inputs that give these outputs")
    if inputs is not None:
        golden = None if outputs is None else (inputs, outputs)
        model = replace(model, data=inputs, golden=golden)
    if atol is not None or rtol is not None:
        said = ToleranceOverride("*", atol or 0.0, rtol or 0.0, "--atol and --rtol of the command line")
        model = replace(model, tolerances=(said,))
    model = replace(model, config=model.config.with_options(dict(settings.build_option)))
    if model.source.kind != "onnx" and model.golden is None:
        raise SpecError(
            f"{model.id}: a {model.source.kind} has no ONNX to run as an oracle: give --inputs and --outputs "
            "(in a TOML file: golden)"
        )
    return model


def _said(settings: Settings, name: str, otherwise: Sequence[str]) -> Sequence[str]:
    """A setting, or what ``check`` takes where nothing was said: pytest covers all, this is quick."""
    value: Sequence[str] = getattr(settings, name)
    default = next(row.default for row in Settings.table() if row.name == name)
    return otherwise if value is default else value


def _code(records: Sequence[Record]) -> int:
    """Failed if anything failed; nothing covered unless some point was compared."""
    if any(record.verdict == "failed" for record in records):
        return FAILED
    return PASSED if any(record.comparison for record in records) else NOTHING


def _explain(work: Sequence[tuple[EngineSpec, Roles]]) -> None:
    """Who does what, and once for each why no better backend does."""
    for spec, chosen in work:
        say(f"{spec.model.id} at {spec.precision.name}: {chosen}")
    for reason in dict.fromkeys(reason for _, chosen in work for reason in chosen.reasons):
        say(f"  {reason}")


def _show(model: ModelSpec, records: Sequence[Record], comparisons: Mapping[Cell, Comparison]) -> None:
    """How far each engine came, what each point came to, and every failure in full."""
    print_table(("precision", "backend", *STAGES, "engine"), _engines(records), f"{model.id}: stages, in seconds")
    points = [record for record in records if record.cell.point]
    if points:
        columns = ("precision", "backend", "point", "sizes", "verdict", "output", "max error", "tolerance")
        rows = [_point(record, comparisons.get(record.cell)) for record in points]
        print_table(columns, rows, f"{model.id}: outputs against {_oracle(comparisons) or 'nothing'}")
    for record in records:
        if record.verdict == "failed":
            typer.echo(f"{record.message}\n")
        elif record.verdict == "cached":
            typer.echo(f"cached: {record.cell.precision} on {record.cell.backend}: {record.message}\n")
        elif record.verdict == "not_covered":
            fix = f" (to cover it: {record.fix})" if record.fix else ""
            typer.echo(f"not covered here: {record.cell.precision} on {record.cell.backend}: {record.message}{fix}\n")


def _engines(records: Sequence[Record]) -> Iterator[tuple[str, ...]]:
    """A row an engine: its stages from the first of its records, which has paid for them."""
    seen = set()
    for record in records:
        engine = (record.cell.precision, record.cell.backend)
        if engine in seen:
            continue
        seen.add(engine)
        failed = record.stage if record.verdict == "failed" else ""
        spent = [f"{record.seconds[stage]:.2f}" if stage in record.seconds else "" for stage in STAGES]
        cells = ["failed" if stage == failed else text for stage, text in zip(STAGES, spent, strict=True)]
        if record.verdict == "not_covered":
            state = "not covered"
        elif failed in STAGES:
            state = "failed"
        else:
            state = "built" if "build" in record.seconds else "from the cache"
        yield (*engine, *cells, state)


def _point(record: Record, comparison: Comparison | None) -> tuple[str, ...]:
    cell = record.cell
    sizes = " ".join(f"{symbol}={size}" for symbol, size in sorted(record.facts.get("sizes", {}).items()))
    verdict = "not covered" if record.verdict == "not_covered" else record.verdict
    start = (cell.precision, cell.backend, cell.point, sizes, verdict)
    if comparison is None:
        return (*start, f"(no outputs: {record.stage} failed)", "", "")
    worst = _worst(comparison)
    error = f"{worst.figures.max_abs:.3g}" if worst.figures else worst.failure.value if worst.failure else "equal"
    return (*start, worst.name, error, str(worst.tolerance or ""))


def _oracle(comparisons: Mapping[Cell, Comparison]) -> str:
    return next((comparison.oracle for comparison in comparisons.values()), "")


def _worst(comparison: Comparison) -> OutputComparison:
    """The output that failed, or came nearest to it."""

    def excess(output: OutputComparison) -> float:
        return output.worst[0].excess if output.worst else 0.0

    return max(comparison.failures or comparison.outputs, key=excess)
