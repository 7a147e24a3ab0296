"""What a process holds of what it should give back: memory of its own, open files, threads."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Footprint:
    """One look at a process, memory in bytes.

    ``private`` is in pages that no other process has, in memory or swapped out (the unique set size); ``resident`` is
    all that is in memory, with what is shared. ``heap`` is what C's allocator has handed out and not been given back:
    exact, where ``private`` has what the allocator keeps for later; None for a C library that does not tell.
    ``device`` is what is taken of the GPU's memory, by this process or another; None where this one uses no GPU.
    """

    private: int
    resident: int
    files: int
    threads: int
    heap: int | None = None
    device: int | None = None


def footprint() -> Footprint:
    """Of this process, once Python's cycles are collected: what waits for the collector is no leak."""
    gc.collect()
    status = _fields(Path("/proc/self/status"))
    files = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - one is that of the list itself
    return Footprint(_private(status), status["VmRSS"] << 10, files, status["Threads"], _heap(), _device())


def _private(status: dict[str, int]) -> int:
    try:
        pages = _fields(Path("/proc/self/smaps_rollup"))
    except FileNotFoundError:  # a kernel without it: all that is backed by no file, and private but for forks
        return status["RssAnon"] + status.get("VmSwap", 0) << 10
    return pages["Private_Clean"] + pages["Private_Dirty"] + pages.get("Swap", 0) << 10


def _fields(path: Path) -> dict[str, int]:
    """The lines ``Name: 12 kB`` of a file of the kernel."""
    found = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0])
    return found


class _MallInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


def _heap() -> int | None:
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)  # from glibc 2.33 on
    if ask is None:
        return None
    ask.restype = _MallInfo
    told = ask()
    return int(told.uordblks + told.hblkhd)


def _device() -> int | None:
    """Asked only where a backend has asked the device before: to ask takes memory itself, once."""
    loaded = sys.modules.get("harness.runtime.device")
    if loaded is None:
        return None
    try:
        return int(loaded.taken_memory())
    except loaded.CudaError:
        return None
