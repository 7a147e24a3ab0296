"""The pool: what it keeps, what it lets go, and what it survives."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import BuildError, DeserializeError, ParseError, RefitError, RunError, SpecError, StageError
from harness.runtime.backend.mapped import mapped
from harness.runtime.backend.protocol import (
    Array,
    BuildRequest,
    EngineInfo,
    HowToRefit,
    LayerWeights,
    Plan,
    Progress,
    Refittable,
    Residue,
    Shape,
    Streaming,
    Weights,
)
from harness.runtime.backend.registry import HostSettings, create
from harness.runtime.cache import PlanCache
from harness.runtime.capability import Probe
from harness.runtime.pool import REPEATED, EnginePool, Given, Handle
from harness.runtime.sampling import Samples, Sampling, Stop
from harness.runtime.trust import Trust
from harness.spec import BuildConfig, EngineSpec, ModelSpec, NetworkFunction, PlanFile, recipe
from tests.runtime import models

PLAN_SIZE, MEMORY = 100, 900  # bytes; an engine counts 1,000


class Player:
    """A backend whose host can die: what it made before is of no use after."""

    name = "player"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures: list[StageError] = []  # raised by the next calls that can fail
        self.open: set[str] = set()
        self.keep = True
        self.beside: list[int] = []  # how many engines were open at each load
        self.host = 0
        self._count = itertools.count(1)

    def probe(self) -> Probe:
        return Probe(self.name, "1.0", (), {"gpu": "none"})

    def build(self, request: BuildRequest, progress: Progress | None = None) -> Plan:
        if progress:
            progress("build", 1, 1)
        self.happens(f"build {request.name}")
        return Plan(np.full(PLAN_SIZE, len(self.calls), np.uint8), {"parse": 1.0, "build": 2.0}, keep=self.keep)

    def load(
        self, plan: Array | Path, plugins: tuple[str, ...] = (), *, host_code: bool = False, stream: bool = False
    ) -> PlayedEngine:
        self.happens(" ".join(["load", *plugins, *["host code"] * host_code, *["stream"] * stream]))
        self.beside.append(sum(name.startswith("engine") for name in self.open))
        return PlayedEngine(self, int(mapped(plan)[0]))

    def residue(self) -> Residue:
        return Residue(len(self.open))

    def close(self) -> None: ...

    def happens(self, call: str) -> None:
        self.calls.append(call)
        if self.failures:
            error = self.failures.pop(0)
            if error.crash or error.detail.get("replace_host"):
                self.host += 1
                self.open.clear()
            raise error

    def opened(self, what: str) -> str:
        name = f"{what} {next(self._count)}"
        self.open.add(name)
        return name


class Played:
    def __init__(self, player: Player, kind: str) -> None:
        self.player, self.host, self.name = player, player.host, player.opened(kind)

    def close(self) -> None:
        assert self.host == self.player.host, f"{self.name} died with its host"
        self.player.open.remove(self.name)


class PlayedEngine(Played):
    def __init__(self, player: Player, made: int) -> None:
        super().__init__(player, "engine")
        self.made = made
        self.info = EngineInfo((), 1, {"device_memory": MEMORY}, {"deserialize": 0.5})

    def serialize(self, flags: tuple[str, ...] = ()) -> Array:
        self.player.happens(" ".join(["serialize", *flags]))
        return np.full(PLAN_SIZE, self.made, np.uint8)

    def stream(self, budget: int | None = None) -> Streaming:
        self.player.happens(f"stream {budget}")
        return Streaming(14, budget or 0, 1, 7)

    def weights(self, given: Weights | None = None, *, layers: LayerWeights | None = None) -> Refittable:
        self.player.happens(" ".join(["weights", *(given or ()), *(layers or ())]))
        return Refittable(("w",), ())

    def refit(
        self,
        weights: Weights,
        *,
        layers: LayerWeights | None = None,
        how: HowToRefit = "plain",
        keep_graphs: bool = False,
    ) -> None:
        self.player.happens(" ".join(["refit", *weights, *(layers or ()), how, *["keep"] * keep_graphs]))

    def refit_from(self, model: str) -> None:
        self.player.happens(f"refit from {model}")

    def inspect(self) -> dict[str, Any]:
        self.player.happens("inspect")
        return {"Layers": [f"made {self.made}"]}

    def session(self, profile: int = 0) -> PlayedSession:  # noqa: ARG002
        self.player.happens("session")
        return PlayedSession(self)

    def close(self) -> None:
        assert not any(name.startswith("session") and self.name in name for name in self.player.open)
        super().close()


class PlayedSession(Played):
    def __init__(self, engine: PlayedEngine) -> None:
        super().__init__(engine.player, f"session of {engine.name}")
        self.engine = engine

    def run(self, inputs: Mapping[str, Array], *, graph: bool = False, omit: str = "") -> dict[str, Array]:  # noqa: ARG002
        self.happens("run" + f" without {omit}" * bool(omit))
        return {"y": np.array([self.engine.made])}

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Shape]:  # noqa: ARG002
        self.happens("infer")
        return {"y": (1,)}

    def measure(self, inputs: Mapping[str, Array], sampling: Sampling) -> Samples:  # noqa: ARG002
        self.happens("measure")
        none: dict[str, Array] = {}
        return Samples(none, none, none, {}, "gpu", 1, Stop.COUNT, True, 0.0, 0.0)

    def switch(self, profile: int) -> None:
        self.happens(f"switch {profile}")

    def move(self, tensor: str) -> None:
        self.happens(f"move {tensor}")

    def limit(self, tensor: str, nbytes: int | None) -> None:
        self.happens(f"limit {tensor} {nbytes}")

    def happens(self, call: str) -> None:
        assert self.host == self.player.host
        self.player.happens(call)


@pytest.fixture
def player() -> Player:
    return Player()


@pytest.fixture
def cache(tmp_path: Path) -> PlanCache:
    return PlanCache(tmp_path / "plans")


def make_pool(player: Player, cache: PlanCache | None, engines: float = 2, trust: Trust | None = None) -> EnginePool:
    size = int(engines * (PLAN_SIZE + MEMORY))
    return EnginePool(lambda _: player, lambda _: player.probe(), cache, budget=size, trust=trust)


@pytest.fixture
def pool(player: Player, cache: PlanCache) -> Iterator[EnginePool]:
    with make_pool(player, cache) as made:
        yield made
    assert player.open == set()


@pytest.fixture
def specs(tmp_path: Path) -> list[EngineSpec]:
    return [EngineSpec.of(models.relu(tmp_path, name), recipe("fp32")) for name in ("a", "b", "c", "d")]


def result(handle: Handle) -> int:
    return int(handle.session().run({})["y"][0])


def crash(kind: type[StageError] = RunError) -> StageError:
    return kind("the engine host died", crash="signal 11 (SIGSEGV)")


# What is kept -------------------------------------------------------------------------------------


def test_an_engine_is_built_and_loaded_once(pool: EnginePool, player: Player, specs: list[EngineSpec]) -> None:
    with pool.engine(specs[0], "player") as first, pool.engine(specs[0], "player") as second:
        assert (first.cached, second.cached) == (False, True)
        assert first.key == second.key == specs[0].key
        assert first.plan_key == second.plan_key
    with pool.engine(specs[0], "player") as third:
        assert third.info.facts == {"device_memory": MEMORY}
    assert player.calls == ["build a", "load"]
    assert (pool.builds, first.builds, second.builds) == (1, 1, 0)


def test_timings_are_of_what_this_handle_cost(pool: EnginePool, specs: list[EngineSpec]) -> None:
    with pool.engine(specs[0], "player") as first, pool.engine(specs[0], "player") as second:
        session = second.session()
        session.run({})
        before = second.timings["run"]
        session.run({})
        assert set(first.timings) == {"export", "parse", "build", "deserialize"}
        assert (first.timings["parse"], first.timings["build"], first.timings["deserialize"]) == (1.0, 2.0, 0.5)
        assert set(second.timings) == {"context", "run"}
        assert second.timings["run"] > before > 0


def test_another_pool_takes_the_plan_from_the_cache(
    pool: EnginePool, player: Player, cache: PlanCache, specs: list[EngineSpec]
) -> None:
    pool.engine(specs[0], "player").close()
    with make_pool(player, cache) as other, other.engine(specs[0], "player") as handle:
        assert handle.cached
        assert set(handle.timings) == {"deserialize"}
    assert player.calls == ["build a", "load", "load"]


def test_a_plan_alone_is_not_loaded(pool: EnginePool, player: Player, specs: list[EngineSpec]) -> None:
    steps: list[Any] = []
    plan = pool.plan(specs[0], "player", progress=lambda *step: steps.append(step))
    assert plan.data.nbytes == PLAN_SIZE
    assert not plan.cached
    assert steps == [("build", 1, 1)]
    assert pool.plan(specs[0], "player").cached
    assert player.calls == ["build a"]


def test_the_engine_used_longest_ago_makes_room(pool: EnginePool, player: Player, specs: list[EngineSpec]) -> None:
    a, b, c, _ = specs
    for spec in (a, b, a, c):  # c takes the place of b: a was used since
        pool.engine(spec, "player").close()
    assert len(pool) == 2
    assert pool.used == 2 * (PLAN_SIZE + MEMORY)
    assert player.beside == [0, 1, 1]  # room is made before it is needed
    player.calls.clear()
    pool.engine(a, "player").close()
    pool.engine(c, "player").close()
    assert player.calls == []
    pool.engine(b, "player").close()
    assert player.calls == ["load"]


def test_what_is_used_is_what_the_loaded_engines_count_for(
    pool: EnginePool, player: Player, specs: list[EngineSpec]
) -> None:
    size = PLAN_SIZE + MEMORY
    with pool.engine(specs[0], "player"), pool.engine(specs[1], "player", private=True):
        assert pool.used == 2 * size
        with pool.engine(specs[0], "player"):
            assert pool.used == 2 * size  # it is shared
    assert pool.used == size  # the private one went
    pool._shared[pool._keys(specs[0], "player")[1]].gone = True
    pool.engine(specs[0], "player").close()
    assert pool.used == size  # what died was replaced
    pool._shared[pool._keys(specs[0], "player")[1]].gone = True
    pool._bury()
    assert pool.used == 0
    pool.engine(specs[0], "player").close()
    pool.close()
    assert pool.used == 0
    player.open.clear()  # what died closed nothing


def test_engines_in_use_stay_whatever_the_budget(pool: EnginePool, specs: list[EngineSpec]) -> None:
    handles = [pool.engine(spec, "player") for spec in specs]
    assert len(pool) == 4
    assert [result(handle) for handle in handles] == [1, 3, 5, 7]  # the calls that built them
    for handle in handles:
        handle.close()
    assert len(pool) == 2


def test_a_private_engine_is_nobody_elses(pool: EnginePool, player: Player, specs: list[EngineSpec]) -> None:
    with pool.engine(specs[0], "player") as shared, pool.engine(specs[0], "player", private=True) as private:
        assert len(pool) == 2
        assert private.info is not shared.info
    assert len(pool) == 1
    assert player.calls == ["build a", "load", "load"]


def test_a_rebuilt_engine_is_built_past_the_cache(pool: EnginePool, player: Player, specs: list[EngineSpec]) -> None:
    with pool.engine(specs[0], "player") as first, pool.engine(specs[0], "player", rebuilt=True) as second:
        assert not second.cached
        assert result(first) != result(second)
    with make_pool(player, None) as other, other.engine(specs[0], "player"):
        pass
    assert player.calls.count("build a") == 3
    assert pool.builds == 2
    np.testing.assert_array_equal(pool.plan(specs[0], "player").data, np.full(PLAN_SIZE, 1))  # the first is kept


def test_a_given_plan_is_loaded_as_it_is(player: Player, cache: PlanCache, tmp_path: Path) -> None:
    (tmp_path / "given.plan").write_bytes(bytes([7] * PLAN_SIZE))
    spec = EngineSpec.of(ModelSpec("given", PlanFile(tmp_path / "given.plan")), recipe("fp32"))
    with make_pool(player, cache, trust=Trust.of([tmp_path])) as pool, pool.engine(spec, "player") as handle:
        assert result(handle) == 7
        assert handle.cached
    assert player.calls == ["load", "session", "run"]


def test_only_a_callable_with_a_version_is_kept_on_disk(pool: EnginePool) -> None:
    for version in ("", "1"):
        spec = EngineSpec.of(ModelSpec("made", NetworkFunction("nets:made", version=version)), recipe("fp32"))
        cached = [pool.plan(spec, "player").cached for _ in range(2)]
        assert cached == [False, bool(version)]


def test_a_plan_that_refers_to_this_run_is_not_kept_on_disk(
    pool: EnginePool, player: Player, specs: list[EngineSpec]
) -> None:
    player.keep = False
    assert [pool.plan(specs[0], "player").cached for _ in range(2)] == [False, False]


def test_what_makes_a_plan_is_in_its_key(
    pool: EnginePool, specs: list[EngineSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libplugin.so"
    library.write_bytes(b"one")
    model = specs[0].model

    def asked() -> tuple[EngineSpec, EngineSpec]:
        plugin = EngineSpec.of(model, recipe("fp32"), BuildConfig(plugins=(str(library),)))
        return plugin, EngineSpec.of(model, recipe("fp16"))

    before = [pool.plan(spec, "player").plan_key for spec in asked()]
    library.write_bytes(b"two")
    monkeypatch.setattr("harness.judge.precision.VERSION", -1)
    after = [pool.plan(spec, "player").plan_key for spec in asked()]
    assert all(old != new for old, new in zip(before, after, strict=True))
    library.unlink()
    with pytest.raises(SpecError, match=r"plugin library .*libplugin.so'?: no such file"):
        pool.plan(asked()[0], "player")


# What fails ---------------------------------------------------------------------------------------


def test_an_engine_is_loaded_with_the_plugins_that_its_spec_names(
    player: Player, cache: PlanCache, tmp_path: Path
) -> None:
    plan = tmp_path / "a.plan"
    plan.write_bytes(bytes(PLAN_SIZE))
    libraries = tuple(str(tmp_path / name) for name in ("a.so", "b.so"))
    for library in libraries:
        Path(library).touch()
    config = BuildConfig(plugins=libraries)
    spec = EngineSpec.of(ModelSpec("a", PlanFile(plan), config=config), recipe("fp32"))
    with make_pool(player, cache, trust=Trust.of([plan])) as pool, pool.engine(spec, "played"):
        assert player.calls == [" ".join(["load", *libraries])]


@pytest.mark.parametrize(
    "error", [ParseError("no such operator", log=("E: Foo",), detail={"node": "n"}), crash(BuildError)]
)
def test_a_failed_build_is_not_tried_again(
    pool: EnginePool, player: Player, specs: list[EngineSpec], error: StageError
) -> None:
    player.failures = [error]
    with pytest.raises(type(error)) as first:
        pool.engine(specs[0], "player")
    assert REPEATED not in first.value.detail
    for _ in range(2):
        with pytest.raises(type(error)) as again:
            pool.engine(specs[0], "player")
        assert again.value.message.splitlines()[0] == error.message
        assert again.value.detail == {**error.detail, REPEATED: True}
        assert (again.value.log, again.value.crash) == (error.log, error.crash)
    pool.engine(specs[1], "player").close()
    assert player.calls == ["build a", "build b", "load"]


def test_a_plan_that_kills_its_host_is_not_loaded_again(
    pool: EnginePool, player: Player, specs: list[EngineSpec]
) -> None:
    pool.plan(specs[0], "player")
    player.failures = [crash(DeserializeError)]
    for _ in range(2):
        with pytest.raises(DeserializeError, match="the engine host died"):
            pool.engine(specs[0], "player")
    assert player.calls == ["build a", "load"]


def test_a_refused_plan_is_tried_again(pool: EnginePool, player: Player, specs: list[EngineSpec]) -> None:
    pool.plan(specs[0], "player")
    player.failures = [DeserializeError("out of memory")]
    with pytest.raises(DeserializeError, match="out of memory"):
        pool.engine(specs[0], "player")
    pool.engine(specs[0], "player").close()


@pytest.mark.parametrize("error", [crash(), RunError("illegal address", detail={"replace_host": True})])
def test_the_engines_of_a_dead_host_come_back_from_the_cache(
    pool: EnginePool, player: Player, specs: list[EngineSpec], error: StageError
) -> None:
    a, b, _, _ = specs
    pool.engine(a, "player").close()
    with pool.engine(b, "player") as handle:
        session = handle.session()
        player.failures = [error]
        with pytest.raises(RunError):
            session.run({})
        assert len(pool) == 0
        with pytest.raises(RunError, match="make a new one from its handle"):
            session.run({})
        player.calls.clear()
        assert result(handle) == 3  # as built before
        assert player.calls == ["load", "session", "run"]
    with pool.engine(a, "player") as handle:
        assert result(handle) == 1
        assert handle.cached


def test_an_error_that_the_host_survives_costs_no_engine(
    pool: EnginePool, player: Player, specs: list[EngineSpec]
) -> None:
    with pool.engine(specs[0], "player") as handle:
        session = handle.session()
        player.failures = [RunError("enqueue said False")]
        with pytest.raises(RunError):
            session.run({})
        assert len(pool) == 1
        session.run({})


def test_a_session_passes_on_all_that_it_is_asked(pool: EnginePool, player: Player, specs: list[EngineSpec]) -> None:
    with pool.engine(specs[0], "player") as handle:
        session = handle.session()
        player.calls.clear()
        session.run({}, omit="shape:x")
        assert session.infer({}) == {"y": (1,)}
        assert session.measure({}, Sampling()).wall > 0
        assert handle.timings["measure"] > 0
        session.switch(1)
        session.move("y")
        session.limit("y", 7)
        session.limit("y", None)
        asked_for = ["run without shape:x", "infer", "measure", "switch 1", "move y", "limit y 7", "limit y None"]
        assert player.calls == asked_for
        assert session.alive
        session.close()
        assert not session.alive
        asked = [lambda: session.infer({}), lambda: session.switch(1), lambda: session.move("y")]
        for ask in (*asked, lambda: session.limit("y", 7), lambda: session.measure({}, Sampling())):
            with pytest.raises(RunError, match="this session is closed"):
                ask()


@pytest.mark.parametrize("what", ["infer", "switch"])
def test_a_host_may_die_of_anything_asked_of_a_session(
    pool: EnginePool, player: Player, specs: list[EngineSpec], what: str
) -> None:
    with pool.engine(specs[0], "player") as handle:
        session = handle.session()
        player.failures = [crash(RunError)]
        with pytest.raises(RunError):
            session.infer({}) if what == "infer" else session.switch(1)
        assert not session.alive
        assert len(pool) == 0
        assert result(handle) == 1


def test_only_a_private_engine_is_refitted(pool: EnginePool, player: Player, specs: list[EngineSpec]) -> None:
    with pool.engine(specs[0], "player") as shared, pytest.raises(SpecError, match="a on player: refit a private"):
        shared.refit({"w": np.zeros(1)})
    with pool.engine(specs[0], "player") as shared, pytest.raises(SpecError, match="a on player: refit a private"):
        shared.refit_from("m.onnx")
    with pool.engine(specs[0], "player", private=True) as handle:
        player.calls.clear()
        one = np.zeros(1)
        handle.refit({"w": one})
        handle.refit({"w": one}, layers={"conv": {"BIAS": one}}, how="async", keep_graphs=True)
        handle.refit_from("m.onnx")
        assert handle.weights({"v": one}, layers={"conv": {"BIAS": one}}).names == ("w",)
        assert handle.serialize().tolist() == [1] * PLAN_SIZE
        assert handle.timings["serialize"] > 0
        told = ["refit w plain", "refit w conv async keep", "refit from m.onnx", "weights v conv", "serialize"]
        assert player.calls == told
        assert handle.timings["refit"] > 0
        player.failures = [crash(RefitError)]
        with pytest.raises(RefitError):
            handle.refit({"w": np.zeros(1)})
        with pytest.raises(DeserializeError, match="private engine died with it"):
            handle.serialize()


def test_a_handle_tells_of_its_layers_and_of_its_plan(
    pool: EnginePool, player: Player, specs: list[EngineSpec]
) -> None:
    with pool.engine(specs[0], "player") as handle:
        assert handle.plan_size == PLAN_SIZE
        assert handle.inspect() == {"Layers": ["made 1"]}
        assert handle.timings["inspect"] > 0
        player.failures = [crash(DeserializeError)]
        with pytest.raises(DeserializeError, match="the engine host died"):
            handle.inspect()
        assert handle.inspect() == {"Layers": ["made 1"]}, "of the engine that came back from the cache"


def test_only_a_private_engine_is_given_a_budget(pool: EnginePool, player: Player, specs: list[EngineSpec]) -> None:
    with pool.engine(specs[0], "player") as shared, pytest.raises(SpecError, match="set the budget of a private"):
        shared.stream(7)
    with pool.engine(specs[0], "player", private=True) as handle:
        player.calls.clear()
        assert handle.stream(7) == Streaming(14, 7, 1, 7)
        handle.serialize(("INCLUDE_REFIT",))
        assert player.calls == ["stream 7", "serialize INCLUDE_REFIT"]


def test_several_builds_of_one_spec_are_kept_apart(
    player: Player, cache: PlanCache, pool: EnginePool, specs: list[EngineSpec]
) -> None:
    """And each of them comes back from the cache, so that a second run judges the same ones."""
    plans = [pool.plan(specs[0], "player", build=number) for number in (0, 1, 2)]
    assert player.calls == ["build a"] * 3
    assert len({plan.plan_key for plan in plans}) == 3
    assert len({plan.key for plan in plans}) == 1
    assert pool.plan(specs[0], "player").plan_key == plans[0].plan_key, "the first is that of everybody"
    with make_pool(player, cache) as another:
        again = [another.plan(specs[0], "player", build=number) for number in (0, 1, 2)]
        assert [plan.data.tolist() for plan in again] == [plan.data.tolist() for plan in plans]
        with another.engine(specs[0], "player", build=2) as one, another.engine(specs[0], "player", build=2) as other:
            assert (one.build, one.plan_key) == (2, plans[2].plan_key)
            assert one._loaded is other._loaded, "shared as any other"
    assert player.calls == ["build a"] * 3 + ["load"]


def test_a_plan_from_elsewhere_is_loaded_as_it_is_asked_for(
    player: Player, pool: EnginePool, specs: list[EngineSpec], tmp_path: Path
) -> None:
    plan = np.full(PLAN_SIZE, 7, np.uint8)
    file = tmp_path / "one.plan"
    plan.tofile(file)
    for given, call in (
        (Given(plan), "load"),
        (Given(file, host_code=True), "load host code"),
        (Given(plan, stream=True), "load stream"),
    ):
        with pool.loaded(specs[0], "player", given) as one, pool.loaded(specs[0], "player", given):
            assert player.calls == [call] * 2, "each is private"
            assert one.timings == {"deserialize": 0.5}
            assert one.serialize().tolist() == plan.tolist()
            assert one.plan_size == PLAN_SIZE
        player.calls.clear()
    assert len(pool) == 0
    for _ in range(2):
        player.failures = [crash(DeserializeError)]
        with pytest.raises(DeserializeError) as caught:
            pool.loaded(specs[0], "player", Given(plan))
        assert REPEATED not in caught.value.detail, "it is tried again"


@pytest.mark.parametrize(
    ("flags", "call"),
    [
        (("VERSION_COMPATIBLE",), "load host code"),
        (("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"), "load"),
        (("REFIT",), "load"),
    ],
)
def test_a_plan_that_carries_code_may_run_it_when_it_was_built_here(
    player: Player, pool: EnginePool, specs: list[EngineSpec], flags: tuple[str, ...], call: str
) -> None:
    with pool.engine(EngineSpec.of(specs[0].model, recipe("fp32"), BuildConfig(flags=flags)), "player"):
        assert player.calls == ["build a", call]


def test_a_private_engine_does_not_come_back(pool: EnginePool, player: Player, specs: list[EngineSpec]) -> None:
    with pool.engine(specs[0], "player", private=True) as handle:
        player.failures = [crash(DeserializeError)]
        with pytest.raises(DeserializeError, match="the engine host died"):
            handle.session()
        with pytest.raises(DeserializeError, match="private engine died with it"):
            handle.session()


# What is closed -----------------------------------------------------------------------------------


def test_sessions_go_with_their_handle(pool: EnginePool, player: Player, specs: list[EngineSpec]) -> None:
    handle = pool.engine(specs[0], "player")
    first, second = handle.session(), handle.session()
    first.close()
    first.close()
    assert len(player.open) == 2  # the engine, and the other session
    with pytest.raises(RunError, match="this session is closed"):
        first.run({})
    second.run({})
    handle.close()
    handle.close()
    assert len(player.open) == 1
    with pytest.raises(SpecError, match="a on player: this handle is closed"):
        handle.session()


def test_a_pool_closes_what_is_in_use(player: Player, cache: PlanCache, specs: list[EngineSpec]) -> None:
    pool = make_pool(player, cache)
    shared, private = pool.engine(specs[0], "player"), pool.engine(specs[0], "player", private=True)
    shared.session()
    private.session()
    pool.close()
    assert player.open == set()
    assert len(pool) == 0
    shared.close()
    private.close()


# With a real engine host --------------------------------------------------------------------------


def test_a_host_that_dies_in_a_run_is_replaced(cache: PlanCache, specs: list[EngineSpec]) -> None:
    backend = create("fake:crash_run@b", HostSettings(run_timeout=60))
    a, b, _, _ = specs
    probe = functools.cache(lambda _: backend.probe())
    x = np.array([[-1, 2], [3, -4]], np.float32)
    try:
        with EnginePool(lambda _: backend, probe, cache, 1 << 20) as pool:
            with pool.engine(a, "fake") as good, pool.engine(b, "fake") as bad:
                before = good.session()
                with pytest.raises(RunError) as caught:
                    bad.session().run({"x": x})
                assert caught.value.crash == "signal 11 (SIGSEGV)"
                with pytest.raises(RunError):
                    before.run({"x": x})
                np.testing.assert_array_equal(good.session().run({"x": x})["y"], np.maximum(x, 0))
            # Others ask the host, too, and what kills it then only shows in the engines.
            backend.client._drop()
            with pool.engine(a, "fake") as again:
                np.testing.assert_array_equal(again.session().run({"x": x})["y"], np.maximum(x, 0))
    finally:
        backend.close()
