"""What lies in a cache folder: listed, verified, tidied, and kept below a size.

Only files that are named as ours are looked at. Nothing is taken away that somebody reads, writes or holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.runtime import envelope, held
from harness.runtime.envelope import TEMPORARY, EnvelopeError, Sealed
from harness.runtime.store import BAD, KINDS, LOCK

SET_ASIDE, LEFT_BEHIND = "set aside", "left behind"
_WHAT = {**{suffix: kind for kind, suffix in KINDS.items()}, BAD: SET_ASIDE, LOCK: LEFT_BEHIND, TEMPORARY: LEFT_BEHIND}
_OURS = re.compile(r"\.?([0-9a-f]{64})\.(plan|timing|bad|lock)(-\w+\.tmp)?")
_NOTHING = Sealed("", "", np.zeros(0, np.uint8), made=0.0)


@dataclass(frozen=True)
class Item:
    """One file. ``what`` is a kind of `KINDS`, `SET_ASIDE`, or `LEFT_BEHIND` for a lock or an unfinished entry."""

    path: Path
    what: str
    key: str
    size: int  # bytes
    used: float  # seconds since 1970

    @property
    def is_entry(self) -> bool:
        return self.what in KINDS

    def header(self) -> Sealed:
        """What the entry says of itself, unverified and without its payload. EnvelopeError when it says nothing."""
        try:
            with self.path.open("rb") as file:
                return envelope.glimpsed(file)
        except FileNotFoundError:
            return _NOTHING
        except OSError as error:
            raise EnvelopeError(f"can't be read: {error.strerror}") from None

    def verify(self) -> str:
        """Why it can't be trusted; "" when every byte is as it was written, or it is gone by now."""
        try:
            with self.path.open("rb") as file:
                held.share(file.fileno())
                found = envelope.read(file)
        except FileNotFoundError:
            return ""
        except EnvelopeError as error:
            return str(error)
        except OSError as error:
            return f"can't be read: {error.strerror}"
        if (found.kind, found.key) != (self.what, self.key):
            return f"holds another entry, the {found.kind} {found.key}"
        return ""

    def remove(self) -> bool:
        """Take it away; False when somebody reads or holds it, or it is gone already."""
        if self.is_entry and held.is_locked(self.path.with_suffix(LOCK)):
            return False
        return held.remove(self.path)


@dataclass(frozen=True)
class Removal:
    """An item, and why it had to go."""

    item: Item
    reason: str


def items(folder: Path) -> list[Item]:
    """What of ours lies in ``folder``, the one used longest ago first; nothing where there is no such folder."""
    found = []
    try:
        scanned = list(os.scandir(folder))
    except FileNotFoundError:
        return []
    for entry in scanned:
        named = _OURS.fullmatch(entry.name)
        if named is None:
            continue
        try:
            state = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        path = Path(entry.path)
        found.append(Item(path, _WHAT[path.suffix], named[1], state.st_size, state.st_mtime))
    return sorted(found, key=lambda item: (item.used, item.path))


def make_room(folder: Path, limit: int) -> list[Removal]:
    """Bring what lies in ``folder`` to ``limit`` bytes: what was set aside goes first, then plans, by last use.

    Timing caches stay: there is one for each GPU and TensorRT, and it holds what took longest to find out.
    What killed processes left behind goes whatever there is room for.
    """
    found = items(folder)
    removed = [Removal(item, "left behind") for item in found if item.what == LEFT_BEHIND and item.remove()]
    if sum(item.size for item in found) <= limit:
        return removed
    with held.locked(folder / f"{'0' * 64}{LOCK}"):  # by one process at a time, or each of them makes all the room
        found = items(folder)
        excess = sum(item.size for item in found) - limit
        spare = [item for item in found if item.what == SET_ASIDE] + [item for item in found if item.what == "plan"]
        for item in spare:
            if excess <= 0:
                break
            if item.remove():
                excess -= item.size
                removed.append(Removal(item, f"used longest ago, and more than {limit} bytes in all"))
    return removed


def stale(found: Iterable[Item], here: Mapping[str, str]) -> Iterator[Removal]:
    """Those of ``found`` that are of no more use.

    Set aside, left behind, unreadable for this version of the project, or made by another version or
    for another GPU than is ``here``: fingerprints by backend. What a backend made that is not here stays.
    """
    for item in found:
        if not item.is_entry:
            yield Removal(item, item.what)
            continue
        try:
            producer = item.header().producer
        except EnvelopeError as error:
            yield Removal(item, str(error))
            continue
        backend, made_by = str(producer.get("backend", "")), producer.get("fingerprint")
        if backend in here and made_by != here[backend]:
            yield Removal(item, f"made by another {maker(producer)}")


def maker(producer: Mapping[str, object]) -> str:
    """``tensorrt 8.6.1 on NVIDIA H200``, as far as ``producer`` tells."""
    name = " ".join(str(producer[part]) for part in ("backend", "version") if producer.get(part))
    return f"{name} on {producer['gpu']}" if producer.get("gpu") else name
