"""The wire between an engine host and its client: whatever goes in comes out, and nothing else does."""

from __future__ import annotations

import dataclasses
import math
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import (
    STAGES,
    BuildError,
    ComparisonFailure,
    HarnessError,
    ParseError,
    SpecError,
    StageError,
    UnsupportedError,
)
from harness.runtime import wire
from harness.runtime.backend.protocol import (
    Array,
    BuildRequest,
    EngineInfo,
    IOTensor,
    Plan,
    Refittable,
    Residue,
    ShapeRange,
    Streaming,
    poison,
)
from harness.runtime.capability import Capability, Probe, State
from harness.runtime.footprint import Footprint
from harness.runtime.sampling import Repeated, Samples, Sampling, Stop
from harness.spec import RECIPES, BuildConfig

Pair = tuple[wire.Channel, wire.Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ends of a conversation, in one process."""
    left, right = socket.socketpair()
    forth, back = wire.Arena.create(), wire.Arena.create()
    ends = (
        wire.Channel(left, forth, wire.Arena(os.dup(back.fd))),
        wire.Channel(right, back, wire.Arena(os.dup(forth.fd))),
    )
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in an engine host that has numpy alone."""
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    wire.dtype_of.cache_clear()
    yield
    wire.dtype_of.cache_clear()


def sent(pair: Pair, value: Any) -> Any:
    pair[0].send(value)
    return pair[1].receive()


def assert_same(got: Array, sent: Array) -> None:
    assert isinstance(got, np.ndarray)
    assert (got.shape, got.dtype) == (sent.shape, sent.dtype.newbyteorder("="))
    assert got.tobytes() == sent.astype(sent.dtype.newbyteorder("=")).tobytes()
    assert got.flags.owndata


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(2**80),
        1.5,
        math.inf,
        "naïve \ud800 \0",
        [],
        {},
        (1, (2, [3, (4,)])),
        {"a": {"b": (None,)}},
        {1: "int", (2, "x"): "tuple", None: ()},
        {"$": "array", "v": 0},
        b"\x00\xff",
        b"",
        Path("/a/b"),
    ],
    ids=repr,
)
def test_values_come_back(pair: Pair, value: Any) -> None:
    got = sent(pair, value)
    assert got == value
    assert type(got) is type(value)


def test_nan_comes_back(pair: Pair) -> None:
    assert math.isnan(sent(pair, math.nan))


@pytest.mark.parametrize(
    ("scalar", "number"),
    [(np.float32(0.1), float(np.float32(0.1))), (np.int64(7), 7), (np.bool_(True), True), (np.str_("x"), "x")],
)
def test_numpy_scalars_become_numbers(pair: Pair, scalar: Any, number: Any) -> None:
    got = sent(pair, scalar)
    assert got == number
    assert type(got) is type(number)


def test_a_narrow_scalar_becomes_a_number(pair: Pair) -> None:
    assert sent(pair, wire.dtype_of("bfloat16").type(1.5)) == 1.5


REQUEST = BuildRequest(
    name="bert",
    recipe=RECIPES["fp16"],
    config=BuildConfig(workspace=1 << 20, tactic_sources=(), flags=("REFIT",), plugins=("/a.so",)),
    profiles=({"ids": ShapeRange((1, 8), (2, 16), (4, 32))}, {}),
    contents=({"shape": ShapeRange((1,), (2,), (3,))}, {}),
    model="/m.onnx",
)
VALUES = [
    REQUEST,
    REQUEST.config,
    REQUEST.recipe,
    ShapeRange((), (), ()),
    IOTensor("x", "input", "bfloat16", (-1, 3), shape_tensor=True),
    EngineInfo((IOTensor("x", "input", "float32", ()),), 2, {"layers": ["a"], "bytes": 5}, {"deserialize": 0.5}),
    Capability("run", State.NEEDS_GPU, "cudaError 35", "a GPU"),
    Repeated(7, 0.25),
    Residue(1, 2, 3, 4, ("an error",)),
    Streaming(4, 3, 2, 1),
    Footprint(6, 5, 4, 3, 2, 1),
    Footprint(4, 3, 2, 1),
    Refittable(("w",), (("Conv_0", "KERNEL"),), ("b",), (("Conv_0", "BIAS"),)),
    State.USELESS,
    Sampling(graph=True, streams=2),
    Stop.TIME,
    Probe("tensorrt", "8.6.1", (Capability("import", State.PRESENT, "8.6.1"),), {"gpu": "", "sm": (8, 0)}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_what_backends_exchange_comes_back(pair: Pair, value: Any) -> None:
    got = sent(pair, value)
    assert got == value
    assert type(got) is type(value)


def test_a_plan_comes_back(pair: Pair) -> None:
    plan = Plan(np.arange(9, dtype=np.uint8), {"build": 1.5}, ("[W] slow",))
    got = sent(pair, {"plan": plan})["plan"]
    assert_same(got.data, plan.data)
    assert (got.seconds, got.log) == (plan.seconds, plan.log)


def test_samples_come_back(pair: Pair) -> None:
    seconds = {"gpu": np.linspace(1, 2, 5), "end_to_end": np.ones(2)}
    samples = Samples(seconds, {"gpu": np.arange(5.0)}, {}, {"gpu": 5}, "gpu", 3, Stop.COUNT, True, 0.25, 1.5, 2.5)
    got = sent(pair, samples)
    assert type(got) is Samples
    for name, array in seconds.items():
        assert_same(got.seconds[name], array)
    assert_same(got.at["gpu"], samples.at["gpu"])
    assert dataclasses.replace(got, seconds=seconds, at=samples.at) == samples


def test_every_kind_of_value_is_tried_above() -> None:
    assert {type(value).__name__ for value in VALUES} | {"Plan", "Samples"} == wire.VALUES.keys()


@pytest.mark.parametrize("name", [*sorted(wire.PLAIN), *wire.NARROW])
def test_every_type_comes_back(pair: Pair, name: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(wire.dtype_of(name))
    assert_same(sent(pair, array), array)


WHOLE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize(
    "array",
    [
        np.array(3.5),
        np.zeros((0,), np.int64),
        np.zeros((3, 0, 2), np.float16),
        WHOLE.T,
        WHOLE[::-1, ::2, 1:],
        np.asfortranarray(WHOLE),
        np.broadcast_to(np.int8(7), (4, 5)),
        WHOLE.astype(">f4"),
    ],
    ids=["0-d", "empty", "empty-3d", "transposed", "strided", "fortran", "broadcast", "big-endian"],
)
def test_every_layout_comes_back(pair: Pair, array: Array) -> None:
    assert_same(sent(pair, array), array)


def test_arrays_keep_apart(pair: Pair) -> None:
    arrays = {f"x{count}": np.full(count, count, np.uint8) for count in range(130)}
    got = sent(pair, arrays)
    assert all((got[name] == array).all() and got[name].shape == array.shape for name, array in arrays.items())


def test_what_was_received_outlives_the_next_message(pair: Pair) -> None:
    first = sent(pair, np.full(1000, 1, np.int32))
    sent(pair, np.full(1000, 2, np.int32))
    assert (first == 1).all()


def test_an_arena_grows_in_the_middle_of_a_conversation(pair: Pair) -> None:
    for size in (10, 3 << 20, 10, 9 << 20):
        array = np.arange(size, dtype=np.uint8)
        assert_same(sent(pair, [array, array[:5]])[0], array)


def test_more_than_two_gibibytes_travel_and_are_given_back(pair: Pair) -> None:
    array = np.broadcast_to(np.uint8(7), (2**31 + 5,))  # costs one byte here, and its size in the arena
    got = sent(pair, array)
    assert got.shape == array.shape
    assert got[0] == got[2**31 + 4] == 7
    kept = os.fstat(pair[0]._outgoing.fd).st_blocks * 512
    assert kept <= wire._KEEP


def test_memory_can_not_be_pulled_from_under_a_reader() -> None:
    arena = wire.Arena.create()
    arena.write([np.ones(5)])
    with pytest.raises(PermissionError):
        os.ftruncate(arena.fd, 0)
    arena.close()


@pytest.mark.usefixtures("without_ml_dtypes")
@pytest.mark.parametrize("name", wire.NARROW)
def test_a_type_that_only_its_name_is_known_of_travels_as_bytes(pair: Pair, name: str) -> None:
    dtype = wire.dtype_of(name)
    assert dtype.kind == "V"
    assert wire.name_of(dtype) == name
    array = np.empty(3, dtype)
    array.view(np.uint8)[...] = 0x41
    got = sent(pair, array)
    assert wire.name_of(got.dtype) == name
    assert got.tobytes() == array.tobytes()


def test_poison_in_a_host_without_ml_dtypes_is_nan_for_who_has_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as host:
        host.setitem(sys.modules, "ml_dtypes", None)
        wire.dtype_of.cache_clear()
        output = np.empty(4, wire.dtype_of("bfloat16"))
    wire.dtype_of.cache_clear()
    poison(output)
    got = sent(pair, output)
    assert got.dtype.name == "bfloat16"
    assert np.isnan(got.astype(np.float32)).all()


@pytest.mark.parametrize(
    "value",
    [np.array([object()]), np.array(["text"]), np.zeros(2, "i4,f4"), np.zeros(2, "M8[s]"), {1, 2}, object(), len, int],
    ids=lambda value: str(getattr(value, "dtype", type(value).__name__)),
)
def test_what_can_not_travel_is_refused_before_anything_is_sent(pair: Pair, value: Any) -> None:
    with pytest.raises(TypeError, match="can't be sent"):
        pair[0].send({"x": [np.zeros(3), value]})
    assert sent(pair, "next") == "next"


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(TypeError, match="float3"):
        wire.dtype_of("float3")


def test_silence_ends_at_the_deadline(pair: Pair) -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        pair[1].receive(started + 0.05)
    assert 0.05 <= time.monotonic() - started < 2


def test_half_a_message_ends_at_the_deadline(pair: Pair) -> None:
    pair[0]._connection.sendall(b"\x08\0\0\0\0\0\0\0[")
    with pytest.raises(TimeoutError):
        pair[1].receive(time.monotonic() + 0.05)


def test_sending_to_who_does_not_read_ends_at_the_deadline(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        pair[0].send("x" * (16 << 20), time.monotonic() + 0.05)


def test_the_other_end_gone_is_the_end(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(EOFError):
        pair[1].receive()
    with pytest.raises(EOFError):
        pair[1].send("x" * (16 << 20))


def test_noise_is_no_message(pair: Pair) -> None:
    pair[0]._connection.sendall(b"\xff" * 8)
    with pytest.raises(EOFError, match="not a message"):
        pair[1].receive()


def raised(error: BaseException) -> BaseException:
    """``error`` with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


def delivered(pair: Pair, error: BaseException) -> Exception:
    return wire.value_to_error(sent(pair, wire.error_to_value(raised(error))))


@pytest.mark.parametrize("kind", STAGES.values())
def test_errors_of_stages_arrive_whole(pair: Pair, kind: type[StageError]) -> None:
    error = kind(
        "no plan", log=("[E] a", "[W] b"), crash="signal 6 (SIGABRT)", detail={"node": "conv", "index": (1, 2)}
    )
    got = delivered(pair, error)
    assert type(got) is kind
    assert vars(got) == vars(error)
    assert str(got) == str(error)


def test_detail_that_can_not_travel_arrives_as_it_prints(pair: Pair) -> None:
    got = delivered(pair, ParseError("bad node", detail={"node": "conv", "object": {1, 2}}))
    assert isinstance(got, ParseError)
    assert got.detail == {"node": "conv", "object": "{1, 2}"}


def test_other_errors_of_ours_arrive_whole(pair: Pair) -> None:
    got = delivered(pair, UnsupportedError("fp4", "no FP4 in BuilderFlag", "TensorRT 10.8"))
    assert isinstance(got, UnsupportedError)
    assert (got.capability, got.evidence, got.fix) == ("fp4", "no FP4 in BuilderFlag", "TensorRT 10.8")
    spec = delivered(pair, SpecError("say what"))
    assert (type(spec), str(spec)) == (SpecError, "say what")
    for kind in (AssertionError, ComparisonFailure):
        failure = delivered(pair, kind("1 is not 2"))
        assert (type(failure), str(failure)) == (kind, "1 is not 2")
        assert "raise error" in failure.__notes__[0]


def test_any_other_error_is_a_fault_with_type_place_and_traceback(pair: Pair) -> None:
    got = delivered(pair, KeyError("x"))
    assert type(got) is HarnessError
    assert "fault in the engine host: KeyError: 'x'" in str(got)
    assert f"{__file__}:" in str(got)
    assert "Traceback (most recent call last)" in got.__notes__[0]


def test_the_end_of_a_build_error_says_why(pair: Pair) -> None:
    assert (
        str(delivered(pair, BuildError("no plan", log=("[E] out of memory",))))
        == "build: no plan\n  | [E] out of memory"
    )
