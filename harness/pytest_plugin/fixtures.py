"""The public fixtures. A test that requests them carries the mark ``trt(...)``::

    @pytest.mark.trt
    def test_matches_oracle(trt_session, trt_inputs, trt_oracle, trt_compare):
        trt_compare(trt_session.run(trt_inputs), trt_oracle(trt_inputs))

Requesting a fixture says what a backend must be able to do; where it can't, the cell is *not
covered*, before anything is built for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest

from harness.pytest_plugin.cells import Case
from harness.pytest_plugin.outcome import repeat
from harness.pytest_plugin.progress import reporter
from harness.pytest_plugin.relation import Relation
from harness.pytest_plugin.run import Run, run_of
from harness.pytest_plugin.story import STORY, Story, summary
from harness.spec import BuildConfig, EngineSpec, Interface, ModelSpec, Profile, admit, interface, recipe
from harness.spec.cell import Cell

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
        MakeInputs,
        Question,
        Reference,
        Require,
        Session,
    )


@pytest.fixture
def _trt_case(request: pytest.FixtureRequest) -> Case:
    case: Case = request.param
    return case


@pytest.fixture
def _trt_story(request: pytest.FixtureRequest, _trt_case: Case) -> Story:
    return request.node.stash[STORY]  # type: ignore[no-any-return]


@pytest.fixture
def _trt_run(request: pytest.FixtureRequest) -> Run:
    return run_of(request.config)


@pytest.fixture
def trt_cell(_trt_case: Case) -> Cell:
    """The cell: test, model, precision, variant, point and backend, by name."""
    return _trt_case.cell


@pytest.fixture
def trt_model(_trt_case: Case) -> ModelSpec:
    """The model of the cell."""
    return _trt_case.model


@pytest.fixture
def trt_variant(_trt_case: Case) -> str:
    """Which of the mark's ``variants`` this cell is."""
    return _trt_case.variant


@pytest.fixture
def trt_backend(_trt_case: Case, _trt_story: Story) -> str:
    """The name of the backend that covers the cell; what "best" came to."""
    if not _trt_case.backend:
        pytest.fail("this test does not run over backends: add 'backend' to the mark's 'over'", pytrace=False)
    return _trt_story.backend


@pytest.fixture
def trt_spec(_trt_case: Case, _trt_run: Run, _trt_story: Story) -> EngineSpec:
    """What is asked of the backend: the model at the cell's precision, with its profiles and build options."""
    spec = _trt_run.spec_of(_trt_case)
    with _trt_story.spending("export"):
        assert spec.key  # asked for here, since it makes and reads the model
    return spec


@pytest.fixture
def trt_plan(trt_spec: EngineSpec, trt_backend: str, _trt_run: Run, _trt_story: Story) -> BuiltPlan:
    """The serialized engine, built now or taken from the cache, and not loaded: no GPU is needed."""
    plan = _trt_run.pool.plan(trt_spec, trt_backend, progress=reporter(_trt_run.config, _trt_story.case.cell.id))
    _trt_story.built(plan)
    return plan


@pytest.fixture
def trt_engines(trt_spec: EngineSpec, trt_backend: str, _trt_run: Run, _trt_story: Story) -> Iterator[Engines]:
    """Makes engines, several at once where a test needs them, and lets go of them all at its end.

    See `harness.pytest_plugin.types.Engines`.
    """
    handles: list[Handle] = []

    def engine(
        spec: EngineSpec | None = None,
        *,
        precision: str | None = None,
        profiles: tuple[Profile, ...] | None = None,
        config: BuildConfig | None = None,
        backend: str | None = None,
        private: bool = False,
        rebuilt: bool = False,
    ) -> Handle:
        base = spec or trt_spec
        asked = EngineSpec(
            base.model,
            base.precision if precision is None else recipe(precision),
            base.profiles if profiles is None else profiles,
            base.config if config is None else config,
        )
        handle = _trt_run.pool.engine(
            asked,
            backend or trt_backend,
            private=private,
            rebuilt=rebuilt,
            progress=reporter(_trt_run.config, _trt_story.case.cell.id),
        )
        handles.append(handle)
        _trt_story.hold(handle)
        return handle

    yield engine
    for handle in reversed(handles):
        handle.close()


@pytest.fixture
def trt_engine(trt_engines: Engines) -> Handle:
    """The cell's engine: a handle on the pool, with ``info``, ``timings`` and ``session(profile)``."""
    return trt_engines()


@pytest.fixture
def trt_profile(request: pytest.FixtureRequest, _trt_case: Case) -> int:
    """The number of the cell's profile; for inputs of the user's own, of the first that admits them."""
    if _trt_case.model.data is None:
        return _trt_case.profile
    return int(request.getfixturevalue("_trt_given").profile)


@pytest.fixture
def trt_session(trt_engine: Handle, trt_profile: int) -> Session:
    """A session of the cell's engine on the cell's profile: ``run(inputs)`` gives the outputs by name."""
    return trt_engine.session(trt_profile)


@pytest.fixture
def trt_interface(request: pytest.FixtureRequest, _trt_case: Case, _trt_story: Story) -> Interface:
    """What the model takes and gives: as its file declares, or, without a file, as its engine says."""
    source = _trt_case.model.source
    if source.kind == "onnx":
        with _trt_story.spending("export"):
            return interface(source.path())
    from harness.runtime.qualify import interface_of

    return interface_of(request.getfixturevalue("trt_engine").info)


@pytest.fixture
def _trt_given(_trt_case: Case, _trt_run: Run, _trt_story: Story, trt_interface: Interface) -> Question:
    """What a user gave to run: golden inputs with their outputs, or inputs alone."""
    from harness.runtime.qualify import questions

    with _trt_story.spending("inputs"):
        return next(questions(_trt_case.model, trt_interface, (), _trt_run.settings.seed, _trt_run.oracle))


@pytest.fixture
def trt_make_inputs(
    request: pytest.FixtureRequest, _trt_case: Case, _trt_run: Run, _trt_story: Story, trt_interface: Interface
) -> MakeInputs:
    """Makes inputs for the cell's model, the same for the same seed; see `harness.pytest_plugin.types.MakeInputs`."""
    model, point = _trt_case.model, _trt_case.point

    def make(*, special: str = "", seed: int | None = None) -> dict[str, Array]:
        from harness.judge.inputs import SPECIALS, make_inputs, special_inputs

        with _trt_story.spending("inputs"):
            if model.data is not None:
                inputs = dict(request.getfixturevalue("_trt_given").inputs)
            else:
                profile = admit(model.id, model.profiles[_trt_case.profile], trt_interface)
                chosen = _trt_run.settings.seed if seed is None else seed
                inputs = make_inputs(model, trt_interface, profile.binding(point), profile.contents(point), chosen)
            if not special:
                return inputs
            (kind,) = (known for known in SPECIALS if known == special)
            return special_inputs(model, trt_interface, inputs, kind, _trt_case.recipe)

    return make


@pytest.fixture
def trt_inputs(trt_make_inputs: MakeInputs) -> dict[str, Array]:
    """One array an input, at the cell's point."""
    return trt_make_inputs()


@pytest.fixture
def trt_oracle(_trt_case: Case, _trt_run: Run, _trt_story: Story) -> CellOracle:
    """onnxruntime, unoptimized, on the original model: ``trt_oracle(inputs)`` is a `Reference`."""

    def reference(inputs: Arrays) -> Reference:
        with _trt_story.spending("oracle"):
            return _trt_run.oracle.reference(_trt_case.model, inputs)

    return reference


@pytest.fixture
def trt_golden(_trt_given: Question) -> Question:
    """What the model's owner gave: ``inputs``, the ``profile`` that they fit, and ``reference()``."""
    return _trt_given


@pytest.fixture
def trt_require(_trt_case: Case, _trt_run: Run, _trt_story: Story) -> Require:
    """Takes a comparison of your own into the cell's record, and fails the test unless it passed."""

    def require(comparison: Comparison) -> None:
        _trt_story.comparison = summary(comparison)
        comparison.require(_trt_case.cell, repeat(_trt_run.config, _trt_story.node))

    return require


@pytest.fixture
def trt_compare(_trt_case: Case, _trt_story: Story, trt_require: Require) -> Compare:
    """Judges outputs by the tolerances of the cell's precision: ``trt_compare(got, trt_oracle(inputs))``."""

    def judge(got: Arrays, want: Reference, *, weak: Literal["fail", "note"] = "fail") -> Comparison:
        from harness.judge.compare import NARROWER, compare

        with _trt_story.spending("compare"):
            made = compare(got, want, _trt_case.recipe, narrower=NARROWER.get(_trt_story.backend), weak=weak)
        trt_require(made)
        return made

    return judge


@pytest.fixture
def trt_relation(_trt_case: Case, trt_interface: Interface, trt_require: Require) -> Relation:
    """Related inputs, and what their outputs must be, for checks without an oracle: see `Relation`."""
    return Relation(_trt_case, trt_interface, trt_require)


@pytest.fixture
def trt_record(_trt_story: Story) -> dict[str, Any]:
    """Facts of your own for the cell's record: a dictionary of what JSON can hold."""
    return _trt_story.facts
