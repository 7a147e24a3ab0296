"""An engine to be refitted, with what its weights are and may become."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from harness.spec import BuildConfig, EngineSpec

if TYPE_CHECKING:
    from harness.judge.stored import Place, Stored
    from harness.pytest_plugin.types import (
        Array,
        Arrays,
        CellOracle,
        Compare,
        Engines,
        Handle,
        MakeInputs,
        ModelSpec,
        Reference,
        Relation,
        Session,
    )

SEED = 1  # of other weights
SHOWN = 20  # problems that a message tells of
START = "the run before any refit"


@pytest.fixture
def refits(
    trt_spec: EngineSpec,
    trt_engines: Engines,
    trt_profile: int,
    trt_make_inputs: MakeInputs,
    trt_oracle: CellOracle,
    trt_compare: Compare,
    trt_relation: Relation,
    trt_record: dict[str, Any],
) -> Callable[..., Refits]:
    """Makes a `Refits` of the cell's model: ``refits()``, of an engine built for it, or with other build ``flags``."""

    def make(*flags: str, refittable: tuple[str, ...] = ()) -> Refits:
        engine = trt_engines(config=built_for(trt_spec, flags, refittable), private=True)
        return Refits(
            trt_spec, engine, trt_profile, trt_make_inputs, trt_oracle, trt_compare, trt_relation, trt_record, SEED
        )

    return make


def built_for(spec: EngineSpec, flags: tuple[str, ...] = (), refittable: tuple[str, ...] = ()) -> BuildConfig:
    """The options of ``spec`` for an engine whose weights can be replaced."""
    asked = flags if flags or refittable else ("REFIT",)
    return replace(spec.config, flags=(*spec.config.flags, *asked), refittable=refittable)


@dataclass(eq=False)
class Refits:
    """A private engine, in one session of it the outputs of the start, and what its weights are at first."""

    spec: EngineSpec
    engine: Handle
    profile: int
    make_inputs: MakeInputs
    oracle: CellOracle
    compare: Compare
    relation: Relation
    record: dict[str, Any]
    seed: int
    inputs: Arrays = field(init=False)
    old: Stored = field(init=False)

    def __post_init__(self) -> None:
        from harness.judge.weights import weights

        self.inputs = self.make_inputs()
        self.old = self.stored(self.model)
        self.all = [name for name in weights(self.model) if name in self.old.names]
        if not self.all:
            pytest.skip("the model has no weights that a refit may change")

    @property
    def model(self) -> ModelSpec:
        return self.spec.model

    def listed(self) -> list[str]:
        """The model's weights that the engine lists. Those that it does not are constants to it by now."""
        names = self.engine.weights().names
        found = [name for name in self.all if name in names]
        if missing := [name for name in self.all if name not in names]:
            self.record["not_listed"] = missing
        if not found:
            pytest.skip(f"the engine lists none of {', '.join(self.all)}")
        return found

    # Weights ------------------------------------------------------------------------------------

    def stored(self, model: ModelSpec) -> Stored:
        """What the parser stores of ``model`` at the cell's precision."""
        from harness.judge.stored import stored

        return stored(self.file(model))

    def file(self, model: ModelSpec) -> Any:
        """The ONNX file of ``model`` at the cell's precision."""
        from harness.judge.precision import converted

        return converted(model, self.spec.precision)

    def changed(self, names: Iterable[str]) -> ModelSpec:
        """The model with other numbers in ``names``."""
        from harness.judge.weights import reweighted

        return reweighted(self.model, list(names), self.seed)

    def together(
        self, to: Stored, names: Iterable[str], places: Iterable[Place] = ()
    ) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
        """As `harness.runtime.companions.together`, of the cell's engine."""
        from harness.runtime.companions import together

        return together(self.engine, to, names, places)

    def bring(self, model: ModelSpec, names: Iterable[str], **ways: Any) -> None:
        """Refit ``names``, with their companions, to what they are in ``model``."""
        given, layers = self.together(self.stored(model), names)
        self.engine.refit(given, layers=layers, **ways)

    # Outputs ------------------------------------------------------------------------------------

    def session(self) -> Session:
        return self.engine.session(self.profile)

    def run(self, session: Session, *, graph: bool = False) -> dict[str, Array]:
        return session.run(self.inputs, graph=graph)

    def judge(self, got: Arrays, model: ModelSpec) -> Reference:
        """ComparisonFailure unless ``got`` is what the oracle says of ``model``."""
        reference = self.oracle(self.inputs, model)
        self.compare(got, reference, weak="ignore")
        return reference

    def require_start(self, got: Arrays, start: Arrays) -> None:
        """ComparisonFailure unless every bit is that of the start."""
        self.relation.require_same_bits(got, start, START)

    def matters(self, name: str, value: Array, inputs: Arrays) -> bool:
        """Whether the oracle tells ``value`` in the place of ``name`` from what was there, at this precision."""
        return not self.alike(self.oracle(inputs, self.with_value(name, value)).outputs, self.oracle(inputs))

    def alike(self, got: Arrays, reference: Reference) -> bool:
        from harness.judge.compare import compare

        return compare(got, reference, self.spec.precision, weak="ignore").passed

    def with_value(self, name: str, value: Array) -> ModelSpec:
        """The model with ``value`` in the place of ``name``."""
        from harness.judge.weights import revalued

        return revalued(self.model, {name: value})


def told(problems: Sequence[str]) -> str:
    """Line by line, as far as a reader will follow."""
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return "\n".join([*problems[:SHOWN], *more])


def same_bits(one: Arrays, other: Arrays) -> bool:
    return all(one[name].tobytes() == other[name].tobytes() for name in other)


def unlike(old: Array) -> Array:
    """Other numbers for ``old``: drawn anew or, where it is one number, that one larger by half and by a half."""
    import numpy as np

    from harness.judge.weights import redrawn

    if old.size > 1 and np.ptp(old.astype(np.float64)) > 0:
        return redrawn(old, SEED)
    wide = old.astype(np.float64)
    return np.asarray(
        np.clip(wide * 1.5 + 0.5, float(np.finfo(old.dtype).min), float(np.finfo(old.dtype).max)), old.dtype
    )
