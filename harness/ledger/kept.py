"""Plans that baselines refer to, kept under the digest of their bytes, so that they can be measured again.

A plan is code. What is kept here is loaded only where its bytes still have the digest that a baseline, which somebody
accepted, has in its file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError

SUFFIX = ".plan"


class Kept:
    """Plans in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, plan: npt.NDArray[np.uint8]) -> str:
        """The SHA-256 of ``plan``, which is here now: whole, whoever else puts it here at the same time."""
        name = hashlib.sha256(plan.data).hexdigest()
        file = self._file(name)
        if not file.is_file() or file.stat().st_size != plan.nbytes:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(f".{np.random.default_rng().integers(1 << 62):x}.tmp")
            plan.tofile(temporary)
            temporary.replace(file)
        return name

    def path(self, name: str) -> Path:
        """Where the plan of this SHA-256 lies. SpecError where it is not here, or has other bytes."""
        file = self._file(name)
        try:
            with file.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise SpecError(f"{file}: the plan of a baseline is not there: {error.strerror}") from None
        if found != name:
            raise SpecError(f"{file}: not the plan that was kept: its SHA-256 is {found[:16]}...: it is not loaded")
        return file

    def prune(self, referred: Iterable[str]) -> list[str]:
        """Delete all but those ``referred`` to; which they were."""
        wanted = set(referred)
        gone = [file for file in self.folder.glob(f"*{SUFFIX}") if file.stem not in wanted]
        for file in gone:
            file.unlink(missing_ok=True)
        return sorted(file.stem for file in gone)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}{SUFFIX}"
