"""Relations between two runs of one model, with everything that a cell already knows filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin.story import Story
from harness.spec import Interface, ModelSpec, Profile, Range

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

    def __init__(self, story: Story, interface: Interface, require: Callable[[Comparison], None]) -> None:
        self._story, self._case, self._interface, self._require = story, story.case, interface, require

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
        sizes = dict(self._case.model.profiles[self._case.profile].ranges).get(self.symbol, Range(1, 1, 1))
        if sizes.max < 2:
            pytest.skip(f"profile {self._case.profile} lets {self.symbol} be 1 only")
        return sizes

    # Inputs -------------------------------------------------------------------------------------

    def duplicated(self, inputs: Arrays) -> dict[str, Array]:
        """Every row a copy of row 0."""
        from harness.judge.metamorphic import duplicated

        return duplicated(inputs, self._interface, self._several(inputs))

    def permuted(self, inputs: Arrays) -> dict[str, Array]:
        """The rows in reverse."""
        from harness.judge.metamorphic import permuted

        return permuted(inputs, self._interface, self._several(inputs), self._order(inputs))

    def parts(self, inputs: Arrays) -> list[dict[str, Array]]:
        """The rows in runs that the profile admits, the shortest that divide the batch."""
        from harness.judge.metamorphic import parts

        count, least = len(self._order(inputs)), self.rows.min
        size = next(size for size in range(max(least, 1), count + 1) if count % size == 0)
        if size == count:
            pytest.skip(f"profile {self._case.profile} admits no part of {count} rows: {self.symbol} is {self.rows}")
        return parts(inputs, self._interface, self.symbol, size)

    def wider(self) -> tuple[Profile, ...]:
        """The model's profiles, the cell's own with room for twice as many rows."""
        profiles = list(self._case.model.profiles)
        ranges = dict(profiles[self._case.profile].ranges)
        ranges[self.symbol] = replace(self.rows, max=2 * self.rows.max)
        profiles[self._case.profile] = replace(profiles[self._case.profile], ranges=tuple(sorted(ranges.items())))
        return tuple(profiles)

    # Outputs ------------------------------------------------------------------------------------

    def require_equal_rows(self, got: Arrays, reference: Reference) -> None:
        """Of `duplicated` inputs: every row as row 0."""
        from harness.judge.metamorphic import judge_duplicates

        self._judge(judge_duplicates, got, reference, self._interface, self.symbol, self._case.recipe)

    def require_permuted(self, got: Arrays, straight: Arrays, reference: Reference) -> None:
        """Of `permuted` inputs: the rows of ``straight``, in reverse."""
        from harness.judge.metamorphic import judge_permuted

        order = self._order(straight, outputs=True)
        self._judge(judge_permuted, got, straight, reference, self._interface, self.symbol, order, self._case.recipe)

    def require_parts(self, whole: Arrays, pieces: Sequence[Arrays], reference: Reference) -> None:
        """Of a batch: what its `parts` gave, one after the other."""
        from harness.judge.metamorphic import judge_parts

        self._judge(judge_parts, whole, pieces, reference, self._interface, self.symbol, self._case.recipe)

    def require_alike(self, got: Arrays, want: Arrays, reference: Reference, other: str) -> None:
        """Of another engine, ``other``, for the same inputs: as much alike as the precision allows."""
        from harness.judge.metamorphic import judge_alike

        self._judge(judge_alike, got, want, reference, self._case.recipe, other)

    def require_same_bits(self, got: Arrays, want: Arrays, other: str) -> None:
        """Of the same plan, run in another way, ``other``, for the same inputs: every bit."""
        from harness.judge.metamorphic import same_bits

        self._judge(same_bits, got, want, self._case.model.id, self._case.recipe, other)

    def _judge(self, judge: Callable[..., Comparison], *arguments: object) -> None:
        with self._story.spending("compare"):
            comparison = judge(*arguments)
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
