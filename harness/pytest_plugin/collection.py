"""Which cells there are, in which order, and which of them are worth a test here."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import pytest

from harness.errors import HarnessError, SpecError, UnsupportedError
from harness.ledger.completeness import lost
from harness.ledger.records import Record
from harness.pytest_plugin import budget, continued, perf, strict
from harness.pytest_plugin.cells import Ask, Case, cases, renamed, unknown
from harness.pytest_plugin.continued import SETTLED
from harness.pytest_plugin.problem import ModelFile
from harness.pytest_plugin.run import Run, run_of
from harness.pytest_plugin.scheduling import files, path_of

PARAMETER = "_trt"  # the fixture through which a test gets its cell
NEEDS = {  # by fixture requested
    "trt_plan": ("build",),
    "trt_plans": ("build",),
    "trt_load": ("deserialize",),
    "trt_engines": ("deserialize",),
    "trt_session": ("run",),
    "trt_latency": ("run",),
    "trt_perf": ("run",),
    "trt_sessions": ("run",),
    "trt_walk": ("run",),
}
CASE = pytest.StashKey[Case]()
# Options of pytest's that take tests out by what they are.
CHOOSING = ("keyword", "markexpr", "deselect", "lf", "stepwise")
# Packages that take none out otherwise; by "__channelexec__" goes xdist's side in a worker.
HARMLESS = ("_pytest", "harness", "__channelexec__", "pytest_benchmark", "pytest_timeout", "_hypothesis_pytestplugin")


@dataclass(frozen=True, eq=False)
class Found:
    """A cell that was collected; ``item`` is pytest's for it, None where it was left out."""

    case: Case
    node: str
    path: Path
    fixtures: tuple[str, ...]
    item: pytest.Item | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        return _needed(self.fixtures)


LEFT_OUT = pytest.StashKey[list[Found]]()
ARRANGED = pytest.StashKey[bool]()


@dataclass(frozen=True)
class Settled:
    """What a run comes to here: the backends asked for, cells in all, those that nothing covers, and all by node.

    ``recorded`` cells have a record of an earlier process. ``measuring`` are the nodes of performance, ``chosen`` says
    that tests were chosen by what they are, and not by the options and files that cells are made from.
    """

    asked: tuple[str, ...]
    cells: int
    uncovered: int
    nodes: tuple[str, ...]
    recorded: int = 0
    measuring: tuple[str, ...] = ()
    chosen: bool = False


def generate(metafunc: pytest.Metafunc) -> None:
    """Parametrize a test that is marked. CollectError, in one line, for a mark that is wrong."""
    requested = PARAMETER in metafunc.fixturenames
    try:
        ask = Ask.of(metafunc.definition.iter_markers("trt"))
        if ask is None and requested:
            raise SpecError("it requests fixtures of the harness: mark it with @pytest.mark.trt")
        if ask is None:
            return
        if not requested:
            raise SpecError("it is marked trt(...) and requests none of the harness's fixtures, such as trt_cell")
        _refuse_impostors(metafunc)
        run = run_of(metafunc.config)
        off = perf.FIXTURE in metafunc.fixturenames and run.settings.perf == "off"
        found: Sequence[Case | None] = (
            [] if off else list(cases(metafunc.function.__name__, ask, run.models, run.settings))
        )
    except HarnessError as error:
        raise pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {error}") from None
    said = unknown(ask.models, run.catalog.models)
    if said and not run.catalog.problems:  # a file that can't be read explains itself, and what it lacks
        metafunc.definition.warn(pytest.PytestCollectionWarning(f"trt(models=...): {said}"))
    # An empty set would be a test that is skipped, and pass for one: it is taken out instead.
    found = found or [None]
    metafunc.parametrize(PARAMETER, found, ids=[case.cell.params if case else "none" for case in found], indirect=True)


def leave_out(metafunc: pytest.Metafunc) -> None:
    """Have no test made of a cell that nothing here covers, where that is known already: pytest takes .1 ms for one.

    `settle` records it all the same. Whoever chooses among tests by what they are must see them all.
    """
    config = metafunc.config
    run = run_of(config)
    if PARAMETER not in metafunc.fixturenames or not run.early or _chooses(config):
        return
    definition, fixtures = metafunc.definition, tuple(metafunc.fixturenames)
    covered, left_out = [], []
    for call in metafunc._calls:
        case: Case | None = call.params[PARAMETER]  # type: ignore[assignment]  # pytest has it as an object
        if case is None or not isinstance(run.choice(case, _needed(fixtures)), UnsupportedError):
            covered.append(call)
        else:
            left_out.append((call, case))
    if left_out and not covered:  # pytest makes a test without a cell where there is none at all
        covered.append(left_out.pop()[0])
    metafunc._calls = covered
    config.stash.setdefault(LEFT_OUT, []).extend(
        Found(_renamed(case, call.id), f"{definition.nodeid}[{call.id}]", definition.path, fixtures)
        for call, case in left_out
    )


def arrange(session: pytest.Session, items: list[pytest.Item]) -> list[pytest.Item]:
    """Sort the cells among ``items`` by engine, after all else; returns those that stand for an empty set."""
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
        case = item.stash[CASE] = _renamed(case, call.id)
        ours.append((case, item))
    if ours or empty:
        others += [
            ModelFile.from_parent(
                session, name=problem.file.name, nodeid=f"models::{problem.file.name}", problem=problem
            )
            for problem in run_of(session.config).catalog.problems
        ]
        ours.sort(key=lambda pair: pair[0].order)
        items[:] = [*others, *(item for _, item in ours)]
    return empty


def settle(run: Run, items: list[pytest.Item], *, deselected: bool = False) -> Settled:
    """Probe, and take the cells out of ``items`` that nothing here covers: they need no test to be recorded.

    Out go those, too, that an earlier process of the run recorded.
    Whichever process comes to it first does so for all, since the controller of xdist does not know
    the cells; every other one finds the same results, and so keeps the same items.
    """
    from filelock import FileLock, Timeout

    found = [
        Found(item.stash[CASE], item.nodeid, item.path, tuple(getattr(item, "fixturenames", ())), item)
        for item in items
        if CASE in item.stash
    ]
    left_out: list[Found] = run.config.stash.get(LEFT_OUT, [])
    found += left_out
    backends = {one.case.backend for one in found}
    asked = tuple(backend for backend in run.settings.backend if backend in backends or not found)
    with run.probing():
        if not run.probed:
            run.probe_all(asked)
    before = continued.recorded(run)
    missing, covered = [], []
    for one in found:
        if one.node in before:
            continue
        choice = run.choice(one.case, one.needs)
        if isinstance(choice, UnsupportedError):
            missing.append((one, choice))
        elif one.item is not None:
            covered.append((one.item, one.case, choice))
    run.cells = [(one.case.cell, one.path) for one in found]
    measured = [one.case for one in found if perf.FIXTURE in one.fixtures]
    run.measured_cells = len({(case.order, case.cell.point) for case in measured})
    nodes = tuple(one.node for one in found)
    settled = Settled(
        asked,
        len(found),
        len(missing),
        nodes,
        len(before.intersection(nodes)),
        tuple(one.node for one in found if perf.FIXTURE in one.fixtures),
        deselected or strict.some(run.config) or bool(run.settings.example) or _picks(run.config),
    )
    # Nobody waits for the records: should their writer die, the worker that replaces it comes here, too.
    with contextlib.suppress(Timeout), FileLock(run.folder / "settling.lock", timeout=0):
        if not (run.folder / SETTLED).exists():
            run.log.extend(_record(run, one, error) for one, error in missing)
            whole = run.folder / f"{SETTLED}.{run.process}"
            whole.write_text(json.dumps(astuple(settled)))
            whole.replace(run.folder / SETTLED)
    items[:] = [item for item in items if CASE not in item.stash] + budget.ordered(run, covered)
    return settled


def settled(run: Run) -> Settled | None:
    """What another process settled; None while none has."""
    try:
        asked, cells, uncovered, nodes, recorded, measuring, chosen = json.loads((run.folder / SETTLED).read_text())
    except FileNotFoundError:
        return None
    return Settled(tuple(asked), cells, uncovered, tuple(nodes), recorded, tuple(measuring), chosen)


def lost_records(run: Run) -> list[str]:
    """What the records of ``run`` lack, in words, when all processes have come to their end.

    A run that was stopped lacks those of `unreached`, which is nobody's fault.
    """
    expected = settled(run)
    recorded = (record.node for record in run.recorded.records)
    return lost(expected.nodes if expected and not run.stopped else (), recorded, run.recorded.problems)


def unreached(run: Run) -> int:
    """How many cells a run that was stopped had before it."""
    expected = settled(run)
    if expected is None or not run.stopped:
        return 0
    return len(set(expected.nodes) - {record.node for record in run.recorded.records})


def needs(item: pytest.Item) -> tuple[str, ...]:
    """What the fixtures that a test requests need of a backend."""
    return _needed(tuple(getattr(item, "fixturenames", ())))


@functools.cache
def _needed(requested: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(need for fixture, needed in NEEDS.items() if fixture in requested for need in needed)


def _refuse_impostors(metafunc: pytest.Metafunc) -> None:
    """A plugin that defines a fixture of our name would win in silence; a conftest.py does so on purpose."""
    from harness.pytest_plugin import fixtures

    for name in metafunc.fixturenames:
        module = metafunc._arg2fixturedefs[name][-1].func.__module__ if hasattr(fixtures, name) else fixtures.__name__
        if module == fixtures.__name__:
            continue
        for plugin in metafunc.config.pluginmanager.get_plugins():
            if getattr(plugin, "__name__", "") == module and Path(plugin.__file__).name != "conftest.py":
                raise SpecError(f"its fixture {name!r} is not the harness's but of the plugin {module}: rename it")


def _renamed(case: Case, params: str) -> Case:
    """``case`` of a test that is called ``params`` in brackets."""
    return case if params == case.cell.params else renamed(case, params)


def _chooses(config: pytest.Config) -> bool:
    """Whether tests are chosen by what they are, and not by the options and files that cells are made from."""
    if _picks(config) or strict.some(config):
        return True
    arranging = config.hook.pytest_collection_modifyitems.get_hookimpls()
    return any(one.function.__module__.partition(".")[0] not in HARMLESS for one in arranging) or _will_arrange(config)


def _picks(config: pytest.Config) -> bool:
    return any(config.getoption(name, None) for name in CHOOSING)


def _will_arrange(config: pytest.Config) -> bool:
    """Whether a conftest.py that pytest has yet to come to speaks of arranging tests: read, not imported."""
    if ARRANGED not in config.stash:
        folders = (path_of(argument.partition("::")[0], config) for argument in config.args)
        found = (file for folder in folders for file in files(folder, ["conftest.py"], config))
        config.stash[ARRANGED] = any(b"pytest_collection_modifyitems" in file.read_bytes() for file in found)
    return config.stash[ARRANGED]


def _record(run: Run, found: Found, error: UnsupportedError) -> Record:
    case = found.case
    return Record(
        case.cell,
        "not_covered",
        node=found.node,
        message=f"{error.capability}: {error.evidence}",
        fix=error.fix,
        environment=run.environments.get(case.backend, {}),
        started=time.time(),
        run=run.id,
        worker=run.process,
    )
