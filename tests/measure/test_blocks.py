"""Blocks: which processes run when, and which of them are left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from harness.measure.blocks import ALL, Blocks
from harness.measure.conditions import Bracket
from harness.measure.process import PLAIN, Process
from harness.measure.quantity import QUANTITIES
from harness.measure.runner import Runner
from harness.measure.verdict import Outcome
from harness.runtime.sampling import Sampling
from tests.measure.processes import IDLE, drifting, process

LATENCY = next(one for one in QUANTITIES if one.name == "end to end")
MEMORY = next(one for one in QUANTITIES if one.name == "host memory")
Make = Callable[[int], Process]


def blocks(make: Make = lambda number: process(seed=number, host_memory=number + 1), seed: int = 7) -> Blocks:
    """Of processes that ``make`` gives by their number; ``ran`` of the runner has number, arm and ordinal of each."""
    ran: list[tuple[int, int, int]] = []

    def run(number: int, arm: int, ordinal: int) -> Process:
        ran.append((number, arm, ordinal))
        return make(number)

    stub = SimpleNamespace(name="a", journal=SimpleNamespace(seed=seed), ways={PLAIN: Sampling()}, process=run, ran=ran)
    return Blocks(cast("Runner", stub), [LATENCY, MEMORY])


def ran(of: Blocks) -> list[tuple[int, int, int]]:
    runner: Any = of.runner
    return list(runner.ran)


def test_arms_take_turns_and_every_process_has_its_number() -> None:
    made = blocks()
    first, second = made.measured(2), made.measured(2)
    assert [number for number, _, _ in ran(made)] == list(range(16))
    arms = np.array([arm for _, arm, _ in ran(made)]).reshape(4, 4)
    assert (arms.sum(axis=1) == 2).all()
    assert (arms[:, 0] == arms[:, 3]).all()
    assert np.array_equal(np.concatenate([first.arms, second.arms]), arms)
    for arm in (0, 1):
        assert [ordinal for _, of, ordinal in ran(made) if of == arm] == list(range(8))


def test_whoever_goes_on_has_the_same_order() -> None:
    orders = []
    for seed in (7, 7, 8, 9, 10):
        made = blocks(seed=seed)
        made.measured(4)
        orders.append(ran(made))
    assert orders[0] == orders[1]
    assert orders[0] not in orders[2:] or orders[2] != orders[3]


def test_values_are_by_arm() -> None:
    made = blocks()
    batch = made.measured(2)
    values = batch.values(MEMORY)
    for block, arm in np.ndindex(2, 2):
        numbers = [n for n, of, _ in ran(made) if of == arm and n // 4 == block]
        assert values[block, arm].tolist() == [n + 1 for n in numbers]
    with pytest.raises(ValueError, match="a process has none"):
        blocks(lambda number: process(seed=number)).measured(2).values(MEMORY)


def test_a_block_with_a_flaw_is_left_out_and_replaced() -> None:
    made = blocks(lambda number: drifting(seed=number) if number == 5 else process(seed=number))
    batch = made.measured(4)
    assert batch.sound.tolist() == [True, False, True, True, True]
    assert not batch.void
    assert len(batch.processes) == len(ran(made)) == 20


def test_too_many_flaws_are_said_of_the_way_to_run_alone() -> None:
    def make(number: int) -> Process:
        made = drifting(seed=number) if number % 4 == 1 else process(seed=number)
        return replace(made, nbytes={"host memory": 1})

    batch = blocks(make).measured(4)
    assert batch.voids(LATENCY) == (Outcome.UNSTABLE, batch.void[PLAIN][1])
    assert "second half is not like its first" in batch.void[PLAIN][1]
    assert batch.voids(MEMORY) is None
    assert batch.sound.all()  # of what is known without samples


@pytest.mark.parametrize(
    ("after", "because"),
    [
        ({"held_back": ("hardware slowdown",)}, "the GPU was slowed down: hardware slowdown"),
        ({"sm_clock": 1200}, "1200 to 1900 MHz"),
    ],
)
def test_a_gpu_in_no_condition_costs_the_block(after: dict[str, Any], because: str) -> None:
    spoilt = Bracket(IDLE.before, replace(IDLE.after, **after))
    made = blocks(lambda number: process(seed=number, bracket=spoilt if number == 2 else IDLE))
    batch = made.measured(4)
    assert batch.sound.tolist() == [False, True, True, True, True]
    often = blocks(lambda number: process(seed=number, bracket=spoilt if number % 8 == 2 else IDLE)).measured(4)
    assert often.void[ALL][0] is Outcome.INCONCLUSIVE
    assert because in often.void[ALL][1]
    assert often.voids(LATENCY) == often.voids(MEMORY) == often.void[ALL]
