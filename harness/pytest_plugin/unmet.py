"""The accepted baselines that no cell of a run met, and which of them are within what it was to do.

Within is what the run's options, its tests and this device leave: another model, precision, point, shard or backend
than was asked for, tests that were chosen one by one, another device, a file of tests that it does not collect are not.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import NoStoreError, SpecError, StoreError
from harness.ledger.records import NOT_RUN, PERF, UNSEEN, Record
from harness.ledger.unmet import Unmet
from harness.pytest_plugin.cells import in_shard
from harness.pytest_plugin.perf import asked_for, quarantine
from harness.pytest_plugin.scheduling import path_of
from harness.settings import BACKENDS, BEST
from harness.spec.cell import BACKEND_IDS
from harness.spec.precision import RECIPES
from harness.spec.profile import POINTS

if TYPE_CHECKING:
    from harness.ledger.baselines import Baseline, Baselines
    from harness.ledger.store import Store
    from harness.pytest_plugin.collection import Settled
    from harness.pytest_plugin.run import Run

DEVICE, BACKEND, ASKED, TIME = "on another device", "of another backend", "not asked for", "not run for want of time"
REPLACED = "of a model that another accepted one of its name has replaced"
KNOWN, QUARANTINED = "known to fail", "in quarantine"
WHERE = "which tests measured the baselines that nothing met"  # is asked of the store


def held(run: Run) -> Baselines:
    """The accepted baselines of a run that measures. A file that can't be read failed each cell."""
    from harness.ledger.baseline_file import read
    from harness.ledger.baselines import Baselines

    if run.settings.perf != "off":
        with contextlib.suppress(SpecError, OSError):
            return read(run.baselines)
    return Baselines({})


def unmet(run: Run, settled: Settled | None) -> list[Unmet]:
    """What is within first, then by cell; asked for when all processes have come to their end.

    A run that was stopped says nothing: what it had before it was not measured.
    """
    baselines = held(run)
    active = baselines.active
    if not active or settled is None or run.stopped:
        return []
    from harness.ledger.series import is_canary  # no cell of a run: a night measures them before it and after it

    with contextlib.closing(_Stored(run)) as stored:
        tonight = _Tonight(run, settled, active, stored)
        asked = {key: one for key, one in active.items() if key not in tonight.met and not is_canary(one.cell)}
        why = {key: tonight.why(one) for key, one in asked.items()}
    found = [Unmet(active[key].cell, *said) for key, said in why.items() if said is not None]
    found = [
        Unmet(one.cell, QUARANTINED, False) if one.within and quarantine(baselines, one.cell) else one for one in found
    ]
    if not tonight.names_met:  # a gate that had no time for anything has passed nothing
        found = [replace(one, within=True) if one.why == TIME else one for one in found]
    return sorted(found, key=lambda one: (not one.within, one.cell, one.why))


@dataclass(frozen=True, eq=False)
class _Tonight:
    run: Run
    settled: Settled
    active: Mapping[str, Baseline]
    stored: _Stored

    def why(self, one: Baseline) -> tuple[str, bool] | None:
        """Why nothing met it, and whether it is within; None where it failed, which is told as that."""
        name, _, device = one.cell.partition(" on ")
        if device not in self.devices:
            uuid = one.environment.get("gpu_uuid")
            now = self.gpus.get(uuid) if uuid else None
            if now is not None and f"{name} on {now}" not in self.names_met:
                return f"its GPU is another device now: {now}", self.narrowed(one, name) is None
            if now is not None or not self.broken(one, name):
                return DEVICE, False
        records = self.records.get(name, [])
        if records:
            return self.of_records(one, records)
        outside = self.narrowed(one, name)
        if outside is not None:
            return outside, False
        if fallen := self.fallen(one, name):
            return fallen, True
        file = self.run.baselines.name
        model = name.partition("-")[0]
        if model not in {known.id for known in self.run.catalog.models}:
            return f"there is no model {model} any more: bring it back, or remove its baseline from {file}", True
        return f"no test makes this cell any more: bring it back, or remove its baseline from {file}", True

    def of_records(self, one: Baseline, records: Sequence[Record]) -> tuple[str, bool] | None:
        """Of those that have its name."""
        verdicts = {record.verdict for record in records}
        if not verdicts.isdisjoint(("failed", "error", "unexpected_pass")):
            return None
        if any(record.facts.get(PERF) and record.verdict not in UNSEEN for record in records):
            if one.cell in self.names_met:
                return REPLACED, False
            return "another model of that name was measured: accept that one, or bring this one's back", True
        if "known_failure" in verdicts:
            return KNOWN, False
        if any(record.message == NOT_RUN for record in records):
            return TIME, False
        if not self.measured(one):
            return ASKED, False
        return f"not covered: {records[0].message.partition(chr(10))[0]}", True

    def narrowed(self, one: Baseline, name: str) -> str | None:
        """What this run was asked for instead; None where its cell is within that."""
        asked = self.run.settings
        model, *parts = name.split("-")[:-1]
        backend, asking = backend_of(one, name), self.asking(one, name)
        if not asking:
            return BACKEND
        if backend not in asking and any(_rank(met) < _rank(backend) for met in self.came_to(name)):
            return BACKEND  # there is a better one by now
        precision = next((part for part in parts if part in RECIPES), "")
        point = next((part.partition("_")[0] for part in parts[-1:] if part.partition("_")[0] in POINTS), "")
        known = {each.id for each in self.run.catalog.models}
        left_out = (
            self.settled.chosen,
            not self.measured(one),
            model in known and model not in {each.id for each in self.run.models},
            model not in known
            and bool(asked.model)
            and not any(fnmatch.fnmatchcase(model, pattern) for pattern in asked.model),
            bool(precision) and precision not in asked.precision,
            bool(point) and point not in asked.point,
            not any(in_shard(model, precision, each, asked.shard) for each in asking),
        )
        return ASKED if any(left_out) or self.elsewhere(one) else None

    def asking(self, one: Baseline, name: str) -> list[str]:
        """Of the backends that were asked for, those that its own may come of."""
        backend = backend_of(one, name)
        return [each for each in self.run.settings.backend if each == backend or (each == BEST and backend in BACKENDS)]

    def broken(self, one: Baseline, name: str) -> bool:
        """Whether it was measured on this host by a backend that was asked for, and that can't run anything now.

        Such a backend tells of no GPU, which makes the baseline's look like that of another machine.
        """
        probe = self.run.probes.get(backend_of(one, name))
        host = one.environment.get("host")
        return bool(host and host == self.host and self.asking(one, name) and probe and not probe.has("run"))

    def fallen(self, one: Baseline, name: str) -> str:
        """What "best" came to instead of its backend, and why; "" where that is not so."""
        backend = backend_of(one, name)
        came = sorted(self.came_to(name), key=_rank)
        if not came or backend in self.asking(one, name):
            return ""
        probe = self.run.probes.get(backend)
        run = None if probe is None or probe.has("run") else probe.find("run")
        why = "it does not cover this cell any more" if run is None else run.evidence.partition("\n")[0]
        return f"not covered by {backend}, {BEST} came to {came[0]}: {why}"

    def came_to(self, name: str) -> set[str]:
        """The backends of tonight's cells that are called ``name`` but for theirs."""
        stem = name.rpartition("-")[0]
        found = (records for met, records in self.records.items() if met.rpartition("-")[0] == stem)
        return {record.backend for records in found for record in records}

    def measured(self, one: Baseline) -> bool:
        """Whether one of its metrics is among those that this run was to measure; one that is unknown here may be."""
        from harness.measure.quantity import every

        quantities, patterns = every(), self.run.settings.perf_metrics
        return any(name not in quantities or asked_for(quantities[name], patterns) for name in one.metrics)

    def elsewhere(self, one: Baseline) -> bool:
        """Whether what measured it lies outside of what this run collects, as far as the store knows.

        It has tests by their ids, which begin with a path: below the root, or below an argument that lies outside of
        it, as an installed package does. A file that is in no such place tells nothing.
        """
        for session in reversed(one.sessions):
            files = {node.partition("::")[0] for node in self.stored.nodes(session).get(one.key, ())}
            files.discard("")  # of a file that is an argument itself, outside of the root
            if files:
                places = {(root / file).resolve() for root in self.roots for file in files}
                found = [place for place in places if place.exists()]
                return bool(found) and not any(place.is_relative_to(one) for place in found for one in self.collected)
        return False

    @functools.cached_property
    def collected(self) -> list[Path]:
        """The files and folders that this run collects."""
        config = self.run.config
        return [path_of(argument.partition("::")[0], config).resolve() for argument in config.args]

    @functools.cached_property
    def roots(self) -> list[Path]:
        """Where the ids of tests may begin."""
        root = self.run.config.rootpath
        outside = [one for one in self.collected if not one.is_relative_to(root.resolve())]
        return [root, *(one if one.is_dir() else one.parent for one in outside)]

    @functools.cached_property
    def met(self) -> set[str]:
        """Keys of the cells that were measured."""
        told = (record for records in self.records.values() for record in records if record.verdict not in UNSEEN)
        return {str(record.facts[PERF]["key"]) for record in told if record.facts.get(PERF)}

    @functools.cached_property
    def names_met(self) -> set[str]:
        return {one.cell for key, one in self.active.items() if key in self.met}

    @functools.cached_property
    def records(self) -> dict[str, list[Record]]:
        """Those of tests that measure, by the name of their cell: of "best", where it came to none, by each."""
        measuring, found = set(self.settled.measuring), dict[str, list[Record]]()
        for record in self.run.recorded.records:
            if record.node in measuring:
                for backend in BACKENDS if record.backend == BEST else (record.backend,):
                    found.setdefault(replace(record.cell, test="", backend=backend).params, []).append(record)
        return found

    @functools.cached_property
    def gpus(self) -> dict[str, str]:
        """What its GPUs are called, by UUID."""
        return {str(facts["gpu_uuid"]): name for facts, name in self._places if facts.get("gpu_uuid")}

    @functools.cached_property
    def devices(self) -> set[str]:
        return {name for _, name in self._places}

    @functools.cached_property
    def host(self) -> str:
        from harness.runtime.machine import machine

        return machine().get("host", "")

    @functools.cached_property
    def _places(self) -> list[tuple[Mapping[str, object], str]]:
        from harness.ledger.candidate import Place

        return [(facts, Place.here(facts).device) for facts in self.run.environments.values()]


class _Stored:
    """Which tests measured what, as the store of ``run`` knows it. It is opened once, where it is asked.

    One that can't be read is not tried again, since each try may take a minute; that is said when the run ends.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._lost = run, run.settings.store is None
        self._opened = contextlib.ExitStack()
        self._found: dict[str, Mapping[str, Sequence[str]]] = {}

    def nodes(self, session: str) -> Mapping[str, Sequence[str]]:
        """Of a session the tests that measured, by the key of their cell."""
        if session not in self._found and not self._lost:
            try:
                self._found[session] = self._read(session)
            except StoreError as error:
                self._lost = True
                if not isinstance(error, NoStoreError):  # as before the first run that is stored
                    self._run.unread[WHERE] = f"{WHERE} is not known: {error}"
        return self._found.get(session, {})

    def close(self) -> None:
        self._opened.close()

    def _read(self, session: str) -> Mapping[str, Sequence[str]]:
        from harness.ledger import history

        found: dict[str, list[str]] = {}
        for record in history.records(self._store, session):
            if record.facts.get(PERF):
                found.setdefault(record.facts[PERF]["key"], []).append(record.node)
        return found

    @functools.cached_property
    def _store(self) -> Store:
        from harness.ledger.store import store_in

        return self._opened.enter_context(store_in(self._run.home, self._run.settings.store, create=False))


def backend_of(one: Baseline, name: str) -> str:
    """As it was recorded; else by the end of its cell's ``name``, which is without a device."""
    _, _, ending = name.rpartition("-")
    return one.environment.get("backend") or {short: full for full, short in BACKEND_IDS.items()}.get(ending, ending)


def _rank(backend: str) -> int:
    """How early "best" comes to it."""
    return BACKENDS.index(backend) if backend in BACKENDS else len(BACKENDS)
