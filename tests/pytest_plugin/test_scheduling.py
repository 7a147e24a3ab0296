"""Workers, devices, crashes: that nothing is lost and nobody waits for ever."""

from __future__ import annotations

import fcntl
import itertools
import multiprocessing
import os
import queue
import textwrap
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.ledger.records import Record
from harness.pytest_plugin.scheduling import Place
from harness.runtime.device_lock import lock_folder, opened
from tests.pytest_plugin.parts import RUNS

pytest_plugins = ("pytester",)
pytestmark = pytest.mark.runs
Records = Callable[[], list[Record]]


def test_a_device_is_held_until_it_is_released(tmp_path: Path):
    first, second, third = (Place(tmp_path) for _ in range(3))
    assert (first.acquire([0, 1]), second.acquire([0, 1])) == (0, 1)
    first.release()
    assert third.acquire([0, 1]) == 0


def test_a_device_is_the_same_whatever_it_is_called_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    first, second = Place(tmp_path), Place(tmp_path)
    assert first.acquire([1]) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    assert second.acquire([0, 1]) == 1


def test_devices_are_shared_with_other_users(tmp_path: Path):
    folder = tmp_path / "devices"
    Place(folder).acquire([0])
    assert folder.stat().st_mode & 0o777 == 0o777  # whatever the umask


def _die_with_a_device(folder: Path) -> None:
    Place(folder).acquire([0])
    multiprocessing.current_process().kill()


def test_a_device_of_a_dead_process_is_free_again(tmp_path: Path):
    process = multiprocessing.get_context("spawn").Process(target=_die_with_a_device, args=(tmp_path,))
    process.start()
    process.join()
    assert Place(tmp_path).acquire([0]) == 0


AUTO = """
import os
import harness.pytest_plugin.scheduling as scheduling
scheduling.devices = lambda: {devices}
os.sched_getaffinity = lambda _: {{0, 1}}
"""
ARGUMENTS = ("-v", "--trt-model=mlp", "--trt-precision=fp32", "--trt-point=opt", "--trt-backend=fake")


@pytest.mark.parametrize(("gpus", "workers"), [("(0,)", 1), ("(0, 1, 2)", 3), ("()", 2)])
def test_auto_is_one_worker_a_gpu_and_else_one_a_core(project: pytest.Pytester, gpus: str, workers: int):
    project.makeconftest(AUTO.format(devices=gpus))
    project.makepyfile(RUNS)
    result = project.runpytest_subprocess("-nauto", *ARGUMENTS)
    result.stdout.fnmatch_lines([f"{workers} worker*", "scheduling tests via WorkStealingScheduling"])


def test_auto_of_a_run_without_cells_is_xdists_own(project: pytest.Pytester):
    project.makeconftest(AUTO.format(devices="(0, 1, 2)"))
    project.makepyfile("def test_one(): ...")
    result = project.runpytest_subprocess("-nauto", "-v")
    result.stdout.fnmatch_lines(["2 workers*", "scheduling tests via LoadScheduling"])


def test_what_the_user_says_of_distribution_holds(project: pytest.Pytester):
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess("-n1", "--dist=loadfile", *ARGUMENTS)
    result.stdout.fnmatch_lines(["*scheduling tests via LoadFileScheduling*"])


def test_workers_probe_nothing_and_record_everything(project: pytest.Pytester, records: Records):
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess(
        "-n2", "--trt-model=mlp,conv,gru", "--trt-backend=fake", "--trt-precision=fp32"
    )
    assert result.ret == 0
    assert str(result.stdout).count("can build and run") == 1
    found = records()
    assert {record.worker for record in found} == {"gw0", "gw1"}
    assert len({record.cell for record in found}) == len(found) == 9
    assert len({record.run for record in found}) == 1


NOTES_TESTS = """
def pytest_itemcollected(item):
    with (item.config.rootpath / f"{item.config.workerinput['workerid']}.made").open("a") as file:
        print(item.nodeid, file=file)
"""
OF_OTHERS = """
import pytest

@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.trt
class TestThem:
    def test_them(self, trt_session, times): ...

@pytest.mark.trt(backends="fake:absent")
def test_nowhere(trt_session): ...
"""
CHOOSES = "def pytest_collection_modifyitems(items): items[:] = [i for i in items if 'absent' not in i.name]"
TWO = (*ARGUMENTS[1:-1], "--trt-backend=fake,fake:absent")
OF_CONFTEST = """
def pytest_generate_tests(metafunc):
    if "first" in metafunc.fixturenames:
        metafunc.parametrize("first", ["a", "b"])
"""


def made(project: pytest.Pytester) -> list[list[str]]:
    """The tests that each worker made, of which it runs some."""
    return [file.read_text().split() for file in sorted(project.path.glob("*.made"))]


def test_no_worker_makes_a_test_of_what_nothing_covers(project: pytest.Pytester, records: Records):
    project.makeconftest(NOTES_TESTS)
    project.makepyfile(RUNS)
    project.runpytest_subprocess("-n2", *TWO)
    (name,) = (path.stem for path in project.path.glob("test_*.py"))
    covered, left_out = (f"{name}.py::test_runs[mlp-fp32-opt-{backend}]" for backend in ("fake", "fake:absent"))
    assert made(project) == [[covered], [covered]]
    assert {record.node: record.verdict for record in records()} == {covered: "passed", left_out: "not_covered"}
    (run,) = (project.path / ".trt-harness" / "runs").iterdir()
    assert not list(run.glob("*.probes"))  # it is over


def test_a_cell_is_called_the_same_whether_a_test_is_made_of_it_or_not(project: pytest.Pytester, records: Records):
    project.makeconftest(OF_CONFTEST)
    project.makepyfile(test_a=OF_OTHERS, test_b=RUNS.replace("trt_session,", "first, trt_session,"))
    found = []
    for workers in ("-n0", "-n2"):
        project.runpytest_subprocess(workers, *TWO)
        found.append({(record.node, record.cell, record.verdict, record.message) for record in records()})
    assert len(found[0]) == 9
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "ran"),
    [
        (["-k", "absent"], {"fake:absent"}),
        (["-m", "trt and not slow"], {"fake", "fake:absent"}),
        (["test_a.py::test_runs[mlp-fp32-opt-fake:absent]"], {"fake:absent"}),
        (["--deselect", "test_a.py::test_runs[mlp-fp32-opt-fake:absent]"], {"fake"}),
        (["-p", "chooses"], {"fake"}),
    ],
)
def test_who_chooses_among_tests_sees_them_all(
    project: pytest.Pytester, records: Records, arguments: list[str], ran: set[str]
):
    project.makeconftest(NOTES_TESTS)
    project.makepyfile(
        test_a=RUNS,
        chooses=CHOOSES,
    )
    project.syspathinsert()
    result = project.runpytest_subprocess("-n2", *TWO, *arguments, "--strict-markers", "-o", "markers=slow")
    assert {record.cell.backend for record in records()} == ran
    assert all(len(tests) == (1 if "::" in arguments[0] else 2) for tests in made(project))
    assert (result.ret == 0) is (ran == {"fake"})


def test_who_chooses_from_a_folder_that_is_come_to_later_sees_them_all(project: pytest.Pytester, records: Records):
    files = {"a/test_a.py": RUNS, "b/test_b.py": "", "b/conftest.py": CHOOSES}
    for name, text in files.items():
        path = project.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    project.runpytest_subprocess("-n1", *TWO)
    assert {record.cell.backend for record in records()} == {"fake"}


def test_a_run_that_comes_to_no_cell_leaves_nothing(project: pytest.Pytester):
    project.makepyfile(RUNS)
    result = project.runpytest_subprocess("-n1", *TWO, "-k", "neither")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert not list((project.path / ".trt-harness" / "runs").iterdir())


NOTES_THE_ORDER = """
import atexit
from pathlib import Path
import harness.pytest_plugin.collection as collection

def note(what):
    with Path("order.txt").open("a") as file:
        print(what, file=file)

def pytest_configure(config):
    if hasattr(config, "workerinput"):
        atexit.register(note, "a worker ended")
    else:
        lost = collection.lost_records
        collection.lost_records = lambda run: note("records were read") or lost(run)
"""


def test_no_worker_waits_while_records_are_read(project: pytest.Pytester):
    project.makeconftest(NOTES_THE_ORDER)
    project.makepyfile(RUNS)
    project.runpytest_subprocess("-n2", *ARGUMENTS).assert_outcomes(passed=1)
    order = (project.path / "order.txt").read_text().splitlines()
    assert order == ["a worker ended", "a worker ended", "records were read"]


def test_what_was_probed_and_no_cell_asks_for_is_no_part_of_the_run(project: pytest.Pytester):
    project.makepyfile(RUNS.replace("mark.trt", "mark.trt(backends='fake')"))
    result = project.runpytest_subprocess("-n1", *ARGUMENTS[1:-1], "--trt-backend=fake,fake:absent")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["trt-harness: 1 cell, *"])
    result.stdout.no_fnmatch_line("*fake:absent*")


def test_what_no_worker_can_cover_is_recorded_once_and_counted(project: pytest.Pytester, records: Records):
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess("-n2", *ARGUMENTS[1:-1], "--trt-backend=fake,fake:absent")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED, "a backend asked for by name covered nothing"
    result.stdout.fnmatch_lines(["trt-harness: 2 cells, 1 of them not covered here, *"])
    assert result.parseoutcomes()["passed"] == 1
    result.stdout.fnmatch_lines(["*1 passed, 1 not covered in *"])
    assert Counter((record.cell.backend, record.verdict) for record in records()) == {
        ("fake", "passed"): 1,
        ("fake:absent", "not_covered"): 1,
    }


def test_a_worker_that_dies_fails_its_cell_by_name_and_the_rest_runs(project: pytest.Pytester, records: Records):
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess(
        "-n2", "--trt-in-process", "--trt-model=mlp,conv", "--trt-backend=fake:exit_run@mlp", "--trt-precision=fp32"
    )
    result.assert_outcomes(passed=3, failed=3)
    result.stdout.fnmatch_lines(["*the process that ran it (gw*) died*", "repeat: python -m pytest *--trt-in-process*"])
    verdicts = Counter((record.cell.model, record.verdict) for record in records())
    assert verdicts == {("mlp", "error"): 3, ("conv", "passed"): 3}


def test_workers_that_can_not_even_collect_end_the_run(project: pytest.Pytester):
    project.makepyfile(RUNS + "\nimport os, sys\nif 'PYTEST_XDIST_WORKER' in os.environ: os._exit(7)\n")
    result = project.runpytest_subprocess("-n2", *ARGUMENTS, timeout=120)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*workers died in a row before they had collected a test*"])


def test_a_host_that_dies_costs_one_cell_and_no_worker(project: pytest.Pytester, records: Records):
    project.makepyfile(RUNS)
    result = project.runpytest_inprocess(
        "-n2", "--trt-model=mlp,conv", "--trt-backend=fake:crash_run@mlp", "--trt-precision=fp32"
    )
    result.assert_outcomes(passed=3, failed=3)
    result.stdout.no_fnmatch_line("*crashed*")
    verdicts = Counter((record.cell.model, record.verdict, record.stage) for record in records())
    assert verdicts == {("mlp", "failed", "run"): 3, ("conv", "passed", "run"): 3}


def test_shards_are_the_whole(project: pytest.Pytester):
    project.makepyfile(RUNS)
    parts = []
    for number in (1, 2, 3):
        result = project.runpytest_inprocess("--collect-only", "-q", f"--trt-shard={number}/3", "--trt-model=mlp,conv")
        parts.append([line for line in result.outlines if "::" in line])
    whole = [
        line
        for line in project.runpytest_inprocess("--collect-only", "-q", "--trt-model=mlp,conv").outlines
        if "::" in line
    ]
    assert sorted(itertools.chain(*parts)) == sorted(whole)
    assert all(parts)


def test_a_second_run_takes_its_plans_from_the_cache(project: pytest.Pytester, records: Records):
    project.makepyfile(RUNS)
    arguments = ("--trt-model=mlp", "--trt-backend=fake", "--trt-precision=fp32", "--trt-point=opt")
    project.runpytest_inprocess(*arguments)
    assert "build" in records()[0].seconds
    project.runpytest_inprocess(*arguments)
    assert "build" not in records()[0].seconds


def test_a_shared_device_has_so_many_places(tmp_path: Path) -> None:
    first, second, third = (Place(tmp_path, share=2) for _ in range(3))
    assert [first.acquire([0, 1]), second.acquire([0, 1]), third.acquire([0, 1])] == [0, 1, 0]
    for lock in (first, second, third):
        lock.release()


def test_who_measures_is_alone_on_a_device(tmp_path: Path):
    """Whoever shares it is waited for until they let go of it, and whoever comes to it meanwhile waits."""
    first, second, third = (Place(tmp_path, share=3) for _ in range(3))
    assert (first.acquire([0]), second.acquire([0])) == (0, 0)
    came = queue.SimpleQueue[str]()
    done = threading.Event()

    def measure() -> None:
        with first.alone():
            came.put("first measures")
            assert done.wait(5)

    def come() -> None:
        third.acquire([0])
        came.put("third comes")

    threads = [threading.Thread(target=measure), threading.Thread(target=come)]
    threads[0].start()
    with pytest.raises(queue.Empty):
        came.get(timeout=0.3)  # the second still shares it
    second.release()
    assert came.get(timeout=5) == "first measures"
    threads[1].start()
    with pytest.raises(queue.Empty):
        came.get(timeout=0.3)
    done.set()
    assert came.get(timeout=5) == "third comes"
    for thread in threads:
        thread.join()


def test_two_who_measure_do_so_one_after_the_other(tmp_path: Path):
    """Each lets go of what it shares before it waits, so that the other can have it."""
    first, second = Place(tmp_path, share=2), Place(tmp_path, share=2)
    assert (first.acquire([0]), second.acquire([0])) == (0, 0)
    came = queue.SimpleQueue[str]()

    def measure(name: str, lock: Place) -> None:
        with lock.alone():
            came.put(name)
        lock.release()

    threads = [threading.Thread(target=measure, args=one) for one in (("first", first), ("second", second))]
    for thread in threads:
        thread.start()
    assert {came.get(timeout=5) for _ in threads} == {"first", "second"}
    for thread in threads:
        thread.join()


SHARES_THE_CPU = """
import pytest
from tests.pytest_plugin.test_scheduling import is_free

@pytest.mark.trt(models="mlp", over=("model", "precision", "backend"))
def test_one(trt_session):
    assert not is_free()
"""


def is_free() -> bool:
    """Whether nobody uses the CPU, not even this process."""
    handle = opened(lock_folder() / "cpu.use")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


def test_cells_on_the_cpu_share_it(project: pytest.Pytester):
    """Who measures there, in whatever process, waits for the end of the run."""
    project.makepyfile(SHARES_THE_CPU)
    project.runpytest_inprocess(*ARGUMENTS[1:]).assert_outcomes(passed=1)
    assert is_free()
