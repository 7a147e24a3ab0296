"""The nv backend against doubles of four versions and against the TensorRT that is here.

Where a double and the real one differ, the double is wrong.
"""

from __future__ import annotations

import contextlib
import datetime
import gc
import inspect
import subprocess
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from harness.errors import BuildError, DeserializeError, HarnessError, RefitError, RunError, UnsupportedError
from harness.report.layers import read
from harness.runtime.backend.protocol import POISON, UNCAPTURABLE, Residue
from harness.runtime.backend.registry import HostSettings, create
from harness.runtime.capability import Probe, State
from harness.settings import Settings
from harness.spec.build import BuildConfig
from tests.contract import bodies
from tests.contract import latencies as latencies  # which adds promises of its own
from tests.contract import plans as plans
from tests.contract.checks import (
    CHECKS,
    DETAILED,
    REFITTABLE,
    RELU_RANGE,
    RESHAPE_CONTENTS,
    _activated,
    _product,
    _reshape,
    floats,
    said,
)
from tests.contract.subjects import (
    DOUBLES,
    FLOAT,
    INT64,
    SUBJECTS,
    WITHOUT_GPU,
    Bench,
    Crashed,
    NotCovered,
    Subject,
    bench_of_double,
    probe_double,
)
from tests.doubles import plays
from tests.doubles.cuda_runtime import IllegalAddress
from tests.doubles.double import state
from tests.doubles.install import installed
from tests.doubles.module import make
from tests.doubles.plays import build as builds
from tests.doubles.plays import parser as parsers
from tests.doubles.plays import refit as refitting
from tests.doubles.plays import run as runs
from tests.doubles.plays.foundation import PluginRegistry
from tests.doubles.plays.graph import Program
from tests.doubles.plays.inspector import Inspector

pytestmark = pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")

ROOT = Path(__file__).parents[2]
NV = ROOT / "harness" / "runtime" / "backend" / "nv"

CAPSULE: Any = vars(datetime)["datetime_CAPI"]  # any will do for the handle of a library
Functions = set[tuple[str, str]]  # file and qualified name

_PROBES: dict[str, Probe] = {}
_SEEN: dict[str, dict[str, Functions]] = {}  # by subject and promise: which functions of nv ran


@contextlib.contextmanager
def watched(subject: Subject, promise: str) -> Iterator[None]:
    """Note which functions of nv are called."""
    seen = _SEEN.setdefault(subject.name, {}).setdefault(promise, set())
    codes: set[types.CodeType] = set()

    def called(frame: types.FrameType, _event: str, _argument: Any) -> None:
        codes.add(frame.f_code)

    before = sys.gettrace()
    sys.settrace(called)  # of calls alone, as it gives no function that would be told of lines
    try:
        yield
    finally:
        sys.settrace(before)
        folder = str(NV)
        ours = [code for code in codes if code.co_filename.startswith(folder)]
        seen.update((Path(code.co_filename).name, code.co_qualname) for code in ours)


def probe_of(subject: Subject) -> Probe:
    if subject.name not in _PROBES:
        with watched(subject, "probe"):
            _PROBES[subject.name] = probe_double(subject)
    return _PROBES[subject.name]


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Any]]:
    """Backends in engine hosts, by name, made when first asked for."""
    made: dict[str, Any] = {}
    yield made
    for backend in made.values():
        backend.close()


def real_bench(subject: Subject, folder: Path, hosts: dict[str, Any]) -> Bench:
    """What is installed, in its host; skips, with the evidence, where it can't even build."""
    if subject.backend not in hosts:
        hosts[subject.backend] = create(subject.backend, HostSettings(python=dict(Settings.read({}).python)))
        _PROBES[subject.name] = hosts[subject.backend].probe()
    found = _PROBES[subject.name]
    for capability in ("import", "build"):
        if not found.has(capability):
            pytest.skip(f"not covered here: {capability} of {subject.backend}: {found.find(capability).evidence}")
    return Bench(subject, hosts[subject.backend], found, folder)


@pytest.fixture(params=SUBJECTS, ids=str)
def bench(request: pytest.FixtureRequest, tmp_path: Path, hosts: dict[str, Any]) -> Iterator[Bench]:
    subject: Subject = request.param
    if subject.version:
        with bench_of_double(subject, probe_of(subject), tmp_path) as bench:
            yield bench
    else:
        bench = real_bench(subject, tmp_path, hosts)
        with bench.stack:
            yield bench


@pytest.fixture(params=DOUBLES, ids=str)
def double(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with bench_of_double(request.param, probe_of(request.param), tmp_path) as bench:
        yield bench


@pytest.mark.parametrize("promise", CHECKS)
def test_contract(bench: Bench, promise: str) -> None:
    with watched(bench.subject, promise):
        try:
            CHECKS[promise](bench)
        except NotCovered as reason:
            pytest.skip(f"not covered here: {reason}")


# What can be shown with doubles only.


def test_output_that_is_not_written_shows(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    session = double.session(double.engine(double.relu(), RELU_RANGE))
    x = floats(3, 2)
    assert np.array_equal(session.run({"x": x})["y"], np.maximum(x, 0))
    monkeypatch.setattr(Program, "run", lambda _self, _inputs: {})
    assert np.isnan(session.run({"x": x})["y"]).all()


def test_outputs_on_the_host_are_poisoned_too(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The double writes nothing, so that what is there is the session's own."""
    from harness.runtime.backend.nv import run

    engine = double.engine(double.relu(), RELU_RANGE)
    held = tuple(replace(t, dtype="int64", shape_tensor=t.name == "y") for t in engine.info.tensors if t.name == "y")
    engine.info = replace(engine.info, tensors=(engine.info.tensors[0], *held))
    session = double.session(engine)
    monkeypatch.setattr(Program, "run", lambda _self, _inputs: {})
    monkeypatch.setattr(Program, "output_shapes", lambda *_: {"y": (2,)})
    x = floats(3, 2)
    assert session.run({"x": x})["y"].view(np.uint8).tolist() == [POISON] * 16
    monkeypatch.setattr(run.NvSession, "_enqueue", lambda self: _written(self))
    with pytest.raises(RunError) as caught:
        session.run({"x": x})
    assert caught.value.detail["touched"] == ("y",)


def _written(session: Any) -> None:
    session.memory.home("y", (2,), np.dtype(np.int64))[...] = 7
    raise RunError("no")


def test_a_refused_run_that_wrote_is_told(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    session = double.session(double.engine(double.relu(), RELU_RANGE))
    session.run({"x": floats(4, 2)})
    context = runs.Context
    enqueue = context.execute_async_v3
    monkeypatch.setattr(context, "execute_async_v3", lambda self, stream: enqueue(self, stream) and False)
    with pytest.raises(RunError) as caught:
        session.run({"x": floats(1, 2)})
    assert caught.value.detail["touched"] == ("y",)


def test_a_run_that_should_have_been_refused_is_none(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    session = double.session(double.engine(double.relu(), RELU_RANGE))
    monkeypatch.setattr(runs.Context, "execute_async_v3", lambda _self, _stream: True)
    with pytest.raises(HarnessError, match="enqueued a run without shape:x") as caught:
        session.run({"x": floats(1, 2)}, omit="shape:x")
    assert not isinstance(caught.value, RunError), "which would pass for a refusal"


def test_a_shape_that_a_switch_kept_shows(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes well then, on the shape of before, in memory that holds it."""
    session = double.session(double.engine(double.relu(), RELU_RANGE, {"x": ((2, 2), (3, 2), (8, 2))}))
    session.infer({"x": floats(4, 2)})  # tells the shape, and reserves nothing

    def keep(self: Any, index: int, _stream: int) -> bool:
        self.active_optimization_profile = index
        return True

    monkeypatch.setattr(runs.Context, "set_optimization_profile_async", keep)
    session.switch(1)
    assert session.run({"x": floats(2, 2)}, omit="shape:x")["y"].shape == (4, 2)


def test_errors_that_no_call_took_along_are_left_over(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert double.stage is not None
    world = double.stage.trt.world
    session = double.session(double.engine(double.relu(), RELU_RANGE))
    double.backend.residue()
    world.log("WARNING", "a warning")
    world.log("ERROR", "between calls")
    assert double.backend.residue().errors == ("between calls",)
    assert double.backend.residue().errors == (), "once"
    context = runs.Context
    enqueue = context.execute_async_v3

    def grumble(self: Any, stream: int) -> Any:
        world.log("ERROR", "in a call that goes well")
        return enqueue(self, stream)

    monkeypatch.setattr(context, "execute_async_v3", grumble)
    session.run({"x": floats(3, 2)})
    assert double.backend.residue().errors == ("in a call that goes well",)
    with pytest.raises(RunError) as caught:
        session.run({"x": floats(3, 2)}, omit="address:x")
    assert any("in a call that goes well" in line for line in caught.value.log)
    assert double.backend.residue().errors == (), "told"


def test_errors_that_a_call_took_along_are_told(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an exception that has other words, and by words that are no exception's."""
    assert double.stage is not None
    world = double.stage.trt.world
    session = double.session(double.engine(double.relu(), RELU_RANGE))
    double.backend.residue()

    def grumble(*_: Any) -> bool:
        world.log("ERROR", "grumble")
        return True

    monkeypatch.setattr(runs.Context, "set_tensor_address", grumble)
    session.limit("y", 1)
    with pytest.raises(RunError, match="limited to 1") as caught:
        session.run({"x": floats(3, 2)})
    assert caught.value.log == ("[ERROR] grumble",)
    assert double.backend.residue().errors == ()
    monkeypatch.setattr(builds.Builder, "build_serialized_network", lambda *_: grumble() and None)
    backend: Any = double.backend
    ((capability,), _) = backend.probe_step("shape_tensors")
    assert capability.evidence == "grumble"
    assert double.backend.residue().errors == ()


def test_a_shape_tensor_moves_on_the_host(double: Bench) -> None:
    double.need("run", "shape_tensors")
    session = double.session(double.engine(_reshape(double), contents=RESHAPE_CONTENTS))
    told = []
    for _ in range(2):
        session.run({"x": floats(4, 6), "shape": np.array((8, 3), np.int64)})
        told.append(session.context.get_tensor_address("shape"))
        session.move("shape")
    assert told[0] != told[1]


def test_what_was_forgotten_is_counted(double: Bench) -> None:
    """Whatever becomes of the objects: what counts is what was closed."""
    from harness.runtime import device

    engine = double.backend.load(double.build(double.relu(), RELU_RANGE).data)
    session: Any = engine.session()
    session.run({"x": floats(4, 2)})
    memory, stream = session.memory, session.stream
    del session
    gc.collect()
    found = double.backend.residue()
    assert (found.engines, found.sessions, found.buffers, found.nbytes) == (1, 1, 2, 64)
    assert device.allocated() == (2, 64)
    memory.close()
    stream.close()
    engine.close()
    assert double.backend.residue() == Residue(sessions=1), "for ever"


def test_a_footprint_has_what_is_taken_of_the_device(double: Bench) -> None:
    from harness.runtime import device
    from harness.runtime.footprint import footprint

    double.session(double.engine(double.relu(), RELU_RANGE)).run({"x": floats(4, 2)})
    before = footprint().device
    assert before is not None
    with device.Buffer() as buffer:
        buffer.reserve(1 << 20)
        assert footprint().device == before + (1 << 20)
    assert footprint().device == before


def test_a_session_that_can_not_be_made_leaves_nothing(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.errors import DeserializeError

    engine = double.engine(double.relu(), RELU_RANGE)
    monkeypatch.setattr(runs.Context, "set_optimization_profile_async", lambda *_: False)
    with pytest.raises(DeserializeError, match="profile 0 was refused"):
        engine.session()
    assert double.backend.residue().sessions == 0
    assert double.stage is not None
    assert double.stage.cuda.live() == {}


def test_what_the_inspector_tells_is_read_as_it_comes(double: Bench) -> None:
    """What separates origins stands in the text of 8.6 as it is, which JSON does not allow."""
    engine: Any = double.engine(_activated(double), RELU_RANGE, config=DETAILED)
    inspector = engine.engine.create_engine_inspector()
    assert double.stage is not None
    text = inspector.get_engine_information(double.stage.trt.module.LayerInformationFormat.JSON)
    assert ("\x1e" in text) == double.probe.version.startswith("8.")
    del inspector
    (layer,) = read(engine.inspect()).layers
    assert layer.origins == ("the product", "the relu")
    assert (layer.kind, layer.precision, layer.weights) == ("MatMul", "tf32", 16)
    assert double.backend.residue().sessions == 0, "the one that was told the optimum is closed"


def test_every_profile_has_layers_of_its_own(double: Bench) -> None:
    wider = {"x": ((8, 2), (9, 2), (16, 2))}
    engine = double.engine(_activated(double), RELU_RANGE, wider, config=DETAILED)
    found = read(engine.inspect())
    assert [layer.profile for layer in found.layers] == [0, 1]
    assert len(found.layers) == engine.info.facts["layers"]


@pytest.mark.parametrize(
    ("text", "words"), [("", "can't be read: Expecting value"), ("[]", "is a list, not an object")]
)
def test_an_inspector_that_says_nothing_of_use(
    double: Bench, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    engine = double.engine(double.relu(), RELU_RANGE)
    monkeypatch.setattr(Inspector, "get_engine_information", lambda *_: text)
    with pytest.raises(DeserializeError, match=words):
        engine.inspect()


def test_an_inspector_that_can_not_be_made(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert double.stage is not None
    world = double.stage.trt.world
    engine: Any = double.engine(double.relu(), RELU_RANGE)

    def fail(_self: Any) -> None:
        world.log("ERROR", "the library's own words")

    monkeypatch.setattr(runs.Engine, "create_engine_inspector", fail)
    with pytest.raises(DeserializeError, match="the library's own words"):
        engine.inspect()


def test_weights_that_are_missing_are_named(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = double.engine(_product(double), RELU_RANGE, config=REFITTABLE)
    monkeypatch.setattr(refitting.Refitter, "get_missing_weights", lambda _self: ["bias"])
    monkeypatch.setattr(refitting.Refitter, "refit_cuda_engine", lambda _self: pytest.fail("it is not asked for"))
    with pytest.raises(RefitError, match="must be given, too: bias") as caught:
        engine.refit({"w": floats(2, 2)})
    assert caught.value.detail["missing"] == ("bias",)


def test_a_graph_is_kept_where_that_is_asked_for(double: Bench) -> None:
    """What was captured goes on with the weights of then, here; what is dropped is captured anew."""
    session = double.session(engine := double.engine(_product(double), RELU_RANGE, config=REFITTABLE))
    x, first, second = floats(3, 2), floats(2, 2, seed=1), floats(2, 2, seed=2)
    before = session.run({"x": x}, graph=True)["y"]
    engine.refit({"w": first}, keep_graphs=True)
    assert np.array_equal(session.run({"x": x}, graph=True)["y"], before)
    assert np.allclose(session.run({"x": x})["y"], x @ first, rtol=1e-5, atol=1e-5)
    engine.refit({"w": second})
    assert np.allclose(session.run({"x": x}, graph=True)["y"], x @ second, rtol=1e-5, atol=1e-5)


def test_a_refit_by_stream_is_over_when_it_returns(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its arrays are there until then."""
    if not double.probe.has("refit_async"):
        pytest.skip(f"not covered here: {double.probe.find('refit_async').evidence}")
    engine = double.engine(_product(double), RELU_RANGE, config=REFITTABLE)
    apply, alive = refitting.Refitter._apply, []
    seen: list[Any] = []
    given = refitting.Refitter.set_named_weights

    def note(self: Any, name: str, weights: Any, *rest: Any) -> bool:
        play = state(weights)
        seen.append(weakref.ref(play.array))
        accepted: bool = given(self, name, weights, *rest)
        play.array = play.array.copy()
        return accepted

    def look(self: Any, weights: Any) -> None:
        gc.collect()
        alive.append(seen[0]() is not None)
        apply(self, weights)

    monkeypatch.setattr(refitting.Refitter, "set_named_weights", note)
    monkeypatch.setattr(refitting.Refitter, "_apply", look)
    engine.refit({"w": floats(2, 2).T.astype(np.float64)}, how="async")
    assert alive == [True]


def test_a_refit_on_a_broken_device_takes_the_host_with_it(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    if not double.probe.has("refit_async"):
        pytest.skip(f"not covered here: {double.probe.find('refit_async').evidence}")
    engine = double.engine(_product(double), RELU_RANGE, config=REFITTABLE)

    def stray(_self: Any, _weights: Any) -> None:
        raise IllegalAddress("beyond the end")

    monkeypatch.setattr(refitting.Refitter, "_apply", stray)
    with pytest.raises(RefitError, match="illegal memory access") as caught:
        engine.refit({"w": floats(2, 2)}, how="async")
    assert caught.value.detail["replace_host"]


def test_weights_that_an_error_was_logged_for_are_refused(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the call returned."""
    assert double.stage is not None
    world = double.stage.trt.world
    engine = double.engine(_product(double), RELU_RANGE, config=REFITTABLE)

    def grumble(_self: Any, *_: Any) -> bool:
        world.log("ERROR", "no such count")
        return True

    monkeypatch.setattr(refitting.Refitter, "set_named_weights", grumble)
    with pytest.raises(RefitError, match=r"weights 'w', float32\[2, 2\]: no such count"):
        engine.refit({"w": floats(2, 2)})


def test_a_refit_that_fails_is_told(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert double.stage is not None
    world = double.stage.trt.world
    engine = double.engine(_product(double), RELU_RANGE, config=REFITTABLE)

    def fail(_self: Any) -> bool:
        world.log("ERROR", "the library's own words")
        return False

    monkeypatch.setattr(refitting.Refitter, "refit_cuda_engine", fail)
    with pytest.raises(RefitError, match="the library's own words"):
        engine.refit({"w": floats(2, 2)})
    engine.info = replace(engine.info, facts={**engine.info.facts, "refittable": True})
    fixed = double.engine(_product(double), RELU_RANGE)
    fixed.info = replace(fixed.info, facts={**fixed.info.facts, "refittable": True})
    with pytest.raises(RefitError, match="not built with kREFIT"):
        fixed.refit({"w": floats(2, 2)})


def test_weights_are_read_where_they_lie(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """So those that had to be copied must live until the refit is done."""
    engine = double.engine(_product(double), RELU_RANGE, config=REFITTABLE)
    seen: list[Any] = []
    given = refitting.Refitter.set_named_weights
    done = refitting.Refitter.refit_cuda_engine

    def note(self: Any, name: str, weights: Any, *rest: Any) -> bool:
        array = state(weights).array
        assert array.flags.c_contiguous
        seen.append(weakref.ref(array))
        accepted: bool = given(self, name, weights, *rest)
        state(weights).array = array.copy()  # the double's own hold is none that TensorRT has
        return accepted

    def look(self: Any) -> bool:
        gc.collect()
        assert seen[0]() is not None, "the array was freed"
        finished: bool = done(self)
        return finished

    monkeypatch.setattr(refitting.Refitter, "set_named_weights", note)
    monkeypatch.setattr(refitting.Refitter, "refit_cuda_engine", look)
    weight = floats(2, 2)
    engine.refit({"w": weight.T.astype(np.float64)})
    x = floats(3, 2)
    assert np.allclose(double.session(engine).run({"x": x})["y"], x @ weight.T, rtol=1e-5)


def test_illegal_access_is_told_and_takes_the_host_with_it(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    session = double.session(double.engine(double.relu(), RELU_RANGE))
    session.run({"x": floats(3, 2)})

    def stray(_self: Program, _inputs: Any) -> Any:
        raise IllegalAddress("beyond the end")

    monkeypatch.setattr(Program, "run", stray)
    with pytest.raises(RunError, match="illegal memory access") as caught:
        session.run({"x": floats(3, 2)})
    assert caught.value.detail == {"cuda_error": 700, "replace_host": True}


def test_plan_of_another_version_is_refused(double: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    from harness.errors import DeserializeError

    other = next(subject for subject in DOUBLES if subject.version != double.subject.version)
    with bench_of_double(other, probe_of(other), tmp_path_factory.mktemp("other")) as foreign:
        plan = foreign.build(foreign.relu(), RELU_RANGE).data
    with pytest.raises(DeserializeError) as caught:
        double.backend.load(plan)
    said(caught.value, "Serialization")


def test_a_shape_tensor_stays_where_a_graph_was_told_it_is(double: Bench) -> None:
    double.need("run", "shape_tensors")
    session = double.session(double.engine(_reshape(double), contents=RESHAPE_CONTENTS))
    told = []
    for shape in ((8, 3), (2, 12)):
        session.run({"x": floats(4, 6), "shape": np.array(shape, np.int64)})
        told.append(session.context.get_tensor_address("shape"))
    assert told[0] == told[1]


def test_a_plan_that_needs_a_plugin_library_is_not_kept(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process would have to load the library first."""
    monkeypatch.setattr(double.backend, "_load_plugins", lambda *_: None)
    config = BuildConfig(tactic_sources=())
    assert double.build(double.relu(), RELU_RANGE, config=config).keep
    config = BuildConfig(tactic_sources=(), plugins=("/some/libplugin.so",))
    assert not double.build(double.relu(), RELU_RANGE, config=config).keep


def test_a_plugin_library_is_loaded_before_the_plan_that_needs_it(
    double: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.errors import DeserializeError

    plan = double.build(double.relu(), RELU_RANGE).data
    with pytest.raises(DeserializeError, match=r"/absent/plugin\.so"):
        double.backend.load(plan, ("/absent/plugin.so",))
    loaded: list[str] = []
    monkeypatch.setattr(PluginRegistry, "load_library", lambda _self, path: loaded.append(path) or CAPSULE)
    deserialize = runs.Runtime.deserialize_cuda_engine
    monkeypatch.setattr(
        runs.Runtime, "deserialize_cuda_engine", lambda *given: loaded.append("plan") or deserialize(*given)
    )
    for _ in range(2):
        double.backend.load(plan, ("/a/plugin.so",)).close()
    assert loaded == ["/a/plugin.so", "plan", "plan"], "into each registry once"


def test_tactic_sources_that_are_refused_are_told(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds.Config, "set_tactic_sources", lambda _self, _sources: False)
    config = BuildConfig(tactic_sources=("JIT_CONVOLUTIONS",))
    with pytest.raises(BuildError, match="tactic sources: JIT_CONVOLUTIONS: refused"):
        double.build(double.relu(), RELU_RANGE, config=config)


def test_an_error_has_all_that_was_said_since_the_call_began(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert double.stage is not None
    world = double.stage.trt.world
    parser = parsers.Parser
    read = parser.parse_from_file

    def chatty(self: Any, path: str) -> Any:
        world.log("VERBOSE", "a detail")
        world.log("INFO", f"{len(path)} characters of a name")
        return read(self, path)

    monkeypatch.setattr(parser, "parse_from_file", chatty)
    with pytest.raises(BuildError) as caught:  # by a later call than the one that spoke
        double.build(double.relu(), {"x": ((4, 2), (3, 2), (1, 2))})
    log = caught.value.log
    assert log[0].startswith("[INFO] ")
    assert log[-1].startswith("[ERROR] ")
    assert len(log) == len(set(log)), "each once"
    assert not [line for line in log if "a detail" in line]
    with pytest.raises(BuildError) as caught:
        double.build(double.relu(), {"x": ((4, 2), (3, 2), (1, 2))})
    assert caught.value.log == log, "and nothing of the call before"


def test_what_an_engine_shows_to_stand_against_capture_is_a_missing_ability(double: Bench) -> None:
    double.need("run", "cuda_graph", "data_dependent_shapes")
    node = helper.make_node("NonZero", ["x"], ["y"])
    path = double.model([node], {"x": (FLOAT, ["n", 2])}, {"y": (INT64, [2, "found"])})
    session = double.session(double.engine(path, RELU_RANGE))
    with pytest.raises(UnsupportedError, match=r"cuda_graph: .*sizes of y depend on data"):
        session.run({"x": floats(3, 2)}, graph=True)


def test_any_other_refused_capture_is_a_failure(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    session = double.session(double.engine(double.relu(), RELU_RANGE))
    assert double.stage is not None
    cuda, world = double.stage.cuda, double.stage.trt.world
    context = runs.Context
    enqueue = context.execute_async_v3

    def refuse(self: Any, stream: int) -> Any:
        if cuda.streams[int(stream)].captured is None:
            return enqueue(self, stream)
        world.log("ERROR", "this TRT engine is not stream capturable!")
        return False

    monkeypatch.setattr(context, "execute_async_v3", refuse)
    with pytest.raises(RunError, match="can't be captured: this TRT engine is not stream capturable!") as caught:
        session.run({"x": floats(3, 2)}, graph=True)
    assert caught.value.detail == {UNCAPTURABLE: True, "touched": ()}
    said(caught.value)


def test_a_graph_does_not_pass_for_refreshing_outputs_on_the_host(
    double: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert double.stage is not None
    there = double.stage.trt.world.enum("TensorLocation.HOST")
    engine = runs.Engine
    where = engine.get_tensor_location
    monkeypatch.setattr(engine, "get_tensor_location", lambda self, name: there if name == "y" else where(self, name))
    session = double.session(double.engine(double.relu(), RELU_RANGE))
    with pytest.raises(UnsupportedError, match=r"outputs on the host.*y"):
        session.run({"x": floats(3, 2)}, graph=True)


def test_four_bits_are_two_to_a_byte(double: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is told to hold them; that the double writes nothing leaves the poison, which is all that is there."""
    from harness.runtime.backend.nv import elements

    engine = double.engine(double.relu(), RELU_RANGE)
    engine.info = replace(
        engine.info, tensors=tuple(replace(t, dtype="int4") if t.name == "y" else t for t in engine.info.tensors)
    )
    session = double.session(engine)
    monkeypatch.setattr(Program, "run", lambda _self, _inputs: {})
    monkeypatch.setattr(Program, "output_shapes", lambda *_: {"y": (3, 2)})
    got = session.run({"x": floats(3, 2)})["y"]
    assert (got.shape, got.ravel().tolist()) == ((3, 2), [0x5, 0xA] * 3)
    values = np.arange(15, dtype=np.uint8).reshape(3, 5)
    held = elements.packed("float4_e2m1fn", values)
    assert held.nbytes == elements.nbytes("float4_e2m1fn", values.shape) == 8
    assert held[:2].tolist() == [0x10, 0x32]
    assert np.array_equal(elements.unpacked("float4_e2m1fn", held, (3, 5)), values)


def test_what_is_closed_is_freed(double: Bench) -> None:
    engine = double.backend.load(double.build(double.relu(), RELU_RANGE).data)
    session = engine.session()
    session.run({"x": floats(1, 2)}, graph=True)
    assert double.stage is not None
    trt = double.stage.trt
    assert (trt.live("ICudaEngine"), trt.live("IExecutionContext")) == (1, 1)
    session.close()
    assert trt.live("IExecutionContext") == 0
    assert double.stage.cuda.live() == {}
    engine.close()
    assert trt.live("ICudaEngine") == 0
    double.backend.close()
    assert [trt.live(name) for name in ("Builder", "Runtime", "INetworkDefinition", "IBuilderConfig")] == [0, 0, 0, 0]


_ASYNC = {
    (
        "dialect.py",
        "Dialect.output_allocator.<locals>.Allocator.reallocate_output",
    ): "replaced by its asynchronous form",
}
_RUNTIME = {("probe.py", "_runtime"): "only a runtime without a builder is probed so, below"}
_LATER = (
    _ASYNC
    | _RUNTIME
    | {
        ("probe.py", "_version"): "there is nothing of a refit that they lack",
        ("probe.py", "_absent"): "there is nothing of plans that they lack",
        ("run.py", "NvSession._within_profile"): "they hold a shape against its profile as it is told",
    }
)
NOT_COVERED_BY_ALL = {
    "double-10.16.1": _LATER,
    "double-11.4.0": _LATER,
    "double-rtx_1.7.1": _LATER,
    "double-8.6.1": _RUNTIME
    | {
        ("dialect.py", "Dialect.output_allocator.<locals>.Allocator.reallocate_output_async"): "came with 10.0",
        ("dialect.py", "Dialect.device_weights"): "as above",
        ("probe.py", "_by"): "as above",
        ("dialect.py", "Dialect.mark_refittable"): "the flag for it is missing first",
        ("dialect.py", "Dialect.monitor"): "there is no progress monitor before 9.1",
        ("dialect.py", "Dialect.monitor.<locals>.Monitor.__init__"): "as above",
        ("dialect.py", "Dialect.monitor.<locals>.Monitor.phase_start"): "as above",
        ("dialect.py", "Dialect.monitor.<locals>.Monitor.step_complete"): "as above",
        ("dialect.py", "Dialect.monitor.<locals>.Monitor.phase_finish"): "as above",
        ("dialect.py", "Dialect.stream_reader"): "came with 10.7",
        ("dialect.py", "Dialect.stream_reader.<locals>.Reader.__init__"): "as above",
        ("dialect.py", "Dialect.stream_reader.<locals>.Reader.read"): "as above",
        ("dialect.py", "Dialect.stream_reader.<locals>.Reader.seek"): "as above",
        ("dialect.py", "Dialect.stream_writer"): "came with 10.13",
        ("dialect.py", "Dialect.stream_writer.<locals>.Writer.__init__"): "as above",
        ("dialect.py", "Dialect.stream_writer.<locals>.Writer.write"): "as above",
        ("run.py", "NvEngine._keep_at_most"): "weights are streamed since 10.0",
        ("run.py", "NvSession.is_open"): "as above",
    },
}


def functions_of(folder: Path) -> Functions:
    """Every function and method that the modules in ``folder`` define, nested ones too."""
    found: Functions = set()
    for file in folder.glob("*.py"):
        stack = [compile(file.read_text(), str(file), "exec")]
        while stack:
            code = stack.pop()
            stack += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
            # A class body is no function; what has no name of its own is part of the function it stands in.
            if code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith("<"):
                found.add((file.name, code.co_qualname))
    return found


@pytest.mark.parametrize("subject", DOUBLES, ids=str)
def test_every_function_of_the_backend_ran(subject: Subject, tmp_path: Path) -> None:
    """Against each version: a function that no check reaches may use any name."""
    for one in (subject, WITHOUT_GPU[subject]):
        probe_of(one)
    for promise, check in CHECKS.items():
        if promise not in _SEEN[subject.name]:  # another worker's, or not chosen
            folder = tmp_path / promise
            folder.mkdir()
            with (
                bench_of_double(subject, _PROBES[subject.name], folder) as bench,
                watched(subject, promise),
                contextlib.suppress(NotCovered),
            ):
                check(bench)
    ran = set().union(*_SEEN[subject.name].values(), *_SEEN[WITHOUT_GPU[subject].name].values())
    excused = NOT_COVERED_BY_ALL.get(subject.name, {}).keys()
    assert functions_of(NV) - ran == excused


# Runtimes that build nothing.


@pytest.mark.parametrize("kind", ["lean", "dispatch"])
@pytest.mark.parametrize(
    ("flags", "host_code", "refusals"),
    [
        ((), False, {"lean": "was not built with kVERSION_COMPATIBLE", "dispatch": "was not built with"}),
        (("VERSION_COMPATIBLE",), True, {}),
        (("VERSION_COMPATIBLE",), False, dict.fromkeys(("lean", "dispatch"), "engineHostCodeAllowed is not set")),
        (("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"), False, {"dispatch": "Unexpected call to stub"}),
    ],
)
def test_a_runtime_without_a_builder_loads_and_runs(
    kind: str, flags: tuple[str, ...], host_code: bool, refusals: dict[str, str], tmp_path: Path
) -> None:
    """With nothing of what is left out of its bindings: no builder, network, parser, flag or plugin function."""
    from harness.errors import DeserializeError

    with bench_of_double(DOUBLES[0], probe_of(DOUBLES[0]), tmp_path) as full:
        plan = full.build(full.relu(), RELU_RANGE, config=BuildConfig(tactic_sources=(), flags=flags)).data
    runtime = Subject(f"double-{kind}", f"tensorrt_{kind}", f"{kind}_8.6.1")
    found = probe_double(runtime)
    states = {c.name: c.state for c in found.capabilities if c.name in ("import", "gpu", "deserialize")}
    assert set(states.values()) == {State.PRESENT}
    assert (found.version, found.has("build"), found.has("network_function")) == ("8.6.1", False, False)
    with bench_of_double(runtime, found, tmp_path) as bench:
        if kind in refusals:
            with pytest.raises(DeserializeError, match=refusals[kind]) as caught:
                bench.backend.load(plan, host_code=host_code)
            said(caught.value)
            return
        engine = bench.backend.load(plan, host_code=host_code)
        bench.stack.callback(engine.close)
        x = floats(3, 2)
        assert np.array_equal(bench.session(engine).run({"x": x})["y"], np.maximum(x, 0))
        assert {tensor.format for tensor in engine.info.tensors} == {""}, "its bindings have no word for it"
        with pytest.raises(UnsupportedError, match=r"engine inspector.* lacks it"):
            engine.inspect()


@pytest.mark.parametrize("kind", ["lean", "dispatch"])
def test_a_runtime_without_a_word_for_places_knows_what_decides_shapes(kind: str, tmp_path: Path) -> None:
    with bench_of_double(DOUBLES[0], probe_of(DOUBLES[0]), tmp_path) as full:
        config = BuildConfig(tactic_sources=(), flags=("VERSION_COMPATIBLE",))
        plan = full.build(_reshape(full), contents=RESHAPE_CONTENTS, config=config).data
    runtime = Subject(f"double-{kind}", f"tensorrt_{kind}", f"{kind}_8.6.1")
    with bench_of_double(runtime, probe_double(runtime), tmp_path) as bench:
        engine = bench.backend.load(plan, host_code=True)
        bench.stack.callback(engine.close)
        assert {tensor.name: tensor.shape_tensor for tensor in engine.info.inputs} == {"x": False, "shape": True}
        x = floats(4, 6)
        got = bench.session(engine).run({"x": x, "shape": np.array((8, 3), np.int64)})["y"]
        assert np.array_equal(got, x.reshape(8, 3))


@pytest.mark.parametrize("kind", ["lean", "dispatch"])
def test_a_runtime_that_is_not_there_says_what_brings_it(kind: str) -> None:
    with installed("8.6.1"):  # and no other vendor's module
        from harness.runtime.backend.nv.backend import NvBackend

        found = NvBackend(f"tensorrt_{kind}").probe()
    (capability,) = found.capabilities
    assert (capability.name, capability.state) == ("import", State.ABSENT)
    assert capability.fix == f"pip install tensorrt_{kind}"
    assert found.find("deserialize").fix == capability.fix


def test_a_runtime_without_a_gpu_dies_of_it() -> None:
    """As TensorRT's own: the host that probes it dies, and that is the finding."""
    runtime = Subject("double-lean-without-gpu", "tensorrt_lean", "lean_8.6.1", gpu=False)
    with pytest.raises(Crashed, match="signal 11"):
        probe_double(runtime)


# The contract's own eyes.


def asks_elsewhere(bench: Bench) -> None:
    assert bench.stage is not None
    assert not hasattr(bench.stage.trt.module, "IProgressMonitor")


def swallows_a_refusal(bench: Bench) -> None:
    assert bench.stage is not None
    module: Any = bench.stage.trt.module
    with contextlib.suppress(TypeError):
        module.Builder()


def leaves_a_session(bench: Bench) -> None:
    bench.engine(bench.relu(), RELU_RANGE).session()


@pytest.mark.parametrize(
    ("careless", "words"),
    [
        (asks_elsewhere, r"only the dialect may ask.*IProgressMonitor in .*test_nv_contract\.py"),
        (swallows_a_refusal, r"does not take.*Builder\.__init__"),
        (leaves_a_session, r"left on the device.*streams"),
    ],
)
def test_contract_sees(careless: Callable[[Bench], None], words: str, tmp_path: Path) -> None:
    def judged() -> None:
        with bench_of_double(DOUBLES[0], probe_of(DOUBLES[0]), tmp_path) as bench:
            careless(bench)

    with pytest.raises(AssertionError, match=words):
        judged()


def test_function_that_no_check_reaches_is_found(tmp_path: Path) -> None:
    file = tmp_path / "more.py"
    file.write_text(
        "class A:\n    def f(self):\n        def g():\n            return [x for x in ()]\n        return g\n"
    )
    assert functions_of(tmp_path) == {("more.py", "A.f"), ("more.py", "A.f.<locals>.g")}


# The doubles themselves, beside the real one.


@pytest.mark.parametrize("subject", [s for s in SUBJECTS if not s.version], ids=str)
def test_double_lists_what_the_real_one_has(subject: Subject, tmp_path: Path, hosts: dict[str, Any]) -> None:
    """Classes, members, enums and their integers of the version that is installed, where there is a double of it."""
    bench = real_bench(subject, tmp_path, hosts)
    versions = {make(s.version, plays).version: s.version for s in DOUBLES if s.backend == subject.backend}
    if bench.probe.version not in versions:
        pytest.skip(f"not covered here: there is no double of {subject.backend} {bench.probe.version}")
    module = make(versions[bench.probe.version], plays).module
    backend: Any = bench.backend
    real = backend.call("tests.contract.bodies:surface", {"name": bench.probe.environment["module"]}, folder=str(ROOT))
    assert bodies.surface_of(module) == real


@pytest.mark.parametrize("subject", [s for s in SUBJECTS if not s.version], ids=str)
def test_double_reads_networks_as_the_real_one_does(subject: Subject, tmp_path: Path, hosts: dict[str, Any]) -> None:
    """Over the zoo: the same verdict, names, types, ranks and shape tensors, and no size that the other denies."""
    import models

    bench = real_bench(subject, tmp_path, hosts)
    version = {make(s.version, plays).version: s.version for s in DOUBLES}.get(bench.probe.version)
    if version is None:
        pytest.skip(f"not covered here: there is no double of {subject.backend} {bench.probe.version}")
    backend: Any = bench.backend
    files = {m.id: str(m.source.path()) for m in models.ZOO if m.size == "tiny" and "shipped" not in m.tags}
    real = backend.call("tests.contract.bodies:networks", {"name": subject.backend, "paths": files}, folder=str(ROOT))
    with installed(version, gpu=bench.probe.has("gpu")):
        from harness.runtime.backend.nv.backend import NvBackend

        played = bodies.networks_of(NvBackend(subject.backend), files)
    assert len(files) > 24
    assert {label for label, tensors in real.items() if tensors is None} == {
        label for label, tensors in played.items() if tensors is None
    }
    for label, tensors in real.items():
        for (name, kind, shape, shaping), other in zip(tensors or (), played[label] or (), strict=True):
            assert [name, kind, len(shape), shaping] == [other[0], other[1], len(other[2]), other[3]], label
            assert all(a == b for a, b in zip(shape, other[2], strict=True) if a >= 0 and b >= 0), (label, name)


@pytest.mark.parametrize("version", [subject.version for subject in DOUBLES if subject.backend == "tensorrt"])
def test_probing_without_a_gpu_costs_the_host(version: str) -> None:
    """Full TensorRT without a GPU: a Builder is a null pointer, a Runtime ends the process."""
    program = f"""
import sys
from tests.doubles.install import installed
with installed({version!r}, gpu=False) as stage:
    trt = stage.trt.module
    try:
        trt.Builder(trt.Logger())
    except TypeError as error:
        print(error, flush=True)
    trt.Runtime(trt.Logger())
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == -11, ended.stderr
    assert ended.stdout == "pybind11::init(): factory function returned nullptr\n"


@pytest.mark.parametrize("subject", DOUBLES, ids=str)
def test_states_that_must_not_be_mixed_up(subject: Subject) -> None:
    """Present, absent, in need of a GPU, and useless, with one and without."""
    rtx = subject.backend == "tensorrt_rtx"
    there, needs, absent = State.PRESENT, State.NEEDS_GPU, State.ABSENT
    weak = there if subject.version in ("8.6.1", "10.16.1") else absent
    names = ("build", "shape_tensors", "deserialize", "run", "cuda_graph", "timing_cache", "weak_typing", "refit")
    later = ("refit_async", "refit_device", "parser_refit", "refit_individual", "strip_plan")  # came with 10

    def states(one: Subject) -> list[State]:
        return [probe_of(one).find(name).state for name in names]

    cache = State.USELESS if rtx else there
    assert states(subject) == [there, there, there, there, there, cache, weak, there]
    builds = there if rtx else needs
    cache = State.USELESS if rtx else needs
    assert states(WITHOUT_GPU[subject]) == [builds, builds, needs, needs, needs, cache, weak, needs]
    old = subject.version == "8.6.1"
    for one, state_of in ((subject, there), (WITHOUT_GPU[subject], needs)):
        found = {name: probe_of(one).find(name) for name in later}
        assert {name: one.state for name, one in found.items()} == dict.fromkeys(later, absent if old else state_of)
        assert all(not old or "has no" in one.evidence for one in found.values())
