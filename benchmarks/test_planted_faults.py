"""How surely faults of shapes are found by what continuous integration tries, and what they shrink to.

Each fault is one of the backend ``fake``, whose engine is right but for it. What is tried are the
examples of ``trt-ci``, from 100 seeds, and the corners of the profiles; what fails is brought to its
smallest, which must be the true boundary of the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from harness.judge.inputs import make_inputs
from harness.runtime.backend.fake import FakeBackend
from harness.runtime.request import resolve
from harness.spec import EngineSpec, Example, InputRule, ModelSpec, OnnxFile, Profile, interface, recipe
from harness.strategies import corners, examples_of, explore, minimize

SEEDS = 100
FOUND, SHRUNK = 99, 95  # of them, at least
PROFILES = (
    Profile.of({"batch": (1, 8, 32), "seq": (4, 64, 300)}),
    Profile.of({"batch": (1, 1, 4), "seq": (4, 400, 500)}),
)
NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
pooled (float[batch, seq, 4] x, int64[batch, seq] mask) => (float[batch, 4] y) {
    axis = Constant <value_ints = [2]> ()
    shown = Cast <to = 1> (mask)
    column = Unsqueeze (shown, axis)
    kept = Mul (x, column)
    along = Constant <value_ints = [1]> ()
    y = ReduceSum <keepdims = 0> (kept, along)
}
"""


@dataclass(frozen=True)
class Planted:
    """A fault, and whether an example that fails is its smallest."""

    name: str
    smallest: Callable[[Example], bool]


def at(profile: int, batch: int, seq: int) -> Callable[[Example], bool]:
    shape = Example.of({"batch": batch, "seq": seq}, profile=profile)
    return lambda example: (example.profile, example.sizes) == (shape.profile, shape.sizes)


PLANTED = (
    Planted("wrong_above=seq:200", at(0, 1, 201)),
    Planted("wrong_both_max=batch+seq", at(0, 32, 300)),
    Planted("wrong_odd=seq", at(0, 1, 5)),
    Planted("wrong_profile=1", at(1, 1, 4)),
    Planted("swap_rows_above=4", at(0, 5, 4)),
    Planted("mask_ignored=mask", at(0, 1, 4)),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A sum over what a mask leaves: [batch, seq, 4] to [batch, 4]."""
    path: Path = tmp_path_factory.mktemp("planted") / "pooled.onnx"
    onnx.save(onnx.parser.parse_model(NETWORK), path)
    return ModelSpec("pooled", OnnxFile(path), PROFILES, (InputRule("mask", "mask"),))


def checking(model: ModelSpec, fault: str) -> Callable[[Example], None]:
    """Runs an example on the engine with ``fault``: AssertionError when the output is not what numpy gives."""
    backend = FakeBackend(fault)
    engine = backend.load(backend.build(resolve(EngineSpec.of(model, recipe("fp32")))).data)
    sessions = [engine.session(number) for number in range(len(PROFILES))]
    declared = interface(model.source.path())

    def check(example: Example) -> None:
        inputs = make_inputs(model, declared, example.binding, example.contents, example.seed)
        got = sessions[example.profile].run(inputs)["y"]
        want = (inputs["x"] * inputs["mask"][..., None]).sum(axis=1)
        assert np.abs(got - want).max() < 1e-3

    return check


def fails(check: Callable[[Example], None]) -> Callable[[Example], bool]:
    def failing(example: Example) -> bool:
        try:
            check(example)
        except AssertionError:
            return True
        return False

    return failing


def test_an_honest_engine_has_no_fault(model: ModelSpec) -> None:
    check = checking(model, "")
    done = explore(examples_of(model), check, effort="ci", examples=100, seed=0)
    assert done.failure is None
    assert not any(map(fails(check), (example for _, example in corners(PROFILES))))


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_planted_faults(planted: Planted, model: ModelSpec, capsys: pytest.CaptureFixture[str]) -> None:
    check = checking(model, planted.name)
    failing = [name for name, example in corners(PROFILES) if fails(check)(example)]
    minimized = [minimize(e, fails(check), PROFILES) for name, e in corners(PROFILES) if name in failing]
    strategy = examples_of(model)
    runs = [explore(strategy, check, effort="ci", seed=seed) for seed in range(SEEDS)]
    drawn = [None if run.failure is None else run.failure.example for run in runs]
    smallest = [None if one is None else minimize(one, fails(check), PROFILES) for one in drawn]  # as explore does
    left = [[*minimized, *([] if one is None else [one])] for one in smallest]
    found, shrunk = sum(map(bool, left)), sum(bool(some) and all(map(planted.smallest, some)) for some in left)
    alone = sum(one is not None and planted.smallest(one) for one in drawn)
    with capsys.disabled():
        print(
            f"\n{planted.name}: found {found} of {SEEDS} (drawn in {SEEDS - drawn.count(None)}; corners: "
            f"{', '.join(failing) or 'none'}), shrunk to the boundary {shrunk} (by Hypothesis alone {alone}), "
            f"{np.mean([run.tried for run in runs]):.0f} runs a seed"
        )
    assert found >= FOUND
    assert shrunk >= SHRUNK


def test_a_joint_maximum_is_found_by_drawing_alone(model: ModelSpec, capsys: pytest.CaptureFixture[str]) -> None:
    """Within one binding, by the examples of ``trt-nightly``: no corner helps."""
    check = checking(model, "wrong_both_max=batch+seq")
    runs = [explore(examples_of(model), check, effort="nightly", seed=seed) for seed in range(SEEDS)]
    found = [run.failure for run in runs if run.failure is not None]
    with capsys.disabled():
        print(f"\njoint maximum: found {len(found)} of {SEEDS} in the examples of trt-nightly")
    assert len(found) >= FOUND
