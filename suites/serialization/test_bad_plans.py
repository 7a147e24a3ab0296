"""What is no plan is refused in words, soon and within bounds, in a process that may die of it."""

from __future__ import annotations

import tracemalloc
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.runtime.cache import PlanCache
from harness.runtime.store import CacheWarning
from suites.serialization.forged import MEMORY, Trial, damaged, forgeries
from suites.serialization.which import AXES

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Array, Arrays, BuiltPlan, Hosts
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
    trt_version: str,
    trt_record: dict[str, Any],
    tmp_path: Path,
) -> None:
    """A crash of the library is told and costs its process; a hang, and what nobody raised on purpose, is a failure.

    What it takes for a plan all the same is never run, but where weights alone have changed.
    """
    model = trt_spec.model.source.path()
    trial = Trial(trt_hosts(), trt_plan.data, trt_inputs, trt_spec.config.plugins)
    for forged in forgeries(trt_plan.data, SEED, model, tmp_path, weights, trt_version):
        trial(forged)
        if trial.over:
            break
    trt_record["bad_plans"] = trial.table
    trt_record["slowest_s"], trt_record["grown_bytes"] = round(trial.slowest, 3), trial.largest
    if trial.problems:
        pytest.fail("\n".join(trial.problems), pytrace=False)


@on_one
def test_damaged_files(
    trt_spec: EngineSpec,
    trt_plan: BuiltPlan,
    weights: tuple[bytes, ...],
    trt_version: str,
    trt_record: dict[str, Any],
    tmp_path: Path,
) -> None:
    """Whatever TensorRT would make of it: of what lies in a cache no changed byte is taken for a plan."""
    good, key = trt_plan.data, trt_plan.plan_key
    cache = PlanCache(tmp_path / "cache")
    path = cache.path(key)
    cache.put(key, good, {}, {})
    whole = np.fromfile(path, np.uint8)
    forged = forgeries(good, SEED, trt_spec.model.source.path(), tmp_path, weights, trt_version)
    tried, problems = Counter[str](), []
    for file in damaged(whole, good, forged):
        tried[file.kind] += 1
        if isinstance(file.plan, Path):
            file.plan.replace(path)
        else:
            path.write_bytes(file.plan.data)
        problems += [f"{file.kind}: {file.what}: {problem}" for problem in taken(cache, key, file.plan)]
    for elsewhere in ("another version", "another GPU"):
        tried[f"{elsewhere}'s"] += 1
        other = trt_spec.plan_key(elsewhere)
        cache.put(other, good, {}, {})
        cache.path(other).replace(path)
        problems += [f"{elsewhere}'s: {problem}" for problem in taken(cache, key, good)]
    trt_record["damaged_files"] = dict(tried)
    path.write_bytes(whole.data)
    kept = cache.get(key)
    assert kept is not None, "it can tell a good one"
    assert np.array_equal(kept, good)
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def taken(cache: PlanCache, key: str, plan: Array | Path) -> list[str]:
    """What is wrong with how ``cache`` refuses what lies there: nothing, when it does so in words and small memory."""
    measured = isinstance(plan, Path)  # it costs time
    if measured:
        tracemalloc.start()
    with warnings.catch_warnings(record=True) as heard:
        found = cache.get(key)
    grown = 0
    if measured:
        _, grown = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    problems = []
    if found is not None:
        problems.append("taken for a plan")
    elif [warning.category for warning in heard] != [CacheWarning]:
        problems.append("refused without a word")
    if grown > MEMORY:
        problems.append(f"{grown >> 20} MiB were taken to read it")
    return problems
