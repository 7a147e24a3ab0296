"""The shapes that one profile admits, and relations between them.

A relation is a comparison of whole numbers, written as Python would::

    kv >= q        past + seq <= 32        q == kv        width % 8 == 0        shape[0] * shape[1] == 24

Its names are the profile's symbols, and ``tensor[i]`` for the elements of a shape tensor. What meets the
relations is found by halving ranges, a half that can't hold an answer being dropped, so that every
size is known to leave room for the others before it is chosen: nothing is drawn and then thrown away.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from harness.errors import SpecError
from harness.spec.example import Example
from harness.spec.names import listed, suggestion
from harness.spec.profile import Profile, Range, Values

Affordable = Callable[[Mapping[str, int]], bool]  # of sizes by symbol; what it admits, it admits smaller as well
Sizes = Mapping[str, int]
Interval = tuple[int, int]  # both inclusive
Box = Mapping[str, Interval]

PATIENCE = 20_000  # boxes looked at for one answer; a relation of a few symbols takes tens
_NAME = re.compile(r"[A-Za-z_][\w.:/]*(?:\[\d+\])?")


class Relation:
    """A comparison that the sizes of a shape must meet. SpecError for what is none."""

    def __init__(self, text: str) -> None:
        self.text = text
        names: dict[str, str] = {}  # a stand-in, by name: names of ONNX ("x:0") are none of Python's
        try:
            spelt = _NAME.sub(lambda found: names.setdefault(found[0], f"_{len(names)}"), text)
            body = ast.parse(spelt.strip(), mode="eval").body
        except (SyntaxError, TypeError) as error:
            raise self._error("it can't be read") from error
        if not isinstance(body, ast.Compare):
            raise self._error("it compares nothing")
        self._known = {stand_in: name for name, stand_in in names.items()}
        self.names = frozenset(names)
        self._sides = [self._number(side) for side in (body.left, *body.comparators)]
        self._tests = [_POSSIBLE.get(type(each)) for each in body.ops]
        if None in self._tests:
            raise self._error("it compares by something other than == != < <= > >=")

    def possible(self, box: Box) -> bool:
        """Whether some sizes in ``box`` might meet it; exact where ``box`` holds one size a name."""
        sides = [side(box) for side in self._sides]
        return all(
            test is not None and test(left, right)
            for test, left, right in zip(self._tests, sides, sides[1:], strict=False)
        )

    def _number(self, node: ast.expr) -> Callable[[Box], Interval]:
        if isinstance(node, ast.Name):
            name = self._known[node.id]
            return lambda box: box[name]
        if isinstance(node, ast.Constant) and type(node.value) is int:
            number = node.value
            return lambda _: (number, number)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self._number(node.operand)
            return lambda box: (-inner(box)[1], -inner(box)[0])
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            combine, left, right = _ARITHMETIC[type(node.op)], self._number(node.left), self._number(node.right)
            if isinstance(node.op, (ast.Mod, ast.FloorDiv)) and not (
                isinstance(node.right, ast.Constant) and right({})[0] > 0
            ):
                raise self._error("what divides must be a number above 0")
            return lambda box: combine(left(box), right(box))
        raise self._error("its sides are whole numbers, names, and their + - * // %")

    def _error(self, why: str) -> SpecError:
        return SpecError(f"relation {self.text!r}: {why}: write one such as 'kv >= q' or 'past + seq <= 32'")


def _product(a: Interval, b: Interval) -> Interval:
    ends = [x * y for x in a for y in b]
    return min(ends), max(ends)


def _remainder(a: Interval, n: Interval) -> Interval:
    by = n[0]
    return (a[0] % by, a[1] % by) if a[0] // by == a[1] // by else (0, by - 1)


_ARITHMETIC: Mapping[type[ast.operator], Callable[[Interval, Interval], Interval]] = {
    ast.Add: lambda a, b: (a[0] + b[0], a[1] + b[1]),
    ast.Sub: lambda a, b: (a[0] - b[1], a[1] - b[0]),
    ast.Mult: _product,
    ast.FloorDiv: lambda a, b: (a[0] // b[0], a[1] // b[0]),
    ast.Mod: _remainder,
}
_POSSIBLE: Mapping[type[ast.cmpop], Callable[[Interval, Interval], bool]] = {
    ast.Eq: lambda a, b: a[0] <= b[1] and b[0] <= a[1],
    ast.NotEq: lambda a, b: not a[0] == a[1] == b[0] == b[1],
    ast.Lt: lambda a, b: a[0] < b[1],
    ast.LtE: lambda a, b: a[0] <= b[1],
    ast.Gt: lambda a, b: a[1] > b[0],
    ast.GtE: lambda a, b: a[1] >= b[0],
}


class Space:
    """What one profile admits: a size for each symbol, and contents for each shape tensor, element by element.

    ``relations`` are told to hold between them; ``affordable`` says of sizes by symbol whether their
    arrays are small enough. SpecError for a range or relation that is wrong, and when nothing is left.
    """

    def __init__(
        self, profile: Profile, relations: Iterable[str] = (), affordable: Affordable | None = None, number: int = 0
    ) -> None:
        self.profile, self.number, self._affordable = profile, number, affordable
        self.ranges = {symbol: checked_range(symbol, sizes) for symbol, sizes in profile.ranges}
        self._symbols = tuple(self.ranges)
        for tensor, values in profile.values:
            elements = element_ranges(tensor, values)
            self.ranges |= {f"{tensor}[{index}]": sizes for index, sizes in enumerate(elements)}
        self.variables = tuple(self.ranges)
        self.relations = tuple(map(Relation, _texts(relations)))
        for relation in self.relations:
            for name in sorted(relation.names - self.ranges.keys()):
                raise SpecError(
                    f"relation {relation.text!r}: profile {number} has no {name!r}: "
                    f"{suggestion(name, self.variables)}it has {listed(self.variables)}"
                )
        self._related = sorted(frozenset[str]().union(*(relation.names for relation in self.relations)))
        self._whole = {name: (sizes.min, sizes.max) for name, sizes in self.ranges.items()}
        largest = {name: sizes.max for name, sizes in self.ranges.items()}
        self._free = not self.relations and self._pays({name: (size, size) for name, size in largest.items()})
        self.range_of = functools.lru_cache(maxsize=1 << 16)(self._range_of)
        self.nearest = functools.lru_cache(maxsize=1 << 16)(self._nearest)
        if not self._free and not self._possible(self._whole):
            told = f" meets {' and '.join(repr(relation.text) for relation in self.relations)}" * bool(self.relations)
            price = f"{' and' * bool(told)} is affordable" * (affordable is not None)
            raise SpecError(f"profile {number} ({profile}): no shape{told}{price}: widen its ranges or the bounds")

    def admits(self, sizes: Sizes) -> bool:
        """Whether ``sizes``, one a variable, lie inside."""
        if sizes.keys() != self.ranges.keys():
            return False
        inside = all(self.ranges[name].min <= size <= self.ranges[name].max for name, size in sizes.items())
        return inside and self._holds({name: (size, size) for name, size in sizes.items()})

    def _range_of(self, chosen: tuple[int, ...]) -> Range:
        """What the next variable may be, once the first ones are ``chosen``: a range whose ends can be had."""
        name = self.variables[len(chosen)]
        whole = self.ranges[name]
        if self._free:
            return whole
        box = self._after(chosen)
        low, high = self._end(box, name, least=True), self._end(box, name, least=False)
        if low is None or high is None:
            raise SpecError(f"profile {self.number} ({self.profile}): nothing inside begins with {list(chosen)}")
        return Range(low, min(max(whole.opt, low), high), high)

    def _nearest(self, chosen: tuple[int, ...], size: int) -> int:
        """What the next variable is for ``size`` in its range: that, or where it can't be, the nearest below."""
        name = self.variables[len(chosen)]
        if self._free:
            return size
        box = {**self._after(chosen), name: (self.ranges[name].min, size)}
        below = self._end(box, name, least=False)
        if below is None:
            raise SpecError(
                f"profile {self.number} ({self.profile}): {name} = {size} after {list(chosen)} lies outside"
            )
        return below

    def least(self, fixed: Sizes | None = None) -> dict[str, int] | None:
        """The smallest sizes, each variable's as far as those before it allow; None when ``fixed`` leaves none."""
        if fixed:
            return self._settled(self._box(fixed), least=True)
        return None if self._least is None else dict(self._least)

    @functools.cached_property
    def _least(self) -> dict[str, int] | None:
        return self._settled(self._whole, least=True)

    def greatest(self) -> dict[str, int] | None:
        """The largest sizes, in the same way."""
        return self._settled(self._whole, least=False)

    def fitted(self, name: str, low: int, high: int, below: Sizes, *, least: bool = False) -> dict[str, int] | None:
        """Sizes that have the largest (or least) of ``name`` from ``low`` to ``high``; the others as in ``below``.

        Where a relation asks for it, they are smaller than that; None where there are no such sizes.
        """
        box = {each: (start, below[each]) for each, (start, _) in self._whole.items()}
        size = self._end({**box, name: (low, high)}, name, least=least)
        return None if size is None else self._settled({**box, name: (size, size)}, least=False)

    def largest(self, name: str, fixed: Sizes | None = None) -> int | None:
        """The largest size that ``name`` can have beside those in ``fixed``."""
        return self._end(self._box(fixed or {}), name, least=False)

    def sizes_of(self, example: Example) -> dict[str, int]:
        """The variables of ``example``."""
        contents = {f"{name}[{index}]": v for name, held in example.values for index, v in enumerate(held)}
        return {**example.binding, **contents}

    def example(self, sizes: Sizes, seed: int = 0) -> Example:
        """The example that has these sizes."""
        contents = {
            tensor: tuple(sizes[f"{tensor}[{index}]"] for index in range(len(values.min)))
            for tensor, values in self.profile.values
        }
        return Example.of({s: sizes[s] for s in self._symbols}, contents, profile=self.number, seed=seed)

    def _box(self, fixed: Sizes) -> dict[str, Interval]:
        return {**self._whole, **{name: (size, size) for name, size in fixed.items()}}

    def _after(self, chosen: tuple[int, ...]) -> dict[str, Interval]:
        return self._box(dict(zip(self.variables, chosen, strict=False)))

    def _settled(self, box: Box, *, least: bool) -> dict[str, int] | None:
        for name in self.variables:
            size = self._end(box, name, least=least)
            if size is None:
                return None
            box = {**box, name: (size, size)}
        return {name: low for name, (low, _) in box.items()}

    def _end(self, box: Box, name: str, *, least: bool) -> int | None:
        """The smallest or largest size of ``name`` in ``box`` that leaves room for the others."""
        low, high = box[name]
        wanted = low if least else high
        if low <= high and self._possible({**box, name: (wanted, wanted)}):
            return wanted
        if low >= high or not self._possible(box):
            return None
        while low < high:
            middle = (low + high) // 2
            near, far = ((low, middle), (middle + 1, high)) if least else ((middle + 1, high), (low, middle))
            low, high = near if self._possible({**box, name: near}) else far
        return low

    def _possible(self, box: Box) -> bool:
        """Whether some sizes in ``box`` are inside."""
        boxes = [box] if all(low <= high for low, high in box.values()) else []
        for _ in range(PATIENCE):
            if not boxes:
                return False
            box = boxes.pop()
            if not self._pays(box) or not all(relation.possible(box) for relation in self.relations):
                continue
            ends = ({name: (interval[side],) * 2 for name, interval in box.items()} for side in (0, 1))
            if any(map(self._holds, ends)):
                return True
            name = max(self._related, key=lambda name: box[name][1] - box[name][0])
            low, high = box[name]
            middle = (low + high) // 2
            boxes += [{**box, name: (middle + 1, high)}, {**box, name: (low, middle)}]
        raise SpecError(
            f"profile {self.number} ({self.profile}): {PATIENCE} attempts did not show whether a shape meets "
            f"{' and '.join(repr(relation.text) for relation in self.relations)}: write simpler relations"
        )

    def _holds(self, box: Box) -> bool:
        """Of a box of one point."""
        return self._pays(box) and all(relation.possible(box) for relation in self.relations)

    def _pays(self, box: Box) -> bool:
        """Whether the least of ``box`` is affordable."""
        return self._affordable is None or self._affordable({symbol: box[symbol][0] for symbol in self._symbols})


def spaces(
    profiles: Sequence[Profile], relations: Iterable[str] = (), affordable: Affordable | None = None
) -> tuple[Space, ...]:
    """One space a profile. SpecError when there is none."""
    if isinstance(profiles, Profile) or not all(isinstance(each, Profile) for each in profiles):
        raise SpecError(f"profiles: expected a sequence of Profile, got {profiles!r}")
    if not profiles:
        raise SpecError("profiles: there is none; a model without dynamic dimensions has one empty profile")
    texts = _texts(relations)
    return tuple(Space(profile, texts, affordable, number) for number, profile in enumerate(profiles))


def element_ranges(tensor: str, values: Values) -> tuple[Range, ...]:
    """The range of each element of a shape tensor, which may be below zero. SpecError where they are none."""
    if not len(values.min) == len(values.opt) == len(values.max):
        raise SpecError(f"values of {tensor!r}: min, opt and max hold different counts of numbers: {values}")
    ranges = zip(values.min, values.opt, values.max, strict=True)
    return tuple(checked_range(f"{tensor}[{index}]", Range(*sizes), low=None) for index, sizes in enumerate(ranges))


def checked_range(name: str, sizes: Range, low: int | None = 0) -> Range:
    if not isinstance(sizes, Range):
        raise SpecError(f"{name}: expected a Range, got {sizes!r}")
    if not sizes.min <= sizes.opt <= sizes.max or (low is not None and sizes.min < low):
        least = "" if low is None else f"{low} <= "
        raise SpecError(f"{name}: {sizes} is no range of sizes: it takes {least}min <= opt <= max")
    return sizes


def _texts(relations: Iterable[str]) -> tuple[str, ...]:
    if isinstance(relations, str):
        raise SpecError(f"relations: expected several texts, got one: write ({relations!r},)")
    texts = tuple(relations)
    for text in texts:
        if not isinstance(text, str):
            raise SpecError(f"relations: expected text such as 'kv >= q', got {text!r}")
    return texts
