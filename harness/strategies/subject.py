"""What a stateful test drives: a plan and its backend, with everything that judges them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from harness.errors import RunError, StageError, UnsupportedError
from harness.judge.compare import NARROWER, compare
from harness.judge.inputs import make_inputs
from harness.judge.oracle import Oracle, Reference
from harness.judge.precision import converted
from harness.judge.weights import initializers, reweighted, weights
from harness.runtime.backend.protocol import UNCAPTURABLE, Array, Backend, Engine
from harness.runtime.capability import Probe
from harness.spec.example import Example
from harness.spec.model import ModelSpec
from harness.spec.onnx_model import interface
from harness.spec.precision import Recipe
from harness.spec.profile import Profile
from harness.spec.space import Space
from harness.strategies.shapes import examples_in, spaces_of
from harness.strategies.stopwatch import Stopwatch

ORIGINAL = 0  # the seed of the weights that the plan was built with
SEEDS = (1, 2, ORIGINAL)  # of weights that a refit may bring; few, since the oracle loads a model for each


@dataclass(frozen=True, eq=False)
class Subject:
    """One plan on one backend, and the oracle of its model. Nothing here builds an engine."""

    backend: Backend
    probe: Probe
    plan: Array
    model: ModelSpec
    precision: Recipe
    oracle: Oracle
    plugins: tuple[str, ...] = ()
    watch: Stopwatch = field(default_factory=Stopwatch)
    _last: dict[Example, dict[str, Array]] = field(default_factory=dict)

    def __str__(self) -> str:
        """``mlp at fp32 on fake``."""
        return f"{self.model.id} at {self.precision.name} on {self.backend.name}"

    def load(self, plan: Array | None = None) -> Engine:
        """A new engine of the plan's bytes, or of others."""
        with self.watch.of("deserialize"):
            return self.backend.load(self.plan if plan is None else plan, self.plugins)

    @functools.cached_property
    def spaces(self) -> tuple[Space, ...]:
        """What each profile of the model admits."""
        return spaces_of(self.model)

    @functools.cached_property
    def examples(self) -> tuple[st.SearchStrategy[Example], ...]:
        """What may be asked on each profile."""
        return tuple(map(examples_in, self.spaces))

    @functools.cached_property
    def anywhere(self) -> st.SearchStrategy[Example]:
        """What may be asked on any of them."""
        return st.one_of(self.examples)

    @functools.cached_property
    def profiles(self) -> tuple[Profile, ...]:
        """The model's profiles by the symbols that stand in it."""
        return tuple(space.profile for space in self.spaces)

    def inputs(self, example: Example) -> dict[str, Array]:
        """The same arrays for the same example while it is the last one asked for: a run and its judge share them."""
        if self._last.get(example) is None:
            self._last.clear()
            self._last[example] = self._made(example)
        return dict(self._last[example])

    def _made(self, example: Example) -> dict[str, Array]:
        with self.watch.of("inputs"):
            declared = interface(self.model.source.path())
            return make_inputs(self.model, declared, example.binding, example.contents, example.seed)

    def reference(self, example: Example, weights: int) -> Reference:
        inputs = self.inputs(example)
        with self.watch.of("oracle"):
            return self.oracle.reference(self._with(weights), inputs)

    def judge(self, got: Mapping[str, Array], example: Example, weights: int, where: str) -> None:
        """ComparisonFailure unless ``got`` is what the model gives with these weights.

        That the oracle is worth its name at every shape is for the suites that judge numbers; here an
        old or a foreign output has to show, and does by any element.
        """
        reference, narrower = self.reference(example, weights), NARROWER.get(self.backend.name)
        with self.watch.of("compare"):
            found = compare(got, reference, self.precision, narrower=narrower, weak="ignore", brief=True)
        found.require(f"{self}, {where}", "the steps, in order")

    # Refitting ----------------------------------------------------------------------------------

    @functools.cached_property
    def weights(self) -> tuple[str, ...]:
        """Names of the model's weights that a refit may change: those that the engine tells, if it does."""
        engine = self.load()
        try:
            told = engine.info.facts.get("refittable_weights")
        finally:
            engine.close()
        return tuple(name for name in weights(self.model) if told is None or name in told)

    def refit_arrays(self, seed: int) -> dict[str, Array]:
        """All of `weights`, drawn by ``seed``, in the types and under the names that the converted model has."""
        with self.watch.of("export"):
            old, other, new = (self._initializers(which) for which in (ORIGINAL, SEEDS[0], seed))
        return {name: array for name, array in new.items() if not np.array_equal(old[name], other[name])}

    def _initializers(self, seed: int) -> dict[str, Array]:
        return initializers(converted(self._with(seed), self.precision))

    def _with(self, seed: int) -> ModelSpec:
        return self.model if seed == ORIGINAL else reweighted(self.model, self.weights, seed)


def missing(subject: Subject) -> dict[str, str]:
    """What the backend, the plan or the model can't do, and why: by ability, each tried once at opt.

    The abilities are ``infer``, ``graph``, ``move``, ``switch``, ``serialize`` and ``refit``. What fails in
    any other way than by saying so counts as an ability: the machine meets it again, and tells by which
    steps. UnsupportedError when nothing can be run at all.
    """
    found: dict[str, str] = {}
    model = subject.model
    declared = interface(model.source.path())
    space = subject.spaces[0]
    opt = {name: sizes.opt for name, sizes in space.ranges.items()}
    inputs = subject.inputs(space.example(opt if space.admits(opt) else space.least() or {}))
    with contextlib.ExitStack() as opened:
        engine = subject.load()
        opened.callback(engine.close)
        session = engine.session()
        opened.callback(session.close)

        def ask(ability: str, act: Callable[[], object], *needs: str) -> None:
            try:
                subject.probe.require(needs)
                act()
            except UnsupportedError as error:
                found[ability] = str(error)
            except RunError as error:
                if error.detail.get(UNCAPTURABLE):  # whether the model explains it is asked of graphs alone
                    found[ability] = error.message
            except StageError:
                pass

        ask("run", lambda: session.run(inputs), "run")
        if "run" in found:
            raise UnsupportedError(f"a session of {model.id} on {subject.backend.name}", found["run"])
        ask("infer", lambda: session.infer(inputs))
        ask("graph", lambda: session.run(inputs, graph=True), "cuda_graph")
        ask("move", lambda: session.move(declared.inputs[0].name))
        ask("serialize", engine.serialize)
        if len(model.profiles) > 1:
            ask("switch", lambda: session.switch(1))
        else:
            found["switch"] = "the model has one profile"
        if not engine.info.facts.get("refittable", True):
            found["refit"] = "the plan was built without BuilderFlag.REFIT"
        elif not subject.weights:
            found["refit"] = "the model has no weights that a refit may change"
        else:
            ask("refit", lambda: engine.refit(subject.refit_arrays(SEEDS[0])), "refit")
    return found
