"""Signatures as pybind11 writes them into docstrings, read into values.

Most look like Python, but not all of them are::

    execute(self: IExecutionContext, batch_size: int = 1, bindings: List[int]) -> bool
    Logger.__init__(self: Logger, min_severity: ILogger.Severity = <Severity.WARNING: 2>) -> None
    create_plugin(..., weights: std::vector<nvinfer1::Weights, std::allocator<nvinfer1::Weights> >) -> IPluginV2
    static parse(text: str) -> TimingCacheKey
    py:__exit__(this, exc_type, exc_value, traceback)

so `inspect` and `ast` can't read them. What this grammar does not cover is a `SignatureError`,
never a guess.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_TOKEN = re.compile(
    r"\s*(?:(?P<enum><(?P<member>\w+(?:\.\w+)+): (?P<value>-?\d+)>)"
    r"|(?P<name>[A-Za-z_]\w*(?:(?:::|\.)\w+)*)"
    r"|(?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
    r"|(?P<text>'[^']*')"
    r"|(?P<mark>->|[()\[\]<>,:=]))"
)
_UNNAMED = re.compile(r"arg\d+")


class SignatureError(ValueError):
    """A signature that this grammar does not cover: write it by hand in supplement.json."""


@dataclass(frozen=True)
class Type:
    """``List[nvinfer1::Dims]`` is ``Type("List", (Type("nvinfer1::Dims"),))``."""

    name: str
    arguments: tuple[Type, ...] = ()

    def __str__(self) -> str:
        return self.name + (f"[{', '.join(map(str, self.arguments))}]" if self.arguments else "")


@dataclass(frozen=True)
class Member:
    """A default that is an enum member, as its repr shows it: ``<Severity.WARNING: 2>``."""

    path: str
    value: int


Default = int | float | str | bool | Member | None


@dataclass(frozen=True)
class Parameter:
    """One parameter. ``type`` is None where none is written; only then may anything be passed."""

    name: str
    type: Type | None
    default: Default = None
    optional: bool = False

    @property
    def positional_only(self) -> bool:
        """pybind11 calls a parameter without a name ``arg0``; no keyword reaches it."""
        return _UNNAMED.fullmatch(self.name) is not None


@dataclass(frozen=True)
class Signature:
    """One overload; ``parameters`` leave out ``self``. ``text`` is what was read."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: Type | None
    static: bool
    text: str


@functools.cache
def parse(text: str) -> Signature:
    """The signature that ``text`` spells; SignatureError with the place where reading stopped."""
    return _Reader(text).signature()


@functools.cache
def parse_type(text: str) -> Type:
    """The type that ``text`` spells, as a property has it."""
    reader = _Reader(text)
    found = reader.type()
    reader.end()
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._python = text.startswith("py:")
        self._tokens: list[re.Match[str]] = []
        place = len("py:") if self._python else 0
        text = text.rstrip()
        while place < len(text):
            token = _TOKEN.match(text, place)
            if token is None:
                raise SignatureError(f"{text!r}: can't read {text[place : place + 20]!r} at {place}")
            self._tokens.append(token)
            place = token.end()
        self._next = 0

    def signature(self) -> Signature:
        name = self._take("name")
        static = name == "static" and self._peek("name") is not None
        if static:
            name = self._take("name")
        self._mark("(")
        parameters = self._list(self._parameter, ")")
        names = [parameter.name for parameter in parameters]
        if len(set(names)) != len(names):
            raise SignatureError(f"{self._text!r}: a parameter is named twice")
        returns = None
        if not self._python or self._peek("mark") == "->":
            self._mark("->")
            returns = self.type()
        self.end()
        if parameters and parameters[0].name in ("self", "this") and not static:
            parameters = parameters[1:]
        return Signature(name, tuple(parameters), returns, static, self._text)

    def _parameter(self) -> Parameter:
        name = self._take("name")
        if not name.isidentifier():
            raise SignatureError(f"{self._text!r}: {name!r} is not the name of a parameter")
        kind = None
        if self._peek("mark") == ":":
            self._mark(":")
            kind = self.type()
        elif not self._python:
            raise SignatureError(f"{self._text!r}: parameter {name!r} has no type")
        if self._peek("mark") != "=":
            return Parameter(name, kind)
        self._mark("=")
        return Parameter(name, kind, self._default(), True)

    def _default(self) -> Default:
        token = self._token("a default")
        if token["enum"]:
            return Member(token["member"], int(token["value"]))
        if token["number"]:
            number = token["number"]
            return int(number) if number.lstrip("-").isdigit() else float(number)
        if token["text"]:
            return token["text"][1:-1]
        constants: dict[str, Default] = {"None": None, "True": True, "False": False}
        if token["name"] in constants:
            return constants[token["name"]]
        raise SignatureError(f"{self._text!r}: {token[0].strip()!r} is not a default that can be read")

    def type(self) -> Type:
        name = self._take("name")
        for opening, closing in ("[]", "<>"):
            if self._peek("mark") == opening:
                self._mark(opening)
                return Type(name, tuple(self._list(self.type, closing)))
        return Type(name)

    def end(self) -> None:
        if self._next < len(self._tokens):
            raise SignatureError(f"{self._text!r}: {self._tokens[self._next][0]!r} is left over")

    def _list(self, item: Callable[[], T], closing: str) -> list[T]:
        found = []
        if self._peek("mark") != closing:
            found.append(item())
            while self._peek("mark") == ",":
                self._mark(",")
                found.append(item())
        self._mark(closing)
        return found

    def _peek(self, group: str) -> str | None:
        return self._tokens[self._next][group] if self._next < len(self._tokens) else None

    def _token(self, wanted: str) -> re.Match[str]:
        if self._next == len(self._tokens):
            raise SignatureError(f"{self._text!r} ends where {wanted} should follow")
        self._next += 1
        return self._tokens[self._next - 1]

    def _take(self, group: str) -> str:
        token = self._token(f"a {group}")
        if token[group] is None:
            raise SignatureError(f"{self._text!r}: got {token[0].strip()!r} where a {group} should stand")
        return token[group]

    def _mark(self, mark: str) -> None:
        token = self._token(repr(mark))
        if token["mark"] != mark:
            raise SignatureError(f"{self._text!r}: got {token[0].strip()!r} where {mark!r} should stand")
