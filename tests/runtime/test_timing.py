"""Timing caches on disk: what one build found out every other one knows, on this host and on the next."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import BuildError, ParseError, SpecError, StageError
from harness.runtime import envelope, held
from harness.runtime.backend.fake import FakeBackend
from harness.runtime.backend.protocol import REFUSED_TIMINGS, Array, BuildRequest, Plan
from harness.runtime.cache import PlanCache
from harness.runtime.envelope import Sealed
from harness.runtime.pool import EnginePool
from harness.runtime.store import CacheWarning, Store
from harness.runtime.timing import Timings, digest
from harness.spec import BuildConfig, EngineSpec, recipe
from tests.runtime import models

HERE, ELSEWHERE = "ab" * 32, "cd" * 32  # fingerprints
PRODUCER = {"backend": "tensorrt", "version": "8.6.1"}


def cache_of(*known: int) -> Array:
    return np.array(sorted(known), np.uint8)


def merge(caches: Sequence[Array]) -> Array:
    return np.unique(np.concatenate(list(caches)))


def no_merge(_: Sequence[Array]) -> Array:
    raise AssertionError("there is nothing to merge")


def learn(timings: Timings, before: Array, after: Array, how: Any = merge) -> None:
    timings.learn(HERE, before, after, how, PRODUCER)


@pytest.fixture
def timings(tmp_path: Path) -> Timings:
    return Timings(tmp_path / "cache", tmp_path / "night" / "timing.cache")


def test_what_a_build_left_is_what_the_next_begins_with(timings: Timings) -> None:
    nothing = timings.known(HERE)
    assert nothing.nbytes == 0
    learn(timings, nothing, cache_of(1, 2), no_merge)
    assert timings.known(HERE).tolist() == [1, 2]
    assert timings.known(ELSEWHERE).nbytes == 0
    learn(timings, cache_of(1, 2), cache_of(1, 2, 3), no_merge)
    assert Timings(timings.folder).known(HERE).tolist() == [1, 2, 3]


def test_what_two_builds_found_out_at_the_same_time_is_merged(timings: Timings) -> None:
    nothing = timings.known(HERE)
    learn(timings, nothing, cache_of(1, 2))
    learn(timings, nothing, cache_of(2, 3))
    assert timings.known(HERE).tolist() == [1, 2, 3]


def test_many_workers_lose_nothing(timings: Timings) -> None:
    def work(worker: int) -> None:
        for number in range(10):
            before = timings.known(HERE)
            learn(timings, before, merge([before, cache_of(10 * worker + number)]))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert timings.known(HERE).tolist() == list(range(40))
    assert [path.suffix for path in timings.folder.iterdir()] == [".timing"]


def test_nothing_new_is_not_written(timings: Timings) -> None:
    learn(timings, timings.known(HERE), cache_of(1))
    (file,) = timings.folder.iterdir()
    written = file.stat().st_ino
    learn(timings, cache_of(1), cache_of(1), no_merge)
    learn(timings, cache_of(9), cache_of(1), no_merge)
    learn(timings, cache_of(9), cache_of(9), no_merge)  # the build found out nothing
    assert file.stat().st_ino == written


def test_what_cannot_be_merged_is_lost_with_a_warning(timings: Timings) -> None:
    def fails(_: Sequence[Array]) -> Array:
        raise BuildError("not of this version")

    learn(timings, timings.known(HERE), cache_of(1))
    with pytest.warns(CacheWarning, match="can't be merged: not of this version"):
        learn(timings, cache_of(), cache_of(2), fails)
    assert timings.known(HERE).tolist() == [1]


def test_what_a_builder_refuses_is_set_aside(timings: Timings) -> None:
    learn(timings, timings.known(HERE), cache_of(1))
    timings.refuse(HERE, cache_of(7), "that was another one")
    assert timings.known(HERE).tolist() == [1]
    with pytest.warns(CacheWarning, match="no cache of mine; set aside as .*bad"):
        timings.refuse(HERE, cache_of(1), "no cache of mine")
    assert timings.known(HERE).nbytes == 0


# From host to host ------------------------------------------------------------------------------


@pytest.fixture
def night(timings: Timings) -> Path:
    """The file of a night before, which knows 1 and 2."""
    learn(timings, timings.known(HERE), cache_of(1, 2))
    timings.give_back(HERE)
    assert timings.file is not None
    return timings.file


@pytest.fixture
def fresh(tmp_path: Path, night: Path) -> Timings:
    """A host that has nothing but the file."""
    return Timings(tmp_path / "fresh", night)


def bring_in(timings: Timings, how: Any = merge) -> None:
    timings.bring_in(HERE, how, PRODUCER)


def test_a_fresh_host_knows_what_the_night_before_found_out(fresh: Timings) -> None:
    bring_in(fresh, no_merge)
    assert fresh.known(HERE).tolist() == [1, 2]


def test_what_is_known_here_and_there_is_merged(fresh: Timings, night: Path, tmp_path: Path) -> None:
    learn(fresh, fresh.known(HERE), cache_of(2, 3))
    bring_in(fresh)
    assert fresh.known(HERE).tolist() == [1, 2, 3]
    fresh.give_back(HERE)
    third = Timings(tmp_path / "third", night)
    bring_in(third, no_merge)
    assert third.known(HERE).tolist() == [1, 2, 3]


def test_bringing_in_the_same_again_merges_nothing(fresh: Timings) -> None:
    """Every worker does."""
    bring_in(fresh, no_merge)
    (file,) = fresh.folder.iterdir()
    written = file.stat().st_ino
    bring_in(fresh, no_merge)
    assert fresh.known(HERE).tolist() == [1, 2]
    assert file.stat().st_ino == written


def test_without_a_file_there_is_nothing_to_bring_in(timings: Timings) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heard: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "warn", lambda _, message: heard.append(message))
            bring_in(timings, no_merge)
    assert heard == [], "the first night is nothing to warn of"
    assert timings.known(HERE).nbytes == 0
    timings.give_back(HERE)
    assert timings.file is not None
    assert not timings.file.exists(), "nothing was found out"
    Timings(timings.folder).give_back(HERE)
    Timings(timings.folder).bring_in(HERE, no_merge, PRODUCER)


def test_a_file_for_another_gpu_is_not_used(fresh: Timings) -> None:
    with pytest.warns(CacheWarning, match=r"is for another GPU or version \(tensorrt 8\.6\.1\): nothing is taken"):
        fresh.bring_in(ELSEWHERE, no_merge, PRODUCER)
    assert fresh.known(ELSEWHERE).nbytes == 0


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"\xff", lambda _: b"raw"])
def test_a_file_that_cannot_be_trusted_is_not_used(fresh: Timings, night: Path, damage: Any) -> None:
    night.write_bytes(damage(night.read_bytes()))
    with pytest.warns(CacheWarning, match="nothing is taken from it"):
        bring_in(fresh, no_merge)
    assert fresh.known(HERE).nbytes == 0
    assert night.exists(), "it is the user's own"


def test_a_file_of_something_else_is_not_used(fresh: Timings, night: Path) -> None:
    envelope.write(night, Sealed("plan", HERE, cache_of(1), PRODUCER))
    with pytest.warns(CacheWarning, match="holds a plan, and no timing cache: nothing is taken from it"):
        bring_in(fresh, no_merge)
    night.unlink()
    night.mkdir()
    with pytest.warns(CacheWarning, match="Is a directory: nothing is taken from it"):
        bring_in(fresh, no_merge)
    assert fresh.known(HERE).nbytes == 0


def test_what_is_given_back_is_written_by_one_at_a_time(timings: Timings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the last to write might not have seen what another learnt."""
    learn(timings, timings.known(HERE), cache_of(1))
    held_then = []
    monkeypatch.setattr(envelope, "write", lambda *_: held_then.append(held.is_locked(timings.folder / f"{HERE}.lock")))
    timings.give_back(HERE)
    assert held_then == [True]


def test_a_file_that_cannot_be_written_costs_a_warning(timings: Timings, tmp_path: Path) -> None:
    (tmp_path / "night").write_text("in the way")
    learn(timings, timings.known(HERE), cache_of(1))
    with pytest.warns(CacheWarning, match="could not be written"):
        timings.give_back(HERE)


# In a pool --------------------------------------------------------------------------------------


class Watched(FakeBackend):
    """Notes what each build is given, and can be made to misbehave."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Any] = []
        self.refuses = False

    def build(self, request: BuildRequest, progress: Any = None) -> Plan:
        self.given.append(request.timing_cache)
        if self.refuses and request.timing_cache is not None and request.timing_cache.nbytes:
            raise BuildError("the timing cache was refused: of another device", detail={REFUSED_TIMINGS: True})
        return super().build(request, progress)


def sizes(backend: Watched) -> list[int | None]:
    """Bytes of what each build was given."""
    return [None if given is None else given.nbytes for given in backend.given]


@pytest.fixture
def backend() -> Watched:
    return Watched()


def make_pool(backend: Watched, folder: Path, file: Path | None = None) -> EnginePool:
    probe = backend.probe()
    return EnginePool(lambda _: backend, lambda _: probe, PlanCache(folder), 1 << 20, Timings(folder, file))


@pytest.fixture
def pool(backend: Watched, tmp_path: Path) -> Iterator[EnginePool]:
    with make_pool(backend, tmp_path / "cache") as made:
        yield made


@pytest.fixture
def specs(tmp_path: Path) -> list[EngineSpec]:
    return [EngineSpec.of(models.relu(tmp_path, name), recipe("fp32")) for name in ("a", "b")]


def test_a_build_goes_by_what_those_before_it_found_out(
    pool: EnginePool, backend: Watched, specs: list[EngineSpec]
) -> None:
    first, second = (pool.plan(spec, "fake") for spec in specs)
    assert sizes(backend) == [0, first.facts["timing_cache"]["after"]["size"]]
    assert second.facts["timing_cache"]["before"]["sha256"] == digest(backend.given[1])
    assert second.facts["timing_cache"]["before"] == first.facts["timing_cache"]["after"]
    assert second.facts["timing_cache"]["after"]["size"] > first.facts["timing_cache"]["after"]["size"]
    again = pool.plan(specs[0], "fake")
    assert (again.facts, again.seconds) == ({}, {}), "nothing was built"
    assert again.took == first.took == first.seconds, "and it is known what it took"


def test_another_worker_goes_by_it_too(pool: EnginePool, specs: list[EngineSpec], tmp_path: Path) -> None:
    left = pool.plan(specs[0], "fake").facts["timing_cache"]["after"]
    with make_pool(Watched(), tmp_path / "cache") as other:
        assert other.plan(specs[1], "fake").facts["timing_cache"]["before"] == left


def test_a_rebuilt_engine_is_cold(pool: EnginePool, backend: Watched, specs: list[EngineSpec]) -> None:
    pool.plan(specs[0], "fake")
    with pool.engine(specs[0], "fake", rebuilt=True) as cold:
        assert cold.timing_cache is None
    assert backend.given[-1] is None
    known = pool.plan(specs[0], "fake", rebuilt=True, timing_cache=np.zeros(0, np.uint8)).timing_cache
    assert known is not None
    with pool.engine(specs[0], "fake", rebuilt=True, timing_cache=known) as warm:
        assert warm.timing_cache is not None
        assert warm.timing_cache.tobytes() == known.tobytes()
        assert warm.facts["timing_cache"]["before"] == warm.facts["timing_cache"]["after"]
    with pytest.raises(SpecError, match="ask for a rebuilt engine"):
        pool.plan(specs[0], "fake", timing_cache=known)


def test_of_several_builds_of_one_spec_all_but_the_first_are_cold(
    pool: EnginePool, backend: Watched, specs: list[EngineSpec]
) -> None:
    """Or they would all have the tactics of the first."""
    plans = [pool.plan(specs[0], "fake", build=build) for build in (0, 1, 2)]
    assert [given is None for given in backend.given] == [False, True, True]
    assert len({plan.plan_key for plan in plans}) == 3
    assert pool.plan(specs[0], "fake", build=2).cached


def test_a_refused_timing_cache_of_a_test_is_the_tests(
    pool: EnginePool, backend: Watched, specs: list[EngineSpec]
) -> None:
    """Another build of the same may go well."""
    backend.refuses = True
    with pytest.raises(BuildError, match="refused"):
        pool.plan(specs[0], "fake", rebuilt=True, timing_cache=cache_of(1))
    assert not pool.plan(specs[0], "fake").cached


def test_a_timing_cache_that_a_builder_refuses_costs_a_warning(
    pool: EnginePool, backend: Watched, specs: list[EngineSpec]
) -> None:
    pool.plan(specs[0], "fake")
    backend.refuses = True
    with pytest.warns(CacheWarning, match=r"timing cache: .* of another device; set aside as .*\.bad"):
        built = pool.plan(specs[1], "fake")
    assert built.facts["timing_cache"]["before"]["size"] == 0
    assert [bool(size) for size in sizes(backend)] == [False, True, False]


@pytest.mark.parametrize("error", [ParseError("no such operator"), BuildError("no tactics")])
def test_a_build_that_fails_for_another_reason_fails(
    pool: EnginePool, backend: Watched, specs: list[EngineSpec], monkeypatch: pytest.MonkeyPatch, error: StageError
) -> None:
    def fails(*_: Any) -> Plan:
        raise error

    monkeypatch.setattr(FakeBackend, "build", fails)
    with pytest.raises(type(error)):
        pool.plan(specs[0], "fake")
    assert len(backend.given) == 1


def test_at_level_0_nothing_is_kept(pool: EnginePool, specs: list[EngineSpec], tmp_path: Path) -> None:
    spec = EngineSpec.of(specs[0].model, recipe("fp32"), BuildConfig(optimization_level=0))
    built = pool.plan(spec, "fake")
    assert (built.timing_cache, built.facts) == (None, {})
    assert list((tmp_path / "cache").glob("*.timing")) == []


def test_a_pool_brings_in_and_gives_back(specs: list[EngineSpec], tmp_path: Path) -> None:
    file = tmp_path / "timing.cache"
    with make_pool(Watched(), tmp_path / "monday", file) as pool:
        left = pool.plan(specs[0], "fake").facts["timing_cache"]["after"]
        assert not file.exists()
    with make_pool(Watched(), tmp_path / "tuesday", file) as pool:
        again = pool.plan(specs[0], "fake").facts["timing_cache"]
        assert again == {"before": left, "after": left}, "no tactic was timed again"
        assert pool.builds == 1


def test_a_backend_without_timing_caches_is_given_none(
    backend: Watched, specs: list[EngineSpec], tmp_path: Path
) -> None:
    from harness.runtime.capability import Capability, Probe, State

    useless = Probe("fake", "1", (Capability("timing_cache", State.USELESS, "a build left it as it was"),))
    timings = Timings(tmp_path, tmp_path / "file")
    with EnginePool(lambda _: backend, lambda _: useless, None, 1 << 20, timings) as pool:
        pool.plan(specs[0], "fake")
    assert backend.given == [None]
