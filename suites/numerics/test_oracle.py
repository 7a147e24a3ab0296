"""Every model gives what the oracle gives: at every point of every profile, and again with new inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from suites.numerics.which import explored, judged

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Arrays, CellOracle, Compare, Handle, MakeInputs, Question, Session


@pytest.mark.trt(models=judged)
def test_matches_oracle(trt_session: Session, trt_inputs: Arrays, trt_oracle: CellOracle, trt_compare: Compare) -> None:
    trt_compare(trt_session.run(trt_inputs), trt_oracle(trt_inputs))


@pytest.mark.trt(models=explored, points="opt")
def test_follows_new_inputs(
    trt_session: Session, trt_make_inputs: MakeInputs, trt_oracle: CellOracle, trt_compare: Compare
) -> None:
    """A second run owes nothing to the first, whose shapes are the same."""
    trt_session.run(trt_make_inputs())
    inputs = trt_make_inputs(seed=1)
    trt_compare(trt_session.run(inputs), trt_oracle(inputs))


@pytest.mark.trt(models=lambda model: model.golden is not None, over=("model", "precision", "backend"))
def test_matches_golden_outputs(trt_engine: Handle, trt_golden: Question, trt_compare: Compare) -> None:
    session = trt_engine.session(trt_golden.profile)
    trt_compare(session.run(trt_golden.inputs), trt_golden.reference())
