"""What holds for every test of the harness."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import tempfile
import time

import pytest

from harness.runtime import sampling
from harness.runtime.backend import fake_samples
from harness.spec.source import EXPORT_VARIABLE

_NUMBERS = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    """What tests, workers and all programs that they start share: exports of models, and the number of threads."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="trt-harness-exports-")
        os.environ[EXPORT_VARIABLE] = folder
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # idle threads cost each program .1 s
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What was collected stays to the end: who looks for garbage, as each pytest in a test does, passes it over."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache folder of the user's that is empty, and not the real one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / f"cache-{next(_NUMBERS)}"))


@pytest.fixture(autouse=True)
def _own_devices(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Devices that no other process of the harness waits for, nor is waited for."""
    monkeypatch.setenv("TRT_HARNESS_LOCKS", str(tmp_path_factory.getbasetemp() / "locks"))


class PlayedClock:
    """The time that passes, and beside it what was slept: whoever sleeps by this clock wakes at once, and later."""

    def __init__(self) -> None:
        self._slept = 0.0

    def sleep(self, seconds: float) -> None:
        self._slept += seconds

    def perf_counter(self) -> float:
        return time.perf_counter() + self._slept

    def perf_counter_ns(self) -> int:
        return time.perf_counter_ns() + round(1e9 * self._slept)


@pytest.fixture
def played_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for what the fake device plays in this process: it, and who samples it, go by one played clock."""
    clock = PlayedClock()
    for module in (fake_samples, sampling):
        monkeypatch.setattr(module, "time", clock)
