"""``build``: a model into a plan, and how long each stage took."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.cli.exits import PASSED
from harness.cli.output import leave, print_table, progress_bar, say
from harness.cli.target import model_of, with_profile


def build(
    model: Annotated[str, typer.Argument(help="a model's name, an .onnx or a .toml file", metavar="MODEL")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="the plan file to write (default: MODEL.plan here)")
    ] = None,
    profile: options.Profiles = None,
    precision: Annotated[str, typer.Option("--precision", help="precision recipe")] = "fp32",
    backend: Annotated[str, typer.Option("--backend", help="backend, or 'best': the first that can build")] = "best",
    build_option: options.BuildOptions = None,
    models: options.Models = None,
    cache: options.Cache = None,
    timing_cache: options.TimingCache = None,
    python: options.Pythons = None,
    build_timeout: options.BuildTimeout = None,
    probe_timeout: options.ProbeTimeout = None,
    in_process: options.InProcess = False,
    json: options.Json = False,
) -> None:
    """Build a TensorRT plan and write it to a file."""
    import numpy as np

    from harness.runtime.choice import choose, needs_of
    from harness.runtime.workbench import Workbench
    from harness.spec import EngineSpec, recipe

    settings = options.settings(
        backend=[backend],
        models=models,
        build_option=build_option,
        cache=cache,
        timing_cache=timing_cache,
        python=python,
        build_timeout=build_timeout,
        probe_timeout=probe_timeout,
        in_process=in_process,
    )
    asked = with_profile(model_of(model, settings.models), profile or ())
    spec = EngineSpec.of(asked, recipe(precision), asked.config.with_options(dict(settings.build_option)))
    file = output or Path(f"{asked.id}.plan")
    with Workbench(settings) as bench:
        choice = choose(bench.probe, settings.backend[0], ("build", *spec.precision.needs, *needs_of(asked)))
        say(f"{choice.backend} builds {asked.id} at {precision}{choice.why}")
        with progress_bar() as progress:
            plan = bench.pool.plan(spec, choice.backend, progress=progress)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.asarray(plan.data).tofile(file)
    document = {
        "model": asked.id,
        "precision": precision,
        "backend": choice.backend,
        "reason": choice.reason,
        "key": plan.key,
        "plan_key": plan.plan_key,
        "cached": plan.cached,
        "seconds": plan.seconds,
        "bytes": plan.data.nbytes,
        "file": str(file),
    }
    if not json:
        seconds = ", ".join(f"{stage} {spent:.2f} s" for stage, spent in plan.seconds.items())
        shown = {
            "file": file,
            "size": f"{plan.data.nbytes:,} bytes",
            "built": seconds or "before: taken from the cache",
            "key": plan.key,
        }
        print_table(("plan", ""), [(name, str(value)) for name, value in shown.items()])
    leave(PASSED, document, as_json=json)
