"""Plans that baselines refer to, kept under the digest of their bytes, so that they can be measured again.

A plan is code. What is kept here is loaded only where its bytes still have the digest that a baseline, which somebody
accepted, has in its file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.spec.canonical import file_digest

SUFFIX, TEMPORARY = ".plan", ".tmp"


class Kept:
    """Plans in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, plan: npt.NDArray[np.uint8]) -> str:
        """The SHA-256 of ``plan``, which is here now: whole, whoever else puts it here at the same time.

        What was here before is as good as new: nobody prunes it for its age.
        """
        name = hashlib.sha256(plan.data).hexdigest()
        file = self._file(name)
        if not file.is_file() or file_digest(file) != name:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=TEMPORARY, delete=False) as temporary:
                temporary.write(plan.data)
                temporary.flush()
                os.fsync(temporary.fileno())
            Path(temporary.name).replace(file)
        else:
            os.utime(file)
        return name

    def path(self, name: str) -> Path:
        """Where the plan of this SHA-256 lies. SpecError where it is not here, or has other bytes."""
        file = self._file(name)
        try:
            found = file_digest(file)
        except OSError as error:
            raise SpecError(f"{file}: the plan of a baseline is not there: {error.strerror}") from None
        if found != name:
            raise SpecError(f"{file}: not the plan that was kept: its SHA-256 is {found[:16]}...: it is not loaded")
        return file

    def used(self, names: Iterable[str]) -> None:
        """Of those that are here: something is held against them, so that they are as good as new, too.

        A folder may serve several stores and files of baselines, and who prunes it knows of one.
        """
        for name in names:
            with contextlib.suppress(OSError):  # not here, which whoever loads it is told, or not ours
                os.utime(self._file(name))

    def aged(self, before: float) -> Iterator[Path]:
        """Those that were last put or used before then (seconds since 1970), in order, and what killed writers left."""
        for file in sorted(self.folder.glob("*")):
            if file.suffix in (SUFFIX, TEMPORARY) and file.stat().st_mtime < before:
                yield file

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"
