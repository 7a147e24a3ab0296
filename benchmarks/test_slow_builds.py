"""How often a gate names a slow build that the baseline had, too: of several builds one is slower in every session."""

from __future__ import annotations

import numpy as np

from harness.ledger.baselines import Baseline, Known
from harness.ledger.gate import Gate, Tonight
from harness.ledger.policy import DEFAULTS, LATENCY
from harness.measure.quantity import QUANTITIES

METRIC = "gpu, graph"
BUILDS, SESSIONS, NIGHTS = (3, 5, 10, 20), (5, 10, 20, 30), 300
CV, SLOWER = 0.002, 0.02


def test_a_lottery_that_the_baseline_had() -> None:
    """Percent of nights, of a baseline each. Two processes a build, as the gate takes."""
    told = {(builds, sessions): 100 * named(builds, sessions) for builds in BUILDS for sessions in SESSIONS}
    print("\n| builds, one 2 % slower |", *(f"{count} sessions |" for count in SESSIONS))
    for builds in BUILDS:
        print(f"| {builds} |", *(f"{told[builds, count]:.1f} % |" for count in SESSIONS))
    assert all(told[3, count] < 1.5 for count in SESSIONS)
    assert all(told[5, count] < 10 for count in SESSIONS)


def named(builds: int, sessions: int) -> float:
    """The share of nights in which that build is no longer passed by its screening."""
    rng = np.random.default_rng((builds, sessions))
    gate = Gate(DEFAULTS, {one.name: one for one in QUANTITIES}, "screen")
    plans = tuple(f"plan-{number}" for number in range(builds))
    found = 0
    for _ in range(NIGHTS):
        before = [measured(rng, builds) for _ in range(sessions)]
        spread = float(np.median([np.log(one).std(ddof=1) for one in before]))
        known = Known.of("s", [float(np.median(one)) for one in before], spread, DEFAULTS[LATENCY])
        baseline = Baseline("k", "cell", tuple(f"old-{plan}" for plan in plans), ("a", "b"), {METRIC: known})
        tonight = Tonight("k", "cell", "tonight", plans, {}, {METRIC: measured(rng, builds)})
        (ruling,) = gate.rule(tonight, baseline, None, None)  # type: ignore[arg-type]  # screening asks no rival
        found += "builds gave plan" in ruling.finding.words
    return found / NIGHTS


def measured(rng: np.random.Generator, builds: int) -> np.ndarray:
    """A session's processes in seconds, two of each build, one of which is slower."""
    slow = np.log1p(SLOWER) * (np.arange(2 * builds) % builds == rng.integers(builds))
    return 1e-3 * np.exp(slow + rng.normal(0, CV, 2 * builds))
