"""What has to be given together for weights of an engine to become others.

A builder computes some weights from several of a model's, as the kernel of a convolution from its own and those
of the batch normalization behind it: the engine asks for all of them as soon as one is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from harness.errors import RefitError
from harness.judge.stored import Place, Stored
from harness.runtime.backend.protocol import Array, LayerWeights, Refittable, Weights


class Lists(Protocol):
    """An `Engine`, or what stands for one, as far as it tells of its weights."""

    def weights(self, given: Weights | None = None, *, layers: LayerWeights | None = None) -> Refittable: ...


def together(
    engine: Lists, to: Stored, names: Iterable[str], places: Iterable[Place] = ()
) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
    """What has to be given for ``names`` and ``places`` to become what they are in ``to``: they, and companions.

    By name, and by layer and role. Companions are what the engine asks for; their values are those of ``to`` as
    well. RefitError, with "missing" and "missing_places" in its ``detail``, when it asks for what is not in there.
    """
    given = {name: to.names[name] for name in names}
    layers: dict[str, dict[str, Array]] = {}
    for layer, role in places:
        layers.setdefault(layer, {})[role] = to.places[layer, role]
    while True:
        asked = engine.weights(given, layers=layers)
        fresh = {name: to.names[name] for name in asked.missing if name in to.names and name not in given}
        given |= fresh
        placed = [place for place in asked.missing_places if place in to.places and _awaited(place, to, given, layers)]
        for layer, role in placed:
            layers.setdefault(layer, {})[role] = to.places[layer, role]
        if not asked.missing and not asked.missing_places:
            return given, layers
        if not fresh and not placed:
            raise RefitError(
                f"the engine asks for weights that are not in the model's file: {list(asked.missing)}, "
                f"places {list(asked.missing_places)}",
                detail={"missing": asked.missing, "missing_places": asked.missing_places},
            )


def _awaited(place: Place, to: Stored, given: Mapping[str, Array], layers: Mapping[str, Mapping[str, Array]]) -> bool:
    """Whether what stands at ``place`` was given neither there nor by its name."""
    layer, role = place
    return role not in layers.get(layer, {}) and to.named.get(place) not in given
