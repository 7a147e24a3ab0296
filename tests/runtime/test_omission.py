"""What a run may leave out, and how that is written."""

from __future__ import annotations

import re

import numpy as np
import pytest

from harness.errors import RunError, SpecError
from harness.runtime.backend.omission import Omission, tensor_named
from harness.runtime.backend.protocol import EngineInfo, IOTensor

INFO = EngineInfo(
    (
        IOTensor("x:0", "input", "float32", (-1, 4)),
        IOTensor("__z", "input", "float32", (3,)),
        IOTensor("z", "output", "float32", (3,)),
        IOTensor("__w", "input", "float32", (3, -1)),
        IOTensor("y", "output", "float32", (-1, 4)),
    ),
    1,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Omission()),
        ("shape:x:0", Omission("shape", "x:0")),
        ("size:x:0:1", Omission("size", "x:0", 1)),
        ("address:y", Omission("address", "y")),
        ("address:z", Omission("address", "z")),  # the output, which is called so
        ("address:__z", Omission("address", "__z")),
        ("address:w", Omission("address", "__w")),  # the input, which a parser calls otherwise
        ("shape:z", Omission("shape", "__z")),  # the input: of an output no shape is told
        ("size:z:0", Omission("size", "__z")),
        ("size:w:1", Omission("size", "__w", 1)),
    ],
)
def test_what_can_be_left_out(text: str, expected: Omission) -> None:
    assert Omission.parse(text, INFO) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x:0", "write shape:<input>, size:<input>:<axis> or address:<tensor>"),
        ("shape", "there is no tensor ''"),
        ("size:x", "write shape:<input>"),
        ("size:x:0:-1", "write shape:<input>"),
        ("size:x:0:2", "'x:0' has 2 dimensions"),
        ("size:z:1", "'z' has 1 dimensions"),
        ("shape:v", "there is no tensor 'v'"),
        ("shape:y", "'y' is an output: shapes are told for inputs alone"),
        ("address:v", "there is no tensor 'v': the engine has x:0, __z, z, __w, y"),
    ],
)
def test_what_can_not(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=re.escape(words)):
        Omission.parse(text, INFO)
    with pytest.raises(SpecError, match="not with a graph"):
        Omission.parse(text, INFO, graph=True)


def test_the_size_that_is_left_out_is_told_as_minus_one() -> None:
    omission = Omission("size", "x", 1)
    assert omission.told("x", (2, 3, 4)) == (2, -1, 4)
    assert omission.told("y", (2, 3, 4)) == (2, 3, 4)
    assert omission.told("x", (2,)) == (2,), "of a shape that has no such size"
    assert Omission("shape", "x").told("x", (2, 3)) == (2, 3)


def test_a_refusal_names_what_is_missing() -> None:
    given = {"x": np.zeros((2, 3))}
    Omission().refuse(given, needs_shape=True)
    Omission("shape", "x").refuse(given, needs_shape=False)
    for omission, words in (
        (Omission("shape", "x"), "shape of input x is not specified"),
        (Omission("size", "x", 0), r"'x' of shape \[-1, 3\]: a size is negative"),
        (Omission("address", "x"), "Address is not set for tensor x"),
    ):
        with pytest.raises(RunError, match=words):
            omission.refuse(given, needs_shape=True)


def test_a_tensor_goes_by_its_users_name() -> None:
    assert [tensor_named(name, INFO) for name in ("y", "z", "w", "__w")] == ["y", "z", "__w", "__w"]
