"""Who uses a device: shared, alone, and in which words others are told."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from harness.runtime import device_lock
from harness.runtime.device_lock import DeviceLock, lock_of

SPAWN = multiprocessing.get_context("spawn")


def _use(folder: Path, key: str, alone: bool, has: Event, done: Event) -> None:
    lock = DeviceLock(key, folder)
    with lock.alone("to measure") if alone else lock.shared("to run"):
        has.set()
        done.wait(30)


class Other:
    """Another process that uses a device, until it is told to let go."""

    def __init__(self, folder: Path, key: str = "gpu", *, alone: bool = False) -> None:
        self.has, self.done = SPAWN.Event(), SPAWN.Event()
        self.process = SPAWN.Process(target=_use, args=(folder, key, alone, self.has, self.done))
        self.process.start()

    def __enter__(self) -> Other:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_alive():  # one that was killed as it waited never takes note, and to set waits for that
            self.done.set()
        self.process.join()


@pytest.mark.parametrize(("theirs", "mine"), [("alone", "alone"), ("alone", "shared"), ("shared", "alone")])
def test_who_is_alone_overlaps_with_nobody(tmp_path: Path, theirs: str, mine: str):
    told: list[str] = []
    with Other(tmp_path, alone=theirs == "alone") as other:
        assert other.has.wait(30)
        purpose = "to measure" if theirs == "alone" else "to run"
        want = f"here: waits for gpu, in use by {purpose} (process {other.process.pid})"

        def tell(words: str) -> None:
            told.append(words)
            other.done.set()  # it lets go because of this, and not before

        lock = DeviceLock("gpu", tmp_path)
        with lock.alone("here", tell) if mine == "alone" else lock.shared("here", tell):
            assert other.done.is_set()
    assert told == [want]


def test_those_who_share_do_not_wait(tmp_path: Path):
    with Other(tmp_path) as other:
        assert other.has.wait(30)
        with DeviceLock("gpu", tmp_path).shared("here", pytest.fail):
            assert not other.done.is_set()


def test_another_device_is_not_waited_for(tmp_path: Path):
    with Other(tmp_path, "gpu", alone=True) as other:
        assert other.has.wait(30)
        with DeviceLock("gpu2", tmp_path).alone("here", pytest.fail):
            assert not other.done.is_set()


def test_a_dead_process_holds_nothing_and_is_not_named(tmp_path: Path):
    with Other(tmp_path, alone=True) as other:
        assert other.has.wait(30)
        other.process.kill()
        other.process.join()
        lock = DeviceLock("gpu", tmp_path)
        with lock.alone("here", pytest.fail):
            assert lock.users() == []
        assert list(tmp_path.glob(f"*.{os.getpid()}.user")) == []


def test_uses_are_nested(tmp_path: Path):
    """What was shared before is shared again after, and nobody waits for himself."""
    lock = DeviceLock("gpu", tmp_path)
    with lock.shared("all along", pytest.fail):
        with lock.alone("for a while", pytest.fail), lock.shared("within", pytest.fail), lock.alone("too", pytest.fail):
            pass
        with Other(tmp_path) as other:
            assert other.has.wait(30)  # it shares with this process, which is alone no more
            assert lock.users() == [f"to run (process {other.process.pid})"]
    with Other(tmp_path, alone=True) as other:
        assert other.has.wait(30)


def test_one_who_gives_up_waiting_holds_nothing(tmp_path: Path):
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    lock = DeviceLock("gpu", tmp_path)
    with Other(tmp_path) as other:
        assert other.has.wait(30)
        with pytest.raises(KeyboardInterrupt), lock.alone("here", interrupt):
            pass
    with Other(tmp_path, alone=True) as other:
        assert other.has.wait(30)


def test_a_process_has_one_lock_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(device_lock.FOLDER, str(tmp_path))
    assert lock_of("gpu") is lock_of("gpu")
    with lock_of("gpu").alone("here", pytest.fail), lock_of("gpu").shared("probe", pytest.fail):
        assert (tmp_path / f"gpu.{os.getpid()}.user").read_text() == "here"
