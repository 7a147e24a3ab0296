"""What a command is given to work on: a model's name, or a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import SpecError
from harness.spec.catalog import load
from harness.spec.catalog_file import name_of, read_file
from harness.spec.model import ModelSpec, admit
from harness.spec.onnx_model import interface, validate
from harness.spec.profile import Profile, Range
from harness.spec.source import OnnxFile, PlanFile

FP32 = "fp32"  # the precision of what nothing is said of: the model as it is
PLANS = (".plan", ".engine", ".trt")
# Build options that count for a plan, too: what it is loaded with, and that it brings a runtime of its own.
LOADING = ("plugins=", "flags=VERSION_COMPATIBLE")


def model_of(target: str, extra: Sequence[Path] = ()) -> ModelSpec:
    """The model that ``target`` names: an .onnx, .toml or plan file, or a model of the catalog.

    SpecError when there is no such thing, or when the ONNX file is not one, is cut short or invalid,
    or refers to data that is missing or lies elsewhere.
    """
    file = Path(target)
    if file.suffix in (".onnx", ".toml") or (file.suffix in PLANS and not file.is_file()):
        model = read_file(file)
    elif file.suffix in PLANS:
        model = ModelSpec(name_of(file), PlanFile(file.absolute()), origin=str(file))
    elif file.is_dir():
        raise SpecError(f"{file}: is a folder: name one model; `trt-harness models --models {file}` lists those in it")
    elif file.is_file():
        raise SpecError(f"{file}: neither an .onnx, a .toml, nor a plan ({', '.join(PLANS)})")
    else:
        model = load(extra)[target]
    if isinstance(model.source, OnnxFile):
        validate(model.source.path())
    return model


def named_plan(target: str) -> tuple[Path, ...]:
    """The plan that ``target`` itself is, and is trusted for: naming it is what loads it. Else none."""
    file = Path(target)
    return (file,) if file.suffix in PLANS and file.is_file() else ()


def admits(model: ModelSpec, given: Mapping[str, str | Sequence[str] | bool | None]) -> None:
    """SpecError when ``model`` is a plan and an option says how to build it.

    ``given`` has options as they were typed, by name: None, False or nothing for those that were not.
    """
    if model.source.kind != "plan":
        return
    for option, typed in given.items():
        values = [typed] if isinstance(typed, str) else [""] if typed is True else typed or ()
        for value in values:
            if not (option.endswith("build-option") and value.startswith(LOADING)):
                said = f"{option} {value}".strip()
                raise SpecError(
                    f"{model.origin or model.id}: is a plan, which was built before: {said} can't change it: "
                    "leave it out, or name the model in the plan's place"
                )


def with_profile(model: ModelSpec, given: Sequence[str]) -> ModelSpec:
    """``model`` on one profile: its first, with what ``given`` says (``symbol=min:opt:max``) put in its place.

    SpecError for what can't be read, and for a profile that the model does not admit.
    """
    if given:
        first = model.profiles[0]
        ranges = {**dict(first.ranges), **_ranges(given)}
        model = replace(model, profiles=(Profile.of(ranges, dict(first.values)),))
    if model.source.kind == "onnx":
        for profile in model.profiles:
            admit(model.id, profile, interface(model.source.path()))
    return model


def _ranges(given: Sequence[str]) -> dict[str, Range]:
    ranges: dict[str, Range] = {}
    for text in given:
        symbol, equals, sizes = text.rpartition("=")
        if not equals or not symbol:
            raise SpecError(f"--profile {text!r}: write DIMENSION=MIN:OPT:MAX, as in batch=1:8:32 or ids:1=4:16:64")
        if symbol in ranges:
            raise SpecError(f"--profile: {symbol!r} is given twice; several profiles go into a TOML file")
        try:
            ranges[symbol] = Range.parse(sizes)
        except SpecError as error:
            raise SpecError(f"--profile {text!r}: {error}") from None
    return ranges
