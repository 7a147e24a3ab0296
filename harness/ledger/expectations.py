"""Known failures: which cells fail, at which stage, with which message, why, whose they are, until when.

A folder holds one ``<backend>.toml`` a backend, each a list of entries::

    [[failure]]
    model = "bert*"            # globs: test, model, precision, variant, point; "*" unless given
    precision = "fp16"
    version = "8.6.*"          # glob on the backend's version; any unless given
    gpu = true                 # only with a GPU, or only without; either unless given
    stage = "compare"          # where it fails
    message = "max abs"        # regular expression, found anywhere in the message
    cause = "LayerNorm overflows in fp16"
    owner = "ada"
    expires = 2026-12-31       # the last day that it holds

An entry excuses the cells that it describes when they fail as it says, and nothing else: a described
cell that passes is an unexpected pass, and an entry that describes no cell is unmatched. Both fail.
A regression of performance is none of them: a quarantine excuses it (`harness.ledger.baseline_file`).
"""

from __future__ import annotations

import datetime
import fnmatch
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import STAGES
from harness.settings import BACKENDS, FAKE
from harness.spec.cell import Cell

TABLE = "failure"
PARTS = ("test", "model", "precision", "variant", "point")  # of a cell, as globs
FAILING_STAGES = (*STAGES, "compare")
GATE = "gate"  # where a regression fails: no entry excuses one, of whatever size, but a quarantine
NO_ENTRY = "a regression is no known failure: a quarantine in the file of baselines excuses it, until a day"
REQUIRED = ("stage", "message", "cause", "owner", "expires")
_TYPES: dict[str, type] = {
    **dict.fromkeys((*PARTS, "version", "stage", "message", "cause", "owner"), str),
    "gpu": bool,
    "expires": datetime.date,
}


@dataclass(frozen=True)
class Problem:
    """What is wrong with an expectation. ``kind`` is one of the names below; ``place`` says which entry.

    "unreadable", "unknown backend", "unknown key", "wrong type", "missing", "unknown stage",
    "bad message", "expired", "unknown model", "unmatched".
    """

    kind: str
    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.kind}: {self.text}"


@dataclass(frozen=True)
class Entry:
    """One known failure, as above."""

    backend: str
    stage: str
    message: str
    cause: str
    owner: str
    expires: datetime.date
    test: str = "*"
    model: str = "*"
    precision: str = "*"
    variant: str = "*"
    point: str = "*"
    version: str = "*"
    gpu: bool | None = None
    place: str = field(default="", compare=False)  # "tensorrt.toml, failure 3"

    def applies(self, environment: Mapping[str, Any]) -> bool:
        """Whether its conditions on version and GPU hold; ``environment`` is that of a record."""
        version_holds = fnmatch.fnmatchcase(str(environment.get("version", "")), self.version)
        return version_holds and self.gpu in (None, bool(environment.get("gpu")))

    def describes(self, cell: Cell) -> bool:
        """Whether ``cell`` is one of those that are known to fail."""
        return cell.backend == self.backend and all(self.describes_part(cell, part) for part in PARTS)

    def describes_part(self, cell: Cell, part: str) -> bool:
        return fnmatch.fnmatchcase(getattr(cell, part), getattr(self, part))

    def explains(self, stage: str, message: str) -> bool:
        """Whether a failure is the one that is known."""
        return stage == self.stage and re.search(self.message, message) is not None


@dataclass(frozen=True)
class Expectations:
    """The valid entries of a folder, in the order of the files, and what is wrong with the others."""

    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()

    def match(self, cell: Cell, stage: str, message: str, environment: Mapping[str, Any]) -> Entry | None:
        """The first entry that excuses this failure."""
        return next((entry for entry in self.covering(cell, environment) if entry.explains(stage, message)), None)

    def covering(self, cell: Cell, environment: Mapping[str, Any]) -> tuple[Entry, ...]:
        """Every entry that says that ``cell`` fails here. If it passes and there is one, that is unexpected."""
        return tuple(entry for entry in self.entries if entry.describes(cell) and entry.applies(environment))

    def unmatched(
        self,
        cells: Iterable[Cell],
        environments: Mapping[str, Mapping[str, Any]],
        narrowed: Collection[str] = (),
    ) -> tuple[Problem, ...]:
        """The entries that describe none of ``cells``, though they should.

        ``cells`` are all that were collected; with some deselected one by one (``-k``, a shard)
        nothing follows from a cell that is not there, and this is not to be asked. ``environments``
        are those of the backends that ran: an entry whose backend did not, or whose conditions do
        not hold, is left alone. ``narrowed`` names the parts of a cell (``PARTS``) that an option
        chose from: an entry for a value that was not chosen is left alone, too.
        """
        known = list(cells)
        found = []
        for entry in self.entries:
            environment = environments.get(entry.backend)
            if environment is None or not entry.applies(environment):
                continue
            ours = [cell for cell in known if cell.backend == entry.backend]
            if not ours or any(entry.describes(cell) for cell in ours):
                continue
            if all(any(entry.describes_part(cell, part) for cell in ours) for part in narrowed):
                given = ", ".join(f"{part} {getattr(entry, part)!r}" for part in PARTS if getattr(entry, part) != "*")
                text = f"no cell on {entry.backend} has {given or 'anything'}: mend the entry, or remove it"
                found.append(Problem("unmatched", entry.place, text))
        return tuple(found)


def load(folder: Path, models: Collection[str] | None = None, today: datetime.date | None = None) -> Expectations:
    """Read and check every file of ``folder``; none when it does not exist.

    ``models`` are the ids of the catalog: a model glob that matches none is a problem (None: not
    checked). ``today`` decides what has expired (None: the date of the clock).
    """
    day = today or datetime.date.today()
    entries: list[Entry] = []
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.toml")):
        if path.stem.partition(":")[0] not in (*BACKENDS, FAKE):
            problems.append(Problem("unknown backend", path.name, f"name the file after one of {', '.join(BACKENDS)}"))
            continue
        tables = tables_of(path.read_bytes())
        if isinstance(tables, str):
            problems.append(Problem("unreadable", path.name, tables))
            continue
        for number, table in enumerate(tables, start=1):
            entry, wrong = understood(path.stem, f"{path.name}, {TABLE} {number}", table)
            if entry is not None:
                wrong += _doubts(entry, models, day)
                if not wrong:
                    entries.append(entry)
            problems += wrong
    return Expectations(tuple(entries), tuple(problems))


def tables_of(text: bytes) -> list[Mapping[str, Any]] | str:
    """Every ``[[failure]]`` of a file, or why there are none to be had."""
    try:
        document = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return f"not TOML: {error}"
    others = sorted(document.keys() - {TABLE})
    if others:
        return f"only [[{TABLE}]] belongs here, not {', '.join(others)}"
    tables = document.get(TABLE, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return f"{TABLE} must be a list of tables: write [[{TABLE}]]"
    return tables


def understood(backend: str, place: str, table: Mapping[str, Any]) -> tuple[Entry | None, list[Problem]]:
    """The entry that a table spells, if it can be understood, and what is wrong with its form."""
    wrong = []
    for key, value in table.items():
        if key not in _TYPES:
            wrong.append(Problem("unknown key", place, f"{key!r}: known are {', '.join(_TYPES)}"))
        elif type(value) is not _TYPES[key]:
            want = "a date without quotes, as 2026-12-31" if key == "expires" else f"a {_TYPES[key].__name__}"
            wrong.append(Problem("wrong type", place, f"{key} = {value!r} is not {want}"))
    wrong += [Problem("missing", place, f"no {key}") for key in REQUIRED if key not in table]
    if wrong:
        return None, wrong
    if table["stage"] == GATE:
        wrong.append(Problem("unknown stage", place, f"{GATE!r}: {NO_ENTRY}"))
    elif table["stage"] not in FAILING_STAGES:
        wrong.append(Problem("unknown stage", place, f"{table['stage']!r}: known are {', '.join(FAILING_STAGES)}"))
    try:
        re.compile(table["message"])
    except re.error as error:
        wrong.append(Problem("bad message", place, f"{table['message']!r} is no regular expression: {error}"))
    return (None, wrong) if wrong else (Entry(backend=backend, place=place, **table), [])


def _doubts(entry: Entry, models: Collection[str] | None, day: datetime.date) -> list[Problem]:
    """What keeps an entry that can be understood from counting."""
    found = [
        Problem("missing", entry.place, f"an empty {key}: {hint}")
        for key, hint in (
            ("message", "give words that tell this failure from others"),
            ("cause", "say why it fails"),
            ("owner", "say who will mend it"),
        )
        if not getattr(entry, key).strip()
    ]
    if day > entry.expires:
        found.append(
            Problem("expired", entry.place, f"it held until {entry.expires}: mend the failure, or renew the date")
        )
    if models is not None and not any(fnmatch.fnmatchcase(model, entry.model) for model in models):
        found.append(Problem("unknown model", entry.place, f"no model of the catalog matches {entry.model!r}"))
    return found
