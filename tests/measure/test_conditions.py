from __future__ import annotations

from dataclasses import replace

import pytest

from harness.measure.conditions import SLOWED, Bracket, spoilt, unseen
from harness.runtime.telemetry import HELD_BACK, Reading

IDLE = Reading(sm_clock=345, held_back=(), processes=(), energy=100.0)
BUSY = Reading(sm_clock=1980, held_back=("power cap",), processes=(7,), energy=160.0)
GOOD = (Bracket(IDLE, BUSY),) * 4


def test_a_block_under_even_conditions_is_kept() -> None:
    """Its own process computes there after it, and is no company; idle clocks before it say nothing."""
    assert spoilt(GOOD) == ""
    assert spoilt((*GOOD[:3], Bracket(IDLE, replace(BUSY, sm_clock=1935)))) == ""


@pytest.mark.parametrize("reason", sorted(SLOWED))
def test_one_slow_process_spoils_its_block(reason: str) -> None:
    assert reason in HELD_BACK.values()
    found = spoilt((*GOOD[:3], Bracket(IDLE, replace(BUSY, held_back=("power cap", reason)))))
    assert found == f"the GPU was slowed down: {reason}"


def test_company_spoils_a_block() -> None:
    assert spoilt((Bracket(replace(IDLE, processes=(41, 40)), BUSY), *GOOD[1:])).endswith("on the GPU: 40, 41")


def test_clocks_that_differ_spoil_a_block() -> None:
    found = spoilt((*GOOD[:3], Bracket(IDLE, replace(BUSY, sm_clock=1900))))
    assert found == "the processes of the block ran at 1900 to 1980 MHz"


def test_what_no_rule_could_look_at_is_told_once() -> None:
    blind = Reading(missing={"sm_clock": "no NVML", "power": "no NVML", "processes": "no privilege"})
    block = (Bracket(blind, blind),) * 4
    assert spoilt(block) == ""
    assert unseen(block) == ("processes: no privilege", "sm clock: no NVML")
    assert unseen(GOOD) == ()
