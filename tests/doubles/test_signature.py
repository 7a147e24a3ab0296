"""The reader of pybind11's signatures."""

from __future__ import annotations

import json

import pytest

from tests.doubles.module import DATA
from tests.doubles.signature import Member, Parameter, SignatureError, Type, parse, parse_type


def test_reads_names_types_defaults_and_result() -> None:
    read = parse("create_network(self: Builder, flags: typing.SupportsInt = 0) -> INetworkDefinition")
    assert read.name == "create_network"
    assert read.parameters == (Parameter("flags", Type("typing.SupportsInt"), 0, True),)
    assert read.returns == Type("INetworkDefinition")
    assert not read.static


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("0", 0),
        ("-1", -1),
        ("1.5", 1.5),
        ("1e-05", 1e-05),
        ("''", ""),
        ("'a, b) -> c'", "a, b) -> c"),
        ("None", None),
        ("True", True),
        ("False", False),
        ("<Severity.WARNING: 2>", Member("Severity.WARNING", 2)),
        ("<ILogger.Severity.WARNING: 2>", Member("ILogger.Severity.WARNING", 2)),
    ],
)
def test_reads_default(text: str, default: object) -> None:
    read = parse(f"f(self: A, x: B = {text}, y: C) -> None")
    assert read.parameters[0].optional
    assert read.parameters[0].default == default
    assert type(read.parameters[0].default) is type(default)
    assert not read.parameters[1].optional, "pybind11 has parameters without a default after one with it"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("List[int]", Type("List", (Type("int"),))),
        ("nvinfer1::v_1_0::IErrorRecorder", Type("nvinfer1::v_1_0::IErrorRecorder")),
        (
            "Tuple[bool, List[Tuple[List[int], bool]]]",
            Type(
                "Tuple",
                (Type("bool"), Type("List", (Type("Tuple", (Type("List", (Type("int"),)), Type("bool"))),))),
            ),
        ),
        (
            "std::vector<nvinfer1::Weights, std::allocator<nvinfer1::Weights> >",
            Type(
                "std::vector",
                (Type("nvinfer1::Weights"), Type("std::allocator", (Type("nvinfer1::Weights"),))),
            ),
        ),
    ],
)
def test_reads_type(text: str, kind: Type) -> None:
    assert parse_type(text) == kind
    assert parse(f"f(self: A, x: {text}) -> {text}").parameters[0].type == kind


def test_reads_what_is_not_python() -> None:
    static = parse("static parse(text: str) -> TimingCacheKey")
    assert (static.name, static.static, len(static.parameters)) == ("parse", True, 1)
    plain = parse("py:__exit__(this, exc_type, exc_value, traceback)")
    assert [parameter.name for parameter in plain.parameters] == ["exc_type", "exc_value", "traceback"]
    assert plain.returns is None
    assert parse("f(arg0: capsule, x: buffer) -> None").parameters[0].positional_only


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("f(self: A", "ends where"),
        ("f(self: A) -> None extra", "left over"),
        ("f(self: A, x) -> None", "has no type"),
        ("f(self: A, x: int = {}) -> None", "can't read"),
        ("f(self: A, x: int = SOME) -> None", "not a default"),
        ("f(self: A, x: List[int) -> None", "should stand"),
        ("f(self: A, x: int, x: int) -> None", "named twice"),
        ("f(self: A, *args) -> None", "can't read"),
        ("f(self: A)", "ends where"),
        ("", "ends where"),
    ],
)
def test_refuses_what_it_does_not_cover(text: str, why: str) -> None:
    with pytest.raises(SignatureError, match=why):
        parse(text)


def test_reads_every_signature_of_every_version() -> None:
    count = 0
    for file in DATA.glob("*.json"):
        listing = json.loads(file.read_text())
        for methods in [listing["functions"], *(entry["methods"] for entry in listing["classes"].values())]:
            for name, texts in methods.items():
                assert [parse(text).name for text in texts] == [name] * len(texts)
                count += len(texts)
    assert count == 2115
