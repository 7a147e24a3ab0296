"""One subject by itself: what each quantity is, how far processes differ, and whether there is one number at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harness.measure.modes import groups
from harness.measure.process import Process
from harness.measure.quantity import Quantity
from harness.measure.samples import flaws
from harness.measure.special import stdtrit
from harness.measure.stats import CONFIDENCE

Array = npt.NDArray[np.float64]
TAIL = 1000  # samples from which on a 99th percentile is told
LEAST_MODES = 8  # processes from which on modes are looked for
NORMAL = 1.4826  # of which times the median distance from the median a standard deviation is made


@dataclass(frozen=True)
class Measured:
    """A quantity over ``processes``, in ``unit``.

    ``median`` is that of the processes' medians, ``low`` to ``high`` the 95 % t interval of their geometric mean,
    None for one process. ``percentiles`` are of all samples, by 50, 90 and 99, the last from `TAIL` samples on.
    ``between`` is the standard deviation of processes, ``within`` that of the samples of one, both relative, None
    where there are none. ``note`` says why there is no one number, "" where there is.
    """

    name: str
    unit: str
    processes: int
    median: float
    low: float | None = None
    high: float | None = None
    percentiles: Mapping[int, float] = field(default_factory=dict)
    between: float | None = None
    within: float | None = None
    note: str = ""
    decides: bool = True


def measured(quantity: Quantity, processes: Sequence[Process]) -> Measured:
    """ValueError where a process has none of this."""
    flat = [quantity.of(process) for process in processes]
    if not flat or any(value is None for value in flat):
        raise ValueError(f"{quantity.name}: a process has none")
    values = np.asarray(flat, np.float64)
    found = interval(values)
    notes = _flawed(quantity, processes)
    notes += [] if notes or not quantity.way else _modes(quantity, values)
    samples = (
        [] if not quantity.way else [process.samples[quantity.way].seconds[quantity.source] for process in processes]
    )
    percentiles, within = {}, None
    if samples:
        every = np.concatenate([1 / one for one in samples] if quantity.metric.more_is_better else samples)
        shares = [share for share in (50, 90, 99) if share < 99 or every.size >= TAIL]
        tail = [100 - share if quantity.metric.more_is_better else share for share in shares]
        percentiles = dict(zip(shares, map(float, np.percentile(every, tail)), strict=True))
        within = float(np.median([_spread(one) for one in samples]))
    return Measured(
        quantity.name,
        quantity.unit,
        values.size,
        float(np.median(values)),
        *found,
        percentiles=percentiles,
        between=float(np.log(values).std(ddof=1)) if values.size > 1 and (values > 0).all() else None,
        within=within,
        note="; ".join(notes),
        decides=quantity.decides,
    )


def interval(values: Array) -> tuple[float | None, float | None]:
    """The 95 % t interval of the geometric mean of ``values``; None, None unless there are two, all above 0."""
    if values.size < 2 or not (values > 0).all():
        return None, None
    if (values == values[0]).all():
        return float(values[0]), float(values[0])  # which its logarithm might not lead back to
    logs = np.log(values)
    half = float(stdtrit(values.size - 1, (1 + CONFIDENCE) / 2)) * float(logs.std(ddof=1)) / values.size**0.5
    middle = float(logs.mean())
    return float(np.exp(middle - half)), float(np.exp(middle + half))


def _flawed(quantity: Quantity, processes: Sequence[Process]) -> list[str]:
    """The flaws of processes' samples, the first in full."""
    spread = _spread(np.array([quantity.of(process) for process in processes], np.float64))
    found = []
    for number, process in enumerate(processes):
        samples = quantity.samples(process)
        if samples is not None:
            words = flaws(samples, quantity.source, spread)
            found += [f"process {number + 1} of {len(processes)}: {flaw}" for flaw in words]
    return [found[0] + (f", and {len(found) - 1} more" if len(found) > 1 else "")] if found else []


def _modes(quantity: Quantity, values: Array) -> list[str]:
    """Two groups of processes, in words.

    Both arms that `groups` asks for are dealt from the ranks in turn, so that they are alike; what does not go
    into whole blocks is left out in the middle.
    """
    if values.size < LEAST_MODES or not (values > 0).all():
        return []
    ranked = np.sort(quantity.metric.cost(values))
    size = ranked.size // 4 * 4
    ends = np.concatenate([ranked[: size // 2], ranked[ranked.size - size // 2 :]])
    found = groups(ends.reshape(-1, 2, 2).swapaxes(-1, -2))
    if not found.clear(quantity.metric.harmless_gap):
        return []
    apart, slow = 100 * float(np.expm1(found.apart)), int(found.slow.sum())
    return [f"two groups of processes {apart:.1f} % apart: {slow} of {size} in the {quantity.metric.worse} one"]


def _spread(values: Array) -> float:
    """A relative standard deviation that a few outliers do not move."""
    middle = float(np.median(values))
    return NORMAL * float(np.median(np.abs(values - middle))) / middle if middle > 0 else 0.0
