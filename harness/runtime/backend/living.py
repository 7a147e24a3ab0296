"""The engines and sessions of one backend that are open, by number; what `Residue` is made of."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass


@dataclass
class Living:
    """Counts what is between its making and its closing, whatever becomes of the objects meanwhile."""

    engines: int = 0
    sessions: int = 0

    def add_engine(self, resources: contextlib.ExitStack) -> None:
        """Count one engine, until ``resources`` are closed; that they are forgotten does not count as such."""
        self.engines += 1
        resources.callback(self._drop_engine)

    def add_session(self, resources: contextlib.ExitStack) -> None:
        """Count one session, as `add_engine` does."""
        self.sessions += 1
        resources.callback(self._drop_session)

    def _drop_engine(self) -> None:
        self.engines -= 1

    def _drop_session(self) -> None:
        self.sessions -= 1
