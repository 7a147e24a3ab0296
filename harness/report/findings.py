"""What was found of two sides, or of one: as rows for people, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.measure.bench import Measured
from harness.measure.finding import Finding, Said, worst_first
from harness.measure.quantity import BYTES, JOULES, SECONDS, TIMES
from harness.report.layer_diff import diff
from harness.report.layers import read

COLUMNS = ("model", "metric", "A", "B", "", "verdict")
_SCALES = ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (0.0, "n"))


def figure(value: float | None, unit: str) -> str:
    """``124.4 us``, ``1.2 mJ``, ``129,704 bytes``, ``8,064 runs/s``, ``1.7 times``; "" for None."""
    if value is None:
        return ""
    if unit == TIMES:
        return f"{value:.3g} {unit}"
    if unit not in (SECONDS, JOULES):
        return f"{value:,.0f}{' bytes' if unit == BYTES else f' {unit}'}"
    least, name = next(scale for scale in _SCALES if abs(value) >= scale[0])
    return f"{value / (least or 1e-9):.4g} {name}{unit}"


def rows(findings: Iterable[Finding]) -> list[tuple[str, ...]]:
    """In the order of `COLUMNS`, the worst first; what is not covered for one reason is one row."""
    return [
        (
            one.subject,
            one.metric,
            figure(one.a, one.unit),
            figure(one.b, one.unit),
            one.said.value.replace("_", " "),
            one.words,
        )
        for one in worst_first(_folded(findings))
    ]


def _folded(findings: Iterable[Finding]) -> list[Finding]:
    folded: dict[tuple[str, str], Finding] = {}
    others = []
    for one in findings:
        if one.said is not Said.NOT_COVERED or one.a is not None:
            others.append(one)
        elif first := folded.get((one.subject, one.words)):
            folded[one.subject, one.words] = replace(first, metric=f"{first.metric}; {one.metric}")
        else:
            folded[one.subject, one.words] = one
    return [*others, *folded.values()]


def layers(subject: str, told: Mapping[str, Mapping[str, Any]], untold: Mapping[str, str]) -> Finding:
    """Which layers are others in B, from the inspector's own words of both sides, or why there are none.

    It is no reason to stop by itself.
    """
    found = {side: read(words) for side, words in told.items()}
    if len(found) < 2 or not all(one.layers for one in found.values()):
        lacking = {side: untold.get(side, "it tells of none") for side in "AB" if side not in found or side in untold}
        words = "; ".join(dict.fromkeys(lacking.values())) or "an inspector tells of no layer"
        return Finding(subject, "layers", Said.NOT_COVERED, words)
    changed = diff(found["A"], found["B"])
    words = "changed: " + ", ".join(f"{what} {count}" for what, count in changed.counts.items())
    return Finding(
        subject,
        "layers",
        Said.PASS if changed.same else Said.NOTED,
        "the same, as far as they are told" if changed.same else words,
        float(len(found["A"].layers)),
        float(len(found["B"].layers)),
        "layers",
    )


def as_json(finding: Finding) -> dict[str, Any]:
    """All of a finding; changes and intervals in percent, worse above 0."""
    made: dict[str, Any] = {
        "subject": finding.subject,
        "metric": finding.metric,
        "said": finding.said.value,
        "words": finding.words,
        "detail": finding.detail,
        "a": finding.a,
        "b": finding.b,
        "unit": finding.unit,
        "decides": finding.decides,
    }
    verdict = finding.verdict
    if verdict is not None:
        percent = verdict.metric.percent
        made |= {
            "change_percent": _finite(percent(verdict.estimate)),
            "interval_percent": [_finite(percent(verdict.low)), _finite(percent(verdict.high))],
            "visible_percent": _finite(percent(verdict.visible)),
            "p": _finite(verdict.p),
            "blocks": verdict.blocks,
            "reason": verdict.reason,
        }
    return made


def as_fact(finding: Finding) -> dict[str, Any]:
    """As `as_json`, with its "cost" for whoever computes on: log ratios, worse above 0; empty without a verdict."""
    verdict = finding.verdict
    logs = ("estimate", "low", "high", "visible")
    cost = {} if verdict is None else {name: _finite(getattr(verdict, name)) for name in logs}
    return {**as_json(finding), "cost": cost}


def _finite(value: float) -> float | None:
    """None for what JSON can't spell."""
    return value if math.isfinite(value) else None


def bench_rows(measured: Sequence[Measured]) -> list[tuple[str, ...]]:
    """One subject's quantities: median and interval over processes, percentiles of samples, spreads."""
    return [
        (
            one.name,
            figure(one.median, one.unit),
            f"{figure(one.low, one.unit)} to {figure(one.high, one.unit)}" if one.low is not None else "",
            *(figure(one.percentiles.get(share), one.unit) for share in (50, 90, 99)),
            "" if one.between is None else f"{100 * one.between:.2f} %",
            "" if one.within is None else f"{100 * one.within:.2f} %",
            one.note,
        )
        for one in measured
    ]


BENCH_COLUMNS = ("metric", "median", "95 % over processes", "p50", "p90", "p99", "between", "within", "")
