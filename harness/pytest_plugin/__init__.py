"""The pytest plugin: cells from marks, fixtures for engines, verdicts, records.

It does nothing, prints nothing and probes nothing in a run without a cell of ours.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError, SpecError
from harness.ledger.records import read_run
from harness.pytest_plugin import (
    collection,
    continued,
    crash,
    hooks,
    outcome,
    parcel,
    perf,
    quarantines,
    scheduling,
    storing,
    strict,
    terminal,
    unmet,
)
from harness.pytest_plugin.cells import MARK
from harness.pytest_plugin.collection import CASE
from harness.pytest_plugin.options import add_options, settings_of
from harness.pytest_plugin.run import RUN, make_folder, run_of
from harness.pytest_plugin.story import STORY, Story

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

pytest_plugins = ("harness.pytest_plugin.fixtures", "harness.pytest_plugin.leaving_out")

DESELECTED = pytest.StashKey[int]()
MEASURING = pytest.StashKey[int]()  # tests of performance that were collected, before anybody chose among them
MEASURE_NOTHING = pytest.StashKey[int]()  # tests of performance that made no cells, as it is off


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARK)
    settings_of(config)  # an option that is not understood ends the run here


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUN in config.stash:
        config.stash[RUN].close()


# How it is distributed --------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    scheduling.set_defaults(config)
    return (yield)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    return scheduling.auto_workers(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    run = run_of(node.config)
    worth = run.worth.plain() if run.settings.budget is not None else None
    node.workerinput |= {"trt_run": run.id, "trt_worth": worth, "trt_refused": run.refused}


# Which cells there are --------------------------------------------------------------------------


def pytest_sessionstart(session: pytest.Session) -> None:
    """What is asked for by an option, and can't be had, ends the run before any worker starts."""
    run = run_of(session.config)
    asked = run.settings
    try:
        if asked.model or asked.size or asked.models:
            run.models  # noqa: B018
        for option, folder in (("output", asked.output), ("cache", asked.cache)):
            if folder is not None:
                make_folder(folder, f"--trt-{option}")
        storing.understood(asked.store)
        continued.begin(run)
        if scheduling.will_have_workers(session.config) and not asked.in_process:
            run.probe_early()
    except SpecError as error:  # an interpreter that can't be started, too
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """What is collected stays: to look through it for garbage meanwhile takes a third of the time."""
    if not gc.isenabled() or not scheduling.mentions_cells(session.config):
        return (yield)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    collection.generate(metafunc)


def pytest_itemcollected(item: pytest.Item) -> None:
    if perf.measures(item):
        item.config.stash[MEASURING] = item.config.stash.get(MEASURING, 0) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    taken = config.stash.get(MEASURING, 0) > sum(map(perf.measures, items))  # by a conftest.py that tells nobody
    empty = collection.arrange(session, items)
    if empty:
        config.stash[MEASURE_NOTHING] = perf.left_off(empty, run_of(config).settings)
        config.hook.pytest_deselected(items=empty)
        config.stash[DESELECTED] -= len(empty)  # by our own options: known failures know of those
    if config.option.collectonly:
        return
    run = run_of(config)
    # Tests of performance whose cells are all gone are a run, too, where something was held against them.
    gone = any(map(perf.measures, empty)) and bool(unmet.held(run).active)
    if not gone and not any(CASE in item.stash for item in items):
        return
    run.in_use = True
    run.share_exports()
    try:
        settled = collection.settle(run, items, deselected=taken or config.stash.get(DESELECTED, 0) > 0)
    except SpecError as error:  # an interpreter that can't be started
        raise pytest.UsageError(str(error)) from None
    if run.is_worker:
        gc.freeze()  # what was collected stays to the end, and looking through it for garbage takes seconds
    else:
        _announce(config, settled)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    if items:
        stash = items[0].config.stash
        stash[DESELECTED] = stash.get(DESELECTED, 0) + len(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: WorkerController) -> None:
    run = run_of(node.config)
    run.stillborn = 0
    settled = None if run.in_use else collection.settled(run)
    if settled is not None:
        run.in_use = True
        _announce(node.config, settled)


def _announce(config: pytest.Config, settled: collection.Settled) -> None:
    terminal.announce(run_of(config), settled)
    storing.begin(run_of(config))
    if config.getoption("xmlpath", None):
        outcome.tell(config, read_run(run_of(config).folder).records)


# How each is judged -----------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: a cell that can't be covered costs nothing."""
    case = item.stash.get(CASE, None)
    if case is None:
        return
    run = run_of(item.config)
    story = item.stash[STORY] = Story(run, case, item.nodeid, item.path)
    run.notes.write(item.nodeid, case.cell)
    run.begin(story, collection.needs(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    case = item.stash.get(CASE, None)
    if case is None:
        return (yield)
    run = run_of(item.config)
    # Another plugin's hook may have skipped it before ours began: that, too, is to be recorded.
    story = item.stash.setdefault(STORY, Story(run, case, item.nodeid, item.path))
    raised = call.excinfo
    if raised is not None and isinstance(raised.value, HarnessError) and not item.get_closest_marker("xfail"):
        call.excinfo = None  # a traceback is costly, and would not be shown
    try:
        report = yield
    finally:
        call.excinfo = raised
    outcome.judge(report, call, story, run)
    if report.when == "teardown":
        record = run.log.append(story.record())
        del item.stash[STORY]  # it holds arrays
        report.user_properties += outcome.properties(record)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable(config: pytest.Config) -> Generator[None, Any, dict[str, Any] | None]:
    data: dict[str, Any] | None = yield
    return parcel.packed(data) if data and run_of(config).is_worker else data


@pytest.hookimpl(wrapper=True)
def pytest_report_from_serializable(data: dict[str, Any]) -> Generator[None, Any, object]:
    parcel.unpack(data)
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: pytest.TestReport) -> None:
    """The process that ran it is gone: its record is written here, from what it noted before it began."""
    node: WorkerController = report.node
    run = run_of(node.config)
    record = crash.record_of(run.folder, node.gateway.id, crashitem)
    if record is not None:
        run.log.append(record)
        report.longrepr = f"{record.message}\nrepeat: {outcome.repeat(node.config, crashitem)}"


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    return outcome.shown(report)


# What it comes to -------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In each process with cells: what is wrong with their known failures. In the controller: the exit status.

    There it comes last, when xdist has ended the workers: none is kept waiting while records are read and stored.
    """
    config = session.config
    run = run_of(config)
    run.stopped = bool(session.shouldstop or session.shouldfail) or session.exitstatus == pytest.ExitCode.INTERRUPTED
    if run.cells:
        deselected = config.stash.get(DESELECTED, 0) > 0
        run.problems |= dict.fromkeys(strict.problems(run, config, deselected=deselected))
        if not deselected and not strict.some(config):
            run.unmatched.update(quarantines.unmatched(run))
    if run.is_worker:
        config.workeroutput["trt_problems"] = list(run.problems)  # type: ignore[attr-defined]
        config.workeroutput["trt_unmatched"] = sorted(run.unmatched)  # type: ignore[attr-defined]  # of xdist's
        config.workeroutput["trt_unread"] = run.unread  # type: ignore[attr-defined]  # of xdist's
        config.workeroutput["trt_perf_off"] = config.stash.get(MEASURE_NOTHING, 0)  # type: ignore[attr-defined]
        run.close()
        return
    if not run.in_use:
        return
    passed = session.exitstatus == pytest.ExitCode.OK
    if passed and (run.problems or collection.lost_records(run)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    elif passed and terminal.left_out(run, run.recorded.records):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
    try:
        run.unmet = unmet.unmet(run, collection.settled(run))
    finally:  # whatever comes of that costs no record
        storing.end(run, int(session.exitstatus))
        stored = storing.store(run)
    if not stored and passed:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController, error: object) -> None:
    run = run_of(node.config)
    left = getattr(node, "workeroutput", {})
    run.problems |= dict.fromkeys(left.get("trt_problems", ()))
    run.unmatched.update(left.get("trt_unmatched", ()))
    run.unread |= left.get("trt_unread", {})
    node.config.stash[MEASURE_NOTHING] = left.get("trt_perf_off", 0) or node.config.stash.get(MEASURE_NOTHING, 0)
    if error:
        run.stillborn += 1
        scheduling.give_up(node.config, run.stillborn)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    run = run_of(config)
    off = config.stash.get(MEASURE_NOTHING, 0)
    if off and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and not run.is_worker:
        terminalreporter.write_line(perf.OFF.format(count=f"{off} test{'s' * (off != 1)}"), yellow=True)
    if run.in_use and not run.is_worker:  # workers are asked, too: what they print goes nowhere
        terminal.summary(run, terminalreporter, run.problems)
