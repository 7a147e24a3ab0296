"""Which plans from elsewhere are loaded: a plan is code, and runs with all that its user may do.

What this project has built, and kept where only its user can write, is its own. Any other plan is
loaded only when the user names it: as what a command is to work on, or by ``--trust``, which takes
files and folders. That a model file speaks of a plan is not enough: a folder of models may come from
anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import SpecError


@dataclass(frozen=True)
class Trust:
    """Files, and folders with all that lies in them, that the user has named."""

    named: tuple[Path, ...] = ()

    @classmethod
    def of(cls, named: Iterable[Path]) -> Trust:
        return cls(tuple(path.resolve() for path in named))

    def covers(self, path: Path) -> bool:
        """Whether ``path``, wherever links lead, was named or lies in a folder that was."""
        return any(path.resolve().is_relative_to(named) for named in self.named)

    def require(self, plan: Path) -> None:
        """SpecError, with the option that names it, unless ``plan`` may be loaded."""
        if not self.covers(plan):
            raise SpecError(
                f"{plan}: a plan is code, and this one is from elsewhere: it is loaded only when you name it, or "
                "its folder: --trt-trust FILE_OR_FOLDER in pytest, --trust on the command line"
            )
