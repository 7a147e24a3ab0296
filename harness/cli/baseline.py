"""``baseline``: what cells are held against: proposed from sessions, accepted or rejected by somebody, pinned."""

from __future__ import annotations

import contextlib
import datetime
import fnmatch
import getpass
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import options
from harness.cli.exits import NOTHING, OPEN, PASSED
from harness.cli.output import leave, print_table, say
from harness.cli.runs import HOME
from harness.errors import SpecError

if TYPE_CHECKING:
    from harness.ledger.baselines import Baseline, Baselines
    from harness.ledger.decisions import Event, Filed
    from harness.ledger.kept import Kept
    from harness.ledger.store import Store
    from harness.settings import Settings

app = typer.Typer(help="What cells are held against: propose, accept, reject, list, show, pin.", no_args_is_help=True)

Cells = Annotated[list[str] | None, typer.Argument(help="cells, by name or pattern (default: all)", metavar="CELL")]
Named = Annotated[list[str], typer.Argument(help="cells, by name or pattern", metavar="CELL")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="why, for whoever asks later")]
Actor = Annotated[
    str | None, typer.Option("--actor", metavar="NAME", help="who (default: the user)", envvar="TRT_HARNESS_ACTOR")
]


@app.command("propose")
def propose(
    cells: Cells = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="where difference and evidence go, for a review")
    ] = None,
    actor: Actor = None,
    store: options.Store = None,
    baselines: options.Baselines = None,
    json: options.Json = False,
) -> None:
    """Propose the latest sessions of each cell as its baseline. Nothing changes until somebody accepts that.

    Exits with 3 where there is nothing to propose.
    """
    from harness.ledger import decisions, history
    from harness.ledger.baselines import State
    from harness.ledger.proposals import Proposal, difference, proposed
    from harness.measure.quantity import every

    settings = options.settings(store=store, baselines=baselines)
    file, held = _held(settings)
    made: list[Proposal] = []
    refused: dict[str, str] = {}
    there: set[str] = set()
    with _store(settings) as opened:
        name, rejected = opened.name, decisions.rejected(opened)
        for one in history.histories(opened).values():
            there.add(one.cell)
            if not _meant(one.cell, cells):
                continue
            found = proposed(one.key, one.cell, one.seen, held, every(), rejected.get(one.key, ()))
            if not isinstance(found, Proposal):
                refused[one.cell] = found
                continue
            state = decisions.propose(opened, found, _actor(actor), _now())
            if state is State.PROPOSED:
                made.append(found)
            else:
                refused[one.cell] = f"a baseline of these sessions is {state.value}"
    if not made and not refused:
        _nothing(f"{name}: no cell was measured", cells, there)
    evidence = "\n".join(one.markdown for one in made)
    diff = difference(held, made, file.name)
    if output is not None and made:
        output.mkdir(parents=True, exist_ok=True)
        (output / "evidence.md").write_text(evidence, encoding="utf-8")
        (output / f"{file.name}.diff").write_text(diff, encoding="utf-8")
    if not json:
        for cell, why in sorted(refused.items()):
            say(f"{cell}: {why}")
        typer.echo(evidence)
        where = f"; difference and evidence in {output}" if output and made else ""
        typer.echo(f"{len(made)} proposed{where}")
    document = {
        "proposed": [{"cell": one.baseline.cell, "loosens": one.loosens} for one in made],
        "refused": refused,
        "difference": diff,
    }
    leave(PASSED if made else NOTHING, document, as_json=json)


@app.command("accept")
def accept(
    cells: Named,
    reason: Reason,
    actor: Actor = None,
    loosen: Annotated[
        bool, typer.Option("--loosen", help="accept those, too, that allow more than the baseline before")
    ] = False,
    store: options.Store = None,
    baselines: options.Baselines = None,
    kept: options.Kept = None,
    json: options.Json = False,
) -> None:
    """Accept what is proposed: it is written to the file of baselines, which belongs into the repository.

    Exits with 4 where some of it was left as it was, with 3 where all was.
    """
    from harness.ledger import decisions
    from harness.ledger.proposals import Proposal
    from harness.measure.quantity import every

    settings = options.settings(store=store, baselines=baselines, kept=kept)
    done: list[str] = []
    left: dict[str, str] = {}
    with changing(settings) as change, _store(settings) as opened:
        for one in _latest(opened, cells):
            lacking = _lacking(one.baseline, _kept(settings))
            before = change.held.active.get(one.baseline.key)
            if Proposal.of(one.baseline, before, every()).loosens and not loosen:
                left[one.baseline.cell] = "it allows more than the baseline before: --loosen"
            elif lacking:
                left[one.baseline.cell] = lacking
            else:
                decisions.accept(opened, one, reason, _actor(actor), _now(), kept=change.accept)
                done.append(one.baseline.cell)
        if not done and not left:
            _nothing(f"{opened.name}: nothing is proposed", cells, _open(opened))
    file = change.file
    _say(done, left, f"accepted, in {file}")
    code = (OPEN if left else PASSED) if done else NOTHING
    leave(code, {"accepted": done, "left": left, "file": str(file)}, as_json=json)


@app.command("reject")
def reject(
    cells: Named, reason: Reason, actor: Actor = None, store: options.Store = None, json: options.Json = False
) -> None:
    """Reject what is proposed. Its sessions are not proposed again, nor with others."""
    from harness.ledger import decisions

    done = []
    with _store(options.settings(store=store)) as opened:
        for one in _latest(opened, cells):
            decisions.reject(opened, one, reason, _actor(actor), _now())
            done.append(one.baseline.cell)
        if not done:
            _nothing(f"{opened.name}: nothing is proposed", cells, _open(opened))
    _say(done, {}, "rejected")
    leave(PASSED if done else NOTHING, {"rejected": done}, as_json=json)


@app.command("pin")
def pin(
    cells: Named,
    release: Annotated[str, typer.Option("--release", metavar="NAME", help="what drift is counted from, as 3.2")],
    reason: Reason,
    actor: Actor = None,
    loosen: Annotated[
        bool, typer.Option("--loosen", help="pin those, too, that are worse than what was pinned before")
    ] = False,
    store: options.Store = None,
    baselines: options.Baselines = None,
    json: options.Json = False,
) -> None:
    """Pin the present baselines as those of a release: what a cell loses since is limited, step by step or at once.

    What was pinned of a cell before is replaced, and named.
    """
    from harness.ledger import decisions
    from harness.ledger.proposals import Proposal
    from harness.measure.quantity import every

    settings = options.settings(store=store, baselines=baselines)
    done: list[str] = []
    replaced: dict[str, str] = {}
    left: dict[str, str] = {}
    with changing(settings) as change, _store(settings) as opened:
        file = change.file
        for one in change.held.active.values():
            if not _meant(one.cell, cells):
                continue
            one.accepted(reason, _actor(actor), _now())  # asks for reason and actor
            before = change.held.releases.get(one.key)
            if before is not None and Proposal.of(one, before, every()).worse and not loosen:
                left[one.cell] = f"it is worse than what is pinned as {_pinned(before)}: --loosen"
                continue
            instead = f" in place of {_pinned(before)}" if before else ""
            change.pin(one.key, release)
            decisions.note(opened, f"pin {release}{instead}", one.cell, reason, _actor(actor), _now())
            done.append(one.cell)
            if before is not None:
                replaced[one.cell] = _pinned(before)
    if not done and not left:
        _nothing(f"{file}: no baseline is active", cells, {one.cell for one in change.held.active.values()})
    _say([one for one in done if one not in replaced], left, f"pinned as {release}, in {file}")
    for cell, before_ in replaced.items():
        say(f"{cell}: pinned as {release} in place of {before_}, in {file}")
    document = {"pinned": done, "replaced": replaced, "left": left}
    leave(PASSED if done else NOTHING, document, as_json=json)


@app.command("list")
def list_(
    cells: Cells = None,
    store: options.Store = None,
    baselines: options.Baselines = None,
    kept: options.Kept = None,
    json: options.Json = False,
) -> None:
    """Active baselines, pinned ones and open proposals; quarantines, and which of them are over."""
    from harness.ledger import decisions
    from harness.ledger.baselines import State

    settings = options.settings(store=store, baselines=baselines, kept=kept)
    file, held = _held(settings)
    found: list[dict[str, Any]] = []
    for state, those in (("active", held.active), ("pinned", held.releases)):
        for one in those.values():
            note = _lacking(one, _kept(settings)) or one.release
            found.append(_row(one, state, note))
    with _store(settings) as opened:
        name = opened.name
        found += [
            _row(proposal.baseline, "proposed", "loosens" if proposal.loosens else "")
            for proposal in decisions.filed(opened, State.PROPOSED)
        ]
    today = datetime.date.today()
    for quarantine in held.quarantines:
        note = f"{quarantine.owner} until {quarantine.until}: {quarantine.reason}"
        over = today > quarantine.until
        found.append({"cell": quarantine.cell, "state": "over" if over else "quarantined", "note": note})
    there = {str(one["cell"]) for one in found}
    found = [one for one in found if _meant(str(one["cell"]), cells)]
    if not found:
        _nothing(f"{file} and {name}: no baseline, proposal or quarantine", cells, there)
    elif not json:
        columns = ("cell", "state", "sessions", "days", "tolerance", "at", "by", "note")
        print_table(columns, [tuple(str(one.get(name, "")) for name in columns) for one in found], f"{file} and {name}")
    leave(PASSED if found else NOTHING, {"file": str(file), "store": name, "baselines": found}, as_json=json)


@app.command("show")
def show(
    cells: Named,
    store: options.Store = None,
    baselines: options.Baselines = None,
    json: options.Json = False,
) -> None:
    """Of each cell its baseline, its release, what is proposed, and all that was done to them."""
    from harness.ledger import decisions
    from harness.ledger.baseline_file import as_table
    from harness.ledger.baselines import State
    from harness.ledger.retention import pruned

    settings = options.settings(store=store, baselines=baselines)
    file, held = _held(settings)
    told: list[_Told] = []
    with _store(settings) as opened:
        kept = [*held.active.values(), *held.releases.values()]
        filed = decisions.filed(opened, *State)
        there = {one.cell for one in kept} | {one.baseline.cell for one in filed}
        for cell in sorted(one for one in there if _meant(one, cells)):
            mine = [one for one in kept if one.cell == cell]
            proposals = [one for one in filed if one.baseline.cell == cell]
            keys = {one.key for one in (*mine, *(one.baseline for one in proposals))}
            gone = {session for key in keys for session in pruned(opened, key)}
            told.append(_Told(cell, mine, proposals, decisions.trail(opened, cell), gone))
        name = opened.name
    if not told:
        some = f"; there are some of {_few(there)}" if there else ""
        raise SpecError(f"{', '.join(map(repr, cells))}: no baseline in {file} and no proposal in {name}{some}")
    if not json:
        typer.echo(f"{file} and {name}")
        for one in told:
            one.show()
    document = {
        "file": str(file),
        "store": name,
        "baselines": [as_table(baseline) for one in told for baseline in one.baselines],
        "proposals": [proposal for one in told for proposal in one.documents],
        "trail": [event for one in told for event in one.trail],
    }
    leave(PASSED, document, as_json=json)


@dataclass
class _Told:
    """Of one cell. ``gone`` are sessions whose raw samples were pruned."""

    cell: str
    baselines: Sequence[Baseline]
    proposals: Sequence[Filed]
    trail: Sequence[Event]
    gone: Collection[str]

    def show(self) -> None:
        typer.echo(self.cell)
        for one in self.baselines:
            rows = [
                (
                    metric,
                    f"{k.level:.6g} {k.unit}",
                    f"{100 * k.tolerance:.1f} %",
                    str(len(k.values)),
                )
                for metric, k in one.metrics.items()
            ]
            title = f"{one.release or 'active'}: {one.reason} ({one.actor}, {one.at:%Y-%m-%d})" if one.at else ""
            title += _lost(one, self.gone)
            print_table(("metric", "level of sessions", "tolerance", "sessions"), rows, title)
        for proposal in self.proposals:
            lost = _lost(proposal.baseline, self.gone)
            typer.echo(f"{proposal.state.value} {_day(proposal.at)}{lost}\n{proposal.evidence}")
        for event in self.trail:
            typer.echo(f"{_day(event.at)} {event.actor}: {event.action} {event.reason}".rstrip())

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Its proposals, for a machine."""
        return [
            {
                "cell": self.cell,
                "state": one.state.value,
                "at": one.at,
                "evidence": one.evidence,
                "samples_pruned": [session for session in one.baseline.sessions if session in self.gone],
            }
            for one in self.proposals
        ]


def _store(settings: Settings) -> Store:
    from harness.ledger.store import store_in

    opened = store_in(HOME, settings.store, create=False)
    opened.require_head()
    return opened


def _held(settings: Settings) -> tuple[Path, Baselines]:
    from harness.ledger.baseline_file import FILE, read

    file = settings.baselines or Path(FILE)
    return file, read(file)


@dataclass
class _Change:
    """Of the file of baselines, by one command at a time; each step of it is written."""

    file: Path
    held: Baselines

    def accept(self, baseline: Baseline) -> None:
        self._write(self.held.with_accepted(baseline))

    def pin(self, key: str, release: str) -> None:
        self._write(self.held.with_release(key, release))

    def _write(self, held: Baselines) -> None:
        from harness.ledger.baseline_file import write

        write(self.file, held)
        self.held = held


@contextlib.contextmanager
def changing(settings: Settings) -> Iterator[_Change]:
    """Whoever comes second waits, and reads what the first has written."""
    from filelock import FileLock

    HOME.mkdir(exist_ok=True)
    with FileLock(HOME / "baselines.lock"):
        yield _Change(*_held(settings))


def _kept(settings: Settings) -> Kept:
    from harness.ledger.kept import Kept

    return Kept(settings.kept or HOME / "plans")


def _lacking(baseline: Baseline, kept: Kept) -> str:
    """Why its plans can't be measured again, "" where they can."""
    for plan in baseline.plans:
        try:
            kept.path(plan)
        except SpecError as error:
            return str(error)
    return ""


def _pinned(release: Baseline) -> str:
    return f"{release.release} (accepted {release.at:%Y-%m-%d})" if release.at else release.release


def _lost(baseline: Baseline, gone: Collection[str]) -> str:
    """How many of its sessions have lost their raw samples, in words; "" for none."""
    lost = sum(name in gone for name in baseline.sessions)
    return f"; raw samples pruned, of {lost} of its {len(baseline.sessions)} sessions" if lost else ""


def _latest(store: Store, cells: Sequence[str]) -> list[Filed]:
    """The last open proposal of each cell that is meant."""
    from harness.ledger import decisions
    from harness.ledger.baselines import State

    found = {
        one.baseline.key: one for one in decisions.filed(store, State.PROPOSED) if _meant(one.baseline.cell, cells)
    }
    return list(found.values())


def _open(store: Store) -> set[str]:
    """The cells of which something is proposed."""
    return {one.baseline.cell for one in _latest(store, ())}


def _nothing(what: str, cells: Sequence[str] | None, there: Collection[str]) -> None:
    """Say that there is none of ``cells``, and of which there are; where there are none at all, no more."""
    if not there:
        say(what)
        return
    named = f" of {', '.join(map(repr, cells))}" if cells else ""
    say(f"{what}{named}: there {'are' if len(there) > 1 else 'is'} {_few(there)}")


def _few(cells: Collection[str]) -> str:
    rest = f" and {len(cells) - 10} more" if len(cells) > 10 else ""
    return ", ".join(sorted(cells)[:10]) + rest


def _row(baseline: Baseline, state: str, note: str) -> dict[str, Any]:
    widest = max((known.tolerance for known in baseline.metrics.values()), default=0.0)
    at = f"{baseline.at:%Y-%m-%d}" if baseline.at else ""
    return {
        "cell": baseline.cell,
        "state": state,
        "sessions": len(baseline.sessions),
        "days": baseline.days or "",
        "tolerance": f"up to {100 * widest:.1f} %",
        "at": at,
        "by": baseline.actor,
        "note": note,
    }


def _say(done: Sequence[str], left: dict[str, str], what: str) -> None:
    for cell, why in left.items():
        say(f"{cell}: left as it was: {why}")
    for cell in done:
        say(f"{cell}: {what}")


def _meant(cell: str, cells: Sequence[str] | None) -> bool:
    return not cells or cell in cells or any(fnmatch.fnmatchcase(cell, one) for one in cells)


def _actor(given: str | None) -> str:
    return given or getpass.getuser()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def _day(at: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at, datetime.timezone.utc):%Y-%m-%d %H:%M}"
