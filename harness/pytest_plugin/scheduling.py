"""Who runs what where: order, workers under xdist, and one device for each worker.

As tried under xdist 3.8: ``--dist worksteal`` with items sorted by engine loses nothing when a
worker crashes, where other distributions run tests twice, lose them or hang; the default limit on
restarts ends a run early.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import itertools
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness.pytest_plugin.options import settings_of
from harness.runtime.device_lock import DeviceLock, lock_folder, lock_of, make
from harness.runtime.devices import devices, key_of

RESTARTS = "1000"  # of crashed workers: each costs one cell, and a run must outlast them all
STILLBORN = 8  # deaths in a row after which the reason is not in the tests
MENTION = re.compile(rb"\bmark\.trt\b|\btrt_(engine|session|model|cell|spec)")
PURPOSE, MEASURING = "a run of pytest", "a measurement of pytest"  # as other processes are told


def set_defaults(config: pytest.Config) -> None:
    """How xdist distributes a run of ours, where the command line does not say."""
    if not config.pluginmanager.hasplugin("xdist") or not config.getoption("numprocesses", None):
        return
    if not mentions_cells(config):
        return
    if config.getoption("dist") == "no":
        config.option.dist = "worksteal"
    if config.getoption("maxworkerrestart") is None:
        config.option.maxworkerrestart = RESTARTS


def will_have_workers(config: pytest.Config) -> bool:
    """Whether xdist is about to start workers for a run of ours."""
    return config.pluginmanager.hasplugin("dsession") and mentions_cells(config)


def give_up(config: pytest.Config, stillborn: int) -> None:
    """End a run whose workers die one after the other before they have collected: their successors will, too."""
    if stillborn >= STILLBORN:
        session = config.pluginmanager.getplugin("dsession")
        session.shouldstop = f"{stillborn} workers died in a row before they had collected a test"
        session._max_worker_restart = 0  # a wish to stop does not keep it from replacing the next


def auto_workers(config: pytest.Config) -> int | None:
    """One worker a GPU, or as many as may share it, for a run of ours; None leaves the number to xdist."""
    return len(devices()) * settings_of(config).share or None if mentions_cells(config) else None


def mentions_cells(config: pytest.Config) -> bool:
    """Whether a file that this run would collect speaks of cells: read, not imported.

    xdist wants its answers before anything is collected, and a run without a cell of ours must be
    left as it is.
    """
    for argument in config.args:
        path = path_of(argument.partition("::")[0], config)
        found = [path] if path.is_file() else files(path, config.getini("python_files"), config)
        if any(MENTION.search(file.read_bytes()) for file in found):
            return True
    return False


def files(folder: Path, patterns: Sequence[str], config: pytest.Config) -> Iterator[Path]:
    """Those so called in ``folder`` and in what pytest would go into below it."""
    pruned = config.getini("norecursedirs")
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not any(fnmatch.fnmatch(name, pattern) for pattern in pruned)]
        for name in names:
            if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                yield Path(root, name)


def path_of(argument: str, config: pytest.Config) -> Path:
    """The file or folder that an argument of pytest names, by its path or, after ``--pyargs``, as a package."""
    path = config.invocation_params.dir / argument
    if not path.exists() and config.getoption("pyargs"):
        import importlib.util

        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(argument)
            for folder in spec.submodule_search_locations or [] if spec else []:
                return Path(folder)
            if spec and spec.origin:
                return Path(spec.origin)
    return path


class Place:
    """A device for this process, shared with no more than ``share`` processes in all that ask this way.

    A device is not given by the worker's number: a worker that replaces a crashed one has a new number.
    """

    def __init__(self, folder: Path | None = None, share: int = 1) -> None:
        self._share = share
        self._folder = folder or lock_folder()
        self._lock_of = lock_of if folder is None else functools.partial(DeviceLock, folder=folder)
        self._held = contextlib.ExitStack()
        self._lock: DeviceLock | None = None

    def acquire(self, numbers: Sequence[int], *, poll: float = 0.2) -> int:
        """A free device among ``numbers``, held until `release`; waits while there is none, and for who measures."""
        from filelock import FileLock, Timeout

        make(self._folder)
        while True:
            for slot, number in itertools.product(range(self._share), numbers):
                key = key_of(number)
                place = FileLock(self._folder / f"{key}.{slot}.lock", mode=0o666)
                with contextlib.suppress(Timeout):
                    place.acquire(timeout=0)
                    self._held.callback(place.release)
                    self._lock = self._lock_of(key)
                    self._held.enter_context(self._lock.shared(PURPOSE))
                    return number
            time.sleep(poll)

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else has the device meanwhile, as `DeviceLock.alone` says. AssertionError before `acquire`."""
        assert self._lock is not None
        return self._lock.alone(MEASURING)

    def release(self) -> None:
        self._held.close()
        self._lock = None
