from __future__ import annotations

import numpy as np
import pytest

from harness.measure.modes import SURE, groups
from tests.measure.simulated import Array, medians

GAP = 0.01


def bimodal(share: float, cells: int, *, cv: float = 0.005, change: float = 0.0, arms=(True, True)) -> Array:
    """Four blocks a cell, of which a ``share`` of the processes is 11 % slower, in the ``arms`` that are."""
    plain = medians(4, cv, change, cells=(cells,))
    slow = np.random.default_rng(1).random(plain.shape) < share
    return plain * np.where(slow & np.array(arms)[:, None], 1.11, 1.0)


def test_two_groups_are_found_where_they_are() -> None:
    one = np.array([[[1.0, 1.001], [1.11, 1.0]], [[1.112, 1.0], [1.0, 1.001]], [[1.0, 1.0], [1.0, 1.11]]])
    found = groups(one)
    assert found.clear(GAP)
    assert (found.slow.tolist(), found.size) == ([1, 2], 6)
    low, high = np.log([*[1.0] * 7, 1.001, 1.001]), np.log([1.11, 1.11, 1.112])
    assert float(found.apart) == pytest.approx(high.mean() - low.mean())
    assert str(found) == "two groups of processes 11.0 % apart: 1 of 6 of A and 2 of 6 of B in the slower one"


@pytest.mark.parametrize("change", [0.0, 0.02, 0.11])
def test_half_of_the_processes_slow(change: float) -> None:
    """Also where the arms' medians are in different modes, and where a change hides one group in the other."""
    assert groups(bimodal(0.5, 500, change=change)).clear(GAP).mean() >= 0.98


def test_a_fifth_of_them() -> None:
    found = groups(bimodal(0.2, 500)).clear(GAP) | groups(bimodal(0.2, 500), least=1).hinted(GAP)
    assert found.mean() >= 0.94  # 2.8 % have none


def test_one_arm_alone() -> None:
    assert (
        groups(bimodal(0.5, 500, arms=(False, True))).clear(GAP).mean() >= 0.88
    )  # 7 % have at most one, or all but one


@pytest.mark.parametrize("change", [0.0, 0.02, 0.2])
def test_a_change_is_no_mode(change: float) -> None:
    for cv in (0.002, 0.02):
        assert groups(medians(4, cv, change, cells=(3000,))).clear(GAP).mean() <= 0.001


@pytest.mark.parametrize(("noise", "most"), [("t3", 0.006), ("uniform", 0.004), ("drift", 0.001)])
def test_other_noise_of_one_mode(noise: str, most: float) -> None:
    rng = np.random.default_rng(0)
    shape = (3000, 4, 2, 2)
    logs = {
        "t3": 0.006 * rng.standard_t(3, shape),
        "uniform": rng.uniform(-0.02, 0.02, shape),
        "drift": 0.002 * rng.standard_normal(shape) + np.linspace(0, 0.05, 16).reshape(4, 2, 2),
    }[noise]
    assert groups(np.exp(logs)).clear(GAP).mean() <= most


def test_more_processes_are_more_evidence() -> None:
    """Modes 10 spreads apart: few processes show them mostly, more of them always."""
    plain = medians(16, 0.01, cells=(2000,))
    slow = np.random.default_rng(1).random(plain.shape) < 0.3
    many = plain * np.where(slow, 1.11, 1.0)
    found = [groups(many[:, :blocks]).clear(GAP).mean() for blocks in (4, 8, 16)]
    assert found[0] < 0.92
    assert found[1] >= 0.99
    assert found[2] == 1
    assert not groups(plain).clear(GAP).any()
    assert groups(plain[:, :8]).clear(GAP).mean() <= 0.001


def test_a_hint_is_less_than_a_mode() -> None:
    few, plain = groups(bimodal(0.3, 2000, cv=0.01)), groups(medians(4, 0.01, cells=(5000,)))
    assert few.hinted(GAP).mean() > few.clear(GAP).mean() + 0.05
    assert plain.hinted(GAP).mean() <= 0.005


def test_two_steps_of_a_clock_are_no_modes() -> None:
    read = np.where(np.random.default_rng(0).random((500, 4, 2, 2)) < 0.5, 100.0, 102.0)
    assert groups(read).clear(GAP).mean() > 0.9
    assert not groups(read, tick=0.02).clear(GAP).any()


def test_modes_that_are_near_do_no_harm() -> None:
    near = groups(bimodal(0.5, 100, cv=0.0001)).apart / 20
    assert not groups(bimodal(0.5, 100, cv=0.0001) ** 0.05).clear(GAP).any()
    assert np.all(groups(bimodal(0.5, 100, cv=0.0001) ** 0.05).clear(float(near.min()) / 2))


def test_a_few_slow_ones_of_many_are_outliers() -> None:
    many = medians(24, 0.002)
    many[0, 0, 0] *= 1.11
    many[5, 1, 1] *= 1.11
    assert not groups(many).clear(GAP)
    assert groups(many, least=2).clear(GAP)


def test_outliers_are_no_mode() -> None:
    """Noise of long tails has them alone and in pairs; where they are alike and enough, they are a mode."""
    noise = np.exp(0.006 * np.random.default_rng(0).standard_t(3, (3000, 8, 2, 2)))
    assert groups(noise).clear(GAP).mean() <= 0.002
    assert groups(noise, least=1).hinted(GAP).mean() <= 0.03
    slow = np.random.default_rng(1).random(noise.shape) < 0.3
    assert groups(noise * np.where(slow, 1.11, 1.0)).clear(GAP).mean() >= 0.8


@pytest.mark.parametrize("side", [1, -1])
def test_a_long_tail_is_no_mode(side: int) -> None:
    """Of skewed noise two normal groups explain more than one does, and a lognormal one as much."""
    noise = np.random.default_rng(0).exponential(size=(500, 16, 2, 2))
    found = groups(np.exp(0.02 * side * noise))
    assert (found.hint > SURE).mean() > 0.1
    assert found.clear(GAP).mean() <= 0.02


def test_an_even_spread_is_no_mode() -> None:
    found = groups(np.exp(np.random.default_rng(0).uniform(-0.04, 0.04, (500, 16, 2, 2))))
    assert (found.hint > SURE).mean() > 0.05
    assert found.clear(GAP).mean() <= 0.01


def test_many_processes_show_modes_that_leave_nothing_empty() -> None:
    """5 deviations apart."""
    plain = medians(16, 0.02, cells=(500,))
    near = plain * np.where(np.random.default_rng(1).random(plain.shape) < 0.3, 1.11, 1.0)
    assert groups(near).clear(GAP).mean() >= 0.85


def test_beside_modes_of_another_metric_less_is_enough() -> None:
    """The less, the more processes there are."""
    plain = medians(8, 0.02, cells=(2000,))
    near = plain * np.where(np.random.default_rng(1).random(plain.shape) < 0.3, 1.11, 1.0)
    for blocks, least in ((4, 0.5), (8, 0.9)):
        found = groups(near[:, :blocks])
        assert found.akin(GAP).mean() > max(least, found.clear(GAP).mean() + 0.3)
        assert groups(plain[:, :blocks]).akin(GAP).mean() <= 0.12


@pytest.mark.parametrize("step", [0.03, 0.3])
def test_a_step_between_batches_is_no_mode(step: float) -> None:
    """What is measured later may be slower as a whole, and as much as it likes."""
    first, later = medians(4, 0.003, cells=(1000,)), (1 + step) * medians(2, 0.003, cells=(1000,), seed=1)
    assert groups(np.concatenate([first, later], axis=1)).clear(GAP).mean() > 0.9
    assert groups(first, later).clear(GAP).mean() <= 0.002


def test_batches_are_counted_together() -> None:
    """One slow process of 16 and one of eight: neither shows a mode, both do."""
    first, later = medians(4, 0.002, seed=1), medians(2, 0.002, seed=2)
    first[0, 0, 0] *= 1.11
    later[1, 1, 1] *= 1.11
    assert not groups(first).clear(GAP)
    assert not groups(later).clear(GAP)
    found = groups(first, later)
    assert found.clear(GAP)
    assert (found.slow.tolist(), found.size) == ([1, 1], 12)


def test_scale_and_arms_do_not_matter() -> None:
    some = bimodal(0.3, 50)
    found, scaled, swapped = groups(some), groups(1e-6 * some), groups(some[:, :, ::-1])
    assert scaled.evidence == pytest.approx(found.evidence)
    assert swapped.evidence == pytest.approx(found.evidence)
    clear = found.clear(GAP)
    assert np.array_equal(swapped.slow[clear], found.slow[clear][:, ::-1])
    assert np.array_equal(groups(some[7]).slow, found[7].slow)


def test_equal_medians_are_one_mode() -> None:
    assert not groups(np.ones((4, 2, 2))).clear(GAP)
