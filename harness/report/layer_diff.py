"""Which layers of two engines correspond, and what differs between them: values in, differences out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.report.layers import Layer, Layers, Tensor

WHAT = ("precision", "kind", "tactic", "fusion", "tensors", "weights")  # what may change, in the order of showing
ONLY_A, ONLY_B = "only in A", "only in B"


@dataclass(frozen=True)
class Change:
    """One thing that is another in B; what is not told on either side is no change."""

    what: str  # one of `WHAT`
    before: str
    after: str


@dataclass(frozen=True)
class Match:
    """Layers of A and B that do the same work; several where they are fused in different ways, none where one lacks it.

    ``by`` says how they were found: "name", "origin", "order" among layers of their kind, or "" for unmatched ones.
    """

    a: tuple[Layer, ...]
    b: tuple[Layer, ...]
    by: str = ""
    changes: tuple[Change, ...] = ()

    @property
    def name(self) -> str:
        """That of the layers of A, or of B where A has none; each once."""
        return " | ".join(dict.fromkeys(layer.name for layer in self.a or self.b))


@dataclass(frozen=True)
class LayerDiff:
    """``matches`` in A's order, followed by what B alone has."""

    matches: tuple[Match, ...]
    counts: Mapping[str, int] = field(default_factory=dict)  # of matches by what changed, `ONLY_A` and `ONLY_B`

    @property
    def same(self) -> bool:
        return not self.counts

    @property
    def changed(self) -> tuple[Match, ...]:
        return tuple(match for match in self.matches if match.changes)

    @property
    def only_a(self) -> tuple[Layer, ...]:
        return tuple(layer for match in self.matches if not match.b for layer in match.a)

    @property
    def only_b(self) -> tuple[Layer, ...]:
        return tuple(layer for match in self.matches if not match.a for layer in match.b)


def diff(a: Layers, b: Layers) -> LayerDiff:
    """What is another in ``b`` than it was in ``a``, layer by layer."""
    matches = tuple(
        Match(found.a, found.b, found.by, tuple(changes(found.a, found.b))) if found.a and found.b else found
        for found in match(a.layers, b.layers)
    )
    counts = Counter[str]()
    for found in matches:
        counts.update({change.what for change in found.changes})
        counts[ONLY_A] += len(found.a) if not found.b else 0
        counts[ONLY_B] += len(found.b) if not found.a else 0
    ordered = {what: counts[what] for what in (*WHAT, ONLY_A, ONLY_B) if counts[what]}
    return LayerDiff(matches, ordered)


# Which layers correspond --------------------------------------------------------------------------------


@dataclass(eq=False)
class _Group:
    """A match in the making, of layers by their place."""

    a: list[int] = field(default_factory=list)
    b: list[int] = field(default_factory=list)
    by: str = ""


def match(a: Sequence[Layer], b: Sequence[Layer]) -> list[Match]:
    """Every layer of either side, in one match each.

    By name first, where their origins don't contradict it: compilers number what they make. What is left goes to
    whom it shares most origins with, and then to the next of its kind that nothing is known of to the contrary.
    """
    groups = _by_name(a, b)
    groups = _by_origin(a, b, groups)
    groups += _by_order(a, b, groups)
    taken_a = {place for group in groups for place in group.a}
    taken_b = {place for group in groups for place in group.b}
    groups += [_Group([place], []) for place in range(len(a)) if place not in taken_a]
    groups.sort(key=lambda group: min(group.a))
    groups += [_Group([], [place]) for place in range(len(b)) if place not in taken_b]
    return [
        Match(tuple(a[place] for place in sorted(g.a)), tuple(b[place] for place in sorted(g.b)), g.by) for g in groups
    ]


def _agree(one: Layer, other: Layer) -> bool:
    """Nothing that is known of them says that they are two things."""
    if one.profile != other.profile:
        return False
    if not one.origins or not other.origins or one.traced != other.traced:
        return True
    return not set(one.origins).isdisjoint(other.origins)


def _by_name(a: Sequence[Layer], b: Sequence[Layer]) -> list[_Group]:
    named: dict[str, list[int]] = defaultdict(list)
    for place, layer in enumerate(b):
        named[layer.name].append(place)
    groups = []
    for place, layer in enumerate(a):
        found = next((other for other in named[layer.name] if layer.name and _agree(layer, b[other])), None)
        if found is not None:
            named[layer.name].remove(found)
            groups.append(_Group([place], [found], "name"))
    return groups


def _by_origin(a: Sequence[Layer], b: Sequence[Layer], groups: list[_Group]) -> list[_Group]:
    """``groups``, with layers that share origins with one of theirs, and new ones of those that share theirs."""
    home: dict[tuple[str, int], _Group] = {}
    for group in groups:
        home |= {("a", place): group for place in group.a} | {("b", place): group for place in group.b}
    sides = {"a": a, "b": b}
    made: dict[str, dict[str, list[int]]] = {side: defaultdict(list) for side in sides}  # by origin: places
    for side, layers in sides.items():
        for place, layer in enumerate(layers):
            for origin in layer.origins:
                made[side][origin].append(place)
    groups = list(groups)
    for side, other in (("a", "b"), ("b", "a")):
        for place, layer in enumerate(sides[side]):
            if (side, place) in home:
                continue
            shared = Counter(
                there
                for origin in layer.origins
                for there in made[other][origin]
                if sides[other][there].profile == layer.profile
            )
            if not shared:
                continue
            # Of those that share as many, one that nobody has yet: an operator of the model may be several layers.
            best = min(shared, key=lambda there: (-shared[there], (other, there) in home, there))
            if (other, best) not in home:
                groups.append(_Group(by="origin"))
                home[other, best] = groups[-1]
                getattr(groups[-1], other).append(best)
            home[side, place] = home[other, best]
            getattr(home[side, place], side).append(place)
    return groups


def _by_order(a: Sequence[Layer], b: Sequence[Layer], groups: Iterable[_Group]) -> list[_Group]:
    taken_a = {place for group in groups for place in group.a}
    taken_b = {place for group in groups for place in group.b}
    rest: dict[str, list[int]] = defaultdict(list)
    for place, layer in enumerate(b):
        if place not in taken_b and layer.kind:
            rest[layer.kind].append(place)
    found = []
    for place, layer in enumerate(a):
        if place in taken_a:
            continue
        there = next((other for other in rest[layer.kind] if _agree(layer, b[other])), None)
        if there is not None:
            rest[layer.kind].remove(there)
            found.append(_Group([place], [there], "order"))
    return found


# What differs -----------------------------------------------------------------------------------------------


def changes(a: Sequence[Layer], b: Sequence[Layer]) -> list[Change]:
    """What is another in ``b``, of layers that do the same work as ``a``."""
    found = []

    def compare(what: str, before: str, after: str) -> None:
        if before and after and before != after:
            found.append(Change(what, before, after))

    compare("precision", _joined(layer.precision for layer in a), _joined(layer.precision for layer in b))
    regrouped = len(a) != len(b) or (_groups(a) != _groups(b) and _comparable(a, b))
    if regrouped and _groups(a) != _groups(b) and _comparable(a, b):
        compare("fusion", _grouping(a), _grouping(b))
    elif regrouped:
        compare("fusion", _counted(a), _counted(b))
    else:
        compare("kind", _joined(map(_kind, a)), _joined(map(_kind, b)))
    compare("tactic", _joined(layer.tactic for layer in a), _joined(layer.tactic for layer in b))
    if not regrouped and len(a) == len(b) == 1:
        before, after = _told_alike(a[0], b[0])
        compare("tensors", before, after)
    compare("weights", _bytes(a), _bytes(b))
    return sorted(found, key=lambda change: WHAT.index(change.what))


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(sorted(set(filter(None, parts))))


def _kind(layer: Layer) -> str:
    return " by ".join(dict.fromkeys(filter(None, (layer.kind, layer.implementation))))


def _groups(layers: Sequence[Layer]) -> set[frozenset[str]]:
    """Which origins are computed together."""
    return {frozenset(layer.origins) for layer in layers if layer.origins}


def _grouping(layers: Sequence[Layer]) -> str:
    """The same in words, those of one layer with "+" between them."""
    return " | ".join(dict.fromkeys(" + ".join(layer.origins) for layer in layers if layer.origins))


def _counted(layers: Sequence[Layer]) -> str:
    return f"{len(layers)} layer{'s' * (len(layers) > 1)}"


def _comparable(a: Sequence[Layer], b: Sequence[Layer]) -> bool:
    """What names say of origins is less than what metadata says."""
    if not _groups(a) or not _groups(b):
        return False
    return len({layer.traced for layer in (*a, *b) if layer.origins}) == 1


def _told_alike(a: Layer, b: Layer) -> tuple[str, str]:
    """Types, sizes and layouts of both where they differ in what is told of both."""
    if not a.kind or not b.kind:
        return "", ""
    alike = (len(a.inputs), len(a.outputs)) == (len(b.inputs), len(b.outputs)) and all(
        _alike(one, other) for one, other in zip((*a.inputs, *a.outputs), (*b.inputs, *b.outputs), strict=True)
    )
    return ("", "") if alike else (_ends(a), _ends(b))


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.dtype and other.dtype and (one.dtype, one.format) != (other.dtype, other.format):
        return False
    if one.shape is None or other.shape is None:
        return True
    return len(one.shape) == len(other.shape) and all(
        -1 in pair or pair[0] == pair[1] for pair in zip(one.shape, other.shape, strict=True)
    )


def _ends(layer: Layer) -> str:
    return f"{', '.join(map(str, layer.inputs)) or '()'} -> {', '.join(map(str, layer.outputs)) or '()'}"


def _bytes(layers: Sequence[Layer]) -> str:
    if any(layer.weights is None for layer in layers):
        return ""
    return f"{sum(layer.weights or 0 for layer in layers):,} bytes"
