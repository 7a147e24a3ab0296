"""A folder of envelopes, by key: whole or not there, and never one that can't be trusted.

Any number of processes may read, write and lock one folder at a time. What lies in it::

    <key>.plan, <key>.timing   entries, an envelope each (`harness.runtime.envelope`); when one was last
                               used is its time of modification
    <key>.bad                  an entry that could not be trusted, set aside
    <key>.lock                 there while somebody holds it, or was killed holding it
    .<name>-*.tmp              an entry that is being written, or whose writer was killed
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import SpecError
from harness.runtime import envelope, held
from harness.runtime.backend.protocol import Array
from harness.runtime.envelope import EnvelopeError, Sealed

KINDS = {"plan": ".plan", "timing cache": ".timing"}  # with the suffix of their entries
BAD = ".bad"
LOCK = ".lock"


class CacheWarning(UserWarning):
    """An entry was set aside, or could not be read or written. What it held is made anew: no result suffers."""


@dataclass(frozen=True)
class Store:
    """The entries of one ``kind`` in ``folder``. SpecError when the folder can't be made.

    Entries that another user has put there are used only where the folder is ``trusted``: a plan is code.
    """

    folder: Path
    kind: str
    trusted: bool = False

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(f"cache: can't make the folder {self.folder}: {error.strerror}: name another") from None

    def path(self, key: str) -> Path:
        """Where the entry is, or would be."""
        return self.folder / f"{key}{KINDS[self.kind]}"

    def get(self, key: str) -> Sealed | None:
        """The entry; None when there is none, or none that can be trusted.

        A damaged, foreign or older one is renamed to ``*.bad`` with a `CacheWarning` that says why.
        """
        path = self.path(key)
        try:
            with path.open("rb") as file:
                held.share(file.fileno())  # it is not taken away while it is read
                owner = _owner(file.fileno())
                if not self.trusted and owner not in (os.geteuid(), 0):
                    self.warn(
                        f"{path} was put there by another user (uid {owner}), and it may hold code: it is made anew; "
                        f"to use it, trust its folder: --trust {self.folder}"
                    )
                    return None
                try:
                    found = envelope.read(file)
                    if (found.kind, found.key) != (self.kind, key):
                        raise EnvelopeError(f"holds another entry, the {found.kind} {found.key}")
                except EnvelopeError as error:
                    self._set_aside(path, file.fileno(), str(error))
                    return None
                with contextlib.suppress(OSError):  # another user's, or a disk that can't be written
                    os.utime(file.fileno())
        except FileNotFoundError:
            return None
        except OSError as error:
            self.warn(f"{path} could not be read ({error.strerror}): it is made anew")
            return None
        return found

    def put(self, key: str, payload: Array, producer: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Keep ``payload``, with what made it and ``facts``, both JSON. A full disk is a warning, no error."""
        path = self.path(key)
        try:
            envelope.write(path, Sealed(self.kind, key, payload, producer, facts, time.time()))
        except OSError as error:
            self.warn(f"{path} could not be written ({error.strerror}): it will be made anew")

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Held by one thread of one process at a time; freed by the system when its holder dies.

        In a folder that can't be written to nothing is held: nobody can put there what others wait for.
        """
        with contextlib.ExitStack() as holding:
            with contextlib.suppress(OSError):
                holding.enter_context(held.locked(self.folder / f"{key}{LOCK}"))
            yield

    def refuse(self, key: str, reason: str) -> None:
        """Set the entry aside, as whoever was given it found it to be of no use."""
        path = self.path(key)
        with contextlib.suppress(OSError), path.open("rb") as file:
            self._set_aside(path, file.fileno(), reason)

    def warn(self, message: str) -> None:
        # Shown even where warnings are errors: nothing is wrong with what the caller gets.
        with warnings.catch_warnings():
            warnings.simplefilter("always", CacheWarning)
            warnings.warn(f"{self.kind}: {message}", CacheWarning, stacklevel=3)

    def _set_aside(self, path: Path, handle: int, reason: str) -> None:
        """Rename the open file, unless somebody was first, or has put a better one in its place."""
        aside = path.with_suffix(BAD)
        with contextlib.suppress(FileNotFoundError):
            path.replace(aside)
            if not held.is_there(handle, aside):
                aside.replace(path)
        self.warn(f"{path.name} {reason}; set aside as {aside.name} and made anew")


def _owner(handle: int) -> int:
    """Who could write what is in an open file, as the system knows it."""
    return os.fstat(handle).st_uid
