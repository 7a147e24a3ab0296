"""Which weights an engine lets be replaced, by what it lists and wants along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

from harness.errors import RefitError
from harness.judge.oracle import Oracle
from harness.judge.stored import Place, Stored, stored
from harness.judge.weights import weights
from harness.runtime.backend.onnxruntime import reference_name, reference_runner
from harness.runtime.backend.protocol import Array, LayerWeights, Refittable, Weights
from harness.runtime.request import resolve
from harness.spec import BuildConfig, EngineSpec, ModelSpec, OnnxFile, Profile, recipe
from harness.strategies.machine import run_machine
from harness.strategies.replaceable import UNLISTED, Replaceable, replaceable
from tests.contract.subjects import crash
from tests.doubles.install import installed
from tests.doubles.plays.refit import Refitter

FP32 = recipe("fp32")
OLD = Stored(
    {name: np.full(2, place, np.float32) for place, name in enumerate("abcd")}, {("layer", "SCALE"): np.ones(2)}, {}
)


class Choosy:
    """Lists all of ``OLD`` but for ``unlisted``; some are wanted along with others, or with what is at a place."""

    def __init__(
        self,
        unlisted: str = "",
        along: Mapping[str, tuple[str, ...]] | None = None,
        places: Mapping[str, Place] | None = None,
    ) -> None:
        self.names = tuple(name for name in OLD.names if name not in unlisted)
        self.along, self.places = along or {}, places or {}
        self.asked: list[str] = []

    def weights(self, given: Weights | None = None, *, layers: LayerWeights | None = None) -> Refittable:
        self.asked.append("".join(given or {}))
        for name, array in (given or {}).items():
            assert name in self.names
            assert np.array_equal(array, OLD.names[name])
        there = {(layer, role) for layer, roles in (layers or {}).items() for role in roles}
        missing = {more for name in given or {} for more in self.along.get(name, ()) if more not in (given or {})}
        places = {self.places[name] for name in given or {} if name in self.places} - there
        return Refittable(self.names, (), tuple(sorted(missing)), tuple(places))


def found(engine: Choosy, wanted: str = "abc") -> Replaceable:
    return replaceable(engine, tuple(wanted), OLD)


def test_all_together_where_nothing_speaks_against_it() -> None:
    engine = Choosy()
    assert found(engine) == Replaceable(("a", "b", "c"), ("a", "b", "c"))
    assert engine.asked == ["", "abc"]


def test_without_those_that_are_not_listed() -> None:
    left = found(Choosy("ac"))
    assert left == Replaceable(("b",), ("b",), kept=dict.fromkeys("ac", UNLISTED))
    assert str(left) == "2 of 3 weights stay as they are: a, c: the engine lists no such weights"
    assert found(Choosy("abc")) == Replaceable((), kept=dict.fromkeys("abc", UNLISTED))


def test_with_those_of_the_model_that_are_wanted_along() -> None:
    assert found(Choosy(along={"a": ("d",), "d": ("b",)})) == Replaceable(("a", "b", "c"), ("a", "b", "c", "d"))
    assert found(Choosy(places={"b": ("layer", "SCALE")})) == Replaceable(
        ("a", "b", "c"), ("a", "b", "c"), (("layer", "SCALE"),)
    )


def test_without_those_that_want_along_what_nobody_has() -> None:
    left = found(Choosy(along={"a": ("folded",), "c": ("d",)}))
    assert (left.names, left.given) == (("b", "c"), ("b", "c", "d"))
    assert "not in the model's file: ['folded']" in left.kept["a"]
    left = found(Choosy("c", dict.fromkeys("ab", ("folded",)), {"b": ("other", "SHIFT")}))
    assert (left.names, left.given, left.kept.keys()) == ((), (), {"a", "b", "c"})
    assert "places [('other', 'SHIFT')]" in left.kept["b"]


@pytest.mark.parametrize("late", [False, True])
def test_a_refusal_that_is_no_answer_is_raised(late: bool) -> None:
    class Broken(Choosy):
        def weights(self, given: Weights | None = None, *, layers: LayerWeights | None = None) -> Refittable:
            if list(given or ()) == (["a"] if late else ["a", "b", "c"]):
                raise RefitError("not today")
            return super().weights(given, layers=layers)

    with pytest.raises(RefitError, match="not today"):
        found(Broken(along={"b": ("folded",)}))


def test_reasons_are_told_as_far_as_a_reader_follows() -> None:
    told = str(Replaceable(("x",), kept={name: f"because of {name}" for name in "abcde"}))
    head = "5 of 6 weights stay as they are: "
    assert told == f"{head}a: because of a; b: because of b; c: because of c; 2 more such"


# On the double of 8.6, which folds batch normalizations, and has lost the biases of quantized convolutions.


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(reference_runner(), reference_name())


@pytest.fixture
def backend() -> Iterator[Any]:
    with installed("8.6.1") as stage:
        from harness.runtime.backend.nv.backend import NvBackend

        stage.trt.world.crash = crash
        made = NvBackend("tensorrt")
        yield made
        made.close()


def refittable(backend: Any, model: ModelSpec) -> Array:
    plan: Array = backend.build(
        resolve(EngineSpec.of(model, FP32, BuildConfig(flags=("REFIT",), tactic_sources=())))
    ).data
    return plan


def test_biases_of_quantized_convolutions_stay(backend: Any) -> None:
    from models import ZOO

    (model,) = (model for model in ZOO if model.id == "qdq_conv")
    engine = backend.load(refittable(backend, model))
    told = replaceable(engine, weights(model), stored(model.source.path()))
    engine.close()
    assert told.names == ("head.weight", "head.bias")
    assert told.kept == dict.fromkeys(("conv1.bias", "conv2.bias", "conv3.bias"), UNLISTED)


NORMED = """<ir_version: 8, opset_import: ["": 17]> normed (float[n, 2, 3, 3] x) => (float[n, 2, 3, 3] y)
  <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] scale = {1, 2}, float[2] shift = {1, 2}, float[2] mean = {0, 1},
   float[2] var = {1, 2}, float[2, 2, 1, 1] v = {1, -2, 3, 1}, float[2] bias = {1, -1}>
  { c = Conv (x, w)  normal = BatchNormalization (c, scale, shift, mean, var)
    r = Relu (normal)  y = Conv (r, v, bias) }"""


def normed(folder: Path) -> ModelSpec:
    file = folder / "normed.onnx"
    file.write_bytes(onnx.parser.parse_model(NORMED).SerializeToString())
    return ModelSpec("normed", OnnxFile(file), (Profile.of({"n": (1, 2, 4)}),))


def test_convolutions_go_with_the_normalizations_behind_them(backend: Any, oracle: Oracle, tmp_path: Path) -> None:
    model = normed(tmp_path)
    plan = refittable(backend, model)
    done = run_machine(backend, backend.probe(), plan, model, precision=FP32, oracle=oracle)
    assert done.failure is None
    assert done.off.keys() == {"switch"}
    assert done.steps["refit"] > 0


@pytest.mark.parametrize(("unlisted", "ability"), [(("w", "v"), "weights"), (("w", "v", "bias"), "refit")])
def test_the_rest_is_walked_through(
    backend: Any,
    oracle: Oracle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unlisted: tuple[str, ...],
    ability: str,
) -> None:
    model = normed(tmp_path)
    plan = refittable(backend, model)
    listed = Refitter.get_all_weights
    monkeypatch.setattr(
        Refitter, "get_all_weights", lambda self: [name for name in listed(self) if name not in unlisted]
    )
    done = run_machine(backend, backend.probe(), plan, model, precision=FP32, oracle=oracle)
    assert done.failure is None
    told = f"{len(unlisted)} of 3 weights stay as they are: {', '.join(unlisted)}: {UNLISTED}"
    assert done.off == {ability: told, "switch": "the model has one profile"}
    assert ("refit" in done.steps) == (ability != "refit")
    assert {"open", "run", "run by graph", "set shape", "write", "reload", "drop", "move"} <= done.steps.keys()
