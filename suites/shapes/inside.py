"""All that must hold at one place inside a model's profiles, so that each shape that is drawn serves every check."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import UnsupportedError
from suites.numerics.which import batched, capturing

if TYPE_CHECKING:
    from harness.pytest_plugin.types import (
        Arrays,
        CellOracle,
        Compare,
        Engines,
        Example,
        Handle,
        InputsAt,
        ModelSpec,
        Reference,
        Relation,
        Sessions,
    )
    from harness.spec.space import Space

BESIDE, REPLAYED = 1, 2  # sessions, by number, beside the one that is judged


@pytest.fixture
def inside(
    trt_model: ModelSpec,
    trt_engines: Engines,
    trt_sessions: Sessions,
    trt_spaces: tuple[Space, ...],
    trt_inputs_at: InputsAt,
    trt_oracle: CellOracle,
    trt_compare: Compare,
    trt_relation: Relation,
    trt_can: Callable[[str], bool],
    trt_record: dict[str, Any],
) -> Inside:
    """The checks of one cell. Their engines are built here, before any example is tried."""
    wider = trt_engines(profiles=trt_relation.wider()) if batched(trt_model) else None
    return Inside(
        trt_model,
        trt_sessions,
        trt_spaces,
        trt_inputs_at,
        trt_oracle,
        trt_compare,
        trt_relation,
        wider,
        trt_can("cuda_graph"),
        trt_record,
    )


@dataclass(eq=False)
class Inside:
    """Calling it makes every check at one example."""

    model: ModelSpec
    sessions: Sessions
    spaces: tuple[Space, ...]
    inputs_at: InputsAt
    oracle: CellOracle
    compare: Compare
    relation: Relation
    wider: Handle | None
    graphs: bool  # turns to False when the model turns out to be one that can't be captured
    record: dict[str, Any]

    def __call__(self, example: Example) -> None:
        inputs = self.inputs_at(example)
        got, reference = self.sessions(example.profile).run(inputs), self.oracle(inputs)
        # What the oracle's outputs are worth is judged at the points of the profile: a shape may leave one element.
        self.compare(got, reference, weak="ignore")
        self._rows(example, inputs, got, reference)
        self._padding(example, inputs)
        self._order(example, inputs, got)
        self._replay(example, inputs, got)
        self._width(example, inputs, got, reference)

    def _rows(self, example: Example, inputs: Arrays, got: Arrays, reference: Reference) -> None:
        """Duplicate rows, rows in reverse, and the batch in two parts."""
        relation, session = self.relation.at(example.profile), self.sessions(example.profile)
        if relation.count(inputs) < 2:
            return
        duplicated, permuted = relation.duplicated(inputs), relation.permuted(inputs)
        relation.require_equal_rows(session.run(duplicated), self.oracle(duplicated))
        relation.require_permuted(session.run(permuted), got, self.oracle(permuted))
        halves = relation.halves(inputs)
        if halves:
            relation.require_parts(got, [session.run(half) for half in halves], reference)

    def _padding(self, example: Example, inputs: Arrays) -> None:
        """What the model's masks hide changes nothing that they show."""
        relation, session = self.relation.at(example.profile), self.sessions(example.profile)
        for symbol, short, padded in relation.padded(inputs):
            plain = session.run(short)
            relation.require_padding_hidden(session.run(padded), plain, self.oracle(short), symbol)

    def _order(self, example: Example, inputs: Arrays, got: Arrays) -> None:
        """A then B as B then A, and one session beside another as alone: every bit."""
        other = self.inputs_at(self._smaller(example))
        plain = self.sessions(example.profile)
        with contextlib.closing(self.sessions(example.profile, BESIDE)) as beside:
            first, second = beside.run(other), plain.run(other)
            self.relation.require_same_bits(second, first, "the other shape before this one, in another session", other)
            self.relation.require_same_bits(plain.run(inputs), got, "this shape before the other one", inputs)
            self.relation.require_same_bits(beside.run(inputs), got, "another session, alone", inputs)

    def _replay(self, example: Example, inputs: Arrays, got: Arrays) -> None:
        """A graph captured at this shape with other data, after one of another shape, gives every bit."""
        if not self.graphs:
            return
        with contextlib.closing(self.sessions(example.profile, REPLAYED)) as session:
            try:
                with capturing(self.model):
                    session.run(self.inputs_at(self._smaller(example)), graph=True)
                    session.run(self.inputs_at(replace(example, seed=example.seed + 1)), graph=True)
            except UnsupportedError as error:
                self.graphs, self.record["graph_replay"] = False, f"not covered: {error}"
                return
            self.relation.require_same_bits(session.run(inputs, graph=True), got, "plain enqueue", inputs)

    def _width(self, example: Example, inputs: Arrays, got: Arrays, reference: Reference) -> None:
        """An engine of a wider profile gives the same."""
        if self.wider is not None:
            wide = self.sessions(example.profile, engine=self.wider).run(inputs)
            self.relation.require_alike(wide, got, reference, "the engine of the narrower profile")

    def _smaller(self, example: Example) -> Example:
        """The least shape of the profile, with data of its own.

        No check runs a shape larger than its example's, so that what fails does so at the size that it is told for.
        """
        space = self.spaces[example.profile]
        return space.example(space.least() or {}, example.seed + 1)
