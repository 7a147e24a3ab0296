"""A pytest plugin: every worker of xdist leaves how long its process lived, in the folder that ``LIFETIMES`` names."""

from __future__ import annotations

import atexit
import os
import time
from pathlib import Path

import pytest

FOLDER = "LIFETIMES"


def pytest_configure(config: pytest.Config) -> None:
    worker = getattr(config, "workerinput", {}).get("workerid")
    if worker is not None:
        atexit.register(_leave, Path(os.environ[FOLDER]) / f"{worker}.seconds")


def _leave(file: Path) -> None:
    """From the start of the process, which the system knows, before the interpreter; to 10 ms."""
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # seconds since boot: field 22 of proc(5)
    file.write_text(str(time.clock_gettime(time.CLOCK_BOOTTIME) - started))
