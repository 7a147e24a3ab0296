"""Enums as pybind11 makes them: no iteration, no arithmetic, no equality with integers."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

from tests.doubles.double import Double, ReadOnly, Refused


class EnumMeta(type):
    """Enums as pybind11 makes them: no iteration, no arithmetic, no equality with integers."""

    double: Double
    __members__: Mapping[str, Any]

    def __getattr__(cls, name: str) -> Any:
        raise vars(cls)["double of"].lack(cls.__name__, name)

    def __setattr__(cls, name: str, value: Any) -> None:
        raise vars(cls)["double of"].refuse(ReadOnly, f"{cls.__name__}.{name}", "can't be set")

    def __call__(cls, value: int) -> Any:
        for member in cls.__members__.values():
            if int(member) == value and not isinstance(value, (str, bool)):
                return member
        raise vars(cls)["double of"].refuse(Refused, cls.__name__, f"has no member {value!r}")


def new_enum(double: Double, name: str, members: Mapping[str, int]) -> Any:
    def attribute(_member: Any, wanted: str) -> Any:
        raise double.lack(name, wanted)

    def readonly(_member: Any, wanted: str, _value: Any) -> None:
        raise double.refuse(ReadOnly, f"{name}.{wanted}", "can't be set")

    space: dict[str, Any] = {
        "__module__": double.name,
        "double of": double,
        "__int__": lambda self: vars(self)["value"],
        "__index__": lambda self: vars(self)["value"],
        "__hash__": lambda self: vars(self)["value"],
        "__eq__": lambda self, other: type(self) is type(other) and int(self) == int(other),
        "__repr__": lambda self: f"<{name}.{vars(self)['name']}: {int(self)}>",
        "__str__": lambda self: f"{name}.{vars(self)['name']}",
        "__getattr__": attribute,
        "__setattr__": readonly,
    }
    cls: Any = EnumMeta(name, (), space)
    first: dict[int, str] = {}
    made: dict[str, Any] = {}
    for member, value in members.items():
        made[member] = object.__new__(cls)
        # Two names of one number are two members, both called by the first.
        made[member].__dict__.update(name=first.setdefault(value, member), value=value)
        type.__setattr__(cls, member, made[member])
    type.__setattr__(cls, "__members__", types.MappingProxyType(made))
    return cls
