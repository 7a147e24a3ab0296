"""Every test of timing caches catches the misbehaviour it is there for, and none where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.ledger.records import Record
from tests.pytest_plugin.parts import ROOT, complaints

pytest_plugins = ("pytester",)
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
