"""The corners of profiles, by name: what is asked beside the examples that a strategy draws.

All variables at their maximum at once is what random sizes seldom are, and a strategy that draws it
often enough shrinks badly. So corners are tests of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.spec.example import Example
from harness.spec.profile import Profile
from harness.spec.space import Space, spaces


def corners(profiles: Sequence[Profile], *, relations: Iterable[str] = ()) -> tuple[tuple[str, Example], ...]:
    """(name, example) for ``min``, ``max``, and ``<symbol>_max`` with every other symbol at its minimum.

    The elements of a shape tensor go together: ``<tensor>_max``. Further profiles say their number:
    ``max_p1``. ``relations`` hold: where they forbid a corner, it is the nearest that they admit, earlier
    symbols first. A shape comes once, under the first of its names; a static profile has one, ``opt``.
    All seeds are 0. SpecError when no shape meets the relations.
    """
    named: list[tuple[str, Example]] = []
    for space in spaces(profiles, relations):
        suffix = f"_p{space.number}" if space.number else ""
        found: dict[Example, str] = {}
        if space.profile.is_static:
            found[space.example(space.least() or {})] = "opt"
        else:
            found[space.example(space.least() or {})] = "min"
            found.setdefault(space.example(space.greatest() or {}), "max")
            for name, group in _groups(space).items():
                found.setdefault(space.example(_alone(space, group)), f"{name}_max")
        named += [(name + suffix, example) for example, name in found.items()]
    return tuple(named)


def _groups(space: Space) -> dict[str, list[str]]:
    """The variables that go to their maximum together, by the name of the corner."""
    groups = {symbol: [symbol] for symbol, _ in space.profile.ranges}
    for tensor, values in space.profile.values:
        groups.setdefault(tensor, []).extend(f"{tensor}[{index}]" for index in range(len(values.min)))
    return groups


def _alone(space: Space, group: Sequence[str]) -> dict[str, int]:
    """Each of ``group`` as large as can be, then the rest as small as can be."""
    fixed: dict[str, int] = {}
    for name in group:
        fixed[name] = space.largest(name, fixed) or 0
    return space.least(fixed) or {}
