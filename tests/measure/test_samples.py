"""What is wrong with the samples of a process, and which verdict that makes of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from harness.measure import samples as samples_module
from harness.measure.interleave import interleaved
from harness.measure.metric import Metric
from harness.measure.samples import Flaw, Sifted, flaws, judged, sift
from harness.measure.verdict import Outcome
from harness.runtime.backend import fake
from harness.runtime.backend.fake import FakeBackend
from harness.runtime.backend.protocol import BuildRequest, ShapeRange
from harness.runtime.sampling import END_TO_END, GPU, Samples, Sampling, Stop, observed
from harness.spec import RECIPES, BuildConfig
from tests.runtime import models

Array = npt.NDArray[np.float64]
LATENCY = Metric(GPU)
PLAN = Sampling(warmup_least=0.003, warmup_most=0.06, least=200, most=200, precision=0.0)
BLOCKS = 6


def honest(level: float = 1e-4, seed: int = 0, noise: float = 0.002, count: int = 200) -> Samples:
    """Samples of one process as a device without a pause gives them."""
    seconds = level * (1 + noise * np.random.default_rng(seed).standard_normal(count))
    at = np.cumsum(seconds) - seconds
    total = float(seconds.sum())
    return Samples(
        {GPU: seconds}, {GPU: at}, {GPU: seconds[:50]}, {GPU: count}, GPU, 1, Stop.PRECISE, True, 0.001, 1.1 * total,
        wall=1.5 * total,
    )  # fmt: skip


def with_seconds(samples: Samples, change: Callable[[Array], Array]) -> Samples:
    return replace(samples, seconds={GPU: change(samples.seconds[GPU])})


def ramped(by: float) -> Callable[[Array], Array]:
    """The second half is slower, by so much at its median."""
    return lambda seconds: seconds * (1 + 2 * by * np.clip(np.linspace(-1, 1, seconds.size), 0, 1))


def kinds(samples: Samples, spread: float = 0.0) -> list[Flaw]:
    return [found.flaw for found in flaws(samples, GPU, spread)]


# ---------------------------------------------------------------- one process


def test_honest_samples_have_no_flaw() -> None:
    found = [flaws(honest(seed=seed, noise=noise), GPU) for seed in range(300) for noise in (0.0, 0.002, 0.02, 0.2)]
    assert sum(map(bool, found)) <= 1, "of 1,200, where the second half differs by chance"


def test_samples_out_of_order() -> None:
    samples = honest()
    at = samples.at[GPU].copy()
    at[[7, 8]] = at[[8, 7]]
    (found,) = flaws(replace(samples, at={GPU: at}), GPU)
    assert str(found) == "samples are out of order in time: sample 8 began before sample 7"
    assert not found.flaw.happens


@pytest.mark.parametrize("factor", [1e3, 1e6, 1e9, 1e-3, 1e-6])
def test_a_wrong_unit(factor: float) -> None:
    assert kinds(with_seconds(honest(), lambda seconds: seconds * factor)) == [Flaw.UNIT]


def test_times_must_fit_into_what_the_client_saw() -> None:
    """The host's own clock may be wrong just as its samples are."""
    samples = with_seconds(honest(), lambda seconds: seconds * 1e3)
    wrong = replace(samples, elapsed=samples.elapsed * 1e3)
    (found,) = flaws(wrong, GPU)
    assert found.flaw is Flaw.UNIT
    assert "s of sampling in a call of" in found.figures
    assert flaws(replace(wrong, wall=0.0), GPU) == (), "nobody looked"
    assert kinds(replace(honest(), wall=honest().elapsed / 2)) == [Flaw.UNIT]


def test_of_several_runs_a_sample_all_have_to_fit() -> None:
    several = replace(honest(), replays=8)
    assert kinds(several) == [Flaw.UNIT]
    assert kinds(replace(several, elapsed=8 * several.elapsed, wall=8 * several.wall)) == []
    beside = replace(several, seconds={END_TO_END: several.seconds[GPU]}, at={END_TO_END: several.at[GPU]})
    assert flaws(replace(beside, taken={END_TO_END: 200}), END_TO_END) == (), "one run each"


def test_those_that_were_not_kept_took_time_too() -> None:
    assert kinds(replace(honest(), taken={GPU: 400})) == [Flaw.UNIT]


@pytest.mark.parametrize("value", [0.0, -1e-4, np.nan, np.inf])
def test_times_that_are_none(value: float) -> None:
    def planted(seconds: Array) -> Array:
        return np.where(np.arange(seconds.size) == 9, value, seconds)

    assert Flaw.UNIT in kinds(with_seconds(honest(), planted))


def test_a_second_half_that_is_slower() -> None:
    (found,) = flaws(with_seconds(honest(noise=0.0), ramped(0.02)), GPU)
    assert found.flaw is Flaw.DRIFT
    assert str(found).endswith("slower by 2.0 %")
    (found,) = flaws(
        with_seconds(honest(noise=0.0), lambda seconds: seconds / ramped(0.02)(np.ones(seconds.size))), GPU
    )
    assert str(found).endswith("faster by 2.0 %")


def test_a_drift_is_more_than_chance_and_more_than_processes_differ_by() -> None:
    assert kinds(with_seconds(honest(), ramped(0.004))) == [], "no more than a process's median is sure to"
    noisy = with_seconds(honest(noise=0.1), ramped(0.02))
    assert kinds(noisy) == []
    slower = with_seconds(honest(), ramped(0.02))
    assert kinds(slower, spread=0.009) == [Flaw.DRIFT]
    assert kinds(slower, spread=0.02) == []
    assert kinds(honest(count=1)) == []


def test_a_warm_up_that_never_got_flat() -> None:
    (found,) = flaws(replace(honest(), flat=False), GPU)
    assert str(found) == "the warm-up never became flat: in 50 samples"
    assert found.flaw.happens


# ---------------------------------------------------------------- all processes of a comparison

ARMS = interleaved(BLOCKS, np.random.default_rng(0))


def processes(change: float = 0.0, spread: float = 0.001, blocks: int = BLOCKS) -> list[Samples]:
    rng = np.random.default_rng(1)
    arms = ARMS[:blocks].ravel()
    levels = 1e-4 * (1 + change * arms) * (1 + spread * rng.standard_normal(arms.size))
    return [honest(level, seed) for seed, level in enumerate(levels)]


def spoil(numbers: list[int], how: Callable[[Samples], Samples], blocks: int = BLOCKS) -> list[Samples]:
    return [how(one) if number in numbers else one for number, one in enumerate(processes(blocks=blocks))]


def drifting(samples: Samples) -> Samples:
    return with_seconds(samples, ramped(0.02))


def one_verdict(taken: list[Samples], blocks: int = BLOCKS) -> Any:
    (verdict,) = judged(taken, ARMS[:blocks], [LATENCY])
    return verdict


def test_sound_processes_give_their_medians_by_arm() -> None:
    taken = processes(change=0.5, spread=0)
    sifted = sift(taken, ARMS, [GPU])
    assert sifted.medians.shape == (1, BLOCKS, 2, 2)
    assert sifted.medians[0, :, 1] / sifted.medians[0, :, 0] == pytest.approx(1.5, rel=0.01)
    of_first_block = {float(np.median(one.seconds[GPU])) for one in taken[:4]}
    assert set(sifted.medians[0, 0].ravel().tolist()) == of_first_block
    assert (sifted.outcome, sifted.found) == (None, ())
    assert 0 < sifted.ticks[0] < 1e-3


def test_the_verdict_on_sound_processes_is_that_of_their_medians() -> None:
    assert one_verdict(processes()).outcome is Outcome.PASS
    assert one_verdict(processes(change=0.05)).outcome is Outcome.REGRESSION
    assert one_verdict(processes(change=-0.05)).outcome is Outcome.IMPROVEMENT


def test_a_coarse_clock_widens_what_is_concluded() -> None:
    step = 1e-5
    taken = [with_seconds(one, lambda seconds: np.round(seconds / step) * step) for one in processes(spread=0)]
    assert sift([honest(1e-4, s, noise=0.1) for s in range(24)], ARMS, [GPU]).ticks[0] < 1e-3
    coarse = [with_seconds(one, lambda seconds: seconds + step * (np.arange(seconds.size) % 2)) for one in taken]
    assert sift(coarse, ARMS, [GPU]).ticks[0] == pytest.approx(0.1, rel=0.1)
    assert one_verdict(coarse).visible > one_verdict(processes(spread=0)).visible


@pytest.mark.parametrize("how", [drifting, lambda samples: replace(samples, flat=False)], ids=["drift", "cold"])
def test_a_block_with_a_flawed_process_is_left_out_whole(how: Callable[[Samples], Samples]) -> None:
    sifted = sift(spoil([5], how), ARMS, [GPU])
    assert sifted.outcome is None
    assert sifted.medians.shape == (1, BLOCKS - 1, 2, 2)
    assert np.flatnonzero(~sifted.sound).tolist() == [1]
    whole = sift(processes(), ARMS, [GPU]).medians
    np.testing.assert_array_equal(sifted.medians, np.delete(whole, 1, axis=1))
    assert len(sifted.found) == 1
    assert sifted.found[0].startswith("process 6 of 24, gpu: ")
    assert one_verdict(spoil([5], how)).outcome is Outcome.PASS


def test_many_flawed_processes_leave_no_one_number() -> None:
    verdict = one_verdict(spoil([1, 9], drifting))
    assert verdict.outcome is Outcome.UNSTABLE
    assert verdict.reason == "process 2 of 24, gpu: its second half is not like its first: slower by 2.0 %, and 1 more"
    assert one_verdict(spoil([4, 5, 6, 7], drifting)).outcome is Outcome.PASS, "of one block"


def test_one_slow_process_hides_no_drift_of_another() -> None:
    taken = spoil([5], drifting)
    taken[9] = with_seconds(honest(), lambda seconds: seconds * 1.3)
    taken[9] = replace(taken[9], elapsed=1.3 * taken[9].elapsed, wall=1.3 * taken[9].wall)
    (found,) = sift(taken, ARMS, [GPU]).found
    assert found.startswith("process 6 of 24, gpu: its second half")


def test_few_blocks_can_spare_none() -> None:
    assert one_verdict(spoil([0], drifting, 2), 2).outcome is Outcome.UNSTABLE
    assert one_verdict(processes(blocks=2), 2).outcome is Outcome.PASS


def test_one_more_block_is_sifted_by_itself() -> None:
    """As a last step or look may ask for; it is judged together with others."""
    sifted = sift(processes(blocks=1), ARMS[:1], [GPU])
    assert sifted.outcome is None
    assert sifted.sound.tolist() == [True]
    assert sift(spoil([1], drifting, blocks=1), ARMS[:1], [GPU]).outcome is Outcome.UNSTABLE


def test_one_broken_process_ends_all_conclusions() -> None:
    def backwards(samples: Samples) -> Samples:
        return replace(samples, at={GPU: samples.at[GPU][::-1]})

    verdict = one_verdict([backwards(one) if not n else one for n, one in enumerate(processes(change=0.05))])
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason.startswith("process 1 of 24, gpu: samples are out of order in time")


def test_processes_that_measured_otherwise_are_not_compared() -> None:
    def several(samples: Samples) -> Samples:
        return replace(samples, replays=8, elapsed=8 * samples.elapsed, wall=8 * samples.wall)

    verdict = one_verdict([several(one) if arm else one for one, arm in zip(processes(), ARMS.ravel(), strict=True)])
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.reason == "between two events lie 1 runs in one process and 8 in another"
    assert one_verdict([several(one) for one in processes()]).outcome is Outcome.PASS


def test_several_metrics_keep_the_same_blocks() -> None:
    def with_host(samples: Samples) -> Samples:
        both = {GPU: samples.seconds[GPU], END_TO_END: samples.seconds[GPU] * 1.05}
        return replace(samples, seconds=both, at=dict.fromkeys(both, samples.at[GPU]), taken=dict.fromkeys(both, 200))

    sifted = sift([with_host(one) for one in spoil([5], drifting)], ARMS, [GPU, END_TO_END])
    assert sifted.medians.shape == (2, BLOCKS - 1, 2, 2)
    assert sifted.medians[1] / sifted.medians[0] == pytest.approx(1.05)
    assert len(sifted.found) == 2


def test_what_can_not_be_sifted_is_refused() -> None:
    with pytest.raises(ValueError, match=r"23 processes for arms of shape \(6, 4\)"):
        sift(processes()[1:], ARMS, [GPU])
    with pytest.raises(ValueError, match="process 3 of 24 has no samples"):
        sift(spoil([3], lambda samples: replace(samples, seconds={GPU: np.zeros(0)})), ARMS, [GPU])
    with pytest.raises(KeyError):
        sift(processes(), ARMS, ["h2d"])


# ---------------------------------------------------------------- every fault of the fake, and the verdict it deserves


def measured(faults: tuple[str, str], folder: Path) -> list[Samples]:
    """One process of the fake for each of `ARMS`, each with the fault of its arm."""
    model = models.relu(folder).source.path()
    shapes = {"x": ShapeRange((1, 2), (3, 2), (4, 2))}
    asked = BuildRequest("relu", RECIPES["fp32"], BuildConfig(), (shapes,), ({},), model=str(model))
    taken = []
    for arm in ARMS.ravel():
        backend = FakeBackend(faults[arm])
        session = backend.load(backend.build(asked).data).session()
        taken.append(observed(lambda: session.measure({"x": np.zeros((3, 2), np.float32)}, PLAN)))  # noqa: B023 - at once
    return taken


FAULTS = {
    "": (Outcome.PASS, ""),
    "slower=3": (Outcome.REGRESSION, ""),
    "slowing": (Outcome.UNSTABLE, "its second half is not like its first: slower by 2"),
    "clock_drop": (Outcome.UNSTABLE, "its second half is not like its first: slower by 33"),
    "never_warm": (Outcome.UNSTABLE, "the warm-up never became flat"),
    "slow_process": (Outcome.UNSTABLE, "two groups of processes"),
    "wrong_unit": (Outcome.INCONCLUSIVE, "times do not fit into the time that passed"),
    "shuffled": (Outcome.INCONCLUSIVE, "samples are out of order in time"),
}


@pytest.mark.usefixtures("played_time")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_gets_the_verdict_it_deserves(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "_MADE", iter(range(1000)))
    both = fault == "slow_process"  # which is no matter of an arm
    (verdict,) = judged(measured((fault if both else "", fault), tmp_path), ARMS, [LATENCY])
    outcome, reason = FAULTS[fault]
    assert verdict.outcome is outcome, str(verdict)
    assert reason in verdict.reason


def test_every_fault_of_latencies_is_tried() -> None:
    text = Path(fake.__file__).read_text()
    named = text.partition("    # latencies\n")[2].partition("    # runtimes beside")[0]
    found = {line.split('"')[1] for line in named.splitlines()}
    assert found == {fault.partition("=")[0] for fault in FAULTS if fault}


@pytest.mark.usefixtures("played_time")
@pytest.mark.parametrize(
    ("fault", "detector"),
    [("slowing", "_drift"), ("clock_drop", "_drift"), ("wrong_unit", "_misfit")],
)
def test_without_its_detector_a_fault_gets_by(
    fault: str, detector: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no other one is what catches it."""
    taken = measured(("", fault), tmp_path)
    assert sift(taken, ARMS, [GPU]).outcome is not None
    monkeypatch.setattr(samples_module, detector, lambda *_: "")
    left: Sifted = sift(taken, ARMS, [GPU])
    assert (left.outcome, left.found) == (None, ())
