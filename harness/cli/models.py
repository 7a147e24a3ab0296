"""``models``: what there is to check, and its files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import options
from harness.cli.exits import FAILED, PASSED
from harness.cli.output import leave, print_json, print_table, say
from harness.errors import SpecError
from harness.spec.canonical import plain
from harness.spec.model import ModelSpec

app = typer.Typer(help="List the models, or write them as files.", invoke_without_command=True, no_args_is_help=False)


@app.callback()
def models(
    context: typer.Context,
    extra: options.Models = None,
    size: Annotated[str | None, typer.Option("--size", help="only models of this size", metavar="SIZE")] = None,
    json: options.Json = False,
) -> None:
    """List every model of the zoos, and of --models."""
    from harness.spec.catalog import load

    if context.invoked_subcommand is not None:
        context.obj = extra
        return
    catalog = load(options.settings(models=extra).models)
    sizes = sorted({model.size for model in catalog})
    if size is not None and size not in sizes:
        raise SpecError(f"--size: no model of size {size!r}: choose from {', '.join(sizes)}")
    shown = [model for model in catalog if size in (None, model.size)]
    if json:
        print_json({"models": [_described(m) for m in shown], "problems": catalog.problems})
    else:
        print_table(("model", "size", "family", "profiles", "tags"), [_row(model) for model in shown])
        for problem in catalog.problems:
            say(f"failed: {problem.message}")
    leave(FAILED if catalog.problems else PASSED)


@app.command("export")
def export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="where to write <model>.onnx", metavar="DIR")],
    names: Annotated[
        list[str] | None, typer.Argument(help="models to write (default: all tiny ones)", metavar="NAME")
    ] = None,
    json: options.Json = False,
) -> None:
    """Write models as ONNX files with their external data, each with a TOML file that `check` takes."""
    from harness.spec.catalog import load
    from harness.spec.catalog_file import to_toml
    from harness.spec.onnx_model import files_of

    catalog = load(options.settings(models=context.obj).models)
    chosen = [catalog[name] for name in names] if names else [m for m in catalog if m.size == "tiny"]
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for model in chosen:
        if model.source.kind != "onnx":
            say(f"{model.id}: left out: it is a {model.source.kind} and has no ONNX file")
            continue
        file = _copy(files_of(model.source.path()), folder, model.id)
        toml = folder / f"{model.id}.toml"
        toml.write_text(to_toml(_with_arrays(model, folder), file.relative_to(folder)), encoding="utf-8")
        written[model.id] = str(toml)
        if not json:
            typer.echo(f"{file}  {toml}")
    leave(PASSED, {"written": written}, as_json=json)


def _copy(files: list[Path], folder: Path, name: str) -> Path:
    """The model as ``<name>.onnx``; one with external data gets a folder, where the data keeps its place."""
    model, *data = files
    target = folder / f"{name}.onnx" if not data else folder / name / f"{name}.onnx"
    for file in data:
        beside = target.parent / file.relative_to(model.parent.resolve())
        beside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, beside)
    shutil.copyfile(model, target)
    return target


def _with_arrays(model: ModelSpec, folder: Path) -> ModelSpec:
    """``model`` with its .npz files copied to ``folder`` and named from there."""

    def copied(file: Path, what: str) -> Path:
        target = folder / f"{model.id}.{what}.npz"
        shutil.copyfile(file, target)
        return target.relative_to(folder)

    golden = model.golden_files()
    return replace(
        model,
        data=copied(model.data, "data") if model.data else None,
        golden=(copied(golden[0], "inputs"), copied(golden[1], "outputs")) if golden else None,
    )


def _row(model: ModelSpec) -> tuple[str, ...]:
    profiles = " | ".join(map(str, model.profiles))
    return model.id, model.size, model.family, profiles, " ".join(model.tags)


def _described(model: ModelSpec) -> dict[str, Any]:
    return {**plain(model), "id": model.id, "kind": model.source.kind, "origin": model.origin}
