"""What three builds an arm tell of two builders, simulated: false regressions, and what is found of a change.

Every cell has the rounds of `harness.measure.builders.Builders`: more processes of every build, until it is settled.
Builds differ by a lottery: none, normal, or one of two tactics that is slower by 3 % in half of all builds. `LOTTERY`
is of one cell, all looks together: what a night of so many rebuilt cells makes of that is printed, and what is found
where they share it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from harness.measure import builders
from harness.measure.builders import BUILDS, LOTTERY, ROUNDS, SHARES, judge_builds
from harness.measure.metric import Metric
from harness.measure.protocol import Stages
from harness.measure.verdict import Outcome

Array = npt.NDArray[np.float64]
LATENCY = Metric("gpu, graph", tolerance=0.01)
CELLS = 1000
SHARING = 40  # cells of a session, that share its errors
DOSES = (0.0, 0.01, 0.02, 0.05)
Lottery = Callable[[np.random.Generator], Array]
LOTTERIES: dict[str, Lottery] = {
    "none": lambda rng: rng.normal(0, 0, BUILDS),
    "normal, .3 %": lambda rng: rng.normal(0, 0.003, BUILDS),
    "normal, 1 %": lambda rng: rng.normal(0, 0.01, BUILDS),
    "two tactics, 3 % apart": lambda rng: np.log(1.03) * rng.integers(0, 2, BUILDS),
}


def cell(rng: np.random.Generator, lottery: Lottery, cv: float, dose: float) -> tuple[Outcome, int]:
    """What is said of a cell in the end, and the processes that it took."""
    middles = [lottery(rng), lottery(rng) + np.log1p(dose)]
    sides: list[list[Array]] = [[np.empty(0)] * BUILDS for _ in middles]
    for more, share in zip(ROUNDS, SHARES, strict=True):
        for side, middle in zip(sides, middles, strict=True):
            side[:] = [
                np.append(before, np.exp(rng.normal(one, cv, 2 * more)))
                for before, one in zip(side, middle, strict=True)
            ]
        verdict, over = judge_builds(sides[0], sides[1], LATENCY, Stages.alpha * share / SHARING)
        if over:
            break
    return verdict.outcome, sum(one.size for side in sides for one in side)


@pytest.mark.parametrize("cv", [0.002, 0.005])
@pytest.mark.parametrize("name", LOTTERIES)
def test_builders(name: str, cv: float, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng([len(name), round(1e4 * cv)])
    found: dict[float, Counter[Outcome]] = {}
    taken: dict[float, float] = {}
    for dose in DOSES:
        said = [cell(rng, LOTTERIES[name], cv, dose) for _ in range(CELLS)]
        found[dose] = Counter(outcome for outcome, _ in said)
        taken[dose] = float(np.mean([processes for _, processes in said]))
    with capsys.disabled():
        shares = [f"{100 * found[d][Outcome.REGRESSION] / CELLS:.1f} %" for d in DOSES]
        open_ = [f"{100 * found[d][Outcome.INCONCLUSIVE] / CELLS:.1f} %" for d in DOSES]
        processes = [f"{taken[d]:.0f}" for d in DOSES]
        print(
            f"\n| {name} | {100 * cv:g} % | "
            + " | ".join(map(", ".join, zip(shares, open_, processes, strict=True)))
            + " |"
        )
    assert found[0.0][Outcome.REGRESSION] <= allowed(name)
    if name == "none":
        assert found[0.02][Outcome.REGRESSION] >= 0.95 * CELLS
    assert found[0.05][Outcome.PASS] <= 0.01 * CELLS


@pytest.mark.parametrize("shared", [1, 4, SHARING])
def test_what_sharing_would_cost(
    shared: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By how many cells share `LOTTERY`: false regressions of a night of `SHARING` cells, and what is found of 5 %."""
    monkeypatch.setattr(builders, "LOTTERY", LOTTERY / shared)
    for name in ("normal, .3 %", "normal, 1 %"):
        rng = np.random.default_rng([len(name), shared])
        rates = []
        for dose in (0.0, 0.02, 0.05):
            said = Counter(cell(rng, LOTTERIES[name], 0.002, dose)[0] for _ in range(CELLS))
            rates.append(said[Outcome.REGRESSION] / CELLS)
        night = 1 - (1 - rates[0]) ** SHARING
        with capsys.disabled():
            print(f"\n| {name} | {shared} | " + " | ".join(f"{100 * one:.1f} %" for one in (*rates, night)) + " |")
        assert rates[0] <= LOTTERY / shared + 3 * (LOTTERY / shared / CELLS) ** 0.5
        assert shared > 1 or rates[2] >= 0.7, "each cell by itself still finds a change that a lottery is beside"


def allowed(name: str) -> float:
    """`LOTTERY`, or that three builds all got one tactic and three the other, and three deviations more."""
    rate = 1 / 64 if name.startswith("two") else LOTTERY
    return CELLS * rate + 3 * (CELLS * rate) ** 0.5
