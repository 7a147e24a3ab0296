"""Every test of timing caches catches the misbehaviour it is there for, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.errors import BuildError
from harness.ledger.records import Record
from harness.runtime.backend.fake import FakeBackend
from harness.runtime.backend.protocol import Plan
from tests.pytest_plugin.parts import ROOT, complaints

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.runs
Records = Callable[[], list[Record]]

SUITE = ROOT / "suites" / "serialization" / "test_timing_cache.py"
CAUGHT = [  # fault, test, and words of the detector
    ("times_again", "test_reuse_spares_a_build", "bytes were found out once more"),
    ("other_tactics", "test_one_timing_cache_gives_one_engine", ": tactic: 0x"),
    ("any_timings", "test_a_foreign_one_is_refused", "a builder went by these"),
    ("no_miss", "test_an_unknown_tactic_is_an_error", "DID NOT RAISE"),
]


def run(project: pytest.Pytester, fault: str, models: str, *arguments: str) -> pytest.RunResult:
    place = (f"--rootdir={project.path}", "-c", "tox.ini")  # this project's conftest.py does not hold there
    asked = ("--trt-in-process", f"--trt-backend=fake{':' * bool(fault)}{fault}", f"--trt-model={models}")
    return project.runpytest_inprocess(SUITE, *place, *asked, *arguments)


@pytest.mark.parametrize(("fault", "test", "words"), CAUGHT)
def test_a_fault_is_caught(project: pytest.Pytester, records: Records, fault: str, test: str, words: str) -> None:
    result = run(project, fault, "mlp", "--trt-precision=fp32", "-k", test)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (record,) = records()
    assert (record.cell.test, record.verdict) == (test, "failed")
    assert words in complaints(records())


BUILD = FakeBackend.build


def grows_after_a_refusal(self: FakeBackend, request: Any, progress: Any = None) -> Plan:
    try:
        built = BUILD(self, request, progress)
    except BuildError:
        vars(self)["refused"] = True
        raise
    assert built.timing_cache is not None
    more = np.zeros(len(vars(self).keys() & {"refused"}), np.uint8)
    return replace(built, timing_cache=np.concatenate((built.timing_cache, more)))


def forgets(self: FakeBackend, request: Any, progress: Any = None) -> Plan:
    return replace(BUILD(self, request, progress), timing_cache=None)


def finds_out_nothing(self: FakeBackend, request: Any, progress: Any = None) -> Plan:
    return replace(BUILD(self, request, progress), timing_cache=np.zeros(0, np.uint8))


def fails_otherwise(self: FakeBackend, request: Any, progress: Any = None) -> Plan:
    try:
        return BUILD(self, request, progress)
    except BuildError:
        raise BuildError("no tactics, by the way") from None


def dies(self: FakeBackend, request: Any, progress: Any = None) -> Plan:
    try:
        return BUILD(self, request, progress)
    except BuildError as error:
        raise BuildError("dead", crash="signal 11 (SIGSEGV)", detail=error.detail) from None


@pytest.mark.parametrize(
    ("build", "test", "words"),
    [
        (grows_after_a_refusal, "test_a_foreign_one_is_refused", "after the refusals the good one grew"),
        (grows_after_a_refusal, "test_an_unknown_tactic_is_an_error", "all was known, and"),
        (forgets, "test_reuse_spares_a_build", "the build gave no timing cache back"),
        (finds_out_nothing, "test_reuse_spares_a_build", "the build found out nothing"),
        (fails_otherwise, "test_a_foreign_one_is_refused", "no tactics, by the way"),
        (dies, "test_a_foreign_one_is_refused", "dead"),
    ],
)
def test_another_builder_is_caught(
    project: pytest.Pytester,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    build: Callable[..., Plan],
    test: str,
    words: str,
) -> None:
    monkeypatch.setattr(FakeBackend, "build", build)
    assert run(project, "", "mlp", "--trt-precision=fp32", "-k", test).ret == pytest.ExitCode.TESTS_FAILED
    assert words in complaints(records())


@pytest.mark.parametrize("option", [(), ("--trt-build-option=optimization_level=0",)], ids=["", "level 0"])
def test_an_honest_backend_passes_everything(
    project: pytest.Pytester, records: Records, option: tuple[str, ...]
) -> None:
    result = run(project, "", "mlp,conv", *option)
    assert result.ret == 0
    found = records()
    assert {record.verdict for record in found} == {"passed"}
    assert {record.cell.test for record in found} == {test for _, test, _ in CAUGHT}
    reused = next(record for record in found if record.cell.test == "test_reuse_spares_a_build")
    facts = reused.facts["timing_cache_reuse"]
    assert facts["bytes"]["cold"] == facts["bytes"]["warm"] > 0
    assert all(seconds > 0 for seconds in facts["build_seconds"].values())
    assert reused.facts["rebuilds"] == 2


def test_where_nothing_is_timed_nothing_is_covered(project: pytest.Pytester, records: Records) -> None:
    place = (f"--rootdir={project.path}", "-c", "tox.ini")
    result = project.runpytest_inprocess(SUITE, *place, "--trt-backend=onnxruntime", "--trt-model=mlp")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    found = records()
    assert {record.verdict for record in found} == {"not_covered"}
    assert all("absent: the CPU provider times no tactics" in record.message for record in found)
