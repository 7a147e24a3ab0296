"""A latency of ours in pytest-benchmark's table, JSON and comparison, and nothing where it is switched off."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.ledger import history
from harness.ledger.records import Record
from harness.ledger.store import Store
from harness.pytest_plugin.latency import replaying

pytest_plugins = ("pytester",)
Records = Callable[[], list[Record]]
QUICK = "precision=0.05, least=20, most=60, warmup_least=0.0, warmup_most=0.05, seconds=0.5"
MEASURES = f"""
import numpy as np
import pytest

@pytest.mark.trt(models="mlp", over=("model", "backend"))
def test_latency(trt_latency):
    samples = trt_latency({QUICK})
    np.savetxt("seconds.txt", samples.seconds[samples.leading], fmt="%.17g")
"""


@pytest.fixture
def measured(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with pytest-benchmark, which others go without; whatever runs these tests."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)
    project.makeini((project.path / "tox.ini").read_text().replace("-p no:benchmark ", ""))
    return project


def bench(project: pytest.Pytester, *options: str, backend: str = "onnxruntime") -> pytest.RunResult:
    return project.runpytest_inprocess("--trt-in-process", f"--trt-backend={backend}", *options)


def table(project: pytest.Pytester, file: str = "out.json") -> dict[str, Any]:
    (found,) = json.loads((project.path / file).read_text())["benchmarks"]
    return dict(found)


@pytest.mark.parametrize("backend", ["onnxruntime", "fake"])
def test_the_table_has_just_the_samples(measured: pytest.Pytester, records: Records, backend: str) -> None:
    measured.makepyfile(MEASURES)
    result = bench(measured, "-p", "no:xdist", "--benchmark-json=out.json", backend=backend)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*benchmark: 1 tests*", f"test_latency*mlp-{backend}*"])
    seconds = np.loadtxt(measured.path / "seconds.txt")
    found = table(measured)
    assert np.array_equal(found["stats"]["data"], seconds)
    assert found["stats"]["median"] == pytest.approx(np.median(seconds))
    assert (found["stats"]["rounds"], found["stats"]["iterations"]) == (seconds.size, 1)
    assert found["params"] == {"model": "mlp", "backend": backend}
    (record,) = records()
    assert record.verdict == "passed"
    assert record.facts["p50"] == pytest.approx(np.median(seconds))
    assert found["extra_info"]["metric"] == record.facts["metric"] == found["options"]["timer"].rpartition(".")[2]
    assert found["extra_info"]["key"] == record.key
    assert record.seconds["measure"] > 0


@pytest.mark.parametrize(
    "options", [("-n", "1"), ("-p", "no:xdist", "--benchmark-disable"), ("-p", "no:xdist", "--benchmark-skip")]
)
def test_where_it_is_switched_off_the_cell_is_not_covered(
    measured: pytest.Pytester, records: Records, options: tuple[str, ...]
) -> None:
    measured.makepyfile(MEASURES + "\n\ndef test_else():\n    pass\n")
    bench(measured, *options)
    assert [record.verdict for record in records()] == ["not_covered"]
    assert not (measured.path / "seconds.txt").exists()


def test_a_run_that_is_stored_has_its_medians_as_series(measured: pytest.Pytester, records: Records) -> None:
    measured.makepyfile(MEASURES)
    bench(measured, "-p", "no:xdist", "--trt-store=store.sqlite", backend="fake").assert_outcomes(passed=1)
    (record,) = records()
    with Store(measured.path / "store.sqlite", create=False) as store:
        lines = history.lines(store)
        assert {line.metric for line in lines} == record.facts["medians"].keys()
        assert {line.cell for line in lines} == {"test_latency[mlp-fake] on fake GPU"}
        for line in lines:
            (point,) = history.points(store, line.key)
            assert point.value == pytest.approx(record.facts["medians"][line.metric])
            assert point.environment["host"] == platform.node()


def test_a_graph_that_there_is_not_is_not_covered(measured: pytest.Pytester, records: Records) -> None:
    measured.makepyfile(
        MEASURES.replace("trt_latency(", "trt_latency(graph=True, ") + "\n\ndef test_else():\n    pass\n"
    )
    result = bench(measured, "-p", "no:xdist")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED, "nothing was covered, and nothing went wrong"
    (record,) = records()
    assert record.verdict == "not_covered"
    assert "cuda_graph" in record.message
    result.stdout.no_fnmatch_line("*benchmark: 1 tests*")


def test_save_and_compare_are_pytest_benchmarks_own(measured: pytest.Pytester) -> None:
    """Eight times slower than what was saved: its own gate says so."""
    measured.makepyfile(MEASURES)
    assert bench(measured, "-p", "no:xdist", "--benchmark-save=base", backend="fake").ret == 0
    slower = ("--benchmark-compare", "--benchmark-compare-fail=median:100%")
    (saved,) = Path(measured.path, ".benchmarks").rglob("*_base.json")
    content = json.loads(saved.read_text())
    for name in ("min", "max", "mean", "median"):
        content["benchmarks"][0]["stats"][name] /= 8
    saved.write_text(json.dumps(content))
    result = bench(measured, "-p", "no:xdist", *slower, backend="fake")
    assert result.ret != 0
    result.stderr.fnmatch_lines(["*Performance has regressed*"])


def test_a_clock_that_replays() -> None:
    durations = [0.25, 1e-9, 3.0]
    clock = replaying(durations, "gpu")
    rounds = []
    for _ in durations:
        start = clock()
        rounds.append(clock() - start)
    assert rounds == durations
    assert clock.__name__ == "gpu"


def test_what_is_private_to_pytest_benchmark_is_still_there() -> None:
    """Its clock and its mode have no public name."""
    assert {"_timer", "_mode"} <= set(BenchmarkFixture.__init__.__code__.co_names)
    assert "_timer" in BenchmarkFixture._make_runner.__code__.co_names
    assert "_mode" in BenchmarkFixture._cleanup.__code__.co_names
