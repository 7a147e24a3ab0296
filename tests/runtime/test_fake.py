"""The fake backend: honest unless asked otherwise, and every fault of it shows in the way that it says."""

from __future__ import annotations

import dataclasses
import gc
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

from harness.errors import (
    BuildError,
    DeserializeError,
    ParseError,
    RefitError,
    RunError,
    SpecError,
    StageError,
    UnsupportedError,
)
from harness.report.layers import Layer, Tensor, read
from harness.runtime.backend.fake import FAULT_VARIABLE, PARAMETERS, SLOWNESS, FakeBackend, FakeEngine, Fault
from harness.runtime.backend.fake_timings import FakeTimings
from harness.runtime.backend.protocol import (
    POISON,
    REFUSED_TIMINGS,
    UNCAPTURABLE,
    Array,
    BuildRequest,
    Residue,
    ShapeRange,
)
from harness.runtime.capability import State
from harness.runtime.fingerprint import fingerprint
from harness.runtime.footprint import footprint
from harness.spec import RECIPES, BuildConfig
from tests.runtime import test_fake_plans, test_fake_samples
from tests.runtime.test_fake_refits import TRIED
from tests.runtime.test_host import CRASHES

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
ranker (float[batch, 4] x, int64[batch] offset) => (float[batch, 4] y, int64[batch] best, bool[batch, 4] above)
{
    two = Constant <value_float = 2.0> ()
    y = Mul (x, two)
    top = ArgMax <axis = 1, keepdims = 0> (x)
    best = Add (top, offset)
    above = Greater (x, two)
}
"""
WIDE = {"x": ShapeRange((1, 4), (2, 4), (8, 4)), "offset": ShapeRange((1,), (2,), (8,))}
NARROW = {"x": ShapeRange((3, 4), (3, 4), (3, 4)), "offset": ShapeRange((3,), (3,), (3,))}
Outputs = dict[str, Array]


@pytest.fixture
def request_(tmp_path: Path) -> BuildRequest:
    file = tmp_path / "ranker.onnx"
    file.write_bytes(onnx.parser.parse_model(MODEL).SerializeToString())
    return BuildRequest("ranker", RECIPES["fp32"], BuildConfig(), (WIDE, NARROW), ({}, {}), model=str(file))


def inputs(rows: int = 3, seed: int = 0) -> Outputs:
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((rows, 4), dtype=np.float32) * 3
    return {"x": x, "offset": draw.integers(0, 9, rows)}


def right(given: Outputs) -> Outputs:
    x = given["x"]
    return {"y": 2 * x, "best": x.argmax(1) + given["offset"], "above": x > 2}


def run(fault: str, request: BuildRequest, given: Outputs | None = None, profile: int = 0) -> Outputs:
    backend = FakeBackend(fault)
    return backend.load(backend.build(request).data).session(profile).run(inputs() if given is None else given)


def assert_equal(got: Outputs, expected: Outputs) -> None:
    assert list(got) == list(expected)
    for name, array in got.items():
        np.testing.assert_array_equal(array, expected[name], strict=True)


def differs(got: Outputs, expected: Outputs) -> bool:
    """True where every output is wrong somewhere, False where none is; anything between fails."""
    wrong = {not np.array_equal(got[name], expected[name]) for name in expected}
    assert len(wrong) == 1
    return wrong.pop()


# ---------------------------------------------------------------- honest


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("graph", [False, True])
def test_it_computes(request_: BuildRequest, rows: int, graph: bool) -> None:
    backend = FakeBackend()
    session = backend.load(backend.build(request_).data).session()
    for seed in range(3):
        given = inputs(rows, seed)
        assert_equal(session.run(given, graph=graph), right(given))


def test_it_can_all_that_it_says(request_: BuildRequest) -> None:
    probe = FakeBackend().probe()
    assert probe.version == onnx.__version__
    assert {capability.state for capability in probe.capabilities} == {State.PRESENT}
    info = FakeBackend().load(FakeBackend().build(request_).data).info
    assert info.profiles == 2
    assert [(t.name, t.mode, t.dtype, t.shape) for t in info.tensors] == [
        ("x", "input", "float32", (-1, 4)),
        ("offset", "input", "int64", (-1,)),
        ("y", "output", "float32", (-1, 4)),
        ("best", "output", "int64", (-1,)),
        ("above", "output", "bool", (-1, 4)),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": np.zeros((3, 4), np.float32)}, "inputs .'x'. were given"),
        (inputs() | {"z": np.zeros(1)}, "inputs .*'z'.* were given"),
        (inputs() | {"x": np.zeros((3, 4))}, "input 'x' is float64, the engine takes float32"),
        (inputs(9), r"input 'x' of shape \(9, 4\) lies outside profile 0"),
        (inputs() | {"offset": np.zeros((3, 1), np.int64)}, r"'offset' of shape \(3, 1\) lies outside"),
    ],
)
def test_it_refuses_what_does_not_fit(request_: BuildRequest, given: Outputs, message: str) -> None:
    with pytest.raises(RunError, match=message):
        run("", request_, given)


def test_a_profile_of_one_shape_takes_that_alone(request_: BuildRequest) -> None:
    assert_equal(run("", request_, inputs(3), profile=1), right(inputs(3)))
    with pytest.raises(RunError, match="lies outside profile 1"):
        run("", request_, inputs(2), profile=1)
    with pytest.raises(DeserializeError, match="no such profile"):
        run("", request_, profile=2)


def reshape(tmp_path: Path) -> BuildRequest:
    """Twelve numbers brought to the shape that an input holds."""
    text = """<ir_version: 8, opset_import: ["": 17]> r (float[12] x, int64[2] shape) => (float[a, b] y)
              { y = Reshape (x, shape) }"""
    file = tmp_path / "reshape.onnx"
    file.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    contents = {"shape": ShapeRange((1, 2), (3, 4), (6, 12))}
    return BuildRequest("reshape", RECIPES["fp32"], BuildConfig(), ({},), (contents,), model=str(file))


def test_shape_tensors_have_ranges_of_their_own(tmp_path: Path) -> None:
    asked = reshape(tmp_path)
    x = np.arange(12, dtype=np.float32)
    got = run("", asked, {"x": x, "shape": np.array([3, 4])})
    assert_equal(got, {"y": x.reshape(3, 4)})
    with pytest.raises(RunError, match=r"shape tensor 'shape': \[12, 1\] lies outside profile 0"):
        run("", asked, {"x": x, "shape": np.array([12, 1])})
    with pytest.raises(RunError, match="the reference evaluator: ValueError"):
        run("", asked, {"x": x, "shape": np.array([5, 5])})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an onnx file", "can't be read: DecodeError"),
        (b"", "has no outputs"),
        (None, "can't be read: FileNotFoundError"),
        (MODEL.replace("Mul (x", "Nonsense (x"), "Nonsense"),
    ],
    ids=["noise", "empty", "missing", "unknown operator"],
)
def test_it_parses_no_nonsense(request_: BuildRequest, content: bytes | str | None, message: str) -> None:
    file = Path(request_.model)
    file.unlink()
    if isinstance(content, str):
        file.write_bytes(onnx.parser.parse_model(content).SerializeToString())
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(ParseError, match=message):
        FakeBackend().build(request_)


@pytest.mark.parametrize(
    "change",
    [{"network": "a:b"}, {"config": BuildConfig(flags=("INT8",))}, {"config": BuildConfig(plugins=("a.so",))}],
    ids=["network", "flag", "plugin"],
)
def test_it_refuses_options_that_it_lacks(request_: BuildRequest, change: dict[str, object]) -> None:
    with pytest.raises(UnsupportedError):
        FakeBackend().build(dataclasses.replace(request_, **change))  # type: ignore[arg-type]


def test_a_plan_that_is_none_is_refused(request_: BuildRequest) -> None:
    plan = FakeBackend().build(request_).data
    for damaged in (plan[:0], plan[1:], plan[:30], np.concatenate([plan[:-40], np.full(40, 255, np.uint8)])):
        with pytest.raises(DeserializeError):
            FakeBackend().load(damaged)


# ---------------------------------------------------------------- faults


def wrong_rows(got: Outputs, expected: Outputs) -> None:
    assert differs({name: array[:1] for name, array in got.items()}, {n: a[:1] for n, a in expected.items()}) is False
    assert all((got[name][1:] != expected[name][1:]).all() for name in got)


def rows_leak(got: Outputs, expected: Outputs) -> None:
    assert_equal({name: array[:-1] for name, array in got.items()}, {n: a[1:] for n, a in expected.items()})


def nan(got: Outputs, expected: Outputs) -> None:
    assert np.isnan(got["y"]).sum() == 1
    assert_equal({"best": got["best"]}, {"best": expected["best"]})


def unwritten(got: Outputs, expected: Outputs) -> None:
    assert np.isnan(got["y"]).sum() == np.isnan(got["y"][-1, -1]) == 1
    assert got["best"].view(np.uint8)[-8:].tolist() == [POISON] * 8
    np.testing.assert_array_equal(got["best"][:-1], expected["best"][:-1])


def imprecise(got: Outputs, expected: Outputs) -> None:
    step = 0.01 * np.abs(expected["y"]).max()
    np.testing.assert_allclose(got["y"] - expected["y"], step, rtol=1e-3)
    assert differs(got, expected)


def missing_output(got: Outputs, expected: Outputs) -> None:
    assert list(got) == list(expected)[1:]


def extra_output(got: Outputs, expected: Outputs) -> None:
    assert [*expected, "unasked"] == list(got)


def reshaped_output(got: Outputs, expected: Outputs) -> None:
    assert got["y"].shape == (1, *expected["y"].shape)


def other_type(got: Outputs, expected: Outputs) -> None:
    assert (expected["y"].dtype.name, got["y"].dtype.name) == ("float32", "float64")


SPOILT: dict[str, Callable[[Outputs, Outputs], None]] = {
    check.__name__: check
    for check in (
        wrong_rows,
        rows_leak,
        nan,
        unwritten,
        imprecise,
        missing_output,
        extra_output,
        reshaped_output,
        other_type,
    )
}


@pytest.mark.parametrize("fault", SPOILT)
def test_outputs_are_wrong_as_told(request_: BuildRequest, fault: str) -> None:
    SPOILT[fault](run(fault, request_), right(inputs()))


@pytest.mark.parametrize("fault", ["wrong_rows", "rows_leak"])
def test_one_row_alone_is_right(request_: BuildRequest, fault: str) -> None:
    assert_equal(run(fault, request_, inputs(1)), right(inputs(1)))


def test_stale(request_: BuildRequest) -> None:
    backend = FakeBackend("stale")
    session = backend.load(backend.build(request_).data).session()
    first, second, third = (inputs(seed=seed) for seed in range(3))
    assert_equal(session.run(first), right(first))
    assert_equal(session.run(second), right(first))
    assert_equal(session.run(third), right(second))
    assert_equal(session.run(inputs(2)), right(inputs(2)))


def test_stale_graph(request_: BuildRequest) -> None:
    backend = FakeBackend("stale_graph")
    session = backend.load(backend.build(request_).data).session()
    first, second = inputs(seed=1), inputs(seed=2)
    captured = {name: array.copy() for name, array in first.items()}
    assert_equal(session.run(first, graph=True), right(captured))
    first["x"][...] = 0  # the caller's arrays are the caller's
    assert_equal(session.run(second, graph=True), right(captured))
    assert_equal(session.run(second), right(second))
    assert_equal(session.run(inputs(2), graph=True), right(inputs(2)))


def test_wide_profile(request_: BuildRequest) -> None:
    assert differs(run("wide_profile", request_, profile=0), right(inputs()))
    assert_equal(run("wide_profile", request_, profile=1), right(inputs()))


def test_second_session(request_: BuildRequest) -> None:
    backend = FakeBackend("second_session")
    engine = backend.load(backend.build(request_).data)
    first = engine.session()
    assert_equal(first.run(inputs()), right(inputs()))
    second = engine.session()
    assert differs(first.run(inputs()), right(inputs()))
    second.close()
    assert_equal(first.run(inputs()), right(inputs()))


def test_other_rebuild(request_: BuildRequest) -> None:
    backend = FakeBackend("other_rebuild")
    first, second = (backend.load(backend.build(request_).data).session() for _ in range(2))
    assert_equal(first.run(inputs()), right(inputs()))
    assert differs(second.run(inputs()), right(inputs()))


def test_slow(request_: BuildRequest) -> None:
    backend = FakeBackend("slow")
    session = backend.load(backend.build(request_).data).session()
    started = time.perf_counter()
    assert_equal(session.run(inputs()), right(inputs()))
    assert time.perf_counter() - started >= SLOWNESS


REFUSALS: dict[str, tuple[type[StageError], str]] = {
    "parse_error": (ParseError, "not today"),
    "builder_none": (BuildError, "the builder returned None"),
    "deserialize_none": (DeserializeError, "the runtime returned None"),
    "enqueue_false": (RunError, "the enqueue returned False"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_call_that_fails_by_what_it_returns_is_an_error(request_: BuildRequest, fault: str) -> None:
    kind, message = REFUSALS[fault]
    with pytest.raises(StageError, match=message) as caught:
        run(fault, request_)
    assert type(caught.value) is kind
    assert caught.value.detail["operator"] == "Constant" if fault == "parse_error" else caught.value.log


def test_fixed_weights(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="the builder returned None"):
        engine_of("fixed_weights", tmp_path, "REFIT")
    given = grid(3, 4)
    np.testing.assert_array_equal(engine_of("fixed_weights", tmp_path).session().run(given)["y"], 2 * given["x"])


def test_uncapturable(request_: BuildRequest) -> None:
    backend = FakeBackend("uncapturable")
    session = backend.load(backend.build(request_).data).session()
    assert_equal(session.run(inputs()), right(inputs()))
    with pytest.raises(RunError, match="can't be captured") as caught:
        session.run(inputs(), graph=True)
    assert caught.value.detail == {UNCAPTURABLE: True, "touched": ()}


def test_a_plan_that_wants_a_library_that_is_not_there(request_: BuildRequest, tmp_path: Path) -> None:
    backend = FakeBackend()
    plan = backend.build(request_).data
    with pytest.raises(DeserializeError, match=r"absent\.so: the plugin library could not be loaded"):
        backend.load(plan, (str(tmp_path / "absent.so"),))
    backend.load(plan, (__file__,)).close()


def test_bug(request_: BuildRequest) -> None:
    with pytest.raises(ZeroDivisionError):
        run("bug", request_)


def test_absent() -> None:
    probe = FakeBackend("absent").probe()
    assert (probe.find("run").state, probe.version) == (State.ABSENT, "")
    with pytest.raises(UnsupportedError, match="pip install fake"):
        probe.require(["run"])


def test_wrong_probe() -> None:
    """It can be loaded, and is of no use: what probing ran was wrong."""
    probe = FakeBackend("wrong_probe").probe()
    assert (probe.find("deserialize").state, probe.find("run").state) == (State.PRESENT, State.USELESS)
    assert probe.find("run").evidence == "Relu of -1.0 gave 12.0"


def test_needs_gpu(request_: BuildRequest) -> None:
    backend = FakeBackend("needs_gpu")
    probe = backend.probe()
    assert probe.has("build")
    assert {probe.find(name).state for name in ("deserialize", "run", "cuda_graph")} == {State.NEEDS_GPU}
    plan = backend.build(request_)
    with pytest.raises(UnsupportedError, match="no fake GPU"):
        backend.load(plan.data)


# ---------------------------------------------------------------- inside the profiles

GRID = """
<ir_version: 8, opset_import: ["": 17]>
grid (float[batch, width] x, float[batch, width] mask) => (float[batch, width] y)
<float[1] w = {2.0}>
{
    kept = Mul (x, mask)
    y = Mul (kept, w)
}
"""
BOUNDS = (((1, 8), (1, 6)), ((2, 4), (3, 5)))  # smallest and largest of batch and of width, by profile


def engine_of(fault: str, folder: Path, *flags: str) -> FakeEngine:
    """The grid, on its two profiles."""
    file = folder / "grid.onnx"
    file.write_bytes(onnx.parser.parse_model(GRID).SerializeToString())
    profiles = []
    for (low, high), (narrow, wide) in BOUNDS:
        sizes = ShapeRange((low, narrow), (low, narrow), (high, wide))
        profiles.append({"x": sizes, "mask": sizes})
    config = BuildConfig(flags=flags)
    backend = FakeBackend(fault)
    asked = BuildRequest("grid", RECIPES["fp32"], config, tuple(profiles), ({}, {}), model=str(file))
    return backend.load(backend.build(asked).data)


def grid(batch: int, width: int, seed: int = 0) -> Outputs:
    x = np.random.default_rng(seed).standard_normal((batch, width), dtype=np.float32)
    return {"x": x, "mask": np.ones_like(x)}


def off(got: Array, expected: Array) -> bool:
    return bool((got != expected).all())


def swapped(got: Array, expected: Array) -> bool:
    return np.array_equal(got[:2], expected[1::-1]) and np.array_equal(got[2:], expected[2:])


PLACES: dict[str, tuple[Callable[[int, int, int], bool], Callable[[Array, Array], bool]]] = {
    "wrong_above=batch:4": (lambda _profile, batch, _width: batch > 4, off),
    "wrong_above=width:3": (lambda _profile, _batch, width: width > 3, off),
    "wrong_both_max=batch+width": (lambda p, b, w: (b, w) == (BOUNDS[p][0][1], BOUNDS[p][1][1]), off),
    "wrong_odd=width": (lambda _profile, _batch, width: width % 2 == 1, off),
    "wrong_profile=1": (lambda profile, _batch, _width: profile == 1, off),
    "swap_rows_above=4": (lambda _profile, batch, _width: batch > 4, swapped),
    "wrong_above=tokens:4": (lambda _profile, _batch, _width: False, off),  # of another model
    "wrong_both_max=batch+tokens": (lambda _profile, _batch, _width: False, off),
    "mask_ignored=bias": (lambda _profile, _batch, _width: False, off),
}


@pytest.mark.parametrize("fault", PLACES)
def test_it_is_wrong_where_it_says_and_nowhere_else(fault: str, tmp_path: Path) -> None:
    is_wrong, how = PLACES[fault]
    engine = engine_of(fault, tmp_path)
    for profile, ((low, high), (narrow, wide)) in enumerate(BOUNDS):
        session = engine.session(profile)
        for batch in range(low, high + 1):
            for width in range(narrow, wide + 1):
                given = grid(batch, width)
                got, expected = session.run(given)["y"], 2 * given["x"]
                if is_wrong(profile, batch, width):
                    assert how(got, expected), (profile, batch, width)
                else:
                    np.testing.assert_array_equal(got, expected, f"{profile} {batch} {width}")


def test_a_switch_takes_the_fault_of_a_profile_along(tmp_path: Path) -> None:
    session = engine_of("wrong_profile=1", tmp_path).session()
    given = grid(3, 3)
    for profile in (0, 1, 0):
        session.switch(profile)
        assert np.array_equal(session.run(given)["y"], 2 * given["x"]) is (profile == 0)


def test_a_dimension_without_a_name_goes_by_its_place(tmp_path: Path) -> None:
    file = tmp_path / "plain.onnx"
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> p (float[n] x) => (float[n] y) {y = Neg(x)}'
    )
    model.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    file.write_bytes(model.SerializeToString())
    asked = BuildRequest(
        "p", RECIPES["fp32"], BuildConfig(), ({"x": ShapeRange((1,), (2,), (9,))},), ({},), model=str(file)
    )
    for size in (4, 5):
        x = np.ones(size, np.float32)
        assert np.array_equal(run("wrong_above=x:0:4", asked, {"x": x})["y"], -x) is (size == 4)


def test_mask_ignored(tmp_path: Path) -> None:
    session = engine_of("mask_ignored=mask", tmp_path).session()
    given = grid(3, 4)
    for part in (1.0, 0.0):
        given["mask"][1:] = part
        np.testing.assert_array_equal(session.run(given)["y"], 2 * given["x"])
    assert (given["mask"][1:] == 0).all(), "the caller's is the caller's"


@pytest.mark.parametrize(
    "fault",
    [
        *("wrong_above", "wrong_above=batch", "wrong_above=:4", "wrong_above=batch:four", "wrong_above=batch:-1"),
        *("wrong_both_max=batch", "wrong_both_max=a+b+c", "wrong_both_max=a+", "wrong_odd", "wrong_odd=a+b"),
        *("wrong_profile=second", "swap_rows_above=batch:4", "swap_rows_above", "mask_ignored="),
        *("wrong_rows=2", "leak=1"),
    ],
)
def test_a_parameter_of_another_form_is_refused(fault: str) -> None:
    name = fault.partition("=")[0]
    with pytest.raises(SpecError, match=re.escape(f"fault '{fault}' of the backend fake: write {name}")):
        FakeBackend(fault)


def test_no_parameter_has_what_separates_backends() -> None:
    assert not [form for form in PARAMETERS.values() if "," in form]


def test_a_plan_is_kept_by_the_parameter_of_its_fault() -> None:
    versions = {FakeBackend(f"wrong_above=batch:{n}").probe().version for n in (4, 5)}
    assert len(versions) == 2


# ---------------------------------------------------------------- shapes before and around a run


def test_it_infers_what_comes_out(request_: BuildRequest) -> None:
    session = FakeBackend().load(FakeBackend().build(request_).data).session()
    for rows in (1, 8):
        given = inputs(rows)
        assert session.infer(given) == {name: array.shape for name, array in session.run(given).items()}
    with pytest.raises(RunError, match="lies outside profile 0"):
        session.infer(inputs(9))


def test_wrong_inference(request_: BuildRequest) -> None:
    backend = FakeBackend("wrong_inference")
    session = backend.load(backend.build(request_).data).session()
    assert session.infer(inputs(3)) == {"y": (4, 4), "best": (4,), "above": (4, 4)}
    assert_equal(session.run(inputs(3)), right(inputs(3)))


def test_wrong_report(request_: BuildRequest) -> None:
    reports = []
    for fault in ("", "wrong_report"):
        backend = FakeBackend(fault)
        reports.append(backend.load(backend.build(request_).data).info.facts["profile_shapes"])
    assert reports[0] == [
        {"x": [[1, 4], [2, 4], [8, 4]], "offset": [[1], [2], [8]]},
        {"x": [[3, 4], [3, 4], [3, 4]], "offset": [[3], [3], [3]]},
    ]
    assert reports[1][0] == {"x": [[1, 4], [2, 4], [9, 5]], "offset": [[1], [2], [9]]}


@pytest.mark.parametrize(
    ("omit", "words"),
    [
        ("shape:x", "the shape of input x is not specified"),
        ("size:x:0", r"\[-1, 4\]: a size is negative"),
        ("size:x:1", r"\[3, -1\]: a size is negative"),
        ("address:x", "Address is not set for tensor x"),
        ("address:best", "Address is not set for tensor best"),
    ],
)
def test_it_refuses_what_it_was_not_told(request_: BuildRequest, omit: str, words: str) -> None:
    session = FakeBackend().load(FakeBackend().build(request_).data).session()
    for told_before in (False, True):
        with pytest.raises(RunError, match=words) as caught:
            session.run(inputs(), omit=omit)
        assert caught.value.detail == ({"touched": ()} if told_before else {}), "no run gave outputs memory yet"
        assert_equal(session.run(inputs()), right(inputs()))


def test_it_goes_on_after_a_refusal(request_: BuildRequest) -> None:
    session = FakeBackend().load(FakeBackend().build(request_).data).session()
    session.run(inputs(2))
    with pytest.raises(RunError) as caught:
        session.run(inputs(9))
    assert caught.value.detail == {"touched": ()}
    assert_equal(session.run(inputs(3)), right(inputs(3)))


def test_lenient(request_: BuildRequest) -> None:
    backend = FakeBackend("lenient")
    session = backend.load(backend.build(request_).data).session(1)
    for rows in (2, 3, 9):
        assert session.infer(inputs(rows))["best"] == (rows,)
        assert_equal(session.run(inputs(rows)), right(inputs(rows)))
    with pytest.raises(RunError, match="float64"):
        session.run(inputs() | {"x": np.zeros((3, 4))})


def test_touches(request_: BuildRequest) -> None:
    backend = FakeBackend("touches")
    session = backend.load(backend.build(request_).data).session()
    assert_equal(session.run(inputs()), right(inputs()))
    with pytest.raises(RunError) as caught:
        session.run(inputs(9))
    assert caught.value.detail == {"touched": ("y", "best", "above")}
    assert_equal(session.run(inputs()), right(inputs()))


def test_upset(request_: BuildRequest) -> None:
    backend = FakeBackend("upset")
    session = backend.load(backend.build(request_).data).session()
    assert_equal(session.run(inputs()), right(inputs()))
    with pytest.raises(RunError):
        session.run(inputs(), omit="shape:x")
    assert differs(session.run(inputs()), right(inputs()))
    assert_equal(session.run(inputs()), right(inputs()))


def test_keeps_shape(request_: BuildRequest) -> None:
    backend = FakeBackend("keeps_shape")
    session = backend.load(backend.build(request_).data).session()
    with pytest.raises(RunError, match="not specified"):
        session.run(inputs(), omit="shape:x")
    session.run(inputs())
    session.switch(1)
    assert_equal(session.run(inputs(), omit="shape:x"), right(inputs()))


def test_data_alone(tmp_path: Path) -> None:
    backend = FakeBackend("data_alone")
    engine = backend.load(backend.build(reshape(tmp_path)).data)
    assert not any(tensor.shape_tensor for tensor in engine.info.tensors)
    assert engine.info.facts["profile_shapes"] == [{"x": [[12]] * 3, "shape": [[2]] * 3}]
    x = np.arange(12, dtype=np.float32)
    for shape in ((3, 4), (12, 1)):
        assert_equal(engine.session().run({"x": x, "shape": np.array(shape)}), {"y": x.reshape(shape)})


def test_greedy(request_: BuildRequest) -> None:
    backend = FakeBackend("greedy")
    session = backend.load(backend.build(request_).data).session()
    session.limit("y", 2 * 3 * 16)
    assert_equal(session.run(inputs(3)), right(inputs(3)))
    session.limit("y", 2 * 3 * 16 - 1)
    with pytest.raises(RunError, match=r"'y' of shape .* needs 96 bytes"):
        session.run(inputs(3))


def test_it_switches_profiles(request_: BuildRequest) -> None:
    session = FakeBackend().load(FakeBackend().build(request_).data).session()
    session.switch(1)
    with pytest.raises(RunError, match="lies outside profile 1"):
        session.run(inputs(2))
    with pytest.raises(RunError, match="no such profile"):
        session.switch(2)
    assert_equal(session.run(inputs(3)), right(inputs(3)))
    session.switch(0)
    assert_equal(session.run(inputs(2)), right(inputs(2)))


def test_memory_is_limited(request_: BuildRequest) -> None:
    session = FakeBackend().load(FakeBackend().build(request_).data).session()
    for tensor, size in (("x", 16), ("y", 16), ("best", 8), ("above", 4)):  # bytes a row
        session.limit(tensor, 3 * size)
        assert_equal(session.run(inputs(3)), right(inputs(3)))
        with pytest.raises(
            RunError, match=f"'{tensor}' of shape .* needs {4 * size} bytes, .* limited to {3 * size}"
        ) as e:
            session.run(inputs(4))
        assert e.value.detail == {"touched": ()}
        session.limit(tensor, None)
        assert_equal(session.run(inputs(4)), right(inputs(4)))
    with pytest.raises(SpecError, match="no tensor 'z': the engine has x, offset, y"):
        session.limit("z", 1)


# ---------------------------------------------------------------- state


def test_its_weights_are_replaced(tmp_path: Path) -> None:
    engine = engine_of("", tmp_path, "REFIT")
    session, given = engine.session(), grid(3, 4)
    session.run(given, graph=True)
    engine.refit({"w": np.array([5], np.float32)})
    for one in (session, engine.session()):
        for graph in (True, False):
            np.testing.assert_array_equal(one.run(given, graph=graph)["y"], 5 * given["x"])
    again = FakeBackend().load(engine.serialize())
    np.testing.assert_array_equal(again.session().run(given)["y"], 5 * given["x"])
    again.refit({"w": np.array([3], np.float32)})
    np.testing.assert_array_equal(again.session().run(given)["y"], 3 * given["x"])
    np.testing.assert_array_equal(session.run(given)["y"], 5 * given["x"])


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    engine, given = engine_of("", tmp_path, "REFIT"), grid(3, 4)
    good = np.array([5], np.float32)
    for weights, words in (
        ({"w": good, "v": good}, "no weights 'v': the engine has w"),
        ({"w": np.array([5.0])}, "'w' are float64"),
        ({"w": np.array([5, 5], np.float32)}, r"'w' are float32\(2,\), the engine has float32\(1,\)"),
    ):
        with pytest.raises(RefitError, match=words) as caught:
            engine.refit(weights)
        assert caught.value.detail == ({"unknown": ("v",)} if "v" in weights else {})
        np.testing.assert_array_equal(engine.session().run(given)["y"], 2 * given["x"])
    with pytest.raises(RefitError, match=r"without BuilderFlag\.REFIT"):
        engine_of("", tmp_path).refit({"w": good})


def test_stale_refit(tmp_path: Path) -> None:
    engine, given = engine_of("stale_refit", tmp_path, "REFIT"), grid(3, 4)
    before = engine.session()
    engine.refit({"w": np.array([5], np.float32)})
    np.testing.assert_array_equal(before.run(given)["y"], 2 * given["x"])
    np.testing.assert_array_equal(engine.session().run(given)["y"], 5 * given["x"])


def test_stale_graph_shape(tmp_path: Path) -> None:
    session = engine_of("stale_graph_shape", tmp_path).session()
    first, again, other = grid(3, 4), grid(3, 4, seed=1), grid(2, 4)
    np.testing.assert_array_equal(session.run(first, graph=True)["y"], 2 * first["x"])
    np.testing.assert_array_equal(session.run(again, graph=True)["y"], 2 * again["x"])
    np.testing.assert_array_equal(session.run(other, graph=True)["y"], 2 * first["x"], "replayed as captured")
    np.testing.assert_array_equal(session.run(other)["y"], 2 * other["x"])


@pytest.mark.parametrize("event", ["run", "switch", "move"])
def test_a_graph_goes_with_what_it_was_captured_for(tmp_path: Path, event: str) -> None:
    """So that the stale graph's fault is one of its own, and not of what is honest."""
    session = engine_of("stale_graph_shape", tmp_path).session()
    session.run(grid(3, 4), graph=True)
    if event == "run":
        session.run(grid(2, 4))
    elif event == "switch":
        session.switch(1)
    else:
        session.move("x")
    given = grid(2, 3)
    np.testing.assert_array_equal(session.run(given, graph=True)["y"], 2 * given["x"])


def test_other_context(tmp_path: Path) -> None:
    engine = engine_of("other_context", tmp_path)
    first, second = engine.session(), engine.session()
    a, b = grid(3, 4), grid(2, 2)
    np.testing.assert_array_equal(first.run(a)["y"], 2 * a["x"], "alone")
    np.testing.assert_array_equal(second.run(b)["y"], 2 * a["x"])
    np.testing.assert_array_equal(first.run(a)["y"], 2 * b["x"])
    second.close()
    np.testing.assert_array_equal(first.run(a)["y"], 2 * a["x"])


def test_what_lives_is_counted(request_: BuildRequest) -> None:
    backend = FakeBackend()
    assert backend.residue() == Residue()
    engine = backend.load(backend.build(request_).data)
    assert backend.residue() == Residue(engines=1)
    first, second = engine.session(), engine.session()
    assert backend.residue() == Residue(engines=1, sessions=2)
    for rows in (3, 1, 3):
        first.run(inputs(rows))
        assert backend.residue() == Residue(1, 2, 5, 3 * (16 + 8 + 16 + 8 + 4))
    first.move("x")
    second.run(inputs(1))
    assert backend.residue() == Residue(1, 2, 10, 4 * (16 + 8 + 16 + 8 + 4))
    for _ in range(2):
        first.close()
        assert backend.residue() == Residue(1, 1, 5, 16 + 8 + 16 + 8 + 4)
    with pytest.raises(RunError, match="the session is closed"):
        first.run(inputs())
    second.close()
    engine.close()
    assert backend.residue() == Residue()


def test_leak(request_: BuildRequest) -> None:
    backend = FakeBackend("leak")
    engine = backend.load(backend.build(request_).data)
    session = engine.session()
    assert_equal(session.run(inputs()), right(inputs()))
    open_ = backend.residue()
    session.close()
    del session
    gc.collect()
    assert backend.residue() == open_ == Residue(1, 1, 5, 3 * 52)
    engine.close()
    assert backend.residue() == Residue(0, 1, 5, 3 * 52)


def inspected(request: BuildRequest, fault: str = "", verbosity: str | None = "DETAILED") -> FakeEngine:
    backend = FakeBackend(fault)
    config = dataclasses.replace(request.config, profiling_verbosity=verbosity)
    return backend.load(backend.build(dataclasses.replace(request, config=config)).data)


def test_the_inspector_tells_every_node_with_sizes_at_the_optimum(request_: BuildRequest) -> None:
    engine = inspected(request_)
    found = read(engine.inspect())
    assert engine.info.facts["layers"] == len(found.layers) == 5
    by_kind = {layer.kind: layer for layer in found.layers}
    assert by_kind["Mul"].tactic.startswith("0x")
    assert dataclasses.replace(by_kind["Mul"], tactic="") == Layer(
        "node_of_y",
        "Mul",
        "Mul",
        "float32",
        (Tensor("x", "float32", (2, 4)), Tensor("two", "float32", ())),
        (Tensor("y", "float32", (2, 4)),),
        weights=0,
        origins=("node_of_y",),
        traced=True,
    )
    assert [str(tensor) for tensor in found.tensors] == [
        "float32[-1, 4]",
        "int64[-1]",
        "float32[-1, 4]",
        "int64[-1]",
        "bool[-1, 4]",
    ]


@pytest.mark.parametrize(
    ("verbosity", "told"), [(None, "LAYER_NAMES_ONLY"), ("LAYER_NAMES_ONLY", "LAYER_NAMES_ONLY"), ("NONE", "NONE")]
)
def test_the_inspector_tells_no_more_than_it_was_built_to(
    request_: BuildRequest, verbosity: str | None, told: str
) -> None:
    engine = inspected(request_, verbosity=verbosity)
    assert engine.info.facts["profiling_verbosity"] == told
    names = ["node_of_two", "node_of_y", "node_of_top", "node_of_best", "node_of_above"]
    assert engine.inspect()["Layers"] == (names if told == "LAYER_NAMES_ONLY" else [])


def test_a_verbosity_that_there_is_not(request_: BuildRequest) -> None:
    with pytest.raises(UnsupportedError, match=r"ProfilingVerbosity\.LOUD: absent: .*LAYER_NAMES_ONLY, NONE, DETAILED"):
        inspected(request_, verbosity="LOUD")


def test_forgets_layer(request_: BuildRequest) -> None:
    engine = inspected(request_, "forgets_layer")
    assert len(engine.inspect()["Layers"]) == engine.info.facts["layers"] - 1


def test_forgets_origin(request_: BuildRequest) -> None:
    first, *others = read(inspected(request_, "forgets_origin").inspect()).layers
    assert (first.name, first.origins) == ("layer 0", ())
    assert all(layer.traced for layer in others)


def test_forgets_tensor(request_: BuildRequest) -> None:
    found = read(inspected(request_, "forgets_tensor").inspect())
    assert [tensor.name for tensor in found.tensors] == ["x", "offset", "y", "best"]


def test_mute_layer(request_: BuildRequest) -> None:
    first, second, *_ = inspected(request_, "mute_layer").inspect()["Layers"]
    assert first == {}
    assert second["Name"]


def test_gibberish(request_: BuildRequest) -> None:
    with pytest.raises(DeserializeError, match="can't be read"):
        inspected(request_, "gibberish").inspect()


# Timing caches ----------------------------------------------------------------------------------

NOTHING_YET = np.zeros(0, np.uint8)


def timed(fault: str, asked: BuildRequest, cache: Array | None, *flags: str, level: int = 3) -> tuple[Array, list[str]]:
    """What a timing cache has become by a build, and the tactics of the engine."""
    backend = FakeBackend(fault)
    config = BuildConfig(flags=flags, optimization_level=level, profiling_verbosity="DETAILED")
    plan = backend.build(dataclasses.replace(asked, timing_cache=cache, config=config))
    tactics = [layer.tactic for layer in read(backend.load(plan.data).inspect()).layers]
    return NOTHING_YET if plan.timing_cache is None else plan.timing_cache, tactics


def test_a_timing_cache_decides_the_tactics(request_: BuildRequest) -> None:
    cache, tactics = timed("", request_, NOTHING_YET)
    assert len(set(tactics)) == len(tactics) == 5, "one a node"
    again, same = timed("", request_, cache)
    assert same == tactics
    assert again.tobytes() == cache.tobytes()
    known = FakeTimings("fake", cache)
    known.tactics = {layer: tactic - 1 for layer, tactic in known.tactics.items()}
    given, others = timed("", request_, known.serialized())
    assert given.tobytes() == known.serialized().tobytes()
    assert not set(tactics) & set(others)


def test_a_build_may_go_by_no_timing_cache(request_: BuildRequest) -> None:
    cache, tactics = timed("", request_, NOTHING_YET)
    for given, flags, level in ((None, (), 3), (cache, (), 0), (cache, ("DISABLE_TIMING_CACHE",), 3)):
        left, others = timed("", request_, given, *flags, level=level)
        assert left.nbytes == 0
        assert others == tactics


def test_timing_caches_are_merged(request_: BuildRequest) -> None:
    backend = FakeBackend()
    first, second = (timed(fault, request_, NOTHING_YET)[0] for fault in ("", ""))
    assert backend.merged([first, second, NOTHING_YET]).tobytes() == first.tobytes()
    assert timed("", request_, backend.merged([]))[0].nbytes == first.nbytes
    with pytest.raises(BuildError, match="timing cache was refused"):
        backend.merged([first, second[:-1]])


FOREIGN = (b"text", bytes(300), b"FAKETIMINGS")


def test_a_foreign_timing_cache_is_refused(request_: BuildRequest) -> None:
    mine = timed("", request_, NOTHING_YET)[0]
    theirs = timed("nan", request_, NOTHING_YET)[0]
    for data in (*FOREIGN, mine.tobytes()[:-1], theirs.tobytes()):
        with pytest.raises(BuildError, match="timing cache was refused") as caught:
            timed("", request_, np.frombuffer(data, np.uint8))
        assert caught.value.detail[REFUSED_TIMINGS]
        assert caught.value.log


def test_any_timings(request_: BuildRequest) -> None:
    for data in FOREIGN:
        assert timed("any_timings", request_, np.frombuffer(data, np.uint8))[0].nbytes > 0


def test_an_unknown_tactic_is_an_error_where_that_is_asked(request_: BuildRequest) -> None:
    with pytest.raises(BuildError, match="5 tactics are not in the timing cache") as caught:
        timed("", request_, NOTHING_YET, "ERROR_ON_TIMING_CACHE_MISS")
    assert REFUSED_TIMINGS not in caught.value.detail
    known, _ = timed("", request_, NOTHING_YET)
    assert timed("", request_, known, "ERROR_ON_TIMING_CACHE_MISS")[0].nbytes == known.nbytes


def test_no_miss(request_: BuildRequest) -> None:
    assert timed("no_miss", request_, NOTHING_YET, "ERROR_ON_TIMING_CACHE_MISS")[0].nbytes > 0


def test_times_again(request_: BuildRequest) -> None:
    cache, _ = timed("times_again", request_, NOTHING_YET)
    assert timed("times_again", request_, cache)[0].nbytes > cache.nbytes


def test_other_tactics(request_: BuildRequest) -> None:
    cache, tactics = timed("other_tactics", request_, NOTHING_YET)
    again, others = timed("other_tactics", request_, cache)
    assert again.nbytes == cache.nbytes
    assert others != tactics


def open_files() -> set[str]:
    """Those on nothing, by number."""
    return {file.name for file in Path("/proc/self/fd").iterdir() if os.path.realpath(file) == os.devnull}


def test_leaks_memory(request_: BuildRequest) -> None:
    backend = FakeBackend("leaks_memory=3000")
    backend.build(request_)
    before = footprint().heap
    for _ in range(4):
        backend.build(request_)
    after = footprint().heap
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(12e6, rel=0.1)


def test_leaks_files(request_: BuildRequest) -> None:
    before = open_files()
    FakeBackend("leaks_files").build(request_)
    (left,) = open_files() - before
    os.close(int(left))


def test_leaks_threads(request_: BuildRequest) -> None:
    before = threading.active_count()
    FakeBackend("leaks_threads").build(request_)
    assert threading.active_count() == before + 1


IN_A_HOST = {fault for fault, _, _ in CRASHES} | {"crash_probe", "hang_probe"}  # in test_host


def test_every_fault_is_tried() -> None:
    places = {fault.partition("=")[0] for fault in PLACES}
    named = {**vars(test_fake_plans), **vars(test_fake_samples), **globals()}
    alone = {fault.value for fault in Fault if f"test_{fault.value}" in named}
    assert {fault.value for fault in Fault if fault} == {*SPOILT, *REFUSALS, *alone, *IN_A_HOST, *places, *TRIED}


def test_a_fault_for_one_model_spares_the_others(request_: BuildRequest) -> None:
    assert_equal(run("wrong_rows@other", request_), right(inputs()))
    assert differs(run("wrong_rows@ranker", request_), right(inputs()))


def test_the_environment_names_a_fault_too(request_: BuildRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FAULT_VARIABLE, "wrong_rows")
    assert differs(run("", request_), right(inputs()))
    assert "y" not in run("missing_output", request_)  # the name comes first


def test_plans_with_different_faults_are_kept_apart() -> None:
    faults = ("", "nan", "stale", "nan@mlp")
    assert len({fingerprint(FakeBackend(fault).probe()) for fault in faults}) == len(faults)


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(SpecError, match=r"unknown fault 'wrong_row' .*: choose from .*wrong_rows"):
        FakeBackend("wrong_row")
