"""The canaries of a session, measured: before everything else and after it, each in a few processes of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.measure.canary import MOVE, Medians, moves
from harness.measure.canary_models import canaries
from harness.measure.finding import Finding, Said
from harness.measure.quantity import Quantity
from harness.measure.runner import Runner
from harness.measure.side import Side
from harness.spec.engine import EngineSpec
from harness.spec.precision import Recipe, recipe

PROCESSES = 3  # of each canary, before and after
CANARIES = "canaries"  # as a metric
SURE = 2 * MOVE  # a canary of which no more than this is possible has shown that it stayed


@dataclass(eq=False)
class Watch:
    """``runners`` have one canary each; of its quantities the first that it has is what may move.

    Nothing else of it is asked for: its first process is run in every way, to see what it has, the others in that one.
    """

    runners: Sequence[Runner]
    quantities: Sequence[Quantity]

    @classmethod
    def of(
        cls,
        side: Side,
        runner: Callable[[str, Side], Runner],
        quantities: Sequence[Quantity],
        compute: Recipe | None = None,
    ) -> Watch:
        """On the device, and by the runtime, of ``side``; ``runner`` makes what runs a subject of one side.

        The canary bound by arithmetic is built at ``compute``, fp32 where nothing is said; the other always at fp32.
        """
        kind = "gpu" if side.backend.startswith("tensorrt") else "cpu"
        precisions = (compute or recipe("fp32"), recipe("fp32"))
        made = [
            runner(model.id, replace(side, spec=EngineSpec.of(model, precision), asked={}))
            for model, precision in zip(canaries(kind), precisions, strict=True)
        ]
        for one in made:
            one.wanted = lambda _: False
        return cls(made, quantities)

    def measured(self, *, after: bool) -> Medians:
        """Of each canary the medians of its processes, in seconds. SideFailed where one can't be run."""
        first = PROCESSES if after else 0
        found = {}
        for runner in self.runners:
            leading = self.leading(runner)
            runner.ways = {leading.way: runner.ways[leading.way]}
            processes = [runner.process(number, 0, number) for number in range(first, first + PROCESSES)]
            found[runner.name] = np.array([leading.of(process) for process in processes], np.float64)
        return found

    def leading(self, runner: Runner) -> Quantity:
        """What may move, by the first process of all. SideFailed."""
        process = runner.process(0, 0, 0)
        return next(one for one in self.quantities if one.way and one.of(process) is not None)

    def close(self) -> None:
        for runner in self.runners:
            runner.close()


def after_a_move(findings: Iterable[Finding], before: Medians, after: Medians) -> list[Finding]:
    """``findings``, and that the canaries stayed where they were; where one moved nothing is said of a measurement."""
    found = stayed(before, after)
    if found.said is not Said.HOST_CHANGED:
        return [*findings, found]
    return [
        replace(one, said=Said.HOST_CHANGED, words=f"{one.words}; {found.words}") if one.timed else one
        for one in findings
    ]


def stayed(before: Medians, after: Medians) -> Finding:
    """Whether the canaries stayed where they were: HOST_CHANGED, with those that moved, where one did not."""
    found = moves(before, after)
    moved = ", ".join(str(move) for move in found if move.moved)
    if moved:
        return Finding("", CANARIES, Said.HOST_CHANGED, moved)
    sure = all(max(abs(move.low), abs(move.high)) < SURE for move in found)
    return Finding("", CANARIES, Said.PASS if sure else Said.NOTED, ", ".join(str(move) for move in found))
