"""Bringing known failures up to date with what a run recorded, in the text of their files."""

from __future__ import annotations

import dataclasses
import datetime
import glob
import itertools
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import SpecError
from harness.ledger.expectations import (
    FAILING_STAGES,
    GATE,
    NO_ENTRY,
    PARTS,
    REQUIRED,
    TABLE,
    Entry,
    tables_of,
    understood,
)
from harness.ledger.records import UNSEEN, Record
from harness.settings import BEST
from harness.spec.cell import Cell

_HEAD = re.compile(rf"\s*\[\[\s*{TABLE}\s*\]\]")
_CHANGING = re.compile(  # numbers, addresses, paths
    r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.])|\b0x[0-9a-fA-F]+|(?<!\w)(?:/[\w.+-]+){2,}"
)
_LENGTH = 120  # characters of a message that tell it from others
_PASSING = ("passed", "unexpected_pass")


@dataclass(frozen=True)
class Change:
    """What `update` did: ``action`` is "added", "removed", "narrowed", or "left" for what no entry can say."""

    action: str
    entry: Entry
    reason: str

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {getattr(self.entry, part)}" for part in PARTS if getattr(self.entry, part) != "*")
        return f"{self.entry.backend}.toml: {self.action}: {parts or 'any cell'}, {self.entry.stage}: {self.reason}"


def update(folder: Path, records: Iterable[Record], owner: str, expires: datetime.date) -> tuple[Change, ...]:
    """Bring the files in ``folder`` to what ``records`` say; of a cell's records the last one counts.

    An entry whose cells all pass is removed. One of whose cells some pass is replaced by entries for
    those that still fail, with its cause, owner and date. A failure that no entry explains gets one,
    as wide as the records allow, for the version and GPU they come from; its cause is empty, which
    is a problem until a human fills it in. A regression gets none, and is "left". Entries that can't be understood
    stay as they are, and so do expired ones, comments and order. SpecError when a file can't be read.
    """
    latest = {(record.node, record.cell): record for record in records if record.verdict not in UNSEEN}
    by_backend: dict[str, list[Record]] = {}
    for record in latest.values():
        if record.backend:
            cell = dataclasses.replace(record.cell, backend=record.backend)
            by_backend.setdefault(record.backend, []).append(dataclasses.replace(record, cell=cell))
    changes: list[Change] = []
    for backend, covered in sorted(by_backend.items()):
        path = folder / f"{backend}.toml"
        preamble, blocks = _blocks(path)
        kept, entries, made = _revised(backend, blocks, covered)
        added = _additions(covered, entries, owner, expires)
        kept += [_spelled(change.entry) for change in added if change.action == "added"]
        made += added
        if any(change.action != "left" for change in made):
            _write(path, preamble + "".join(kept))
        changes += made
    return tuple(changes)


def _revised(
    backend: str, blocks: Iterable[tuple[str, Mapping[str, Any]]], covered: Sequence[Record]
) -> tuple[list[str], list[Entry], list[Change]]:
    """The text of the entries that stay, the entries themselves, and what became of the others."""
    kept: list[str] = []
    entries: list[Entry] = []
    changes: list[Change] = []
    for block, table in blocks:
        entry, _ = understood(backend, "", table)
        if entry is None:
            kept.append(block)
            continue
        described = [r for r in covered if entry.describes(r.cell) and entry.applies(r.environment)]
        passing = sum(r.verdict in _PASSING for r in described)
        if not passing:
            kept.append(block)
            entries.append(entry)
            continue
        failing = [r for r in described if _is_explained(r, [entry])]
        narrower = [dataclasses.replace(entry, **parts) for parts in _globs(failing, described)]
        kept += map(_spelled, narrower)
        entries += narrower
        changes.append(
            Change("narrowed" if narrower else "removed", entry, f"{passing} of {len(described)} cells pass")
        )
    return kept, entries, changes


def _additions(covered: Sequence[Record], entries: Sequence[Entry], owner: str, expires: datetime.date) -> list[Change]:
    """An entry for every way to fail that ``entries`` do not explain."""
    groups: dict[Entry, list[Record]] = {}
    for record in covered:
        if record.verdict == "failed" and not _is_explained(record, entries):
            proposal = _proposal(record, owner, expires)
            if record.stage == GATE:  # whatever got worse, and by how much
                proposal = dataclasses.replace(proposal, message="")
            groups.setdefault(proposal, []).append(record)
    changes = []
    for proposal, failing in groups.items():
        if proposal.stage == GATE:
            count = f"{len(failing)} cell{'s' if len(failing) > 1 else ''} got worse"
            changes.append(Change("left", proposal, f"{count}: {NO_ENTRY}"))
            continue
        if proposal.stage not in FAILING_STAGES:
            changes.append(Change("left", proposal, f"{len(failing)} cells fail where no failure can be expected"))
            continue
        changes += [
            Change("added", dataclasses.replace(proposal, **parts), "write its cause")
            for parts in _globs(failing, covered)
        ]
    return changes


def _is_explained(record: Record, entries: Iterable[Entry]) -> bool:
    return record.verdict not in _PASSING and any(
        entry.describes(record.cell)
        and entry.applies(record.environment)
        and entry.explains(record.stage, record.message)
        for entry in entries
    )


def _proposal(record: Record, owner: str, expires: datetime.date) -> Entry:
    """An entry for this way to fail, on this version and kind of device, in any cell."""
    version = str(record.environment.get("version", ""))
    return Entry(
        backend=record.cell.backend,
        stage=record.stage,
        message=_pattern(record.message, record.cell.backend),
        cause="",
        owner=owner,
        expires=expires,
        version=".".join([*version.split(".")[:2], "*"]) if version else "*",
        gpu=bool(record.environment["gpu"]) if "gpu" in record.environment else None,
    )


def _pattern(message: str, backend: str) -> str:
    """A regular expression for the first line of ``message``, whatever its cell, numbers and paths."""
    line = (message.strip().splitlines() or [""])[0]
    # Comparisons begin with their cell, "bert at fp16 at opt on tensorrt: ", which the entry gives by its globs.
    line = re.sub(rf"^.* on (?:{re.escape(backend)}|{BEST}): ", "", line)[:_LENGTH]
    return r"\S+".join(re.escape(text).replace(r"\ ", " ") for text in _CHANGING.split(line))


def _globs(failing: Sequence[Record], covered: Sequence[Record]) -> list[dict[str, Any]]:
    """The parts of the widest entries, each for one model, that describe ``failing`` and no other of ``covered``."""
    found: list[dict[str, Any]] = []
    for model in sorted({record.cell.model for record in failing}):
        ours, tried = ({r.cell for r in records if r.cell.model == model} for records in (failing, covered))
        named = {"model": glob.escape(model)}
        orders = itertools.permutations(part for part in PARTS if part != "model")
        fewest = min((_split(ours, tried, named, order) for order in orders), key=len)
        found += fewest
    return found


def _split(failing: set[Cell], tried: set[Cell], named: dict[str, Any], parts: Sequence[str]) -> list[dict[str, Any]]:
    """As `_globs`, for cells that share what is ``named``, split by ``parts`` in this order as far as it takes."""
    if failing == tried:
        values = {part: {getattr(cell, part) for cell in tried} for part in parts}
        # Where only one value was tried there is no evidence for others.
        return [named | {part: glob.escape(min(v)) for part, v in values.items() if len(v) == 1 and min(v)}]
    part, *rest = parts
    found = []
    for value in sorted({getattr(cell, part) for cell in failing}):
        ours, theirs = ({cell for cell in cells if getattr(cell, part) == value} for cells in (failing, tried))
        found += _split(ours, theirs, named | ({part: glob.escape(value)} if value else {}), rest)
    return found


def _blocks(path: Path) -> tuple[str, list[tuple[str, Mapping[str, Any]]]]:
    """What stands before the first entry; then every entry, its text with the comment right above it."""
    if not path.exists():
        return f"# Known failures of {path.stem}: see harness/ledger/expectations.py\n\n", []
    text = path.read_bytes()
    tables = tables_of(text)
    if isinstance(tables, str):
        raise SpecError(f"{path}: {tables}")
    lines = text.decode().splitlines(keepends=True)
    starts = []
    for head in (number for number, line in enumerate(lines) if _HEAD.match(line)):
        start = head
        while start > 0 and lines[start - 1].lstrip().startswith("#"):
            start -= 1
        starts.append(start)
    bounds = [*starts, len(lines)]
    blocks = ["".join(lines[start:end]) for start, end in itertools.pairwise(bounds)]
    if [tables_of(block.encode()) for block in blocks] != [[table] for table in tables]:
        raise SpecError(f"{path}: every entry must begin with a line [[{TABLE}]], and no other line look like one")
    return "".join(lines[: bounds[0]]), list(zip(blocks, tables, strict=True))


def _spelled(entry: Entry) -> str:
    lines = [f"[[{TABLE}]]"]
    for key in (*PARTS, "version", "gpu", *REQUIRED):
        value = getattr(entry, key)
        if isinstance(value, bool):
            lines.append(f"{key} = {str(value).lower()}")
        elif isinstance(value, str) and value != "*":
            # A regular expression reads better without every backslash doubled.
            literal = "\\" in value and "'" not in value and value.isprintable()
            quoted = f"'{value}'" if literal else json.dumps(value).replace("\x7f", "\\u007f")
            lines.append(f"{key} = {quoted}")
        elif isinstance(value, datetime.date):
            lines.append(f"{key} = {value}")
    return "\n".join(lines) + "\n\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text.rstrip("\n") + "\n")
    Path(name).replace(path)
