"""Every test of suites/serialization catches the misbehaviour it is there for, and none where there is none."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import BuildError
from harness.ledger.records import Record
from harness.runtime import envelope
from harness.runtime.backend.fake import FakeBackend, FakeEngine
from harness.runtime.backend.protocol import EngineInfo, Plan
from harness.runtime.cache import PlanCache
from harness.runtime.store import Store
from tests.pytest_plugin.parts import ROOT, complaints

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.runs
Records = Callable[[], list[Record]]

SUITE = ROOT / "suites" / "serialization"

CAUGHT = [  # fault, model, test, and words of the detector
    ("profile_lost", "mlp", "test_round_trip", "profile_shapes: [{'x': [[4, 64], [4, 64], [4, 64]]}], of the engine"),
    ("rounded_plan", "mlp", "test_round_trip", "from the engine that wrote the plan"),
    ("rounded_plan", "conv", "test_round_trip_through_another_process", "from the engine that wrote the plan"),
    ("profile_lost", "conv", "test_round_trip_through_another_process", "profile_shapes: "),
    ("short_stream", "mlp", "test_round_trip_by_stream", "the plan is damaged or cut short"),
    ("loose_stream", "conv", "test_plan_of_a_stream_writer_runs", "the plan is damaged or cut short"),
    ("refit_deaf", "conv", "test_plan_without_its_weights", "from the engine that wrote the plan"),
    ("wrong_facts", "mlp", "test_facts", "refittable is True, asked for False"),
    ("wrong_facts", "mlp", "test_facts", "hardware_compatibility is AMPERE_PLUS, asked for NONE"),
    ("wrong_facts", "mlp", "test_facts", "streamable_weights is 1, and WEIGHT_STREAMING was not asked for"),
    ("wrong_facts", "reshape_values", "test_options", "refittable is True, asked for False"),
    ("imprecise", "reshape_values", "test_options", "values differ"),
    ("refuses_silently", "reshape_values", "test_options", "build"),
    ("refuses_silently", "reshape_values", "test_options_build", "build"),
    ("imprecise", "conv", "test_rebuilds", "values differ"),
    ("other_rebuild", "conv", "test_rebuilds", "values differ"),
    ("streams_wrong", "conv", "test_weight_streaming", "bytes of weights on the device (now 64852)"),
    ("streams_nothing", "conv", "test_weight_streaming", "with 64852 of 129704 bytes of weights on the device"),
    ("imprecise", "conv", "test_weight_streaming", "values differ"),
    ("lean_off", "conv", "test_version_compatibility", "values differ"),
    ("lean_refuses", "conv", "test_version_compatibility", "not today"),
    ("stub_mute", "conv", "test_version_compatibility", "deserialize"),
    ("stub_crash", "conv", "test_version_compatibility", "signal 11"),
    ("bug_forged", "conv", "test_bad_plans", "truncated: the first 64 of"),
    ("mute_forged", "conv", "test_bad_plans", "empty: no byte: refused without a word"),
    ("hang_forged", "conv", "test_bad_plans", "no answer within 3 s"),
    ("hoards_forged", "conv", "test_bad_plans", "the host grew by"),
]


def run(project: pytest.Pytester, test: str, backend: str, model: str, *arguments: str) -> pytest.RunResult:
    # Most of these faults do not take their process along, so that no host has to be started for each of them.
    timeout = 3 if "hang" in backend else 60  # seconds
    asked = ("--trt-in-process", f"--trt-backend={backend}", f"--trt-model={model}", f"--trt-run-timeout={timeout}")
    place = (f"--rootdir={project.path}", "-c", "tox.ini")  # this project's conftest.py does not hold there
    where: Any = SUITE
    if test:
        (file,) = (file for file in SUITE.glob("test_*.py") if f"def {test}(" in file.read_text())
        where = f"{file}::{test}"
    return project.runpytest_inprocess(where, *place, *asked, "--trt-precision=fp32", *arguments)


@pytest.mark.parametrize(("fault", "model", "test", "words"), CAUGHT)
def test_a_fault_is_caught(
    project: pytest.Pytester, records: Records, fault: str, model: str, test: str, words: str
) -> None:
    result = run(project, test, f"fake:{fault}", model)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    failed = [record for record in records() if record.verdict == "failed"]
    assert {record.cell.test for record in failed} == {test}
    assert words in complaints(failed)


# What no fault of the fake's is needed for: one method of it that is another.


def later(change: Callable[[EngineInfo], EngineInfo]) -> Callable[[], Any]:
    """Engines that are loaded after the first say otherwise of themselves."""

    def made() -> Any:
        loads = itertools.count()

        def load(self: FakeBackend, *given: Any, **named: Any) -> Any:
            engine = LOAD(self, *given, **named)
            engine.info = change(engine.info) if next(loads) else engine.info
            return engine

        return load

    return made


def plans(change: Callable[[np.ndarray], np.ndarray], *, stream: bool = False) -> Callable[[], Any]:
    """Plans, or those of a stream writer alone, are others than were built."""

    def build(self: FakeBackend, request: Any, progress: Any = None) -> Plan:
        built = BUILD(self, request, progress)
        return replace(built, data=change(built.data)) if request.stream >= stream else built

    return lambda: build


def always(method: Callable[..., Any]) -> Callable[[], Any]:
    return lambda: method


def deaf_to_budgets(self: FakeEngine, _: int | None = None) -> Any:
    return STREAM(self)


def never_more(self: FakeEngine, budget: int | None = None) -> Any:
    return STREAM(self, None if budget is None else min(budget, self.budget))


def of_another_model(self: FakeEngine, *given: Any, **named: Any) -> Any:
    return replace(LISTED(self, *given, **named), missing=("who?",))


LOAD, BUILD, STREAM, LISTED = FakeBackend.load, FakeBackend.build, FakeEngine.stream, FakeEngine.weights
SERIALIZE = FakeEngine.serialize


@pytest.mark.parametrize(
    ("owner", "method", "other", "test", "words"),
    [
        (
            FakeBackend,
            "load",
            later(lambda info: replace(info, tensors=tuple(replace(one, format="CHW4") for one in info.tensors))),
            "test_round_trip",
            "CHW4",
        ),
        (FakeBackend, "load", later(lambda info: replace(info, profiles=7)), "test_round_trip", "assert 7 == 1"),
        (FakeBackend, "load", later(lambda info: replace(info, facts={})), "test_round_trip", "dict_keys([])"),
        (
            FakeBackend,
            "load",
            later(lambda info: replace(info, facts={**info.facts, "refittable": False})),
            "test_plan_without_its_weights",
            "INCLUDE_REFIT was asked for",
        ),
        (
            FakeEngine,
            "serialize",
            always(lambda self, _=(): SERIALIZE(self)),
            "test_plan_without_its_weights",
            "bytes without weights",
        ),
        (
            FakeEngine,
            "weights",
            always(of_another_model),
            "test_plan_without_its_weights",
            "in the model's file: ['who?']",
        ),
        (FakeBackend, "build", plans(lambda data: data[1:], stream=True), "test_stream_writer", "b'AKEPLAN"),
        (FakeBackend, "build", plans(lambda data: data.repeat(2)[::-1], stream=True), "test_stream_writer", "begins"),
        (
            FakeBackend,
            "build",
            plans(lambda data: np.concatenate((data, data)), stream=True),
            "test_stream_writer",
            "bytes by stream",
        ),
        (FakeBackend, "build", plans(lambda data: data[:0]), "test_options_build", "the plan is empty"),
        (FakeBackend, "build", plans(lambda data: data[:0]), "test_builds_again", "plans are empty: [0, 0"),
        (FakeEngine, "stream", always(deaf_to_budgets), "test_weight_streaming", "a budget of 64852 bytes was asked"),
        (FakeEngine, "stream", always(never_more), "test_weight_streaming", "of 129704 bytes of weights 0 may come"),
        (PlanCache, "get", always(lambda *_: None), "test_damaged_files", "it can tell a good one"),
    ],
)
def test_another_method_is_caught(
    project: pytest.Pytester,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
    other: Callable[[], Any],
    test: str,
    words: str,
) -> None:
    monkeypatch.setattr(owner, method, other())
    assert run(project, test, "fake", "conv").ret == pytest.ExitCode.TESTS_FAILED
    assert words in complaints(records())


@pytest.mark.parametrize(("crash", "verdict"), [(None, "not_covered"), ("signal 11 (SIGSEGV)", "failed")])
def test_an_option_that_is_not_there_may_be_refused_and_kill_nothing(
    project: pytest.Pytester, records: Records, monkeypatch: pytest.MonkeyPatch, crash: str | None, verdict: str
) -> None:
    def build(self: FakeBackend, request: Any, progress: Any = None) -> Plan:
        if "WEIGHT_STREAMING" in request.config.flags:
            raise BuildError("no", log=("[E] no",), crash=crash)
        return BUILD(self, request, progress)

    step = FakeBackend.probe_step

    def probed(self: FakeBackend, name: str) -> Any:
        found, facts = step(self, name)
        return tuple(one for one in found if one.name != "weight_streaming"), facts

    monkeypatch.setattr(FakeBackend, "build", build)
    monkeypatch.setattr(FakeBackend, "probe_step", probed)
    run(project, "test_options_build", "fake", "reshape_values")
    streamed = {record.verdict for record in records() if "streamed" in record.cell.variant}
    assert streamed == {verdict}


def test_builds_that_can_not_run_are_told_apart_by_their_size(
    project: pytest.Pytester, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = FakeBackend.probe_step
    monkeypatch.setattr(FakeBackend, "probe_step", lambda self, name: ((), {}) if name == "run" else step(self, name))
    assert run(project, "test_builds_again", "fake:rebuild_outlier", "conv").ret == 0
    (record,) = records()
    assert record.facts["build_outliers"] == ["build 2: size 2 times that of the others"]


def test_an_honest_backend_passes_everything(project: pytest.Pytester, records: Records) -> None:
    result = run(project, "", "fake", "mlp,conv,reshape_values")
    assert result.ret == 0
    shown_elsewhere = ("test_inspected", "test_timing_cache")
    found = [record for record in records() if not any(name in record.node for name in shown_elsewhere)]
    assert {record.verdict for record in found} == {"passed"}
    assert {record.cell.test for record in found} == {test for *_, test, _ in CAUGHT} | {
        "test_stream_writer",
        "test_builds_again",
        "test_damaged_files",
    }


def test_a_build_that_stands_apart_is_named_and_no_failure(project: pytest.Pytester, records: Records) -> None:
    result = run(project, "test_rebuilds", "fake:rebuild_outlier", "conv")
    assert result.ret == 0
    (record,) = records()
    (words,) = record.facts["build_outliers"]
    assert words == "build 2: size 2 times that of the others"
    result.stdout.fnmatch_lines([f"build outlier: conv at fp32 on fake:rebuild_outlier: {words}"])
    taken = []
    for _ in range(2):
        run(project, "test_rebuilds", "fake", "conv")
        (record,) = records()
        assert record.facts["build_outliers"] == []
        taken.append(record.facts["build_seconds"])
    assert taken[0] == taken[1], "of builds from the cache, too, it is told what they took"
    assert all(seconds >= 0 for seconds in taken[0])
    assert len(record.facts["plan_bytes"]) == len(record.facts["errors"]) == 5


def test_what_is_refused_in_words_is_no_failure_and_is_kept_two_by_two(
    project: pytest.Pytester, records: Records
) -> None:
    for test in ("test_options", "test_options_build"):
        assert run(project, test, "fake:refuses_together", "reshape_values").ret == 0
        refused = {record.cell.variant: record.facts["refused"] for record in records()}
        assert refused["sparse"] == {}
        assert refused["compatible_excluded_hardware_refit"] == {
            "compatible_excluded_hardware_refit": "VERSION_COMPATIBLE and EXCLUDE_LEAN_RUNTIME do not go together",
            "compatible_excluded": "VERSION_COMPATIBLE and EXCLUDE_LEAN_RUNTIME do not go together",
            "compatible_refit": "VERSION_COMPATIBLE and REFIT do not go together",
        }


@pytest.mark.parametrize(
    ("fault", "outcomes"),
    [
        (
            "crash_forged",
            {"truncated": {"tried": 32, "crashed": 4, "left out": 28}, "zeros": {"tried": 1, "crashed": 1}},
        ),
        ("takes_forged", {"truncated": {"tried": 32, "accepted": 32}, "text": {"tried": 1, "accepted": 1}}),
    ],
)
def test_what_becomes_of_a_forged_plan_is_told(
    project: pytest.Pytester, records: Records, fault: str, outcomes: dict[str, dict[str, int]]
) -> None:
    assert run(project, "test_bad_plans", f"fake:{fault}", "conv").ret == 0
    (record,) = records()
    table = record.facts["bad_plans"]
    assert len(table) == 9, "every kind but a version, which this plan has nowhere"
    assert table["bit"] == {"tried": 48, "accepted": 48, "words": []}, "which nobody notices"
    for kind, outcome in outcomes.items():
        assert {name: count for name, count in table[kind].items() if name != "words"} == outcome


def believes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "_digest", lambda *_: bytes(32))


def does_not_ask_whose(monkeypatch: pytest.MonkeyPatch) -> None:
    read = envelope.read
    monkeypatch.setattr(envelope, "read", lambda file: replace(read(file), key=Path(file.name).stem))


def reads_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    read = envelope.read

    def reads(file: Any) -> envelope.Sealed:
        np.zeros(Path(file.name).stat().st_size, np.uint8)
        return read(file)

    monkeypatch.setattr(envelope, "read", reads)


def says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "warn", lambda *_: None)


@pytest.mark.parametrize(
    ("careless", "words"),
    [
        (believes_everything, "bit: bit * of byte *, behind its head: taken for a plan"),
        (does_not_ask_whose, "another GPU's: taken for a plan"),
        (reads_everything, "zeros: a gigabyte of zeros, without a head: 1024 MiB were taken to read it"),
        (says_nothing, "text: a sentence, without a head: refused without a word"),
    ],
)
def test_a_cache_that_takes_what_is_no_plan_is_caught(
    project: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    careless: Callable[[pytest.MonkeyPatch], None],
    words: str,
) -> None:
    careless(monkeypatch)
    result = run(project, "test_damaged_files", "fake", "conv")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*{words}*"])


def test_no_id_is_the_beginning_of_another(project: pytest.Pytester) -> None:
    everything = ("--trt-backend=tensorrt,tensorrt_rtx,fake", "--trt-precision=fp32,tf32,fp16,fp16-weak")
    listed = run(project, "", "fake", "*", *everything, "--collect-only", "-q").outlines
    ids = sorted(line for line in listed if "::" in line)
    assert len(ids) > 1000
    assert not [(one, other) for one, other in itertools.pairwise(ids) if other.startswith(one)]
