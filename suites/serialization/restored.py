"""Weights that a plan was written without, put back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Array, Handle


def restored(engine: Handle) -> None:
    """Give a private ``engine`` all the weights that it asks for, from its model's file at its precision.

    AssertionError when it asks for some that are not there.
    """
    from harness.judge.precision import converted
    from harness.judge.stored import stored

    held = stored(converted(engine.spec.model, engine.spec.precision))
    listed = engine.weights()
    wanted = [name for name in listed.missing if name not in held.names]
    given: dict[str, Array] = {name: held.names[name] for name in listed.missing if name in held.names}
    layers: dict[str, dict[str, Array]] = {}
    for layer, role in listed.missing_places:
        if (layer, role) in held.places and held.named.get((layer, role)) not in given:
            layers.setdefault(layer, {})[role] = held.places[layer, role]
    assert not wanted, f"the engine asks for weights that are not in the model's file: {', '.join(wanted)}"
    engine.refit(given, layers=layers)
