"""Hypothesis strategies: shapes inside optimization profiles, and what is done with them.

A user's own model, in two lines::

    @given(examples_of(MY_MODEL))
    def test_my_model(example): ...
"""

from harness.spec.corners import corners
from harness.spec.example import Example
from harness.strategies.effort import EFFORTS, EXAMPLES, Effort, settings_of
from harness.strategies.explore import Exploration, Failure, explore
from harness.strategies.minimize import minimize
from harness.strategies.shapes import bindings, contents, examples, examples_of, seeds, sizes, spaces_of

__all__ = [
    "EFFORTS",
    "EXAMPLES",
    "Effort",
    "Example",
    "Exploration",
    "Failure",
    "bindings",
    "contents",
    "corners",
    "examples",
    "examples_of",
    "explore",
    "minimize",
    "seeds",
    "settings_of",
    "sizes",
    "spaces_of",
]
