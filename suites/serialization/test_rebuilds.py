"""Several builds of one spec: alike in numbers, and whoever stands apart is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from suites.serialization.which import AXES, CONTRASTING

if TYPE_CHECKING:
    from harness.judge.comparison import Comparison
    from harness.pytest_plugin.types import Arrays, BuiltPlan, CellOracle, Compare, Load, Plans, Relation
    from harness.spec import EngineSpec

BUILDS = 5  # of one spec: one build in five was seen to stand apart
again_and_again = pytest.mark.trt(models=CONTRASTING, precisions=("fp32", "fp16"), over=AXES)


@again_and_again
def test_builds_again(trt_plans: Plans, trt_can: Callable[[str], bool], trt_record: dict[str, Any]) -> None:
    """Bytes are never compared: no two plans are the same."""
    plans = built(trt_plans, trt_record)
    assert all(plan.data.nbytes for plan in plans), f"plans are empty: {trt_record['plan_bytes']} bytes"
    if not trt_can("run"):  # or more is known of them there
        told(trt_record, {"size": [plan.data.nbytes for plan in plans]})


@again_and_again
@pytest.mark.trt(needs="run")
def test_rebuilds(
    trt_spec: EngineSpec,
    trt_plans: Plans,
    trt_load: Load,
    trt_inputs: Arrays,
    trt_oracle: CellOracle,
    trt_compare: Compare,
    trt_relation: Relation,
    trt_record: dict[str, Any],
) -> None:
    """Each is right, and all of them agree; how far they are apart is recorded."""
    reference = trt_oracle(trt_inputs)
    plans = built(trt_plans, trt_record)
    outputs: list[Arrays] = []
    errors: list[float] = []
    for plan in plans:
        engine = trt_load(plan.data, host_code=trt_spec.config.carries_code)
        outputs.append(engine.session().run(trt_inputs))
        engine.close()
        errors.append(relative_error(trt_compare(outputs[-1], reference)))
    for number, other in enumerate(outputs[1:], 1):
        trt_relation.require_alike(other, outputs[0], reference, f"build 0 (this is build {number})")
    trt_record["errors"] = errors
    told(trt_record, {"size": [plan.data.nbytes for plan in plans], "error": errors})


def built(plans: Plans, record: dict[str, Any]) -> list[BuiltPlan]:
    """All builds, with the seconds that each took, now or when it was made for the cache."""
    found = [plans(build=number) for number in range(BUILDS)]
    record["plan_bytes"] = [plan.data.nbytes for plan in found]
    record["build_seconds"] = [round(plan.took["build"], 3) if "build" in plan.took else None for plan in found]
    return found


def relative_error(comparison: Comparison) -> float:
    """Of the worst output: the root mean square of what it is off by, in units of that of the reference."""
    ratios = [output.figures.snr for output in comparison.outputs if output.figures is not None]
    worst = min(ratios, default=float("inf"))  # dB
    return float(10 ** (-worst / 20))


def told(record: dict[str, Any], measures: dict[str, Sequence[float]]) -> None:
    """Name the builds that stand apart, for the record and the end of the run: it is no failure."""
    from harness.judge.outliers import outliers

    record["build_outliers"] = [str(outlier) for outlier in outliers(measures)]
