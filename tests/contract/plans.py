"""Promises about plans: how they are read and written, what an engine says of itself, weights that are streamed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.errors import BuildError, DeserializeError, UnsupportedError
from harness.spec.build import BuildConfig
from tests.contract.checks import REFITTABLE, RELU_RANGE, _product, check, floats, said
from tests.contract.subjects import Bench, NotCovered

# How they are read and written.


@check
def a_plan_is_read_where_it_lies(bench: Bench) -> None:
    bench.need("run")
    file = bench.folder / "relu.plan"
    bench.build(bench.relu(), RELU_RANGE).data.tofile(file)
    engine = bench.backend.load(file)
    bench.stack.callback(engine.close)
    x = floats(3, 2)
    assert np.array_equal(bench.session(engine).run({"x": x})["y"], np.maximum(x, 0))
    with pytest.raises(DeserializeError, match=r"absent\.plan: the plan can't be read: No such file"):
        bench.backend.load(bench.folder / "absent.plan")
    empty = bench.file("empty.plan", b"")
    with pytest.raises(DeserializeError) as caught:
        bench.backend.load(empty)
    said(caught.value)


@check
def a_plan_is_read_piece_by_piece(bench: Bench) -> None:
    bench.need("run")
    plan = bench.build(bench.relu(), RELU_RANGE).data
    if not bench.probe.has("stream_reader"):
        with pytest.raises(UnsupportedError, match="stream_reader"):
            bench.backend.load(plan, stream=True)
        return
    engine = bench.backend.load(plan, stream=True)
    bench.stack.callback(engine.close)
    x = floats(3, 2)
    assert np.array_equal(bench.session(engine).run({"x": x})["y"], np.maximum(x, 0))
    for cut in (plan[:0], plan[:10], plan[:-1]):
        with pytest.raises(DeserializeError) as caught:
            bench.backend.load(cut, stream=True)
        said(caught.value)


@check
def a_plan_is_written_piece_by_piece(bench: Bench) -> None:
    request = replace(bench.request(bench.relu(), RELU_RANGE), stream=True)
    if not bench.probe.has("stream_writer"):
        with pytest.raises(UnsupportedError, match="stream_writer"):
            bench.backend.build(request)
        return
    plan = bench.backend.build(request).data
    assert plan.nbytes > 64
    if bench.probe.has("run"):
        engine = bench.backend.load(plan)
        bench.stack.callback(engine.close)
        x = floats(3, 2)
        assert np.array_equal(bench.session(engine).run({"x": x})["y"], np.maximum(x, 0))
    bare = replace(request, profiles=(), contents=())
    with pytest.raises(BuildError) as refused:
        bench.backend.build(bare)
    said(refused.value, "no optimization profile has been defined")


@check
def parts_of_a_plan_are_left_out(bench: Bench) -> None:
    """The weights are, and come back by a refit; what is not known is named."""
    bench.need("run", "refit")
    engine = bench.engine(_product(bench), RELU_RANGE, config=REFITTABLE)
    with pytest.raises(UnsupportedError, match=r"SerializationFlag\.NO_SUCH_PART"):
        engine.serialize(("NO_SUCH_PART",))
    if bench.probe.version.startswith("8."):
        with pytest.raises(UnsupportedError, match="no SerializationFlag at all"):
            engine.serialize(("INCLUDE_REFIT",))
        return
    plan = engine.serialize(("EXCLUDE_WEIGHTS", "INCLUDE_REFIT"))
    again = bench.backend.load(plan)
    bench.stack.callback(again.close)
    assert again.info.facts["refittable"]
    again.refit({"w": np.eye(2, dtype=np.float32)})
    x = floats(3, 2)
    assert np.allclose(bench.session(again).run({"x": x})["y"], x)


@check
def a_plan_that_carries_code_runs_it_only_where_it_may(bench: Bench) -> None:
    """And what it may is no longer so for the next plan."""
    if bench.subject.backend == "tensorrt_rtx":
        raise NotCovered("its library of the lean runtime is not shipped")
    bench.need("run", "version_compatible")
    compatible = BuildConfig(tactic_sources=(), flags=("VERSION_COMPATIBLE",))
    plan = bench.build(bench.relu(), RELU_RANGE, config=compatible).data
    x = floats(3, 2)
    for _ in range(2):
        with pytest.raises(DeserializeError) as caught:
            bench.backend.load(plan)
        said(caught.value)
        engine = bench.backend.load(plan, host_code=True)
        bench.stack.callback(engine.close)
        assert np.array_equal(bench.session(engine).run({"x": x})["y"], np.maximum(x, 0))
    without = BuildConfig(tactic_sources=(), flags=("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"))
    plan = bench.build(bench.relu(), RELU_RANGE, config=without).data
    assert np.array_equal(bench.session(bench.backend.load(plan)).run({"x": x})["y"], np.maximum(x, 0))


@check
def a_lean_runtime_is_left_out_of_a_version_compatible_plan_alone(bench: Bench) -> None:
    config = BuildConfig(tactic_sources=(), flags=("EXCLUDE_LEAN_RUNTIME",))
    with pytest.raises(BuildError) as caught:
        bench.build(bench.relu(), RELU_RANGE, config=config)
    said(caught.value, "VERSION_COMPATIBLE")


# What an engine says of itself.


@check
def an_engine_tells_how_it_was_built(bench: Bench) -> None:
    bench.need("deserialize")
    config = BuildConfig(tactic_sources=(), aux_streams=0, profiling_verbosity="DETAILED")
    info = bench.engine(bench.relu(), RELU_RANGE, config=config).info
    facts = info.facts
    assert {tensor.format for tensor in info.tensors} == {"LINEAR"}
    assert (facts["refittable"], facts["aux_streams"], facts["profiling_verbosity"]) == (False, 0, "DETAILED")
    assert facts["hardware_compatibility"] == "NONE"
    assert facts["device_memory"] >= 0
    if bench.probe.has("refit"):
        assert bench.engine(_product(bench), RELU_RANGE, config=REFITTABLE).info.facts["refittable"]
    if bench.probe.has("hardware_compatible"):
        wide = BuildConfig(tactic_sources=(), hardware_compatibility="AMPERE_PLUS")
        assert bench.engine(bench.relu(), RELU_RANGE, config=wide).info.facts["hardware_compatibility"] == "AMPERE_PLUS"


# Weights that are streamed.


STREAMED = BuildConfig(tactic_sources=(), flags=("WEIGHT_STREAMING",))


@check
def weights_are_streamed(bench: Bench) -> None:
    bench.need("run")
    if not bench.probe.has("weight_streaming"):
        with pytest.raises((UnsupportedError, DeserializeError)):
            bench.engine(_product(bench), RELU_RANGE).stream(0)
        return
    engine = bench.engine(_product(bench), RELU_RANGE, config=STREAMED)
    assert engine.info.facts["streamable_weights"] == 16
    x = floats(3, 2)
    found = []
    for budget in (0, 8, 16, 0):
        assert engine.stream(budget).budget == budget
        session = engine.session()
        assert np.allclose(session.run({"x": x})["y"], x)
        found.append(engine.stream())
        with pytest.raises(DeserializeError, match="close them first"):
            engine.stream(8)
        session.close()
    assert [(one.streamable, one.budget) for one in found] == [(16, budget) for budget in (0, 8, 16, 0)]
    assert [bool(one.scratch) for one in found] == [True, True, False, True]
    assert found[0].device <= found[1].device <= found[2].device >= found[3].device
    with pytest.raises(DeserializeError) as caught:
        engine.stream(-1)
    said(caught.value)


@check
def weights_of_a_plan_without_streaming_stay(bench: Bench) -> None:
    bench.need("run", "weight_streaming")
    engine = bench.engine(_product(bench), RELU_RANGE)
    assert engine.info.facts["streamable_weights"] == 0
    with pytest.raises(DeserializeError) as caught:
        engine.stream(0)
    said(caught.value)
