"""Plans without engines, engines of plans that are given, and backends in processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.ledger.records import Record

pytest_plugins = ("pytester",)
Records = Callable[[], list[Record]]

HEAD = """
import os
import pytest
import numpy as np
from harness.spec import BuildConfig

pytestmark = pytest.mark.trt(models="mlp", precisions="fp32", over=("model", "precision", "backend"))
"""


def run(project: pytest.Pytester, body: str, *arguments: str, backend: str = "fake") -> pytest.RunResult:
    project.makepyfile(HEAD + body)
    return project.runpytest_inprocess("--trt-in-process", f"--trt-backend={backend}", *arguments)


def test_plans_of_several_builds_and_other_options(project: pytest.Pytester, records: Records) -> None:
    body = """
def test_plans(trt_plan, trt_plans, trt_record):
    refit = BuildConfig(flags=("REFIT",))
    asked = {"own": {}, "again": {"build": 1}, "refit": {"config": refit}, "stream": {"stream": True}}
    plans = {name: trt_plans(**keywords) for name, keywords in asked.items()}
    assert plans["own"].plan_key == trt_plan.plan_key
    assert len({plan.plan_key for plan in plans.values()}) == 4
    assert plans["own"].key == plans["again"].key == plans["stream"].key != plans["refit"].key
    trt_record["cached"] = {name: plan.cached for name, plan in plans.items()}
"""
    for cached in (False, True):
        run(project, body).assert_outcomes(passed=1)
        (record,) = records()
        assert record.facts["cached"] == {"own": True, "again": cached, "refit": cached, "stream": cached}
        assert record.plan_key
    result = run(project, body, backend="fake:needs_gpu")
    result.assert_outcomes(passed=1)


def test_an_engine_of_a_plan_that_is_given(project: pytest.Pytester, records: Records) -> None:
    body = """
def test_loads(trt_plan, trt_load, trt_inputs, trt_oracle, trt_compare, tmp_path):
    file = tmp_path / "given.plan"
    trt_plan.data.tofile(file)
    for engine in (trt_load(trt_plan.data), trt_load(file), trt_load(trt_plan.data, stream=True)):
        assert engine.private
        trt_compare(engine.session().run(trt_inputs), trt_oracle(trt_inputs))

def test_compatible(trt_plans, trt_load, trt_inputs):
    config = BuildConfig(flags=("VERSION_COMPATIBLE",))
    plan = trt_plans(config=config).data
    assert trt_load(plan, config=config, host_code=True).spec.config == config
    trt_load(plan)

def test_nothing_is_left(trt_backend, _trt):
    assert _trt.run.bench.backend(trt_backend).residue().engines == 0
"""
    run(project, body).assert_outcomes(passed=2, failed=1)
    found = {record.cell.test: record for record in records()}
    assert found["test_compatible"].stage == "deserialize"
    assert "engine_host_code_allowed is not set" in found["test_compatible"].message
    assert found["test_loads"].seconds["deserialize"] > 0
    run(project, body, backend="fake:needs_gpu")
    assert {r.cell.test: r.verdict for r in records()}["test_loads"] == "not_covered"


def test_processes_of_their_own(project: pytest.Pytester, records: Records) -> None:
    """Even where all else runs in this one; and they end with the test, whatever it comes to."""
    body = """
def test_hosts(trt_hosts, trt_plan, trt_inputs, trt_record):
    hosts = [trt_hosts(), trt_hosts(), trt_hosts("onnxruntime"), trt_hosts("fake_lean")]
    engine = hosts[0].load(trt_plan.data)
    assert engine.session().run(trt_inputs)
    assert [host.residue().engines for host in hosts] == [1, 0, 0, 0]
    for host in hosts:
        host.call("os:getpid", {})
    pids = [host.client.facts["pid"] for host in hosts]
    assert len({os.getpid(), *pids}) == 5
    trt_record["pids"] = pids
    assert False, "whatever"
"""
    run(project, body).assert_outcomes(failed=1)
    (record,) = records()
    assert len(record.facts["pids"]) == 4
    assert not [pid for pid in record.facts["pids"] if Path(f"/proc/{pid}").exists()]


def test_what_a_host_of_a_tests_own_is_asked_for_counts_by_stage(project: pytest.Pytester, records: Records) -> None:
    body = """
def test_hosts(trt_hosts, trt_plan, trt_inputs, trt_record):
    host = trt_hosts()
    started = time.perf_counter()
    host.taken_memory()  # no work on a model; the host is started for it
    engine = host.load(trt_plan.data)
    engine.session().run(trt_inputs)
    trt_record["took"] = time.perf_counter() - started
"""
    run(project, f"import time\n{body}").assert_outcomes(passed=1)
    (record,) = records()
    assert (
        {"deserialize", "run"} <= record.seconds.keys() <= {"export", "inputs", "parse", "build", "deserialize", "run"}
    )
    assert 0 < record.seconds["deserialize"] + record.seconds["run"] < record.facts["took"]


@pytest.mark.parametrize("runtime", ["tensorrt_lean", "tensorrt_dispatch"])
def test_a_runtime_that_is_not_there_is_not_covered(project: pytest.Pytester, records: Records, runtime: str) -> None:
    body = f"""
def test_host(trt_hosts):
    trt_hosts({runtime!r})

def test_again(trt_hosts):
    trt_hosts({runtime!r})
"""
    run(project, body)
    found = records()
    assert {record.verdict for record in found} == {"not_covered"}
    assert {record.fix for record in found} == {f"pip install {runtime}"}
    assert all(f"{runtime} import: absent" in record.message for record in found)


def test_a_backend_that_nobody_knows(project: pytest.Pytester, records: Records) -> None:
    run(project, "def test_host(trt_hosts):\n    trt_hosts('tensorrt_thin')\n").assert_outcomes(failed=1)
    (record,) = records()
    assert "unknown backend 'tensorrt_thin'" in record.message


def test_variants_that_depend_on_the_precision(project: pytest.Pytester, records: Records) -> None:
    body = """
def words(model, recipe):
    return {"fp32": ("one", "two"), "tf32": ("three",)}.get(recipe.name, ())

@pytest.mark.trt(models="mlp", variants=words, over=("model", "precision", "backend"))
def test_it(trt_variant, trt_backend):
    pass
"""
    project.makepyfile(HEAD.partition("pytestmark")[0] + body)
    project.runpytest_inprocess("--trt-in-process", "--trt-backend=fake").assert_outcomes(passed=3)
    ids = {record.cell.params for record in records()}
    assert ids == {"mlp-fp32-one-fake", "mlp-fp32-two-fake", "mlp-tf32-three-fake"}
