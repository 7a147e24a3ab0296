"""Each thing that an engine may say otherwise than it was asked for is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.runtime.backend.protocol import BuildRequest, EngineInfo, IOTensor, ShapeRange
from harness.spec import RECIPES, BuildConfig, Interface, TensorSpec
from suites.serialization.facts import ALWAYS, contradictions

SIZES = ShapeRange((1, 3), (2, 3), (4, 3))
REQUEST = BuildRequest(
    "model",
    RECIPES["fp32"],
    BuildConfig(),
    ({"x": SIZES, "shape": ShapeRange((2,), (2,), (2,))},),
    ({"shape": ShapeRange((1, 1), (2, 2), (4, 4))},),
    model="model.onnx",
)
INTERFACE = Interface(
    (TensorSpec("x", "float32", ("n", 3)), TensorSpec("shape", "int64", (2,))),
    (TensorSpec("y", "float32", ("n", 3)),),
)
X, SHAPE, Y = (
    IOTensor("x", "input", "float32", (-1, 3), False, "LINEAR"),
    IOTensor("shape", "input", "int64", (2,), True, "LINEAR"),
    IOTensor("y", "output", "float32", (-1, 3), False, "LINEAR"),
)
FACTS: dict[str, Any] = {
    "layers": 3,
    "refittable": False,
    "device_memory": 0,
    "aux_streams": 0,
    "hardware_compatibility": "NONE",
    "profiling_verbosity": "LAYER_NAMES_ONLY",
    "streamable_weights": 0,
}
INFO = EngineInfo((X, SHAPE, Y), 1, FACTS)


def told(info: EngineInfo, request: BuildRequest = REQUEST, narrower: dict[str, str] | None = None) -> list[str]:
    return contradictions(info, request, INTERFACE, narrower or {}, tells=True)


def with_facts(**facts: Any) -> EngineInfo:
    return replace(INFO, facts={**FACTS, **facts})


def asked(**config: Any) -> BuildRequest:
    return replace(REQUEST, config=BuildConfig(**config))


def test_what_was_asked_for_contradicts_nothing() -> None:
    assert told(INFO) == []
    assert contradictions(replace(INFO, facts={}), REQUEST, INTERFACE, {}, tells=False) == []
    assert told(with_facts(refittable=True), asked(flags=("REFIT",))) == []
    assert told(with_facts(refittable=True), asked(flags=("STRIP_PLAN",))) == told(INFO, asked(flags=("STRIP_PLAN",)))
    assert told(with_facts(hardware_compatibility="AMPERE_PLUS"), asked(hardware_compatibility="AMPERE_PLUS")) == []
    assert told(with_facts(aux_streams=1), asked(aux_streams=2)) == []
    assert told(with_facts(streamable_weights=9), asked(flags=("WEIGHT_STREAMING",))) == []
    assert told(replace(INFO, tensors=(X, replace(SHAPE, dtype="int32"), Y)), narrower={"int64": "int32"}) == []
    assert told(replace(INFO, tensors=(replace(X, format=""), SHAPE, replace(Y, shape=(-1, -1))))) == []


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ((X, SHAPE), "output 'y' is missing"),
        ((X, SHAPE, Y, replace(Y, name="z")), "output 'z' is none of the model's"),
        ((replace(X, mode="output"), SHAPE, Y), "input 'x' is missing"),
        ((X, replace(SHAPE, dtype="int32"), Y), "'input' 'shape' is int32, the model's is int64"),
        ((replace(X, shape=(4, 3)), SHAPE, Y), "'input' 'x' is [4, 3], the model's is ['n', 3]"),
        ((X, SHAPE, replace(Y, shape=(-1, 4))), "'output' 'y' is [-1, 4], the model's is ['n', 3]"),
        ((X, SHAPE, replace(Y, shape=(-1,))), "'output' 'y' is [-1], the model's is ['n', 3]"),
        ((replace(X, format="CHW4"), SHAPE, Y), "'input' 'x' lies in memory as CHW4, and LINEAR was asked for"),
        ((replace(X, shape_tensor=True), SHAPE, Y), "'input' 'x' lies on the host, and should not"),
        ((X, replace(SHAPE, shape_tensor=False), Y), "'input' 'shape' lies on the device, and should not"),
    ],
)
def test_tensors(tensors: tuple[IOTensor, ...], words: str) -> None:
    assert words in told(replace(INFO, tensors=tensors))


@pytest.mark.parametrize(
    ("facts", "config", "words"),
    [
        ({"refittable": True}, {}, "refittable is True, asked for False"),
        ({}, {"flags": ("REFIT",)}, "refittable is False, asked for True"),
        ({}, {"refittable": ("w",)}, "refittable is False, asked for True"),
        ({"hardware_compatibility": "AMPERE_PLUS"}, {}, "hardware_compatibility is AMPERE_PLUS, asked for NONE"),
        ({}, {"hardware_compatibility": "AMPERE_PLUS"}, "hardware_compatibility is NONE, asked for AMPERE_PLUS"),
        ({}, {"profiling_verbosity": "DETAILED"}, "profiling_verbosity is LAYER_NAMES_ONLY, asked for DETAILED"),
        ({"aux_streams": 3}, {"aux_streams": 2}, "aux_streams is 3, asked for 2 at most"),
        ({"aux_streams": -1}, {}, "aux_streams is -1, no number from 0 on"),
        ({"layers": 0}, {}, "layers is 0, no number from 1 on"),
        ({"device_memory": -1}, {}, "device_memory is -1, no number from 0 on"),
        ({"streamable_weights": 9}, {}, "streamable_weights is 9, and WEIGHT_STREAMING was not asked for"),
    ],
)
def test_options(facts: dict[str, Any], config: dict[str, Any], words: str) -> None:
    assert told(with_facts(**facts), asked(**config)) == [words]


def test_profiles() -> None:
    assert told(replace(INFO, profiles=2)) == ["2 profiles, asked for 1"]


@pytest.mark.parametrize("fact", ALWAYS)
def test_what_a_tensorrt_always_tells(fact: str) -> None:
    facts = {name: value for name, value in FACTS.items() if name != fact}
    assert told(replace(INFO, facts=facts)) == [f"{fact} is not told"]
