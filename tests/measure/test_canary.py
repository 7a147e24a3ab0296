from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as oracle

from harness.measure.canary import SURE, moves

RNG = np.random.default_rng(0)
BEFORE, AFTER = np.exp(0.003 * RNG.standard_normal(8)), np.exp(0.02 + 0.006 * RNG.standard_normal(6))


def test_a_move_is_welchs() -> None:
    (move,) = moves({"memory": BEFORE}, {"memory": AFTER})
    want = oracle.ttest_ind(np.log(AFTER), np.log(BEFORE), equal_var=False).confidence_interval(SURE)
    assert (move.low, move.high) == pytest.approx((want.low, want.high))
    assert move.moved
    assert str(move) == "canary memory: +1.4 % (+0.1 to +2.7) after the session"


@pytest.mark.parametrize(("step", "moved"), [(0.0, False), (0.005, False), (0.02, True), (-0.02, True), (0.03, True)])
def test_a_step_of_the_host(step: float, moved: bool) -> None:
    rng = np.random.default_rng(1)
    found = [
        moves({"it": np.exp(0.003 * before)}, {"it": np.exp(step + 0.003 * after)})[0].moved
        for before, after in rng.standard_normal((200, 2, 8))
    ]
    assert np.mean(found) >= 0.98 if moved else np.mean(found) <= 0.01


def test_a_noisy_canary_proves_nothing() -> None:
    wild = np.exp(0.05 * RNG.standard_normal(16))
    (move,) = moves({"it": wild[:8]}, {"it": wild[8:] * 1.02})
    assert abs(move.estimate) > 0.01
    assert not move.moved


def test_the_unit_does_not_matter_and_time_changes_the_sign() -> None:
    (there,), (back,) = moves({"it": BEFORE}, {"it": AFTER}), moves({"it": 1e-6 * AFTER}, {"it": 1e-6 * BEFORE})
    assert (back.estimate, back.low, back.high) == pytest.approx((-there.estimate, -there.high, -there.low))


@pytest.mark.parametrize(("before", "after"), [({}, {}), ({"it": BEFORE}, {}), ({"it": BEFORE}, {"other": AFTER})])
def test_a_canary_has_to_be_there_twice(before: dict, after: dict) -> None:
    with pytest.raises(ValueError, match=r"canaries .* before and .* after: expected the same, at least one"):
        moves(before, after)


def test_one_process_is_not_enough() -> None:
    with pytest.raises(ValueError, match="canary it: 1 processes before and 6 after, expected two or more"):
        moves({"it": BEFORE[:1]}, {"it": AFTER})


def test_no_noise_at_all() -> None:
    (still,), (moved,) = (moves({"it": np.ones(2)}, {"it": np.full(2, after)}) for after in (1.0, 1.05))
    assert not still.moved
    assert moved.moved
