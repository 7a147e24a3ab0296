"""One builder against another: several builds a side, and whether they differ by more than the lottery of builds.

A builder that times tactics picks another of two that are near, so that builds of one spec differ, and any two plans
say nothing of what builds them. So two things have to be shown before a change is called one (`judge_builds`):

- that these builds differ, by their processes around the mean of their own build: an analysis of variance, as sure as
  a gate asks for;
- that they differ by more than builds of one side do among themselves: Welch's t over the means of builds. Few
  builds can't be as sure as many processes, so this is asked at `LOTTERY`, of each cell by itself and of all looks
  together: shared among forty cells it would find hardly any change that a lottery is beside
  (`benchmarks/test_builders.py`). So the words say how rarely equal builders differ as much.

What shows the first and not the second is INCONCLUSIVE, and its words say how far the builds are apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harness.measure.blocks import Batch, Blocks, sound_values
from harness.measure.contest import overruled, tick
from harness.measure.finding import Finding, Said, of_both
from harness.measure.metric import Metric
from harness.measure.modes import groups
from harness.measure.protocol import Stages
from harness.measure.quantity import Quantity, covered
from harness.measure.runner import Runner, SideFailed
from harness.measure.special import stdtr, stdtrit
from harness.measure.stats import CONFIDENCE, LEVEL, POWER, ROUNDING
from harness.measure.verdict import LEAST, Outcome, Verdict, floor

Array = npt.NDArray[np.float64]
BUILDS = 3  # a side, at least, to say how far they are apart
LOTTERY = 0.01  # one-sided: how rarely builds of equal builders may differ by as much, by chance
DOMINATED = 3.0  # times the error of processes: where that of builds is larger, more processes tell nothing more
ROUNDS = (1, 1, 2, 4)  # by look, how often two more processes of every build are measured
SHARES = (0.05, 0.15, 0.3, 0.5)  # of the errors, by look


@dataclass(frozen=True)
class Spread:
    """What builds of a side cost in the mean: a log ratio of B over A, with two errors and their degrees of freedom."""

    estimate: float
    process: float  # the standard deviation of processes around their build
    within: float
    within_degrees: float
    between: float
    between_degrees: float

    @property
    def p_processes(self) -> float:
        """That these builds are equal, one-sided, in the direction of the estimate."""
        return float(stdtr(self.within_degrees, -abs(self.estimate) / self.within))

    @property
    def p_builds(self) -> float:
        """That what builds them is; 1 where nobody knows."""
        return float(stdtr(self.between_degrees, -abs(self.estimate) / self.between)) if self.between_degrees else 1.0

    @property
    def half(self) -> float:
        """Of the wider interval at `CONFIDENCE`."""
        return max(float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * error for error, degrees, _ in self._asked)

    @property
    def visible(self) -> float:
        """The smallest change that both tests see with `POWER`, as a log ratio."""
        return max(float(stdtrit(d, 1 - level) + stdtrit(d, POWER)) * error for error, d, level in self._asked)

    @property
    def _asked(self) -> list[tuple[float, float, float]]:
        tests = (self.within, self.within_degrees, LEVEL), (self.between, self.between_degrees, LOTTERY)
        return [test for test in tests if test[1]]


def spread_of(a: Sequence[Array], b: Sequence[Array], rounding: float = 0.0) -> Spread:
    """Of logs of processes, by build. ValueError without two processes of some build.

    ``rounding`` is the standard deviation that a clock's step hides. A side of fewer than two builds says nothing of
    their spread, which then counts as without limit, with no degree of freedom.
    """
    arms = (a, b)
    means = [np.array([one.mean() for one in arm]) for arm in arms]
    left = np.concatenate([one - one.mean() for arm in arms for one in arm])
    degrees = left.size - len(a) - len(b)
    if degrees < 1:
        raise ValueError(f"{left.size} processes of {len(a) + len(b)} builds: two of some build at least")
    process = float(np.sqrt(np.square(left).sum() / degrees + rounding**2 + ROUNDING**2))
    within = process * float(np.sqrt(sum(1 / one.size / len(arm) ** 2 for arm in arms for one in arm)))
    if min(len(a), len(b)) < 2:
        return Spread(float(means[1].mean() - means[0].mean()), process, within, degrees, np.inf, 0)
    # Two builds that happen to agree promise nothing: their means are no surer than their processes make them.
    sure = [process**2 * float(np.mean([1 / one.size for one in arm])) for arm in arms]
    parts = [max(float(one.var(ddof=1)), least) / one.size for one, least in zip(means, sure, strict=True)]
    welch = sum(parts) ** 2 / sum(part**2 / (one.size - 1) for part, one in zip(parts, means, strict=True))
    return Spread(float(means[1].mean() - means[0].mean()), process, within, degrees, sum(parts) ** 0.5, welch)


def judge_builds(a: Sequence[Array], b: Sequence[Array], metric: Metric, level: float) -> tuple[Verdict, bool]:
    """The verdict on what was measured, above 0, of the processes of each build of both sides.

    REGRESSION where B costs more by the one-sided ``level`` around builds, by `LOTTERY` over builds, and by the cell's
    own `floor`; IMPROVEMENT likewise. UNSTABLE where the processes of one build have two modes. Else PASS where the
    wider of both intervals ends below the tolerance, and INCONCLUSIVE where not. A side of fewer than `BUILDS` shows no
    change of a builder. Beside it whether more processes of these builds would hardly say anything else. ValueError as
    in `spread_of`.
    """
    logs = [[np.log(metric.cost(one)) for one in arm] for arm in (a, b)]
    found = spread_of(logs[0], logs[1], metric.tick / 12**0.5)
    verdict = Verdict(
        Outcome.PASS,
        metric,
        estimate=found.estimate,
        low=found.estimate - found.half,
        high=found.estimate + found.half,
        visible=max(found.visible, LEAST, metric.tick),
        floor=float(floor(found.process, metric.tick)),
        p=max(found.p_processes, found.p_builds),
        level=level,
        blocks=sum(one.size for one in a) // 2,
    )
    modes = groups(_centred(logs), tick=metric.tick)
    if modes.clear(metric.harmless_gap):
        return verdict.overruled(Outcome.UNSTABLE, f"of one build: {modes}"), True
    changed = found.p_processes < level and abs(found.estimate) >= verdict.floor
    few = min(len(a), len(b)) < BUILDS
    if changed and found.p_builds < LOTTERY and not few:
        once = min(0.5 / found.p_builds, 1e6)  # cells: either builder may be the slower one
        rarely = f"equal builders are as far apart in one cell of {once:,.0f}"
        return verdict.overruled(Outcome.REGRESSION if found.estimate > 0 else Outcome.IMPROVEMENT, rarely), True
    if verdict.high < metric.tolerance:
        return verdict, True
    if few:
        why = f"{len(a)} and {len(b)} builds: {BUILDS} a side tell a change of the builder from a lottery of builds"
        return verdict.overruled(Outcome.INCONCLUSIVE, why), changed
    lottery = found.between > DOMINATED * found.within
    why = f"builds of A are {_apart(logs[0])} % apart, of B {_apart(logs[1])} %"
    return verdict.overruled(Outcome.INCONCLUSIVE, f"a lottery of builds: {why}" if changed else why), lottery


def _centred(logs: Sequence[Sequence[Array]]) -> Array:
    """Costs of the processes around the mean of their side, (blocks, 2, 2), as if all builds of a side were equal."""
    arms = [np.concatenate([one - one.mean() for one in arm]) for arm in logs]
    count = min(one.size for one in arms) // 2
    return np.asarray(np.exp(np.stack([one[: 2 * count].reshape(count, 2) for one in arms], axis=1)))


def _apart(logs: Sequence[Array]) -> str:
    return f"{100 * float(np.expm1(np.ptp([one.mean() for one in logs]))):.2g}"


@dataclass(eq=False)
class Builders:
    """``runner`` has two sides, each with the plans of several builds, which its processes take in turn.

    ``subjects`` is how many share the errors of one session.
    """

    runner: Runner
    quantities: Sequence[Quantity]
    subjects: int = 1

    def run(self) -> list[Finding]:
        """What is said of every quantity, as soon as all are settled; or that a side failed."""
        blocks = Blocks(self.runner, self.quantities)
        builds = [max(len(side.plans), 1) for side in self.runner.sides]
        batches: list[Batch] = []
        findings: list[Finding] = []
        for more, share in zip(ROUNDS, SHARES, strict=True):
            try:
                batches.append(blocks.measured(more * max(builds)))
            except SideFailed as failed:
                return [*findings, failed.finding(self.runner.name)]
            findings, settled = self._judged(batches, builds, Stages.alpha * share / self.subjects)
            if settled:
                break
        return findings

    def _judged(self, batches: Sequence[Batch], builds: Sequence[int], level: float) -> tuple[list[Finding], bool]:
        """What is said so far, and whether that is the end of it."""
        processes = [process for batch in batches for process in batch.processes]
        found, missing = covered(self.quantities, processes)
        said = [Finding(self.runner.name, name, Said.NOT_COVERED, why) for name, why in missing.items()]
        settled = True
        for one in found:
            metric = replace(one.metric, tick=tick(one, processes))
            every = np.concatenate([batch.values(one) for batch in batches])
            void = next((batch for batch in batches if batch.voids(one)), None)
            if void is not None:
                verdict = overruled(void, one, metric)
            else:
                sound = np.concatenate([batch.sound for batch in batches])
                mine, its = (by_build(every[:, arm], sound, count) for arm, count in enumerate(builds))
                verdict, over = judge_builds(mine, its, metric, level)
                settled &= over
            a, b = of_both(sound_values(batches, one), verdict)
            said.append(Finding.of(self.runner.name, one, verdict, a, b))
        return said, settled


def by_build(values: Array, sound: npt.NDArray[np.bool_], builds: int) -> list[Array]:
    """``values`` (blocks, 2) of one side, in the order of time, by the build that each process ran; of sound blocks."""
    number = np.arange(values.size).reshape(values.shape) % builds
    found = [values[sound[:, None] & (number == build)] for build in range(builds)]
    return [one for one in found if one.size]


def by_plan(plans: Sequence[str], values: Array) -> dict[str, Array]:
    """``values`` of processes that took ``plans`` in turn. Builds that gave the very same plan are one plan."""
    turn = np.arange(values.size) % len(plans)
    of = {plan: np.isin(turn, [place for place, one in enumerate(plans) if one == plan]) for plan in plans}
    return {plan: values[mine] for plan, mine in of.items() if mine.any()}


def slowest(each: Mapping[str, Array], metric: Metric) -> tuple[str, float, float]:
    """The plan that costs most, by how much more than the others (a log ratio), and how rarely that is by chance.

    That is one-sided, of any of them (Bonferroni), by tonight's processes around their plan; 1 where some plan has a
    single process, which may be an odd one.
    """
    logs = {plan: np.log(metric.cost(values)) for plan, values in each.items()}
    slow = max(logs, key=lambda plan: float(logs[plan].mean()))
    others = [one for plan, one in logs.items() if plan != slow]
    apart = float(logs[slow].mean() - np.mean([one.mean() for one in others]))
    if min(one.size for one in logs.values()) < 2:
        return slow, apart, 1.0
    return slow, apart, len(logs) * spread_of(others, [logs[slow]]).p_processes
