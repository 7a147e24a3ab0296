"""The loop that samples: when it is warm, when it stops, and what it hands out. No device, and a clock of its own."""

from __future__ import annotations

import dataclasses
import gc
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from harness.errors import RunError, SpecError
from harness.runtime.sampling import (
    CHUNK,
    CHUNK_SECONDS,
    END_TO_END,
    GPU,
    LEAST_FLAT,
    Array,
    Chunk,
    Samples,
    Sampling,
    Stop,
    by_host_clock,
    half_width,
    interval,
    is_flat,
    observed,
    sample,
    spread_out,
)

ROOT = Path(__file__).parents[2]


class Device:
    """Runs that take what ``latency`` says of their numbers; time passes only by runs."""

    def __init__(self, latency: Callable[[Array], Array], noise: float = 0.0, seed: int = 0) -> None:
        self.latency, self.noise, self.rng = latency, noise, np.random.default_rng(seed)
        self.now, self.ran = 1000.0, 0
        self.asked: list[int] = []

    def clock(self) -> float:
        return self.now

    def take(self, count: int) -> Mapping[str, Chunk]:
        self.asked.append(count)
        seconds = self.latency(np.arange(self.ran, self.ran + count, dtype=np.float64))
        seconds = seconds * (1 + self.noise * self.rng.standard_normal(count))
        at = self.now + np.cumsum(seconds) - seconds
        self.now += float(seconds.sum())
        self.ran += count
        return {GPU: Chunk(seconds, at), END_TO_END: Chunk(seconds[:1] * 2, at[:1])}

    def sample(self, **asked: Any) -> Samples:
        return sample(self.take, Sampling(**asked), GPU, replays=3, clock=self.clock)


def always(seconds: float) -> Callable[[Array], Array]:
    return lambda runs: np.full(runs.shape, seconds)


# ---------------------------------------------------------------- the plan


@pytest.mark.parametrize(
    "asked",
    [
        {"least": 0},
        {"least": 20, "most": 10},
        {"kept": 99},
        {"warmup_least": 2, "warmup_most": 1},
        {"warmup_least": -1},
        {"seconds": 0},
        {"flat": 0},
        {"precision": -0.1},
        {"streams": 0},
        {"replays": -1},
        {"cold": True, "replays": 2},
    ],
    ids=str,
)
def test_what_makes_no_plan_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"^sampling: "):
        Sampling(**asked)


def test_a_plan_is_frozen_and_has_a_value() -> None:
    assert Sampling(graph=True) == Sampling(graph=True) != Sampling()
    assert len({Sampling(), Sampling(), Sampling(cold=True)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sampling().graph = True  # type: ignore[misc]
    assert Sampling(warmup_most=2, seconds=3).longest == 5
    assert Sampling.brief(3).longest == 9
    assert Sampling.brief(0.05).warmup_most == Sampling.brief(0.05).warmup_least


# ---------------------------------------------------------------- the interval of a median


@pytest.mark.parametrize("count", [6, 7, 9, 10, 25, 100, 101, 1000, 5000])
def test_the_interval_covers_the_median(count: int) -> None:
    """By the binomial distribution, of which the ranks are an approximation, and no more than it takes."""
    low, high = interval(np.arange(1, count + 1))
    assert low + high == count + 1, "as many left out on either side"
    covers = 1 - 2 * binom.cdf(low - 1, count, 0.5)
    narrower = 1 - 2 * binom.cdf(low, count, 0.5)
    assert covers >= 0.95
    assert narrower < 0.965, "one rank further in would do as well"


def test_the_interval_needs_no_distribution() -> None:
    rng = np.random.default_rng(0)
    for draw, median in ((rng.standard_exponential, np.log(2)), (rng.standard_cauchy, 0.0)):
        inside = [low <= median <= high for low, high in (interval(draw(50)) for _ in range(2000))]
        assert 0.94 < np.mean(inside) < 0.99


def test_of_few_samples_the_interval_is_all_of_them() -> None:
    assert interval([3.0]) == (3, 3)
    assert interval([5.0, 1.0, 2.0, 3.0, 4.0]) == (1, 5)
    assert half_width([5.0, 1.0, 2.0, 3.0, 4.0]) == pytest.approx(2 / 3)
    assert half_width([2.0, 2.0]) == 0
    assert half_width([0.0, 0.0]) == 0


# ---------------------------------------------------------------- warming up


def test_flat_is_within_the_allowance_or_within_chance() -> None:
    rng = np.random.default_rng(0)
    step = np.repeat([9.0, 1.0, 1.004], 100)
    assert is_flat(step, 0.005), "what came before counts for nothing"
    assert not is_flat(np.repeat([9.0, 1.0, 1.006], 100), 0.005)
    noisy = np.repeat([1.0, 1.0, 1.006], 100) * (1 + 0.05 * rng.standard_normal(300))
    assert is_flat(noisy, 0.005), "nobody can tell"
    assert not is_flat(np.repeat([1.0, 1.0, 1.05], 100) * (1 + 0.05 * rng.standard_normal(300)), 0.005)
    assert not is_flat(np.ones(LEAST_FLAT - 1), 0.005), "too few to tell"
    assert is_flat(np.ones(LEAST_FLAT), 0.005)


def test_warm_up_goes_on_until_the_median_is_flat() -> None:
    device = Device(lambda runs: 1e-3 * (1 + np.exp(-runs / 1000)), noise=0.002)
    samples = device.sample(warmup_least=0.1, warmup_most=60, kept=10**6)
    assert samples.flat
    warm = samples.warmup[GPU].size
    assert warm > 1000, "a third of the start is left then, and far from flat"
    assert np.median(samples.seconds[GPU]) < 1.02e-3
    assert np.median(samples.warmup[GPU][:100]) > 1.8e-3, "kept apart, from the first on"
    assert samples.taken[GPU] + warm == device.ran


def test_warm_up_takes_its_time() -> None:
    """What is flat at once may begin to move."""
    samples = Device(always(1e-3)).sample(warmup_least=0.5)
    assert samples.flat
    assert 0.5 <= samples.warmup[GPU].sum() < 0.7
    assert Device(always(1e-3)).sample(warmup_least=0.0).warmup[GPU].sum() < 0.1


def test_a_warm_up_without_end_is_cut_off_and_told() -> None:
    samples = Device(lambda runs: 1e-3 * (1 + runs) ** -0.2).sample(warmup_most=0.5)
    assert not samples.flat
    assert 0.5 <= samples.warmup[GPU].sum() < 0.7
    assert samples.taken[GPU] >= 100, "it is sampled all the same"


def test_long_runs_get_as_many_as_it_takes_to_tell() -> None:
    samples = Device(always(2.0)).sample(warmup_most=5, seconds=5)
    assert samples.flat
    assert samples.warmup[GPU].size == LEAST_FLAT


# ---------------------------------------------------------------- stopping


def test_it_stops_when_the_median_is_known() -> None:
    for precision in (0.01, 0.0025, 0.001):
        samples = Device(always(1e-3), noise=0.05).sample(precision=precision, most=10**6, seconds=1e6, kept=10**6)
        assert samples.stopped is Stop.PRECISE
        assert samples.half_width == half_width(samples.seconds[GPU]) <= precision
        before = samples.seconds[GPU][:-CHUNK]
        assert before.size < 100 or half_width(before) > 0.95 * precision, "and not long after"


def test_it_does_not_stop_before_the_least() -> None:
    samples = Device(always(1e-3)).sample(least=500, kept=500)
    assert samples.stopped is Stop.PRECISE
    assert 500 <= samples.taken[GPU] < 500 + CHUNK


def test_it_stops_at_the_most() -> None:
    samples = Device(always(1e-3), noise=0.05).sample(precision=0, least=10, most=777)
    assert (samples.stopped, samples.taken[GPU]) == (Stop.COUNT, 777)


def test_it_stops_in_time_with_what_there_is() -> None:
    samples = Device(always(0.1), noise=0.05).sample(precision=0, seconds=2.0)
    assert samples.stopped is Stop.TIME
    assert 18 <= samples.taken[GPU] <= 24
    assert 2.0 <= samples.elapsed < 2.3


def test_one_sample_that_takes_too_long_is_enough() -> None:
    samples = Device(always(30.0)).sample(seconds=1.0, warmup_most=1.0)
    assert (samples.stopped, samples.taken[GPU]) == (Stop.TIME, 1)


def test_an_error_ends_it() -> None:
    def refuse(_count: int) -> Mapping[str, Chunk]:
        raise RunError("no")

    with pytest.raises(RunError, match="no"):
        sample(refuse, Sampling(), GPU)


def test_no_garbage_is_collected_meanwhile() -> None:
    device, seen = Device(always(1e-3)), []

    def take(count: int) -> Mapping[str, Chunk]:
        seen.append(gc.isenabled())
        if device.ran > 150:
            raise RunError("enough")
        return device.take(count)

    assert gc.isenabled()
    with pytest.raises(RunError, match="enough"):
        sample(take, Sampling(), GPU, clock=device.clock)
    assert gc.isenabled()
    assert set(seen) == {False}


# ---------------------------------------------------------------- what is handed out


def test_chunks_go_by_time() -> None:
    """So that a cap is not overrun by far, and that short runs are not held up after each."""
    slow, fast = Device(always(CHUNK_SECONDS / 7.5)), Device(always(1e-6))
    slow.sample()
    fast.sample()
    assert slow.asked[0] == fast.asked[0] == 1
    assert set(slow.asked[1:-1]) == {7}
    assert set(fast.asked[1:-1]) == {CHUNK}


def test_all_metrics_come_along() -> None:
    device = Device(always(1e-3), noise=0.01)
    samples = device.sample(least=50, warmup_least=0.01)
    assert samples.leading == GPU
    assert samples.replays == 3
    assert samples.seconds.keys() == samples.warmup.keys() == {GPU, END_TO_END}
    assert samples.taken[END_TO_END] == samples.seconds[END_TO_END].size < samples.taken[GPU]
    for name in samples.seconds:
        assert samples.at[name].shape == samples.seconds[name].shape
        assert samples.at[name][0] == 0, "when the first sample began"
        assert (np.diff(samples.at[name]) > 0).all()
    assert samples.elapsed == pytest.approx(samples.seconds[GPU].sum())
    assert samples.wall == 0


def test_as_many_are_kept_as_asked_from_all_over() -> None:
    device = Device(lambda runs: 1e-3 + 1e-9 * runs)
    samples = device.sample(precision=0, least=10, most=1000, kept=10, warmup_least=0.5)
    assert samples.taken[GPU] == 1000
    assert samples.seconds[GPU].size == samples.at[GPU].size == samples.warmup[GPU].size == 10
    assert np.diff(samples.seconds[GPU]) == pytest.approx(1e-7)
    assert spread_out(np.arange(10.0), 4).tolist() == [0, 2, 5, 7]
    assert spread_out(np.arange(3.0), 4).tolist() == [0, 1, 2]


def test_the_host_clock_times_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]

    def run() -> None:
        now[0] += 1500

    monkeypatch.setattr("time.perf_counter_ns", lambda: now[0])
    ((name, chunk),) = by_host_clock(run)(3).items()
    assert name == END_TO_END
    assert chunk.seconds.tolist() == [1.5e-6] * 3
    assert chunk.at.tolist() == [0, 1.5e-6, 3e-6]


def test_who_asks_looks_at_the_clock() -> None:
    device = Device(always(1e-3))
    samples = observed(lambda: device.sample(warmup_least=0.0))
    assert 0 < samples.wall < samples.elapsed, "played time does not pass"
    assert dataclasses.replace(samples, wall=0.0).wall == 0


def test_it_needs_numpy_alone() -> None:
    """Since the engine host does."""
    body = "import sys; before = set(sys.modules); import numpy; known = set(sys.modules)\n"
    body += "import harness.runtime.sampling\n"
    body += (
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - known} - {'numpy', *sys.stdlib_module_names}))"
    )
    done = subprocess.run([sys.executable, "-c", body], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['harness']"
