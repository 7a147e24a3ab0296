"""When a device holds more weights than a budget allows."""

from __future__ import annotations

import pytest

from harness.runtime.backend.protocol import Streaming
from suites.serialization.test_streaming import greedy

MIB = 1 << 20
WHOLE = 100 * MIB


def found(step: int, *devices: int) -> list[Streaming]:
    """Of all weights, half of them and none on the device, with 5 MiB for a session to stream with."""
    budgets = (WHOLE, WHOLE // 2, 0)
    return [
        Streaming(WHOLE, budget, 0 if budget == WHOLE else 5 * MIB, device, step)
        for budget, device in zip(budgets, devices, strict=True)
    ]


@pytest.mark.parametrize(
    ("step", "devices", "problems"),
    [
        (1, (100, 55, 5), 0),  # exactly as the budgets say
        (2, (130, 84, 36), 0),  # with what the engine takes beside its weights, in steps
        (2, (130, 110, 82), 0),  # twice what they should be, at the very most
        (2, (130, 130, 130), 2),  # nothing falls
        (2, (130, 84, 130), 1),  # not all the way
        (2, (130, 90, 140), 1),  # it rises
        (64, (130, 130, 130), 0),  # too little to be seen in steps as large
    ],
)
def test_memory_falls_as_the_budget_does(step: int, devices: tuple[int, ...], problems: int) -> None:
    told = greedy(found(step * MIB, *(device * MIB for device in devices)))
    assert len(told) == problems
    assert all("bytes of weights on the device the engine takes" in words for words in told)
