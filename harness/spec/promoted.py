"""Examples that failed once and are tried ever after: a TOML file beside the tests.

::

    [[example]]
    model = "bert"                # the id of a model
    test = "test_inside"          # by name or pattern; every test that tries examples, when left out
    example = '{"profile":0,"sizes":{"batch":3,"seq":17},"values":{},"seed":5}'    # as the failure names it
    why = "rows from the third on came out wrong on 8.6.1 (nightly of 2026-05-04)"
"""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from harness.errors import SpecError
from harness.spec.example import Example
from harness.spec.names import suggestion

NAME = "examples.toml"


@dataclass(frozen=True)
class Promoted:
    """One entry. ``place`` says where it stands."""

    model: str
    example: Example
    why: str
    test: str = "*"
    place: str = ""

    def holds_for(self, model: str, test: str) -> bool:
        return self.model == model and fnmatch.fnmatchcase(test, self.test)


def read(path: Path, models: Collection[str]) -> tuple[Promoted, ...]:
    """The entries of ``path``, none when it does not exist. SpecError for one that is wrong, or of no model."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not a TOML file: {error}") from None
    unknown = sorted(content.keys() - {"example"})
    if unknown or not isinstance(content.get("example", []), list):
        raise SpecError(f"{path}: {unknown[0] if unknown else 'example'!r}: write tables [[example]], and nothing else")
    return tuple(
        _entry(f"{path.name}: example {number}", table, models)
        for number, table in enumerate(content.get("example", []), start=1)
    )


def _entry(place: str, table: dict[str, Any], models: Collection[str]) -> Promoted:
    known = [field.name for field in fields(Promoted) if field.name != "place"]
    for key, value in table.items():
        if key not in known:
            raise SpecError(f"{place}: unknown key {key!r}: {suggestion(key, known)}keys: {', '.join(known)}")
        if not isinstance(value, str) or not value.strip():
            raise SpecError(f"{place}: {key!r} is to be a text, not {value!r}")
    for key in ("model", "example", "why"):
        if key not in table:
            raise SpecError(f"{place}: it lacks {key!r}")
    if table["model"] not in models:
        raise SpecError(f"{place}: no model {table['model']!r}: {suggestion(table['model'], models)}")
    try:
        return Promoted(**{**table, "example": Example.parse(table["example"])}, place=place)
    except SpecError as error:
        raise SpecError(f"{place}: {error}") from None
