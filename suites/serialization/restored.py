"""Weights that a plan was written without, put back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Handle


def restored(engine: Handle) -> None:
    """Give a private ``engine`` all the weights that it asks for, from its model's file at its precision.

    RefitError when it asks for some that are not there.
    """
    from harness.judge.precision import converted
    from harness.judge.stored import stored
    from harness.runtime.companions import together

    given, layers = together(engine, stored(converted(engine.spec.model, engine.spec.precision)), ())
    engine.refit(given, layers=layers)
