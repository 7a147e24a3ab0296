"""Two sides of one subject against each other: interleaved processes, and a verdict on every quantity.

What is screened and looks changed is measured again (`harness.measure.protocol`). With frozen plans the
replicate is the process, and what is compared are two plans. With rebuilds every process has a build of its
own, and what is compared are two builders: the two are never mixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from harness.errors import SpecError
from harness.judge.outliers import outliers
from harness.measure.answers import answers
from harness.measure.blocks import Array, Batch, Blocks, sound_values
from harness.measure.conditions import unseen
from harness.measure.finding import Finding, Said, of_both
from harness.measure.metric import Metric
from harness.measure.process import Process
from harness.measure.protocol import Stages
from harness.measure.protocol import run as run_protocol
from harness.measure.quantity import BUILD, DEVICE_MEMORY, PARSE, PLAN_SIZE, Quantity, by_profile, covered
from harness.measure.runner import Runner, SideFailed
from harness.measure.stats import resolution
from harness.measure.verdict import Outcome, Verdict, judge

LOOKS, SHARES = (4, 8, 16, 32), (0.05, 0.15, 0.3, 0.5)  # as of `Stages`


@dataclass(frozen=True)
class Effort:
    """How much is measured: ``blocks`` at first, and at most ``fresh`` more to confirm what looks changed.

    SpecError where that can't show anything.
    """

    blocks: int = 4
    fresh: int = 32

    def __post_init__(self) -> None:
        if self.blocks < 2 or self.fresh < 2:
            raise SpecError(f"{2 * self.blocks} processes a side, {2 * self.fresh} to confirm: 4 or more of either")

    def stages(self, subjects: int) -> Stages:
        """Errors are shared out between ``subjects``, so that any false alarm is as rare as with one."""
        looks = (*(look for look in LOOKS if look < self.fresh), self.fresh)
        shares = SHARES[: len(looks) - 1]
        alpha = Stages.alpha / subjects
        steps = min(Stages.steps, self.fresh // Stages.step)
        return Stages(screening=self.blocks, looks=looks, shares=(*shares, 1 - sum(shares)), alpha=alpha, steps=steps)


@dataclass(eq=False)
class Contest:
    """``runner`` has two sides; ``subjects`` is how many contests share the errors of one session.

    After `run`, ``told`` has the inspector's own words by the side's name; ``untold`` why they could not be had.
    """

    runner: Runner
    quantities: Sequence[Quantity]
    effort: Effort = field(default_factory=Effort)
    subjects: int = 1
    told: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    untold: dict[str, str] = field(default_factory=dict)

    def run(self) -> list[Finding]:
        """All that can be said of the two, in the order in which it was found."""
        findings: list[Finding] = []
        try:
            blocks = Blocks(self.runner, self.quantities)
            screened = blocks.measured(self.effort.blocks)
            findings += self._seen(screened)
            findings += self._judged(blocks, screened)
        except SideFailed as failed:
            return [*findings, failed.finding(self.runner.name)]
        return [*findings, *answers(self.runner)]

    def _seen(self, screened: Batch) -> Iterator[Finding]:
        """What the first processes tell beside what is measured."""
        for arm, side in enumerate(self.runner.sides):
            first = next((process for process in screened.of(arm) if process.told is not None), screened.of(arm)[0])
            if first.told is not None:
                self.told[side.name] = first.told
            else:
                self.untold[side.name] = first.missing.get("layers", "it tells of none")
        if any(side.backend.startswith("tensorrt") for side in self.runner.sides):
            for why in unseen([process.bracket for process in screened.processes]):
                yield self._said("conditions", Said.NOT_COVERED, why)
        if not self.runner.rebuilt:
            yield from self._frozen(screened)

    def _frozen(self, screened: Batch) -> Iterator[Finding]:
        """What a plan takes is the same in every process, and known exactly."""
        for one in (PLAN_SIZE, DEVICE_MEMORY):
            a, b = (one.of(screened.of(arm)[0]) for arm in (0, 1))
            if a and b:
                yield Finding.of(self.runner.name, one, judge(np.array([[[a, a], [b, b]]] * 2), one.metric), a, b)
            else:
                yield self._said(one.name, Said.NOT_COVERED, f"not told of {'A' if not a else 'B'}")
        words = "one build tells nothing of the next: --rebuilds builds anew for every process"
        for one in (PARSE, BUILD):
            a, b = (one.of(screened.of(arm)[0]) for arm in (0, 1))
            yield replace(self._said(one.name, Said.NOT_COVERED, words), a=a, b=b, unit=one.unit)

    def _judged(self, blocks: Blocks, screened: Batch) -> Iterator[Finding]:
        of_builds = (PARSE, BUILD, PLAN_SIZE, DEVICE_MEMORY) if self.runner.rebuilt else ()
        wanted = [*self.quantities, *by_profile(screened.processes), *of_builds]
        found, missing = covered(wanted, screened.processes)
        for name, why in missing.items():
            yield self._said(name, Said.NOT_COVERED, why)
        if not found:
            return
        metrics = [replace(one.metric, tick=tick(one, screened.processes)) for one in found]
        batches = [screened]
        for one, verdict in zip(found, self._verdicts(blocks, found, metrics, batches), strict=True):
            reason = verdict.reason.replace("processes", "builds") if self.runner.rebuilt else verdict.reason
            a, b = of_both(sound_values(batches, one), verdict)
            yield Finding.of(self.runner.name, one, verdict.overruled(verdict.outcome, reason), a, b)
        if self.runner.rebuilt:
            yield from self._apart(found, batches)

    def _verdicts(
        self, blocks: Blocks, found: Sequence[Quantity], metrics: Sequence[Metric], batches: list[Batch]
    ) -> list[Verdict]:
        """On each of ``found``; ``batches`` has what was screened, and gets what is measured to confirm.

        Nothing is confirmed of what is void already: to the protocol its numbers are all the same.
        """
        (screened,) = pending = list(batches)

        def measure(_: str, count: int) -> Array:
            batch = pending.pop() if pending else blocks.measured(count)
            if batch is not screened:
                batches.append(batch)
            return np.stack([self._shown(batch, one, count) for one in found])

        session = run_protocol([self.runner.name], metrics, measure, None, self.effort.stages(self.subjects))
        verdicts = [verdict for _, _, verdict in session.verdicts()]
        return [
            next((overruled(batch, one, metric) for batch in batches if batch.voids(one)), verdict)
            for one, metric, verdict in zip(found, metrics, verdicts, strict=True)
        ]

    def _shown(self, batch: Batch, quantity: Quantity, count: int) -> Array:
        """``count`` blocks of a quantity, to be judged."""
        return np.ones((count, 2, 2)) if batch.voids(quantity) else batch.values(quantity)[batch.sound][:count]

    def _apart(self, found: Sequence[Quantity], batches: Sequence[Batch]) -> Iterator[Finding]:
        """Names the builds that stand apart from the others of their side."""
        measures = {"size": PLAN_SIZE, **({"latency": found[0]} if found[0].way else {})}
        for arm, side in enumerate(self.runner.sides):
            processes = [process for batch in batches for process in batch.of(arm)]
            for outlier in outliers({what: [one.of(p) or 0.0 for p in processes] for what, one in measures.items()}):
                yield self._said(f"builds of {side.name}", Said.UNSTABLE, str(outlier))

    def _said(self, metric: str, said: Said, words: str) -> Finding:
        return Finding(self.runner.name, metric, said, words)


def overruled(batch: Batch, quantity: Quantity, metric: Metric) -> Verdict:
    """The figures of what is void, as far as they are any, and what is wrong with it."""
    outcome, reason = batch.voids(quantity) or (Outcome.INCONCLUSIVE, "")
    values = batch.values(quantity)
    figures = judge(np.where((values > 0) & np.isfinite(values), values, 1.0), metric)
    return figures.overruled(outcome, reason)


def tick(quantity: Quantity, processes: Sequence[Process]) -> float:
    """The relative step of a quantity, or of the clock behind it; 0 where it has none."""
    if quantity.step:
        return quantity.step / min(quantity.of(process) or quantity.step for process in processes)
    samples = [quantity.samples(process) for process in processes]
    ticks = [resolution(one.seconds[quantity.source]) for one in samples if one is not None]
    return float(np.median(ticks)) if ticks else 0.0
