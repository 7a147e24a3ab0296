"""Whether the host is the one that baselines were made on: tonight's canaries against their own baselines.

A canary is a plan that nobody changes, so a move is the host's. Beside a baseline's plan that does no harm, since both
are measured on the host of tonight; a verdict by history alone is void where one moved, and where one is faster, it
takes more than history to pass another plan (`harness.ledger.gate`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import SpecError
from harness.ledger.baselines import Baselines
from harness.ledger.gate import Step, against_history
from harness.measure.canary import MOVE
from harness.measure.metric import Metric
from harness.measure.quantity import every


@dataclass(frozen=True)
class Canary:
    """Medians of its processes tonight, of ``metric`` in its unit; ``key`` is that of its series."""

    name: str
    key: str
    metric: str
    medians: tuple[float, ...]


def write(file: Path, canaries: Iterable[Canary]) -> None:
    """For `read`; whole, or not there."""
    whole = file.with_name(f"{file.name}.tmp")
    whole.write_text(json.dumps([asdict(one) for one in canaries]), encoding="utf-8")
    whole.replace(file)


def read(file: Path) -> tuple[Canary, ...]:
    """SpecError for a file that is not there, or is none of canaries."""
    try:
        return tuple(_canary(one) for one in json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise SpecError(f"{file}: the canaries of a night can't be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise SpecError(f"{file}: not the canaries of a night, as trt-harness nightly leaves them: {error}") from None


def moved(canaries: Iterable[Canary], baselines: Baselines) -> str:
    """Those that are not where their baseline has them, in words; "" where none is, or none has a baseline."""
    return ", ".join(f"canary {one.name}: {step.words(metric)}" for one, step, metric in _moves(canaries, baselines))


def gained(canaries: Iterable[Canary], baselines: Baselines) -> float:
    """By how much the canary that gained most is faster than its baseline, as a log ratio; 0 where none is."""
    return max((0.0, *(-step.estimate for _, step, _ in _moves(canaries, baselines))))


def lost(canaries: Iterable[Canary], baselines: Baselines) -> float:
    """By how much the one that lost most is slower, likewise."""
    return max((0.0, *(step.estimate for _, step, _ in _moves(canaries, baselines))))


def _moves(canaries: Iterable[Canary], baselines: Baselines) -> Iterator[tuple[Canary, Step, Metric]]:
    for one in canaries:
        baseline = baselines.active.get(one.key)
        known = baseline.metrics.get(one.metric) if baseline else None
        if known is None:
            continue
        metric = every()[one.metric].metric
        step = against_history(known, np.array(one.medians), metric)
        if abs(step.estimate) >= MOVE and not step.low <= 0 <= step.high:
            yield one, step, metric


def _canary(told: dict[str, Any]) -> Canary:
    medians = tuple(float(value) for value in told["medians"])
    if not medians or min(medians) <= 0 or str(told["metric"]) not in every():
        raise ValueError(f"{told}")
    return Canary(str(told["name"]), str(told["key"]), str(told["metric"]), medians)
