"""From raw samples of processes to the medians that are compared: what is wrong with a process, and what that costs.

A median of a process speaks for it only where its samples are of one piece. Flaws are of two kinds. A
warm-up without end and a drift happen to honest measurements now and then: the block of such a process is
left out, all four, since one arm alone must never be thinned; where it happens often, there is no one number to
compare, and the cell is UNSTABLE. Samples out of order, and times that had no room in the time that passed,
never happen to an honest measurement: one process of that kind, and nothing is concluded.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harness.measure.interleave import by_arm
from harness.measure.metric import Metric
from harness.measure.stats import process_medians, resolution
from harness.measure.verdict import Outcome, Verdict, judge
from harness.runtime.sampling import GPU, Samples, half_width

Array = npt.NDArray[np.float64]

DRIFT = 0.005  # relative; medians of a hundred samples of one process were up to .16 % apart on an H200
CHANCE = 2.0  # intervals of the two halves that their medians must be apart: 4 standard errors
BESIDE = 2.0  # what processes differ by anyway, in standard deviations, which a drift must exceed to matter
ROOM = 1.01  # of the time that passed, which samples must fit into: two clocks may differ
SHARE = 0.003  # of it that they must fill: less than any host's overhead leaves, more than a thousandth
SPARED = 4  # one block of so many may be left out
ALIKE = 1.5  # how many runs lie between two events may differ by this factor between processes


class Flaw(str, enum.Enum):
    """What is wrong with the samples of one process."""

    COLD = "the warm-up never became flat"
    DRIFT = "its second half is not like its first"
    DISORDER = "samples are out of order in time"
    UNIT = "times do not fit into the time that passed"

    @property
    def happens(self) -> bool:
        """Whether it may befall an honest measurement."""
        return self in (Flaw.COLD, Flaw.DRIFT)


@dataclass(frozen=True)
class Found:
    """A flaw of one process, with the figures that show it."""

    flaw: Flaw
    figures: str = ""

    def __str__(self) -> str:
        return f"{self.flaw.value}: {self.figures}" if self.figures else self.flaw.value


def flaws(samples: Samples, metric: str, spread: float = 0.0) -> tuple[Found, ...]:
    """What is wrong with one process's samples of ``metric``.

    ``spread`` is the standard deviation, relative, of what processes differ by: a drift below that
    changes nothing. KeyError where the metric was not measured.
    """
    found = []
    if (np.diff(samples.at[metric]) < 0).any():
        back = int(np.argmax(np.diff(samples.at[metric]) < 0))
        found.append(Found(Flaw.DISORDER, f"sample {back + 1} began before sample {back}"))
    if misfit := _misfit(samples, metric):
        found.append(Found(Flaw.UNIT, misfit))
    if not samples.flat:
        found.append(Found(Flaw.COLD, f"in {samples.warmup[samples.leading].size} samples"))
    if drift := _drift(samples.seconds[metric], spread):
        found.append(Found(Flaw.DRIFT, drift))
    return tuple(found)


def _misfit(samples: Samples, metric: str) -> str:
    seconds = samples.seconds[metric]
    if not ((seconds > 0) & (seconds < np.inf)).all():
        return f"{metric} of {float(seconds[~((seconds > 0) & (seconds < np.inf))][0])} s"
    passed = min(samples.elapsed, samples.wall or samples.elapsed)
    runs = samples.replays if metric == samples.leading else 1
    told = float(seconds.mean()) * samples.taken[metric] * runs
    if samples.wall and samples.elapsed > samples.wall * ROOM:
        return f"{samples.elapsed:.3g} s of sampling in a call of {samples.wall:.3g} s"
    if told > passed * ROOM:
        return f"{told:.3g} s of {metric} in {passed:.3g} s"
    if metric == samples.leading and told < passed * SHARE:
        return f"no more than {told:.3g} s of {metric} in {passed:.3g} s"
    return ""


def _drift(seconds: Array, spread: float) -> str:
    first, second = np.array_split(seconds, 2)
    if not first.size or not second.size:
        return ""
    before, after = float(np.median(first)), float(np.median(second))
    if not (before > 0 and after > 0):
        return ""
    chance = CHANCE * math.hypot(half_width(first), half_width(second))
    moved = after / before - 1
    if abs(math.log1p(moved)) <= max(DRIFT, chance, BESIDE * spread):
        return ""
    return f"{'slower' if moved > 0 else 'faster'} by {100 * abs(moved):.1f} %"


@dataclass(frozen=True)
class Sifted:
    """What is left to compare: medians in seconds, (metrics, blocks, 2, 2), of the blocks without a flaw.

    ``ticks`` are the relative resolutions of the clocks, by metric. ``found`` has the flaws of every process, in
    the order of time, in words that begin with its number. Where ``outcome`` is set it is the verdict
    on all metrics, for this ``reason``, whatever the medians say, and nothing is left out of them. ``sound`` says
    which of all blocks they are of.
    """

    medians: Array
    sound: npt.NDArray[np.bool_]
    ticks: tuple[float, ...]
    found: tuple[str, ...] = ()
    outcome: Outcome | None = None
    reason: str = ""


def sift(processes: Sequence[Samples], arms: npt.NDArray[np.int8], metrics: Sequence[str]) -> Sifted:
    """The medians of ``processes``, in the order in which they ran: as ``arms`` (blocks, 4) says (`interleaved`).

    ValueError where there are more or fewer of them, or one has no samples; KeyError for a metric that
    one of them did not measure.
    """
    if arms.ndim != 2 or len(processes) != arms.size:
        raise ValueError(f"{len(processes)} processes for arms of shape {arms.shape}: one each, of (blocks, 4)")
    flat = [process_medians(one.seconds[metric] for one in processes) for metric in metrics]
    medians = np.stack([by_arm(row.reshape(arms.shape), arms) for row in flat])
    ticks = tuple(float(np.median([resolution(one.seconds[name]) for one in processes])) for name in metrics)
    spreads = [_spread(one) for one in medians]
    found: list[str] = []
    broken: list[str] = []
    flawed = np.zeros(len(processes), np.bool_)
    for number, one in enumerate(processes):
        seen = {
            (
                flaw.flaw,
                name if flaw.flaw is not Flaw.COLD else "",
            ): f"process {number + 1} of {len(processes)}, {name}: {flaw}"
            for name, spread in zip(metrics, spreads, strict=True)
            for flaw in flaws(one, name, spread)
        }
        flawed[number] = bool(seen)
        found += seen.values()
        broken += [words for (flaw, _), words in seen.items() if not flaw.happens]
    sifted = Sifted(medians, np.ones(len(arms), np.bool_), ticks, tuple(found))
    if broken:
        return replace(sifted, outcome=Outcome.INCONCLUSIVE, reason=_with_more(broken))
    replays = sorted(one.replays for one in processes)
    if GPU in metrics and replays[-1] > ALIKE * replays[0]:
        reason = f"between two events lie {replays[0]} runs in one process and {replays[-1]} in another"
        return replace(sifted, outcome=Outcome.INCONCLUSIVE, reason=reason)
    sound = np.asarray(~flawed.reshape(arms.shape).any(axis=1))
    left_out = int((~sound).sum())
    if left_out > sound.size // SPARED or sound.sum() < min(2, sound.size):
        return replace(sifted, outcome=Outcome.UNSTABLE, reason=_with_more(found))
    return replace(sifted, medians=medians[:, sound], sound=sound)


def judged(processes: Sequence[Samples], arms: npt.NDArray[np.int8], metrics: Sequence[Metric]) -> list[Verdict]:
    """The verdict on each of ``metrics``, which are called as in `Samples`; errors as in `sift` and `judge`."""
    sifted = sift(processes, arms, [metric.name for metric in metrics])
    verdicts = []
    for medians, tick, metric in zip(sifted.medians, sifted.ticks, metrics, strict=True):
        verdict = judge(medians, replace(metric, tick=max(metric.tick, tick)))
        verdicts.append(verdict if sifted.outcome is None else verdict.overruled(sifted.outcome, sifted.reason))
    return verdicts


def _spread(medians: Array) -> float:
    """What the processes of one arm differ by, in logs: a standard deviation that a fifth of them can't move far.

    The median distance from the arm's median, 1.4826 of which are a standard deviation of the normal distribution.
    """
    with np.errstate(all="ignore"):
        logs = np.log(medians).swapaxes(-2, -3).reshape(2, -1)
    away = np.abs(logs - np.median(logs, axis=-1, keepdims=True))
    spread = 1.4826 * float(np.median(away))
    return spread if math.isfinite(spread) else 0.0


def _with_more(words: Sequence[str]) -> str:
    return words[0] + (f", and {len(words) - 1} more" if len(words) > 1 else "")
