"""Which weights of a model an engine lets be replaced: those that it lists, if what it wants along can be had.

Of TensorRT 8.6 the bias of a quantized convolution is none; of any builder some may be folded into others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.errors import RefitError
from harness.judge.stored import Place, Stored
from harness.runtime.companions import Lists, together
from harness.spec.names import listed

SHOWN = 3  # reasons that a message gives
UNLISTED = "the engine lists no such weights"


@dataclass(frozen=True)
class Replaceable:
    """``names`` can be replaced; ``kept`` can't, and why.

    A refit of them gives all that ``given`` names, and what stands at ``places``: they, and companions.
    """

    names: tuple[str, ...]
    given: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """What can't be replaced, with the first reasons."""
        by_reason: dict[str, list[str]] = {}
        for name, why in self.kept.items():
            by_reason.setdefault(why, []).append(name)
        told = [f"{listed(names)}: {why}" for why, names in by_reason.items()]
        more = f"; {len(told) - SHOWN} more such" if len(told) > SHOWN else ""
        head = f"{len(self.kept)} of {len(self.kept) + len(self.names)} weights stay as they are"
        return f"{head}: {'; '.join(told[:SHOWN])}{more}"


def replaceable(engine: Lists, wanted: Sequence[str], old: Stored) -> Replaceable:
    """Those of ``wanted`` that ``engine`` takes other values for; ``old`` is what its builder was given.

    All are asked for together first and, where something is wanted along that nobody has, one by one.
    """
    names = engine.weights().names
    kept = {name: UNLISTED for name in wanted if name not in names}
    rest = [name for name in wanted if name not in kept]
    try:
        return _of(engine, rest, old, kept)
    except RefitError as error:
        if "missing" not in error.detail:
            raise
    for name in rest:
        try:
            _of(engine, [name], old, {})
        except RefitError as error:
            if "missing" not in error.detail:
                raise
            kept[name] = error.message
    return _of(engine, [name for name in rest if name not in kept], old, kept)


def _of(engine: Lists, names: Sequence[str], old: Stored, kept: Mapping[str, str]) -> Replaceable:
    """RefitError when something is wanted along that is not in ``old``."""
    given, layers = together(engine, old, names) if names else ({}, {})
    places = tuple((layer, role) for layer, roles in layers.items() for role in roles)
    return Replaceable(tuple(names), tuple(given), places, kept)
