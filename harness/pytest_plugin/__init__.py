"""The pytest plugin: cells from marks, fixtures for engines, verdicts, records.

It does nothing, prints nothing and probes nothing in a run without a cell of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError, SpecError
from harness.ledger.records import read_run
from harness.pytest_plugin import crash, hooks, outcome, scheduling, strict, terminal
from harness.pytest_plugin.cells import MARK, Ask, Case, cases, renamed
from harness.pytest_plugin.fixtures import NEEDS
from harness.pytest_plugin.options import add_options, settings_of
from harness.pytest_plugin.problem import ModelFile
from harness.pytest_plugin.run import RUN, run_of
from harness.pytest_plugin.story import STORY, Story

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xdist.workermanage import WorkerController

pytest_plugins = ("harness.pytest_plugin.fixtures",)

PARAMETER = "_trt_case"
CASE = pytest.StashKey[Case]()
DESELECTED = pytest.StashKey[int]()
ASKED = "asked.json"  # in the run's folder: which backends the workers' cells ask for, and how many cells there are


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
def pytest_cmdline_main(config: pytest.Config) -> Iterator[None]:
    scheduling.set_defaults(config)
    return (yield)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    return scheduling.auto_workers(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    node.workerinput["trt_run"] = run_of(node.config).id


# Which cells there are --------------------------------------------------------------------------


def pytest_sessionstart(session: pytest.Session) -> None:
    """Options that name models are ours: a wrong one ends the run before any worker starts."""
    settings = settings_of(session.config)
    if settings.model or settings.size or settings.models:
        try:
            run_of(session.config).models  # noqa: B018
        except SpecError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    requested = PARAMETER in metafunc.fixturenames
    try:
        ask = Ask.of(metafunc.definition.iter_markers("trt"))
        if ask is None and requested:
            raise SpecError("it requests fixtures of the harness: mark it with @pytest.mark.trt")
        if ask is None:
            return
        if not requested:
            raise SpecError("it is marked trt(...) and requests none of the harness's fixtures, such as trt_cell")
        run = run_of(metafunc.config)
        found: Sequence[Case | None] = list(cases(metafunc.function.__name__, ask, run.models, run.settings))
    except HarnessError as error:
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {error}") from None
    # An empty set would be a test that is skipped, and pass for one: it is deselected instead.
    found = found or [None]
    metafunc.parametrize(PARAMETER, found, ids=[case.cell.params if case else "none" for case in found], indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    ours: list[tuple[Case, pytest.Item]] = []
    others, empty = [], []
    for item in items:
        call = getattr(item, "callspec", None)
        if call is None or PARAMETER not in call.params:
            others.append(item)
            continue
        case: Case | None = call.params[PARAMETER]
        if case is None:
            empty.append(item)
            continue
        if call.id != case.cell.params:
            case = renamed(case, call.id)
        item.stash[CASE] = case
        ours.append((case, item))
    if empty:
        config.hook.pytest_deselected(items=empty)
        config.stash[DESELECTED] -= len(empty)  # by our own options: known failures know of those
    if not ours and not empty:
        return
    run = run_of(config)
    others += [
        ModelFile.from_parent(session, name=problem.file.name, nodeid=f"models::{problem.file.name}", problem=problem)
        for problem in run.catalog.problems
    ]
    ours.sort(key=lambda pair: pair[0].order)
    items[:] = [*others, *(item for _, item in ours)]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """With cells of ours: find out what can cover them, once, in the controller."""
    config = session.config
    found = [item.stash[CASE] for item in session.items if CASE in item.stash]
    if not found or config.option.collectonly:
        return
    run = run_of(config)
    run.in_use = True
    run.share_exports()
    asked = {"backends": sorted({case.backend for case in found if case.backend}), "cells": len(found)}
    if not run.is_worker:
        _announce(config, asked)
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    own = run.folder / f"{run.process}.tmp"
    own.write_text(json.dumps(asked))
    own.replace(run.folder / ASKED)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: WorkerController) -> None:
    run = run_of(node.config)
    if not run.in_use and (run.folder / ASKED).exists():
        run.in_use = True
        _announce(node.config, json.loads((run.folder / ASKED).read_text()))


def _announce(config: pytest.Config, asked: dict[str, Any]) -> None:
    run = run_of(config)
    probes = run.probe_all(asked["backends"])
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        for line in terminal.header(run, probes, asked["backends"], asked["cells"]):
            reporter.write_line(line)


# How each is judged -----------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: a cell that can't be covered costs nothing."""
    case = item.stash.get(CASE, None)
    if case is None:
        return
    run = run_of(item.config)
    story = item.stash[STORY] = Story(case, item.nodeid, item.path)
    run.notes.write(item.nodeid, case.cell)
    if case.backend:
        requested = getattr(item, "fixturenames", ())
        run.begin(story, [need for fixture, needs in NEEDS.items() if fixture in requested for need in needs])


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    story = item.stash.get(STORY, None)
    if story is None:
        return (yield)
    run = run_of(item.config)
    raised = call.excinfo
    if raised is not None and isinstance(raised.value, HarnessError) and not item.get_closest_marker("xfail"):
        call.excinfo = None  # a traceback is costly, and would not be shown
    try:
        report: pytest.TestReport = yield
    finally:
        call.excinfo = raised
    outcome.judge(report, call, story, run)
    if report.when == "teardown":
        report.user_properties += outcome.properties(story)
        run.log.append(story.record())
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str, report: pytest.TestReport) -> None:
    """The process that ran it is gone: its record is written here, from what it noted before it began."""
    node: WorkerController = report.node  # type: ignore[attr-defined]
    run = run_of(node.config)
    record = crash.record_of(run.folder, node.gateway.id, crashitem)
    if record is not None:
        run.log.append(record)
        report.longrepr = f"{record.message}\nrepeat: {outcome.repeat(node.config, crashitem)}"


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    return outcome.shown(report)


# What it comes to -------------------------------------------------------------------------------


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    if items:
        stash = items[0].config.stash
        stash[DESELECTED] = stash.get(DESELECTED, 0) + len(items)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In each process with cells: what is wrong with their known failures. In the controller: the exit status."""
    config = session.config
    run = run_of(config)
    found = [(item.stash[CASE], item.path) for item in getattr(session, "items", ()) if CASE in item.stash]
    if found and run.in_use:
        deselected = config.stash.get(DESELECTED, 0) > 0
        run.problems |= dict.fromkeys(strict.problems(run, config, found, deselected=deselected))
    if run.is_worker:
        config.workeroutput["trt_problems"] = list(run.problems)  # type: ignore[attr-defined]
        run.close()
    elif run.in_use and session.exitstatus == pytest.ExitCode.OK:
        if run.problems:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif terminal.nothing_covered(read_run(run.folder).records):
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    run = run_of(node.config)
    run.problems |= dict.fromkeys(getattr(node, "workeroutput", {}).get("trt_problems", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    run = run_of(config)
    if run.in_use:
        terminal.summary(run, terminalreporter, run.problems)
