"""A vendor's module made from what introspection listed of it, and nothing that was not listed.

`make` turns ``trt_api_<version>.json`` into a module whose classes, overloads, keywords, properties
and enum members are exactly that version's. What each object does comes from the plays (`plays`);
a play is attached to a class of the same name, and reached only through members that the version
lists. So code that runs against the module has used no name that the version lacks.

Refused, each with version, class and member in its message:

=============  ==================================================================
`Missing`      a name that this version does not have (an `AttributeError`, so that `hasattr` works)
`ReadOnly`     a property written that can only be read, or anything deleted
`Refused`      arguments that no overload takes (a `TypeError`, as pybind11 raises)
`NotPlayed`    a member that is listed and has no play: the double is incomplete
=============  ==================================================================

All but the first are remembered in `Double.refusals`, as a caller may take a TypeError for an
answer; missing names are remembered with their asker in `Double.missing`.
"""

from __future__ import annotations

import json
import sys
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.doubles.casts import Cast, Casts, Mismatch, UncoveredType
from tests.doubles.signature import Default, Member, Parameter, Signature, SignatureError, parse, parse_type

DATA = Path(__file__).parents[1] / "data" / "trt_api"
SUPPLEMENT = Path(__file__).with_name("supplement.json")
STATE = "state of the double"  # no identifier, so that no attribute lookup finds it
_OURS = tuple(str(Path(__file__).with_name(name)) for name in ("module.py", "casts.py", "plays"))


class GenerationError(ValueError):
    """The listing holds something that can't be read, or that nothing covers."""


class Missing(AttributeError):
    """This version has no such name."""


class ReadOnly(AttributeError):
    """This version has no setter for it."""


class Refused(TypeError):
    """No overload of this version takes these arguments."""


class NotPlayed(NotImplementedError):
    """This version lists it, and the double does not play it."""


class NullPointer(Exception):
    """Raised by a play that can't be made, as a C++ factory that returns nullptr."""


@dataclass(frozen=True)
class Lookup:
    """A name that was asked for and does not exist, and who asked."""

    member: str
    file: str
    line: int


@dataclass(frozen=True)
class Overload:
    """One signature with a cast for each parameter, and for what it returns."""

    signature: Signature
    casts: tuple[Cast, ...]
    defaults: tuple[Any, ...]
    nullable: tuple[bool, ...]
    returns: Cast
    returns_null: bool

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
        values = []
        for parameter, cast, default, nullable in zip(
            parameters, self.casts, self.defaults, self.nullable, strict=True
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


@dataclass
class Double:
    """One generated module and what happened to it."""

    version: str
    name: str
    gpu: bool
    module: types.ModuleType
    refusals: list[str] = field(default_factory=list)
    missing: list[Lookup] = field(default_factory=list)
    classes: dict[str, type] = field(default_factory=dict)  # nested ones dotted
    enums: dict[str, type] = field(default_factory=dict)
    virtuals: dict[str, dict[str, Overload]] = field(default_factory=dict)
    world: Any = None  # what the plays of one process share
    _things: weakref.WeakValueDictionary[int, Any] = field(default_factory=weakref.WeakValueDictionary)

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"

    def refuse(self, error: Callable[[str], BaseException], where: str, why: str) -> BaseException:
        """The error for ``where`` (class and member), remembered."""
        message = f"{self.title}: {where} {why}"
        self.refusals.append(message)
        return error(message)

    def lack(self, owner: str, name: str) -> Missing:
        """The error for a name that is not there, remembered with the first asker outside this folder."""
        where = f"{owner}.{name}" if owner else name
        if not (name.startswith("__") and name.endswith("__")):
            frame = sys._getframe(1)
            while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
                frame = frame.f_back
            self.missing.append(Lookup(where, frame.f_code.co_filename, frame.f_lineno))
        return Missing(f"{self.title}: has no {where}", name=name)

    def new(self, name: str, play: Any) -> Any:
        """An object of the class ``name`` that ``play`` plays, or None for None."""
        if play is None:
            return None
        thing = self.classes[name].__new__(self.classes[name])
        return self.adopt(thing, play)

    def adopt(self, thing: Any, play: Any) -> Any:
        vars(thing)[STATE] = play
        self._things[id(thing)] = thing
        play.api = weakref.ref(thing)
        return thing

    def live(self, name: str) -> int:
        """How many objects of the class ``name`` have not been freed."""
        return sum(isinstance(thing, self.classes[name]) for thing in list(self._things.values()))

    def call(self, thing: Any, name: str, *args: Any) -> Any:
        """Call a virtual method of ``thing`` as C++ does: by position, on whatever overrides it.

        As in C++, an exception does not get through: it is printed, and None is the answer.
        """
        method = getattr(type(thing), name, None)
        owner = next((name for name in self.virtuals if isinstance(thing, self.classes[name])), "")
        if method is None or name not in self.virtuals.get(owner, {}):
            raise self.refuse(NotPlayed, f"{type(thing).__name__}.{name}", "is no virtual that the double calls")
        try:
            return method(thing, *args)
        except Exception as error:  # noqa: BLE001: what the bindings do
            self.refusals.append(f"{self.title}: {type(thing).__name__}.{name} raised {type(error).__name__}: {error}")
            print(f"[ERROR] Exception caught in {name}(): {error}", file=sys.stderr)
            return None

    def overrides(self, thing: Any, name: str) -> bool:
        """Whether ``thing``'s own class defines the virtual ``name``."""
        return any(name in vars(base) for base in type(thing).__mro__ if base not in self.classes.values())


def state(thing: Any) -> Any:
    """The play behind an object of a double."""
    return vars(thing)[STATE]


def versions() -> tuple[str, ...]:
    """The versions whose listing is here, as in the names of the files."""
    return tuple(sorted(path.stem.removeprefix("trt_api_") for path in DATA.glob("trt_api_*.json")))


def make(version: str, plays: Any, *, gpu: bool = True) -> Double:
    """The double of ``version``, whose objects ``plays`` plays; without a GPU if ``gpu`` is False."""
    listing = json.loads((DATA / f"trt_api_{version}.json").read_text())
    return generate(listing, json.loads(SUPPLEMENT.read_text()), plays, gpu=gpu)


def generate(listing: Mapping[str, Any], supplement: Mapping[str, Any], plays: Any, *, gpu: bool = True) -> Double:
    """The double of what ``listing`` lists, corrected by ``supplement``.

    ``plays`` has ``play_of(name)``, a class or None, ``functions``, by name, and ``World``.
    GenerationError names what can't be read or is covered by nothing.
    """
    return _Generator(listing, supplement, plays, gpu).make()


class _Generator:
    def __init__(self, listing: Mapping[str, Any], supplement: Mapping[str, Any], plays: Any, gpu: bool) -> None:
        self.listing, self.supplement, self.plays = listing, supplement, plays
        name = listing["module"].removesuffix("_bindings")
        self.double = Double(listing["version"], name, gpu, _module(name))
        self.double.world = plays.World(self.double)
        self.casts: Any = None

    def make(self) -> Double:
        double = self.double
        for name, entry in self.listing["enums"].items():
            double.enums[name] = self._enum(name, entry)
        root = _root(double)
        for name in self._by_inheritance():
            double.classes[name] = self._class(name, root)
        for name, entry in self.listing["classes"].items():
            for inner, members in entry.get("nested", {}).items():
                double.enums[f"{name}.{inner}"] = self._nested(name, inner, members)
        self.casts = Casts(
            {**double.classes, **double.enums},
            self.supplement["aliases"],
            {name: parse_type(text) for name, text in self.supplement["implicit"].items() if name in double.classes},
            lambda value: isinstance(type(value), _EnumMeta),
        )
        for name, entry in self.listing["classes"].items():
            self._fill(name, entry)
        for name, methods in self.supplement["virtuals"].items():
            if name in double.classes:
                double.virtuals[name] = {}
                for text in methods:
                    overload = self._overload(name, text)
                    double.virtuals[name][overload.signature.name] = overload
        self._module_members()
        return double

    def _by_inheritance(self) -> list[str]:
        """Class names, bases before what is derived from them."""
        ordered: list[str] = []

        def visit(name: str, trail: tuple[str, ...]) -> None:
            if name in trail or name not in self.listing["classes"]:
                raise GenerationError(f"{self.double.title}: {trail[-1]} is derived from {name}, which is not listed")
            for base in self.listing["classes"][name]["bases"]:
                visit(base, (*trail, name))
            if name not in ordered:
                ordered.append(name)

        for name in self.listing["classes"]:
            visit(name, ())
        return ordered

    def _class(self, name: str, root: type) -> type:
        bases = tuple(self.double.classes[base] for base in self.listing["classes"][name]["bases"]) or (root,)
        if name in self.supplement["buffers"]:
            bases = (*bases, bytearray)
        return _new_class(type(root), name, bases, {"__module__": self.double.name, "__hash__": object.__hash__})

    def _nested(self, owner: str, name: str, entry: Mapping[str, Any]) -> type:
        # A class that shows its base's nested enum shows the very same one.
        for base in self.double.classes[owner].__mro__[1:]:
            if f"{base.__name__}.{name}" in self.double.enums:
                return self.double.enums[f"{base.__name__}.{name}"]
        return self._enum(name, entry)

    def _enum(self, name: str, entry: Mapping[str, Any]) -> type:
        if entry["arith"]:
            raise GenerationError(f"{self.double.title}: {name} is an arithmetic enum, which nothing here covers")
        return _enum(self.double, name, entry["members"])

    def _fill(self, name: str, entry: Mapping[str, Any]) -> None:
        cls = self.double.classes[name]
        known = {"bases", "methods", "properties", "constructible", "nested", "attributes"}
        if entry.keys() - known:
            raise GenerationError(f"{self.double.title}: {name} has {sorted(entry.keys() - known)}, which is not known")
        for method, texts in entry["methods"].items():
            overloads = tuple(self._overload(name, self._corrected(text)) for text in texts)
            type.__setattr__(cls, method, _method(self.double, name, method, overloads))
        if "__init__" not in entry["methods"]:
            type.__setattr__(cls, "__init__", _no_constructor(self.double, name))
        for member, listed in entry["properties"].items():
            type.__setattr__(cls, member, self._property(name, member, listed))
        for inner in entry.get("nested", {}):
            type.__setattr__(cls, inner, self.double.enums[f"{name}.{inner}"])
        for attribute, value in entry.get("attributes", {}).items():
            type.__setattr__(cls, attribute, self._member(f"{name}.{value}"))
        play = self.plays.play_of(name)
        for special in self.supplement["special"].get(name, ()):  # introspection left these out
            type.__setattr__(cls, special, _special(getattr(play, special)))

    def _property(self, owner: str, name: str, listed: Mapping[str, Any]) -> Any:
        statics = self.supplement["statics"].get(owner, {})
        if name in statics:
            return statics[name]
        text = self.supplement["property_types"].get(f"{owner}.{name}", listed["type"])
        kind = None if text is None else self._type(owner, text)
        cast = self._cast(f"{owner}.{name}", kind)
        return _Property(self.double, owner, name, cast, self.casts.is_class(kind) or kind is None, listed["rw"])

    def _corrected(self, text: str) -> str:
        corrected: str = self.supplement["signatures"].get(text, text)
        return corrected

    def _type(self, owner: str, text: str) -> Any:
        try:
            return parse_type(text)
        except SignatureError as error:
            raise GenerationError(f"{self.double.title}: {owner}: {error}") from error

    def _cast(self, where: str, kind: Any) -> Cast:
        try:
            return self.casts.of(kind)
        except UncoveredType as error:
            raise GenerationError(f"{self.double.title}: {where}: {error}; name it in supplement.json") from error

    def _overload(self, owner: str, text: str) -> Overload:
        try:
            signature = parse(text)
        except SignatureError as error:
            raise GenerationError(f"{self.double.title}: {owner}: {error}; correct it in supplement.json") from error
        where = f"{owner}.{signature.name}" if owner else signature.name
        return Overload(
            signature,
            tuple(self._cast(where, parameter.type) for parameter in signature.parameters),
            tuple(self._default(where, parameter) for parameter in signature.parameters),
            tuple(self._nullable(where, parameter) for parameter in signature.parameters),
            self._cast(where, signature.returns),
            self.casts.is_class(signature.returns),
        )

    def _nullable(self, where: str, parameter: Parameter) -> bool:
        if parameter.optional and parameter.default is None:
            return True
        return f"{where}({parameter.name})" in self.supplement["nullable"]

    def _default(self, where: str, parameter: Parameter) -> Any:
        default: Default = parameter.default
        if not isinstance(default, Member):
            return default
        path = default.path if default.path.split(".")[0] in self.double.enums else f"ILogger.{default.path}"
        member = self._member(path)
        if int(member) != default.value:
            raise GenerationError(f"{self.double.title}: {where}: {path} is {int(member)} and not {default.value}")
        return member

    def _member(self, path: str) -> Any:
        enum, _, name = path.rpartition(".")
        if enum not in self.double.enums or name not in self.double.enums[enum].__members__:
            raise GenerationError(f"{self.double.title}: there is no {path}")
        return self.double.enums[enum].__members__[name]

    def _module_members(self) -> None:
        double, space = self.double, vars(self.double.module)
        space["__version__"] = double.version
        space.update({name: cls for name, cls in double.classes.items()})
        space.update({name: enum for name, enum in double.enums.items() if "." not in name})
        for name, value in self.listing["constants"].items():
            space[name] = self._member(value)
        for name, texts in self.listing["functions"].items():
            overloads = tuple(self._overload("", self._corrected(text)) for text in texts)
            space[name] = _function(double, name, overloads, self.plays.functions.get(name))
        for path, cast in self.supplement["enum_properties"].items():
            enum, _, name = path.partition(".")
            play = self.plays.functions[cast]
            type.__setattr__(double.enums[enum], name, property(lambda member, play=play: play(double.world, member)))
        type.__setattr__(type(double.module), "double", double)


def _module(name: str) -> types.ModuleType:
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


def _root(double: Double) -> type:
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
            if isinstance(listed, _Property):
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


_HIDDEN = (
    "__len__", "__getitem__", "__setitem__", "__delitem__", "__iter__", "__contains__", "__add__", "__mul__",
    "__rmul__", "__iadd__", "__imul__", "__mod__", "__rmod__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__",
)  # fmt: skip


def _new_class(meta: Any, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> type:
    """A class; one over bytearray keeps its buffer, which Python code can't have otherwise, and nothing else."""
    if bytearray in bases:

        def hidden(self: Any, name: str) -> Any:
            if hasattr(bytearray, name) and not name.startswith("__"):
                return self.__getattr__(name)
            return object.__getattribute__(self, name)

        space |= {special: getattr(object, special, None) for special in _HIDDEN} | {"__getattribute__": hidden}
    cls: type = meta(name, bases, space)
    return cls


class _EnumMeta(type):
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


def _enum(double: Double, name: str, members: Mapping[str, int]) -> type:
    def attribute(self: Any, wanted: str) -> Any:
        raise double.lack(name, wanted)

    def readonly(self: Any, wanted: str, value: Any) -> None:
        raise double.refuse(ReadOnly, f"{name}.{wanted}", "can't be set")

    space: dict[str, Any] = {
        "__module__": double.name,
        "double of": double,
        "__int__": lambda self: vars(self)["value"],
        "__index__": lambda self: vars(self)["value"],
        "__hash__": lambda self: vars(self)["value"],
        "__eq__": lambda self, other: type(self) is type(other) and int(self) == int(other),
        "__repr__": lambda self: f"<{name}.{self.name}: {int(self)}>",
        "__str__": lambda self: f"{name}.{self.name}",
        "__getattr__": attribute,
        "__setattr__": readonly,
    }
    cls = _EnumMeta(name, (), space)
    first: dict[int, str] = {}
    made = {}
    for member, value in members.items():
        made[member] = object.__new__(cls)
        # Two names of one number are two members, both called by the first.
        vars(made[member]).update(name=first.setdefault(value, member), value=value)
        type.__setattr__(cls, member, made[member])
    type.__setattr__(cls, "__members__", types.MappingProxyType(made))
    return cls


class _Property:
    """A listed property: read from the play, and written to it where the version has a setter."""

    def __init__(self, double: Double, owner: str, name: str, cast: Cast, nullable: bool, writable: bool) -> None:
        self.double, self.owner, self.name = double, owner, name
        self.cast, self.nullable, self.writable = cast, nullable, writable

    def __get__(self, thing: Any, owner: type) -> Any:
        if thing is None:
            return self
        play = _alive(self.double, thing, f"{self.owner}.{self.name}")
        try:
            value = getattr(play, self.name)
        except AttributeError:
            raise self.double.refuse(NotPlayed, f"{self.owner}.{self.name}", "is listed, and has no play") from None
        return value if value is None and self.nullable else self.cast(value)

    def __set__(self, thing: Any, value: Any) -> None:
        where = f"{self.owner}.{self.name}"
        play = _alive(self.double, thing, where)
        if not self.writable:
            raise self.double.refuse(ReadOnly, where, "can't be set: it has no setter")
        try:
            value = value if value is None and self.nullable else self.cast(value)
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
    if value is None and (overload.returns_null or overload.signature.returns is None):
        return None
    try:
        return overload.returns(value)
    except Mismatch as mismatch:
        raise double.refuse(NotPlayed, where, f"is played wrongly: {mismatch} as result") from None


def _method(double: Double, owner: str, name: str, overloads: tuple[Overload, ...]) -> Any:
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
        return lambda self: vars(self).pop(STATE, None)
    if name == "__enter__":
        return lambda self: double.world.enter(self)
    if name == "__exit__":
        return lambda self, _type, _value, _trace: None

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


def _no_constructor(double: Double, name: str) -> Any:
    def init(self: Any, *_args: Any, **_kwargs: Any) -> None:
        raise double.refuse(Refused, name, "has no constructor")

    return init


def _special(play: Any) -> Any:
    return lambda self, *args: play(state(self), *args)


def _function(double: Double, name: str, overloads: tuple[Overload, ...], play: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        overload, values = _bound(double, name, overloads, args, kwargs)
        if play is None:
            raise double.refuse(NotPlayed, name, "is listed, and has no play")
        return _returned(double, name, overload, play(double.world, *values))

    call.__name__ = name
    return call
