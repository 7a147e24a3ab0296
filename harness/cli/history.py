"""``history``: what a cell took through all sessions of a store: drawn, with epochs, baseline and change points."""

from __future__ import annotations

import dataclasses
import fnmatch
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.exits import NOTHING, PASSED
from harness.cli.output import leave, say
from harness.cli.runs import HOME

if TYPE_CHECKING:
    from harness.ledger.baselines import Known
    from harness.ledger.change_states import Change
    from harness.ledger.history import Told
    from harness.ledger.series import Course
    from harness.measure.history import ChangePoint, History

WIDTH = 100  # characters of the drawing, where nobody's terminal is narrower


def history(
    cell: Annotated[str, typer.Argument(metavar="CELL", help="a cell, by name or pattern: 'bert-fp16*'")],
    metric: Annotated[
        str, typer.Option("--metric", metavar="NAME", help="a metric, by name or pattern (default: those that decide)")
    ] = "",
    store: options.Store = None,
    baselines: options.Baselines = None,
    json: options.Json = False,
) -> None:
    """Draw what a cell took, session after session, with its epochs, its baseline and where its level changed.

    A change point is a proposal: the next nights' fresh comparison decides. Exits with 3 where there is no such series.
    """
    from harness.ledger import history as stored
    from harness.ledger.baseline_file import FILE, read
    from harness.ledger.change_states import kept
    from harness.ledger.series import courses, histories
    from harness.ledger.store import store_in
    from harness.measure.quantity import every
    from harness.report.history import history_lines

    settings = options.settings(store=store, baselines=baselines)
    held = read(settings.baselines or Path(FILE)).active
    deciding = {name for name, one in every().items() if one.decides}
    series: list[dict[str, Any]] = []
    told: dict[str, list[Told]] = {}  # by session
    with store_in(HOME, settings.store, create=False) as opened:
        of_cell = [line for line in stored.lines(opened) if fnmatch.fnmatchcase(line.cell, cell)]
        wanted = [
            line
            for line in of_cell
            if (fnmatch.fnmatchcase(line.metric, metric) if metric else line.metric in deciding)
        ]
        found = courses(opened, wanted)
        changes = kept(opened, {line.cell_key for line in wanted})
        for course, made in zip(found, histories(found), strict=True):
            baseline = held.get(course.line.cell_key)
            known = baseline.metrics.get(course.line.metric) if baseline else None
            last = course.nights[-1].session if course.nights else ""
            if last not in told:
                told[last] = stored.verdicts(opened, last)
            said = _said(told[last], course)
            standings, others = _standings([one for one in changes if one.line.key == course.line.key], made)
            if not json:
                typer.echo("\n" * bool(series), nl=False)
                for line in history_lines(
                    made,
                    course.title,
                    unit=course.line.unit,
                    baseline=_level(known),
                    verdict=said,
                    standings=standings,
                    others=others,
                    width=min(shutil.get_terminal_size((WIDTH, 24)).columns, WIDTH),
                ):
                    typer.echo(line)
            series.append(_document(course, made, _level(known), said, standings, others))
        if not found:
            there = sorted({line.metric for line in of_cell} or {line.cell for line in stored.lines(opened)})
            asked = f"{cell!r}, {metric!r}" if metric else repr(cell)
            say(f"{opened.name}: no series of {asked}: there are {', '.join(there[:20]) or 'none at all'}")
    leave(PASSED if series else NOTHING, {"series": series}, as_json=json)


def _level(known: Known | None) -> float | None:
    """What tonight is held against."""
    return None if known is None or min(known.values) <= 0 else known.level


def _said(told: Sequence[Told], course: Course) -> str:
    """Of the last night; "" where nothing was."""
    mine = [one for one in told if (one.cell, one.metric) == (course.line.cell, course.line.metric)]
    return "; ".join(f"{one.outcome.replace('_', ' ')}: {one.words}" for one in mine)


def _standings(kept: Sequence[Change], made: History) -> tuple[dict[int, str], list[str]]:
    """Of each proposal for the worse, by its index, whether it is decided; and what a night kept that is not in it."""
    from harness.ledger.change_states import State, matching

    standings, met = {}, set()
    for one in made.proposals:
        if one.estimate > 0:
            found = matching(kept, one.bad.at)
            met.add(found)
            standings[one.index] = found.standing if found else "no night has kept it"
    return standings, [f"{one}: {one.standing}" for one in kept if one not in met and one.state is not State.CLEARED]


def _document(
    course: Course,
    made: History,
    baseline: float | None,
    said: str,
    standings: Mapping[int, str],
    others: Sequence[str],
) -> dict[str, Any]:
    return {
        "cell": course.line.cell,
        "metric": course.line.metric,
        "unit": course.line.unit,
        "machine": course.machine,
        "baseline": baseline,
        "said": said,
        "nights": [{**dataclasses.asdict(night), "at": night.at.isoformat()} for night in made.nights],
        "epochs": [
            {"start": one.start, "stop": one.stop, "moved": [str(moved) for moved in one.moved]} for one in made.epochs
        ],
        "changes": [{**_change(one, made), "standing": standings.get(one.index, "")} for one in made.changes],
        "kept": list(others),
    }


def _change(change: ChangePoint, made: History) -> dict[str, Any]:
    numbers = ("index", "estimate", "low", "high", "p", "before", "after", "nights")
    return {
        **{name: getattr(change, name) for name in numbers},
        "cause": change.cause.value,
        "commits": change.commits,
        "words": change.proposal(made.metric),
    }
