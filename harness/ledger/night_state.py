"""How far a night has come, on disk: whoever begins it again in the same folder goes on from there.

``state.json``, written whole or not at all::

    {"schema": 1, "id": "20260131-020000-9f3a", "asked": [...],     what its command asked for
     "started": 1769824800.0, "spent": 5400.0,                      seconds, of all processes that worked on it
     "stages": {"environment": {...}, ...},                         by name what each left that came to its end
     "under_way": {"stage": "performance", "at": 1769830200.0} | null,
     "code": 0 | null}                                              exit code, once it is over
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import SpecError
from harness.ledger.records import SUFFIX
from harness.spec.canonical import plain

SCHEMA = 1
FILE, LOCK = "state.json", "night.lock"


@dataclass
class NightState:
    """The night in ``folder``."""

    folder: Path
    id: str
    asked: tuple[str, ...]
    started: float
    spent: float = 0.0
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    code: int | None = None
    _under_way: dict[str, Any] | None = None

    @classmethod
    def of(cls, folder: Path, id: str, asked: Sequence[str]) -> NightState:
        """The one that is in ``folder``, else a new one called ``id``. SpecError where another was asked for there."""
        try:
            found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            made = cls(folder, id, tuple(asked), time.time())
            made._write()
            return made
        if found.get("schema") != SCHEMA or found["asked"] != list(asked):
            raise SpecError(
                f"{folder}: holds another night: name another --output, or repeat that one: {found.get('asked')}"
            )
        state = cls(folder, found["id"], tuple(asked), found["started"], found["spent"], found["stages"], found["code"])
        if found["under_way"] is not None:
            state.spent += max(state._last_sign() - found["under_way"]["at"], 0.0)
        return state

    @property
    def goes_on(self) -> bool:
        """Whether an earlier process brought a stage to its end."""
        return bool(self.stages)

    def stage(self, name: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """What the stage ``name`` left, by ``work`` unless it was done before."""
        if name not in self.stages:
            begun = time.time()
            self._under_way = {"stage": name, "at": begun}
            self._write()
            left = json.loads(json.dumps(plain(dict(work())), default=str))  # as whoever goes on will read it
            self.spent += time.time() - begun
            self.stages[name] = {**left, "seconds": round(time.time() - begun, 3)}
            self._under_way = None
            self._write()
        return self.stages[name]

    def end(self, code: int) -> None:
        self.code = code
        self._write()

    def forget(self) -> None:
        """As if it had never begun."""
        (self.folder / FILE).unlink(missing_ok=True)

    def _last_sign(self) -> float:
        """When a process that was killed last wrote a record or a measurement."""
        return max((path.stat().st_mtime for path in self.folder.rglob(f"*{SUFFIX}")), default=0.0)

    def _write(self) -> None:
        names = ("id", "asked", "started", "spent", "stages", "code")
        content = {"schema": SCHEMA, **{name: getattr(self, name) for name in names}, "under_way": self._under_way}
        whole = self.folder / f"{FILE}.tmp"
        whole.write_text(json.dumps(content, indent=1), encoding="utf-8")
        whole.replace(self.folder / FILE)


@contextlib.contextmanager
def alone(folder: Path, tell: Callable[[str], None]) -> Iterator[int]:
    """Nobody else works on the night in ``folder`` meanwhile: waits, and tells so, until all others are gone.

    Gives the descriptor of the lock. A process that inherits it holds the lock, too: should this one be killed, whoever
    goes on waits for the stage that it had begun.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(f"{folder}: a process is still at work there: waiting until it ends")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)
