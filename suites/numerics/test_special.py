"""Special values in the inputs, against the oracle."""

from __future__ import annotations

import pytest

from harness.spec import ModelSpec
from harness.spec.data import SPECIALS, UNDEFINED
from suites.numerics.which import explored


def specials(model: ModelSpec) -> list[str]:
    """Infinities and NaN only where the model's operators define what comes of them."""
    return [special for special in SPECIALS if model.special or special not in UNDEFINED]


@pytest.mark.trt(models=explored, points="opt", variants=specials)
def test_special_values(trt_session, trt_inputs, trt_make_inputs, trt_variant, trt_oracle, trt_compare) -> None:
    inputs = trt_make_inputs(special=trt_variant)
    if all(inputs[name] is trt_inputs[name] for name in inputs):
        pytest.skip("the model has no floating input whose values are free")
    trt_compare(trt_session.run(inputs), trt_oracle(inputs), weak="note")
