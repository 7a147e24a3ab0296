"""The timing cache that the fake backend plays: which tactic each layer is to have, once it was found out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable

import numpy as np

from harness.errors import BuildError
from harness.runtime.backend.protocol import REFUSED_TIMINGS, Array

_MAGIC = b"FAKETIMINGS"


class FakeTimings:
    """Tactics by layer, for one ``maker``: those of another are foreign. BuildError for what is none of its own.

    With ``lenient`` nothing is refused, and what can't be read is taken for nothing yet.
    """

    def __init__(self, maker: str, data: Array | None = None, *, lenient: bool = False) -> None:
        self.maker, self.tactics = maker, dict[str, int]()
        given = b"" if data is None else data.tobytes()
        if given:
            try:
                self.tactics = self._read(given)
            except ValueError as error:
                if not lenient:
                    words = f"[W] timing cache of {len(given)} bytes: {error}"
                    raise BuildError(
                        f"the timing cache was refused: {error}", log=(words,), detail={REFUSED_TIMINGS: True}
                    ) from None

    def _read(self, given: bytes) -> dict[str, int]:
        """ValueError, in words, for anything that `serialized` did not write."""
        magic, digest, rest = given[: len(_MAGIC)], given[len(_MAGIC) :][:32], given[len(_MAGIC) + 32 :]
        if magic != _MAGIC:
            raise ValueError(f"it begins with {given[:8]!r}")
        if hashlib.sha256(rest).digest() != digest:
            raise ValueError("it is damaged")
        found = json.loads(rest)
        if found["maker"] != self.maker:
            raise ValueError(f"it was made by {found['maker']}, and this is {self.maker}")
        return {str(layer): int(tactic) for layer, tactic in found["tactics"].items()}

    def lacks(self, layers: Iterable[str]) -> list[str]:
        """Those of ``layers`` that it knows nothing of."""
        return [layer for layer in layers if layer not in self.tactics]

    def choose(self, layers: Iterable[str]) -> dict[str, int]:
        """A tactic for each of ``layers``: the one that is known, or the one that is found out now."""
        for layer in self.lacks(layers):
            self.tactics[layer] = timed(layer)
        return {layer: self.tactics[layer] for layer in layers}

    def add(self, other: FakeTimings) -> None:
        self.tactics = {**other.tactics, **self.tactics}

    def serialized(self) -> Array:
        rest = json.dumps({"maker": self.maker, "tactics": self.tactics}, sort_keys=True).encode()
        return np.frombuffer(_MAGIC + hashlib.sha256(rest).digest() + rest, np.uint8)


def timed(layer: str) -> int:
    """The tactic that is fastest for a layer, the same each time; for none in particular now one and now another."""
    drawn = hashlib.sha256(layer.encode()).digest() if layer else os.urandom(6)
    return int.from_bytes(drawn[:6], "little") | 1 << 47  # always as many digits
