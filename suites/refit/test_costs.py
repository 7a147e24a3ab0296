"""What it costs that weights can be replaced. Figures are recorded, and none is judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from suites.refit.subject import Refits
from suites.refit.subject import refits as refits
from suites.refit.which import refitted

if TYPE_CHECKING:
    from harness.pytest_plugin.types import Engines

RUNS = 20


@pytest.mark.trt(models=refitted, precisions="fp32", needs="refit_named", over=("model", "precision", "backend"))
def test_refit_costs(refits: Callable[..., Refits], trt_engines: Engines, trt_record: dict[str, Any]) -> None:
    """An engine built for refits beside a plain one: the same results, seconds of a run as the host sees them."""
    subject = refits()
    plain = trt_engines()
    sessions = {"plain": plain.session(subject.profile), "refittable": subject.session()}
    outputs = {name: subject.run(session) for name, session in sessions.items()}
    reference = subject.judge(outputs["refittable"], subject.model)
    subject.relation.require_alike(outputs["refittable"], outputs["plain"], reference, "the engine without REFIT")
    best = dict.fromkeys(sessions, float("inf"))
    for _ in range(RUNS):  # in turn, so that what changes meanwhile changes both
        for name, session in sessions.items():
            started = time.perf_counter()
            subject.run(session)
            best[name] = min(best[name], time.perf_counter() - started)
    trt_record["host_side_run_seconds"] = best
    trt_record["host_side_slowdown"] = best["refittable"] / best["plain"]
    trt_record["plan_bytes"] = {"plain": plain.plan_size, "refittable": subject.engine.plan_size}
