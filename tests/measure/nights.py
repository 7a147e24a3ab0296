"""Nights made of logs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from harness.measure.epochs import Night

FIRST = datetime(2026, 1, 1)
SIGMA = 0.005


def flat(seed: int, size: int = 120) -> np.ndarray:
    """White noise of a deviation of `SIGMA`."""
    return SIGMA * np.random.default_rng(seed).standard_normal(size)


def nights(
    logs: npt.ArrayLike,
    *,
    environment: Mapping[int, Mapping[str, str]] | None = None,
    canary: npt.ArrayLike | None = None,
    half: float = 0.004,
) -> list[Night]:
    """One a day, of about 1 ms; ``environment`` by its first night, ``canary`` in logs, NaN where there is none."""
    found = []
    current: Mapping[str, str] = {}
    watched = np.asarray(canary, float) if canary is not None else None
    for number, log in enumerate(np.asarray(logs, float)):
        current = (environment or {}).get(number, current)
        seen = None if watched is None or np.isnan(watched[number]) else float(np.exp(watched[number]))
        value, low, high = (float(np.exp(one)) for one in (log, log - half, log + half))
        night = Night(FIRST + timedelta(days=number), value, low, high, f"s{number}", f"c{number}", dict(current), seen)
        found.append(night)
    return found
