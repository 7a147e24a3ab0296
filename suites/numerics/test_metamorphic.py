"""What must hold between two runs, whatever the numbers are.

The oracle only lends what it knows of the outputs, such as which of them are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from suites.numerics.which import batched, capturing, explored

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Arrays, CellOracle, Engines, Handle, MakeInputs, Relation, Session
    from harness.spec import ModelSpec

rows = pytest.mark.trt(models=batched, points="max")
one_point = pytest.mark.trt(models=explored, points="opt")


@rows
def test_duplicate_rows_are_equal(
    trt_session: Session, trt_inputs: Arrays, trt_oracle: CellOracle, trt_relation: Relation
) -> None:
    inputs = trt_relation.duplicated(trt_inputs)
    trt_relation.require_equal_rows(trt_session.run(inputs), trt_oracle(inputs))


@rows
def test_permuted_rows_permute(
    trt_session: Session, trt_inputs: Arrays, trt_oracle: CellOracle, trt_relation: Relation
) -> None:
    inputs = trt_relation.permuted(trt_inputs)
    trt_relation.require_permuted(trt_session.run(inputs), trt_session.run(trt_inputs), trt_oracle(inputs))


@rows
def test_a_batch_is_its_parts(
    trt_session: Session, trt_inputs: Arrays, trt_oracle: CellOracle, trt_relation: Relation
) -> None:
    pieces = [trt_session.run(part) for part in trt_relation.parts(trt_inputs)]
    trt_relation.require_parts(trt_session.run(trt_inputs), pieces, trt_oracle(trt_inputs))


@rows
def test_a_wider_profile_changes_nothing(
    trt_profile: int,
    trt_session: Session,
    trt_engines: Engines,
    trt_inputs: Arrays,
    trt_oracle: CellOracle,
    trt_relation: Relation,
) -> None:
    wider = trt_engines(profiles=trt_relation.wider()).session(trt_profile)
    want, reference = trt_session.run(trt_inputs), trt_oracle(trt_inputs)
    trt_relation.require_alike(wider.run(trt_inputs), want, reference, "the engine of the narrower profile")


@one_point
def test_a_rebuild_stays_inside_tolerance(
    trt_profile: int,
    trt_session: Session,
    trt_engines: Engines,
    trt_inputs: Arrays,
    trt_oracle: CellOracle,
    trt_relation: Relation,
) -> None:
    again = trt_engines(rebuilt=True).session(trt_profile)
    want, reference = trt_session.run(trt_inputs), trt_oracle(trt_inputs)
    trt_relation.require_alike(again.run(trt_inputs), want, reference, "the first build")


@one_point
def test_sessions_do_not_disturb_each_other(
    trt_profile: int, trt_session: Session, trt_engine: Handle, trt_make_inputs: MakeInputs, trt_relation: Relation
) -> None:
    inputs = trt_make_inputs()
    alone = trt_session.run(inputs)
    other = trt_engine.session(trt_profile)
    other.run(trt_make_inputs(seed=1))
    trt_relation.require_same_bits(trt_session.run(inputs), alone, "the same session, alone", inputs)
    trt_relation.require_same_bits(other.run(inputs), alone, "another session, alone", inputs)


@pytest.mark.trt(models=explored, points="opt", needs="cuda_graph")
def test_graph_replay_is_plain_enqueue(
    trt_model: ModelSpec, trt_session: Session, trt_make_inputs: MakeInputs, trt_relation: Relation
) -> None:
    """Replayed on inputs other than those of the capture, so that a stale buffer shows."""
    inputs = trt_make_inputs(seed=1)
    plain = trt_session.run(inputs)
    with capturing(trt_model):
        trt_session.run(trt_make_inputs(), graph=True)
    trt_relation.require_same_bits(trt_session.run(inputs, graph=True), plain, "plain enqueue", inputs)
