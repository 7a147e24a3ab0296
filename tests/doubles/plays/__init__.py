"""What the objects of a double do: one class for each, shared by all versions.

A play has the members of its class by the same names, those of every version. It is reached only
through members that the version at hand lists, so it need not ask what that version has, except
where versions behave differently; that they learn from the listing too (`World.has`), as a user of
the vendor's module would.
"""

from __future__ import annotations

from typing import Any

from tests.doubles.plays import build, foundation, network, parser, refit, run
from tests.doubles.plays.foundation import World as _World

_PLAYS = {**foundation.PLAYS, **network.PLAYS, **parser.PLAYS, **build.PLAYS, **run.PLAYS, **refit.PLAYS}

functions = foundation.FUNCTIONS


def play_of(name: str) -> type | None:
    """The play of the class ``name``; of all the layers' classes it is one and the same."""
    return _PLAYS.get(name)


def names() -> tuple[str, ...]:
    """The classes that have a play."""
    return tuple(_PLAYS)


class World(_World):
    """What the objects of one process share."""

    def play_of(self, name: str) -> Any:
        return play_of(name)
