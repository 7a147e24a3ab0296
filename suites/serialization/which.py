"""Which models a test of plans is worth running on, and at which places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from harness.spec import ModelSpec
from suites.numerics.which import explored

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Arrays, InputsAt, Session
    from harness.spec.space import Space

    Sessions = Callable[[int], Session]  # a new session on the profile of this number

# A network of convolutions, a transformer, and one whose input decides shapes: for what is too dear to do with all.
CONTRASTING = ("conv", "bert", "reshape_values")
AXES = ("model", "precision", "backend")


@dataclass(frozen=True, eq=False)
class Ran:
    """What went into a run, and what came out."""

    inputs: Arrays
    outputs: Arrays


def written(model: ModelSpec) -> bool:
    """Its plan can be written and run: there is a file that says what it takes."""
    return explored(model) and model.source.kind == "onnx" and model.data is None


@pytest.fixture
def everywhere(trt_spaces: tuple[Space, ...], trt_inputs_at: InputsAt) -> Callable[[Sessions], list[Ran]]:
    """Runs an engine at the largest shape of each profile: ``everywhere(engine.session)``, by profile."""

    def run(session: Sessions) -> list[Ran]:
        asked = [trt_inputs_at(space.example(space.greatest() or space.least() or {})) for space in trt_spaces]
        return [Ran(inputs, session(space.number).run(inputs)) for space, inputs in zip(trt_spaces, asked, strict=True)]

    return run
