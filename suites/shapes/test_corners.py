"""Every model at the corners of its profiles: all sizes smallest, all largest, and each alone at its largest.

A corner goes through all that a shape inside goes through; the numbers of the smallest and the largest
are judged by the oracle in `suites.numerics` too, which is of all that is done here a small part.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from harness.spec import Example, ModelSpec
from harness.spec.corners import corners
from suites.shapes.inside import inside as inside
from suites.shapes.which import dynamic

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Explore
    from suites.shapes.inside import Inside


def named(model: ModelSpec) -> dict[str, Example]:
    """The corners by names that an id may have in it."""
    found = corners(model.profiles, relations=model.relations)
    return {re.sub(r"\W", "_", name): example for name, example in found}


@pytest.mark.trt(models=dynamic, variants=named, over=("model", "precision", "backend"))
def test_corner(trt_model: ModelSpec, trt_variant: str, trt_explore: Explore, inside: Inside) -> None:
    trt_explore.at(inside, named(trt_model)[trt_variant])
