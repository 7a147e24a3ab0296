"""What a store lets go of: raw samples and plans that are old. What was said, and all summaries, stay for ever.

What a proposed, active or pinned baseline rests on is held. What one rests on that was superseded goes with age: nobody
compares with it any more, and what it was, who accepted it and why is told by its row and the trail all the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from harness.ledger import schema
from harness.ledger.baselines import Baseline, State
from harness.ledger.kept import Kept
from harness.ledger.store import CHUNK, Store

DAY = 86_400.0  # seconds
RAW = 90 * DAY  # that raw samples are kept
STRAY = DAY  # that a file may lie there before a store names it: it is written first
HELD = (State.PROPOSED.value, State.ACTIVE.value)


@dataclass(frozen=True)
class Pruned:
    """``artifacts`` are the keys of samples that went, ``strays`` files that no store names, ``plans`` files of plans.

    ``nbytes`` is the size of all of them.
    """

    artifacts: tuple[str, ...]
    strays: tuple[Path, ...]
    nbytes: int
    plans: tuple[Path, ...] = ()


def prune(
    store: Store,
    older: float = RAW,
    *,
    baselines: Iterable[Baseline] = (),
    kept: Kept | None = None,
    now: float | None = None,
    dry_run: bool = False,
) -> Pruned:
    """Delete the raw samples of sessions that began more than ``older`` seconds ago, and plans that were last kept or
    held against before. StoreError.

    Samples of a session that a change point begins with stay, and what a baseline rests on: one that is proposed or
    active in the store, or one of ``baselines`` (as the file has them, active and pinned), whose plans stay, too. A
    store without a folder for samples, as a server's may be, only notes that they are gone.
    """
    store.require_head()
    now = time.time() if now is None else now
    sessions, plans = store.read(_held)
    for one in baselines:
        sessions |= set(one.sessions)
        plans |= set(one.plans)
    gone = store.read(lambda connection: _old(connection, now - older, sessions))
    named = store.read(_kept) - {key for key, _ in gone}
    strays = [] if store.samples is None else _strays(store.samples.files(), named | {key for key, _ in gone}, now)
    aged = [] if kept is None else [file for file in kept.aged(now - older) if file.stem not in plans]
    nbytes = sum(size for _, size in gone) + sum(file.stat().st_size for file in (*strays, *aged))
    if not dry_run:
        # Noted first: whoever is killed in between leaves files that no store names, and the next one takes these away.
        store.write(lambda connection: _note(connection, [key for key, _ in gone]))
        for key, _ in gone:
            if store.samples is not None:
                store.samples.drop(key)
        for file in (*strays, *aged):
            file.unlink(missing_ok=True)
    return Pruned(tuple(sorted(key for key, _ in gone)), tuple(strays), nbytes, tuple(aged))


def pruned(store: Store, cell_key: str) -> set[str]:
    """The sessions of a cell whose raw samples are gone."""
    m, r, s, a = schema.measurement, schema.series, schema.session, schema.artifact
    asked = sa.select(s.c.name).select_from(m.join(r).join(s).join(a)).where(r.c.cell_key == cell_key, a.c.gone)
    return set(store.read(lambda connection: connection.execute(asked.distinct()).scalars().all()))


def _held(connection: sa.Connection) -> tuple[set[str], set[str]]:
    """Sessions and plans that a baseline rests on."""
    asked = sa.select(schema.baseline.c.body).where(schema.baseline.c.state.in_(HELD))
    bodies = [json.loads(body) for body in connection.execute(asked).scalars()]
    sessions, plans = ({one for body in bodies for one in body.get(name, ())} for name in ("sessions", "plans"))
    return sessions, plans


def _old(connection: sa.Connection, before: float, names: set[str]) -> list[tuple[str, int]]:
    """Key and size of the samples of which every session is older, and held by nothing."""
    a, m, s, c = schema.artifact.c, schema.measurement.c, schema.session.c, schema.change_point.c
    keeping = set(connection.execute(sa.select(s.id).where(s.at >= before)).scalars())
    keeping |= set(connection.execute(sa.select(c.session_id)).scalars())
    listed = sorted(names)
    for start in range(0, len(listed), CHUNK):
        found = connection.execute(sa.select(s.id).where(s.name.in_(listed[start : start + CHUNK])))
        keeping |= set(found.scalars())
    kept: set[int] = set()
    numbers = sorted(keeping)
    for start in range(0, len(numbers), CHUNK):
        part = numbers[start : start + CHUNK]
        asked = sa.select(m.artifact_id).where(m.session_id.in_(part), m.artifact_id.is_not(None)).distinct()
        kept |= set(connection.execute(asked).scalars())
    old = connection.execute(sa.select(a.id, a.key, a.nbytes).where(a.gone == sa.false(), a.at < before))
    return [(key, nbytes) for number, key, nbytes in old if number not in kept]


def _kept(connection: sa.Connection) -> set[str]:
    table = schema.artifact.c
    return set(connection.execute(sa.select(table.key).where(table.gone == sa.false())).scalars())


def _note(connection: sa.Connection, keys: list[str]) -> None:
    for start in range(0, len(keys), CHUNK):
        part = keys[start : start + CHUNK]
        connection.execute(sa.update(schema.artifact).where(schema.artifact.c.key.in_(part)).values(gone=True))


def _strays(files: Iterable[Path], named: set[str], now: float) -> list[Path]:
    return [file for file in files if file.stem not in named and now - file.stat().st_mtime > STRAY]
