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

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from tests.doubles.casts import Cast, Casts, UncoveredType
from tests.doubles.double import Double
from tests.doubles.enums import EnumMeta, new_enum
from tests.doubles.members import (
    Overload,
    Property,
    Types,
    make_function,
    make_method,
    make_special,
    module_of,
    new_class,
    no_constructor,
    root_of,
)
from tests.doubles.runtimes import refuse_conversions, without_builder
from tests.doubles.signature import Default, Member, Parameter, SignatureError, parse, parse_type

T = TypeVar("T")
DATA = Path(__file__).parents[1] / "data" / "trt_api"
SUPPLEMENT = Path(__file__).with_name("supplement.json")


class GenerationError(ValueError):
    """The listing holds something that can't be read, or that nothing covers."""


def versions() -> tuple[str, ...]:
    """The versions whose listing is here, as in the names of the files."""
    return tuple(sorted(path.stem.removeprefix("trt_api_") for path in DATA.glob("trt_api_*.json")))


def make(version: str, plays: Any, *, gpu: bool = True) -> Double:
    """The double of ``version``, whose objects ``plays`` plays; without a GPU if ``gpu`` is False.

    "lean_8.6.1" is the lean runtime of 8.6.1, "dispatch_8.6.1" its dispatch runtime.
    """
    kind, _, of = version.partition("_")
    runtime = kind in ("lean", "dispatch")
    listing = _read(DATA / f"trt_api_{of if runtime else version}.json")
    shown = without_builder(listing, kind) if runtime else listing
    double = generate(shown, _read(SUPPLEMENT), plays, gpu=gpu, whole=version not in _WHOLE)
    _WHOLE.add(version)
    if runtime:
        refuse_conversions(double.classes)
    return double


_WHOLE: set[str] = set()  # versions that every type was made of in this process, so that all of them can be


@functools.cache
def _read(file: Path) -> Any:
    return json.loads(file.read_text())


def generate(
    listing: Mapping[str, Any], supplement: Mapping[str, Any], plays: Any, *, gpu: bool = True, whole: bool = True
) -> Double:
    """The double of what ``listing`` lists, corrected by ``supplement``.

    ``plays`` has ``play_of(name)``, a class or None, ``functions``, by name, and ``World``.
    GenerationError names what can't be read or is covered by nothing: at once if ``whole``, else when it is used.
    """
    return _Generator(listing, supplement, plays, gpu, whole).make()


class _Later(Generic[T]):
    """As `functools.cache`, which takes longer to set up than most of these ever take."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._made = make, list[T]()

    def __call__(self) -> T:
        if not self._made:
            self._made.append(self._make())
        return self._made[0]


class _Generator:
    def __init__(
        self, listing: Mapping[str, Any], supplement: Mapping[str, Any], plays: Any, gpu: bool, whole: bool
    ) -> None:
        self.listing, self.supplement, self.plays, self.whole = listing, supplement, plays, whole
        name = listing["module"].removesuffix("_bindings")
        self.double = Double(listing["version"], name, gpu, module_of(name))
        self.double.world = plays.World(self.double)
        self.casts: Any = None

    def make(self) -> Double:
        double = self.double
        for name, entry in self.listing["enums"].items():
            double.enums[name] = self._enum(name, entry)
        root = root_of(double)
        for name in self._by_inheritance():
            double.classes[name] = self._class(name, root)
        for name, entry in self.listing["classes"].items():
            for inner, members in entry.get("nested", {}).items():
                double.enums[f"{name}.{inner}"] = self._nested(name, inner, members)
        self.casts = Casts(
            {**double.classes, **double.enums},
            self.supplement["aliases"],
            {name: parse_type(text) for name, text in self.supplement["implicit"].items() if name in double.classes},
            lambda value: isinstance(type(value), EnumMeta),
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
        return new_class(type(root), name, bases, {"__module__": self.double.name, "__hash__": object.__hash__})

    def _nested(self, owner: str, name: str, entry: Mapping[str, Any]) -> Any:
        # A class that shows its base's nested enum shows the very same one.
        for base in self.double.classes[owner].__mro__[1:]:
            if f"{base.__name__}.{name}" in self.double.enums:
                return self.double.enums[f"{base.__name__}.{name}"]
        return self._enum(name, entry)

    def _enum(self, name: str, entry: Mapping[str, Any]) -> Any:
        if entry["arith"]:
            raise GenerationError(f"{self.double.title}: {name} is an arithmetic enum, which nothing here covers")
        return new_enum(self.double, name, entry["members"])

    def _fill(self, name: str, entry: Mapping[str, Any]) -> None:
        cls = self.double.classes[name]
        known = {"bases", "methods", "properties", "constructible", "nested", "attributes"}
        if entry.keys() - known:
            raise GenerationError(f"{self.double.title}: {name} has {sorted(entry.keys() - known)}, which is not known")
        for method, texts in entry["methods"].items():
            overloads = tuple(self._overload(name, self._corrected(text)) for text in texts)
            type.__setattr__(cls, method, make_method(self.double, name, method, overloads))
        if "__init__" not in entry["methods"]:
            type.__setattr__(cls, "__init__", no_constructor(self.double, name))
        for member, listed in entry["properties"].items():
            type.__setattr__(cls, member, self._property(name, member, listed))
        for inner in entry.get("nested", {}):
            type.__setattr__(cls, inner, self.double.enums[f"{name}.{inner}"])
        for attribute, value in entry.get("attributes", {}).items():
            type.__setattr__(cls, attribute, self._member(f"{name}.{value}"))
        play = self.plays.play_of(name)
        for special in self.supplement["special"].get(name, ()):  # introspection left these out
            type.__setattr__(cls, special, make_special(getattr(play, special)))

    def _property(self, owner: str, name: str, listed: Mapping[str, Any]) -> Any:
        statics = self.supplement["statics"].get(owner, {})
        if name in statics:
            return statics[name]
        text = self.supplement["property_types"].get(f"{owner}.{name}", listed["type"])

        def types() -> tuple[Cast, bool]:
            kind = None if text is None else self._type(owner, text)
            return self._cast(f"{owner}.{name}", kind), self.casts.may_be_null(kind) or kind is None

        return Property(self.double, owner, name, self._later(types), listed["rw"])

    def _later(self, make: Callable[[], T]) -> Callable[[], T]:
        """What gives what ``make`` makes, once; which is now where all is."""
        later = _Later(make)
        if self.whole:
            later()
        return later

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
            cast: Cast = self.casts.of(kind)
        except UncoveredType as error:
            raise GenerationError(f"{self.double.title}: {where}: {error}; name it in supplement.json") from error
        return cast

    def _overload(self, owner: str, text: str) -> Overload:
        try:
            signature = parse(text)
        except SignatureError as error:
            raise GenerationError(f"{self.double.title}: {owner}: {error}; correct it in supplement.json") from error
        where = f"{owner}.{signature.name}" if owner else signature.name

        def types() -> Types:
            return Types(
                tuple(self._cast(where, parameter.type) for parameter in signature.parameters),
                tuple(self._default(where, parameter) for parameter in signature.parameters),
                tuple(self._nullable(where, parameter) for parameter in signature.parameters),
                self._cast(where, signature.returns),
                self.casts.may_be_null(signature.returns),
            )

        return Overload(signature, self._later(types))

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
        space.update(double.classes)
        space.update({name: enum for name, enum in double.enums.items() if "." not in name})
        for name, value in self.listing["constants"].items():
            space[name] = self._member(value)
        for name, texts in self.listing["functions"].items():
            overloads = tuple(self._overload("", self._corrected(text)) for text in texts)
            space[name] = make_function(double, name, overloads, self.plays.functions.get(name))
        for path, play in self.supplement["enum_properties"].items():
            enum, _, name = path.partition(".")
            if enum in double.enums:
                read = functools.partial(self.plays.functions[play], double.world)
                type.__setattr__(double.enums[enum], name, property(read))
        type.__setattr__(type(double.module), "double", double)
