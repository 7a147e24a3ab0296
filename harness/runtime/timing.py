"""What builders found out about tactics, kept for all that is built later by the same TensorRT for the same GPU.

One timing cache a fingerprint, which grows by what every build adds, whichever process it runs in. A
timing cache only spares a builder work: no key knows of it, and without it the same is built, slower.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import BuildError, StageError
from harness.runtime import envelope
from harness.runtime.backend.protocol import REFUSED_TIMINGS, Array
from harness.runtime.envelope import EnvelopeError
from harness.runtime.store import Store

KIND = "timing cache"
Merge = Callable[[Sequence[Array]], Array]  # `Backend.merged`
NOTHING_YET = np.zeros(0, np.uint8)


@dataclass(frozen=True)
class Timings:
    """The timing caches in ``folder``, by the fingerprint of what made them.

    ``file`` is one that the user brings along, sealed as this project seals it: what it knows is taken
    in before the first build (`bring_in`), and what is known at the end is written there (`give_back`).
    """

    folder: Path
    file: Path | None = None
    trusted: bool = False

    def known(self, fingerprint: str) -> Array:
        """What a build starts from: uint8 of one dimension, empty where nothing is known yet."""
        found = self._store.get(fingerprint)
        return NOTHING_YET if found is None else found.payload

    def learn(self, fingerprint: str, before: Array, after: Array, merge: Merge, producer: Mapping[str, Any]) -> None:
        """Keep what a build, which started from ``before``, left: ``after``, and what others left meanwhile."""
        if digest(before) == digest(after):
            return
        with self._store.lock(fingerprint):
            now = self.known(fingerprint)
            whole = after if digest(now) == digest(before) else self._merged(fingerprint, [now, after], merge)
            if digest(whole) != digest(now):
                self._store.put(fingerprint, whole, producer, {})

    def refuse(self, fingerprint: str, before: Array, reason: str) -> None:
        """Set aside what was known: a builder was given ``before``, and takes it for none of its own."""
        with self._store.lock(fingerprint):
            if digest(self.known(fingerprint)) == digest(before):
                self._store.refuse(fingerprint, reason)

    def bring_in(self, fingerprint: str, merge: Merge, producer: Mapping[str, Any]) -> None:
        """Learn what ``file`` knows; a file that is damaged, or for another GPU or TensorRT, only costs a warning."""
        if self.file is None:
            return
        try:
            with self.file.open("rb") as opened:
                found = envelope.read(opened)
            if found.kind != KIND:
                raise EnvelopeError(f"holds a {found.kind}, and no {KIND}")
            if found.key != fingerprint:
                made_by = f"{found.producer.get('backend', '')} {found.producer.get('version', '')}".strip()
                raise EnvelopeError(f"is for another GPU or version ({made_by or 'unknown'})")
        except FileNotFoundError:
            return  # the first night
        except (EnvelopeError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            self._store.warn(f"{self.file} {why}: nothing is taken from it")
            return
        with self._store.lock(fingerprint):
            now = self.known(fingerprint)
            caches = [now, found.payload] if now.nbytes else [found.payload]
            whole = self._merged(fingerprint, caches, merge)
            if digest(whole) != digest(now):
                self._store.put(fingerprint, whole, producer, {})

    def give_back(self, fingerprint: str) -> None:
        """Write what is known to ``file``, if there is one and anything is known."""
        if self.file is None:
            return
        with self._store.lock(fingerprint):  # the last to write has seen what all others learnt
            found = self._store.get(fingerprint)
            if found is None:
                return
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                envelope.write(self.file, found)
            except OSError as error:
                self._store.warn(f"{self.file} could not be written ({error.strerror})")

    @property
    def _store(self) -> Store:
        return Store(self.folder, KIND, self.trusted)

    def _merged(self, fingerprint: str, caches: Sequence[Array], merge: Merge) -> Array:
        """All of ``caches`` in one; the first of them where they can't be merged, with a warning."""
        if len({digest(cache) for cache in caches}) == 1:
            return caches[0]
        try:
            return merge(caches)
        except StageError as error:
            self._store.warn(f"{fingerprint[:16]}: what one build learnt was lost, it can't be merged: {error.message}")
            return caches[0]


def digest(cache: Array) -> str:
    """SHA-256, in hexadecimal, of a serialized timing cache."""
    return hashlib.sha256(np.ascontiguousarray(cache).data).hexdigest()


def is_refusal(error: StageError) -> bool:
    """Whether a build failed for nothing but the timing cache that it was given."""
    return isinstance(error, BuildError) and bool(error.detail.get(REFUSED_TIMINGS))
