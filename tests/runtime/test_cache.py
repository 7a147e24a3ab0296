"""Plans on disk: whole or not at all, and never one that can't be trusted."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import SpecError
from harness.runtime.cache import FORMAT, MAGIC, PlanCache, PlanCacheWarning

PLAN = np.arange(1000, dtype=np.uint8)
KEY = "k" * 64


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans")


@pytest.fixture
def entry(cache: PlanCache) -> Path:
    cache.put(KEY, PLAN, {"model": "mlp"})
    return cache.path(KEY)


def test_a_plan_comes_back_in_another_process(cache: PlanCache, entry: Path) -> None:
    assert entry.is_file()
    found = PlanCache(cache.folder).get(KEY)
    assert found is not None
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, PLAN)


def test_no_entry_is_no_plan(cache: PlanCache) -> None:
    assert cache.get(KEY) is None


def test_a_later_entry_replaces_an_earlier(cache: PlanCache, entry: Path) -> None:
    cache.put(KEY, PLAN[:10], {})
    np.testing.assert_array_equal(cache.get(KEY), PLAN[:10])
    assert sorted(path.name for path in cache.folder.iterdir()) == [entry.name]


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: flip(data, len(data) - 1), "is damaged: its SHA-256 differs"),  # the plan
        (lambda data: flip(data, 60), "is damaged: its SHA-256 differs"),  # the header
        (lambda data: data[:-1], "is damaged: its SHA-256 differs"),
        (lambda data: data[:20], "is cut short: 20 bytes"),
        (lambda _: b"", "is cut short: 0 bytes"),
        (lambda data: b"\x00" * len(data), "is no entry of a plan cache"),
        (lambda data: MAGIC + (FORMAT + 1).to_bytes(4, "little") + data[12:], f"has format {FORMAT + 1}"),
    ],
)
def test_an_entry_that_cannot_be_trusted_is_set_aside(cache: PlanCache, entry: Path, damage, reason: str) -> None:
    entry.write_bytes(damage(entry.read_bytes()))
    with pytest.warns(PlanCacheWarning) as heard:
        assert cache.get(KEY) is None
    assert [reason in str(warning.message) for warning in heard] == [True]
    assert not entry.exists()
    assert entry.with_suffix(".bad").exists()
    cache.put(KEY, PLAN, {})
    np.testing.assert_array_equal(cache.get(KEY), PLAN)


def test_the_entry_of_another_plan_is_foreign(cache: PlanCache, entry: Path) -> None:
    other = "o" * 64
    entry.rename(cache.path(other))
    with pytest.warns(PlanCacheWarning, match=f"holds another plan, {KEY}"):
        assert cache.get(other) is None


def test_a_damaged_entry_fails_nothing_where_warnings_are_errors(cache: PlanCache, entry: Path) -> None:
    entry.write_bytes(b"")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("error")
        assert cache.get(KEY) is None
    assert [warning.category for warning in heard] == [PlanCacheWarning]


def test_a_full_disk_costs_a_warning(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.warns(PlanCacheWarning, match="could not be written .No space left on device"):
        cache.put(KEY, PLAN, {})
    assert list(cache.folder.iterdir()) == []


def test_a_folder_that_cannot_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match=r"can't make the folder .*file/plans"):
        PlanCache(tmp_path / "file" / "plans")


# A process that locks, says so, and holds on until it is told to go: by a line on its input.
HOLDER = """
import sys
from pathlib import Path
from harness.runtime.cache import PlanCache
with PlanCache(Path(sys.argv[1])).lock("key"):
    print("locked", flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def running(program: str, cache: PlanCache) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", program, str(cache.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            yield process
        finally:
            process.kill()


def says_something(process: subprocess.Popen[bytes], within: float) -> bool:
    return bool(select.select([process.stdout], [], [], within)[0])


def test_two_processes_do_not_build_one_plan(cache: PlanCache) -> None:
    with running(HOLDER, cache) as first:
        assert says_something(first, within=20)
        with running(HOLDER, cache) as second:
            assert not says_something(second, within=1)  # it waits
            with cache.lock("another key"):  # and nobody else does
                pass
            first.communicate(b"\n", timeout=20)
            assert says_something(second, within=20)


def test_a_dead_holder_holds_nothing(cache: PlanCache) -> None:
    with running(HOLDER, cache) as first:
        assert says_something(first, within=20)
        first.kill()
        first.wait(20)
        with running(HOLDER, cache) as second:
            assert says_something(second, within=20)


# Writes one entry again and again, each whole with one number.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from harness.runtime.cache import PlanCache
cache = PlanCache(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(100000):
    cache.put("key", np.full(1000000, number % 251, np.uint8), {})
"""


def test_a_reader_and_a_killed_writer_never_leave_half_a_plan(cache: PlanCache) -> None:
    with running(WRITER, cache) as writer:
        assert says_something(writer, within=20)
        seen = set()
        deadline = time.monotonic() + 20
        with warnings.catch_warnings(record=True) as heard:
            while len(seen) < 20 and time.monotonic() < deadline:
                plan = cache.get("key")
                if plan is not None:
                    assert len(set(plan[[0, 1000, -1]].tolist())) == 1
                    seen.add(int(plan[0]))
            writer.kill()
            writer.wait(20)
            assert cache.get("key") is not None
    assert [str(warning.message) for warning in heard] == []
    assert len(seen) == 20
