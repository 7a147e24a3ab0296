"""Files that processes hold, by ``flock``: the system lets go of what a dead process held.

A lock is a file that is there while somebody holds it or waits for it. Whoever lets go of it takes it
away, and whoever has waited for a file that is gone waits for its successor. What a killed holder
leaves behind blocks nobody, and the next to come takes it away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Held by one thread of one process at a time; the others wait. OSError where no file can be made."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if is_there(handle, path):
                break
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock ``path``."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not take(handle)
    finally:
        os.close(handle)


def take(handle: int) -> bool:
    """Hold an open file alone until it is closed; False when somebody else holds it. Does not wait."""
    return _flocked(handle, fcntl.LOCK_EX)


def share(handle: int) -> bool:
    """Hold an open file until it is closed, beside others that share it; False when somebody holds it alone."""
    return _flocked(handle, fcntl.LOCK_SH)


def is_there(handle: int, path: Path) -> bool:
    """Whether the open file is the one that lies at ``path``."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def remove(path: Path) -> bool:
    """Take away a file that nobody holds; False when somebody does, or it is gone already."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if not take(handle) or not is_there(handle, path):
            return False
        path.unlink()
        return True
    finally:
        os.close(handle)


def _flocked(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
