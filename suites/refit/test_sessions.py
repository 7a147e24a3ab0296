"""A refit reaches sessions that are open, and graphs that were captured before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import RunError
from suites.numerics.which import capturing
from suites.refit.subject import Refits, same_bits
from suites.refit.subject import refits as refits
from suites.refit.which import refitted

if TYPE_CHECKING:
    from harness.pytest_plugin.types import ModelSpec

AXES = ("model", "precision", "backend")


@pytest.mark.trt(models=refitted, precisions="fp32", needs="refit_named", over=AXES)
def test_refit_under_open_sessions(refits: Callable[..., Refits]) -> None:
    """One that has run, one that has not, and one made afterwards give the same, and it is the new."""
    subject = refits()
    names, ran, idle = subject.listed(), subject.session(), subject.session()
    start = subject.run(ran)
    changed = subject.changed(names)
    for model in (changed, subject.model):
        subject.bring(model, names)
        got = subject.run(ran)
        if model is changed:
            subject.judge(got, changed)
        for session in (idle, subject.session()):
            subject.relation.require_same_bits(subject.run(session), got, "the session that had run before the refit")
    subject.require_start(got, start)


@pytest.mark.trt(
    models=refitted, precisions="fp32", variants=("dropped", "kept"), needs=("refit_named", "cuda_graph"), over=AXES
)
def test_refit_under_a_graph(
    trt_model: ModelSpec, trt_variant: str, refits: Callable[..., Refits], trt_record: dict[str, Any]
) -> None:
    """A graph captured before: dropped, as our sessions do it, or kept: then it is new as well, or refused."""
    subject = refits()
    names, session = subject.listed(), subject.session()
    plain = subject.run(session)
    with capturing(trt_model):
        start = subject.run(session, graph=True)
    subject.require_start(start, plain)
    changed = subject.changed(names)
    subject.bring(changed, names, keep_graphs=trt_variant == "kept")
    try:
        got = subject.run(session, graph=True)
    except RunError as error:
        if trt_variant != "kept" or error.crash is not None:
            raise
        trt_record["replay"] = f"refused: {error.message}"
    else:
        assert not same_bits(got, start), "the graph was captured before the refit, and replays the old weights"
        subject.judge(got, changed)
        trt_record["replay"] = "of the new weights"
    subject.judge(subject.run(session), changed)
    subject.bring(subject.model, names)
    subject.require_start(subject.run(session, graph=True), start)
