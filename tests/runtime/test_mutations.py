"""10,000 changed files: none passes for what it was, and none is more than a warning."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.runtime import envelope, inventory
from harness.runtime.cache import PlanCache
from harness.runtime.envelope import EnvelopeError, Sealed
from harness.runtime.store import CacheWarning, Store
from harness.runtime.timing import KIND, Timings
from tests.runtime.mutations import MUTATIONS, mutated

KEY, OTHER = "ab" * 32, "cd" * 32
PAYLOAD = np.random.default_rng(0).integers(0, 256, 3000, np.uint8)
PRODUCER = {"backend": "tensorrt", "version": "8.6.1", "gpu": "NVIDIA H200", "fingerprint": "f" * 64}


def whole(kind: str, key: str, payload: np.ndarray, made: float) -> bytes:
    head, data = envelope.sealed(Sealed(kind, key, payload, PRODUCER, {"model": "mlp"}, made))
    return head + data.tobytes()


def files(kind: str) -> tuple[bytes, list[bytes]]:
    """One, and others of the same kind: the same plan another time, another plan, an empty one."""
    others = [
        whole(kind, KEY, PAYLOAD, 2.0),
        whole(kind, OTHER, PAYLOAD[::-1], 1.0),
        whole(kind, KEY, np.zeros(0, np.uint8), 1.0),
    ]
    return whole(kind, KEY, PAYLOAD, 1.0), others


def read_plan(folder: Path) -> object:
    return PlanCache(folder).get(KEY)


def read_timings(folder: Path) -> object:
    found = Timings(folder).known(KEY)
    return found if found.nbytes else None


def read_file(folder: Path) -> object:
    """A timing cache that the user brings along."""
    timings = Timings(folder / "store", folder / f"{KEY}.timing")
    timings.bring_in(KEY, lambda caches: caches[0], PRODUCER)
    found = timings.known(KEY)
    return found if found.nbytes else None


@pytest.mark.parametrize(
    ("kind", "read", "count"),
    [("plan", read_plan, 5000), (KIND, read_timings, 2500), (KIND, read_file, 2500)],
    ids=["plans", "timing caches", "files"],
)
def test_no_change_is_accepted(tmp_path: Path, kind: str, read: Callable[[Path], object], count: int) -> None:
    draw = random.Random(f"{kind} {read.__name__}")
    data, others = files(kind)
    path = tmp_path / f"{KEY}{'.plan' if kind == 'plan' else '.timing'}"
    path.write_bytes(data)
    assert read(tmp_path) is not None, "it can tell good from bad"
    seen = Counter[str]()
    for _ in range(count):
        way, changed = mutated(draw, data, others)
        seen[way] += 1
        path.write_bytes(changed)
        for left in tmp_path.glob("store/*"):
            left.unlink()
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("error")
            assert read(tmp_path) is None, way
        assert [warning.category for warning in heard] == [CacheWarning], way
        with pytest.raises(EnvelopeError):
            envelope.opened(changed)
    assert seen.keys() == {way.__name__ for way in MUTATIONS}


def test_what_a_changed_file_says_of_itself_takes_nothing_down(tmp_path: Path) -> None:
    """Listing reads headers that nobody has verified."""
    draw = random.Random(1)
    data, others = files("plan")
    path = tmp_path / f"{KEY}.plan"
    for _ in range(1000):
        way, changed = mutated(draw, data, others)
        path.write_bytes(changed)
        (item,) = inventory.items(tmp_path)
        assert item.verify(), way
        for removal in inventory.stale([item], {"tensorrt": "f" * 64}):
            assert removal.reason


def test_a_forged_header_is_no_entry(tmp_path: Path) -> None:
    """With the right digest, but of no header that this project writes."""
    store = Store(tmp_path, "plan")
    other = b'{"facts": {}, "key": "%s", "kind": "plan", "made": %s, "producer": %s}'
    headers = [b"", b"[]", b"null", b'{"kind": "plan"}', b"\xff", b"[" * 100_000, b'{"payload": 1}']
    headers += [other % (KEY.encode(), *types) for types in ((b'"now"', b"{}"), (b"1.0", b"[]"))]
    for header in headers:
        head = envelope._BEFORE.pack(envelope.MAGIC, envelope.FORMAT, len(header), PAYLOAD.nbytes)
        digest = envelope._digest(head, header, PAYLOAD)
        store.path(KEY).write_bytes(head + digest + header + PAYLOAD.tobytes())
        with pytest.warns(CacheWarning, match="foreign"):
            assert store.get(KEY) is None


def test_a_header_of_any_length_is_not_read(tmp_path: Path) -> None:
    """Listing reads headers, and who wrote one may say that it is all of a large file."""
    path = tmp_path / f"{KEY}.plan"
    with path.open("wb") as file:
        file.write(envelope._BEFORE.pack(envelope.MAGIC, envelope.FORMAT, 1 << 25, 0))
        file.truncate(envelope.HEAD + (1 << 25))
    with pytest.raises(EnvelopeError, match="is damaged"):
        inventory.items(tmp_path)[0].header()


def test_a_boundary_that_moved_is_seen() -> None:
    """White space at the beginning of a plan would do for the end of the header: only the head tells it apart."""
    data = whole("plan", KEY, np.frombuffer(b"    plan", np.uint8), 1.0)
    _, _, header, payload = envelope._BEFORE.unpack_from(data)
    head = envelope._BEFORE.pack(envelope.MAGIC, envelope.FORMAT, header + 4, payload - 4)
    assert envelope.opened(data).payload.tobytes() == b"    plan"
    with pytest.raises(EnvelopeError, match="is damaged"):
        envelope.opened(head + data[len(head) :])


def test_a_file_that_is_none_is_not_read_beyond_its_head(tmp_path: Path) -> None:
    """A gigabyte of zeros costs neither memory nor time."""
    path = tmp_path / f"{KEY}.plan"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.warns(CacheWarning, match="is no envelope of this project"):
        assert PlanCache(tmp_path).get(KEY) is None
