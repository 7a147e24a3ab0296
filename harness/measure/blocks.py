"""Blocks of interleaved processes, measured until enough of them are sound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harness.errors import SpecError
from harness.measure.conditions import spoilt
from harness.measure.interleave import PROCESSES, by_arm, interleaved
from harness.measure.process import Process
from harness.measure.quantity import Quantity
from harness.measure.runner import Runner
from harness.measure.samples import SPARED, sift
from harness.measure.verdict import Outcome

Array = npt.NDArray[np.float64]
MOST = 512  # blocks of a subject
ALL = ""  # of `Batch.void`


@dataclass(frozen=True, eq=False)
class Batch:
    """Processes of whole blocks, in the order of time, with their arms (blocks, 4), and which blocks are ``sound``.

    ``void`` says, by the way to run, what alone can be said of all that was measured so, and why; under `ALL`
    what of everything. A block is sound whatever happens in ways that are void.
    """

    processes: tuple[Process, ...]
    arms: npt.NDArray[np.int8]
    sound: npt.NDArray[np.bool_]
    void: Mapping[str, tuple[Outcome, str]] = field(default_factory=dict)

    def voids(self, quantity: Quantity) -> tuple[Outcome, str] | None:
        """What alone can be said of ``quantity``; None where it can be judged."""
        return self.void.get(ALL) or (self.void.get(quantity.way) if quantity.way else None)

    def values(self, quantity: Quantity) -> Array:
        """Of all blocks, (blocks, 2, 2). ValueError where a process has none."""
        flat = [quantity.of(process) for process in self.processes]
        if any(value is None for value in flat):
            raise ValueError(f"{quantity.name}: a process has none")
        return by_arm(np.asarray(flat, np.float64).reshape(self.arms.shape), self.arms)

    def of(self, arm: int) -> list[Process]:
        """The processes of one side."""
        return [process for process, which in zip(self.processes, self.arms.flat, strict=True) if which == arm]


def sound_values(batches: Sequence[Batch], quantity: Quantity) -> Array:
    """Of the sound blocks of all ``batches``, (blocks, 2, 2); of every block where none is sound."""
    every = np.concatenate([batch.values(quantity) for batch in batches])
    sound = np.concatenate([batch.sound for batch in batches])
    return every[sound] if sound.any() else every


@dataclass(eq=False)
class Blocks:
    """The blocks of what ``runner`` runs, in an order that its journal's seed decides; each is given out once."""

    runner: Runner
    quantities: Sequence[Quantity]
    _arms: npt.NDArray[np.int8] = field(init=False)
    _taken: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.runner.journal.seed, *self.runner.name.encode()])
        self._arms = interleaved(MOST, rng)

    def measured(self, wanted: int) -> Batch:
        """``wanted`` more sound blocks; others are replaced, unless so many are unsound that the whole is of no use."""
        first = self._taken
        processes: list[Process] = []
        batch = None
        while batch is None or (ALL not in batch.void and batch.sound.sum() < wanted):
            for _ in range(wanted - (int(batch.sound.sum()) if batch else 0)):
                processes += self._block()
            batch = self._sifted(processes, self._arms[first : self._taken])
        return batch

    def _block(self) -> Iterator[Process]:
        if self._taken == MOST:
            raise SpecError(f"{self.runner.name}: {MOST} blocks are the most")
        before = self._arms[: self._taken].reshape(-1)
        counts = [int(np.sum(before == arm)) for arm in (0, 1)]
        for offset, arm in enumerate(self._arms[self._taken].tolist()):
            yield self.runner.process(self._taken * PROCESSES + offset, arm, counts[arm])
            counts[arm] += 1
        self._taken += 1

    def _sifted(self, processes: Sequence[Process], arms: npt.NDArray[np.int8]) -> Batch:
        """A block is sound where samples have no flaw, and nothing is known against the condition of the GPU."""
        blocks = [processes[start : start + PROCESSES] for start in range(0, len(processes), PROCESSES)]
        spoiling = [spoilt([process.bracket for process in block]) for block in blocks]
        sound = np.array([not reason for reason in spoiling])
        void: dict[str, tuple[Outcome, str]] = {}
        for way in self.runner.ways:
            names = [
                one.source
                for one in self.quantities
                if one.way == way and all(one.of(process) is not None for process in processes)
            ]
            if not names:
                continue
            samples = [process.samples[way] for process in processes]
            sifted = sift(samples, arms, names)
            if sifted.outcome is not None:
                void[way] = sifted.outcome, sifted.reason
                continue
            sound &= sifted.sound
        unsound = int((~sound).sum())
        if unsound > sound.size // SPARED:
            reason = next(filter(None, spoiling), "a flaw in one way to run or another")
            void[ALL] = Outcome.INCONCLUSIVE, f"{unsound} of {sound.size} blocks: {reason}"
        return Batch(tuple(processes), arms, sound, void)
