"""Engines behind handles: built or taken from the cache once, shared, kept under a memory budget.

A pool serves one thread. Engines that a handle holds stay; the rest go when room is needed, the one
used longest ago first, and come back from the cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from harness.errors import BuildError, DeserializeError, RunError, SpecError, StageError
from harness.runtime.backend.protocol import (
    Array,
    Backend,
    BuildRequest,
    Engine,
    EngineInfo,
    HowToRefit,
    LayerWeights,
    Plan,
    Progress,
    Refittable,
    Session,
    Shape,
    Streaming,
    Weights,
)
from harness.runtime.cache import PlanCache
from harness.runtime.capability import Probe, State
from harness.runtime.fingerprint import environment, fingerprint
from harness.runtime.request import resolve
from harness.runtime.sampling import Repeated, Samples, Sampling, observed
from harness.runtime.timing import NOTHING_YET, Timings, is_refusal
from harness.runtime.timing import digest as digest_of
from harness.runtime.trust import Trust
from harness.spec.canonical import digest
from harness.spec.engine import EngineSpec
from harness.spec.source import NetworkFunction, PlanFile

REPEATED = "repeated"  # in `StageError.detail`: it failed before, and was not tried again


@dataclass(frozen=True)
class BuiltPlan:
    """A plan and how it was come by. ``seconds`` holds what was spent now: "export", "parse", "build".

    ``took`` holds what its build took, now or when it was made for the cache; nothing where nobody knows.
    ``timing_cache`` is what that of a build has become, None where it went by none; ``facts`` tells its
    SHA-256 and size in bytes, before and after.
    """

    data: Array
    key: str
    plan_key: str
    cached: bool  # it was there already
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    timing_cache: Array | None = None
    took: Mapping[str, float] = field(default_factory=dict)

    def unproven(self, probe: Probe) -> str:
        """Why a test that did no more than ask for this plan has shown nothing; "" where it has.

        A plan from the cache that can't be loaded here: another run, or cell, built it.
        """
        lacking = probe.find("deserialize")
        if not self.cached or lacking.state is State.PRESENT:
            return ""
        return f"built before; here nothing but its SHA-256 can be verified: {lacking.evidence}"


@dataclass(frozen=True, eq=False)
class Given:
    """A plan from elsewhere, and how it is to be loaded: see `Backend.load`."""

    plan: Array | Path
    host_code: bool = False
    stream: bool = False


@dataclass(frozen=True, eq=False)
class Wanted:
    """How an engine is to be come by: see `EnginePool.engine` and `EnginePool.loaded`."""

    private: bool = False
    rebuilt: bool = False
    timing_cache: Array | None = None
    build: int = 0
    given: Given | None = None


@dataclass(eq=False)
class _Loaded:
    """An engine of the pool, and the sessions open on it."""

    engine: Engine
    info: EngineInfo
    backend: str
    size: int  # bytes, of plan and device memory
    plan_size: int  # bytes
    users: int = 0
    sessions: list[Session] = field(default_factory=list)
    gone: bool = False  # it was closed, or is known to have died with its host

    @property
    def alive(self) -> bool:
        """False, too, when the engine says itself that its host is dead: others ask that host for things."""
        return not self.gone and bool(getattr(self.engine, "alive", True))

    def close(self) -> None:
        """Sessions first: TensorRT wants it so. What died with its host needs no closing."""
        alive, self.gone = self.alive, True
        if not alive:
            return
        with contextlib.ExitStack() as closing:
            closing.callback(self.engine.close)
            for session in self.sessions:
                closing.callback(session.close)


class EnginePool:
    """Engines of every backend that ``backend`` makes, by plan key.

    ``budget`` is in bytes and counts, for each engine, its plan and ``facts["device_memory"]`` where
    the engine tells. Engines in use may exceed it; nobody else's are kept then. When an engine host
    dies, all engines of its backend go with it, and come back when they are next asked for. A build
    that failed, and whatever killed a host while it built or loaded, is not tried again: the same
    error is raised at once, with ``detail["repeated"]``.

    Builds go by the timing caches in ``timings``, and add to them, where the backend can. ``builds``
    counts the plans that backends made for this pool. A plan file is loaded only if ``trust`` covers it.
    """

    def __init__(
        self,
        backend: Callable[[str], Backend],
        probe: Callable[[str], Probe],
        cache: PlanCache | None,
        budget: int,
        timings: Timings | None = None,
        trust: Trust | None = None,
    ) -> None:
        self._backend, self._probe, self._cache, self.budget = backend, probe, cache, budget
        self._timings, self._trust = timings, trust or Trust()
        self._brought_in: set[str] = set()  # fingerprints whose timings were taken from the user's file
        self.builds = 0
        self._shared: dict[str, _Loaded] = {}  # the one used longest ago comes first
        self._private: list[_Loaded] = []
        self.used = 0  # bytes that the loaded engines count for
        self._plan_keys: dict[tuple[str, ...], str] = {}
        self._failures: dict[str, Callable[[], StageError]] = {}
        self._fingerprint = functools.cache(lambda backend: fingerprint(probe(backend)))

    def engine(
        self,
        spec: EngineSpec,
        backend: str,
        *,
        private: bool = False,
        rebuilt: bool = False,
        timing_cache: Array | None = None,
        build: int = 0,
        progress: Progress | None = None,
    ) -> Handle:
        """A handle on the engine that ``spec`` describes; close it to let the engine go.

        A ``private`` engine is loaded anew and shared with nobody, for tests that change it. A
        ``rebuilt`` one is private, and built anew whatever the cache holds: by this very ``timing_cache``,
        or cold. ``build`` tells several builds of one spec apart, all of them cold but the first, each of
        which the cache keeps. Raises SpecError, UnsupportedError, ParseError, BuildError and DeserializeError.
        """
        wanted = Wanted(private or rebuilt, rebuilt, timing_cache, build)
        return Handle(self, spec, backend, wanted, progress)

    def loaded(self, spec: EngineSpec, backend: str, given: Given) -> Handle:
        """A handle on a private engine of a ``given`` plan, whatever it is of; ``spec`` says what it is taken for.

        It has no place in the cache, and what kills its host is tried again when it is asked for again.
        """
        return Handle(self, spec, backend, Wanted(private=True, given=given), None)

    def plan(
        self,
        spec: EngineSpec,
        backend: str,
        *,
        rebuilt: bool = False,
        timing_cache: Array | None = None,
        build: int = 0,
        stream: bool = False,
        progress: Progress | None = None,
    ) -> BuiltPlan:
        """The plan alone, for where it can be built and not loaded. Raises as `engine` does.

        With ``stream`` the builder hands it out through a stream writer; the cache keeps that one by itself.
        """
        started = time.perf_counter()
        key, plan_key = self._keys(spec, backend, build, stream)
        made = time.perf_counter() - started  # the model, if it was not there: what follows may wait for a lock
        if timing_cache is not None and not rebuilt:
            raise SpecError(f"{spec.model.id}: a timing cache is given to a build: ask for a rebuilt engine")
        if plan_key in self._failures and timing_cache is None:
            raise self._failures[plan_key]()
        source = spec.model.source
        if isinstance(source, PlanFile):
            self._trust.require(source.path())
            return BuiltPlan(np.fromfile(source.path(), np.uint8), key, plan_key, cached=True)
        cache = self._cache if _is_reproducible(spec) and not rebuilt else None
        if cache is None:
            return self._build(spec, backend, plan_key, progress, made, stream, rebuilt or build > 0, timing_cache)[0]
        found = cache.entry(plan_key)
        if found is None:
            with cache.lock(plan_key):
                found = cache.entry(plan_key)  # another process may have built it meanwhile
                if found is None:
                    built, keep = self._build(spec, backend, plan_key, progress, made, stream, build > 0)
                    if keep:
                        cache.put(plan_key, built.data, self._facts(spec, built), environment(self._probe(backend)))
                    return built
        return BuiltPlan(found.payload, key, plan_key, cached=True, took=found.facts.get("seconds", {}))

    def close(self) -> None:
        """Close every engine, in use or not, and give back what builds found out about tactics."""
        with contextlib.ExitStack() as closing:
            if self._timings is not None:
                for mine in self._brought_in:
                    closing.callback(self._timings.give_back, mine)
            for loaded in [*self._shared.values(), *self._private]:
                closing.callback(loaded.close)
        self._shared.clear()
        self._private.clear()
        self.used = 0

    def __enter__(self) -> EnginePool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        """How many engines are loaded."""
        return len(self._shared) + len(self._private)

    # For handles ---------------------------------------------------------------------------------

    def _acquire(
        self, spec: EngineSpec, backend: str, wanted: Wanted, progress: Progress | None
    ) -> tuple[_Loaded, BuiltPlan | None]:
        """The engine, and the plan that it was loaded from if that was done now."""
        _, plan_key = self._keys(spec, backend, wanted.build)
        plan = None
        loaded = None if wanted.private else self._shared.pop(plan_key, None)
        if loaded is not None and not loaded.alive:
            self.used -= loaded.size
            loaded = None
        if wanted.given is not None:
            loaded = self._load(wanted.given, backend, spec.config.plugins)
        elif loaded is None:
            plan = self.plan(
                spec,
                backend,
                rebuilt=wanted.rebuilt,
                timing_cache=wanted.timing_cache,
                build=wanted.build,
                progress=progress,
            )
            try:
                loaded = self._load(Given(plan.data, spec.config.carries_code), backend, spec.config.plugins)
            except StageError as error:
                if error.crash is not None:
                    self._failures[plan.plan_key] = _repetition(error)
                raise
        if wanted.private:
            self._private.append(loaded)
        else:
            self._shared[plan_key] = loaded  # at the end: the one used last
        loaded.users += 1
        self._make_room(0)
        return loaded, plan

    def _release(self, loaded: _Loaded) -> None:
        loaded.users -= 1
        if loaded in self._private:
            self._private.remove(loaded)
            self.used -= loaded.size
            loaded.close()
        if not loaded.alive:
            self._bury()
        self._make_room(0)

    @contextlib.contextmanager
    def _watched(self, backend: str) -> Iterator[None]:
        """Forgets the engines of ``backend`` when its host dies inside, or is about to be replaced."""
        try:
            yield
        except StageError as error:
            if error.crash is not None or error.detail.get("replace_host"):
                for loaded in [*self._shared.values(), *self._private]:
                    loaded.gone = loaded.gone or loaded.backend == backend
                self._bury()
            raise

    # Within --------------------------------------------------------------------------------------

    def _keys(self, spec: EngineSpec, backend: str, build: int = 0, stream: bool = False) -> tuple[str, str]:
        """What is asked, and that with all that makes the plan and is not asked for in so many words."""
        makers = [self._fingerprint(backend), *[f"build {build}"] * bool(build), *["stream writer"] * stream]
        if spec.precision.convert:
            from harness.judge.precision import VERSION

            makers.append(f"conversion {VERSION}")
        known = spec.key, *makers
        if known not in self._plan_keys:  # asked for several times a cell
            self._plan_keys[known] = spec.plan_key(digest(makers))
        return spec.key, self._plan_keys[known]

    def _facts(self, spec: EngineSpec, built: BuiltPlan) -> dict[str, object]:
        return {
            "key": built.key,
            "model": spec.model.id,
            "precision": spec.precision.name,
            "seconds": built.seconds,
            **built.facts,
        }

    def _build(
        self,
        spec: EngineSpec,
        backend: str,
        plan_key: str,
        progress: Progress | None,
        made: float,
        stream: bool,
        cold: bool,
        before: Array | None = None,
    ) -> tuple[BuiltPlan, bool]:
        """The plan, built now, and whether it is worth keeping; a ``cold`` one goes by ``before`` alone, if by any."""
        started = time.perf_counter()
        request = dataclasses.replace(resolve(spec), stream=stream)
        exported = made + time.perf_counter() - started
        try:
            with self._watched(backend):
                if cold:
                    plan = self._backend(backend).build(dataclasses.replace(request, timing_cache=before), progress)
                else:
                    before, plan = self._learning(request, backend, progress)
        except StageError as error:
            if not cold or before is None:  # by another timing cache it may go well
                self._failures[plan_key] = _repetition(error)
            raise
        self.builds += 1
        seconds = {"export": exported, **plan.seconds}
        facts = _facts_of_timing(before, plan.timing_cache)
        return BuiltPlan(plan.data, spec.key, plan_key, False, seconds, facts, plan.timing_cache, seconds), plan.keep

    def _learning(self, request: BuildRequest, backend: str, progress: Progress | None) -> tuple[Array | None, Plan]:
        """What is known of tactics here, and a build that goes by it and adds to it."""
        probe, builder = self._probe(backend), self._backend(backend)
        if self._timings is None or not probe.has("timing_cache"):
            return None, builder.build(request, progress)
        mine, producer = fingerprint(probe), environment(probe)

        def merge(caches: Sequence[Array]) -> Array:
            with self._watched(backend):
                return builder.merged(caches)

        if mine not in self._brought_in:
            self._brought_in.add(mine)
            self._timings.bring_in(mine, merge, producer)
        before = self._timings.known(mine)
        try:
            plan = builder.build(dataclasses.replace(request, timing_cache=before), progress)
        except BuildError as error:
            if not is_refusal(error):
                raise
            self._timings.refuse(mine, before, error.message)
            before = NOTHING_YET
            plan = builder.build(dataclasses.replace(request, timing_cache=before), progress)
        if plan.timing_cache is not None:
            self._timings.learn(mine, before, plan.timing_cache, merge, producer)
        return before, plan

    def _load(self, given: Given, backend: str, plugins: tuple[str, ...]) -> _Loaded:
        nbytes = given.plan.stat().st_size if isinstance(given.plan, Path) else given.plan.nbytes
        self._make_room(nbytes)
        with self._watched(backend):
            asked = self._backend(backend)
            engine = asked.load(given.plan, plugins, host_code=given.host_code, stream=given.stream)
            info = engine.info
        size = nbytes + int(info.facts.get("device_memory") or 0)
        self.used += size
        return _Loaded(engine, info, backend, size, nbytes)

    def _make_room(self, wanted: int) -> None:
        """Close unused engines until ``wanted`` more bytes are within the budget, or none is left."""
        if self.used + wanted <= self.budget:  # asked for each cell, and engines may be a thousand
            return
        for plan_key, loaded in list(self._shared.items()):
            if self.used + wanted <= self.budget:
                return
            if loaded.users == 0:
                del self._shared[plan_key]
                self.used -= loaded.size
                loaded.close()

    def _bury(self) -> None:
        """Drop what died with its host."""
        self._shared = {key: loaded for key, loaded in self._shared.items() if loaded.alive}
        self._private = [loaded for loaded in self._private if loaded.alive]
        self.used = sum(loaded.size for loaded in [*self._shared.values(), *self._private])


class Handle:
    """One user's hold on an engine, with the sessions made through it. A context manager.

    ``timings`` holds the seconds spent for it by stage: "export", "parse", "build", "deserialize",
    "context", "run", "measure", "serialize", "refit", "inspect". A stage that an earlier handle or run paid
    for is missing. ``builds`` counts the plans that were built for it, ``facts`` and ``timing_cache`` are
    those of the last. ``took`` holds the seconds of the build of its plan, whoever paid for it, as far as
    they are known.
    """

    def __init__(
        self,
        pool: EnginePool,
        spec: EngineSpec,
        backend: str,
        wanted: Wanted,
        progress: Progress | None,
    ) -> None:
        self.spec, self.backend, self.build = spec, backend, wanted.build
        self.private, self.rebuilt = wanted.private, wanted.rebuilt
        self.key, self.plan_key = pool._keys(spec, backend, wanted.build)
        self.timings: dict[str, float] = {}
        self.builds = 0
        self.facts: dict[str, Any] = {}
        self.took: Mapping[str, float] = {}
        self.timing_cache: Array | None = None
        self._pool, self._progress, self._wanted = pool, progress, wanted
        self._sessions: list[PooledSession] = []
        self._closed = False
        self._loaded = self._take()

    @property
    def info(self) -> EngineInfo:
        return self._loaded.info

    @property
    def plan_size(self) -> int:
        """Bytes of the plan that the engine was loaded from."""
        return self._loaded.plan_size

    @property
    def cached(self) -> bool:
        """Whether nothing was built for this handle."""
        return self.builds == 0

    def session(self, profile: int = 0) -> PooledSession:
        """A new session, closed with this handle. DeserializeError when no context can be made.

        After its host died a shared engine is loaded again; what was done to a private one is lost,
        and that is a DeserializeError.
        """
        with self._asking("context") as engine:
            session = PooledSession(self, self._loaded, engine.session(profile))
        self._sessions.append(session)
        return session

    def serialize(self, flags: tuple[str, ...] = ()) -> Array:
        """As `Engine.serialize`. DeserializeError when a private engine died with its host."""
        with self._asking("serialize") as engine:
            return engine.serialize(flags)

    def stream(self, budget: int | None = None) -> Streaming:
        """As `Engine.stream`. SpecError where the engine is shared: others would run on this budget."""
        if budget is not None:
            self._is_private("set the budget of")
        self._revive()
        with self._pool._watched(self.backend):
            return self._loaded.engine.stream(budget)

    def weights(self, given: Weights | None = None, *, layers: LayerWeights | None = None) -> Refittable:
        """As `Engine.weights`."""
        with self._asking("refit") as engine:
            return engine.weights(given, layers=layers)

    def refit(
        self,
        weights: Weights,
        *,
        layers: LayerWeights | None = None,
        how: HowToRefit = "plain",
        keep_graphs: bool = False,
    ) -> None:
        """As `Engine.refit`. SpecError where the engine is shared: others would run on these weights."""
        with self._refitting() as engine:
            engine.refit(weights, layers=layers, how=how, keep_graphs=keep_graphs)

    def refit_from(self, model: str) -> None:
        """As `Engine.refit_from`. SpecError as in `refit`."""
        with self._refitting() as engine:
            engine.refit_from(model)

    def inspect(self) -> dict[str, Any]:
        """As `Engine.inspect`. DeserializeError when a private engine died with its host."""
        with self._asking("inspect") as engine:
            return engine.inspect()

    def close(self) -> None:
        """Close the sessions and let the engine go. Closing again does nothing."""
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as closing:
            closing.callback(self._pool._release, self._loaded)
            for session in self._sessions:
                closing.callback(session.close)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _refitting(self) -> contextlib.AbstractContextManager[Engine]:
        """The engine, about to be changed."""
        self._is_private("refit")
        return self._asking("refit")

    @contextlib.contextmanager
    def _asking(self, stage: str) -> Iterator[Engine]:
        """The engine, for one call, of which the seconds count for ``stage``."""
        self._revive()
        started = time.perf_counter()
        try:
            with self._pool._watched(self.backend):
                yield self._loaded.engine
        finally:
            self._spent(stage, time.perf_counter() - started)

    def _is_private(self, what: str) -> None:
        if not self.private:
            raise SpecError(f"{self.spec.model.id} on {self.backend}: {what} a private engine: this one is shared")

    def _revive(self) -> None:
        name = f"{self.spec.model.id} on {self.backend}"
        if self._closed:
            raise SpecError(f"{name}: this handle is closed: take a new one from the pool")
        if self._loaded.alive:
            return
        if self.private:
            raise DeserializeError(
                f"{name}: the engine host died, and what was done to this private engine died with it: "
                f"take a new one from the pool"
            )
        self._loaded = self._take()

    def _take(self) -> _Loaded:
        loaded, plan = self._pool._acquire(self.spec, self.backend, self._wanted, self._progress)
        if plan is not None:
            self.builds += not plan.cached
            self.facts.update(plan.facts)
            self.timing_cache, self.took = plan.timing_cache, plan.took
        if plan is not None or self._wanted.given is not None:
            for stage, seconds in {**(plan.seconds if plan else {}), **loaded.info.seconds}.items():
                self._spent(stage, seconds)
        return loaded

    def _spent(self, stage: str, seconds: float) -> None:
        self.timings[stage] = self.timings.get(stage, 0.0) + seconds


class PooledSession:
    """A `Session` that adds to its handle's timings and tells the pool when the host dies."""

    def __init__(self, handle: Handle, loaded: _Loaded, session: Session) -> None:
        self._handle, self._loaded, self._session = handle, loaded, session
        loaded.sessions.append(session)

    def run(self, inputs: Mapping[str, Array], *, graph: bool = False, omit: str = "") -> dict[str, Array]:
        """As `Session.run`; a RunError, too, when the session was closed or died with its host."""
        with self._asked("run") as session:
            return session.run(inputs, graph=graph, omit=omit)

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Shape]:
        with self._asked("run") as session:
            return session.infer(inputs)

    def measure(self, inputs: Mapping[str, Array], sampling: Sampling) -> Samples:
        """As `Session.measure`; ``wall`` is how long it took here."""
        with self._asked("measure") as session:
            return observed(lambda: session.measure(inputs, sampling))

    def repeat(self, inputs: Mapping[str, Array], seconds: float, *, graph: bool = False) -> Repeated:
        with self._asked("measure") as session:
            return session.repeat(inputs, seconds, graph=graph)

    def reshape(self, inputs: Mapping[str, Array], others: Mapping[str, Array], times: int) -> Array:
        with self._asked("measure") as session:
            return session.reshape(inputs, others, times)

    def switch(self, profile: int) -> None:
        with self._asked("context") as session:
            session.switch(profile)

    def move(self, tensor: str) -> None:
        with self._asked("context") as session:
            session.move(tensor)

    def limit(self, tensor: str, nbytes: int | None) -> None:
        with self._asked("context") as session:
            session.limit(tensor, nbytes)

    @property
    def alive(self) -> bool:
        """Whether it can still be asked: it was not closed, and its host did not die."""
        return self._session in self._loaded.sessions and self._loaded.alive

    @contextlib.contextmanager
    def _asked(self, stage: str) -> Iterator[Session]:
        """The session itself, for one call, of which the seconds count for ``stage``."""
        if not self.alive:
            raise RunError("this session is closed, or its engine host died: make a new one from its handle")
        started = time.perf_counter()
        try:
            with self._handle._pool._watched(self._handle.backend):
                yield self._session
        finally:
            self._handle._spent(stage, time.perf_counter() - started)

    def close(self) -> None:
        """Closing again does nothing, nor does closing what died with its host."""
        if self._session in self._loaded.sessions:
            self._loaded.sessions.remove(self._session)
            if self._loaded.alive:
                self._session.close()


def _facts_of_timing(before: Array | None, after: Array | None) -> dict[str, Any]:
    if before is None or after is None:
        return {}
    caches = {"before": before, "after": after}
    return {"timing_cache": {when: {"sha256": digest_of(c), "size": c.nbytes} for when, c in caches.items()}}


def _is_reproducible(spec: EngineSpec) -> bool:
    """Whether the key holds all that the plan is made from: of a callable it has only a version, if that."""
    return not isinstance(spec.model.source, NetworkFunction) or bool(spec.model.source.version)


def _repetition(error: StageError) -> Callable[[], StageError]:
    """Makes ``error`` again, marked, and without the frames that the first one holds on to."""
    return functools.partial(
        type(error),
        f"{error.message}\n(this engine failed before, and was not tried again)",  # the first line stays as it was
        log=error.log,
        crash=error.crash,
        detail={**error.detail, REPEATED: True},
    )
