"""Signs of life from builds that take long."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import pytest

QUIET = 10.0  # seconds after which a build is long
EVERY = {True: 2.0, False: 30.0}  # seconds between two signs, on a terminal and in a log


def reporter(config: pytest.Config, what: str) -> Callable[[str, int, int], None]:
    """A `Progress` that writes to the real standard error, past pytest's capture, also from a worker."""
    started = time.monotonic()
    capture = config.pluginmanager.getplugin("capturemanager")
    last = started + QUIET

    def report(phase: str, step: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now < last:
            return
        with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
            terminal = os.isatty(2)
            last = now + EVERY[terminal]
            share = f" {step}/{total}" if total > 1 else ""
            line = f"{what}: {phase}{share} after {now - started:.0f} s"
            os.write(2, (f"\r\x1b[2K{line}" if terminal else f"\n{line}\n").encode())

    return report
