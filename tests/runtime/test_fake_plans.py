"""Plans of the fake backend: written, read, with every option, and each fault of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.errors import BuildError, DeserializeError, HarnessError, RefitError, UnsupportedError
from harness.runtime.backend.fake import FakeBackend, FakeEngine
from harness.runtime.backend.protocol import Array, BuildRequest, ShapeRange
from harness.runtime.backend.registry import HostSettings, create
from harness.spec import RECIPES, BuildConfig

WEIGHT = np.linspace(0.1, 0.9, 1600, dtype=np.float32).reshape(40, 40)
X = {"x": np.ones((2, 40), np.float32)}
COMPATIBLE = ("VERSION_COMPATIBLE",)
EXCLUDED = ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME")


@pytest.fixture
def request_(tmp_path: Path) -> BuildRequest:
    """``y = MatMul(x, w)``, x float32 [n, 40]."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 40])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "product.onnx")
    shapes = {"x": ShapeRange((1, 40), (2, 40), (4, 40))}
    return BuildRequest(
        "product", RECIPES["fp32"], BuildConfig(), (shapes,), ({},), model=str(tmp_path / "product.onnx")
    )


def with_flags(request: BuildRequest, *flags: str, **config: Any) -> BuildRequest:
    return replace(request, config=BuildConfig(flags=flags, **config))


def plan(request: BuildRequest, fault: str = "") -> Array:
    return FakeBackend(fault).build(request).data


def right(engine: FakeEngine) -> bool:
    session = engine.session()
    got = session.run(X)["y"]
    session.close()
    return bool(np.allclose(got, X["x"] @ WEIGHT))


# Honest.


def test_a_plan_is_read_from_a_file_and_by_stream(request_: BuildRequest, tmp_path: Path) -> None:
    backend, data = FakeBackend(), plan(request_)
    data.tofile(tmp_path / "a.plan")
    for engine in (backend.load(tmp_path / "a.plan"), backend.load(data, stream=True)):
        assert right(engine)
    with pytest.raises(DeserializeError, match=r"absent\.plan: the plan can't be read"):
        backend.load(tmp_path / "absent.plan")
    (tmp_path / "empty.plan").touch()
    with pytest.raises(DeserializeError, match="it begins with b''"):
        backend.load(tmp_path / "empty.plan")


def test_a_stream_writer_gets_the_same_plan(request_: BuildRequest) -> None:
    assert plan(replace(request_, stream=True)).tobytes() == plan(request_).tobytes()


def test_an_engine_says_how_it_was_built(request_: BuildRequest) -> None:
    backend = FakeBackend()
    asked = with_flags(request_, "WEIGHT_STREAMING", "REFIT", hardware_compatibility="AMPERE_PLUS")
    facts = backend.load(plan(asked)).info.facts
    assert (facts["refittable"], facts["hardware_compatibility"], facts["streamable_weights"]) == (
        True, "AMPERE_PLUS", WEIGHT.nbytes,
    )  # fmt: skip
    facts = backend.load(plan(request_)).info.facts
    assert (facts["refittable"], facts["hardware_compatibility"], facts["streamable_weights"]) == (False, "NONE", 0)
    for refused in (with_flags(request_, "NO_SUCH"), with_flags(request_, hardware_compatibility="NO_SUCH")):
        with pytest.raises(UnsupportedError, match="fake NO_SUCH"):
            plan(refused)


def test_weights_are_streamed(request_: BuildRequest) -> None:
    engine = FakeBackend().load(plan(with_flags(request_, "WEIGHT_STREAMING")))
    for budget, device, scratch in ((6400, 6400, 0), (100, 100, 1024), (0, 0, 1024), (9999, 6400, 0)):
        found = engine.stream(budget)
        assert (found.streamable, found.budget, found.scratch, found.device) == (6400, device, scratch, device)
        assert right(engine)
        session = engine.session()
        assert engine.stream().device == device + scratch
        with pytest.raises(DeserializeError, match="with 1 sessions: refused"):
            engine.stream(5)
        session.close()
    with pytest.raises(DeserializeError, match="without BuilderFlag"):
        FakeBackend().load(plan(request_)).stream(0)


def test_a_plan_may_leave_its_weights_out(request_: BuildRequest) -> None:
    engine = FakeBackend().load(plan(with_flags(request_, "REFIT")))
    bare = engine.serialize(("EXCLUDE_WEIGHTS", "INCLUDE_REFIT"))
    assert bare.nbytes < engine.serialize().nbytes - WEIGHT.nbytes / 2
    again = FakeBackend().load(bare)
    assert not right(again)
    assert again.weights().missing == ("w",)
    again.refit({"w": WEIGHT})
    assert right(again)
    assert right(engine), "which was not touched"
    fixed = FakeBackend().load(engine.serialize(("EXCLUDE_LEAN_RUNTIME",)))
    with pytest.raises(RefitError):
        fixed.refit({"w": WEIGHT})
    with pytest.raises(UnsupportedError, match=r"SerializationFlag\.NO_SUCH"):
        engine.serialize(("NO_SUCH",))


@pytest.mark.parametrize(
    ("kind", "flags", "refusal"),
    [
        ("", (), ""),
        ("", COMPATIBLE, ""),
        ("", EXCLUDED, ""),
        ("lean", (), "the lean runtime loads version-compatible plans alone"),
        ("lean", COMPATIBLE, ""),
        ("lean", EXCLUDED, ""),
        ("dispatch", (), "the dispatch runtime loads version-compatible plans alone"),
        ("dispatch", COMPATIBLE, ""),
        ("dispatch", EXCLUDED, "Unexpected call to stub"),
    ],
)
def test_runtimes(request_: BuildRequest, kind: str, flags: tuple[str, ...], refusal: str) -> None:
    runtime, data = FakeBackend("", kind), plan(with_flags(request_, *flags))
    assert runtime.name == (f"fake_{kind}" if kind else "fake")
    if refusal:
        with pytest.raises(DeserializeError, match=refusal):
            runtime.load(data, host_code=True)
        assert runtime.residue().engines == 0
        return
    assert right(runtime.load(data, host_code=True))
    if flags == COMPATIBLE:
        with pytest.raises(DeserializeError, match="engine_host_code_allowed"):
            runtime.load(data)


def test_a_runtime_builds_nothing(request_: BuildRequest) -> None:
    runtime = FakeBackend("", "lean")
    found = runtime.probe()
    assert (found.backend, found.has("run"), found.has("build")) == ("fake_lean", True, False)
    with pytest.raises(UnsupportedError, match="fake_lean build: absent"):
        runtime.build(request_)


def test_a_lean_runtime_is_left_out_of_a_compatible_plan_alone(request_: BuildRequest) -> None:
    with pytest.raises(BuildError, match="only be set if VERSION_COMPATIBLE"):
        plan(with_flags(request_, "EXCLUDE_LEAN_RUNTIME"))


def test_whatever_a_damaged_plan_says_it_is_refused_or_taken(request_: BuildRequest) -> None:
    """And nothing else: every bit of the header, and bytes all over the plan."""
    data, backend = plan(request_), FakeBackend()
    begin = data.tobytes().index(b"{")
    places = [(at, 1 << bit) for at in range(begin + 300) for bit in range(8)]
    places += [(at, 0xFF) for at in range(begin, data.nbytes, 97)]
    refused = 0
    for at, bits in places:
        damaged = data.copy()
        damaged[at] ^= bits
        try:
            backend.load(damaged).close()
        except DeserializeError:
            refused += 1
    assert 0 < refused < len(places)
    assert backend.residue().engines == 0


# Each fault.


def test_profile_lost(request_: BuildRequest) -> None:
    engine = FakeBackend("profile_lost").load(plan(request_, "profile_lost"))
    again = FakeBackend().load(engine.serialize())
    assert engine.info.facts["profile_shapes"] == [{"x": [[1, 40], [2, 40], [4, 40]]}]
    assert again.info.facts["profile_shapes"] == [{"x": [[2, 40], [2, 40], [2, 40]]}]
    assert right(again)


def test_rounded_plan(request_: BuildRequest) -> None:
    engine = FakeBackend().load(plan(request_, "rounded_plan"))
    got, want = FakeBackend().load(engine.serialize()).session().run(X)["y"], engine.session().run(X)["y"]
    assert np.allclose(got, want, rtol=1e-3)
    assert not np.array_equal(got, want)


def test_short_stream(request_: BuildRequest) -> None:
    backend = FakeBackend("short_stream")
    assert right(backend.load(plan(request_)))
    with pytest.raises(DeserializeError, match="cut short"):
        backend.load(plan(request_), stream=True)


def test_loose_stream(request_: BuildRequest) -> None:
    assert right(FakeBackend().load(plan(request_, "loose_stream")))
    with pytest.raises(DeserializeError):
        FakeBackend().load(plan(replace(request_, stream=True), "loose_stream"))


def test_wrong_facts(request_: BuildRequest) -> None:
    engine = FakeBackend().load(plan(request_, "wrong_facts"))
    assert engine.info.facts["refittable"]
    assert (engine.info.facts["hardware_compatibility"], engine.info.facts["streamable_weights"]) == ("AMPERE_PLUS", 1)
    assert right(engine)


def test_streams_wrong(request_: BuildRequest) -> None:
    engine = FakeBackend().load(plan(with_flags(request_, "WEIGHT_STREAMING"), "streams_wrong"))
    assert right(engine)
    engine.stream(0)
    assert not right(engine)
    engine.stream(6400)
    assert right(engine)


def test_streams_nothing(request_: BuildRequest) -> None:
    engine = FakeBackend().load(plan(with_flags(request_, "WEIGHT_STREAMING"), "streams_nothing"))
    assert engine.stream(0).device == 6400
    assert right(engine)


def test_refuses_together(request_: BuildRequest) -> None:
    assert right(FakeBackend().load(plan(with_flags(request_, "REFIT"), "refuses_together")))
    with pytest.raises(BuildError, match="REFIT and WEIGHT_STREAMING do not go together") as caught:
        plan(with_flags(request_, "REFIT", "WEIGHT_STREAMING"), "refuses_together")
    assert caught.value.log


def test_refuses_silently(request_: BuildRequest) -> None:
    assert right(FakeBackend().load(plan(with_flags(request_, "REFIT"), "refuses_silently")))
    with pytest.raises(BuildError) as caught:
        plan(with_flags(request_, "REFIT", "WEIGHT_STREAMING"), "refuses_silently")
    assert (caught.value.message, caught.value.log) == ("", ())


def test_rebuild_outlier(request_: BuildRequest) -> None:
    backend = FakeBackend("rebuild_outlier")
    sizes = [backend.build(request_).data.nbytes for _ in range(4)]
    assert sizes[0] == sizes[1] == sizes[3]
    assert 1.8 < sizes[2] / sizes[0] < 2


def test_lean_off(request_: BuildRequest) -> None:
    data = plan(with_flags(request_, *EXCLUDED), "lean_off")
    assert right(FakeBackend("lean_off").load(data))
    assert not right(FakeBackend("lean_off", "lean").load(data))


def test_lean_refuses(request_: BuildRequest) -> None:
    data = plan(with_flags(request_, *EXCLUDED), "lean_refuses")
    assert right(FakeBackend("lean_refuses").load(data))
    with pytest.raises(DeserializeError, match="not today"):
        FakeBackend("lean_refuses", "lean").load(data)


def test_stub_mute(request_: BuildRequest) -> None:
    with pytest.raises(DeserializeError) as caught:
        FakeBackend("stub_mute", "dispatch").load(plan(with_flags(request_, *EXCLUDED)))
    assert (caught.value.message, caught.value.log) == ("", ())


def test_mute_forged(request_: BuildRequest) -> None:
    backend = FakeBackend("mute_forged")
    assert right(backend.load(plan(request_)))
    with pytest.raises(DeserializeError) as caught:
        backend.load(FORGED)
    assert (caught.value.message, caught.value.log) == ("", ())


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[Any]:
    backend: Any = create(request.param, HostSettings(run_timeout=2))
    yield backend
    backend.close()


FORGED = np.frombuffer(b"FAKEPLAN and no more", np.uint8)


@pytest.mark.parametrize("host", ["fake_dispatch:stub_crash"], indirect=True)
def test_stub_crash(host: Any, request_: BuildRequest) -> None:
    with pytest.raises(DeserializeError) as caught:
        host.load(plan(with_flags(request_, *EXCLUDED)))
    assert caught.value.crash == "signal 11 (SIGSEGV)"


@pytest.mark.parametrize("host", ["fake:crash_forged"], indirect=True)
def test_crash_forged(host: Any, request_: BuildRequest) -> None:
    host.load(plan(request_)).close()
    with pytest.raises(DeserializeError) as caught:
        host.load(FORGED)
    assert caught.value.crash == "signal 11 (SIGSEGV)"


@pytest.mark.parametrize("host", ["fake:hang_forged"], indirect=True)
def test_hang_forged(host: Any, request_: BuildRequest) -> None:
    host.load(plan(request_)).close()
    with pytest.raises(DeserializeError) as caught:
        host.load(FORGED)
    assert caught.value.crash == "no answer within 2 s"


@pytest.mark.parametrize("host", ["fake:bug_forged"], indirect=True)
def test_bug_forged(host: Any, request_: BuildRequest) -> None:
    host.load(plan(request_)).close()
    with pytest.raises(HarnessError, match="fault in the engine host: ZeroDivisionError"):
        host.load(FORGED)


def test_hoards_forged(request_: BuildRequest) -> None:
    backend = FakeBackend("hoards_forged")
    backend.load(plan(request_)).close()
    assert not backend._hoard
    for held in (1, 2):
        with pytest.raises(DeserializeError):
            backend.load(FORGED)
        assert len(backend._hoard) == held


def test_takes_forged(request_: BuildRequest) -> None:
    backend = FakeBackend("takes_forged")
    with pytest.raises(DeserializeError):
        backend.load(FORGED)
    backend.load(plan(request_)).close()
    for _ in range(2):
        assert right(backend.load(FORGED))
