"""One generated module, what it refuses, and what it remembers of that."""

from __future__ import annotations

import sys
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.doubles.members import Overload

STATE = "state of the double"  # no identifier, so that no attribute lookup finds it
_OURS = tuple(
    str(Path(__file__).with_name(name)) for name in ("double.py", "members.py", "enums.py", "casts.py", "plays")
)


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
    enums: dict[str, Any] = field(default_factory=dict)
    virtuals: dict[str, dict[str, Overload]] = field(default_factory=dict)
    world: Any = None  # what the plays of one process share
    _things: weakref.WeakValueDictionary[int, Any] = field(default_factory=weakref.WeakValueDictionary)

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"

    def anew(self, plays: Any) -> Double:
        """This one as in another process: what it remembers, what lives and what its objects share is new."""
        self.refusals, self.missing = [], []
        self._things = weakref.WeakValueDictionary()
        self.world = plays.World(self)
        return self

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
        cls: Any = self.classes[name]
        thing = cls.__new__(cls)
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
        except Exception as error:  # what the bindings do
            self.refusals.append(f"{self.title}: {type(thing).__name__}.{name} raised {type(error).__name__}: {error}")
            print(f"[ERROR] Exception caught in {name}(): {error}", file=sys.stderr)
            return None

    def overrides(self, thing: Any, name: str) -> bool:
        """Whether ``thing``'s own class defines the virtual ``name``."""
        return any(name in vars(base) for base in type(thing).__mro__ if base not in self.classes.values())


def state(thing: Any) -> Any:
    """The play behind an object of a double."""
    return vars(thing)[STATE]
