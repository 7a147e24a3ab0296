"""Plans on disk: whole or not at all, and never one that can't be trusted."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import SpecError
from harness.runtime import cache as caches
from harness.runtime import envelope, held, inventory
from harness.runtime.cache import WRITERS, PlanCache, default_folder
from harness.runtime.envelope import FORMAT, HEAD, MAGIC, EnvelopeError
from harness.runtime.store import CacheWarning, Store

PLAN = np.arange(1000, dtype=np.uint8)
KEY, OTHER = "ab" * 32, "cd" * 32


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
        (lambda data: flip(data, HEAD + 9), "is damaged: its SHA-256 differs"),  # the header
        (lambda data: data[:-1], "is cut short: "),
        (lambda data: data + b"\0", "bytes, where its head speaks of"),
        (lambda data: data[:20], "is cut short: 20 bytes"),
        (lambda _: b"", "is cut short: 0 bytes"),
        (lambda data: data + b"x", "where its head speaks of"),
        (lambda data: b"\x00" * len(data), "is no envelope of this project"),
        (lambda data: MAGIC + (FORMAT + 1).to_bytes(4, "little") + data[12:], f"has format {FORMAT + 1}"),
        (lambda data: MAGIC + (FORMAT - 1).to_bytes(4, "little") + data[12:], f"has format {FORMAT - 1}"),
        (
            lambda data: b"TRTHPLAN" + data[8:],
            "is no envelope of this project",
        ),  # as older versions wrote
    ],
)
def test_an_entry_that_cannot_be_trusted_is_set_aside(cache: PlanCache, entry: Path, damage, reason: str) -> None:
    entry.write_bytes(damage(entry.read_bytes()))
    with pytest.warns(CacheWarning) as heard:
        assert cache.get(KEY) is None
    assert [reason in str(warning.message) for warning in heard] == [True]
    assert not entry.exists()
    assert entry.with_suffix(".bad").exists()
    cache.put(KEY, PLAN, {})
    np.testing.assert_array_equal(cache.get(KEY), PLAN)


def test_the_entry_of_another_plan_is_foreign(cache: PlanCache, entry: Path) -> None:
    entry.rename(cache.path(OTHER))
    with pytest.warns(CacheWarning, match=f"holds another entry, the plan {KEY}"):
        assert cache.get(OTHER) is None


def test_an_entry_of_another_kind_is_foreign(cache: PlanCache) -> None:
    timings = Store(cache.folder, "timing cache")
    timings.put(KEY, PLAN, {}, {})
    timings.path(KEY).rename(cache.path(KEY))
    with pytest.warns(CacheWarning, match=f"holds another entry, the timing cache {KEY}"):
        assert cache.get(KEY) is None


def test_what_cannot_be_read_costs_a_warning(cache: PlanCache) -> None:
    cache.path(KEY).mkdir()
    with pytest.warns(CacheWarning, match=r"could not be read \(Is a directory\): it is made anew"):
        assert cache.get(KEY) is None


def test_an_entry_is_used_where_nothing_can_be_written(
    cache: PlanCache, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    assert entry.exists()
    monkeypatch.setattr(os, "utime", refused)
    np.testing.assert_array_equal(cache.get(KEY), PLAN)


def test_an_entry_is_not_taken_away_while_it_is_read(
    cache: PlanCache, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, removed = envelope.read, []

    def reads(file: Any) -> Any:
        removed.append(inventory.items(cache.folder)[0].remove())
        return read(file)

    monkeypatch.setattr(envelope, "read", reads)
    assert cache.get(KEY) is not None
    (item,) = inventory.items(cache.folder)
    assert item.verify() == ""
    assert removed == [False, False]
    assert entry.exists()


def test_of_two_that_find_an_entry_damaged_one_sets_it_aside(
    cache: PlanCache, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: Any) -> Any:
        entry.replace(entry.with_suffix(".bad"))  # by the other, just now
        raise EnvelopeError("is cut short")

    monkeypatch.setattr(envelope, "read", read)
    with pytest.warns(CacheWarning, match="is cut short; set aside") as heard:
        assert cache.get(KEY) is None
    assert len(heard) == 1, "nobody says that it could not be read"


def test_a_damaged_entry_fails_nothing_where_warnings_are_errors(cache: PlanCache, entry: Path) -> None:
    entry.write_bytes(b"")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("error")
        assert cache.get(KEY) is None
    assert [warning.category for warning in heard] == [CacheWarning]


def test_a_full_disk_costs_a_warning(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.warns(CacheWarning, match="could not be written .No space left on device"):
        cache.put(KEY, PLAN, {})
    with pytest.warns(CacheWarning, match="could not be written"):
        PlanCache(cache.folder, limit=1 << 20).put(KEY, PLAN, {})
    assert list(cache.folder.iterdir()) == []


def test_an_entry_is_whole_when_it_gets_its_name(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def opened(path: Path, target: Path) -> Path:
        np.testing.assert_array_equal(envelope.opened(path.read_bytes()).payload, PLAN)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", opened)
    cache.put(KEY, PLAN, {})
    assert cache.path(KEY).exists()


def test_an_unfinished_entry_that_was_swept_away_is_begun_again(
    cache: PlanCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its being held."""
    take = held.take

    def late(handle: int) -> bool:
        monkeypatch.setattr(held, "take", take)
        inventory.make_room(cache.folder, 1 << 20)
        return take(handle)

    monkeypatch.setattr(held, "take", late)
    cache.put(KEY, PLAN, {})
    np.testing.assert_array_equal(cache.get(KEY), PLAN)


def test_a_folder_that_cannot_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpecError, match=r"can't make the folder .*file/plans"):
        PlanCache(tmp_path / "file" / "plans")


# A process that locks, says so, and holds on until it is told to go: by a line on its input.
HOLDER = """
import sys
from pathlib import Path
from harness.runtime.cache import WRITERS, PlanCache
with PlanCache(Path(sys.argv[1])).lock("ab" * 32):
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
            with cache.lock(OTHER):  # and nobody else does
                pass
            first.communicate(b"\n", timeout=20)
            assert says_something(second, within=20)


def test_a_dead_holder_holds_nothing(cache: PlanCache) -> None:
    with running(HOLDER, cache) as first:
        assert says_something(first, within=20)
        first.kill()
        first.wait(20)
        assert [path.suffix for path in cache.folder.iterdir()] == [".lock"], "it is left, and blocks nobody"
        with running(HOLDER, cache) as second:
            assert says_something(second, within=20)
            second.communicate(b"\n", timeout=20)
    assert list(cache.folder.iterdir()) == []


def test_locks_do_not_pile_up(cache: PlanCache) -> None:
    for number in range(10):
        with cache.lock(f"{number:064x}"):
            pass
    assert list(cache.folder.iterdir()) == []


def test_an_interrupted_wait_leaves_nothing_open(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    monkeypatch.setattr(held.fcntl, "flock", interrupted)
    with pytest.raises(KeyboardInterrupt), cache.lock(KEY):
        pass
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


def test_whoever_waited_for_a_lock_that_was_taken_away_waits_for_the_next(cache: PlanCache) -> None:
    """Else two would build one plan: one on the file that is gone, one on the new one."""
    inside: list[int] = []
    most: list[int] = []

    def hold(number: int) -> None:
        for _ in range(50):
            with cache.lock(KEY):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.0001)
                inside.remove(number)

    threads = [threading.Thread(target=hold, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(most) == 200
    assert set(most) == {1}


def test_a_folder_that_cannot_be_written_to_is_read(cache: PlanCache, entry: Path) -> None:
    missing = PlanCache(cache.folder)
    entry.rename(cache.folder.parent / entry.name)
    cache.folder.rmdir()  # as good as one that is read only, also for root
    with missing.lock(KEY), pytest.warns(CacheWarning, match="could not be written"):
        missing.put(KEY, PLAN, {})
    assert missing.get(KEY) is None


# Writes one entry again and again, each whole with one number.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from harness.runtime.cache import WRITERS, PlanCache
cache = PlanCache(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(100000):
    cache.put("ab" * 32, np.full(1000000, number % 251, np.uint8), {})
"""


def test_a_reader_and_a_killed_writer_never_leave_half_a_plan(cache: PlanCache) -> None:
    with running(WRITER, cache) as writer:
        assert says_something(writer, within=20)
        seen = set()
        deadline = time.monotonic() + 20
        with warnings.catch_warnings(record=True) as heard:
            while len(seen) < 20 and time.monotonic() < deadline:
                plan = cache.get(KEY)
                if plan is not None:
                    assert len(set(plan[[0, 1000, -1]].tolist())) == 1
                    seen.add(int(plan[0]))
            writer.kill()
            writer.wait(20)
            assert cache.get(KEY) is not None
    assert [str(warning.message) for warning in heard] == []
    assert len(seen) == 20


# How much there is ------------------------------------------------------------------------------


def fill(cache: PlanCache, count: int) -> list[str]:
    """Plans of 1,000 bytes, the first of them used longest ago."""
    keys = [f"{number:064x}" for number in range(1, count + 1)]
    for age, key in enumerate(reversed(keys)):
        cache.put(key, PLAN, {})
        os.utime(cache.path(key), (time.time() - 100 * age - 100,) * 2)
    return keys


def present(cache: PlanCache, keys: list[str]) -> list[bool]:
    return [cache.path(key).exists() for key in keys]


def test_what_was_used_longest_ago_makes_room(cache: PlanCache) -> None:
    keys = fill(cache, 4)
    size = cache.path(keys[0]).stat().st_size
    assert cache.get(keys[0]) is not None  # which is a use
    limited = PlanCache(cache.folder, limit=4 * size + 10)
    limited.put(KEY, PLAN, {})
    assert present(cache, keys) == [True, False, True, True]
    assert cache.path(KEY).exists()


def test_a_limit_holds_for_many_writers_that_seldom_look(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, items = [], inventory.items
    monkeypatch.setattr(inventory, "items", lambda folder: looks.append(folder) or items(folder))
    fill(cache, 1)
    size = next(cache.folder.glob("*.plan")).stat().st_size
    limit = 300 * size
    writers = [PlanCache(cache.folder, limit=limit) for _ in range(WRITERS)]
    most = 0
    for number in range(1000):
        writers[number % WRITERS].put(f"{number + 1000:064x}", PLAN, {})
        with os.scandir(cache.folder) as found:  # a thousand times some hundred entries
            most = max(most, sum(entry.stat().st_size for entry in found if entry.name.endswith(".plan")))
    assert limit - 2 * size < most <= limit
    looks.clear()
    alone = PlanCache(cache.folder, limit=1000 * WRITERS * size)
    for number in range(200):
        alone.put(f"{number + 9000:064x}", PLAN, {})
    assert len(looks) == 2  # before it knew how much there was, and after it had made room


def test_without_a_limit_nothing_goes(cache: PlanCache) -> None:
    keys = fill(cache, 4)
    cache.put(KEY, PLAN, {})
    assert all(present(cache, keys))


def test_a_plan_that_is_built_or_read_stays(cache: PlanCache) -> None:
    keys = fill(cache, 4)
    limited = PlanCache(cache.folder, limit=1)
    with cache.path(keys[1]).open("rb") as reading, limited.lock(keys[0]), limited.lock(KEY):
        assert held.share(reading.fileno())
        limited.put(KEY, PLAN, {})
    assert present(cache, [*keys, KEY]) == [True, True, False, False, True]


def test_what_was_set_aside_goes_first_and_timing_caches_stay(cache: PlanCache, entry: Path) -> None:
    aside = entry.rename(entry.with_suffix(".bad"))
    keys = fill(cache, 2)
    Store(cache.folder, "timing cache").put(OTHER, PLAN, {}, {})
    os.utime(cache.folder / f"{OTHER}.timing", (0, 0))
    total = sum(path.stat().st_size for path in cache.folder.iterdir())
    inventory.make_room(cache.folder, total - 1)
    assert not aside.exists()
    assert all(present(cache, keys))
    inventory.make_room(cache.folder, 0)
    assert [path.suffix for path in cache.folder.iterdir()] == [".timing"]


def test_files_of_others_are_left_alone(cache: PlanCache) -> None:
    """A folder that somebody names may hold more than a cache."""
    mine = [cache.folder / name for name in ("bert.plan", "notes.bad", f"{KEY}.onnx", f"x{KEY}.plan", ".hidden.tmp")]
    for path in mine:
        path.write_bytes(b"mine")
    (cache.folder / f"{OTHER}.plan").symlink_to(mine[0])
    inventory.make_room(cache.folder, 0)
    assert all(path.read_bytes() == b"mine" for path in mine)
    (link,) = inventory.items(cache.folder)
    assert (link.size, link.path.is_symlink()) == (link.path.lstat().st_size, True)


def test_what_is_not_there_any_more_is_nothing(cache: PlanCache, entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others tidy up, too, between a look at the folder and a look at the file."""
    assert inventory.items(cache.folder / "absent") == []
    (item,) = inventory.items(cache.folder)
    entry.unlink()
    assert (item.header().producer, item.verify(), item.remove()) == ({}, "", False)
    cache.put(KEY, PLAN, {})
    scandir = os.scandir

    def then_gone(folder: Path) -> list[os.DirEntry[str]]:
        found = list(scandir(folder))
        entry.unlink()
        return found

    monkeypatch.setattr(inventory.os, "scandir", then_gone)
    assert inventory.items(cache.folder) == []


def test_verify_says_why(cache: PlanCache, entry: Path) -> None:
    entry.rename(cache.path(OTHER))
    cache.path(KEY).mkdir()
    unreadable, foreign = sorted(inventory.items(cache.folder), key=lambda item: item.key)
    assert unreadable.verify() == "can't be read: Is a directory"
    with pytest.raises(EnvelopeError, match="can't be read: Is a directory"):
        unreadable.header()
    assert foreign.verify() == f"holds another entry, the plan {KEY}"
    assert not unreadable.remove()


def test_what_was_put_in_the_place_of_an_item_stays(
    cache: PlanCache, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = held.take

    def late(handle: int) -> bool:
        monkeypatch.setattr(held, "take", take)
        cache.put(KEY, PLAN, {})  # by another process, just now
        return take(handle)

    (item,) = inventory.items(cache.folder)
    monkeypatch.setattr(held, "take", late)
    assert not item.remove()
    assert entry.exists()


def test_room_is_made_by_one_process_at_a_time(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited looks again: what the one before has taken away is room enough."""
    keys = fill(cache, 4)
    size = sum(cache.path(key).stat().st_size for key in keys[:3])  # of which none is just as large as another

    @contextlib.contextmanager
    def waited(_: Path) -> Iterator[None]:
        cache.path(keys[3]).unlink()
        yield

    monkeypatch.setattr(held, "locked", waited)
    inventory.make_room(cache.folder, size)
    assert present(cache, keys) == [True, True, True, False]


def test_where_there_is_room_nobody_waits_for_who_makes_it(cache: PlanCache) -> None:
    fill(cache, 1)
    thread = threading.Thread(target=inventory.make_room, args=(cache.folder, 1 << 20))
    with held.locked(cache.folder / f"{'0' * 64}.lock"):
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    thread.join(20)


def test_what_killed_processes_left_goes_with_the_next_plan(cache: PlanCache) -> None:
    left = [cache.folder / f"{KEY}.lock", cache.folder / f".{KEY}.plan-abc_123.tmp"]
    for path in left:
        path.touch()
    limited = PlanCache(cache.folder, limit=1 << 20)
    with limited.lock(OTHER):
        limited.put(OTHER, PLAN, {})
        assert (cache.folder / f"{OTHER}.lock").exists()
    assert [path.exists() for path in left] == [False, False]


def test_an_unfinished_plan_is_not_taken_for_a_dead_writers(cache: PlanCache, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = Path.replace

    def sweep(path: Path, target: Path) -> Path:
        inventory.make_room(cache.folder, 1 << 20)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", sweep)
    cache.put(KEY, PLAN, {})
    np.testing.assert_array_equal(cache.get(KEY), PLAN)


# Whose it is ------------------------------------------------------------------------------------


def test_the_plan_of_another_user_is_not_loaded(cache: PlanCache, entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan is code."""
    monkeypatch.setattr("harness.runtime.store._owner", lambda _: 12345)
    assert os.geteuid() != 12345
    with pytest.warns(CacheWarning, match=r"put there by another user \(uid 12345\).*--trust"):
        assert cache.get(KEY) is None
    assert entry.exists()
    assert PlanCache(cache.folder, trusted=True).get(KEY) is not None


@pytest.mark.parametrize(("owner", "loaded"), [(0, True), (1000, True), (1001, False)])
def test_what_the_user_or_the_system_has_put_there_is(
    cache: PlanCache, entry: Path, monkeypatch: pytest.MonkeyPatch, owner: int, loaded: bool
) -> None:
    assert entry.exists()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr("harness.runtime.store._owner", lambda _: owner)
    with contextlib.nullcontext() if loaded else pytest.warns(CacheWarning, match="another user"):
        assert (cache.get(KEY) is not None) == loaded


def test_a_good_entry_is_not_set_aside_for_a_bad_one_that_it_replaced(
    cache: PlanCache, entry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-1])

    def read(_: Any) -> Any:
        cache.put(KEY, PLAN, {})  # by another process, just now
        raise EnvelopeError("is cut short")

    monkeypatch.setattr("harness.runtime.envelope.read", read)
    with pytest.warns(CacheWarning):
        assert cache.get(KEY) is None
    monkeypatch.undo()
    np.testing.assert_array_equal(cache.get(KEY), PLAN)


# Where it is ------------------------------------------------------------------------------------


def test_the_default_is_the_users_own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_folder() == tmp_path / "cache" / "trt-harness" / "engines"
    assert default_folder().is_dir()


def test_without_a_home_to_write_to_it_is_a_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(caches.tempfile, "gettempdir", lambda: str(tmp_path))
    assert default_folder() == tmp_path / f"trt-harness-{os.geteuid()}" / "engines"
