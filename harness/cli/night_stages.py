"""What a night does, stage by stage: each leaves what the later ones need of it, and is done once."""

from __future__ import annotations

import importlib.util
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.exits import FAILED, NOTHING, OPEN, PASSED
from harness.cli.night_canaries import NightCanaries, batch_of, leave, stayed
from harness.cli.output import say
from harness.cli.runs import HOME
from harness.errors import SpecError, StoreError, UnsupportedError
from harness.settings import BACKENDS, BEST, Settings

if TYPE_CHECKING:
    from harness.ledger.night_state import NightState
    from harness.ledger.records import Record, Run
    from harness.ledger.unmet import Unmet
    from harness.report.night import Beside, Environments

SUITES = {"correctness": ("numerics", "shapes"), "performance": ("latency", "memory")}
CORRECTNESS = 2 / 3  # of the time that is left: else a night that is short would never measure anything
RECENT = timedelta(days=30)  # so long a change point is told of
ENDED = {  # by pytest's exit status
    2: "what it was to run could not be collected",
    3: "an internal error",
    4: "it refused what it was asked for",
}
REFUSED = 4  # likewise: in the first stage a reason to stop, before anything is done


@dataclass
class Night:
    """``suites`` are what to run in each stage of pytest, ``passed`` options for both of them.

    ``lock`` is inherited by every pytest, which holds it for as long as it runs; ``quiet`` keeps it off standard
    output.
    """

    state: NightState
    settings: Settings
    suites: Mapping[str, Sequence[str]]
    passed: Sequence[str]
    lock: int
    watched: bool = True
    quiet: bool = False

    def run(self) -> tuple[int, dict[str, Any]]:
        """All stages that are left; the exit code, and what is to be told.

        UnsupportedError for want of a backend, SpecError where pytest does not understand its options, or where what
        it is to run is not there, or baselines can't be read: that is known before anything is run.
        """
        from harness.report.measurement import perf_of

        self._require_suites()
        self._require_baselines()
        stage = self.state.stage
        backend = stage("environment", self._environment)["runs"]
        canaries = NightCanaries(self.settings, backend, self.state.folder / "canaries")
        stage("correctness", lambda: self._pytest("correctness", "-n", "auto"))
        gate = ["--trt-perf", "gate"]
        if self.watched:
            spent = "the time for the night was over" if self._left == 0 else ""
            before = stage("canaries before", lambda: {"why": spent} if spent else canaries.measured(after=False))
            gate += [f"--trt-canaries={leave(before, self.state.folder)}"]
        stage("performance", lambda: self._pytest("performance", *gate, last=("-n", "0")))
        if self.watched:
            idle = "" if any(map(perf_of, self._records)) else "no cell was measured between them"
            stage("canaries after", lambda: {"why": idle} if idle else canaries.measured(after=True))
        stage("store", self._store)
        stage("change points", self._changes)
        stage("exports", self._exports)
        told = stage("summary", self._summary)
        self.state.end(told["code"])
        return told["code"], told

    # Stages --------------------------------------------------------------------------------------

    def _environment(self) -> dict[str, Any]:
        from harness.runtime.workbench import Workbench

        asked = self.settings.backend
        names = list(dict.fromkeys(name for one in asked for name in (BACKENDS if one == BEST else (one,))))
        with Workbench(self.settings) as bench:
            probes = {name: bench.probe(name) for name in names}
        for name, probe in probes.items():
            able = ", ".join(what for what in ("build", "run") if probe.has(what))
            say(f"{name} {probe.version}: can {able}" if able else f"{name}: is not there")
        for name in asked if asked != BACKENDS else ():
            if name != BEST and not (probes[name].has("build") or probes[name].has("run")):
                probes[name].require(("build",))
        runs = next((name for name in names if probes[name].has("run")), None)
        if runs is None:
            raise UnsupportedError("run", f"none of {', '.join(names)} can run a model here", "trt-harness doctor")
        return {"runs": runs, "versions": {name: probe.version for name, probe in probes.items()}}

    def _pytest(self, stage: str, *options: str, last: Sequence[str] = ()) -> dict[str, Any]:
        """One run of pytest; what earlier processes recorded of it is not run again. SpecError where it refuses."""
        from harness.ledger import commit

        folder = self._folder(stage)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / commit.FILE).exists():
            commit.note(folder, Path())
        command = [sys.executable, "-m", "pytest", *self._suites(stage), *options]
        command += [f"--trt-output={folder.parent}", f"--trt-run={folder.name}", *self._budget(stage)]
        command += [*self.passed, *last]
        say(f"{stage}: {shlex.join(command[1:])}")
        # A session of its own: ^C reaches it through us, once.
        process = subprocess.Popen(
            command, stdout=2 if self.quiet else None, pass_fds=(self.lock,), start_new_session=True
        )
        try:
            status = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        if status == REFUSED and stage == next(iter(SUITES)):
            raise SpecError(
                f"{stage}: pytest refused what it was asked for, as it says above: {shlex.join(command[1:])}"
            )
        return {"status": status}

    def _store(self) -> dict[str, Any]:
        from harness.ledger import batch
        from harness.ledger.commit import noted
        from harness.ledger.ingest import ingest
        from harness.ledger.store import shown, store_in

        faults: list[str] = []
        new = 0
        try:
            with store_in(HOME, self.settings.store) as store:
                name = store.name
                for stage in SUITES:
                    folder = self._folder(stage)
                    if folder.is_dir():
                        told = ingest(store, folder)
                        new += told.new
                        faults += told.problems
                folder = self._folder("performance")
                session = batch.Session(folder.name, self._began("performance"), noted(folder))
                canaries = [self.state.stages[one] for one in ("canaries before", "canaries after") if self.watched]
                new += batch.write(store, batch_of(session, *canaries))
        except StoreError as error:
            runs = [str(self._folder(stage)) for stage in SUITES]
            named = [] if self.settings.store is None else ["--store", shown(self.settings.store)]
            return {"faults": [f"not stored: {error}: trt-harness store ingest {shlex.join([*runs, *named])}"]}
        return {"store": name, "new": new, "faults": faults}

    def _changes(self) -> dict[str, Any]:
        """Alerts on the series of cells that were measured tonight, and what became of their change points."""
        from harness.ledger.change_states import kept, summed
        from harness.ledger.series import alerts_of, note
        from harness.ledger.store import store_in
        from harness.report.measurement import perf_of

        if "store" not in self.state.stages["store"]:
            return {"alerts": []}
        measured = {perf["key"] for record in self._records if (perf := perf_of(record))}
        since = datetime.fromtimestamp(self.state.started, timezone.utc) - RECENT
        with store_in(HOME, self.settings.store, create=False) as store:
            found = alerts_of(store, measured, since)
            note(store, found)
            return {"alerts": summed(found, kept(store, measured))}

    def _exports(self) -> dict[str, Any]:
        from harness.ledger.commit import noted
        from harness.report.exports import write
        from harness.report.measurement import measurements

        measured = measurements(self._records, noted(self._folder("performance")))
        return {"files": write(measured, self.state.folder / "exports") if measured else []}

    def _summary(self) -> dict[str, Any]:
        from harness.measure.finding import Said
        from harness.report.night import Beside, Standing, summary

        stages = self.state.stages
        host = stayed(stages["canaries before"], stages["canaries after"]) if self.watched else None
        faults = [*self._ended(), *stages["store"]["faults"]]
        moved = host is not None and host.said is Said.HOST_CHANGED
        quarantines, unmet = self._left_undone()
        beside = Beside(
            f"Night {self.state.id}",
            [f"{host.said.value}: {host.words}"] if host else [],
            self._before(),
            host_changed=moved,
            faults=faults,
            changes=stages["change points"]["alerts"],
            quarantines=quarantines,
            unmet=unmet,
        )
        file = self.state.folder / "summary.md"
        file.write_text(summary(self._runs, beside), encoding="utf-8")
        standing = Standing.of(self._records)
        code = PASSED
        if faults or standing.failed:
            code = FAILED
        elif standing.covered == 0:
            code = NOTHING
        elif standing.open or moved or any(one.within for one in beside.unmet):
            code = OPEN
        return {"code": code, **self._document(beside), "summary": str(file)}

    # Within --------------------------------------------------------------------------------------

    def _document(self, beside: Beside) -> dict[str, Any]:
        from collections import Counter

        from harness.ledger.records import NOT_RUN

        return {
            "night": self.state.id,
            "folder": str(self.state.folder),
            "verdicts": Counter(record.verdict for record in self._records),
            "not_run": sum(record.message == NOT_RUN for record in self._records),
            "canaries": list(beside.canaries),
            "changes": list(beside.changes),
            "faults": list(beside.faults),
            "quarantines": list(beside.quarantines),
            "unmet": [asdict(one) for one in beside.unmet],
            "exports": self.state.stages["exports"]["files"],
            "took": {name: left["seconds"] for name, left in self.state.stages.items()},
        }

    def _suites(self, stage: str) -> list[str]:
        """What was asked for; else the suites that lie here, or those that are installed."""
        if self.suites[stage]:
            return list(self.suites[stage])
        here = [str(Path("suites", name)) for name in SUITES[stage]]
        if all(Path(one).is_dir() for one in here):
            return here
        return ["--pyargs", *(f"suites.{name}" for name in SUITES[stage])]

    def _require_suites(self) -> None:
        """SpecError where one of the suites that are left to run is neither a path nor a package."""
        missing: dict[str, list[str]] = {}
        for stage in SUITES:
            for one in self.suites[stage] if stage not in self.state.stages else ():
                if why := _why_not(one):
                    missing.setdefault(why, []).append(f"--{stage} {one}")
        if missing:
            said = "; ".join(f"{', '.join(asked)}: {why}" for why, asked in missing.items())
            raise SpecError(f"{said}: nothing was run")

    def _require_baselines(self) -> None:
        """SpecError where they can't be read; where there are none, whoever misspelt their file is told."""
        from harness.ledger.baseline_file import FILE, read

        file = self.settings.baselines or Path(FILE)
        read(file)
        if not file.exists():
            say(f"{file}: there are no baselines yet: what is measured is held against nothing")

    @property
    def _left(self) -> float | None:
        """Seconds of the budget; None without one."""
        return None if self.settings.budget is None else max(self.settings.budget - self.state.spent, 0.0)

    def _budget(self, stage: str) -> list[str]:
        """What is left; correctness leaves performance its part of that."""
        if self._left is None:
            return []
        return [f"--trt-budget={self._left * (CORRECTNESS if stage == next(iter(SUITES)) else 1):.1f}"]

    def _folder(self, stage: str) -> Path:
        return (self.state.folder / "runs" / f"{self.state.id}-{stage}").absolute()

    def _began(self, stage: str) -> float:
        name = self._folder(stage).name
        return min((r.started for r in self._records if r.run == name and r.started > 0), default=self.state.started)

    @cached_property
    def _runs(self) -> list[Run]:
        from harness.ledger.records import read_run

        return [read_run(self._folder(stage)) for stage in SUITES]

    @cached_property
    def _records(self) -> tuple[Record, ...]:
        from harness.ledger.records import latest

        return latest(self._runs)

    def _ended(self) -> list[str]:
        """What went wrong with a pytest beside the cells that it recorded."""
        from harness.report.night import FAILING

        faults = []
        for stage, run in zip(SUITES, self._runs, strict=True):
            status = self.state.stages[stage]["status"]
            if status == 1 and not any(record.verdict in FAILING for record in run.records):
                faults.append(f"{stage}: pytest failed, and no cell did: its output says why")
            elif status not in (0, 1, 5):
                words = f"killed by signal {-status}" if status < 0 else ENDED.get(status, "")
                faults.append(f"{stage}: pytest ended with exit status {status}: {words}".removesuffix(": "))
        return faults

    def _left_undone(self) -> tuple[list[str], list[Unmet]]:
        """Quarantines that excused nothing when performance last came to its end, and baselines that nothing met."""
        from harness.ledger import ended
        from harness.ledger.unmet import Unmet

        ends = ended.noted(self._folder("performance"))
        return (ended.idle(ends[-1].quarantines), [Unmet(**one) for one in ends[-1].unmet]) if ends else ([], [])

    def _before(self) -> Environments | None:
        """The environments of the night before in the store; None where there is none."""
        from harness.ledger import history
        from harness.ledger.store import store_in
        from harness.report.night import environments

        if "store" not in self.state.stages["store"]:
            return None
        with store_in(HOME, self.settings.store, create=False) as store:
            sessions = history.sessions(store)
            before = [name for name, at, _ in sessions if at < self.state.started and _night_of(name) != name]
            names = [name for name in before if _night_of(name) != self.state.id]
            if not names:
                return None
            night = _night_of(names[-1])
            return environments(r for name in names if _night_of(name) == night for r in history.records(store, name))


def _why_not(asked: str) -> str:
    """Why pytest could not find what it is asked for, as far as its path goes: ``path::test``, or a package's name.

    "" where it could. Which tests there are in it, and whether it takes packages, pytest alone knows; of its own
    notation, as options and ``@file``, nothing is said.
    """
    named = asked.partition("[")[0].partition("::")[0]
    if named.startswith(("-", "@")) or Path(named).exists():
        return ""
    inside = Path(*named.split("."))  # of a package in the current folder
    if inside.is_dir() or inside.with_suffix(".py").is_file():
        return ""
    try:
        found = importlib.util.find_spec(named)
    except (ImportError, ValueError):
        found = None
    except Exception as error:  # of a package that this is in, which is imported on the way
        return f"its package can't be imported: {type(error).__name__}: {error}"
    return "" if found else "no such file or folder here, and no package"


def _night_of(session: str) -> str:
    for stage in SUITES:
        session = session.removesuffix(f"-{stage}")
    return session
