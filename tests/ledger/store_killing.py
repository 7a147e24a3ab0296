"""Writers that share one store, killed at random moments: a program, run by `test_store_killing`.

``python -m tests.ledger.store_killing FOLDER KILLS URL`` keeps four writers at work until KILLS of them were killed by
SIGKILL, each at a random moment, and replaced. It prints what came of it as JSON. A writer stores one session after
the other, each in one batch, and writes down its name, in a file of its own, once `write` has returned.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import alembic.command  # noqa: F401 # whatever is imported late is imported before a writer is forked
import psycopg  # noqa: F401
import sqlalchemy.dialects.postgresql  # noqa: F401

from harness.ledger import migrate
from harness.ledger.batch import Batch, Session, write
from harness.ledger.store import Store
from tests.ledger import stored

WRITERS = 4
SERIES = 20  # measurements of a session
MEAN = 0.006  # seconds that a kill is put off, on average
MOST = 0.5  # seconds that work is waited for, before the next kill
PATIENCE = 60.0  # seconds in which something must be stored


def batch(name: str, at: float) -> Batch:
    """A session with a value of each series, and a record."""
    made = stored.batch(range(SERIES), [0])
    session = Session(name, at)
    made.measurements = [stored.moved(one, session) for one in made.measurements]
    body = stored.record(0, name, at).to_json()
    columns = ("node", "test", "model", "precision", "variant", "point", "backend", "verdict", "stage", "message")
    made.records.append((session, {**dict.fromkeys(columns, name), "started": at, "duration": 0.0, "body": body}))
    return made


def work(folder: Path, url: str, writer: int) -> None:
    """Be a writer, until killed."""
    log = os.open(folder / f"writer{writer}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with Store(url) as store:
        number = 0
        while True:
            number += 1
            name = f"{writer}-{os.getpid()}-{number}"
            new = write(store, batch(name, float(number)))
            os.write(log, f"{name} {new}\n".encode())


def fork(folder: Path, url: str, writer: int) -> int:
    process = os.fork()
    if process == 0:
        try:
            work(folder, url, writer)
        except BaseException as error:
            (folder / f"failed{writer}-{os.getpid()}").write_text(repr(error))
        finally:
            os._exit(1)  # a writer ends in no other way than by being killed
    return process


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("writer*.log"))


def main(folder: Path, kills: int, url: str) -> dict[str, int]:
    """Keep writers at work and kill them. Returns how it went."""
    draw = random.Random(os.urandom(8))
    writers = [fork(folder, url, number) for number in range(WRITERS)]
    killed, ended, last, seen = 0, 0, time.monotonic(), 0
    while killed < kills and time.monotonic() - last < PATIENCE:
        deadline = time.monotonic() + MOST
        while (now := size(folder)) == seen and time.monotonic() < deadline:
            time.sleep(0.001)
        if now != seen:
            seen, last = now, time.monotonic()
        time.sleep(draw.expovariate(1 / MEAN))
        chosen = draw.randrange(WRITERS)
        ended += os.waitpid(writers[chosen], os.WNOHANG)[0] != 0
        os.kill(writers[chosen], signal.SIGKILL)
        os.waitpid(writers[chosen], 0)
        killed += 1
        writers[chosen] = fork(folder, url, chosen)
    # Those that are left go on: each stores something more.
    before, deadline = size(folder), time.monotonic() + PATIENCE
    while size(folder) < before + 100 and time.monotonic() < deadline:
        time.sleep(0.01)
    went_on = size(folder) - before
    for writer in writers:
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
    return {"killed": killed, "ended": ended, "went_on": went_on}


if __name__ == "__main__":
    migrate.revisions()
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
