"""One place inside the profiles of a model at which it is asked: what a strategy draws and a failure names."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import SpecError
from harness.spec.canonical import canonical_json, digest


@dataclass(frozen=True)
class Example:
    """A profile by number, a size for each of its symbols, contents for each shape tensor, and a seed for the data."""

    profile: int = 0
    sizes: tuple[tuple[str, int], ...] = ()
    values: tuple[tuple[str, tuple[int, ...]], ...] = ()
    seed: int = 0

    @classmethod
    def of(
        cls,
        binding: Mapping[str, int],
        contents: Mapping[str, tuple[int, ...]] | None = None,
        *,
        profile: int = 0,
        seed: int = 0,
    ) -> Example:
        """An example from mappings; the order of neither matters."""
        values = ((name, tuple(held)) for name, held in sorted((contents or {}).items()))
        return cls(profile, tuple(sorted(binding.items())), tuple(values), seed)

    @property
    def binding(self) -> dict[str, int]:
        """The size of every symbol."""
        return dict(self.sizes)

    @property
    def contents(self) -> dict[str, tuple[int, ...]]:
        """What every shape tensor holds."""
        return dict(self.values)

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that no other example has: the name of its folder."""
        return digest(self)[:16]

    def __str__(self) -> str:
        """``profile 1 batch=3 seq=7 shape=[2, 3] seed=5``."""
        sizes = [f"{symbol}={size}" for symbol, size in self.sizes]
        values = [f"{name}={list(held)}" for name, held in self.values]
        return " ".join([f"profile {self.profile}", *sizes, *values, f"seed={self.seed}"])

    def json(self) -> str:
        """As one line of JSON; `parse` reads it."""
        return self._json

    @functools.cached_property
    def _json(self) -> str:
        """Kept, since it is noted before each try, and the examples of a model are tried by all its cells."""
        fields = {"profile": self.profile, "sizes": self.binding, "values": self.contents, "seed": self.seed}
        return canonical_json(fields)

    @classmethod
    def parse(cls, text: str) -> Example:
        """What `json` wrote. SpecError for anything else."""
        try:
            fields: dict[str, Any] = json.loads(text)
            unknown = fields.keys() - {"profile", "sizes", "values", "seed"}
            if unknown:
                raise SpecError(f"an example has no {', '.join(sorted(unknown))}: {text}")
            sizes = {str(symbol): int(size) for symbol, size in fields.get("sizes", {}).items()}
            values = {str(name): tuple(map(int, held)) for name, held in fields.get("values", {}).items()}
            return cls.of(sizes, values, profile=int(fields.get("profile", 0)), seed=int(fields.get("seed", 0)))
        except (ValueError, TypeError, AttributeError) as error:
            raise SpecError(f"not an example: {text!r}: {error}") from None
