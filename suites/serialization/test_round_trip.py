"""A plan that an engine writes is as good as the one that it was loaded from: every fact, and every bit of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from suites.serialization.restored import restored
from suites.serialization.which import AXES, CONTRASTING, written
from suites.serialization.which import everywhere as everywhere

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Arrays, BuiltPlan, Compare, Engines, Handle, Hosts, Load, Plans, Relation
    from harness.runtime.backend.protocol import Engine
    from harness.spec import EngineSpec
    from suites.serialization.which import Ran

WRITER = "the engine that wrote the plan"
VARYING = ("device_memory",)  # facts that one plan's engines may have each to itself


@pytest.fixture
def same(
    trt_engine: Handle, trt_relation: Relation, everywhere: Callable[..., list[Ran]]
) -> Callable[[Engine | Handle], None]:
    """Requires an engine to be what the cell's is: by what it says of itself, then by its runs."""

    def require(again: Engine | Handle) -> None:
        info, known = again.info, trt_engine.info
        assert info.tensors == known.tensors
        assert info.profiles == known.profiles
        assert info.facts.keys() == known.facts.keys()
        differing = [name for name in known.facts if name not in VARYING and info.facts[name] != known.facts[name]]
        assert not differing, "\n".join(
            f"{name}: {info.facts[name]}, of {WRITER} {known.facts[name]}" for name in differing
        )
        got, want = everywhere(again.session), everywhere(trt_engine.session)
        for profile, (one, other) in enumerate(zip(got, want, strict=True)):
            trt_relation.at(profile).require_same_bits(one.outputs, other.outputs, WRITER, one.inputs)

    return require


@pytest.mark.trt(models=written, variants=("memory", "file"), needs=("run", "serialize"), over=AXES)
def test_round_trip(
    trt_variant: str,
    trt_engine: Handle,
    trt_load: Load,
    same: Callable[[Engine | Handle], None],
    tmp_path: Path,
) -> None:
    plan: Any = trt_engine.serialize()
    if trt_variant == "file":
        plan.tofile(tmp_path / "engine.plan")
        plan = tmp_path / "engine.plan"
    same(trt_load(plan, host_code=trt_engine.spec.config.carries_code))


@pytest.mark.trt(models=CONTRASTING, needs=("run", "serialize"), over=AXES)
def test_round_trip_through_another_process(
    trt_engine: Handle, trt_hosts: Hosts, same: Callable[[Engine | Handle], None]
) -> None:
    """Which never saw the model, nor the builder."""
    config = trt_engine.spec.config
    same(trt_hosts().load(trt_engine.serialize(), config.plugins, host_code=config.carries_code))


@pytest.mark.trt(models=written, needs=("run", "serialize", "stream_reader"), over=AXES)
def test_round_trip_by_stream(trt_engine: Handle, trt_load: Load, same: Callable[[Engine | Handle], None]) -> None:
    """The runtime asks for the plan piece by piece."""
    same(trt_load(trt_engine.serialize(), host_code=trt_engine.spec.config.carries_code, stream=True))


@pytest.mark.trt(models=CONTRASTING, needs="stream_writer", over=AXES)
def test_stream_writer(trt_plan: BuiltPlan, trt_plans: Plans, trt_record: dict[str, Any]) -> None:
    """A plan that is handed out piece by piece begins as any other, and is about as long."""
    streamed = trt_plans(stream=True)
    trt_record["plan_bytes"] = {"at once": trt_plan.data.nbytes, "by stream": streamed.data.nbytes}
    begins, wanted = (plan.data[:8].tobytes() for plan in (streamed, trt_plan))
    assert begins == wanted, f"by stream it begins with {begins!r}, at once with {wanted!r}"
    ratio = streamed.data.nbytes / trt_plan.data.nbytes
    assert 2 / 3 < ratio < 3 / 2, f"{streamed.data.nbytes} bytes by stream, {trt_plan.data.nbytes} at once"


@pytest.mark.trt(models=CONTRASTING, needs=("run", "stream_writer"), over=AXES)
def test_plan_of_a_stream_writer_runs(
    trt_plans: Plans, trt_load: Load, trt_inputs: Arrays, trt_oracle: Callable[..., Any], trt_compare: Compare
) -> None:
    """It is another build, whose kernels may be others: the oracle judges it."""
    session = trt_load(trt_plans(stream=True).data).session()
    trt_compare(session.run(trt_inputs), trt_oracle(trt_inputs))


@pytest.mark.trt(models=CONTRASTING, precisions="fp32", needs=("run", "serialize", "strip_plan"), over=AXES)
def test_plan_without_its_weights(
    trt_spec: EngineSpec,
    trt_engines: Engines,
    trt_load: Load,
    everywhere: Callable[..., list[Ran]],
    trt_relation: Relation,
    trt_record: dict[str, Any],
) -> None:
    """An engine writes a plan without them; put back, they give every bit, and the engine can be refitted still."""
    config = replace(trt_spec.config, flags=(*trt_spec.config.flags, "REFIT"))
    engine = trt_engines(config=config)
    whole, bare = engine.serialize(), engine.serialize(("EXCLUDE_WEIGHTS", "INCLUDE_REFIT"))
    trt_record["plan_bytes"] = {"whole": whole.nbytes, "without weights": bare.nbytes}
    assert bare.nbytes < whole.nbytes, f"{bare.nbytes} bytes without weights, {whole.nbytes} with them"
    again = trt_load(bare, config=config)
    restored(again)
    for profile, (got, want) in enumerate(zip(everywhere(again.session), everywhere(engine.session), strict=True)):
        trt_relation.at(profile).require_same_bits(got.outputs, want.outputs, WRITER, got.inputs)
    assert again.info.facts["refittable"], "INCLUDE_REFIT was asked for, and the engine can't be refitted"
