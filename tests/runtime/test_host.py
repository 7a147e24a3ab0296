"""The engine host and its client: what one costs when it dies, and that nothing is left of it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness.runtime
from harness.errors import (
    BuildError,
    ComparisonFailure,
    DeserializeError,
    HarnessError,
    ParseError,
    RefitError,
    RunError,
    SpecError,
    StageError,
    UnsupportedError,
)
from harness.runtime import client as client_module
from harness.runtime.backend.hosted import HostedBackend, Timeouts
from harness.runtime.backend.protocol import BuildRequest, Refittable, Residue, ShapeRange
from harness.runtime.capability import State
from harness.runtime.client import HostClient, HostDied, describe_exit, library_folders, read_breadcrumb
from harness.runtime.sampling import GPU, Sampling, Stop
from harness.spec import RECIPES, BuildConfig

pytestmark = pytest.mark.runs

ROOT = Path(__file__).parents[2]
TIMEOUTS = Timeouts(build=30, run=30, probe=30)
Make = Callable[..., HostedBackend]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes hosted backends that are closed with the test."""
    with contextlib.ExitStack() as opened:

        def hosted(name: str = "fake", timeouts: Timeouts = TIMEOUTS, **options: Any) -> HostedBackend:
            backend = HostedBackend("fake", HostClient(name, **options), timeouts)
            opened.callback(backend.close)
            return backend

        yield hosted


@pytest.fixture
def backend(make: Make) -> HostedBackend:
    return make()


@pytest.fixture(scope="module")
def shared() -> Iterator[HostedBackend]:
    """One for all tests that leave it alive."""
    backend = HostedBackend("fake", HostClient("fake"), TIMEOUTS)
    yield backend
    assert backend.client.generation == 1
    backend.close()


def call(backend: HostedBackend, body: str, *, timeout: float | None = None, **arguments: Any) -> Any:
    return backend.call(f"tests.runtime.bodies:{body}", arguments, folder=str(ROOT), timeout=timeout)


@pytest.fixture
def affine(tmp_path: Path) -> BuildRequest:
    """``y = 2 x`` over a batch of one to eight rows."""
    import onnx.parser

    text = """<ir_version: 8, opset_import: ["": 17]> affine (float[batch, 4] x) => (float[batch, 4] y)
              { two = Constant <value_float = 2.0> ()  y = Mul (x, two) }"""
    file = tmp_path / "affine.onnx"
    file.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    profile = {"x": ShapeRange((1, 4), (2, 4), (8, 4))}
    return BuildRequest("affine", RECIPES["fp32"], BuildConfig(), (profile,), ({},), model=str(file))


ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)


# ---------------------------------------------------------------- what it does


def test_a_measurement_is_one_request_that_may_take_its_time(
    shared: HostedBackend, affine: BuildRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host takes all samples by itself; what they may take comes on top of what any call may."""
    engine = shared.load(shared.build(affine).data)
    session = engine.session()
    asked: list[tuple[str, float]] = []
    request = HostClient.request

    def counted(self: HostClient, method: str, arguments: Any, **options: Any) -> Any:
        asked.append((method, options["timeout"]))
        return request(self, method, arguments, **options)

    monkeypatch.setattr(HostClient, "request", counted)
    brief = dataclasses.replace(TIMEOUTS, run=0.25)
    monkeypatch.setattr(session, "_timeouts", brief)
    plan = Sampling(warmup_least=0.0, warmup_most=2.0, seconds=0.6, precision=0.0, most=10**6)
    samples = session.measure({"x": ROWS}, plan)
    assert asked == [("measure", 0.25 + 2.6)]
    assert samples.stopped is Stop.TIME
    assert samples.wall > samples.elapsed > 0.6 > brief.run
    assert samples.seconds[GPU].size == min(samples.taken[GPU], plan.kept)
    monkeypatch.undo()
    session.close()
    engine.close()


def test_a_model_goes_all_the_way(shared: HostedBackend, affine: BuildRequest) -> None:
    heard: list[tuple[str, int, int]] = []
    plan = shared.build(affine, lambda *step: heard.append(step))
    engine = shared.load(plan.data)
    assert [tensor.name for tensor in engine.info.tensors] == ["x", "y"]
    session = engine.session()
    np.testing.assert_array_equal(session.run({"x": ROWS})["y"], 2 * ROWS)
    np.testing.assert_array_equal(session.run({"x": ROWS[:1]}, graph=True)["y"], 2 * ROWS[:1])
    assert heard[:2] == [("parse", 0, 1), ("build", 0, 1)]
    session.close()
    engine.close()


def test_a_session_does_all_that_one_in_this_process_does(
    shared: HostedBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shared.residue()
    engine = shared.load(shared.build(scaled(tmp_path, "REFIT")).data)
    session = engine.session()
    assert session.infer({"x": ROWS}) == {"y": (2, 4)}
    np.testing.assert_array_equal(session.run({"x": ROWS})["y"], 2 * ROWS)
    with pytest.raises(RunError, match="Address is not set for tensor y") as caught:
        session.run({"x": ROWS}, omit="address:y")
    assert caught.value.detail == {"touched": ()}
    session.limit("y", 16)
    with pytest.raises(RunError, match=r"'y' of shape .2, 4. needs 32 bytes, its memory is limited to 16"):
        session.run({"x": ROWS})
    session.limit("y", None)
    session.move("x")
    session.switch(1)
    with pytest.raises(RunError, match="outside profile 1"):
        session.run({"x": ROWS})
    with pytest.raises(RunError, match="no such profile"):
        session.switch(2)
    session.switch(0)
    with pytest.raises(SpecError, match="no tensor 'z'"):
        session.move("z")
    engine.refit({"w": np.array([3], np.float32)})
    np.testing.assert_array_equal(session.run({"x": ROWS})["y"], 3 * ROWS)
    with pytest.raises(RefitError, match="no weights 'v': the engine has w") as refused:
        engine.refit({"v": np.array([3], np.float32)})
    assert refused.value.detail == {"unknown": ("v",)}
    listed = Refittable(("w",), (("w", "CONSTANT"),))
    assert engine.weights() == engine.weights({"w": np.array([5], np.float32)}) == listed
    with pytest.raises(RefitError, match="layer 'nobody' has no weights in the role 'BIAS'"):
        engine.weights({}, layers={"nobody": {"BIAS": np.float32(3)}})
    engine.refit({}, layers={"w": {"CONSTANT": np.array([5], np.float32)}}, how="async", keep_graphs=True)
    np.testing.assert_array_equal(session.run({"x": ROWS})["y"], 5 * ROWS)
    monkeypatch.chdir(tmp_path)
    name = next(file.name for file in tmp_path.glob("*.onnx"))
    engine.refit_from(name)  # of this process's folder, not of the host's
    np.testing.assert_array_equal(session.run({"x": ROWS})["y"], 2 * ROWS)
    with pytest.raises(RefitError, match=r"absent\.onnx can't be read"):
        engine.refit_from("absent.onnx")
    engine.refit({"w": np.array([3], np.float32)})
    again = shared.load(engine.serialize())
    np.testing.assert_array_equal(again.session().run({"x": ROWS})["y"], 3 * ROWS)
    found = shared.residue()
    assert (found.engines - before.engines, found.sessions - before.sessions) == (2, 2)
    assert (found.buffers - before.buffers, found.nbytes - before.nbytes) == (4, 2 * 64)
    session.close()
    engine.close()
    again.close()
    assert shared.residue() == before


def test_an_engine_tells_its_layers(shared: HostedBackend, affine: BuildRequest) -> None:
    """Whatever JSON holds comes through as it is."""
    from harness.runtime.backend.fake import FakeBackend

    request = dataclasses.replace(affine, config=BuildConfig(profiling_verbosity="DETAILED"))
    engine = shared.load(shared.build(request).data)
    told = engine.inspect()
    assert [layer["Name"] for layer in told["Layers"]] == ["node_of_two", "node_of_y"]
    here = FakeBackend()
    assert told == here.load(here.build(request).data).inspect()
    engine.close()
    with pytest.raises(DeserializeError, match="was closed"):
        engine.inspect()


def scaled(tmp_path: Path, *flags: str) -> BuildRequest:
    """``y = w x`` with w = 2, over a batch of one to eight rows, or of sixteen."""
    import onnx.parser

    text = """<ir_version: 8, opset_import: ["": 17]> scaled (float[batch, 4] x) => (float[batch, 4] y)
              <float[1] w = {2.0}> { y = Mul (x, w) }"""
    file = tmp_path / "scaled.onnx"
    file.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    profiles = tuple({"x": ShapeRange(*((rows, 4) for rows in sizes))} for sizes in ((1, 2, 8), (16, 16, 16)))
    return BuildRequest("scaled", RECIPES["fp32"], BuildConfig(flags=flags), profiles, ({}, {}), model=str(file))


def test_a_scalar_of_numpy_arrives_as_an_array(shared: HostedBackend, affine: BuildRequest) -> None:
    """It has a type and a shape, and is refused for the shape as any other array is."""
    engine = shared.load(shared.build(affine).data)
    session = engine.session()
    scalar: Any = ROWS[0, 0]
    assert not isinstance(scalar, np.ndarray)
    for ask in (session.run, session.infer):
        with pytest.raises(RunError, match=r"of shape \(\) lies outside profile 0"):
            ask({"x": scalar})
    with pytest.raises(RefitError, match="REFIT"):
        engine.refit({"w": scalar})
    engine.close()


def test_nothing_lives_where_no_host_does(backend: HostedBackend, affine: BuildRequest) -> None:
    assert backend.residue() == Residue()
    assert backend.client.generation == 0, "and none was started to ask"
    backend.load(backend.build(affine).data).session()
    assert (backend.residue().engines, backend.residue().sessions) == (1, 1)
    kill(backend)
    assert backend.residue() == Residue()
    assert backend.client.generation == 1


def test_paths_are_those_of_the_client(
    shared: HostedBackend, affine: BuildRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(shared, "echo")  # the host starts here
    monkeypatch.chdir(Path(affine.model).parent)
    assert shared.build(dataclasses.replace(affine, model="affine.onnx")).data.size


def test_arrays_go_both_ways(shared: HostedBackend) -> None:
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    np.testing.assert_array_equal(call(shared, "add", x=x, y=np.int32(1)), x + 1)


def test_it_tells_what_it_is(shared: HostedBackend) -> None:
    call(shared, "echo")
    facts = shared.client.facts
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["numpy"] == np.__version__
    assert facts["pid"] not in (0, os.getpid())
    host = shared.probe().environment["host"]
    assert host == {name: fact for name, fact in facts.items() if name != "pid"}


def test_its_folder_is_not_on_its_import_path(shared: HostedBackend) -> None:
    assert str(Path(harness.runtime.__file__).parent) not in call(shared, "import_path")


def test_threads_wait_for_each_other(shared: HostedBackend) -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            array = np.full(number * 1000, number)
            got = call(shared, "echo", x=array)["x"]
            if not np.array_equal(got, array):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---------------------------------------------------------------- errors that it reports


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("assertion", AssertionError, "^2 is not 3$"),
        ("comparison", ComparisonFailure, "^off by one$"),
        ("spec", SpecError, "^no such thing$"),
        ("unsupported", UnsupportedError, "fp4: no FP4 in BuilderFlag"),
        ("bug", HarnessError, "^fault in the engine host: ZeroDivisionError: one by none .*bodies.py:"),
        ("exit", HarnessError, "^fault in the engine host: SystemExit: 4 "),
    ],
)
def test_errors_cross_over_and_the_host_lives(
    shared: HostedBackend, kind: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        call(shared, "fail", kind=kind)
    assert type(caught.value) is error
    assert re.search(message, str(caught.value))
    assert call(shared, "echo", x=1) == {"x": 1}


def test_errors_of_a_stage_keep_all_they_hold(shared: HostedBackend) -> None:
    with pytest.raises(RunError) as caught:
        call(shared, "fail", kind="stage")
    assert (caught.value.message, caught.value.log, caught.value.crash) == ("refused", ("[E] bad dims",), None)
    assert caught.value.detail["node"] == "conv1"
    assert caught.value.detail["object"].startswith("<object object at")


def test_a_fault_comes_with_its_traceback(shared: HostedBackend) -> None:
    with pytest.raises(HarnessError) as caught:
        call(shared, "fail", kind="bug")
    assert "in fail\n    raise errors[kind]" in caught.value.__notes__[0]


def test_an_answer_that_can_not_travel_is_a_fault(shared: HostedBackend) -> None:
    with pytest.raises(HarnessError, match=r"fault in the engine host: TypeError: a builtins\.object can't be sent"):
        call(shared, "unsendable")
    assert call(shared, "echo") == {}


def test_an_argument_that_can_not_travel_costs_nothing(shared: HostedBackend) -> None:
    call(shared, "echo")
    with pytest.raises(TypeError, match="can't be sent"):
        call(shared, "echo", x=object())
    assert call(shared, "echo") == {}


def test_an_error_may_ask_for_another_host(backend: HostedBackend) -> None:
    with pytest.raises(RunError, match="illegal memory access"):
        call(backend, "fail", kind="sticky")
    assert not backend.client.alive(1)
    call(backend, "echo")
    assert backend.client.generation == 2


def test_what_is_logged_there_is_logged_here(shared: HostedBackend, caplog: pytest.LogCaptureFixture) -> None:
    call(shared, "chatter", line="first")
    assert ("harness.bodies", logging.WARNING, "heard: first") in caplog.record_tuples


def test_what_is_printed_there_is_not_printed_here(shared: HostedBackend, capfd: pytest.CaptureFixture[str]) -> None:
    call(shared, "chatter", line="quiet")
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- its death


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_costs_one_request_and_says_all_it_can(backend: HostedBackend, number: signal.Signals) -> None:
    call(backend, "chatter", line="of an earlier request")
    with pytest.raises(RunError) as caught:
        call(backend, "die", signal=int(number))
    error = caught.value
    assert error.crash == f"signal {int(number)} ({number.name})"
    assert "fake: tests.runtime.bodies:die: the engine host died: signal" in error.message
    assert error.log[0] == "no tactic was found"  # forwarded before
    assert "assertion failed: dims.d[0] > 0" in error.log  # C's output
    assert "about to die" in error.log
    assert not any("earlier" in line for line in error.log)
    if number is not signal.SIGKILL:
        assert any(re.search(r"bodies.py\", line \d+ in die", line) for line in error.log)
    assert call(backend, "echo", x=1) == {"x": 1}
    assert backend.client.generation == 2


@pytest.mark.parametrize("body", ["hold_gil", "close_channel"])
def test_silence_is_ended_from_outside(backend: HostedBackend, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_STOP_TIMEOUT", 0.5)
    call(backend, "echo")
    pid = backend.client.facts["pid"]
    started = time.monotonic()
    with pytest.raises(RunError) as caught:
        call(backend, body, timeout=0.3)
    assert time.monotonic() - started < 5
    if body == "hold_gil":
        assert caught.value.crash == "no answer within 0.3 s"
        assert any("in hold_gil" in line for line in caught.value.log)
    else:
        assert caught.value.crash == "its channel was closed and it went on"
    assert not Path(f"/proc/{pid}").exists()
    assert call(backend, "echo", x=1) == {"x": 1}


CRASHES: list[tuple[str, type[StageError], str]] = [
    ("crash_parse", ParseError, "signal 11 (SIGSEGV)"),
    ("crash_build", BuildError, "signal 11 (SIGSEGV)"),
    ("crash_load", DeserializeError, "signal 11 (SIGSEGV)"),
    ("crash_run", RunError, "signal 11 (SIGSEGV)"),
    ("exit_run", RunError, "exit status 3"),
    ("hang_build", BuildError, "no answer within 1 s"),
    ("hang_load", DeserializeError, "no answer within 1 s"),
    ("hang_run", RunError, "no answer within 1 s"),
    ("hang_gil", RunError, "no answer within 1 s"),
]


@pytest.mark.parametrize(("fault", "error", "crash"), CRASHES, ids=[fault for fault, _, _ in CRASHES])
def test_a_death_belongs_to_the_stage_under_way(
    make: Make, affine: BuildRequest, fault: str, error: type[StageError], crash: str
) -> None:
    backend = make(f"fake:{fault}")
    if fault.startswith("hang"):
        call(backend, "load_module", name="onnx.reference")  # not in the time of a stage
        backend.timeouts = Timeouts(1, 1, 1)
    with pytest.raises(error) as caught:
        backend.load(backend.build(affine).data).session().run({"x": ROWS})
    assert type(caught.value) is error
    assert caught.value.crash == crash
    assert call(backend, "echo", x=1, timeout=30) == {"x": 1}
    assert backend.client.generation == 2


def test_what_a_dead_host_held_is_gone(backend: HostedBackend, affine: BuildRequest) -> None:
    engine = backend.load(backend.build(affine).data)
    session = engine.session()
    assert engine.alive
    assert session.alive
    with pytest.raises(RunError):
        call(backend, "die", signal=9)
    assert not engine.alive
    assert not session.alive
    with pytest.raises(RunError, match="the engine host that held it was replaced"):
        session.run({"x": ROWS})
    call(backend, "echo")
    with pytest.raises(RunError, match=r"number 1, 2 have been started\): load the plan again"):
        engine.session()
    session.close()
    engine.close()
    again = backend.load(backend.build(affine).data).session()
    np.testing.assert_array_equal(again.run({"x": ROWS})["y"], 2 * ROWS)


def test_a_host_that_died_unasked_is_replaced(
    backend: HostedBackend, affine: BuildRequest, caplog: pytest.LogCaptureFixture
) -> None:
    session = backend.load(backend.build(affine).data).session()
    kill(backend)
    assert call(backend, "echo", x=1) == {"x": 1}
    assert "between requests: the engine host died: signal 9 (SIGKILL)" in caplog.text
    session = backend.load(backend.build(affine).data).session()
    kill(backend)
    with pytest.raises(RunError, match=r"before run of x\[2, 4\]: the engine host died") as caught:
        session.run({"x": ROWS})
    assert caught.value.crash == "signal 9 (SIGKILL)"


def kill(backend: HostedBackend) -> None:
    """As the system does when memory runs out."""
    pid = backend.client.facts["pid"]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_closed_engine_takes_its_sessions_along(shared: HostedBackend, affine: BuildRequest) -> None:
    engine = shared.load(shared.build(affine).data)
    session = engine.session()
    engine.close()
    engine.close()
    with pytest.raises(RunError, match="was closed"):
        session.run({"x": ROWS})
    with pytest.raises(DeserializeError, match="was closed"):
        engine.session()
    session.close()


def test_an_interrupted_request_does_not_answer_the_next(backend: HostedBackend, affine: BuildRequest) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.build(affine, interrupt)
    assert call(backend, "echo", x=1) == {"x": 1}
    assert backend.client.generation == 2


def test_a_crash_while_it_closes_is_told(backend: HostedBackend, caplog: pytest.LogCaptureFixture) -> None:
    call(backend, "leave_crash_at_close")
    backend.close()
    assert "ended with signal 11 (SIGSEGV)" in caplog.text


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-11, "signal 11 (SIGSEGV)"),
        (-6, "signal 6 (SIGABRT)"),
        (-40, "signal 40"),
        (0, "exit status 0"),
        (3, "exit status 3"),
    ],
)
def test_how_it_ended_in_words(code: int, text: str) -> None:
    assert describe_exit(code) == text


# ---------------------------------------------------------------- probing


@pytest.mark.parametrize(
    ("fault", "evidence"),
    [("crash_probe", "signal 11 (SIGSEGV) in step 'run'"), ("hang_probe", "no answer within 2 s in step 'run'")],
)
def test_a_step_of_a_probe_that_dies_is_a_finding(make: Make, fault: str, evidence: str) -> None:
    probe = make(f"fake:{fault}", Timeouts(30, 30, 2)).probe()
    assert probe.has("build")
    assert probe.find("run").state is State.USELESS
    assert probe.find("run").evidence == evidence
    assert probe.has("plan_file")  # a step behind it, in another host


def test_a_host_that_can_not_start_is_an_absent_backend(make: Make, tmp_path: Path) -> None:
    backend = make(python=str(interpreter(tmp_path)))
    found = backend.probe().find("build")
    assert found.state is State.ABSENT
    assert "exit status 1: ModuleNotFoundError: No module named 'numpy'" in found.evidence
    assert "has numpy" in found.fix
    with pytest.raises(HostDied, match="the engine host died"):
        backend.client.request("probe_steps", {}, stage="probe", timeout=9, summary="probe")


def test_a_program_that_is_no_python_is_an_absent_backend(make: Make) -> None:
    found = make("tensorrt", python="/bin/true").probe().find("build")
    assert found.state is State.ABSENT
    assert "exit status 0" in found.evidence


def test_an_interpreter_that_is_not_there_is_a_request_to_mend(make: Make) -> None:
    with pytest.raises(SpecError, match="can't be started with /nowhere/python"):
        make(python="/nowhere/python").probe()


# ---------------------------------------------------------------- where it runs


def interpreter(folder: Path, *packages: str) -> Path:
    """A Python of its own, as this one but for what it has installed: ``packages``."""
    venv.create(folder / "venv")
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    for package in packages:
        (site / package).symlink_to(Path(sys.modules["numpy"].__file__ or "").parents[1] / package)
    return folder / "venv" / "bin" / "python"


def test_another_interpreter_sees_this_package_and_not_its_neighbours(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = [name for name in ("numpy", "numpy.libs") if (Path(np.__file__).parents[1] / name).exists()]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    backend = make(python=str(interpreter(tmp_path, *needed)))
    assert call(backend, "add", x=np.ones(2), y=1).tolist() == [2, 2]
    assert backend.client.facts["executable"] == str(tmp_path / "venv" / "bin" / "python")
    with pytest.raises(HarnessError, match="No module named 'pytest'"):
        call(backend, "load_module", name="pytest")


@pytest.mark.parametrize(
    ("visible", "device", "seen"),
    [(None, 0, "0"), (None, 3, "3"), ("4,5", 1, "5"), ("GPU-8a, GPU-9b", 0, "GPU-8a"), ("0", 2, ""), ("", 0, "")],
)
def test_it_sees_its_device_alone(
    make: Make, monkeypatch: pytest.MonkeyPatch, visible: str | None, device: int, seen: str
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    environment = call(make(device=device), "environment")
    assert environment["CUDA_VISIBLE_DEVICES"] == seen
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert environment["OPENBLAS_NUM_THREADS"] == "1"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel that ships the libraries of TensorRT-RTX, and one of CUDA's, as they look installed."""
    package = tmp_path / "site" / "onnxruntime_ep_nv_tensorrt_rtx"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('it puts itself on LD_LIBRARY_PATH, too late')")
    for library in ("libtensorrt_rtx.so.1.7.1", "libtensorrt_onnxparser_rtx.so.1.7.1"):
        (package / library).write_text(library)
    (tmp_path / "site" / "nvidia" / "cudnn" / "lib").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return package


def check_links(links: Path, wheel: Path) -> None:
    stem = wheel / "libtensorrt_rtx.so.1.7.1"
    for name in ("libtensorrt_rtx.so", "libtensorrt_rtx.so.1", "libtensorrt_rtx.so.1.7"):
        assert (links / name).readlink() == stem
    assert (links / "libtensorrt_onnxparser_rtx.so").read_text() == "libtensorrt_onnxparser_rtx.so.1.7.1"


def test_libraries_get_the_names_they_are_asked_for_by(wheel: Path, tmp_path: Path) -> None:
    links, folder, cuda = library_folders("tensorrt_rtx", cache=tmp_path / "cache")[:3]
    assert (folder, cuda) == (wheel, tmp_path / "site" / "nvidia" / "cudnn" / "lib")
    check_links(links, wheel)
    newer = wheel / "libtensorrt_rtx.so.1.7.2"
    (wheel / "libtensorrt_rtx.so.1.7.1").rename(newer)
    assert library_folders("tensorrt_rtx", cache=tmp_path / "cache")[0] == links
    assert (links / "libtensorrt_rtx.so.1").readlink() == newer
    assert library_folders("fake") == []


def test_libraries_are_on_the_path_before_the_host_starts(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/lib")
    client = HostClient("tensorrt_rtx", folder=tmp_path / "cache")
    arguments = {"target": "tests.runtime.bodies:environment", "arguments": {}, "folder": str(ROOT)}
    environment = client.request("invoke", arguments, stage="run", timeout=30, summary="environment")
    client.close()
    folders = environment["LD_LIBRARY_PATH"].split(os.pathsep)
    assert folders[1] == str(wheel)
    assert folders[-1] == "/usr/local/lib"
    check_links(Path(folders[0]), wheel)


def test_a_home_that_can_not_be_written_is_no_obstacle(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    links = library_folders("tensorrt_rtx", cache=tmp_path / "file" / "cache")[0]
    check_links(links, wheel)


@pytest.mark.usefixtures("wheel")
def test_another_interpreter_has_its_own_libraries(tmp_path: Path) -> None:
    python = interpreter(tmp_path)
    site = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    (site / "tensorrt_libs").mkdir()
    assert library_folders("tensorrt_rtx", str(python), tmp_path / "cache") == []
    assert library_folders("tensorrt", str(python), tmp_path / "cache")[1:] == [site / "tensorrt_libs"]


# ---------------------------------------------------------------- what is left


def test_a_request_leaves_a_breadcrumb(backend: HostedBackend, tmp_path: Path) -> None:
    crumb = tmp_path / "crumb"
    assert read_breadcrumb(crumb) is None
    backend.client.breadcrumb = crumb
    backend.label("test_matches_oracle[bert-fp16-opt-rtx] at some length")
    during = json.loads(call(backend, "contents", path=str(crumb)).partition("\n")[0])
    expected = {
        "label": "test_matches_oracle[bert-fp16-opt-rtx] at some length",
        "backend": "fake",
        "device": 0,
        "stage": "run",
        "request": "tests.runtime.bodies:contents",
        "host": backend.client.facts["pid"],
        "over": False,
    }
    assert during == expected
    assert read_breadcrumb(crumb) == {**expected, "over": True}
    with pytest.raises(RunError):
        call(backend, "die", signal=11)
    assert read_breadcrumb(crumb) == {**expected, "request": "tests.runtime.bodies:die", "over": True}
    backend.label("short")
    call(backend, "echo")
    assert (read_breadcrumb(crumb) or {})["label"] == "short"


def test_nothing_is_left_of_a_host_however_it_ends(make: Make) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    pids = set()
    for ending in ("close", "die", "exit", "hang", "killed", "killed and replaced") * 2:
        backend = make()
        call(backend, "echo", x=np.ones(1000))
        pids.add(backend.client.facts["pid"])
        if ending == "die":
            with pytest.raises(RunError):
                call(backend, "die", signal=9)
        elif ending == "exit":
            with pytest.raises(RunError):
                backend.call("os:_exit", {"status": 0})
        elif ending == "hang":
            with pytest.raises(RunError):
                call(backend, "hold_gil", timeout=0.1)
        elif ending.startswith("killed"):
            kill(backend)
            if "replaced" in ending:
                call(backend, "echo")
                pids.add(backend.client.facts["pid"])
        backend.close()
        backend.close()
    assert len(pids) == 14
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208


def test_a_client_that_is_dropped_takes_its_host_along() -> None:
    client = HostClient("fake")
    client.request("probe_steps", {}, stage="probe", timeout=30, summary="probe")
    pid = client.facts["pid"]
    del client
    assert not Path(f"/proc/{pid}").exists()


def test_a_closed_client_starts_again_when_asked(backend: HostedBackend) -> None:
    for generation in (1, 2):
        assert call(backend, "echo", x=1) == {"x": 1}
        assert backend.client.generation == generation
        backend.close()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "holding its GIL"])
def test_a_host_dies_with_its_parent(busy: bool) -> None:
    program = f"""
        import os, sys, threading, time
        from harness.runtime.client import HostClient
        def ask(client, body, timeout=30):
            arguments = {{"target": "tests.runtime.bodies:" + body, "arguments": {{}}, "folder": {str(ROOT)!r}}}
            client.request("invoke", arguments, stage="run", timeout=timeout, summary=body)
        client = HostClient("fake")
        starter = threading.Thread(target=ask, args=(client, "echo"))  # it ends, and the host must not
        starter.start()
        starter.join()
        ask(client, "echo")
        assert client.generation == 1
        print(client.facts["pid"], flush=True)
        if {busy}:
            ask(client, "hold_gil")
        time.sleep(60)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    host = Path("/proc") / parent.stdout.readline().strip()
    time.sleep(0.3)
    assert host.exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while is_running(host) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(host)


def is_running(process: Path) -> bool:
    """Whether it is there and no zombie, which one without a parent may stay for a while."""
    with contextlib.suppress(FileNotFoundError):
        return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_the_client_needs_no_import_of_a_vendor() -> None:
    program = """
        import json, sys
        import harness.runtime.backend.hosted, harness.runtime.backend.registry
        print(json.dumps(sorted(sys.modules)))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in json.loads(run.stdout)}
    assert not loaded & {
        "onnx",
        "onnxruntime",
        "tensorrt",
        "tensorrt_rtx",
        "cuda",
        "pytest",
        "ml_dtypes",
        "platformdirs",
    }
