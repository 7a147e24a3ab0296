"""Soaks of engine hosts, honest and leaking."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import mmap
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import RunError, UnsupportedError
from harness.judge.metamorphic import same_bits
from harness.measure.finding import Finding, Said
from harness.measure.quantity import BYTES
from harness.measure.slope import LEAST, slope
from harness.measure.soak import FILE, WATCHED, Round, Soak, Work, _looks, amount, told
from harness.runtime.backend.hosted import HostedBackend, HostedEngine
from harness.runtime.backend.protocol import BuildRequest, Residue, ShapeRange
from harness.runtime.backend.registry import HostSettings, create
from harness.runtime.footprint import Footprint, footprint
from harness.runtime.lines import LineLog
from harness.runtime.qualify import Question
from harness.runtime.telemetry import Reading, Unmonitored
from harness.spec import BuildConfig, recipe
from tests.runtime.models import relu

pytestmark = pytest.mark.runs

ROOT = Path(__file__).parents[2]
Make = Callable[..., Soak]


@pytest.fixture
def soak(tmp_path: Path) -> Iterator[Make]:
    """Makes soaks of ``y = Relu(x)``: ``soak("fake:leaks_files", rounds=50, idle="no GPU")``."""
    shapes = {"x": ShapeRange((1, 2), (2, 2), (4, 2))}
    model = str(relu(tmp_path).source.path())
    request = BuildRequest("relu", recipe("fp32"), BuildConfig(), (shapes,), ({},), model=model)
    question = Question("opt", 0, {}, {"x": np.array([[1, -1], [2, -2]], np.float32)}, reference=pytest.fail)
    with contextlib.ExitStack() as opened:

        def made(name: str = "fake", rounds: int = 50, *, whole: bool = False, **work: Any) -> Soak:
            backend = create(name, HostSettings(), apart=True)
            assert isinstance(backend, HostedBackend)
            opened.callback(backend.close)
            asked = Work(
                "relu", request, lambda _: question, lambda got, want: same_bits(got, want, "relu", "fp32", "round 1")
            )
            lines = opened.enter_context(LineLog(tmp_path / FILE))
            asked = dataclasses.replace(asked, **work)
            return Soak(backend, asked, Unmonitored("no GPU"), lines, rounds, whole)

        yield made


def ran(soak: Soak) -> dict[str, Finding]:
    """What it found, by metric."""
    soak.run()
    return {one.metric: one for one in soak.findings()}


def test_an_honest_backend_is_flat(soak: Make, tmp_path: Path) -> None:
    one = soak(rounds=60)
    found = ran(one)
    assert {found[name].said for name in ("host memory", "heap")} <= {Said.PASS, Said.NOTED}
    for name in ("open files", "threads", "engines and sessions", "buffers", "outputs"):
        assert found[name].said is Said.PASS, found[name]
    assert found["device memory"].said is Said.NOT_COVERED
    assert len(one.done) == 60
    assert one.done[0].seconds.keys() == {"build", "load", "context", "run", "drop"}
    assert one.done[-1].residue == Residue()
    assert one.backend.client.generation == 1, "all rounds in one process"
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(1, 61))
    assert lines[-1]["footprint"]["private"] == one.done[-1].footprint.private


@pytest.mark.parametrize(
    ("fault", "metric", "each"),
    [
        ("leaks_memory=1000", "host memory", 1e6),
        ("leaks_memory=1000", "heap", 1e6),
        ("leaks_files", "open files", 1),
        ("leaks_threads", "threads", 1),
        ("leak", "engines and sessions", 1),
        ("leak", "buffers", 2),
    ],
)
def test_a_leak_is_found_within_fifty_rounds(soak: Make, fault: str, metric: str, each: float) -> None:
    one = soak(f"fake:{fault}", rounds=500)
    found = ran(one)
    assert len(one.done) == 50
    assert found[metric].said is Said.LEAK
    assert one.slopes()[metric].estimate == pytest.approx(each, rel=0.05)
    leaking = {"host memory", "heap"} if "memory" in fault else {"engines and sessions", "buffers"}
    assert {name for name, finding in found.items() if finding.said is Said.LEAK} <= {metric, *leaking}


def test_a_leak_in_onnxruntime(soak: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    load = HostedBackend.load

    def leaking(backend: HostedBackend, *arguments: Any, **options: Any) -> HostedEngine:
        backend.call("tests.measure.leaky:hold", {"nbytes": 10**6}, folder=str(ROOT))
        return load(backend, *arguments, **options)

    assert ran(soak("onnxruntime", rounds=50))["host memory"].said is not Said.LEAK
    monkeypatch.setattr(HostedBackend, "load", leaking)
    one = soak("onnxruntime", rounds=500)
    assert ran(one)["host memory"].said is Said.LEAK
    assert len(one.done) <= 50
    assert one.slopes()["host memory"].estimate == pytest.approx(1e6, rel=0.1)


def test_where_nothing_can_be_loaded_builds_are_soaked(soak: Make) -> None:
    one = soak("fake:needs_gpu", rounds=25, idle="no fake GPU was found")
    found = ran(one)
    assert found["load and run"] == Finding("relu", "load and run", Said.NOT_COVERED, "no fake GPU was found")
    assert "outputs" not in found
    assert one.done[-1].seconds.keys() == {"build"}
    assert one.done[-1].outputs == ""
    leaking = soak("fake:leaks_memory=1000", rounds=500, idle="no fake GPU was found")
    assert ran(leaking)["host memory"].said is Said.LEAK
    assert len(leaking.done) == 50


def test_a_plan_from_elsewhere_is_not_built(soak: Make, tmp_path: Path) -> None:
    with contextlib.closing(create("fake", HostSettings(), apart=True)) as builder:
        request = soak().work.request
        assert request is not None
        builder.build(request).data.tofile(tmp_path / "a.plan")
    one = soak(rounds=25, request=None, plan=tmp_path / "a.plan")
    found = ran(one)
    assert found["build"].said is Said.NOT_COVERED
    assert found["outputs"].said is Said.PASS
    assert "build" not in one.done[0].seconds


def test_what_ends_after_the_first_look_is_no_leak(soak: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that fills until round 25: suspected then, and cleared at 50."""
    one = soak(rounds=50)
    honest, said = one.backend.footprint, list[str]()
    one.tell = said.append

    def filling() -> Footprint:
        return dataclasses.replace(honest(), files=9 + min(len(one.done), 25))

    monkeypatch.setattr(one.backend, "footprint", filling)
    assert ran(one)["open files"].said is Said.PASS
    assert said == ["relu: round 25 of 50: open files: growing", "relu: round 50 of 50: flat so far"]


def test_the_whole(soak: Make) -> None:
    one = soak("fake:leaks_files", rounds=60, whole=True)
    assert ran(one)["open files"].said is Said.LEAK
    assert len(one.done) == 60


def test_other_outputs_are_a_failure(soak: Make) -> None:
    one = soak("fake:other_rebuild", rounds=50)
    found = ran(one)
    assert found["outputs of round 2"].said is Said.FAILED
    assert "values differ" in found["outputs of round 2"].words
    assert len(one.done) == 2


def test_other_bits_within_the_tolerance_are_noted(soak: Make) -> None:
    one = soak("fake:other_rebuild", rounds=25, alike=lambda got, _: same_bits(got, got, "relu", "fp32", "round 1"))
    found = ran(one)
    assert found["outputs"].said is Said.NOTED
    assert found["outputs"].words.startswith("24 of 25 rounds")


def test_a_death_is_a_failure_and_what_was_done_is_judged(soak: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ran(soak("fake:crash_run"))
    assert found["round 1"].said is Said.FAILED
    assert "SIGSEGV" in found["round 1"].words
    one = soak("fake:leaks_files", rounds=40)
    honest = one.backend.footprint

    def dies() -> Footprint:
        if len(one.done) == 30:
            one.backend.call("os:abort", {})
        return honest()

    monkeypatch.setattr(one.backend, "footprint", dies)
    found = ran(one)
    assert found["round 31"].said is Said.FAILED
    assert found["open files"].said is Said.LEAK


@pytest.mark.parametrize(("after", "said"), [(LEAST - 1, Said.INCONCLUSIVE), (LEAST, Said.PASS)])
def test_interrupted_it_judges_what_there_is(
    soak: Make, monkeypatch: pytest.MonkeyPatch, after: int, said: Said
) -> None:
    one = soak(rounds=500)
    honest = one.backend.footprint

    def interrupted() -> Footprint:
        if len(one.done) == after:
            raise KeyboardInterrupt
        return honest()

    monkeypatch.setattr(one.backend, "footprint", interrupted)
    found = ran(one)
    assert one.interrupted
    assert len(one.done) == after
    assert found["open files"].said is said


def rounds(count: int, *, device: Callable[[int], int | None], processes: int | None = None) -> list[Round]:
    return [
        Round(number, {}, Footprint(10**8, 10**8, 9, 2, 10**7, device(number)), Residue(), "", processes)
        for number in range(1, count + 1)
    ]


@pytest.mark.parametrize(
    ("each", "processes", "said"),
    [
        (0, 1, Said.PASS),
        (2 << 20, 1, Said.LEAK),
        (2 << 20, None, Said.LEAK),
        (2 << 20, 2, Said.INCONCLUSIVE),  # the other one, perhaps
        (0, 2, Said.PASS),
    ],
)
def test_memory_of_the_device(soak: Make, each: int, processes: int | None, said: Said) -> None:
    one = soak()
    one.done = rounds(50, device=lambda number: 5 << 30 | each * number, processes=processes)
    (found,) = (finding for finding in one.findings() if finding.metric == "device memory")
    assert found.said is said
    assert found.unit == BYTES


def test_processes_are_counted_as_the_driver_tells_them(soak: Make) -> None:
    class Shared(Unmonitored):
        def read(self) -> Reading:
            return Reading(processes=(1, 2))

    one = dataclasses.replace(soak(rounds=1), monitor=Shared(""))
    one.run()
    assert one.done[0].processes == 2


def test_looks() -> None:
    assert sorted(_looks(500)) == [25, 50, 100, 200, 400, 500]
    assert sorted(_looks(50)) == [25, 50]
    assert sorted(_looks(10)) == [10]


def test_in_words() -> None:
    grows = dataclasses.replace(
        slope([float(1e8 + 1e6 * n) for n in range(50)], 2**20), estimate=1.02e6, low=0.98e6, high=1.06e6
    )
    assert told(grows, BYTES) == "grows by 1.02 MB a round (0.98 to 1.06) over 40 rounds, the first 10 aside"
    flat = slope([9.0] * 500, 1.0)
    assert told(flat, "files") == (
        "flat: 0.000 files a round (0.000 to 0.000) over 450 rounds, the first 50 aside; "
        "a leak of 0.002 files a round would have shown"
    )
    creeps = slope([float(1e8 + 500 * n) for n in range(500)], 2**20)
    assert told(creeps, BYTES) == (
        "creeps by 500 bytes a round (500 to 500) over 450 rounds, the first 50 aside: in all within 1.05 MB; "
        "a leak of 2.33 kB a round would have shown"
    )
    assert amount(12, BYTES) == "12 bytes"
    assert len({one.name for one in WATCHED}) == len(WATCHED)


def test_a_footprint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "harness.runtime.device", raising=False)  # another test's
    before = footprint()
    assert 0 < before.private <= before.resident
    assert before.threads >= 1
    assert before.device is None
    held = np.ones(10**7, np.uint8)  # perhaps where something else lay before
    pages = mmap.mmap(-1, 1 << 25, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for _ in range(32):
        pages.write(bytes(1 << 20))  # a whole copy at once may stay with the allocator
    with Path(__file__).open():
        after = footprint()
    pages.close()
    assert after.private - before.private == pytest.approx(1 << 25, abs=held.nbytes + (2 << 20))
    assert before.heap is not None
    assert after.heap is not None
    assert after.heap - before.heap == pytest.approx(held.nbytes, rel=0.1)
    assert after.files == before.files + 1


def test_what_waits_for_the_collector_is_no_leak() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self

    waiting = weakref.ref(Cycle())
    footprint()
    assert waiting() is None


def test_the_device_is_asked_where_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def dead() -> int:
        raise RunError("no driver")

    module = types.SimpleNamespace(taken_memory=lambda: 7 << 20, CudaError=RunError)
    monkeypatch.setitem(sys.modules, "harness.runtime.device", module)
    assert footprint().device == 7 << 20
    module.taken_memory = dead
    assert footprint().device is None


def test_a_kernel_without_a_sum_of_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Path.read_text

    def read(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == "smaps_rollup":
            raise FileNotFoundError(path)
        return honest(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read)
    assert 1 << 20 < footprint().private <= footprint().resident


def test_a_plan_that_can_not_be_loaded_here(tmp_path: Path) -> None:
    from harness.measure.side import Side
    from harness.runtime.workbench import Workbench
    from harness.settings import Settings
    from harness.spec import EngineSpec, ModelSpec, PlanFile

    (tmp_path / "a.plan").write_bytes(b"a plan")
    spec = EngineSpec.of(ModelSpec("a", PlanFile(tmp_path / "a.plan")), recipe("fp32"))
    with Workbench(Settings()) as bench, pytest.raises(UnsupportedError, match="no fake GPU was found"):
        Work.of(Side("X", spec, "fake:needs_gpu", bench))
