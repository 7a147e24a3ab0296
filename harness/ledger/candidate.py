"""A cell's candidate: plans that were built tonight, measured in processes of their own, and beside a baseline's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import SpecError, UnsupportedError
from harness.ledger.baselines import Baseline
from harness.ledger.gate import Array, Tonight, same_plans
from harness.ledger.kept import Kept
from harness.measure.bench import measured
from harness.measure.builders import Builders
from harness.measure.contest import Contest, Effort
from harness.measure.finding import Finding, Said, worst_first
from harness.measure.interleave import PROCESSES
from harness.measure.journal import Journal
from harness.measure.process import Process
from harness.measure.quantity import Quantity, covered
from harness.measure.runner import Runner, SideFailed
from harness.measure.side import Side
from harness.runtime.machine import machine
from harness.runtime.sampling import Sampling
from harness.spec.build import BuildConfig
from harness.spec.canonical import digest

MEASUREMENT = 2  # raise it when the same plan would measure otherwise: series of another number don't compare
USUAL = 4  # processes of a screening


@dataclass(frozen=True)
class Place:
    """Where a cell is measured: what people call the device, and what is recorded of the rest.

    A GPU is its product and, where that is told, its power limit: "NVIDIA H200, 700 W". With another limit it is
    another device.
    """

    device: str
    environment: Mapping[str, str]

    @classmethod
    def here(cls, environment: Mapping[str, Any], config: BuildConfig | None = None) -> Place:
        """As `of`, with what this machine tells of itself and of the GPU of ``environment``."""
        return cls.of({**environment, **machine(str(environment.get("gpu_uuid") or ""))}, config)

    @classmethod
    def of(cls, environment: Mapping[str, Any], config: BuildConfig | None = None) -> Place:
        """From what `harness.runtime.fingerprint.environment` tells, and the build options that were set."""
        recorded = {
            "library": library_of(environment),
            "options": "" if config is None else options_of(config),
            **{name: environment.get(name) for name in RECORDED},
        }
        device = str(environment.get("gpu") or environment.get("cpu") or "unknown device")
        device += f", {recorded['power_limit']}" if recorded["power_limit"] else ""
        return cls(device, {name: str(value) for name, value in recorded.items() if value not in (None, "")})


def library_of(environment: Mapping[str, Any]) -> str:
    """What tells installations of a backend apart: the version of its bindings, and of the library under them."""
    bindings, library = (str(environment.get(name) or "") for name in ("version", "library_version"))
    return f"{bindings} over {library}" if library not in ("", bindings) else bindings


def options_of(config: BuildConfig) -> str:
    """Those that are not the builder's own default, as they would be typed."""
    given = ((one.name, getattr(config, one.name), one.default) for one in fields(config))
    return ", ".join(f"{name}={value}" for name, value, default in given if value != default)


RECORDED = ("backend", "version", "driver", "cuda_driver", "cuda_runtime", "gpu_uuid", "power_limit", "host")


def key_of(side: Side, place: Place) -> str:
    """The cell: which model, where it is measured, and how.

    Versions and build options are no part of it: nights that differ in them are to be compared. A plugin counts.
    """
    model, config = side.spec.model, side.spec.config
    return digest(
        {
            "model": {"kind": model.source.kind, "digest": model.source.digest()},
            "precision": side.spec.precision,
            "profiles": side.spec.profiles,
            "plugins": sorted(Path(path).name for path in config.plugins),
            "backend": side.backend,
            "point": side.point,
            "device": place.device,
            "measurement": MEASUREMENT,
        }
    )


@dataclass(eq=False)
class Candidate:
    """Of the cell ``cell``, which people read. ``side`` has the plans, whose digests are ``plans``.

    ``opponent`` gives the side of a baseline, or says why there can be none. ``subjects`` cells of a run share its
    errors. Whatever was measured already, by the journals in ``folder``, is not measured again.
    """

    cell: str
    side: Side
    plans: tuple[str, ...]
    place: Place
    ways: Mapping[str, Sampling]
    quantities: Sequence[Quantity]
    folder: Path
    kept: Kept
    opponent: Callable[[Baseline], Side | str]
    subjects: int = 1
    processes: int = USUAL
    once: Mapping[str, Array] = field(default_factory=dict)  # measured elsewhere, once a build: "build", in seconds
    tell: Callable[[str], None] = lambda _: None
    missing: dict[str, str] = field(default_factory=dict)  # by metric, why it has no value
    notes: dict[str, str] = field(default_factory=dict)  # by metric, why it is no one number
    tails: dict[str, float] = field(default_factory=dict)  # by metric, the 99th percentile of all samples

    def tonight(self, session: str) -> Tonight:
        """What processes of it measured. SideFailed where it can't be run."""
        values = {**self._values(screening(self.processes, self.plans)), **self.once}
        return Tonight(
            key_of(self.side, self.place),
            self.cell,
            session,
            self.plans,
            self.place.environment,
            values,
            dict(self.notes),
            dict(self.tails),
            model=self.side.spec.model.source.digest(),
        )

    def again(self, metrics: Sequence[str]) -> Mapping[str, Array]:
        """Twice as many fresh processes, the first of which takes the first plan."""
        if all(name in self.once for name in metrics):
            return {name: self.once[name] for name in metrics}
        count = screening(self.processes, self.plans)
        first = -(-count // len(self.plans)) * len(self.plans)
        fresh = {**self._values(2 * count, first=first), **self.once}
        return {name: fresh[name] for name in metrics if name in fresh}

    def stayed(self, baseline: Baseline, session: str) -> tuple[Tonight, Candidate] | str:
        """What the baseline's own plans measure tonight by tonight's library, and who measures more of them."""
        try:
            paths = tuple(self.kept.path(name) for name in baseline.plans)
        except SpecError as error:
            return str(error)
        own = replace(
            self,
            side=replace(self.side, plans=paths),
            plans=baseline.plans,
            folder=self.folder / f"stayed-{digest(baseline.plans)[:12]}",
            once={},
            missing={},
            notes={},
            tails={},
        )
        try:
            return own.tonight(session), own
        except SideFailed as failed:
            return f"the baseline's plan can't be run by tonight's library: {str(failed.error).partition(chr(10))[0]}"

    def beside(self, baseline: Baseline, metrics: Sequence[str]) -> Sequence[Finding] | str:
        """Interleaved processes, without what only a build tells.

        One plan against another is a contest of plans (`harness.measure.contest`), several builds are one of builders
        (`harness.measure.builders`): there a plan counts as often as it was built, for each is a draw of the lottery.
        Where both have the very same plans, each as often, there is none, and all that differs is what runs them. So
        each plan is a contest of its own, once however many builds gave it, and the worst of them is what is said:
        any may be the one that is released. They share the errors of the cell.
        """
        other = self.opponent(baseline)
        if isinstance(other, str):
            return other
        wanted = [
            replace(one, metric=replace(one.metric, tolerance=baseline.metrics[one.name].tolerance))
            for one in self.quantities
            if one.name in metrics and one.name not in self.once
        ]
        if not wanted:
            return "it is measured once a build"
        a, b = replace(other, name="A"), replace(self.side, name="B")
        if same_plans(self.plans, baseline.plans):
            distinct = tuple(dict.fromkeys(self.plans))
            each = {}
            for plan in distinct:
                pair = (
                    replace(side, plans=(side.plans[plans.index(plan)],))
                    for side, plans in ((a, baseline.plans), (b, self.plans))
                )
                each[plan] = self._told(tuple(pair), ((plan,), (plan,)), wanted, self.subjects * len(distinct))
            found = worst_of(each, self.plans)
        else:
            found = self._told((a, b), (baseline.plans, self.plans), wanted, self.subjects)
        lost = next((one for one in found if one.said is Said.FAILED and one.metric == "side A"), None)
        return found if lost is None else f"the baseline's plan can't be run: {lost.words}"

    # Within --------------------------------------------------------------------------------------

    def _told(
        self, sides: Sequence[Side], plans: Sequence[Sequence[str]], wanted: Sequence[Quantity], subjects: int
    ) -> list[Finding]:
        """What interleaved processes of both ``sides`` say of what is ``wanted``; ``plans`` are their digests."""
        # What is measured beside latencies depends on the ways that ran before it.
        latencies = {one.way for one in wanted if one.way} if all(one.way for one in wanted) else set(self.ways)
        ways = {name: way for name, way in self.ways.items() if name in latencies}
        names = {one.name for one in wanted}
        request = {
            "contest": [dict(side.request) for side in sides],
            "plans": plans,
            "measured": sorted(names),
            "ways": ways,
        }
        folder = self.folder / f"beside-{digest(request)[:12]}"
        effort = Effort()
        with contextlib.closing(Journal(folder, request)) as journal:
            runner = self._runner(sides, journal, effort.blocks * PROCESSES, ways, names)
            with contextlib.closing(runner):
                if all(len(one) == 1 for one in plans):
                    return Contest(runner, wanted, effort, subjects).run()
                return Builders(runner, wanted, subjects).run()

    def _runner(
        self, sides: Sequence[Side], journal: Journal, planned: int, ways: Mapping[str, Sampling], names: set[str]
    ) -> Runner:
        """Measures no more than what has these ``names``."""
        return Runner(self.cell, sides, ways, journal, False, self.tell, planned, names.__contains__)

    def _values(self, count: int, first: int = 0) -> dict[str, Array]:
        """By metric, of ``count`` processes from number ``first`` on. Those that lack some are in ``missing``."""
        request = {"screen": dict(self.side.request), "plans": self.plans, "ways": self.ways}
        with contextlib.closing(Journal(self.folder / "alone", request)) as journal:
            names = {one.name for one in self.quantities}
            runner = self._runner([self.side], journal, screening(self.processes, self.plans), self.ways, names)
            with contextlib.closing(runner):
                processes = [runner.process(number, 0, number) for number in range(first, first + count)]
        found, missing = covered(self.quantities, processes)
        nothing = [one for one in found if min(_of(one, processes)) <= 0]  # a ratio to it has no meaning
        found = tuple(one for one in found if one not in nothing)
        self.missing.update({**missing, **{one.name: "it is 0" for one in nothing}})
        seen = [measured(one, processes) for one in found]
        self.notes.update({one.name: one.note for one in seen if one.note})
        self.tails.update({one.name: one.percentiles[99] for one in seen if 99 in one.percentiles})
        return {one.name: _of(one, processes) for one in found}


def screening(processes: int, plans: Sequence[str]) -> int:
    """How many processes screen the builds that gave ``plans``: ``processes``, and more where these are too few.

    Every build has one, and two where plans differ, for one may be an odd one.
    """
    return max(processes, len(plans) * min(len(set(plans)), 2))


def worst_of(each: Mapping[str, Sequence[Finding]], plans: Sequence[str]) -> list[Finding]:
    """By metric the worst finding of any plan. ``plans`` are those of the builds: where they differ, words name it."""
    if len(each) == 1:
        return [one for found in each.values() for one in found]
    by_metric: dict[str, list[Finding]] = {}
    for plan, found in each.items():
        gave = f"plan {plan[:12]}, which {plans.count(plan)} of {len(plans)} builds gave"
        for one in found:
            by_metric.setdefault(one.metric, []).append(replace(one, words=f"{one.words}; {gave}"))
    return [worst_first(found)[0] for found in by_metric.values()]


def opponent(mine: Side, kept: Kept, bench_of: Callable[[str], Side | str]) -> Callable[[Baseline], Side | str]:
    """Gives the side of a baseline: its kept plans, under the installation that can run them."""

    def side(baseline: Baseline) -> Side | str:
        try:
            plans = tuple(kept.path(name) for name in baseline.plans)
        except SpecError as error:
            return str(error)
        found = bench_of(baseline.environment.get("library", ""))
        if isinstance(found, str):
            return found
        try:
            why = found.why_not_run()
        except UnsupportedError as error:
            return str(error)
        return why or replace(found, plans=plans, asked=dict(mine.asked))

    return side


def _of(quantity: Quantity, processes: Sequence[Process]) -> Array:
    return np.array([quantity.of(process) for process in processes], np.float64)
