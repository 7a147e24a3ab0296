"""A store on a disk without room, in a process of its own: prints what was said, and what is there, as JSON.

``python -m tests.ledger.store_filling FOLDER LIMIT``: where ``LIMIT`` is ``tmpfs``, ``FOLDER`` becomes a file system of
1 MB, which takes a namespace of mounts of its own; where it is ``file``, no file there may become larger
than it is by much, as with ``ulimit -f``.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import StoreError
from harness.ledger import history
from harness.ledger.batch import write
from harness.ledger.store import Store
from tests.ledger import stored

SIZE = 1 << 20  # bytes of the file system
MORE = 1 << 16  # bytes that any file may have: fewer than what is written later
MANY = stored.batch(range(300), range(40))  # some megabytes
SAMPLES = [{"graph": {"gpu": np.random.default_rng(1).random(1 << 18)}}]  # 2 MB, of which nothing can be compressed
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def mount(folder: Path, size: int, *options: str) -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={size}"]), "tmpfs", folder], check=True, text=True
    )


def limit(folder: Path, kind: str) -> Callable[[], None]:
    """Leaves no room; what it gives makes room again."""
    if kind == "tmpfs":
        return lambda: mount(folder, 64 * SIZE, "remount")
    most = max(file.stat().st_size for file in folder.iterdir() if file.is_file()) + MORE
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, UNLIMITED)


def refused(work: Callable[[], Any]) -> str:
    """What it says; "" where it works."""
    try:
        work()
    except StoreError as error:
        return str(error)
    return ""


def main(folder: Path, kind: str) -> None:
    if kind == "tmpfs":
        mount(folder, SIZE)
    told: dict[str, Any] = {}
    with Store(folder / "store.sqlite", patience=5.0) as store:
        samples = store.samples
        assert samples is not None
        write(store, stored.batch())
        lift = limit(folder, kind)
        told["rows"] = refused(lambda: write(store, MANY))
        told["samples"] = refused(lambda: samples.put(SAMPLES))
        told["left"] = [str(file.relative_to(folder)) for file in samples.folder.rglob("*") if file.is_file()]
        told["then"] = history.counts(store)["measurement"]
    lift()
    with Store(folder / "store.sqlite") as store:
        assert store.samples is not None
        told["new"] = write(store, MANY)
        key, _ = store.samples.put(SAMPLES)
        told["read"] = len(store.samples.get(key))
        told["whole"] = store.read(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar_one())
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
