"""One side of a comparison: what is built, by which backend, under which interpreter, and how it answers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError, UnsupportedError
from harness.judge.compare import NARROWER, Comparison, compare
from harness.judge.oracle import Reference
from harness.judge.precision import converted
from harness.judge.stored import stored
from harness.judge.tolerance import TABLE
from harness.runtime.backend.protocol import Backend, Engine, EngineInfo, LayerWeights, Weights
from harness.runtime.backend.registry import HostSettings, create
from harness.runtime.capability import State
from harness.runtime.choice import needs_of
from harness.runtime.companions import together
from harness.runtime.device_lock import DeviceLock, lock_of
from harness.runtime.devices import key_for
from harness.runtime.pool import BuiltPlan
from harness.runtime.qualify import Question, interface_of, profiles_of, questions
from harness.runtime.workbench import Workbench
from harness.spec.engine import EngineSpec
from harness.spec.model import ModelSpec
from harness.spec.onnx_model import Interface, interface
from harness.spec.precision import Recipe
from harness.spec.profile import Point, Profile
from harness.spec.source import PlanFile

Array = npt.NDArray[Any]
RUNS = ("deserialize", "run")  # capabilities without which a side is built and no more


@dataclass(eq=False)
class Side:
    """``bench`` builds, in a host that ends before anything is measured; every process has a host of its own.

    With ``plans``, nothing is built: they are its builds, and processes take them in turn.
    """

    name: str  # "A"
    spec: EngineSpec
    backend: str
    bench: Workbench
    device: int = 0
    point: Point = "opt"
    seed: int = 0
    asked: dict[str, Array] = field(default_factory=dict)  # the inputs, once there was a question
    plans: tuple[Path, ...] = ()

    @property
    def title(self) -> str:
        """``bert at fp16 on tensorrt 8.6.1``."""
        model = self.spec.model
        what = str(model.source.path()) if isinstance(model.source, PlanFile) else f"{model.id} at {self.recipe.name}"
        return f"{what} on {self.backend} {self.bench.probe(self.backend).version}".strip()

    @property
    def recipe(self) -> Recipe:
        return self.spec.precision

    @property
    def request(self) -> Mapping[str, Any]:
        """What identifies the side: another journal's measurements are not its own."""
        python = HostSettings.of(self.bench.settings).interpreter(self.backend.partition(":")[0])
        own = {"side": self.name, "engine": self.spec.key, "backend": self.backend, "python": python}
        return {**own, "device": self.device}

    @property
    def frozen(self) -> bool:
        """Whether its plans are there already, and nobody here builds."""
        return bool(self.plans) or isinstance(self.spec.model.source, PlanFile)

    def given(self, build: int) -> Path:
        """The plan of a frozen side that is its ``build``-th."""
        source = self.spec.model.source
        if isinstance(source, PlanFile) and not self.plans:
            return source.path()
        return self.plans[build % len(self.plans)]

    def why_not_run(self) -> str:
        """Why its plans can't be run here; "" where they can."""
        try:
            self.bench.probe(self.backend).require((*RUNS, *needs_of(self.spec.model)))
        except UnsupportedError as error:
            return f"{error.capability}: {error.evidence}"
        return ""

    def broken(self) -> str:
        """What its backend is there for, and fails at when it is tried; "" for nothing, or for want of a GPU alone."""
        tried = [self.bench.probe(self.backend).find(name) for name in RUNS]
        return next((f"{one.name}: {one.evidence}" for one in tried if one.state is State.USELESS), "")

    @property
    def lock(self) -> DeviceLock:
        """That of the device on which it is built and measured."""
        return lock_of(key_for(self.backend, self.device))

    def process(self) -> Backend:
        """A backend in a process of its own, for whoever closes it."""
        settings = self.bench.settings
        return create(self.backend, HostSettings.of(settings), self.device, apart=not settings.in_process)

    def build(self) -> BuiltPlan:
        """A plan, built now and cold, whatever the cache holds; of a plan from elsewhere that one. StageError."""
        built = self.bench.pool.plan(self.spec, self.backend, rebuilt=not self.frozen)
        self.rest()
        return built

    def rest(self) -> None:
        """End the host that probes and builds: it must not be in the way of what is measured."""
        self.bench.backend(self.backend).close()

    def question(self, info: EngineInfo, others: Path | None = None) -> Question:
        """What it is asked: where it takes them the inputs in ``others``, a file, else those of its own model."""
        model, declared = self._told(info)
        asked = None
        if others is not None and model.data is None and model.golden is None:
            with contextlib.suppress(SpecError):
                (asked,) = questions(replace(model, data=others), declared, [self.point], self.seed, self.bench.oracle)
        if asked is None:
            asked = next(iter(questions(model, declared, [self.point], self.seed, self.bench.oracle)))
        self.asked = dict(asked.inputs)
        return asked

    def _told(self, info: EngineInfo) -> tuple[ModelSpec, Interface]:
        """The model, with the profiles of its engine where it names none itself, and what it takes and gives."""
        model = self.spec.model
        if model.source.kind == "onnx":
            return model, interface(model.source.path())
        untold = model.profiles == (Profile(),)
        return replace(model, profiles=profiles_of(info) or model.profiles) if untold else model, interface_of(info)

    def another(self, info: EngineInfo, asked: Question) -> dict[str, Array]:
        """Inputs of another shape than ``asked``, on the same profile. UnsupportedError where there is none."""
        model, declared = self._told(info)
        if model.data is not None or model.golden is not None:
            raise UnsupportedError("another shape", "a model with inputs of its own is asked in one way only")
        ends: tuple[Point, ...] = ("max", "min")
        for one in questions(model, declared, ends, self.seed, self.bench.oracle):
            if one.profile == asked.profile and one.binding != asked.binding:
                return dict(one.inputs)
        raise UnsupportedError("another shape", "the profile has one only")

    def replacements(self, engine: Engine) -> tuple[Weights, LayerWeights]:
        """All weights that ``engine`` lets be replaced, as they are. UnsupportedError where nobody has them."""
        if self.spec.model.source.kind != "onnx":
            raise UnsupportedError("refit", f"of a {self.spec.model.source.kind} nobody here has the weights")
        old = stored(converted(self.spec.model, self.recipe))
        listed = engine.weights()
        names = [name for name in listed.names if name in old.names]
        return together(engine, old, names, () if names else [place for place in listed.places if place in old.places])

    def reference(self, inputs: Mapping[str, Array]) -> Reference:
        """What an oracle, or the model's owner, says of these. UnsupportedError where nobody can."""
        model = self.spec.model
        return self.bench.oracle.golden(model)[1] if model.golden else self.bench.oracle.reference(model, inputs)

    def judged(self, outputs: Mapping[str, Array], reference: Reference) -> Comparison:
        return compare(outputs, reference, self.recipe, narrower=NARROWER.get(self.backend.partition(":")[0]))


def coarser(a: Recipe, b: Recipe) -> Recipe:
    """The one of which less is expected."""
    return max(a, b, key=lambda recipe: TABLE[recipe.name].unit)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """As `read_arrays` reads them; whole, or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp.npz")
    np.savez(temporary, **dict(arrays))  # type: ignore[arg-type]  # numpy takes a name for an option
    temporary.replace(path)
