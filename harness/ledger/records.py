"""One JSON record a cell, appended so that a crash loses nothing that was recorded.

A run is a folder; every process of the run appends to a file of its own there, ``<process>.jsonl``,
one record a line::

    {"schema": 1,                       version of this layout
     "run": "20260131-142501-9f3a",     run id
     "worker": "gw0",                   process that wrote it
     "cell": {"test", "model", "precision", "variant", "point", "backend"},   as in harness.spec.cell
     "id": "test_matches_oracle[...]",  of the cell, to search by
     "node": "suites/.../test_x.py::...",  pytest's id of the test, to repeat it by
     "verdict": "passed" | "cached" | "failed" | "known_failure" | "unexpected_pass" | "not_covered" | "error",
     "stage": "compare",                the last stage reached, which is the one that failed; "gate": a regression
     "message": "",                     why it did not pass; for cached: what was not seen again
     "fix": "",                         for not_covered: the command or hardware that would cover it
     "cause": "",                       for known_failure: what its entry gives as cause
     "key": "", "plan_key": "",         of the engine
     "environment": {...},              as harness.runtime.fingerprint.environment gives it
     "seconds": {"build": 0.5, ...},    by stage: export, inputs, parse, build, transfer, deserialize, context, run,
                                        measure, serialize, refit, inspect, oracle, compare; and drawing, of examples
     "comparison": {...} | null,        summary of the worst output
     "facts": {...},                    what else is worth keeping: memory, plan size, weak oracle
     "started": 1769869501.2,           seconds since 1970, UTC
     "duration": 0.8}                   seconds

Numbers that JSON can't spell are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, get_args

from harness.errors import HarnessError
from harness.runtime.lines import LineLog
from harness.settings import BEST
from harness.spec.canonical import plain
from harness.spec.cell import Cell

SCHEMA = 1
SUFFIX = ".jsonl"

# "cached": it was built before, and all that can be done here is to verify its checksum
Verdict = Literal["passed", "cached", "failed", "known_failure", "unexpected_pass", "not_covered", "error"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
PERF = "perf"  # of a record's facts: see `harness.pytest_plugin.perf`
NOT_RUN = "budget: not run"  # the message of a cell that was left out for want of time
UNSEEN: tuple[Verdict, ...] = ("cached", "not_covered")  # of which a run has learnt nothing new


class RecordError(HarnessError, ValueError):
    """A line is no record of this schema; the message says why."""


@dataclass(frozen=True)
class Record:
    """What became of one cell. The fields are those of the JSON above."""

    cell: Cell
    verdict: Verdict
    node: str = ""
    stage: str = ""
    message: str = ""
    fix: str = ""
    cause: str = ""
    key: str = ""
    plan_key: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    comparison: Mapping[str, Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    started: float = 0.0
    duration: float = 0.0
    run: str = ""
    worker: str = ""

    @property
    def backend(self) -> str:
        """The one that was asked for; for "best" the one that this came to, if it came to any."""
        return str(self.environment.get("backend", BEST)) if self.cell.backend == BEST else self.cell.backend

    def to_json(self) -> str:
        """One line without its end. TypeError for what JSON has no word for."""
        fields = {"schema": SCHEMA, "id": self.cell.id, **vars(self), "cell": vars(self.cell)}
        try:  # nearly always; only numbers that JSON can't spell need every value looked at
            return _JSON.encode(fields)
        except ValueError:
            return json.dumps(_spelled(plain(fields)), separators=(",", ":"), allow_nan=False, default=_number)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """RecordError when ``text`` is not a whole record of schema `SCHEMA`."""
        try:
            fields = json.loads(text)
        except ValueError as error:
            raise RecordError(f"not JSON: {error}") from None
        if not isinstance(fields, dict) or "schema" not in fields:
            raise RecordError("not a record: it names no schema")
        if fields.pop("schema") != SCHEMA:
            raise RecordError(f"written in another schema than {SCHEMA}")
        fields.pop("id", None)
        try:
            record = cls(**{**fields, "cell": Cell(**fields["cell"])})
        except (KeyError, TypeError) as error:
            raise RecordError(f"not a record of schema {SCHEMA}: {error}") from None
        if record.verdict not in VERDICTS:
            raise RecordError(f"unknown verdict {record.verdict!r}")
        return record


def new_run_id() -> str:
    """Time in UTC and four random digits: ``20260131-142501-9f3a``."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


class RecordLog:
    """Appends the records of one process to ``folder/<process>.jsonl``, each whole or not at all (`LineLog`)."""

    def __init__(self, folder: Path, run_id: str, process: str) -> None:
        self.run_id, self.process = run_id, process
        self._lines = LineLog(folder / f"{process}{SUFFIX}")

    @property
    def path(self) -> Path:
        return self._lines.path

    def append(self, record: Record) -> Record:
        """Write ``record`` with this run and process filled in, and return it so. OSError when the disk is full."""
        return self.extend([record])[0]

    def extend(self, records: Iterable[Record]) -> list[Record]:
        """As `append`, all of ``records`` in one write."""
        here = self.run_id, self.process
        made = [
            record if (record.run, record.worker) == here else dataclasses.replace(record, run=here[0], worker=here[1])
            for record in records
        ]
        self._lines.append([record.to_json() for record in made])
        return made

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> RecordLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True)
class Run:
    """All that a run recorded. ``problems`` names, by file and line, what could not be read."""

    records: tuple[Record, ...]
    problems: tuple[str, ...] = ()


def read_run(folder: Path) -> Run:
    """The records in ``folder``, in the order of their beginning.

    A line that a killed writer left unfinished, like any that is no record, is a problem and hides
    no other.
    """
    records: list[Record] = []
    problems: list[str] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        *lines, rest = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            record = _read(line)
            if isinstance(record, Record):
                records.append(record)
            else:
                problems.append(f"{path}:{number}: {record}")
        if rest:
            problems.append(f"{path}:{len(lines) + 1}: cut short after {len(rest)} bytes: its writer was killed")
    return Run(tuple(sorted(records, key=lambda record: record.started)), tuple(problems))


def mend(folder: Path) -> None:
    """Take out of the files in ``folder`` what a killed writer left unfinished, when nobody writes there."""
    for path in folder.glob(f"*{SUFFIX}"):
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)


def latest(runs: Iterable[Run]) -> tuple[Record, ...]:
    """Of each cell the record that began last, whichever run it stands in; in the order of their beginning."""
    found: dict[tuple[str, str], Record] = {}
    for record in sorted((record for run in runs for record in run.records), key=lambda record: record.started):
        found.pop((record.node, record.cell.id), None)
        found[record.node, record.cell.id] = record
    return tuple(found.values())


def _read(line: bytes) -> Record | str:
    """The record in ``line``, or why there is none."""
    try:
        return Record.from_json(line.decode())
    except (RecordError, UnicodeDecodeError) as error:
        return str(error)


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    return value


def _plainly(value: Any) -> Any:
    """What json does not know of a record's values."""
    return _number(value) if hasattr(value, "item") else plain(value)


_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plainly)


def _number(value: Any) -> Any:
    """A numpy scalar as Python's own."""
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"a record can't hold {type(value).__name__} {value!r}")
    return _spelled(item())
