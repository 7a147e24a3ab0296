"""What a stateful test drives: a plan and its backend, with everything that judges them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hypothesis import strategies as st

from harness.errors import RunError, StageError, UnsupportedError
from harness.judge.compare import NARROWER, compare
from harness.judge.inputs import make_inputs
from harness.judge.oracle import Oracle, Reference
from harness.judge.precision import converted
from harness.judge.stored import Stored, stored
from harness.judge.weights import reweighted, weights
from harness.runtime.backend.protocol import UNCAPTURABLE, Array, Backend, Engine
from harness.runtime.capability import Probe
from harness.spec.example import Example
from harness.spec.model import ModelSpec
from harness.spec.onnx_model import interface
from harness.spec.precision import Recipe
from harness.spec.profile import Profile
from harness.spec.space import Space
from harness.strategies.replaceable import Replaceable, replaceable
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
    def replaceable(self) -> Replaceable:
        """Which of the model's weights a refit may change, as an engine of the plan says."""
        engine = self.load()
        try:
            return replaceable(engine, weights(self.model), self._stored(ORIGINAL))
        finally:
            engine.close()

    def refit(self, engine: Engine, seed: int) -> None:
        """Bring all that is `replaceable` to what ``seed`` draws, with what must be given along."""
        to, asked = self._stored(seed), self.replaceable
        layers: dict[str, dict[str, Array]] = {}
        for layer, role in asked.places:
            layers.setdefault(layer, {})[role] = to.places[layer, role]
        engine.refit({name: to.names[name] for name in asked.given}, layers=layers)

    def _stored(self, seed: int) -> Stored:
        """What the parser stores of the model at its precision."""
        with self.watch.of("export"):
            return stored(converted(self._with(seed), self.precision))

    def _with(self, seed: int) -> ModelSpec:
        return self.model if seed == ORIGINAL else reweighted(self.model, self.replaceable.names, seed)


def missing(subject: Subject) -> dict[str, str]:
    """What the backend, the plan or the model can't do, and why: by ability, each tried once at opt.

    The abilities are ``infer``, ``graph``, ``move``, ``switch``, ``serialize`` and ``refit``; where a refit can
    change some weights and others not, ``weights`` tells of the others. What fails in any other way than by
    saying so counts as an ability: the machine meets it again, and tells by which steps. UnsupportedError when
    nothing can be run at all.
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
        elif not weights(model):
            found["refit"] = "the model has no weights that a refit may change"
        else:
            ask("refit", lambda: subject.replaceable, "refit")
            if "refit" not in found and subject.replaceable.kept:
                found["weights" if subject.replaceable.names else "refit"] = str(subject.replaceable)
    return found
