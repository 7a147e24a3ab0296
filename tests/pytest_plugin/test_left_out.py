"""What should have covered cells and covered none: no run with any of it is a success."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from harness.ledger.records import Record
from harness.pytest_plugin.terminal import left_out
from harness.runtime.capability import Capability, Probe, State
from harness.settings import BACKENDS
from harness.spec.cell import Cell

PASSED = Record(Cell("test_builds", "mlp", "fp32", backend="onnxruntime"), "passed")
IDLE = Record(Cell("test_builds", "mlp", "fp32", backend="tensorrt"), "not_covered", message="absent")


def run(backends: tuple[str, ...] = BACKENDS, state: State = State.ABSENT) -> Any:
    probe = Probe("tensorrt", "8.6.1", (Capability("build", state, "no tactics for a Relu"),))
    return SimpleNamespace(settings=SimpleNamespace(backend=backends), probes={"tensorrt": probe})


def test_a_backend_that_is_not_there_is_no_fault_of_the_run() -> None:
    assert left_out(run(), [PASSED, IDLE]) == []
    assert left_out(run(state=State.NEEDS_GPU), [PASSED, IDLE]) == []


def test_a_backend_asked_for_by_name_must_cover_something() -> None:
    named = run(("tensorrt", "onnxruntime"))
    assert left_out(named, [PASSED, IDLE]) == ["tensorrt was asked for and covered nothing"]
    assert left_out(named, [PASSED]) == [], "no cell of it was selected"


def test_a_backend_that_is_installed_must_work() -> None:
    (words,) = left_out(run(state=State.USELESS), [PASSED, IDLE])
    assert words == "tensorrt is installed and fails at build: no tactics for a Relu"


def test_nothing_at_all_is_no_success() -> None:
    assert left_out(run(), [IDLE]) == ["nothing was covered here"]
    assert left_out(run(), []) == []


CACHED = Record(Cell("test_builds", "mlp", "fp32", backend="tensorrt"), "cached", message="built before")


def test_what_is_cached_was_covered_by_another_run() -> None:
    """It is no lack, not even of a backend asked for by name, and by itself it is no success."""
    named = run(("tensorrt", "onnxruntime"))
    assert left_out(named, [PASSED, CACHED]) == []
    assert left_out(run(), [CACHED, IDLE]) == ["nothing was covered here: what is cached was built before"]
