"""What the cells of one process share: models, probes, engines, oracle, records."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import SpecError, UnsupportedError
from harness.ledger.expectations import Expectations
from harness.ledger.expectations import load as load_expectations
from harness.ledger.records import RecordLog, new_run_id, read_run
from harness.ledger.records import Run as RecordedRun
from harness.ledger.worth import Worth
from harness.pytest_plugin import budget, cells, crash, scheduling, storing
from harness.pytest_plugin.options import settings_of
from harness.pytest_plugin.story import Story
from harness.runtime.capability import Capability, Probe, State
from harness.runtime.choice import choose, needs_of, not_applied
from harness.runtime.device_lock import DeviceLock, lock_of
from harness.runtime.devices import CPU, devices
from harness.runtime.fingerprint import environment
from harness.runtime.workbench import Workbench
from harness.settings import BACKENDS, BEST, RUNTIMES
from harness.spec import EngineSpec, ModelSpec, promoted
from harness.spec.catalog import Catalog, load
from harness.spec.cell import Cell
from harness.spec.promoted import Promoted
from harness.spec.source import EXPORT_VARIABLE, export_folder

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from harness.judge.oracle import Oracle
    from harness.ledger.change_states import Change
    from harness.ledger.kept import Kept
    from harness.ledger.unmet import Unmet
    from harness.pytest_plugin.perf import Night
    from harness.runtime.backend.hosted import HostedBackend
    from harness.runtime.backend.protocol import Backend
    from harness.runtime.pool import EnginePool
    from harness.strategies.explore import Examples

EXPORTS = "exports"
PROBES = "probes.json"
EARLY = "early.probes"  # of all backends that the run asks for, whether a cell does or not, before workers collect
PASSING = (crash.SUFFIX, crash.CRUMB, ".lock", ".probes")  # files that mean nothing once the run is over
RUN = pytest.StashKey["Run"]()


class Run:
    """Everything is made when it is first needed, so that a run without a cell of ours pays nothing."""

    def __init__(self, config: pytest.Config) -> None:
        self.config, self.settings = config, settings_of(config)
        worker: dict[str, Any] = getattr(config, "workerinput", {})
        self.is_worker = bool(worker)
        self.process = str(worker.get("workerid", "main"))
        self.id = worker.get("trt_run") or self.settings.run or new_run_id()
        self.began = time.monotonic()
        self.home = home = config.rootpath / ".trt-harness"
        self.folder = (self.settings.output or home / "runs") / self.id
        self.kept = (self.settings.cache or home) / "examples"  # what one run leaves for the next
        self.in_use = False  # whether there is a cell of ours
        self.stopped = False  # before its last cell: by -x, by ^C, by a file that can't be collected
        self.stillborn = 0  # workers in a row that died and whose successor has not collected yet
        self._open = contextlib.ExitStack()
        self._nearest = functools.cache(_nearest)  # asked for each cell
        self._expectations: dict[Path, Expectations] = {}
        self._promoted: dict[Path, tuple[Promoted, ...]] = {}
        self.cells: list[tuple[Cell, Path]] = []  # that this process collected, covered or not, and their files
        self._specs: dict[tuple[str, str], EngineSpec] = {}
        self._examples: dict[tuple[str, tuple[str, ...]], Examples] = {}
        self._choices: dict[tuple[str, tuple[str, ...]], str | UnsupportedError] = {}
        self._installations: dict[tuple[str, str], Workbench] = {}
        self._runtimes: dict[str, Probe] = {}  # beside the cells' backends
        self.nights: dict[tuple[str, str, str], Night | Exception] = {}  # by engine, backend and point
        self.measured_cells = 0  # of which performance is to be measured
        self.stored: list[str] = []  # what became of the run in the store
        self.problems: dict[str, None] = {}  # with known failures, from every process
        self.unmatched: set[str] = set()  # quarantines, by their cells, likewise
        self.unread: dict[str, str] = {}  # what could not be read of the store, and why, likewise
        self.refused: str = worker.get("trt_refused", "")  # why the store can't be read, once it could not
        self.unmet: list[Unmet] = []  # baselines, when all processes have come to their end

    # What is asked --------------------------------------------------------------------------------

    @functools.cached_property
    def zoo(self) -> Catalog:
        """The models that are registered."""
        return load()

    @functools.cached_property
    def catalog(self) -> Catalog:
        """Every model: the zoo's, those of ``--trt-models``, and those that the hook brings."""
        catalog = load(self.settings.models) if self.settings.models else self.zoo
        for models in self.config.hook.pytest_trt_models(config=self.config):
            catalog = catalog.extended(models)
        return catalog

    @functools.cached_property
    def models(self) -> tuple[ModelSpec, ...]:
        """The models that the options ask for. SpecError for one that does not exist."""
        zoo = {model.id for model in self.zoo}
        own = frozenset(model.id for model in self.catalog if model.id not in zoo)
        return cells.select(self.catalog.models, own, self.settings)

    def spec_of(self, case: cells.Case) -> EngineSpec:
        """The same object for all cells of an engine, since it remembers its key."""
        asked = case.model.id, case.recipe.name
        if asked not in self._specs:
            config = case.model.config.with_options(dict(self.settings.build_option))
            self._specs[asked] = EngineSpec.of(case.model, case.recipe, config)
        return self._specs[asked]

    def examples_of(self, model: ModelSpec, relations: tuple[str, ...]) -> Examples:
        """The same object for all cells of a model, since what is drawn from it may be kept."""
        from harness.strategies import examples_of

        asked = model.id, relations
        if asked not in self._examples:
            self._examples[asked] = examples_of(model, relations=relations)
        return self._examples[asked]

    # What there is --------------------------------------------------------------------------------

    def probe_all(self, asked: Iterable[str]) -> dict[str, Probe]:
        """Probe what ``asked`` may come to, once for the run, and leave the results for every worker."""
        return self._probe(asked, self.early, self.folder / PROBES)

    def probe_early(self) -> None:
        """Probe all that the run asks for before there are workers, of which each would wait for it.

        They know by it what nothing covers here, and make no test of it: see `collection.leave_out`.
        """
        self._probe(self.settings.backend, {}, self.folder / EARLY)

    def _probe(self, asked: Iterable[str], known: Mapping[str, Probe], path: Path) -> dict[str, Probe]:
        names = dict.fromkeys(name for backend in asked for name in (BACKENDS if backend == BEST else [backend]))
        with Workbench(self.settings) as bench:
            found = {name: known.get(name) or bench.probe(name) for name in names}
        self.make_folder()
        _write(path, found)
        return found

    def probing(self, timeout: float = -1) -> BaseFileLock:
        """Held by the process that probes."""
        from filelock import FileLock

        self.make_folder()
        return FileLock(self.folder / "probing.lock", timeout=timeout)

    @property
    def probed(self) -> bool:
        """Whether some process has come to the end of `probe_all`."""
        return (self.folder / PROBES).exists()

    @functools.cached_property
    def early(self) -> dict[str, Probe]:
        """What `probe_early` found; nothing where none did."""
        early = self.folder / EARLY
        return _read(early) if early.exists() else {}

    @functools.cached_property
    def probes(self) -> dict[str, Probe]:
        """What `probe_all` found, in whichever process."""
        return _read(self.folder / PROBES)

    @functools.cached_property
    def environments(self) -> dict[str, dict[str, Any]]:
        """What records say of each backend."""
        return {name: environment(probe) for name, probe in self.probes.items()}

    def choose(self, case: cells.Case, needs: Iterable[str]) -> str:
        """The backend that covers ``case``; "" when it asks for none. UnsupportedError when there is none."""
        choice = self.choice(case, needs)
        if isinstance(choice, UnsupportedError):
            raise UnsupportedError(choice.capability, choice.evidence, choice.fix)
        return choice

    def choice(self, case: cells.Case, needs: Iterable[str]) -> str | UnsupportedError:
        """What `choose` returns or raises: the same object for all cells that need the same."""
        if not case.backend:
            return ""
        every = (case.backend, (*needs, *case.needs, *case.recipe.needs, *needs_of(case.model)))
        if every not in self._choices:
            try:
                self._choices[every] = choose((self.early or self.probes).__getitem__, *every).backend
            except UnsupportedError as error:
                self._choices[every] = error
        return self._choices[every]

    def begin(self, story: Story, needs: Iterable[str]) -> None:
        """Settle which backend covers a cell, and hold its device. UnsupportedError when none does, or in no time."""
        story.backend = story.case.backend
        story.environment = self.environments.get(story.backend, {})
        budget.require(self)
        story.backend = self.choose(story.case, needs)
        if story.backend:
            story.facts.update(not_applied(story.backend, self.spec_of(story.case).config))
            story.environment = self.environments[story.backend]
            # Here, and not while a plan is locked in the cache: another process may wait for it, with our device.
            self.backend(story.backend, story.node)

    @functools.cached_property
    def changes(self) -> Mapping[tuple[str, str], Change]:
        """Change points that the store has and nothing cleared, by the key of their cell and metric."""
        from harness.ledger.change_states import uncleared

        return storing.asked(self, "which change points are open", uncleared) or {}

    @functools.cached_property
    def worth(self) -> Worth:
        """What of cells a budget goes by, as it was when the controller looked: all workers are to have one order."""
        found = getattr(self.config, "workerinput", {}).get("trt_worth")
        return budget.worth(self) if found is None else Worth.of_plain(found)

    # What works -----------------------------------------------------------------------------------

    @functools.cached_property
    def bench(self) -> Workbench:
        bench = Workbench(self.settings, device=lambda: self.device, probes=self.probes)
        self._open.callback(bench.close)
        return bench

    @property
    def pool(self) -> EnginePool:
        return self.bench.pool

    @property
    def oracle(self) -> Oracle:
        return self.bench.oracle

    @functools.cached_property
    def device(self) -> int:
        """The GPU of this process, held until it ends; 0 where there is none to choose from."""
        numbers = devices()
        if not numbers:
            return 0
        self._open.callback(self._place.release)
        return self._place.acquire(numbers)

    @functools.cached_property
    def _place(self) -> scheduling.Place:
        return scheduling.Place(share=self.settings.share)

    @functools.cached_property
    def _cpu(self) -> DeviceLock:
        """That of the CPU, shared from the first cell there until this process ends."""
        lock = lock_of(CPU)
        self._open.enter_context(lock.shared(scheduling.PURPOSE))
        return lock

    def alone(self, backend: str) -> contextlib.AbstractContextManager[None]:
        """No other process of ours uses the device of ``backend`` meanwhile, or measures on the CPU."""
        return self._place.alone() if self._on_gpu(backend) else self._cpu.alone(scheduling.MEASURING)

    def _on_gpu(self, backend: str) -> bool:
        return backend.startswith("tensorrt") and bool(devices())

    def backend(self, name: str, label: str) -> Backend:
        """A backend about to work on ``label``: should it take this process with it, a note says so."""
        if not self._on_gpu(name):
            _ = self._cpu
        backend = self.bench.backend(name)
        client = getattr(backend, "client", None)
        if client is not None:
            client.breadcrumb, client.label = crash.breadcrumb(self.folder, self.process, name), label
        return backend

    def apart(self, name: str) -> HostedBackend:
        """A backend in a new process of its own, for whoever closes it.

        UnsupportedError, with the fix, when ``name`` is a runtime that is not there.
        """
        from harness.runtime.backend.hosted import HostedBackend
        from harness.runtime.backend.registry import HostSettings, create

        device = self.device if name.startswith("tensorrt") else 0
        backend = create(name, HostSettings.of(self.settings), device, apart=True)
        assert isinstance(backend, HostedBackend)
        if name in RUNTIMES:
            try:
                if name not in self._runtimes:
                    self._runtimes[name] = backend.probe()
                self._runtimes[name].require(("import", "deserialize"))
            except BaseException:
                backend.close()
                raise
        return backend

    @property
    def baselines(self) -> Path:
        """The file of baselines."""
        from harness.ledger.baseline_file import FILE

        return self.settings.baselines or self.config.rootpath / FILE

    @functools.cached_property
    def kept_plans(self) -> Kept:
        """Where the plans of baselines are."""
        from harness.ledger.kept import Kept

        return Kept(self.settings.kept or self.home / "plans")

    def installation(self, backend: str, program: str) -> Workbench:
        """What works with another installation of ``backend``'s library, under its interpreter."""
        if (backend, program) not in self._installations:
            device = self.device if backend.startswith("tensorrt") else 0
            bench = Workbench(self.settings.under(program), device=lambda: device, apart=True)
            self._open.callback(bench.close)
            self._installations[backend, program] = bench
        return self._installations[backend, program]

    # What is kept ---------------------------------------------------------------------------------

    @functools.cached_property
    def log(self) -> RecordLog:
        log = RecordLog(self.folder, self.id, self.process)
        self._open.callback(log.close)
        return log

    @functools.cached_property
    def recorded(self) -> RecordedRun:
        """What every process recorded: asked for when all have come to their end."""
        return read_run(self.folder)

    @functools.cached_property
    def notes(self) -> crash.Notes:
        notes = crash.Notes(self.folder, self.process)
        self._open.callback(notes.close)
        return notes

    def expectations_of(self, test: Path) -> Expectations:
        """The known failures that hold for cells of the file ``test``."""
        folder = self.settings.expectations or self._nearest(test.parent, "expectations")
        if folder not in self._expectations:
            self._expectations[folder] = load_expectations(folder, models=[model.id for model in self.catalog])
        return self._expectations[folder]

    def promoted_of(self, test: Path) -> tuple[Promoted, ...]:
        """The examples that are always tried by tests of the file ``test``. SpecError for a file that is wrong."""
        file = self.settings.examples or self._nearest(test.parent, promoted.NAME)
        if self.settings.examples is not None and not file.is_file():
            raise SpecError(f"--trt-examples: {file}: no such file")
        if file not in self._promoted:
            self._promoted[file] = promoted.read(file, [model.id for model in self.catalog])
        return self._promoted[file]

    @property
    def expectations(self) -> Mapping[Path, Expectations]:
        """Those that were asked for so far, by folder."""
        return self._expectations

    def make_folder(self) -> None:
        """The folder of the run; the one that all runs have by default is none of git's business."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.home in self.folder.parents:
            ignored = self.home / ".gitignore"
            if not ignored.exists():
                ignored.write_text("*\n")

    def share_exports(self) -> None:
        """Let every process of the run export a model into one place, which goes with the run."""
        if EXPORT_VARIABLE not in os.environ:
            os.environ[EXPORT_VARIABLE] = str(self.folder / EXPORTS)
            export_folder.cache_clear()
            self._open.callback(export_folder.cache_clear)
            self._open.callback(os.environ.pop, EXPORT_VARIABLE, None)

    def close(self) -> None:
        """Give back what this process has; in the end of all, what only a run under way needs."""
        self._open.close()
        if self.is_worker:
            return
        if self.in_use:
            shutil.rmtree(self.folder / EXPORTS, ignore_errors=True)
            for path in self.folder.glob("*"):
                if path.suffix in PASSING:
                    path.unlink(missing_ok=True)
        else:  # there was no cell after all, and something may have been probed
            with contextlib.suppress(OSError):
                (self.folder / EARLY).unlink()
                self.folder.rmdir()


def make_folder(folder: Path, option: str) -> None:
    """SpecError, naming the option that says where, when it can't be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecError(f"{option}: can't make the folder {folder}: {error.strerror}: name another") from None


def run_of(config: pytest.Config) -> Run:
    """The run that ``config`` belongs to."""
    if RUN not in config.stash:
        config.stash[RUN] = Run(config)
    return config.stash[RUN]


def _write(path: Path, probes: Mapping[str, Probe]) -> None:
    whole = path.with_suffix(".tmp")
    whole.write_text(json.dumps({name: asdict(probe) for name, probe in probes.items()}, indent=1, default=str))
    whole.replace(path)


def _read(path: Path) -> dict[str, Probe]:
    return {name: _probe(content) for name, content in json.loads(path.read_text()).items()}


def _probe(content: dict[str, Any]) -> Probe:
    capabilities = (Capability(**{**one, "state": State(one["state"])}) for one in content["capabilities"])
    return Probe(**{**content, "capabilities": tuple(capabilities)})


def _nearest(folder: Path, name: str) -> Path:
    """The nearest ``name``, from ``folder`` upwards; one that does not exist when there is none."""
    found = (parent / name for parent in (folder, *folder.parents))
    return next((candidate for candidate in found if candidate.exists()), folder / name)
