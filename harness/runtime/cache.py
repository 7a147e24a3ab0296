"""Finished plans on disk, by plan key, so that nothing is built twice."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.runtime import inventory
from harness.runtime.backend.protocol import Array
from harness.runtime.envelope import Sealed
from harness.runtime.store import Store

WRITERS = 64  # processes that may share a cache without any of them seeing it grow past its limit


def default_folder() -> Path:
    """The user's own cache, for all projects; without a home that can be written to, a temporary folder."""
    import platformdirs

    folder = platformdirs.user_cache_path("trt-harness") / "engines"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
        return folder
    return Path(tempfile.gettempdir()) / f"trt-harness-{os.geteuid()}" / "engines"


class PlanCache:
    """The plans in a folder, of ``limit`` bytes in all. SpecError when the folder can't be made.

    The limit holds when a plan is put there, for up to `WRITERS` processes at a time, and for whatever is
    neither read nor held then. Plans that another user has put there are loaded only where the folder is
    ``trusted``.
    """

    def __init__(self, folder: Path, *, limit: int | None = None, trusted: bool = False) -> None:
        self.folder, self.limit = folder, limit
        self._room = 0  # bytes that may be put there before all that is there has to be looked at again
        self._store = Store(folder, "plan", trusted)

    def path(self, plan_key: str) -> Path:
        """Where the plan is, or would be."""
        return self._store.path(plan_key)

    def get(self, plan_key: str) -> Array | None:
        """The plan, uint8 of one dimension; None when there is none, or none that can be trusted.

        A damaged, foreign or older entry is renamed to ``*.bad`` with a `CacheWarning` that says why.
        """
        found = self.entry(plan_key)
        return None if found is None else found.payload

    def entry(self, plan_key: str) -> Sealed | None:
        """As `get`, with the facts that were kept beside the plan."""
        return self._store.get(plan_key)

    def put(
        self, plan_key: str, plan: Array, facts: Mapping[str, Any], producer: Mapping[str, Any] | None = None
    ) -> None:
        """Keep ``plan``, with JSON-able ``facts`` and what made it. A full disk is a warning, no error."""
        self._store.put(plan_key, plan, producer or {}, facts)
        if self.limit is None:
            return
        with contextlib.suppress(OSError):
            self._room -= self.path(plan_key).stat().st_size
            if self._room < 0:
                inventory.make_room(self.folder, self.limit)
                spare = self.limit - sum(item.size for item in inventory.items(self.folder))
                self._room = spare // WRITERS  # of which each may put as much, and knows only of its own

    @contextlib.contextmanager
    def lock(self, plan_key: str) -> Iterator[None]:
        """Held by one thread of one process at a time; freed by the system when its holder dies."""
        with self._store.lock(plan_key):
            yield
