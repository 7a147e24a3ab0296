"""The public fixtures. A test that requests them carries the mark ``trt(...)``::

    @pytest.mark.trt
    def test_matches_oracle(trt_session, trt_inputs, trt_oracle, trt_compare):
        trt_compare(trt_session.run(trt_inputs), trt_oracle(trt_inputs))

Requesting a fixture says what a backend must be able to do; where it can't, the cell is *not
covered*, before anything is built for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from harness.errors import BuildError, SpecError
from harness.pytest_plugin.exploring import Explore, Watched
from harness.pytest_plugin.latency import Latency, measuring
from harness.pytest_plugin.outcome import repeat
from harness.pytest_plugin.perf import Perf
from harness.pytest_plugin.progress import reporter
from harness.pytest_plugin.relation import Relation
from harness.pytest_plugin.story import STORY, WAY, Judged, Story
from harness.spec import BuildConfig, EngineSpec, Example, Interface, ModelSpec, Profile, admit, interface, recipe
from harness.spec.cell import Cell
from harness.spec.space import Space, spaces

if TYPE_CHECKING:
    from harness.pytest_plugin.types import (
        Array,
        Arrays,
        BuiltPlan,
        CellOracle,
        Compare,
        Comparison,
        Engines,
        Handle,
        Hosts,
        InputsAt,
        Load,
        MakeInputs,
        Plans,
        Question,
        Reference,
        Require,
        Session,
        Sessions,
        Walk,
        Walked,
    )
    from harness.runtime.backend.hosted import HostedBackend


REFIT = "REFIT"  # the builder flag of an engine whose weights can be replaced


@pytest.fixture
def _trt(request: pytest.FixtureRequest) -> Story:
    """The cell under way. Its parameter is a `Case`; the hooks have made a story of it already."""
    story: Story = request.node.stash[STORY]
    story.fixture = request.getfixturevalue  # for those that need another one at times: pytest makes `request` slowly
    return story


@pytest.fixture
def trt_cell(_trt: Story) -> Cell:
    """The cell: test, model, precision, variant, point and backend, by name."""
    return _trt.case.cell


@pytest.fixture
def trt_model(_trt: Story) -> ModelSpec:
    """The model of the cell."""
    return _trt.case.model


@pytest.fixture
def trt_variant(_trt: Story) -> str:
    """Which of the mark's ``variants`` this cell is."""
    return _trt.case.variant


@pytest.fixture
def trt_backend(_trt: Story) -> str:
    """The name of the backend that covers the cell; what "best" came to."""
    if not _trt.case.backend:
        pytest.fail("this test does not run over backends: add 'backend' to the mark's 'over'", pytrace=False)
    return _trt.backend


@pytest.fixture
def trt_spec(_trt: Story) -> EngineSpec:
    """What is asked of the backend: the model at the cell's precision, with its profiles and build options."""
    spec = _trt.run.spec_of(_trt.case)
    with _trt.spending("export"):
        assert spec.key  # asked for here, since it makes and reads the model
    return spec


@pytest.fixture
def trt_plan(_trt: Story, trt_spec: EngineSpec, trt_backend: str) -> BuiltPlan:
    """The serialized engine, built now or taken from the cache, and not loaded: no GPU is needed."""
    with _trt.building():
        plan = _trt.run.pool.plan(trt_spec, trt_backend, progress=reporter(_trt.run.config, _trt.case.cell.id))
    _trt.built(plan)
    return plan


@pytest.fixture
def trt_plans(_trt: Story, trt_spec: EngineSpec, trt_backend: str) -> Plans:
    """Makes plans of the cell's model, not loaded: with other options, several builds of one, by a stream writer.

    See `harness.pytest_plugin.types.Plans`.
    """

    def plan(*, config: BuildConfig | None = None, build: int = 0, stream: bool = False) -> BuiltPlan:
        asked = trt_spec if config is None else replace(trt_spec, config=config)
        progress = reporter(_trt.run.config, _trt.case.cell.id)
        with _trt.building():
            made = _trt.run.pool.plan(asked, trt_backend, build=build, stream=stream, progress=progress)
        _trt.built(made)
        return made

    return plan


@pytest.fixture
def trt_load(_trt: Story, trt_spec: EngineSpec, trt_backend: str) -> Iterator[Load]:
    """Makes private engines of plans that are given, as bytes or by their path, and lets go of them at its end.

    See `harness.pytest_plugin.types.Load`.
    """
    handles = contextlib.ExitStack()

    def load(
        plan: Array | Path, *, config: BuildConfig | None = None, host_code: bool = False, stream: bool = False
    ) -> Handle:
        from harness.runtime.pool import Given

        spec = trt_spec if config is None else replace(trt_spec, config=config)
        handle = handles.enter_context(_trt.run.pool.loaded(spec, trt_backend, Given(plan, host_code, stream)))
        _trt.hold(handle)
        return handle

    with handles:
        yield load


@pytest.fixture
def trt_hosts(_trt: Story, trt_backend: str) -> Iterator[Hosts]:
    """Makes backends in processes of their own, the cell's or runtimes by name, and ends them all at its end.

    See `harness.pytest_plugin.types.Hosts`.
    """
    opened = contextlib.ExitStack()

    def spent(stage: str, seconds: float) -> None:
        if stage in WAY:  # and not in looking at its memory
            _trt.spend({stage: seconds})

    def make(name: str = "") -> HostedBackend:
        backend = opened.enter_context(contextlib.closing(_trt.run.apart(name or trt_backend)))
        backend.client.spent = spent
        return backend

    with opened:
        yield make


@pytest.fixture
def trt_engines(_trt: Story, trt_spec: EngineSpec, trt_backend: str) -> Iterator[Engines]:
    """Makes engines, several at once where a test needs them, and lets go of them all at its end.

    See `harness.pytest_plugin.types.Engines`.
    """
    handles = contextlib.ExitStack()

    def engine(
        spec: EngineSpec | None = None,
        *,
        precision: str | None = None,
        profiles: tuple[Profile, ...] | None = None,
        config: BuildConfig | None = None,
        backend: str | None = None,
        private: bool = False,
        rebuilt: bool = False,
        build: int = 0,
        timing_cache: Array | None = None,
    ) -> Handle:
        asked = spec or trt_spec
        if _trt.exploring:
            raise SpecError("an engine was asked for while examples are tried: make it before, or each one pays for it")
        if any(change is not None for change in (precision, profiles, config)):
            asked = EngineSpec(
                asked.model,
                asked.precision if precision is None else recipe(precision),
                asked.profiles if profiles is None else profiles,
                asked.config if config is None else config,
            )
        progress = reporter(_trt.run.config, _trt.case.cell.id)
        with _trt.building():
            handle = handles.enter_context(
                _trt.run.pool.engine(
                    asked,
                    backend or trt_backend,
                    private=private,
                    rebuilt=rebuilt,
                    build=build,
                    timing_cache=timing_cache,
                    progress=progress,
                )
            )
        _trt.hold(handle)
        return handle

    with handles:
        yield engine


@pytest.fixture
def trt_engine(trt_engines: Engines) -> Handle:
    """The cell's engine: a handle on the pool, with ``info``, ``timings`` and ``session(profile)``."""
    return trt_engines()


@pytest.fixture
def trt_profile(_trt: Story) -> int:
    """The number of the cell's profile; for inputs of the user's own, of the first that admits them."""
    if _trt.case.model.data is None:
        return _trt.case.profile
    return int(_trt.fixture("trt_golden").profile)


@pytest.fixture
def trt_session(trt_engine: Handle, trt_profile: int) -> Session:
    """A session of the cell's engine on the cell's profile: ``run(inputs)`` gives the outputs by name."""
    return trt_engine.session(trt_profile)


@pytest.fixture
def trt_latency(_trt: Story, benchmark: Any, request: pytest.FixtureRequest) -> Latency:
    """Measures the cell's engine: ``trt_latency()`` samples its latency on the inputs of the cell's point.

    The samples are in pytest-benchmark's table. Where that is switched off nothing is measured, and the cell is
    not covered. See `harness.pytest_plugin.latency.Latency`.
    """
    measuring(benchmark)
    return Latency(_trt, request.getfixturevalue("trt_session"), request.getfixturevalue("trt_inputs"), benchmark)


@pytest.fixture
def trt_perf(_trt: Story, trt_spec: EngineSpec, trt_plan: BuiltPlan) -> Perf:
    """Measures the cell in processes of its own, holds it against its baseline, and fails where it got worse.

    ``trt_perf(wanted)`` rules on the metrics that ``wanted`` says of; ``--trt-perf`` says whether there are cells
    at all. See `harness.pytest_plugin.perf.Perf`.
    """
    return Perf(_trt, trt_spec, trt_plan)


@pytest.fixture
def trt_sessions(_trt: Story, trt_engine: Handle) -> Sessions:
    """Sessions of the cell's engine: ``trt_sessions(profile)``, the same each time for as long as its host lives."""
    kept: dict[tuple[Handle, int, int], Watched] = {}

    def session(profile: int = 0, number: int = 0, *, engine: Handle | None = None) -> Watched:
        key = engine or trt_engine, profile, number
        known = kept.get(key)
        if known is None or not known.alive:
            known = kept[key] = Watched(key[0].session(profile), _trt.trail)
        return known

    return session


@pytest.fixture
def trt_can(_trt: Story, trt_backend: str) -> Callable[[str], bool]:
    """Whether the cell's backend has a capability, for what a test does beside its main point: ``trt_can("refit")``."""
    return _trt.run.probes[trt_backend].has


@pytest.fixture
def trt_version(_trt: Story, trt_backend: str) -> str:
    """The version of the library that the cell's backend builds and runs with: of TensorRT, not of its bindings."""
    probe = _trt.run.probes[trt_backend]
    return str(probe.environment.get("library_version") or probe.version)


@pytest.fixture
def trt_interface(_trt: Story) -> Interface:
    """What the model takes and gives: as its file declares, or, without a file, as its engine says."""
    source = _trt.case.model.source
    if source.kind == "onnx":
        with _trt.spending("export"):
            return interface(source.path())
    from harness.runtime.qualify import interface_of

    return interface_of(_trt.fixture("trt_engine").info)


@pytest.fixture
def trt_make_inputs(_trt: Story, trt_interface: Interface) -> MakeInputs:
    """Makes inputs for the cell's model, the same for the same seed; see `harness.pytest_plugin.types.MakeInputs`."""
    case, settings = _trt.case, _trt.run.settings

    def make(*, special: str = "", seed: int | None = None) -> dict[str, Array]:
        from harness.judge.inputs import SPECIALS, make_inputs, special_inputs

        with _trt.spending("inputs"):
            if case.model.data is not None:
                inputs = dict(_trt.fixture("trt_golden").inputs)
            else:
                profile = admit(case.model.id, case.model.profiles[case.profile], trt_interface)
                binding, contents = profile.binding(case.point), profile.contents(case.point)
                chosen = settings.seed if seed is None else seed
                inputs = make_inputs(case.model, trt_interface, binding, contents, chosen)
            if not special:
                return inputs
            (kind,) = (known for known in SPECIALS if known == special)
            return special_inputs(case.model, trt_interface, inputs, kind, case.recipe)

    return make


@pytest.fixture
def trt_inputs(trt_make_inputs: MakeInputs) -> dict[str, Array]:
    """One array an input, at the cell's point."""
    return trt_make_inputs()


@pytest.fixture
def trt_inputs_at(_trt: Story, trt_interface: Interface) -> InputsAt:
    """Makes inputs at a place inside the model's profiles: ``trt_inputs_at(example)``, the same for the same one."""
    model = _trt.case.model

    def make(example: Example) -> dict[str, Array]:
        from harness.judge.inputs import make_inputs

        with _trt.spending("inputs"):
            return make_inputs(model, trt_interface, example.binding, example.contents, example.seed)

    return make


@pytest.fixture
def trt_spaces(_trt: Story, trt_interface: Interface) -> tuple[Space, ...]:
    """What each profile of the cell's model admits, by the symbols that stand in the model."""
    model = _trt.case.model
    return spaces([admit(model.id, profile, trt_interface) for profile in model.profiles], model.relations)


@pytest.fixture
def trt_explore(_trt: Story, trt_spaces: tuple[Space, ...], trt_inputs_at: InputsAt) -> Explore:
    """Tries examples from all over the model's profiles: ``trt_explore(check)`` calls ``check(example)`` for each.

    Engines are made before: one that is asked for inside is refused. See `Explore`.
    """
    return Explore(_trt, trt_spaces, trt_inputs_at)


@pytest.fixture
def trt_walk(_trt: Story, trt_spec: EngineSpec, trt_backend: str, trt_can: Callable[[str], bool]) -> Walked:
    """Drives the cell's engine through sequences of all that a runtime can be asked for: ``trt_walk()``.

    See `harness.strategies.machine.run_machine`. Where weights can be replaced, the engine is one built for that;
    a builder that refuses it there is walked through without.
    """

    def walk() -> Walk:
        with _trt.spending("drawing"):  # Hypothesis takes a while to import
            from harness.strategies.machine import run_machine

        run, spec, effort = _trt.run, trt_spec, _trt.run.settings.effort_here
        progress = reporter(run.config, _trt.case.cell.id)
        left_out: dict[str, str] = {}
        if trt_can("refit") and REFIT not in spec.config.flags:
            spec = replace(spec, config=replace(spec.config, flags=(*spec.config.flags, REFIT)))
        try:
            plan = run.pool.plan(spec, trt_backend, progress=progress)
        except BuildError as refusal:
            if spec is trt_spec or refusal.crash is not None:
                raise
            left_out["refit"] = f"no plan is built with BuilderFlag.REFIT: {refusal.message}"
            plan, spec = run.pool.plan(trt_spec, trt_backend, progress=progress), trt_spec
        _trt.built(plan)
        done = run_machine(
            run.backend(trt_backend, _trt.node),
            run.probes[trt_backend],
            plan.data,
            _trt.case.model,
            precision=spec.precision,
            oracle=run.oracle,
            effort=effort,
            database=run.kept / "failed" if effort == "nightly" else None,
            plugins=spec.config.plugins,
        )
        _trt.spend(done.seconds)
        _trt.facts.update(sequences=done.sequences, steps=dict(done.steps), left_out={**done.off, **left_out})
        if done.failure is not None:
            error = done.failure.error
            _trt.facts["sequence"] = list(done.failure.steps)
            error.__notes__ = [str(done.failure)]
            raise error
        return done

    return walk


@pytest.fixture
def trt_golden(_trt: Story, trt_interface: Interface) -> Question:
    """What the model's owner gave to run: ``inputs``, the ``profile`` that they fit, and ``reference()``.

    With golden outputs the reference is those, with inputs alone the oracle's. SpecError when there is neither.
    """
    from harness.runtime.qualify import questions

    model = _trt.case.model
    if model.data is None and model.golden is None:
        raise SpecError(
            f"trt_golden: {model.id} brings no inputs and no golden outputs: give it some (data or golden), use "
            "trt_inputs and trt_oracle, or let the mark choose: trt(models=lambda model: model.data or model.golden)"
        )
    with _trt.spending("inputs"):
        return next(questions(model, trt_interface, (), _trt.run.settings.seed, _trt.run.oracle))


@pytest.fixture
def trt_oracle(_trt: Story) -> CellOracle:
    """onnxruntime, unoptimized, on the original model: ``trt_oracle(inputs)`` is a `Reference`."""

    def reference(inputs: Arrays, model: ModelSpec | None = None) -> Reference:
        with _trt.spending("oracle"):
            return _trt.run.oracle.reference(_trt.case.model if model is None else model, inputs)

    return reference


@pytest.fixture
def trt_require(_trt: Story) -> Require:
    """Takes a comparison of your own into the cell's record, and fails the test unless it passed."""

    def require(comparison: Comparison) -> None:
        _trt.comparison = comparison
        if comparison.passed:
            return
        cell, example = _trt.case.cell, _trt.example
        where = cell if example is None else replace(cell, point=str(example))
        comparison.require(where, repeat(_trt.run.config, _trt.node, example))

    return require


@pytest.fixture
def trt_compare(_trt: Story, trt_require: Require) -> Compare:
    """Judges outputs by the tolerances of the cell's precision: ``trt_compare(got, trt_oracle(inputs))``."""

    def judge(got: Arrays, want: Reference, *, weak: Literal["fail", "note", "ignore"] = "fail") -> Comparison:
        from harness.judge.compare import NARROWER, compare

        with _trt.spending("compare"):
            narrower, brief = NARROWER.get(_trt.backend), _trt.exploring
            made = compare(got, want, _trt.case.recipe, narrower=narrower, weak=weak, brief=brief)
        _trt.judged = Judged(got, want.outputs, made)
        trt_require(made)
        return made

    return judge


@pytest.fixture
def trt_relation(_trt: Story, trt_interface: Interface, trt_require: Require) -> Relation:
    """Related inputs, and what their outputs must be, for checks without an oracle: see `Relation`."""
    return Relation(_trt, trt_interface, trt_require)


@pytest.fixture
def trt_record(_trt: Story) -> dict[str, Any]:
    """Facts of your own for the cell's record: a dictionary of what JSON can hold."""
    return _trt.facts
