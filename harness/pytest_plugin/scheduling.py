"""Who runs what where: order, workers under xdist, and one device for each worker.

As tried under xdist 3.8: ``--dist worksteal`` with items sorted by engine loses nothing when a
worker crashes, where other distributions run tests twice, lose them or hang; the default limit on
restarts ends a run early.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import itertools
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin.options import settings_of

if TYPE_CHECKING:
    from filelock import FileLock

RESTARTS = "1000"  # of crashed workers: each costs one cell, and a run must outlast them all
STILLBORN = 8  # deaths in a row after which the reason is not in the tests
MENTION = re.compile(rb"\bmark\.trt\b|\btrt_(engine|session|model|cell|spec)")
DEVICE = re.compile(r"nvidia\d+")


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
        if any(MENTION.search(file.read_bytes()) for file in ([path] if path.is_file() else _files(path, config))):
            return True
    return False


def _files(folder: Path, config: pytest.Config) -> Iterator[Path]:
    patterns, pruned = config.getini("python_files"), config.getini("norecursedirs")
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


def devices(root: Path = Path("/dev")) -> tuple[int, ...]:
    """The GPUs that a process here may use, as CUDA numbers them, without a call to CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        valid = [name for name in names if name and name != "-1" and name != "NoDevFiles"]
        return tuple(range(len(valid)))
    count = sum(1 for entry in root.iterdir() if DEVICE.fullmatch(entry.name)) if root.is_dir() else 0
    return tuple(range(count))


class DeviceLock:
    """One device for this process, and for no more than ``share`` of all processes that ask this way.

    A device is not given by the worker's number: a worker that replaces a crashed one has a new number.
    """

    def __init__(self, folder: Path | None = None, share: int = 1) -> None:
        self._share = share
        self._folder = folder or lock_folder()
        self._held: FileLock | None = None
        self._use = -1  # an open file that all who use the device share, but for one who measures

    def acquire(self, numbers: Sequence[int], *, poll: float = 0.2) -> int:
        """A free device among ``numbers``, held until `release`; waits while there is none."""
        from filelock import FileLock, Timeout

        _make(self._folder)
        while True:
            for slot, number in itertools.product(range(self._share), numbers):
                lock = FileLock(self._folder / f"{_name(number)}.{slot}.lock", mode=0o666)
                with contextlib.suppress(Timeout):
                    lock.acquire(timeout=0)
                    self._held = lock
                    self._use = _opened(self._folder / f"{_name(number)}.use")
                    fcntl.flock(self._use, fcntl.LOCK_SH)  # waits for whoever measures there
                    return number
            time.sleep(poll)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else has the device meanwhile: waits until those who share it have released it.

        Whoever waits shares it no more, so that two who would be alone do not wait for each other for ever.
        """
        fcntl.flock(self._use, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._use, fcntl.LOCK_SH)

    def release(self) -> None:
        if self._held is not None:
            os.close(self._use)
            self._held.release()
            self._held = None


@contextlib.contextmanager
def alone_on_cpu() -> Iterator[None]:
    """Nobody else measures on the CPUs of this machine meanwhile."""
    folder = lock_folder()
    _make(folder)
    handle = _opened(folder / "cpu.use")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def lock_folder() -> Path:
    return Path(tempfile.gettempdir()) / "trt-harness-devices"


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # it is another user's, who has opened it to us
        folder.chmod(0o777)


def _opened(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    with contextlib.suppress(PermissionError):
        path.chmod(0o666)
    return handle


def _name(number: int) -> str:
    """What tells this device from others of the machine, whatever this process calls it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in visible.split(",")] if visible is not None else []
    return re.sub(r"\W", "_", names[number] if number < len(names) else str(number))
