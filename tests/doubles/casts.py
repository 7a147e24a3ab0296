"""Which Python values a C++ parameter takes.

pybind11 converts a little (an index for an int, a tuple for Dims) and refuses the rest. These casts
do the same, and stay on the strict side where it would guess: no enum for an int (TensorRT then
reads the member's number as a bit mask), no bytes for a str.
"""

from __future__ import annotations

import collections.abc
import numbers
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.doubles.signature import Type

Cast = Callable[[Any], Any]

_NAMESPACE = re.compile(r"^(?:nvinfer1|nvonnxparser|v_\d+_\d+)$")
_INT = ("int", "typing.SupportsInt")
_FLOAT = ("float", "typing.SupportsFloat")
_TEXT = ("str", "FallbackString")
_BUFFER = ("buffer", "typing_extensions.Buffer", "memoryview")
_CAPSULE = ("capsule", "typing_extensions.CapsuleType")
_SEQUENCE = ("List", "list", "collections.abc.Sequence", "std::vector")
_TUPLE = ("Tuple", "tuple")
_ITERABLE = ("Iterable", "collections.abc.Iterable", "Iterator", "collections.abc.Iterator")


class Mismatch(Exception):
    """A value that a parameter does not take; the message says what came and what is taken."""


class UncoveredType(ValueError):
    """A type that is neither known here nor a class of the module."""


class Casts:
    """Casts for one module. ``classes`` by name, nested ones dotted; ``aliases`` for C++ names of theirs.

    ``implicit`` says what else a class is made from, as C++ declares: a type, by the class's name.
    """

    def __init__(
        self, classes: Mapping[str, type], aliases: Mapping[str, str], implicit: Mapping[str, Type], is_enum: Any
    ) -> None:
        self._classes, self._aliases, self._implicit, self._is_enum = classes, aliases, implicit, is_enum

    def of(self, kind: Type | None) -> Cast:
        """The cast for ``kind``; UncoveredType when there is none."""
        if kind is None or kind.name == "object":
            return lambda value: value
        if kind.name in _INT:
            return self._int
        if kind.name in _FLOAT:
            return lambda value: float(_expect(value, numbers.Real, "a float"))
        if kind.name == "bool":
            return _bool
        if kind.name in _TEXT:
            return lambda value: _expect(value, str, "a str")
        if kind.name in _BUFFER:
            return _buffer
        if kind.name == "bytes":
            return lambda value: _expect(value, bytes, "bytes")
        if kind.name == "None":
            return _nothing
        if kind.name == "slice":
            return lambda value: _expect(value, slice, "a slice")
        if kind.name in _CAPSULE:
            return _capsule
        if kind.name == "numpy.ndarray":
            return _ndarray
        if kind.name == "collections.abc.Callable":
            return lambda value: _expect(value, collections.abc.Callable, "a callable")
        if kind.name in _ITERABLE:
            return lambda value: _expect(value, collections.abc.Iterable, "an iterable")
        if kind.name in _SEQUENCE:
            # Before version 10 a bound tuple was written `List`, and a C++ vector has an allocator too.
            bare = {"list": list}.get(kind.name, collections.abc.Sequence)
            return self._sequence(kind.arguments[0]) if kind.arguments else lambda value: _expect(value, bare, "a list")
        if kind.name in _TUPLE:
            return self._tuple(kind.arguments) if kind.arguments else lambda value: _expect(value, tuple, "a tuple")
        return self._instance(kind)

    def may_be_null(self, kind: Type | None) -> bool:
        """Whether ``kind`` is a pointer in C++, so that a null one, None, may come back for it."""
        return kind is not None and (self._name(kind) in self._classes or kind.name in _CAPSULE)

    def _name(self, kind: Type) -> str:
        parts = [part for part in kind.name.split("::") if not _NAMESPACE.match(part)]
        name = ".".join(parts)
        return self._aliases.get(name, name)

    def _instance(self, kind: Type) -> Cast:
        name = self._name(kind)
        cls = self._classes.get(name)
        if cls is None or kind.arguments:
            raise UncoveredType(f"no class is called {kind}")
        source = self._implicit.get(name)
        inner = None if source is None else self.of(source)

        def cast(value: Any) -> Any:
            if isinstance(value, cls) or inner is None:
                return _expect(value, cls, f"a {name}")
            try:
                given = inner(value)
            except Mismatch as mismatch:
                raise Mismatch(f"{mismatch}, for a {name}") from None
            return cls(given)

        return cast

    def _int(self, value: Any) -> int:
        if isinstance(value, str) or self._is_enum(value):
            raise Mismatch(f"got {_shown(value)}, takes an int")
        try:
            return operator.index(value)
        except TypeError:
            raise Mismatch(f"got {_shown(value)}, takes an int") from None

    def _sequence(self, kind: Type) -> Cast:
        item = self.of(kind)

        def cast(value: Any) -> list[Any]:
            if isinstance(value, (str, bytes)) or not hasattr(type(value), "__getitem__"):
                raise Mismatch(f"got {_shown(value)}, takes a sequence of {kind}")
            return [item(element) for element in value]

        return cast

    def _tuple(self, kinds: tuple[Type, ...]) -> Cast:
        items = [self.of(kind) for kind in kinds]

        def cast(value: Any) -> tuple[Any, ...]:
            if not isinstance(value, (tuple, list)) or len(value) != len(items):
                raise Mismatch(f"got {_shown(value)}, takes a tuple of {len(items)}")
            return tuple(item(element) for item, element in zip(items, value, strict=True))

        return cast


def _expect(value: Any, kind: Any, words: str) -> Any:
    if isinstance(value, kind) and not (kind is numbers.Real and isinstance(value, bool)):
        return value
    raise Mismatch(f"got {_shown(value)}, takes {words}")


def _bool(value: Any) -> bool:
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise Mismatch(f"got {_shown(value)}, takes a bool")


def _nothing(value: Any) -> None:
    if value is not None:
        raise Mismatch(f"got {_shown(value)}, takes None")


def _buffer(value: Any) -> Any:
    try:
        memoryview(value)
    except TypeError:
        raise Mismatch(f"got {_shown(value)}, takes an object with the buffer protocol") from None
    return value


def _capsule(value: Any) -> Any:
    if type(value).__name__ != "PyCapsule":
        raise Mismatch(f"got {_shown(value)}, takes a capsule")
    return value


def _ndarray(value: Any) -> Any:
    import numpy as np

    return _expect(value, np.ndarray, "a numpy array")


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
