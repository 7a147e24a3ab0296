"""Classes, methods, properties and functions that take what their signatures say, and nothing else."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.doubles.casts import Cast, Mismatch
from tests.doubles.double import STATE, Double, Missing, NotPlayed, NullPointer, ReadOnly, Refused, state
from tests.doubles.signature import Signature


@dataclass(frozen=True)
class Types:
    """Of one signature a cast for each parameter, and for what it returns."""

    casts: tuple[Cast, ...]
    defaults: tuple[Any, ...]
    nullable: tuple[bool, ...]
    returns: Cast
    returns_null: bool


@dataclass(frozen=True)
class Overload:
    """One signature, with its types, which are made when first asked for: hundreds of others are never called."""

    signature: Signature
    types: Callable[[], Types]

    def bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """One value a parameter, in order; Mismatch says what does not fit."""
        parameters = self.signature.parameters
        if len(args) > len(parameters):
            raise Mismatch(f"got {len(args)} arguments, takes {len(parameters)}")
        given = {parameter.name: value for parameter, value in zip(parameters, args, strict=False)}
        keywords = {parameter.name for parameter in parameters if not parameter.positional_only}
        for name, value in kwargs.items():
            if name not in keywords:
                raise Mismatch(f"has no keyword {name!r}")
            if name in given:
                raise Mismatch(f"got {name!r} twice")
            given[name] = value
        values, types = [], self.types()
        for parameter, cast, default, nullable in zip(
            parameters, types.casts, types.defaults, types.nullable, strict=True
        ):
            if parameter.name not in given:
                if not parameter.optional:
                    raise Mismatch(f"misses {parameter.name!r}")
                values.append(default)
            elif given[parameter.name] is None and nullable:
                values.append(None)
            else:
                try:
                    values.append(cast(given[parameter.name]))
                except Mismatch as mismatch:
                    raise Mismatch(f"{parameter.name!r}: {mismatch}") from None
        return values


def module_of(name: str) -> types.ModuleType:
    class Module(types.ModuleType):
        double: Double

        def __getattr__(self, name: str) -> Any:
            raise self.double.lack("", name)

        def __setattr__(self, name: str, value: Any) -> None:
            # The import system's own names are its own business.
            if not (name.startswith("__") and name.endswith("__")):
                raise self.double.refuse(ReadOnly, name, "can't be set: modules are not ours to change")
            super().__setattr__(name, value)

    return Module(name)


def root_of(double: Double) -> type:
    """What every class of the module is derived from; its metaclass refuses unknown names on classes."""

    def generated(cls: type) -> bool:
        return double.classes.get(cls.__name__) is cls

    class Meta(type):
        def __getattr__(cls, name: str) -> Any:
            raise double.lack(cls.__name__, name)

        def __setattr__(cls, name: str, value: Any) -> None:
            if generated(cls):
                raise double.refuse(ReadOnly, f"{cls.__name__}.{name}", "can't be set: the class is not ours to change")
            super().__setattr__(name, value)

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            thing = super().__call__(*args, **kwargs)
            if STATE not in vars(thing):
                base = next(base.__name__ for base in cls.__mro__ if generated(base))
                raise double.refuse(Refused, f"{base}.__init__()", "must be called when overriding __init__")
            return thing

    class Root(metaclass=Meta):
        def __new__(cls, *_args: Any, **_kwargs: Any) -> Any:
            return super().__new__(cls)

        def __getattr__(self, name: str) -> Any:
            raise double.lack(type(self).__name__, name)

        def __setattr__(self, name: str, value: Any) -> None:
            cls = type(self)
            listed = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
            if isinstance(listed, Property):
                listed.__set__(self, value)
            elif generated(cls):
                double.lack(cls.__name__, name)
                raise double.refuse(Missing, f"{cls.__name__}.{name}", "does not exist, and can't be set")
            else:
                super().__setattr__(name, value)

        def __delattr__(self, name: str) -> None:
            if generated(type(self)):
                raise double.refuse(ReadOnly, f"{type(self).__name__}.{name}", "can't be deleted")
            super().__delattr__(name)

        def __repr__(self) -> str:
            return f"<{double.title} {type(self).__name__}>"

    return Root


_CONTAINER = "len getitem setitem delitem iter contains add mul rmul iadd imul mod rmod eq ne lt le gt ge"
_HIDDEN = tuple(f"__{name}__" for name in _CONTAINER.split())


def new_class(meta: Any, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> type:
    """A class; one over bytearray keeps its buffer, which Python code can't have otherwise, and nothing else."""
    if bytearray in bases:

        def hidden(self: Any, name: str) -> Any:
            if hasattr(bytearray, name) and not name.startswith("__"):
                return self.__getattr__(name)
            return object.__getattribute__(self, name)

        space |= {special: getattr(object, special, None) for special in _HIDDEN} | {"__getattribute__": hidden}
    cls: type = meta(name, bases, space)
    return cls


class Property:
    """A listed property: read from the play, and written to it where the version has a setter."""

    def __init__(
        self, double: Double, owner: str, name: str, types: Callable[[], tuple[Cast, bool]], writable: bool
    ) -> None:
        """``types`` gives the cast of a value, and whether it may be None."""
        self.double, self.owner, self.name = double, owner, name
        self.types, self.writable = types, writable

    def cast(self, value: Any) -> Any:
        cast, nullable = self.types()
        return value if value is None and nullable else cast(value)

    def __get__(self, thing: Any, owner: type) -> Any:
        if thing is None:
            return self
        play = _alive(self.double, thing, f"{self.owner}.{self.name}")
        try:
            value = getattr(play, self.name)
        except AttributeError:
            raise self.double.refuse(NotPlayed, f"{self.owner}.{self.name}", "is listed, and has no play") from None
        try:
            return self.cast(value)
        except Mismatch as mismatch:
            where = f"{self.owner}.{self.name}"
            raise self.double.refuse(NotPlayed, where, f"is played wrongly: {mismatch}") from None

    def __set__(self, thing: Any, value: Any) -> None:
        where = f"{self.owner}.{self.name}"
        play = _alive(self.double, thing, where)
        if not self.writable:
            raise self.double.refuse(ReadOnly, where, "can't be set: it has no setter")
        try:
            value = self.cast(value)
        except Mismatch as mismatch:
            raise self.double.refuse(Refused, where, str(mismatch)) from None
        if not hasattr(play, self.name):
            raise self.double.refuse(NotPlayed, where, "is listed, and has no play")
        setattr(play, self.name, value)


def _alive(double: Double, thing: Any, where: str) -> Any:
    play = vars(thing).get(STATE)
    if play is None:
        raise double.refuse(Refused, where, "is used before __init__() or after __del__()")
    return play


def _bound(
    double: Double, where: str, overloads: Sequence[Overload], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Overload, list[Any]]:
    """The first overload that takes the arguments, as pybind11 chooses."""
    reasons = []
    for overload in overloads:
        try:
            return overload, overload.bind(args, kwargs)
        except Mismatch as mismatch:
            reasons.append(f"{overload.signature.text}: {mismatch}")
    raise double.refuse(Refused, where, "does not take these arguments: " + "; ".join(reasons))


def _returned(double: Double, where: str, overload: Overload, value: Any) -> Any:
    types = overload.types()
    if value is None and (types.returns_null or overload.signature.returns is None):
        return None
    try:
        return types.returns(value)
    except Mismatch as mismatch:
        raise double.refuse(NotPlayed, where, f"is played wrongly: {mismatch} as result") from None


def make_method(double: Double, owner: str, name: str, overloads: tuple[Overload, ...]) -> Any:
    where = f"{owner}.{name}"
    if name == "__init__":

        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            _, values = _bound(double, where, overloads, args, kwargs)
            make = double.world.play_of(owner)
            if make is None:
                raise double.refuse(NotPlayed, where, "is listed, and has no play")
            try:
                play = make(double.world, *values)
            except NullPointer:
                raise TypeError("pybind11::init(): factory function returned nullptr") from None
            double.adopt(self, play)

        return init
    if name == "__del__":
        return lambda self: self.__dict__.pop(STATE, None)
    if name == "__enter__":
        return lambda self: double.world.enter(self)
    if name == "__exit__":
        return lambda _self, _type, _value, _trace: None

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        overload, values = _bound(double, where, overloads, args, kwargs)
        play = getattr(_alive(double, self, where), name, None)
        if play is None:
            raise double.refuse(NotPlayed, where, "is listed, and has no play")
        return _returned(double, where, overload, play(*values))

    call.__name__ = name
    call.__qualname__ = where
    call.__doc__ = "\n".join(overload.signature.text for overload in overloads)
    if overloads[0].signature.static:
        return staticmethod(lambda *args, **kwargs: call(None, *args, **kwargs))
    return call


def no_constructor(double: Double, name: str) -> Any:
    def init(_self: Any, *_args: Any, **_kwargs: Any) -> None:
        raise double.refuse(Refused, name, "has no constructor")

    return init


def make_special(play: Any) -> Any:
    return lambda self, *args: play(state(self), *args)


def make_function(double: Double, name: str, overloads: tuple[Overload, ...], play: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        overload, values = _bound(double, name, overloads, args, kwargs)
        if play is None:
            raise double.refuse(NotPlayed, name, "is listed, and has no play")
        return _returned(double, name, overload, play(double.world, *values))

    call.__name__ = name
    return call
