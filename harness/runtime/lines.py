"""A file of lines that grows while its writer may be killed at any moment."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType


class LineLog:
    """Appends whole lines to ``path``.

    They are in the file, whole, when `append` returns, whatever becomes of the process: one write to a file
    opened for appending. `close` brings the file to the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._file).st_size
        # A predecessor of the same name that was killed while writing leaves half a line.
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"

    def append(self, lines: list[str]) -> None:
        """All of ``lines``, which have no ends, in one write. OSError when the disk is full."""
        whole = b"".join([b"\n" if self._torn else b"", *(line.encode() + b"\n" for line in lines)])
        self._torn = True
        if os.write(self._file, whole) != len(whole):
            raise OSError(f"{self.path}: only part of a record could be written: is the disk full?")
        self._torn = False

    def close(self) -> None:
        if self._file >= 0:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> LineLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
