"""Special values in the inputs, against the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.spec import ModelSpec
from harness.spec.data import SPECIALS, UNDEFINED
from suites.numerics.which import explored

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Arrays, CellOracle, Compare, MakeInputs, Session


def specials(model: ModelSpec) -> list[str]:
    """Infinities and NaN only where the model's operators define what comes of them."""
    return [special for special in SPECIALS if model.special or special not in UNDEFINED]


@pytest.mark.trt(models=explored, points="opt", variants=specials)
def test_special_values(
    trt_session: Session,
    trt_inputs: Arrays,
    trt_make_inputs: MakeInputs,
    trt_variant: str,
    trt_oracle: CellOracle,
    trt_compare: Compare,
) -> None:
    inputs = trt_make_inputs(special=trt_variant)
    if all((inputs[name] == trt_inputs[name]).all() for name in inputs):
        pytest.skip("the model has no floating input whose values are free")
    trt_compare(trt_session.run(inputs), trt_oracle(inputs), weak="note")
