"""What ``bench`` and ``compare`` leave in their folder for a store: sessions of the same series as a night's.

The journal there (`harness.measure.journal`) gets two kinds of lines more. Before a side is measured, what it is::

    {"kind": "cell", "subject": "bert", "side": "A", "key": "5f...", "cell": "bert-fp16-opt-tensorrt on NVIDIA H200",
     "model": "3d...", "environment": {...}}

and where the command comes to its end, what it said::

    {"kind": "end", "session": "compare-20260131-142501-9f3a", "command": "...", "began": 1769869501.2, "ended": ...,
     "commit": "", "said": {"code": 0, "findings": [...]}}

Each end is a session, of the processes that were measured since the end before: whoever goes on with more processes in
the same folder makes another session, and changes none. Of a comparison it is B's; A is held in one beside it, called
``.../A``, since both may be of one cell. What a night does not do (a cold cache, several streams, a build for each
process) makes cells of their own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.ledger import journals
from harness.ledger.batch import Batch, Measurement, Series, Session
from harness.ledger.candidate import Place, key_of
from harness.ledger.journals import Line
from harness.ledger.nights import BESIDE, BY_HAND, spread_of
from harness.ledger.proposals import HOW, MODEL
from harness.ledger.raw import Samples
from harness.ledger.records import new_run_id
from harness.ledger.series import is_canary
from harness.measure.finding import BAD, Said
from harness.measure.journal import END, FILE, Journal
from harness.measure.process import STREAMS, Process
from harness.measure.quantity import BUILD, DEVICE_MEMORY, PARSE, PLAN_SIZE, QUANTITIES, Quantity, by_profile, covered
from harness.measure.side import Side
from harness.runtime.fingerprint import environment
from harness.runtime.sampling import Sampling
from harness.spec.canonical import canonical_json, digest
from harness.spec.cell import Cell

CELL = "cell"
_OF_A_PROCESS = ("kind", "subject", "number", "side", "build")  # beside what it measured

Array = npt.NDArray[np.float64]


# Writing -------------------------------------------------------------------------------------------------


def how_of(ways: Mapping[str, Sampling], *, rebuilt: bool) -> str:
    """What a night does not do, in words; "" where there is nothing."""
    told = ["cold"] if any(way.cold for way in ways.values()) else []
    told += [f"{ways[STREAMS].streams} streams"] if STREAMS in ways else []
    return ", ".join([*told, *(["rebuilt"] if rebuilt else [])])


def told_of(side: Side, name: str, how: str = "") -> dict[str, Any]:
    """The cell of a side of the model ``name``: "key", "cell", "model", "environment".

    The key is that of a night's cell; ``how`` makes it another one.
    """
    place = Place.here(environment(side.bench.probe(side.backend)), side.spec.config)
    key = key_of(side, place)
    parts = Cell("", name, side.recipe.name, "", side.point, side.backend)
    return {
        "key": digest({"cell": key, HOW: how}) if how else key,
        "cell": f"{parts.params}{', ' * bool(how)}{how} on {place.device}",
        "model": side.spec.model.source.digest(),
        "environment": {**place.environment, **({HOW: how} if how else {})},
    }


def note_cell(journal: Journal, subject: str, side: Side, how: str = "") -> None:
    """What ``side`` of ``subject`` is, in ``journal``. A canary is the same, however the rest is measured."""
    told = told_of(side, side.spec.model.id, "" if is_canary(subject) else how)
    journal.note(CELL, subject=subject, side=side.name, **told)


@dataclass(frozen=True)
class Command:
    """One that measures: as it was typed, since ``began`` (seconds since 1970), on a ``commit``."""

    name: str
    typed: str
    commit: str
    began: float = field(default_factory=time.time)

    def end(self, journal: Journal, code: int, findings: Sequence[Mapping[str, Any]]) -> None:
        """Its exit code and what it said, in ``journal``: ``findings`` as `harness.report.findings.as_fact` has them.

        Where nothing was measured since the end before, and nothing else was said, nothing is noted.
        """
        journal.end(
            {"code": code, "findings": list(findings)},
            session=f"{self.name}-{new_run_id()}",
            command=self.typed,
            commit=self.commit,
            began=self.began,
            ended=time.time(),
        )


# Reading -------------------------------------------------------------------------------------------------


def is_measured(folder: Path) -> bool:
    """Whether ``folder`` is of a command that measures, and not of a run."""
    return (folder / FILE).is_file()


def plans_in(folder: Path) -> Iterator[Path]:
    """The plans that were built in ``folder``."""
    yield from sorted(folder.glob("plans/*.plan"))


@dataclass
class Ended:
    """A session of ``folder``, complete: ``batch`` is what a store keeps of it."""

    session: Session
    batch: Batch
    problems: list[str]


def sessions(folder: Path, commit: str, samples: Samples | None) -> tuple[list[Ended], list[str]]:
    """Of the journal in ``folder``, the first first, and what can't be read of it.

    ``commit`` is that of all, where it is not "". Samples are put where they are kept.
    """
    lines, problems = journals.read(folder / FILE)
    cells: dict[tuple[str, str], Line] = {}
    plans: dict[tuple[str, str, int], str] = {}
    processes: list[Line] = []
    found: list[Ended] = []
    for line in lines:
        if line["kind"] == CELL:
            cells[line["subject"], line["side"]] = line
        elif line["kind"] == "build":
            plans[line["subject"], line["side"], line["number"]] = line.get("plan", "")
        elif line["kind"] == "process":
            processes.append(line)
        elif line["kind"] == END:
            found.append(_Reader(folder, cells, plans, samples).ended(line, processes, commit))
            processes = []
    if processes or not found:
        problems.append(
            f"{folder}: {len(processes)} processes of a command that did not come to its end: not stored: "
            f"repeat it with --output {folder}, and it goes on"
        )
    return found, problems


@dataclass(frozen=True)
class _Reader:
    folder: Path
    cells: Mapping[tuple[str, str], Line]
    plans: Mapping[tuple[str, str, int], str]
    samples: Samples | None

    def ended(self, line: Line, processes: Sequence[Line], commit: str) -> Ended:
        began = min([line["began"], *(one["bracket"]["before"]["at"] or line["began"] for one in processes)])
        main = Session(line["session"], began, commit or line["commit"])
        beside = Session(f"{main.name}{BESIDE}", began, main.commit)
        batch, problems = Batch(sessions=[main]), []
        by_side: dict[tuple[str, str], list[Line]] = {}
        for one in processes:
            by_side.setdefault((one["subject"], one["side"]), []).append(one)
        for (subject, side), measured in by_side.items():
            cell = self.cells.get((subject, side))
            if cell is None:
                problems.append(f"{self.folder}: {subject}: {side}: nothing says which cell it is: not stored")
                continue
            into = [beside if side == "A" else main]
            if is_canary(subject):
                into = [main] if all(name != "A" for _, name in by_side) else [main, beside]
            for session in into:
                self._measured(batch, session, cell, measured)
        facts = {name: line[name] for name in ("command", "began", "ended")}
        counts = canonical_json(counted(line["said"]["findings"]))
        batch.runs.append((main, {**facts, "code": line["said"]["code"], "counts": counts}))
        batch.comparisons += self._comparisons(main, line["said"]["findings"])
        return Ended(main, batch, problems)

    def _measured(self, batch: Batch, session: Session, cell: Line, processes: Sequence[Line]) -> None:
        key = cell["key"]
        facts = {**cell["environment"], **({MODEL: cell["model"]} if cell.get("model") else {})}
        builds = dict.fromkeys(self.plans.get((one["subject"], one["side"], one["build"]), "") for one in processes)
        artifact = journals.artifact(batch, session, processes, self.samples)
        for quantity, values in _values(processes, canary=is_canary(cell["subject"])):
            batch.measurements.append(
                Measurement(
                    Series(key, cell["cell"], quantity.name, quantity.unit),
                    session,
                    float(np.median(values)),
                    spread_of(values),
                    int(values.size),
                    facts,
                    tuple(plan for plan in builds if plan),
                    artifact=artifact,
                )
            )
        batch.telemetry += [(session, row) for row in journals.readings(key, processes)]

    def _comparisons(self, session: Session, findings: Iterable[Line]) -> Iterator[tuple[Session, Series, Line]]:
        for one in findings:
            cell = self.cells.get((one["subject"], "B"))
            if cell is None or not one["cost"]:
                continue
            row = {
                "question": BY_HAND,
                "outcome": one["said"],
                "fails": one["said"] in {said.value for said in BAD},
                **{name: one["cost"].get(name) for name in ("estimate", "low", "high", "visible")},
                "p": one.get("p"),
                "words": one["words"],
            }
            yield session, Series(cell["key"], cell["cell"], one["metric"], one["unit"]), row


def _values(processes: Sequence[Line], *, canary: bool) -> Iterator[tuple[Quantity, Array]]:
    """What ``processes`` of one side all have; of a canary the one that tells whether it moved.

    What only a build tells counts once a build. A value of 0 is none: a ratio to it has no meaning.
    """
    made = [Process.from_json({k: v for k, v in one.items() if k not in _OF_A_PROCESS}) for one in processes]
    firsts = {one["build"]: process for one, process in reversed(list(zip(processes, made, strict=True)))}
    wanted = (*QUANTITIES, *by_profile(made), PLAN_SIZE, DEVICE_MEMORY, PARSE, BUILD)
    if canary:
        wanted = next(((one,) for one in QUANTITIES if one.way and one.of(made[0]) is not None), ())
    for quantity in covered(wanted, made)[0]:
        of = firsts.values() if quantity in (PARSE, BUILD) else made
        values = np.array([quantity.of(one) for one in of], np.float64)
        if np.isfinite(values).all() and (values > 0).all():
            yield quantity, values


def counted(findings: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How often each was said, the worst first."""
    found = Counter(one["said"] for one in findings)
    return {said.value: found[said.value] for said in Said if found[said.value]}
