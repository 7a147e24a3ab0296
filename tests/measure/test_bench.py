"""What one subject comes to, from processes whose numbers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from harness.measure.bench import Measured, interval, measured
from harness.measure.contest import tick
from harness.measure.finding import Finding, Said, mean_over, of_both, worst_first
from harness.measure.metric import Metric
from harness.measure.process import PLAIN, Process
from harness.measure.quantity import QUANTITIES, Quantity, by_profile, covered
from harness.measure.verdict import Outcome, judge
from harness.runtime.sampling import END_TO_END
from tests.measure.processes import drifting, process

LATENCY = next(one for one in QUANTITIES if one.name == "end to end")
MEMORY = next(one for one in QUANTITIES if one.name == "host memory")
RATE = Quantity(Metric("rate", "lower", "higher", more_is_better=True), END_TO_END, "runs/s", PLAIN)


def levels(*levels: float) -> list[Process]:
    return [process(level, seed) for seed, level in enumerate(levels)]


def spread(count: int, between: float, seed: int = 0) -> list[Process]:
    rng = np.random.default_rng(seed)
    return levels(*(1e-4 * np.exp(between * rng.standard_normal(count))))


def of(processes: list[Process], quantity: Quantity = LATENCY) -> Measured:
    return measured(quantity, processes)


@pytest.mark.parametrize("size", [2, 4, 400])
def test_a_step_of_the_device_s_memory_is_no_change(size: int) -> None:
    """The driver gives it out in pieces, of which one more or less says nothing."""
    peak = next(one for one in QUANTITIES if one.name == "peak memory")
    pairs = [replace(process(), nbytes={"peak memory": steps << 20}) for steps in (size, size + 2)]
    medians = np.array([[[size, size], [size + 2, size + 2]]] * 4) * float(1 << 20)
    metric = replace(peak.metric, tick=tick(peak, pairs))
    assert judge(medians, metric).outcome not in (Outcome.REGRESSION, Outcome.IMPROVEMENT)
    assert judge(medians, peak.metric).outcome is Outcome.REGRESSION
    more = np.array([[[size, size], [4 * size, 4 * size]]] * 4) * float(1 << 20)
    assert judge(more, metric).outcome is Outcome.REGRESSION


def test_memory_by_profile() -> None:
    told = replace(process(), nbytes={"context memory, profile 1": 5}, missing={"context memory, profile 0": "tiny"})
    found, missing = covered(by_profile([process(), told]), [told])
    assert [one.name for one in found] == ["context memory, profile 1"]
    assert missing == {"context memory, profile 0": "tiny"}


def test_median_interval_and_spreads() -> None:
    found = of(spread(40, 0.01))
    assert found.median == pytest.approx(1e-4, rel=0.01)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1e-4 < found.high
    assert found.high / found.low - 1 == pytest.approx(2 * 2.02 * 0.01 / 40**0.5, rel=0.3)
    assert found.between == pytest.approx(0.01, rel=0.3)
    assert found.within == pytest.approx(0.002, rel=0.2)
    assert not found.note


def test_the_interval_of_equal_numbers_is_that_number() -> None:
    """Whose logarithm may lead back beside it."""
    for value in (238223.0, 0.1, 734_003_200.0):
        assert interval(np.full(4, value)) == (value, value)


def test_the_interval_covers() -> None:
    hits = 0
    for seed in range(300):
        found = of(spread(6, 0.01, seed))
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1e-4 <= found.high
    assert 0.92 <= hits / 300 <= 0.98


def test_a_tail_takes_a_thousand_samples() -> None:
    assert of(levels(*[1e-4] * 4)).percentiles.keys() == {50, 90}  # 800
    found = of(levels(*[1e-4] * 5)).percentiles
    assert found.keys() == {50, 90, 99}
    assert found[50] < found[90] < found[99]


def test_of_what_is_more_the_better_the_tail_is_below() -> None:
    found = of(levels(*[1e-4] * 5), RATE)
    assert found.median == pytest.approx(1e4, rel=0.01)
    assert found.percentiles[99] < found.percentiles[90] < found.percentiles[50]


@pytest.mark.parametrize("count", [8, 9, 11, 12, 20])
def test_two_groups_of_processes(count: int) -> None:
    slow = max(2, count // 4)
    processes = [process(1.1e-4 if seed < slow else 1e-4, seed) for seed in range(count)]
    for order in (processes, processes[::-1]):
        assert "two groups of processes" in of(order).note
        assert f": {slow} of {count // 4 * 4} in the slower one" in of(order).note


def test_one_group_is_none() -> None:
    assert not any(of(spread(12, 0.005, seed)).note for seed in range(40))


def test_flaws_are_named() -> None:
    found = of([process(seed=0), drifting(seed=1), *(process(seed=seed) for seed in range(2, 8))])
    assert found.note.startswith("process 2 of 8: its second half is not like its first")


def test_what_every_process_has() -> None:
    both = [process(host_memory=1), process(host_memory=2)]
    assert covered([LATENCY, MEMORY], both) == ((LATENCY, MEMORY), {})
    found, missing = covered([LATENCY, MEMORY], [*both, process()])
    assert found == (LATENCY,)
    assert missing == {"host memory": "this backend tells no host memory"}
    with pytest.raises(ValueError, match="a process has none"):
        measured(MEMORY, [process()])


# ---------------------------------------------------------------- findings


def finding(quantity: Quantity, change: float, subject: str = "a", noise: float = 1e-4) -> Finding:
    """B is larger by ``change``."""
    rng = np.random.default_rng(5)
    medians = np.exp(noise * rng.standard_normal((6, 2, 2)))
    medians[:, 1] *= 1 + change
    return Finding.of(subject, quantity, judge(medians, quantity.metric), 1.0, 1 + change)


@pytest.mark.parametrize("more_is_better", [False, True])
def test_columns_are_apart_by_what_the_words_say(more_is_better: bool) -> None:
    """Of a noisy machine: its median is faster, its mean slower."""
    metric = Metric("x", more_is_better=more_is_better)
    values = np.array([[[1.0, 1.0], [0.99, 0.99]], [[1.0, 1.0], [0.99, 0.99]], [[1.0, 1.0], [1.3, 0.99]]])
    verdict = judge(values, metric)
    a, b = of_both(values, verdict)
    assert np.median(values[:, 1]) < np.median(values[:, 0])
    assert (a, b) == pytest.approx([stats.gmean(values[:, arm], axis=None) for arm in (0, 1)])
    assert b > a
    assert verdict.words.startswith(metric.better if more_is_better else metric.worse)
    assert metric.cost(b) / metric.cost(a) == pytest.approx(np.exp(verdict.estimate))


def test_columns_of_what_has_no_logarithm_are_medians() -> None:
    values = np.array([[[1.0, 3.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]])
    assert of_both(values, judge(np.ones((2, 2, 2)), LATENCY.metric)) == (1.0, 0.0)


def test_every_loss_of_speed_counts_and_of_memory_what_is_above_the_tolerance() -> None:
    assert finding(LATENCY, 0.01).said is Said.REGRESSION
    assert finding(MEMORY, 0.01).said is Said.PASS
    assert "5 % tolerated" in finding(MEMORY, 0.01).words
    assert finding(MEMORY, 0.1).said is Said.REGRESSION
    assert finding(MEMORY, -0.1).said is Said.IMPROVEMENT


def test_the_worst_comes_first() -> None:
    made = [
        finding(LATENCY, 0.0),
        finding(LATENCY, 0.02),
        finding(LATENCY, 0.2),
        finding(LATENCY, -0.2),
        Finding("a", "layers", Said.NOT_COVERED, ""),
        Finding("a", "side B", Said.FAILED, ""),
    ]
    order = [(one.said, one.b) for one in worst_first(made)]
    assert [said for said, _ in order] == [
        Said.FAILED, Said.REGRESSION, Said.REGRESSION, Said.PASS, Said.IMPROVEMENT, Said.NOT_COVERED,
    ]  # fmt: skip
    assert order[1][1] == pytest.approx(1.2)


def test_the_mean_over_models() -> None:
    made = [finding(LATENCY, 0.10, "a"), finding(LATENCY, 0.0, "b"), finding(MEMORY, 0.5, "a")]
    assert mean_over(made, LATENCY).startswith("slower by 4.88 % (")  # the root of 1.1
    assert mean_over(made, LATENCY).endswith("mean of 2 models")
    assert mean_over(made, MEMORY) == ""


def test_only_what_decides_leaves_open() -> None:
    once = next(one for one in QUANTITIES if one.name == "context")
    assert finding(LATENCY, 0.0, noise=0.2).open
    assert finding(once, 0.0, noise=0.5).said is Said.INCONCLUSIVE
    assert not finding(once, 0.0, noise=0.5).open
