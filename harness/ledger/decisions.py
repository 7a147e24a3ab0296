"""Proposals in a store, what became of them, and who did it: the trail that a file of baselines does not leave."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from harness.errors import SpecError
from harness.ledger import schema
from harness.ledger.baseline_file import as_table, of_table
from harness.ledger.baselines import Baseline, State
from harness.ledger.proposals import Proposal
from harness.ledger.store import Store, add
from harness.spec.canonical import canonical_json, digest


@dataclass(frozen=True)
class Filed:
    """A baseline as the store has it, since ``at``. ``evidence`` is Markdown, ``loosens`` as in `Proposal`."""

    key: str
    baseline: Baseline
    state: State
    at: float
    evidence: str
    loosens: bool


@dataclass(frozen=True)
class Event:
    """Who did what to which cell, and why."""

    at: float
    actor: str
    action: str
    subject: str
    reason: str
    detail: Mapping[str, Any]


def propose(store: Store, proposal: Proposal, actor: str, at: datetime.datetime) -> State:
    """File it, unless one of the same sessions was filed before; the state tells what became of that."""
    key = digest({"cell": proposal.baseline.key, "plans": proposal.baseline.plans, "on": proposal.baseline.sessions})
    row = {
        "key": key,
        "cell_key": proposal.baseline.key,
        "cell": proposal.baseline.cell,
        "state": State.PROPOSED.value,
        "at": at.timestamp(),
        "body": canonical_json({**as_table(proposal.baseline), "loosens": proposal.loosens}),
        "evidence": proposal.markdown,
    }

    def work(connection: sa.Connection) -> State:
        if add(connection, schema.baseline, [row]):
            _note(connection, at, actor, "propose", proposal.baseline.cell, "", {"baseline": key})
        table = schema.baseline
        return State(connection.execute(sa.select(table.c.state).where(table.c.key == key)).scalar_one())

    return store.write(work)


def accept(
    store: Store,
    filed: Filed,
    reason: str,
    actor: str,
    at: datetime.datetime,
    *,
    kept: Callable[[Baseline], None] = lambda _: None,
) -> Baseline:
    """The baseline as it goes into the file, by ``kept``: in the store it is accepted once that is done, or not at all.

    The one before is superseded, and so is whatever else was proposed of the cell. SpecError where it was decided upon
    before, or without a reason.
    """
    accepted = filed.baseline.accepted(reason, actor, at)

    def work(connection: sa.Connection) -> None:
        table = schema.baseline
        _decided(connection, filed, State.ACTIVE)
        mine = (table.c.cell_key == filed.baseline.key) & (table.c.key != filed.key)
        before = sa.update(table).where(mine, table.c.state.in_([State.ACTIVE.value, State.PROPOSED.value]))
        connection.execute(before.values(state=State.SUPERSEDED.value))
        _note(connection, at, actor, "accept", filed.baseline.cell, reason, {"baseline": filed.key})
        kept(accepted)

    store.write(work)
    return accepted


def reject(store: Store, filed: Filed, reason: str, actor: str, at: datetime.datetime) -> None:
    """What was proposed of the cell before is superseded: it is of sessions as old. SpecError as in `accept`."""
    filed.baseline.accepted(reason, actor, at)  # asks for reason and actor

    def work(connection: sa.Connection) -> None:
        _decided(connection, filed, State.REJECTED)
        table = schema.baseline
        older = (table.c.cell_key == filed.baseline.key) & (table.c.state == State.PROPOSED.value)
        before = sa.update(table).where(older, table.c.at <= filed.at)
        connection.execute(before.values(state=State.SUPERSEDED.value))
        _note(connection, at, actor, "reject", filed.baseline.cell, reason, {"baseline": filed.key})

    store.write(work)


def note(store: Store, action: str, subject: str, reason: str, actor: str, at: datetime.datetime) -> None:
    """Leave a trail of something that was done to the file alone, as a pin."""
    store.write(lambda connection: _note(connection, at, actor, action, subject, reason, {}))


def filed(store: Store, *states: State) -> list[Filed]:
    """Those in one of ``states``, by cell, then time."""
    table = schema.baseline
    asked = sa.select(table).where(table.c.state.in_([state.value for state in states]))
    rows = store.read(lambda connection: connection.execute(asked).all())
    return sorted((_filed(row) for row in rows), key=lambda one: (one.baseline.cell, one.at, one.key))


def rejected(store: Store) -> dict[str, set[str]]:
    """By the key of a cell the sessions of its proposals that were rejected."""
    found: dict[str, set[str]] = {}
    for one in filed(store, State.REJECTED):
        found.setdefault(one.baseline.key, set()).update(one.baseline.sessions)
    return found


def trail(store: Store, subject: str = "") -> list[Event]:
    """What was done, to one cell or to all, the first first."""
    table = schema.audit_event
    asked = sa.select(table).order_by(table.c.at, table.c.id)
    rows = store.read(lambda connection: connection.execute(asked).all())
    return [
        Event(row.at, row.actor, row.action, row.subject, row.reason, json.loads(row.detail))
        for row in rows
        if subject in ("", row.subject)
    ]


def _filed(row: Any) -> Filed:
    body = json.loads(row.body)
    loosens = body.pop("loosens")
    if "at" in body:
        body["at"] = datetime.datetime.fromisoformat(body["at"])
    return Filed(row.key, of_table(body), State(row.state), row.at, row.evidence, loosens)


def _decided(connection: sa.Connection, filed: Filed, state: State) -> None:
    table = schema.baseline
    open_ = (table.c.key == filed.key) & (table.c.state == State.PROPOSED.value)
    if not connection.execute(sa.update(table).where(open_).values(state=state.value)).rowcount:
        raise SpecError(f"{filed.baseline.cell}: somebody decided upon this proposal before: `baseline show` tells how")


def _note(
    connection: sa.Connection,
    at: datetime.datetime,
    actor: str,
    action: str,
    subject: str,
    reason: str,
    detail: Mapping[str, Any],
) -> None:
    row = {
        "at": at.timestamp(),
        "actor": actor,
        "action": action,
        "subject": subject,
        "reason": reason,
        "detail": canonical_json(detail),
    }
    add(connection, schema.audit_event, [{"key": digest(row), **row}])
