"""Relations between two runs of one model, with everything that a cell already knows filled in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin.story import Judged, Story
from harness.spec import Interface, ModelSpec, Profile, Range, Recipe, admit
from harness.spec.space import Space

if TYPE_CHECKING:
    from harness.judge.comparison import Comparison
    from harness.judge.oracle import Reference
    from harness.runtime.backend.protocol import Array

    Arrays = Mapping[str, Array]


def has_rows(model: ModelSpec) -> bool:
    """Whether some profile lets the model's batch hold more than one row."""
    return any(
        symbol == model.batch and sizes.max > 1 for profile in model.profiles for symbol, sizes in profile.ranges
    )


class Relation:
    """What `trt_relation` gives. Related inputs first, then what their outputs must be.

    Every ``require`` method raises ComparisonFailure; ``reference`` is the oracle's for the inputs
    that ran, and lends what is known of the outputs, such as which of them are exact.
    """

    def __init__(
        self, story: Story, interface: Interface, require: Callable[[Comparison], None], profile: int | None = None
    ) -> None:
        self._story, self._case, self._interface, self._require = story, story.case, interface, require
        self._profile = self._case.profile if profile is None else profile

    def at(self, profile: int) -> Relation:
        """The same for inputs of another profile than the cell's."""
        return Relation(self._story, self._interface, self._require, profile)

    @property
    def symbol(self) -> str:
        """The dimension whose rows don't influence each other."""
        symbol = self._case.model.batch
        if symbol is None:
            pytest.skip("the model has no dimension whose rows are independent")
        return symbol

    @property
    def rows(self) -> Range:
        """The sizes that this dimension may have in the cell's profile."""
        sizes = dict(self._case.model.profiles[self._profile].ranges).get(self.symbol, Range(1, 1, 1))
        if sizes.max < 2:
            pytest.skip(f"profile {self._profile} lets {self.symbol} be 1 only")
        return sizes

    # Inputs -------------------------------------------------------------------------------------

    def duplicated(self, inputs: Arrays) -> dict[str, Array]:
        """Every row a copy of row 0."""
        from harness.judge.metamorphic import duplicated

        with self._making():
            return duplicated(inputs, self._interface, self._several(inputs))

    def permuted(self, inputs: Arrays) -> dict[str, Array]:
        """The rows in reverse."""
        from harness.judge.metamorphic import permuted

        with self._making():
            return permuted(inputs, self._interface, self._several(inputs), self._order(inputs))

    def parts(self, inputs: Arrays) -> list[dict[str, Array]]:
        """The rows in runs that the profile admits, the shortest that divide the batch."""
        from harness.judge.metamorphic import parts

        count, least = len(self._order(inputs)), self.rows.min
        size = next(size for size in range(max(least, 1), count + 1) if count % size == 0)
        if size == count:
            pytest.skip(f"profile {self._profile} admits no part of {count} rows: {self.symbol} is {self.rows}")
        with self._making():
            return parts(inputs, self._interface, self.symbol, size)

    def wider(self) -> tuple[Profile, ...]:
        """The model's profiles, each with room for twice as many rows."""
        symbol, profiles = self.symbol, []
        for profile in self._case.model.profiles:
            ranges = {name: _twice(sizes) if name == symbol else sizes for name, sizes in profile.ranges}
            profiles.append(replace(profile, ranges=tuple(ranges.items())))
        return tuple(profiles)

    # Inputs, where a test asks for as much as there is --------------------------------------------

    def count(self, inputs: Arrays) -> int:
        """How many rows ``inputs`` hold; 0 for a model without independent rows."""
        with self._making():
            return len(self._order(inputs)) if self._case.model.batch is not None else 0

    def halves(self, inputs: Arrays) -> list[dict[str, Array]]:
        """The rows in two runs; none where the profile admits no batch as small."""
        from harness.judge.metamorphic import parts

        count = self.count(inputs)
        first = (count + 1) // 2
        if count - first < max(self.rows.min, 1):
            return []
        with self._making():
            return parts(inputs, self._interface, self.symbol, first)

    def padded(self, inputs: Arrays) -> list[tuple[str, dict[str, Array], dict[str, Array]]]:
        """By dimension: the inputs cut short, and those again, as long as ``inputs``, the rest hidden by the masks.

        Neither is larger than ``inputs``, so that what fails does so at the size that it is told for.
        """
        from harness.judge.inputs import binding_of
        from harness.judge.metamorphic import cut, hidden_symbols, padded

        model = self._case.model
        masks = [rule.tensor for rule in model.inputs if rule.kind == "mask"]
        hidden = hidden_symbols(self._interface, masks)
        if not hidden:
            return []
        found = []
        with self._making():
            sizes = binding_of(self._interface, inputs)
            space = Space(admit(model.id, model.profiles[self._profile], self._interface), model.relations)
            for symbol in hidden:
                others = {name: size for name, size in sizes.items() if name in space.ranges and name != symbol}
                least = space.least(others) if symbol in space.ranges else None
                shortest = max(least[symbol], 1) if least else sizes[symbol]
                if shortest < sizes[symbol]:
                    short = cut(inputs, self._interface, symbol, shortest)
                    found.append((symbol, short, padded(short, self._interface, symbol, sizes[symbol], masks)))
        return found

    # Outputs ------------------------------------------------------------------------------------

    def require_equal_rows(self, got: Arrays, reference: Reference) -> None:
        """Of `duplicated` inputs: every row as row 0."""
        from harness.judge.metamorphic import judge_duplicates

        self._judge(got, reference.outputs, judge_duplicates, reference, *self._along)

    def require_permuted(self, got: Arrays, straight: Arrays, reference: Reference) -> None:
        """Of `permuted` inputs: the rows of ``straight``, in reverse."""
        from harness.judge.metamorphic import judge_permuted

        interface, symbol, recipe = self._along
        order = self._order(straight, outputs=True)
        self._judge(got, reference.outputs, judge_permuted, straight, reference, interface, symbol, order, recipe)

    def require_parts(self, whole: Arrays, pieces: Sequence[Arrays], reference: Reference) -> None:
        """Of a batch: what its `parts` gave, one after the other."""
        from harness.judge.metamorphic import judge_parts

        self._judge(whole, reference.outputs, judge_parts, pieces, reference, *self._along)

    def require_padding_hidden(self, got: Arrays, plain: Arrays, reference: Reference, symbol: str) -> None:
        """Of `padded` inputs: what ``plain`` ones gave, where it is not of the padding; ``reference`` is for those."""
        from harness.judge.metamorphic import judge_padded

        self._judge(got, None, judge_padded, plain, reference, self._interface, symbol, self._case.recipe)

    def require_alike(self, got: Arrays, want: Arrays, reference: Reference, other: str) -> None:
        """Of another engine, ``other``, for the same inputs: as much alike as two may be that the precision allows."""
        from harness.judge.metamorphic import judge_alike

        self._judge(got, want, judge_alike, want, reference, self._case.recipe, other)

    def require_same_bits(self, got: Arrays, want: Arrays, other: str, inputs: Arrays | None = None) -> None:
        """Of the same plan, run in another way, ``other``, for the same inputs: every bit.

        With those ``inputs``, choices by comparing floats may fall otherwise between equals: see
        `harness.judge.metamorphic.same_bits`. The oracle is asked only where bits differ.
        """
        from harness.judge.metamorphic import same_bits

        def judge(got: Arrays) -> Comparison:
            model, recipe = self._case.model, self._case.recipe
            found = same_bits(got, want, model.id, recipe, other)
            if found.passed or inputs is None or model.source.kind != "onnx":
                return found
            return same_bits(got, want, model.id, recipe, other, self._story.run.oracle.reference(model, inputs))

        self._judge(got, want, judge)

    @property
    def _along(self) -> tuple[Interface, str, Recipe]:
        return self._interface, self.symbol, self._case.recipe

    def _making(self) -> contextlib.AbstractContextManager[None]:
        """The time inside goes into inputs."""
        return self._story.spending("inputs")

    def _judge(
        self, got: Arrays, expected: Arrays | None, judge: Callable[..., Comparison], *arguments: object
    ) -> None:
        """``expected`` is what ``got`` should be, for whoever runs it without us; None when there is no saying."""
        with self._story.spending("compare"):
            comparison = judge(got, *arguments)
        self._story.judged = Judged(got, expected, comparison)
        self._require(comparison)

    def _several(self, inputs: Arrays) -> str:
        """`symbol`, of which ``inputs`` must hold several rows: one alone is equal to itself, and shows nothing."""
        if len(self._order(inputs)) < 2:
            pytest.skip(f"the inputs hold one row: {self.symbol} is 1 here")
        return self.symbol

    def _order(self, arrays: Arrays, *, outputs: bool = False) -> list[int]:
        from harness.judge.metamorphic import carried

        axes = carried(self._interface.outputs if outputs else self._interface.inputs, self.symbol)
        name, axis = next(iter(axes.items()))
        return list(reversed(range(arrays[name].shape[axis])))


def _twice(sizes: Range) -> Range:
    return replace(sizes, max=2 * sizes.max)
