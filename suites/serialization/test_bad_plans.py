"""What is no plan is refused in words, soon and within bounds, in a process that may die of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from suites.serialization.forged import Trial, forgeries
from suites.serialization.which import AXES

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Arrays, BuiltPlan, Hosts
    from harness.spec import EngineSpec

SEED = 0
on_one = pytest.mark.trt(models="conv", precisions="fp32", over=AXES)


@pytest.fixture
def weights(trt_spec: EngineSpec) -> tuple[bytes, ...]:
    """Those of the model, as a plan may have them in it."""
    from harness.judge.precision import converted
    from harness.judge.weights import initializers

    return tuple(array.tobytes() for array in initializers(converted(trt_spec.model, trt_spec.precision)).values())


@on_one
@pytest.mark.trt(needs="run")
def test_bad_plans(
    trt_spec: EngineSpec,
    trt_plan: BuiltPlan,
    trt_hosts: Hosts,
    trt_inputs: Arrays,
    weights: tuple[bytes, ...],
    trt_record: dict[str, Any],
    tmp_path: Path,
) -> None:
    """A crash of the library is told and costs its process; a hang, and what nobody raised on purpose, is a failure.

    What it takes for a plan all the same is never run, but where weights alone have changed.
    """
    model = trt_spec.model.source.path()
    trial = Trial(trt_hosts(), trt_plan.data, trt_inputs, trt_spec.config.plugins)
    for forged in forgeries(trt_plan.data, SEED, model, tmp_path, weights):
        trial(forged)
        if trial.over:
            break
    trt_record["bad_plans"] = trial.table
    trt_record["slowest_s"], trt_record["grown_bytes"] = round(trial.slowest, 3), trial.largest
    if trial.problems:
        pytest.fail("\n".join(trial.problems), pytrace=False)
