"""The smallest example that fails, found without drawing: for what no strategy drew, and for crashes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from harness.errors import SpecError
from harness.spec.example import Example
from harness.spec.profile import Profile
from harness.spec.space import Space, spaces

Fails = Callable[[Example], bool]
STEPS = 4  # sizes above the smallest that are tried one by one: what is true of odd sizes alone has no boundary
SEEDS = 4  # data that are tried where those of the example don't fail any more


def minimize(example: Example, fails: Fails, profiles: Sequence[Profile], *, relations: Iterable[str] = ()) -> Example:
    """The smallest example that still ``fails``, from ``example``, which does; the same one every time.

    The earliest profile comes first, then each symbol, and each element of a shape tensor, is brought to
    its minimum, or to the boundary below which nothing fails, by trying the first few sizes and then by
    halving what lies between; again until nothing changes. Where relations link sizes, others follow
    it down. Data count too: where the example's own seed passes, the first few seeds are tried.
    ``fails`` is asked about ten times a symbol, and never twice for one example. An example that lies
    outside is returned as it is. SpecError for profiles or relations that are wrong.
    """
    inside = spaces(profiles, relations)
    if not 0 <= example.profile < len(inside):
        raise SpecError(f"example: profile {example.profile} of {len(inside)}: there is no such profile")
    known = {example: True}

    def asked(candidate: Example) -> bool:
        if candidate not in known:
            known[candidate] = fails(candidate)
        return known[candidate]

    before = None
    while example != before:
        before = example
        example = _earlier(example, asked, inside)
        space = inside[example.profile]
        if not space.admits(space.sizes_of(example)):
            return example
        for name in space.variables:
            example = _lower(example, name, asked, space)
        example = next(filter(asked, _seeds(example, stop=example.seed)), example)
    return example


def _earlier(example: Example, fails: Fails, inside: Sequence[Space]) -> Example:
    """In the first profile in which it fails: as near as that comes to it, or with its maxima for the maxima here."""
    here = inside[example.profile]
    sizes = here.sizes_of(example)
    for space in inside[: example.profile]:
        if sizes.keys() != space.ranges.keys():
            continue
        near = {name: min(max(size, space.ranges[name].min), space.ranges[name].max) for name, size in sizes.items()}
        ends = {name: space.ranges[name].max for name, size in sizes.items() if size == here.ranges[name].max}
        for moved in (near, {**near, **ends}):
            if space.admits(moved) and fails(candidate := space.example(moved, example.seed)):
                return candidate
    return example


def _lower(example: Example, name: str, fails: Fails, space: Space) -> Example:
    """With ``name`` at the least size at which it fails, the others where they are, or below."""
    sizes = space.sizes_of(example)

    def attempt(shape: dict[str, int]) -> Example | None:
        """An example of that shape that fails; None when there is none."""
        candidate = space.example(shape, example.seed)
        return next(filter(fails, (candidate, *_seeds(candidate, stop=SEEDS))), None)

    low, high, found = space.ranges[name].min, sizes[name] - 1, example  # what is open yet: low to high
    for _ in range(STEPS):
        shape = space.fitted(name, low, high, sizes, least=True)
        if shape is None:
            return found
        if (smaller := attempt(shape)) is not None:
            return smaller
        low = shape[name] + 1
    while low <= high:
        middle = (low + high) // 2
        shape = space.fitted(name, low, middle, sizes) or space.fitted(name, middle + 1, high, sizes, least=True)
        if shape is None:
            break
        if (smaller := attempt(shape)) is not None:
            found, high = smaller, shape[name] - 1
        else:
            low = shape[name] + 1
    return found


def _seeds(example: Example, *, stop: int) -> Iterator[Example]:
    """The same shape with the first few seeds."""
    return (replace(example, seed=seed) for seed in range(min(SEEDS, stop)) if seed != example.seed)
