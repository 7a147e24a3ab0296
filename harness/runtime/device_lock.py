"""Who uses a device: any number of processes of the harness at a time, or one alone, which measures.

An flock on a file for each device, so that what a dead process held is free. A note beside it says what for.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

FOLDER = "TRT_HARNESS_LOCKS"  # where the locks are, for containers that share a GPU and no /tmp
Tell = Callable[[str], None]
_log = logging.getLogger(__name__)


class DeviceLock:
    """The device called ``key``, as this process uses it: not at all, shared, or alone.

    Uses may be nested, and the strongest holds. Not for several threads at once.
    """

    def __init__(self, key: str, folder: Path | None = None) -> None:
        self.key = key
        self._folder = folder or lock_folder()
        self._file = -1
        self._held = fcntl.LOCK_UN
        self._purpose = ""

    def shared(self, purpose: str, tell: Tell = _log.warning) -> AbstractContextManager[None]:
        """Use it for this ``purpose`` beside others who share it; waits, and tells for whom, while one is alone."""
        return self._using(fcntl.LOCK_SH, purpose, tell)

    def alone(self, purpose: str, tell: Tell = _log.warning) -> AbstractContextManager[None]:
        """Nobody else uses it meanwhile: waits, and tells for whom, until all others have let go of it.

        Whoever waits shares it no more, so that two who would be alone do not wait for each other for ever.
        """
        return self._using(fcntl.LOCK_EX, purpose, tell)

    def users(self) -> list[str]:
        """What other processes use it for, as far as they are known here, with their ids."""
        found = []
        for note in sorted(self._folder.glob(f"{self.key}.*.user")):
            pid = int(note.suffixes[-2][1:])
            if pid != os.getpid() and _lives(pid):
                with contextlib.suppress(OSError):
                    found.append(f"{note.read_text()} (process {pid})")
        return found

    @contextlib.contextmanager
    def _using(self, kind: int, purpose: str, tell: Tell) -> Iterator[None]:
        before, for_what = self._held, self._purpose
        if before in (kind, fcntl.LOCK_EX):
            yield
            return
        self._take(kind, purpose, tell)
        try:
            yield
        finally:
            self._release() if before == fcntl.LOCK_UN else self._take(before, for_what, tell)

    def _take(self, kind: int, purpose: str, tell: Tell) -> None:
        if self._file < 0:
            make(self._folder)
            self._file = opened(self._folder / f"{self.key}.use")
        self._note.unlink(missing_ok=True)
        try:
            if not self._taken(kind | fcntl.LOCK_NB):
                users = ", ".join(self.users()) or "another process of the harness"
                tell(f"{purpose}: waits for {self.key}, in use by {users}")
                self._taken(kind)
        except BaseException:  # interrupted: then nothing is held, not even what was
            self._release()
            raise
        self._held, self._purpose = kind, purpose
        self._note.write_text(purpose)

    def _taken(self, how: int) -> bool:
        try:
            fcntl.flock(self._file, how)
        except BlockingIOError:
            return False
        return True

    def _release(self) -> None:
        self._note.unlink(missing_ok=True)
        os.close(self._file)
        self._file, self._held, self._purpose = -1, fcntl.LOCK_UN, ""

    @property
    def _note(self) -> Path:
        return self._folder / f"{self.key}.{os.getpid()}.user"


def lock_of(key: str) -> DeviceLock:
    """The one lock that all of this process have in common: two of its own would wait for each other."""
    return _lock_of(key, lock_folder())


@functools.cache
def _lock_of(key: str, folder: Path) -> DeviceLock:
    return DeviceLock(key, folder)


def lock_folder() -> Path:
    """Where all processes of the machine look: everybody may write there."""
    return Path(os.environ.get(FOLDER) or Path(tempfile.gettempdir()) / "trt-harness-devices")


def make(folder: Path) -> None:
    """Have a folder that every user may write to."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # it is another user's, who has opened it to us
        folder.chmod(0o777)


def opened(path: Path) -> int:
    """A descriptor of a file that every user may lock; a child that this process starts does not inherit it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    with contextlib.suppress(PermissionError):
        path.chmod(0o666)
    return handle


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
