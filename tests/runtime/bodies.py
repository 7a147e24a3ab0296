"""Functions that the tests of the engine host run inside it; they need numpy at most."""

from __future__ import annotations

import ctypes
import functools
import importlib
import logging
import os
import sys
import time
from typing import Any

from harness.errors import ComparisonFailure, RunError, SpecError, UnsupportedError


def echo(**values: Any) -> dict[str, Any]:
    return values


def add(x: Any, y: Any) -> Any:
    return x + y


def load_module(name: str) -> None:
    importlib.import_module(name)


def import_path() -> list[str]:
    return sys.path


def contents(path: str) -> str:
    with open(path) as file:  # noqa: PTH123
        return file.read()


def environment() -> dict[str, str]:
    return dict(os.environ)


def die(signal: int) -> None:
    """As a vendor's library does that logs, prints through C, prints through Python, and goes."""
    logging.getLogger("harness.runtime.nv").warning("no tactic was found")
    ctypes.CDLL(None).puts(b"assertion failed: dims.d[0] > 0")
    print("about to die")
    os.kill(os.getpid(), signal)
    time.sleep(60)


def chatter(line: str) -> None:
    print(line)
    logging.getLogger("harness.bodies").warning("heard: %s", line)


def close_channel() -> None:
    """Go on without a word, the channel closed behind the host's back."""
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            if os.readlink(f"/proc/self/fd/{entry}").startswith("socket:"):  # noqa: PTH115
                os.close(int(entry))
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    time.sleep(60)


def hold_gil() -> None:
    ctypes.PyDLL(None).pause()


def leave_crash_at_close() -> None:
    """Make the last thing that the host does fail."""
    setattr(logging, "shutdown", functools.partial(os.kill, os.getpid(), 11))  # noqa: B010 - a function of a module


def fail(kind: str) -> None:
    errors: dict[str, BaseException] = {
        "assertion": AssertionError("2 is not 3"),
        "comparison": ComparisonFailure("off by one"),
        "spec": SpecError("no such thing"),
        "unsupported": UnsupportedError("fp4", "no FP4 in BuilderFlag", "TensorRT 10.8"),
        "sticky": RunError("an illegal memory access was encountered", detail={"replace_host": True}),
        "stage": RunError("refused", log=("[E] bad dims",), detail={"node": "conv1", "object": object()}),
        "bug": ZeroDivisionError("one by none"),
        "exit": SystemExit(4),
    }
    raise errors[kind]


def unsendable() -> object:
    return object()
