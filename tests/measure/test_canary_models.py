from __future__ import annotations

import numpy as np
import pytest

from harness.measure.canary_models import COLUMNS, PRODUCTS, ROWS, SIDE, canaries, ceilings, steady
from harness.measure.roofline import floor, work_of
from harness.runtime.backend.onnxruntime import reference_runner


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_the_work_of_a_canary_is_what_its_ceiling_is_reckoned_by(kind: str) -> None:
    """So each canary is on its own ceiling, and a floor says of it just the time that it took."""
    compute, memory = canaries(kind)
    seconds = {"canary_compute_" + kind: 0.004, "canary_memory_" + kind: 0.003}
    found = ceilings(kind, seconds)
    shapes = {compute.name: (SIDE[kind], SIDE[kind]), memory.name: (ROWS[kind], COLUMNS)}
    for model in (compute, memory):
        work = work_of(model.source.path(), {"x": shapes[model.name]})
        assert floor(work, found) == pytest.approx(seconds[model.name], rel=1e-6)
    assert PRODUCTS * SIDE[kind] > 1000, "its products outweigh what it moves"


def test_a_canary_neither_grows_nor_fades() -> None:
    """Half precision has to hold it, and none of it may become 0 or a number below the normal ones."""
    compute, _ = canaries("cpu")
    assert (compute.inputs[0].low, compute.inputs[0].high) == (-steady(SIDE["cpu"]), steady(SIDE["cpu"]))
    x = np.random.default_rng(0).uniform(-steady(64), steady(64), (64, 64)).astype(np.float32)
    (y,) = reference_runner()(compute.source.path(), {"x": x}).values()
    assert 0.3 < float(np.std(y)) / float(np.std(x)) < 3
    assert float(np.abs(y).max()) < 100


def test_a_canary_never_changes() -> None:
    """Its series would break: by the bytes of its model."""
    digests = {model.name: model.source.digest()[:12] for model in canaries("gpu")}
    assert digests == {"canary_compute_gpu": "bf26bf68aec5", "canary_memory_gpu": "4cb01ea5cecf"}
