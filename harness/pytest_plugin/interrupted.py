"""The example under way, on disk: what the next run tries first should this process not come to its end."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from harness.errors import SpecError
from harness.spec import Example


class Interrupted:
    """One file a cell. One write over the last one, whose end a line's end marks; gone when all went well."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, -1

    def read(self) -> tuple[Example, ...]:
        """What an earlier process was at as it ended; nothing when it came to its end."""
        try:
            line, end, _ = self._path.read_text(encoding="utf-8").partition("\n")
            return (Example.parse(line),) if end and line else ()
        except (FileNotFoundError, UnicodeDecodeError, SpecError):  # half a line is no example
            return ()

    def note(self, example: Example | None) -> None:
        """``example`` is being tried; None: nothing is."""
        if self._file < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.pwrite(self._file, (example.json() if example else "").encode() + b"\n", 0)

    def close(self, *, keep: bool) -> None:
        """``keep`` what was noted last, for the next run."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if not keep:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
