"""What a session has built and measured so far, on disk: whoever begins it again goes on from there.

A folder with ``journal.jsonl``, one line a build and one a process, each appended whole, and beside it the plans
that were built and the outputs that they gave. The first line says what was asked for::

    {"kind": "session", "schema": 1, "key": "sha256 of the request", "seed": 7, "request": {...}}
    {"kind": "build", "subject": "bert", "side": "A", "number": 0, "seconds": {...}, "plan": "...", "nbytes": 1}
    {"kind": "process", "subject": "bert", "number": 3, "side": "A", "build": 0, ...}     `Process.as_json`
    {"kind": "failure", "subject": "bert", "side": "B", "message": "..."}   is tried again by whoever goes on

Whoever keeps the measurements for longer notes more in it: see `harness.ledger.measured`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import SpecError
from harness.measure.process import Process
from harness.runtime.lines import LineLog
from harness.spec.canonical import digest, plain

SCHEMA = 1
FILE = "journal.jsonl"
END = "end"


class Journal:
    """The journal in ``folder`` of what ``request`` asks for. SpecError when another one is there."""

    def __init__(self, folder: Path, request: Mapping[str, Any]) -> None:
        self.folder = folder
        self.processes: dict[tuple[str, int], Process] = {}  # by subject and number
        self.builds: dict[tuple[str, str, int], dict[str, Any]] = {}  # by subject, side and number
        self._ended: Mapping[str, Any] | None = None  # what was said at the last end, if nothing was measured since
        self.seed = secrets.randbits(32)
        key = digest({"schema": SCHEMA, "request": plain(request)})
        found = _read(folder / FILE)
        if found:
            first = found[0]
            if first.get("kind") != "session" or first.get("key") != key:
                raise SpecError(
                    f"{folder}: holds the measurements of another request: name another --output, or repeat that one: "
                    f"{json.dumps(first.get('request'))}"
                )
            self.seed = first["seed"]
            for line in found[1:]:
                self._take(line)
        self._lines = LineLog(folder / FILE)
        if not found:
            self._append(
                {"kind": "session", "schema": SCHEMA, "key": key, "seed": self.seed, "request": plain(request)}
            )

    @property
    def taken_over(self) -> int:
        """Processes that were measured before."""
        return len(self.processes)

    def process(self, subject: str, number: int, side: str, build: int, process: Process) -> Process:
        """``process`` as whoever goes on will read it: they must come to the same."""
        made = process.as_json()
        line = {"kind": "process", "subject": subject, "number": number, "side": side, "build": build}
        self._append({**line, **made})
        self._ended = None
        return self.processes.setdefault((subject, number), Process.from_json(made))

    def build(self, subject: str, side: str, number: int, **facts: Any) -> dict[str, Any]:
        self.builds[subject, side, number] = facts
        self._append({"kind": "build", "subject": subject, "side": side, "number": number, **facts})
        return facts

    def failure(self, subject: str, side: str, message: str) -> None:
        self._append({"kind": "failure", "subject": subject, "side": side, "message": message})

    def note(self, kind: str, **facts: Any) -> None:
        """A line for whoever reads the journal; nobody who goes on needs it."""
        self._append({"kind": kind, **facts})

    def end(self, said: Mapping[str, Any], **facts: Any) -> None:
        """What came of all that is here, unless that was the last word already. ``facts`` are of this time alone."""
        told = _as_read(said)
        if told != self._ended:
            self._append({"kind": END, **facts, "said": told})
        self._ended = told

    def close(self) -> None:
        self._lines.close()

    def _take(self, line: dict[str, Any]) -> None:
        kind, subject = line.pop("kind"), line.pop("subject", "")
        if kind == END:
            self._ended = line["said"]
        elif kind == "process":
            self._ended = None
            number = line.pop("number")
            del line["side"], line["build"]
            self.processes[subject, number] = Process.from_json(line)
        elif kind == "build":
            self.builds[subject, line.pop("side"), line.pop("number")] = line

    def _append(self, line: Mapping[str, Any]) -> None:
        # Thousands of samples: what JSON has types for is left to it, and `plain` makes of the rest what it can.
        self._lines.append([json.dumps(line, separators=(",", ":"), default=_spelled)])


def _spelled(value: Any) -> Any:
    made = plain(value)
    return str(value) if made is value else made


def _as_read(said: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(plain(said), default=str))


def _read(path: Path) -> list[dict[str, Any]]:
    """Every whole line; what a killed writer left unfinished was not measured."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in found if isinstance(line, dict)]
