"""Performance in pytest: what `trt_perf` gives: a cell measured in processes of its own, and held against a baseline.

With ``--trt-perf off``, which is the default, tests that request it make no cells.
"""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Regression, StageError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pytest

    from harness.ledger.baselines import Baselines
    from harness.ledger.candidate import Candidate
    from harness.ledger.gate import Gate, Ruling, Tonight
    from harness.measure.quantity import Quantity
    from harness.measure.side import Side
    from harness.pytest_plugin.run import Run
    from harness.pytest_plugin.story import Story
    from harness.runtime.pool import BuiltPlan
    from harness.settings import Settings
    from harness.spec import EngineSpec

FIXTURE = "trt_perf"
OFF = "--trt-perf is off: {count} that would measure made no cells: --trt-perf screen measures, gate may fail, too"


@dataclass(frozen=True, eq=False)
class Perf:
    """Measures the cell, once for all tests of its engine at this point, and rules on what a test asks for."""

    story: Story
    spec: EngineSpec
    plan: BuiltPlan

    def __call__(self, wanted: Callable[[Quantity], bool]) -> list[Ruling]:
        """What is said of every ``wanted`` metric that was measured; its record holds them.

        Regression where one got worse than its baseline, with all that did. UnsupportedError where none was measured.
        """
        night = self._night()
        names = [name for name in night.tonight.values if wanted(night.quantities[name])]
        lacking = {name: why for name, why in night.candidate.missing.items() if wanted(night.quantities[name])}
        self.story.facts["perf"] = night.told(names, lacking)
        rulings = night.ruled(names, lacking)
        if not names and not rulings:
            why = next(iter(lacking.values()), "no metric of this kind is measured by this backend")
            raise UnsupportedError("measure", why)
        self.story.facts["perf"]["rulings"] = [_as_fact(ruling) for ruling in rulings]
        failing = [ruling for ruling in rulings if ruling.fails]
        if failing:
            error = Regression("\n".join(map(str, failing)))
            run, key = self.story.run, night.tonight.key
            if run.settings.store and any((key, ruling.finding.metric) in run.changes for ruling in failing):
                from harness.ledger.store import shown

                named = shlex.quote(shown(run.settings.store))
                error.add_note(f"its change point is in the store: to repeat that, too, add --trt-store {named}")
            raise error
        return rulings

    def _night(self) -> Night:
        key = self.spec.key, self.story.backend, self.story.case.cell.point
        nights = self.story.run.nights
        if key not in nights:
            nights[key] = Night.of(self.story, self.spec, self.plan)
        found = nights[key]
        if isinstance(found, Exception):
            raise found
        return found


@dataclass(eq=False)
class Night:
    """One cell, measured."""

    candidate: Candidate
    tonight: Tonight
    quantities: Mapping[str, Quantity]
    gate: Gate
    baselines: Baselines
    journal: Path

    @classmethod
    def of(cls, story: Story, spec: EngineSpec, plan: BuiltPlan) -> Night | Exception:
        """Measured now. What can't be is that, and not tried again."""
        from harness.ledger.baseline_file import read
        from harness.ledger.candidate import Candidate, Place, opponent
        from harness.ledger.gate import Gate
        from harness.ledger.host import gained, lost, moved
        from harness.ledger.host import read as canaries_in
        from harness.ledger.nights import PLACE
        from harness.measure.process import GRAPH, PLAIN
        from harness.measure.quantity import BUILD, DEVICE_MEMORY, PARSE, PLAN_SIZE, quantities
        from harness.measure.runner import SideFailed
        from harness.measure.side import Side
        from harness.runtime.sampling import Sampling
        from harness.spec.canonical import digest

        run, case = story.run, story.case
        settings = run.settings
        if run.is_worker and not story.backend.startswith("tensorrt"):
            return UnsupportedError(
                "measure", "other workers compute beside it, on the same processors", "run these tests with -n 0"
            )
        baselines = read(run.baselines)
        seen = canaries_in(settings.canaries) if settings.canaries else ()
        sampling = Sampling.brief(settings.perf_seconds)
        ways = {GRAPH: dataclasses.replace(sampling, graph=True), PLAIN: sampling}
        found = (*quantities(tuple(ways), baselines.policies["latency"].tolerance), PLAN_SIZE, DEVICE_MEMORY)
        wanted = tuple(one for one in found if asked_for(one, settings.perf_metrics))
        ways = {name: way for name, way in ways.items() if any(one.way == name for one in wanted)}
        kept = run.kept_plans
        try:
            plans = [plan, *_more(story, spec, settings.perf_builds - 1)]
        except StageError as error:
            return error
        digests = tuple(kept.put(one.data) for one in plans)
        side = Side("B", spec, story.backend, run.bench, _device(run, story.backend), case.point, settings.seed)
        side.plans = tuple(kept.path(name) for name in digests)
        place = Place.here(run.environments[story.backend], spec.config)
        cell = f"{dataclasses.replace(case.cell, test='', backend=story.backend).params} on {place.device}"
        candidate = Candidate(
            cell,
            side,
            digests,
            place,
            ways,
            wanted,
            run.folder / PLACE / f"{plan.plan_key[:16]}-{digest(digests)[:8]}" / case.cell.point,
            kept,
            opponent(side, kept, lambda library: installed(run, side, library)),
            subjects=max(run.measured_cells, 1),
            processes=settings.perf_processes,
            once=_once(plans, (PARSE, BUILD)),
        )
        known = {one.name: one for one in (*wanted, PARSE, BUILD)}
        try:
            with story.spending("measure"), run.alone(story.backend):
                tonight = candidate.tonight(run.id)
        except SideFailed as failed:
            return failed.error
        except (StageError, UnsupportedError) as error:
            return error
        excuse = quarantine(baselines, cell)
        gate = Gate(
            baselines.policies,
            known,
            settings.perf,
            moved(seen, baselines),
            gained(seen, baselines),
            lost(seen, baselines),
            {cell: excuse} if excuse else {},
            run.changes,
        )
        return cls(candidate, tonight, known, gate, baselines, candidate.folder)

    def ruled(self, names: Sequence[str], lacking: Mapping[str, str]) -> list[Ruling]:
        """StageError and UnsupportedError where the candidate fails when it is measured again."""
        from harness.measure.runner import SideFailed

        values = {name: self.tonight.values[name] for name in names}
        seen = dataclasses.replace(self.tonight, values=values, missing=lacking)
        key = self.tonight.key
        active, release = self.baselines.active.get(key), self.baselines.releases.get(key)
        for one in filter(None, (active, release)):
            self.candidate.kept.used(one.plans)
        try:
            return self.gate.rule(
                seen, active, release, self.candidate, self.baselines.namesake(key, self.tonight.cell)
            )
        except SideFailed as failed:  # while it was measured again
            raise failed.error from failed

    def told(self, names: Sequence[str], lacking: Mapping[str, str]) -> dict[str, Any]:
        """For the record: what a store and a proposal are made of."""
        import numpy as np

        return {
            "key": self.tonight.key,
            "cell": self.tonight.cell,
            "model": self.tonight.model,
            "device": self.candidate.place.device,
            "plans": list(self.tonight.plans),
            "environment": dict(self.tonight.environment),
            "values": {
                name: {
                    "unit": self.quantities[name].unit,
                    "value": float(np.median(self.tonight.values[name])),
                    "processes": self.tonight.values[name].tolist(),
                    **({"p99": self.tonight.tails[name]} if name in self.tonight.tails else {}),
                }
                for name in names
            },
            "missing": dict(lacking),
            "notes": {name: note for name, note in self.tonight.notes.items() if name in names},
            "journal": str(self.journal),
        }


def asked_for(quantity: Quantity, patterns: Iterable[str]) -> bool:
    """Whether one of ``patterns`` is of its name, "gpu, graph", or of that with dashes, "gpu-graph", as in exports."""
    from harness.report.measurement import slug

    names = quantity.name, slug(quantity.name, "-")
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in names)


def measures(item: pytest.Item) -> bool:
    """Whether it is a test of performance."""
    return FIXTURE in getattr(item, "fixturenames", ())


def left_off(items: Iterable[pytest.Item], settings: Settings) -> int:
    """How many of the tests that made no cells did so for want of ``--trt-perf``."""
    return sum(map(measures, items)) if settings.perf == "off" else 0


def quarantine(baselines: Baselines, cell: str) -> str:
    """Who answers for a cell that fails nothing, why and until when; "" where none does, or no longer."""
    today = datetime.date.today()
    for one in baselines.quarantines:
        if fnmatch.fnmatchcase(cell, one.cell) and today <= one.until:
            return f"quarantined by {one.owner} until {one.until}: {one.reason}"
    return ""


def installed(run: Run, mine: Side, library: str) -> Side | str:
    """The side that runs plans of ``library``: this installation, or the one that the settings name for it."""
    from harness.ledger.candidate import library_of

    if library in ("", library_of(run.environments[mine.backend])):
        return mine
    program = dict(run.settings.installation).get(library)
    if program is None:
        return (
            f"its plan is of {mine.backend} {library}: name the interpreter that has it: "
            f"--trt-installation {shlex.quote(f'{library}=PYTHON')}"
        )
    return dataclasses.replace(mine, bench=run.installation(mine.backend, program))


def _more(story: Story, spec: EngineSpec, builds: int) -> Iterator[BuiltPlan]:
    """Other builds of ``spec`` than the cell's own. A plan from elsewhere has no other."""
    from harness.spec.source import PlanFile

    for build in range(1, 1 + builds) if not isinstance(spec.model.source, PlanFile) else ():
        with story.building():
            made = story.run.pool.plan(spec, story.backend, build=build)
        story.built(made)
        yield made


def _once(plans: Sequence[BuiltPlan], quantities: Sequence[Quantity]) -> dict[str, npt.NDArray[np.float64]]:
    """What tonight's builds took. One from the cache was another night's, and is counted there."""
    import numpy as np

    found = {one.name: [plan.took[one.source] for plan in plans if _took(plan, one)] for one in quantities}
    return {name: np.array(seconds) for name, seconds in found.items() if seconds}


def _took(plan: BuiltPlan, quantity: Quantity) -> bool:
    return not plan.cached and bool(plan.took.get(quantity.source))


def _device(run: Run, backend: str) -> int:
    return run.device if backend.startswith("tensorrt") else 0


def _as_fact(ruling: Ruling) -> dict[str, Any]:
    from harness.report.findings import as_fact

    return {
        **as_fact(ruling.finding),
        "question": ruling.question.value,
        "held": ruling.held,
        "fails": ruling.fails,
        "excuse": ruling.excuse,
    }
