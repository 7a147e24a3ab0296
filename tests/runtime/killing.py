"""Builders that share one cache, killed at random moments: a program, run by `test_killing`.

``python -m tests.runtime.killing FOLDER KILLS LIMIT`` keeps four builders at work on the plans of one
cache until KILLS of them were killed by SIGKILL, each at a random moment, and replaced. It prints what
came of it as JSON. A builder asks a pool for one plan after the other, as a test session does; its
backend makes a plan of bytes that tell which plan they are of, so that a wrong byte shows whatever
the cache says. What a builder has finished, and what it was served, it writes down, a line each.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from harness.runtime.backend.protocol import Array, BuildRequest, Plan
from harness.runtime.cache import PlanCache
from harness.runtime.capability import Probe
from harness.runtime.pool import EnginePool
from harness.spec import EngineSpec, ModelSpec, NetworkFunction, recipe

BUILDERS = 4
AHEAD = 6  # plans that builders are at while none of these is finished
MEAN = 0.006  # seconds that a kill is put off, on average
MOST = 0.2  # seconds that work is waited for, before the next kill
PATIENCE = 60.0  # seconds in which something must be finished
JOURNAL = "journal"


def content(name: str) -> Array:
    """The plan of ``name``: 50 to 400 kB, every byte of which depends on the name."""
    seed = hashlib.sha256(name.encode()).digest()
    size = 50_000 + int.from_bytes(seed[:4], "little") % 350_000
    return np.frombuffer(hashlib.shake_128(seed).digest(size), np.uint8)


class Maker:
    """A backend that does nothing but build."""

    name = "maker"

    def probe(self) -> Probe:
        return Probe(self.name, "1.0", (), {})

    def build(self, request: BuildRequest, progress: Any = None) -> Plan:  # noqa: ARG002
        return Plan(content(request.name), {"build": 0.0})


def spec(number: int) -> EngineSpec:
    name = f"m{number}"
    return EngineSpec.of(ModelSpec(name, NetworkFunction(f"nets:{name}", version="1")), recipe("fp32"))


class Journal:
    """Lines that are written whole, by a process that may be killed after any of them."""

    def __init__(self, folder: Path) -> None:
        self.file = os.open(folder / JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, what: str, number: int, more: str = "") -> None:
        os.write(self.file, f"{what} {number} {more}\n".encode())


def read_journal(folder: Path) -> list[tuple[str, int, str]]:
    lines = (folder / JOURNAL).read_text().splitlines() if (folder / JOURNAL).exists() else []
    return [(what, int(number), more) for what, number, more in (line.split(" ", 2) for line in lines)]


def work(folder: Path, first: int, limit: int | None) -> None:
    """Be a builder, until killed."""
    journal, maker = Journal(folder), Maker()
    draw = random.Random(os.urandom(8))
    warnings.simplefilter("error")
    pool = EnginePool(lambda _: maker, lambda _: maker.probe(), PlanCache(folder / "cache", limit=limit), 0)  # type: ignore[arg-type,return-value]
    number = first
    while True:
        asked = number + draw.randrange(AHEAD)
        with warnings.catch_warnings(record=True) as heard:
            plan = pool.plan(spec(asked), "maker")
        for warning in heard:
            journal.write("warned", asked, str(warning.message))
        if plan.data.tobytes() != content(f"m{asked}").tobytes():
            journal.write("corrupt", asked, plan.plan_key)
        journal.write("served" if plan.cached else "built", asked, plan.plan_key)
        number += draw.random() < 1 / AHEAD


def fork(folder: Path, first: int, limit: int | None) -> int:
    """A new builder, which begins with the plan ``first``."""
    builder = os.fork()
    if builder == 0:
        try:
            work(folder, first, limit)
        finally:
            os._exit(1)  # a builder ends in no other way than by being killed
    return builder


class Progress:
    """How far builders have come, as they wrote it down."""

    def __init__(self, folder: Path) -> None:
        self.file, self.read, self.first = folder / JOURNAL, 0, 0

    def more(self) -> bool:
        """Whether any of them has come further since this was last asked."""
        with contextlib.suppress(FileNotFoundError), self.file.open("rb") as file:
            file.seek(self.read)
            lines = file.read().decode().splitlines()
            self.read = file.tell()
            self.first = max([self.first, *(int(line.split()[1]) for line in lines if line.startswith("built"))])
            return bool(lines)
        return False


def main(folder: Path, kills: int, limit: int | None) -> dict[str, Any]:
    """Keep builders at work and kill them. Returns how it went."""
    draw, progress = random.Random(os.urandom(8)), Progress(folder)
    builders = [fork(folder, 0, limit) for _ in range(BUILDERS)]
    killed, ended, last = 0, 0, time.monotonic()
    while killed < kills and time.monotonic() - last < PATIENCE:
        # On a busy machine, too, something is to be done between most kills. Who is killed was not waited for.
        deadline = time.monotonic() + MOST
        while not progress.more() and time.monotonic() < deadline:
            time.sleep(0.001)
        if time.monotonic() < deadline:
            last = time.monotonic()
        time.sleep(draw.expovariate(1 / MEAN))
        chosen = draw.randrange(BUILDERS)
        ended += os.waitpid(builders[chosen], os.WNOHANG)[0] != 0
        os.kill(builders[chosen], signal.SIGKILL)
        os.waitpid(builders[chosen], 0)
        killed += 1
        builders[chosen] = fork(folder, progress.first, limit)
    for builder in builders:
        os.kill(builder, signal.SIGKILL)
        os.waitpid(builder, 0)
    return {"killed": killed, "ended": ended}


if __name__ == "__main__":
    spec(0).plan_key("")  # whatever is imported late is imported now
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]) or None)))
