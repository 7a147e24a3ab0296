"""The options that commands share: rows of the table in `harness.settings`, without its ``trt-``."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from harness.errors import SpecError
from harness.settings import Settings

_ROWS = {row.name: row for row in Settings.table()}


def _row(name: str, *short: str) -> OptionInfo:
    row = _ROWS[name]
    option: OptionInfo = typer.Option(
        f"--{name.replace('_', '-')}", *short, help=f"{row.help} [environment: {row.variable}]", metavar=row.metavar
    )
    return option


Texts = list[str] | None
Backends = Annotated[Texts, _row("backend")]
Precisions = Annotated[Texts, _row("precision")]
Points = Annotated[Texts, _row("point")]
Models = Annotated[Texts, _row("models")]
BuildOptions = Annotated[Texts, _row("build_option")]
Pythons = Annotated[Texts, _row("python")]
Text = str | None
Cache = Annotated[Text, _row("cache")]
CacheSize = Annotated[Text, _row("cache_size")]
TimingCache = Annotated[Text, _row("timing_cache")]
Trust = Annotated[Texts, _row("trust")]
Seed = Annotated[Text, _row("seed")]
BuildTimeout = Annotated[Text, _row("build_timeout")]
RunTimeout = Annotated[Text, _row("run_timeout")]
ProbeTimeout = Annotated[Text, _row("probe_timeout")]
Expectations = Annotated[Text, _row("expectations")]
Store = Annotated[Text, _row("store")]
Baselines = Annotated[Text, _row("baselines")]
Kept = Annotated[Text, _row("kept")]
InProcess = Annotated[bool, typer.Option("--in-process", help=f"{_ROWS['in_process'].help}")]
Profiles = Annotated[
    Texts,
    typer.Option(
        "--profile",
        metavar="DIM=MIN:OPT:MAX",
        help="range of a dynamic dimension, by its name or as tensor:axis; once a dimension",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


def settings(*, in_process: bool = False, **given: Any) -> Settings:
    """Settings from options (None: not given), environment, ``pyproject.toml`` here, and defaults."""
    try:
        return Settings.read({**given, "in_process": "true" if in_process else None})
    except SpecError as error:
        # The table speaks of pytest's options, which have a prefix.
        message = str(error)
        raise SpecError("--" + message[6:] if message.startswith("--trt-") else message) from None
