"""The canaries of a night: measured before its performance and after it, and kept in the store as series."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.output import say
from harness.cli.runs import HOME
from harness.errors import SpecError, StageError, UnsupportedError
from harness.settings import Settings

if TYPE_CHECKING:
    from harness.ledger.batch import Batch, Session
    from harness.ledger.candidate import Place
    from harness.measure.finding import Finding
    from harness.measure.runner import Runner
    from harness.measure.side import Side
    from harness.runtime.workbench import Workbench
    from harness.spec.engine import EngineSpec

Told = Mapping[str, Any]
FILE = "canaries.json"  # in the night's folder


@dataclass(frozen=True)
class NightCanaries:
    """Measured in ``folder``, whose journal is gone on with, on the device of ``backend``.

    Their plans are kept like those of cells, so that a baseline of theirs can be accepted.
    """

    settings: Settings
    backend: str
    folder: Path

    def measured(self, *, after: bool) -> dict[str, Any]:
        """Medians of processes in seconds, by canary, with what a store is told of each; or "why" there are none."""
        import numpy as np

        from harness.measure.journal import Journal
        from harness.measure.process import GRAPH, PLAIN
        from harness.measure.quantity import quantities
        from harness.measure.runner import Runner, SideFailed
        from harness.measure.side import Side
        from harness.measure.watch import PROCESSES, Watch
        from harness.runtime.sampling import Sampling
        from harness.runtime.workbench import Workbench

        plain = Sampling.brief(self.settings.perf_seconds)
        ways = {GRAPH: replace(plain, graph=True), PLAIN: plain}
        wanted = quantities(tuple(ways), 0.02)
        with contextlib.ExitStack() as opened:
            bench = opened.enter_context(Workbench(self.settings, apart=not self.settings.in_process))
            side = Side("X", self._first, self.backend, bench, seed=self.settings.seed)
            request = {"command": "nightly", "canaries": dict(side.request), "ways": ways}
            journal = opened.enter_context(contextlib.closing(Journal(self.folder, request)))

            def runner(name: str, of: Side) -> Runner:
                of.plans = (self._plan(of, place),)
                return Runner(name, [of], ways, journal, False, say, 2 * PROCESSES)

            place = self._place(bench)
            try:
                watch = opened.enter_context(contextlib.closing(Watch.of(side, runner, wanted)))
                found = {name: np.asarray(many, np.float64) for name, many in watch.measured(after=after).items()}
                return {
                    "medians": {name: many.tolist() for name, many in found.items()},
                    "metric": watch.leading(watch.runners[0]).name,
                    "environment": dict(place.environment),
                    "series": {one.name: _series(one, place) for one in watch.runners},
                }
            except (SideFailed, StageError, UnsupportedError) as failed:
                return {"why": str(failed).partition("\n")[0]}

    @property
    def _first(self) -> EngineSpec:
        from harness.measure.canary_models import canaries
        from harness.spec.engine import EngineSpec
        from harness.spec.precision import recipe

        kind = "gpu" if self.backend.startswith("tensorrt") else "cpu"
        return EngineSpec.of(canaries(kind)[0], recipe("fp32"))

    def _plan(self, side: Side, place: Place) -> Path:
        """The plan of its accepted baseline, where tonight's library made it, too; else the cache's. It is kept.

        Were it built anew each night, a move might be the builder's. StageError and UnsupportedError.
        """
        from harness.ledger.baseline_file import FILE as BASELINES
        from harness.ledger.baseline_file import read
        from harness.ledger.candidate import key_of
        from harness.ledger.kept import Kept

        kept = Kept(self.settings.kept or HOME / "plans")
        with contextlib.suppress(SpecError, OSError):  # a file that can't be read fails each cell, and says so there
            held = read(self.settings.baselines or Path(BASELINES)).active.get(key_of(side, place))
            if held is not None and held.environment.get("library") == place.environment.get("library"):
                path = kept.path(held.plans[0])
                kept.used(held.plans)
                return path
        name = kept.put(side.bench.pool.plan(side.spec, side.backend).data)
        side.rest()
        return kept.path(name)

    def _place(self, bench: Workbench) -> Place:
        from harness.ledger.candidate import Place
        from harness.runtime.fingerprint import environment

        return Place.here(environment(bench.probe(self.backend)))


def stayed(before: Told, after: Told) -> Finding:
    """Whether the host is the one that it was, as far as both could be measured."""
    from harness.measure.finding import Finding, Said
    from harness.measure.watch import CANARIES
    from harness.measure.watch import stayed as found

    why = before.get("why") or after.get("why")
    if why:
        return Finding("", CANARIES, Said.NOT_COVERED, f"not measured: {why}")
    return found(before["medians"], after["medians"])


def leave(told: Told, folder: Path) -> Path:
    """The file for the gate of the night in ``folder``; what could not be measured is not in it."""
    from harness.ledger.host import Canary, write

    series = told.get("series", {})
    file = folder / FILE
    write(
        file, [Canary(name, one["key"], told["metric"], tuple(told["medians"][name])) for name, one in series.items()]
    )
    return file


def batch_of(session: Session, *told: Told) -> Batch:
    """What a store keeps of canaries that were measured in ``session``."""
    import numpy as np

    from harness.ledger.batch import Batch, Measurement, Series
    from harness.ledger.nights import spread_of

    known = [one for one in told if "medians" in one]
    batch = Batch(sessions=[session])
    for name, facts in (known[0]["series"] if known else {}).items():
        values = np.array([value for one in known for value in one["medians"][name]], np.float64)
        series = Series(facts["key"], facts["cell"], known[0]["metric"], "s")
        batch.measurements.append(
            Measurement(
                series,
                session,
                float(np.median(values)),
                spread_of(values),
                int(values.size),
                known[0]["environment"],
                (facts["plan"],),
            )
        )
    return batch


def _series(runner: Runner, place: Place) -> dict[str, str]:
    from harness.ledger.candidate import key_of

    (side,) = runner.sides
    (plan,) = side.plans
    cell = f"{runner.name}-{side.recipe.name}-{side.point}-{side.backend} on {place.device}"
    return {
        "key": key_of(side, place),
        "cell": cell,
        "plan": hashlib.sha256(plan.read_bytes()).hexdigest(),
    }
