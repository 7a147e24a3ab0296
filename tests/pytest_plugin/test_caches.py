"""What one run builds the next one uses, and says so: engines, timing caches, and plans from elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.ledger.records import Record
from harness.spec.source import EXPORT_VARIABLE
from tests.pytest_plugin.parts import RUNS

pytest_plugins = ("pytester",)
Records = Callable[[], list[Record]]

BUILDS = """
import pytest

@pytest.mark.trt(over=("model", "backend"))
def test_builds(trt_plan):
    assert trt_plan.data.nbytes
"""
MLP = ("--trt-in-process", "--trt-model=mlp", "--trt-precision=fp32")
ONLY_BUILDS = "fake:needs_gpu"  # a backend that loads nothing here


# Cached: neither passed nor failed ---------------------------------------------------------------


def test_a_plan_whose_checksum_alone_can_be_verified_is_cached(project: pytest.Pytester, records: Records) -> None:
    project.makepyfile(BUILDS)
    arguments = (*MLP, f"--trt-backend={ONLY_BUILDS},fake")
    first = project.runpytest_inprocess(*arguments)
    assert first.ret == 0
    assert {record.verdict for record in records()} == {"passed"}
    again = project.runpytest_inprocess(*arguments, "-v")
    assert again.ret == 0, "cached or passed is a success"
    verdicts = {record.backend: (record.verdict, record.message) for record in records()}
    assert verdicts["fake"] == ("passed", ""), "what can be loaded here is shown by the tests that do"
    assert verdicts[ONLY_BUILDS] == (
        "cached",
        "built before; here nothing but its SHA-256 can be verified: no fake GPU was found",
    )
    again.stdout.fnmatch_lines(
        ["*test_builds*fake:needs_gpu* CACHED *", "*1 cached*", "cached: 1 cell", "*2 cells: 1 passed, 1 cached*"]
    )
    again.stdout.fnmatch_lines(["engines built in this run: 0"])
    again.stdout.fnmatch_lines(["*1 passed, 1 cached in*"])


def test_nothing_but_cached_is_not_covered(project: pytest.Pytester) -> None:
    project.makepyfile(BUILDS)
    arguments = (*MLP, f"--trt-backend={ONLY_BUILDS}")
    assert project.runpytest_inprocess(*arguments).ret == 0
    again = project.runpytest_inprocess(*arguments)
    assert again.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    again.stdout.fnmatch_lines(["nothing was covered here: what is cached was built before: no success*"])


def test_junit_counts_what_is_cached_as_skipped(project: pytest.Pytester) -> None:
    project.makepyfile(BUILDS)
    for _ in range(2):
        project.runpytest_inprocess(*MLP, f"--trt-backend={ONLY_BUILDS}", "--junitxml=junit.xml")
    suite = next(ElementTree.parse(project.path / "junit.xml").getroot().iter("testsuite"))
    assert (suite.get("tests"), suite.get("skipped"), suite.get("failures")) == ("1", "1", "0")
    (case,) = suite.iter("testcase")
    (skipped,) = case.iter("skipped")
    assert (skipped.get("message") or "").startswith("cached: built before")
    assert "cached" in {item.get("value") for item in case.iter("property") if item.get("name") == "trt_verdict"}


def test_a_plan_that_was_damaged_meanwhile_is_built(project: pytest.Pytester, records: Records) -> None:
    project.makepyfile(BUILDS)
    arguments = (*MLP, f"--trt-backend={ONLY_BUILDS}", "--trt-cache=plans")
    project.runpytest_inprocess(*arguments)
    (entry,) = Path(project.path, "plans").glob("*.plan")
    entry.write_bytes(entry.read_bytes()[:-1])
    again = project.runpytest_inprocess(*arguments, "-W", "default")
    again.stdout.fnmatch_lines(["*CacheWarning: plan: *is cut short*set aside as*"])
    (record,) = records()
    assert (record.verdict, record.facts["builds"]) == ("passed", 1)


def test_a_failing_test_of_a_cached_plan_fails(project: pytest.Pytester, records: Records) -> None:
    project.makepyfile(BUILDS.replace("assert trt_plan", "assert not trt_plan"))
    for _ in range(2):
        project.runpytest_inprocess(*MLP, f"--trt-backend={ONLY_BUILDS}")
    (record,) = records()
    assert record.verdict == "failed"


# Compiled once, used by many ---------------------------------------------------------------------


def builds(found: list[Record]) -> Counter[str]:
    """Engines built, by model."""
    count = Counter[str]()
    for record in found:
        count[record.cell.model] += int(record.facts.get("builds", 0))
    return count


def test_an_engine_is_not_built_again_because_its_host_was_replaced(project: pytest.Pytester, records: Records) -> None:
    """The crashes of one take all engines of the host along, four times in two runs."""
    project.makepyfile(RUNS)
    asked = ("--trt-backend=fake:crash_run@mlp", "--trt-model=mlp,conv", "--trt-precision=fp32")
    arguments = (*asked, "--trt-point=min,max")
    first = project.runpytest_inprocess(*arguments)
    first.assert_outcomes(passed=2, failed=2)
    assert builds(records()) == {"mlp": 1, "conv": 1}
    first.stdout.fnmatch_lines(["engines built in this run: 2"])
    again = project.runpytest_inprocess(*arguments)
    again.assert_outcomes(passed=2, failed=2)
    assert builds(records()) == {"mlp": 0, "conv": 0}
    again.stdout.fnmatch_lines(["engines built in this run: 0"])


def test_workers_share_what_each_of_them_builds(project: pytest.Pytester, records: Records) -> None:
    project.makepyfile(RUNS)
    asked = ("--trt-in-process", "--trt-backend=fake", "--trt-model=mlp,conv,matmul", "--trt-precision=fp32")
    # Cells of one engine are dealt out to both.
    project.runpytest_inprocess(*asked, "-n2", "--dist=load", "--maxschedchunk=1").assert_outcomes(passed=9)
    assert builds(records()) == {"mlp": 1, "conv": 1, "matmul": 1}


def test_a_rebuild_that_a_test_asks_for_is_counted_apart(project: pytest.Pytester, records: Records) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.trt(over=("model", "backend"))
        def test_rebuilds(trt_engine, trt_engines):
            trt_engines(rebuilt=True)
        """
    )
    for _ in range(2):
        result = project.runpytest_inprocess(*MLP, "--trt-backend=fake")
    (record,) = records()
    assert (record.facts.get("builds"), record.facts["rebuilds"]) == (None, 1)
    result.stdout.fnmatch_lines(["engines built in this run: 0, and 1 once more for tests that ask for it"])


def test_a_run_of_another_project_uses_the_same_engines(
    project: pytest.Pytester, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.makepyfile(RUNS)
    arguments = (*MLP, "--trt-backend=fake")
    project.runpytest_inprocess(*arguments)
    other = project.mkdir("other")
    for file in ("tox.ini", *(path.name for path in project.path.glob("test_*.py"))):
        (other / file).write_text((project.path / file).read_text())
    monkeypatch.chdir(other)
    project.runpytest_inprocess(*arguments, f"--trt-output={project.path / '.trt-harness' / 'runs'}")
    assert builds(records()) == {"mlp": 0}


def test_tactics_are_found_out_once_for_all_workers_and_hosts(project: pytest.Pytester, records: Records) -> None:
    """A nightly job on two hosts that have nothing in common but one file."""
    project.makepyfile(RUNS)
    models = ("--trt-model=mlp,conv", "--trt-precision=fp32")
    asked = ("--trt-in-process", "--trt-backend=fake", *models, "--trt-timing-cache=night.cache")
    sizes = []
    for host, workers in (("monday", "-n2"), ("tuesday", "-n0")):
        project.runpytest_inprocess(*asked, workers, f"--trt-cache={host}").assert_outcomes(passed=6)
        assert (project.path / "night.cache").is_file()
        told = [record.facts["timing_cache"] for record in records() if "timing_cache" in record.facts]
        assert len(told) == 2
        sizes.append([(one["before"]["size"], one["after"]["size"]) for one in told])
        assert all(len(one[when]["sha256"]) == 64 for one in told for when in ("before", "after"))
    assert all(before < after for before, after in sizes[0]), "all of it was new"
    assert all(before == after for before, after in sizes[1]), "and nothing was"


# Plans from elsewhere ----------------------------------------------------------------------------


@pytest.fixture
def brought(project: pytest.Pytester) -> Path:
    """A folder of models from anywhere, with a plan in it."""
    project.makepyfile(RUNS)
    project.runpytest_inprocess(*MLP, "--trt-backend=fake", "--trt-cache=plans")
    from harness.runtime.cache import PlanCache

    (entry,) = Path(project.path, "plans").glob("*.plan")
    plan = PlanCache(entry.parent).get(entry.stem)
    assert plan is not None
    folder = project.mkdir("models")
    (folder / "mine.plan").write_bytes(plan.tobytes())
    import numpy as np

    np.savez(folder / "inputs.npz", x=np.ones((2, 64), np.float32))
    (folder / "mine.toml").write_text('plan = "mine.plan"\ndata = "inputs.npz"\n')
    return folder


def test_a_plan_that_a_folder_brings_along_is_not_loaded(
    project: pytest.Pytester, records: Records, brought: Path
) -> None:
    arguments = ("--trt-in-process", "--trt-backend=fake", f"--trt-models={brought}", "--trt-model=mine")
    refused = project.runpytest_inprocess(*arguments)
    refused.assert_outcomes(failed=1)
    refused.stdout.fnmatch_lines(["*mine.plan: a plan is code*--trt-trust FILE_OR_FOLDER*"])
    (record,) = records()
    assert (record.verdict, record.stage) == ("failed", "spec")
    for trusted in (brought, brought / "mine.plan"):
        assert project.runpytest_inprocess(*arguments, f"--trt-trust={trusted}").ret == 0
        (record,) = records()
        assert record.verdict == "passed"


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["alone", "workers"])
def test_models_are_exported_into_the_folder_of_the_run_and_go_with_it(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.delenv(EXPORT_VARIABLE)
    project.makepyfile(
        """
        from pathlib import Path
        import pytest

        @pytest.mark.trt(models="mlp", over=("model", "point"))
        def test_where(trt_spec):
            runs = Path.cwd() / ".trt-harness" / "runs"
            assert trt_spec.model.source.path().relative_to(runs).parts[1] == "exports"
        """
    )
    project.runpytest_inprocess("--trt-in-process", "--trt-backend=fake", *workers).assert_outcomes(passed=3)
    (run,) = (project.path / ".trt-harness" / "runs").iterdir()
    assert not (run / "exports").exists()
