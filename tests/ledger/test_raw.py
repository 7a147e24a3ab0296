"""Raw samples: one file for the same ones, whole or not there, and never taken for others."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from harness.errors import StoreError
from harness.ledger.raw import Samples, Taken, key_of


def taken(seed: int = 0, count: int = 100) -> list[Taken]:
    draw = np.random.default_rng(seed)
    return [
        {"graph": {"gpu": draw.random(count), "host": draw.random(count)}, "plain": {"gpu": draw.random(5)}}
        for _ in range(3)
    ]


def test_samples_come_back_to_the_last_bit(tmp_path: Path) -> None:
    samples = Samples(tmp_path)
    key, nbytes = samples.put(taken())
    assert samples.file(key).stat().st_size == nbytes
    found = samples.get(key)
    assert key_of(found) == key
    for one, other in zip(found, taken(), strict=True):
        for way, metrics in other.items():
            assert list(one[way]) == list(metrics)
            for metric, values in metrics.items():
                assert one[way][metric].tobytes() == values.tobytes()


def test_the_same_samples_are_one_file(tmp_path: Path) -> None:
    samples = Samples(tmp_path)
    threads = [threading.Thread(target=samples.put, args=(taken(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({samples.put(taken())[0], key_of(taken())}) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [f"{key_of(taken())}.parquet"]


@pytest.mark.parametrize("change", [0, 1, 2, 3])
def test_any_difference_is_another_key(change: int) -> None:
    other = taken()
    if change == 0:
        other[0]["plain"]["gpu"][0] = np.nextafter(other[0]["plain"]["gpu"][0], 1)
    elif change == 1:
        other.pop()
    elif change == 2:
        other[1] = {"other": other[1]["graph"]}
    else:
        other.reverse()
    assert key_of(other) != key_of(taken())


def test_what_is_not_here(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="these samples are not here: they were pruned"):
        Samples(tmp_path).get("0" * 64)


@pytest.mark.parametrize("content", [b"", b"PAR1 no parquet", b"x" * 1000])
def test_what_is_no_parquet(tmp_path: Path, content: bytes) -> None:
    samples = Samples(tmp_path)
    key, _ = samples.put(taken())
    samples.file(key).write_bytes(content)
    with pytest.raises(StoreError, match="no samples can be read from it"):
        samples.get(key)


def test_other_samples_under_this_name(tmp_path: Path) -> None:
    samples = Samples(tmp_path)
    (key, _), (other, _) = samples.put(taken()), samples.put(taken(1))
    samples.file(other).replace(samples.file(key))
    with pytest.raises(StoreError, match="not the samples that were put there"):
        samples.get(key)


def test_samples_from_elsewhere_are_looked_at(tmp_path: Path) -> None:
    here, there = Samples(tmp_path / "here"), Samples(tmp_path / "there")
    key, nbytes = there.put(taken())
    content = there.file(key).read_bytes()
    assert here.adopt(key, content) == nbytes
    assert key_of(here.get(key)) == key
    assert here.adopt(key, content) == 0, "it is here already"
    with pytest.raises(StoreError, match="not the samples that were put there"):
        here.adopt("1" * 64, content)
    with pytest.raises(StoreError, match=r"'\.\./x': no key of samples"):
        here.adopt("../x", content)
    assert [path.stem for path in (tmp_path / "here").rglob("*") if path.is_file()] == [key]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file.*: samples can't be written: Not a directory"):
        Samples(tmp_path / "file").put(taken())


def test_what_is_dropped_is_gone(tmp_path: Path) -> None:
    samples = Samples(tmp_path)
    key, nbytes = samples.put(taken())
    assert (samples.drop(key), samples.drop(key)) == (nbytes, 0)
    assert list(samples.files()) == []
