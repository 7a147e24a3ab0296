"""Whether the statistics hold: sessions of 300 cells and 4 metrics, simulated over models of noise and doses.

Every night is a whole session of `protocol.run`, screening, confirmation and canaries, on a machine of
`noise`; nothing of the statistics is written a second time here. ``TRT_HARNESS_NIGHTS`` says how many nights
of dose 0 a model has, 3,000 by default, and scales the rest; below 299 not even none of them bounds the share
of bad ones to 1 %.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import betaincinv

from benchmarks import noise, peers
from benchmarks.noise import Night, Noise, blocks_of, mixed
from harness.measure.metric import Metric
from harness.measure.modes import groups
from harness.measure.protocol import Session, Stages, run, suspects
from harness.measure.stats import LEVEL, block_ratios, over_blocks, visible
from harness.measure.verdict import LEAST, Outcome, floor, multiple

Array = npt.NDArray[np.float64]

NIGHTS = int(os.environ.get("TRT_HARNESS_NIGHTS", "3000"))
CELLS, METRICS = 300, 4
HYPOTHESES = CELLS * METRICS
GAP = Metric("latency").harmless_gap
CVS = (0.002, 0.005, 0.01, 0.02)  # between processes, of the cells of a night in turn
DOSES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)

BAD_NIGHTS = 0.01  # at most, at the upper bound of 95 % confidence
PAIRS = 10  # a cell at dose 0, at most on average
CONFIRMED = {(0.005, 0.02): 0.99, (0.01, 0.02): 0.9, (0.02, 0.05): 0.99}  # by CV and dose, at least
COVERAGE = 0.94  # of intervals of 95 %, at least
FALSELY = 0.001  # of metrics of one mode, at most, that are UNSTABLE nevertheless
SHAPED = 0.02  # likewise, of noise that is skewed or even
MASKED = 0.002  # of changes, at most, that are UNSTABLE instead
UNSTABLE, MOVED = 0.99, 0.99  # of cells of two modes, and of sessions across a step of `noise.SWAP`, at least
POWER = 0.89  # with which a change of the smallest visible size is seen, which is told to be .9; at least

by_noise = pytest.mark.parametrize("model", noise.ALL, ids=lambda model: model.name)
by_one_mode = pytest.mark.parametrize("model", noise.ONE_MODE, ids=lambda model: model.name)


def generator(name: str, model: Noise) -> np.random.Generator:
    return np.random.default_rng([*name.encode(), *model.name.encode()])


def session(
    model: Noise,
    rng: np.random.Generator,
    cv: Sequence[float] = CVS,
    dose: Array | None = None,
    stages: Stages | None = None,
) -> Session:
    night = Night(model, mixed(cv, CELLS), np.zeros((CELLS, METRICS)) if dose is None else dose, rng)
    return run(night.cells, night.metrics, night, night.canaries, stages)


def most(bad: int, of: int) -> float:
    """The upper bound of a share at 95 % confidence, one-sided (Clopper and Pearson 1934)."""
    return float(betaincinv(bad + 1, of - bad, 0.95)) if bad < of else 1.0


def fewest(bad: int, of: int) -> float:
    """The lower bound likewise."""
    return float(betaincinv(bad, of - bad + 1, 0.05)) if bad else 0.0


def table(capsys: pytest.CaptureFixture[str], rows: Iterable[Sequence[object]]) -> None:
    with capsys.disabled():
        print()
        for row in rows:
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def test_noise_is_what_it_says() -> None:
    """Deviation, correlation of neighbours, size and share of modes, steps, and that only B has the dose."""
    rng = np.random.default_rng(0)
    logs = {model.name: model.logs(rng, (4000, 64), 0.01) for model in noise.ALL}
    for name in ("white", "AR(1)", "t3", "quantised", "host swap"):
        assert logs[name].std() == pytest.approx(0.01, rel=0.05)
        together = np.mean(logs[name][:, 1:] * logs[name][:, :-1]) / np.mean(np.square(logs[name]))
        assert together == pytest.approx(noise.CORRELATION if name == "AR(1)" else 0, abs=0.02)
    assert np.mean(logs["bimodal"] > 0.055) == pytest.approx(noise.SLOW, abs=0.01)
    assert (logs["drift"][:, 16:] - logs["drift"][:, :-16]).std() > 0.014  # with noise alone .01 times sqrt(2)
    read = blocks_of(noise.QUANTISED, rng, 100, 4, 0.01) / noise.STEP
    assert np.abs(read - np.round(read)).max() < 1e-6
    for model in noise.ALL:
        dosed = np.log(blocks_of(model, rng, 4000, 4, 0.001, change=0.05))
        assert np.mean(dosed[:, :, 1] - dosed[:, :, 0]) == pytest.approx(np.log(1.05), abs=0.002)


def test_the_other_rules_find_what_is_plain() -> None:
    rng = np.random.default_rng(0)
    for dose, found in ((0.2, True), (0.0, False), (-0.2, False)):
        some = blocks_of(noise.WHITE, rng, 50, 4, 0.005, dose)[:, None]
        series = np.exp(0.005 * rng.standard_normal(50))
        series[-3:] *= 1 + dose
        assert np.all(peers.saved_run(some[..., 0, 0, 0], some[..., 0, 1, 0]) == found)
        assert np.all(peers.plain(some) == found)
        assert np.all(peers.asv(some, rng, 0.002) == found)
        assert peers.otava(series) == found


@dataclass
class Nights:
    """What nights without any change came to, all together."""

    bad: int = 0  # with a false regression, or more
    improvements: int = 0
    suspects: int = 0
    given_up: int = 0  # for a host that changed
    unstable: int = 0  # metrics
    pairs: float = 0.0  # a cell


@cache
def without_a_change(model: Noise) -> Nights:
    rng, nights = generator("without", model), Nights()
    for _ in range(NIGHTS):
        night = session(model, rng)
        nights.bad += bool(night.regressions)
        nights.given_up += bool(night.host_changed)
        nights.suspects += len(night.confirmed)
        nights.unstable += int(night.unstable.sum())
        nights.improvements += sum(one.outcome is Outcome.IMPROVEMENT for one in night.confirmed.values())
        nights.pairs += float(np.mean(night.pairs)) / NIGHTS
    return nights


@by_noise
def test_hardly_a_night_has_a_false_regression(model: Noise, capsys: pytest.CaptureFixture[str]) -> None:
    nights = without_a_change(model)
    upper = most(nights.bad, NIGHTS)
    counts = f"{nights.improvements / NIGHTS:.3f}", f"{nights.suspects / NIGHTS:.1f}", f"{nights.pairs:.2f}"
    table(
        capsys,
        [
            (
                model.name,
                f"{nights.bad} of {NIGHTS:,}",
                percent(upper, 2),
                *counts,
                percent(nights.unstable / (NIGHTS * HYPOTHESES), 3),
                percent(nights.given_up / NIGHTS),
            )
        ],
    )
    assert upper <= BAD_NIGHTS


@by_noise
def test_a_cell_costs_few_pairs(model: Noise) -> None:
    assert without_a_change(model).pairs <= PAIRS


@by_one_mode
def test_hardly_a_cell_of_one_mode_is_unstable(model: Noise) -> None:
    assert without_a_change(model).unstable <= FALSELY * NIGHTS * HYPOTHESES


@by_one_mode
def test_changes_are_confirmed(model: Noise, capsys: pytest.CaptureFixture[str]) -> None:
    """One metric in 36 of 300 cells is worse, by each dose at each CV; the others are the same."""
    rng = generator("confirmed", model)
    nights = max(NIGHTS // 3, 1)
    kinds = [(cv, dose) for cv in (0.005, 0.01, 0.02) for dose in DOSES]
    changed = {cell: kinds[cell % len(kinds)] for cell in range(2 * len(kinds))}
    cvs = mixed((0.005, 0.01, 0.02), CELLS)
    doses = np.zeros((CELLS, METRICS))
    for cell, (cv, dose) in changed.items():
        cvs[cell], doses[cell, cell % METRICS] = cv, dose
    found: Counter[tuple[float, float]] = Counter()
    false = masked = 0
    for _ in range(nights):
        night = session(model, rng, tuple(cvs), doses)
        masked += int(night.unstable[doses > 0].sum())
        for cell, metric, _ in night.regressions:
            number = int(cell)
            if doses[number, night.metrics.index(metric)]:
                found[changed[number]] += 1
            else:
                false += 1
    share = {kind: found[kind] / (2 * nights) for kind in kinds}
    table(
        capsys,
        [
            (model.name, percent(cv), *(percent(share[cv, dose]) for dose in DOSES), f"{false} false in {nights}")
            for cv in (0.005, 0.01, 0.02)
        ]
        + [(model.name, "UNSTABLE", f"{masked} of {2 * nights * len(kinds)}")],
    )
    assert masked <= MASKED * 2 * nights * len(kinds)
    for kind, least in CONFIRMED.items():
        assert share[kind] >= least, kind


@pytest.mark.parametrize("model", [noise.WHITE, noise.T3], ids=lambda model: model.name)
def test_which_stage_loses_a_change(model: Noise, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 5 % at a CV of 2 %: what the screening takes for the same, and what it suspects and the rest leaves open."""
    rng = generator("lost", model)
    cells = 20 * NIGHTS
    screened = blocks_of(model, rng, cells, Stages.screening, 0.02, 0.05)[:, None]
    found = suspects(screened, [model.metric("metric")], Stages())
    seen = found.several[:, 0].copy()
    seen[found.cell[found.worse]] = True
    changed, nights = 36, max(NIGHTS // 6, 1)
    doses = np.zeros((CELLS, METRICS))
    doses[:changed, 0] = 0.05
    left = sum(
        night.confirmed[cell, 0].outcome not in (Outcome.REGRESSION, Outcome.UNSTABLE)
        for night in (session(model, rng, (0.02,), doses) for _ in range(nights))
        for cell in range(changed)
        if (cell, 0) in night.confirmed
    )
    lost = float(np.mean(~seen)), left / (nights * changed)
    table(capsys, [(model.name, f"of {cells:,}, {nights * changed:,}", *(percent(share, 2) for share in lost))])
    assert sum(lost) <= 1 - CONFIRMED[0.02, 0.05]


def test_what_a_higher_level_of_screening_costs(capsys: pytest.CaptureFixture[str]) -> None:
    """Pairs a cell at dose 0, by the level at which what looks worse is measured again."""
    costs = []
    for level in (Stages.suspect, Stages.suspect + 0.005):
        rng = generator("level", noise.WHITE)
        nights = (session(noise.WHITE, rng, stages=Stages(suspect=level)) for _ in range(max(NIGHTS // 10, 1)))
        costs.append(float(np.mean([np.mean(night.pairs) for night in nights])))
        table(capsys, [(percent(level), f"{costs[-1]:.2f}")])
    assert costs[1] > costs[0]


@pytest.mark.parametrize("model", [noise.WHITE, noise.T3], ids=lambda model: model.name)
def test_modes_of_one_metric_beside_others(model: Noise, capsys: pytest.CaptureFixture[str]) -> None:
    """For the record: how many of a cell's other metrics are called UNSTABLE, any of the three, and the one that is."""

    def of_the_first(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return noise.modes(rng, shape) * (np.arange(shape[-2]) == 0)[:, None]

    rng = generator("one of four", model)
    nights = [session(replace(model, beside=of_the_first), rng) for _ in range(max(NIGHTS // 300, 1))]
    unstable = np.concatenate([night.unstable for night in nights])
    pairs = float(np.mean([night.pairs for night in nights]))
    shares = unstable[:, 1:].mean(), unstable[:, 1:].any(axis=1).mean(), unstable[:, 0].mean()
    table(capsys, [(model.name, *map(percent, shares), f"{pairs:.1f} pairs")])
    assert unstable[:, 0].mean() > 4 * unstable[:, 1:].mean()


@by_one_mode
def test_intervals_of_verdicts_cover(model: Noise, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all verdicts of a night, and of those that were measured again, which were chosen and stopped at a look."""
    rng = generator("verdicts", model)
    doses = np.zeros((CELLS, METRICS))
    doses[::10, 0] = 0.02
    covered: list[bool] = []
    again: list[bool] = []
    for _ in range(max(NIGHTS // 30, 1)):
        night = session(model, rng, CVS[1:], doses)
        for place, (_, _, verdict) in enumerate(night.verdicts()):
            number = divmod(place, METRICS)
            inside = verdict.low <= np.log1p(doses[number]) <= verdict.high
            covered.append(inside)
            if number in night.confirmed:
                again.append(inside)
    table(capsys, [(model.name, percent(np.mean(covered), 2), percent(np.mean(again), 2))])
    assert np.mean(covered) >= COVERAGE


CORRELATED = [Noise(f"AR(1) {phi}", noise.autoregressive(phi)) for phi in (0.3, 0.5, 0.8)]
COVERING = (noise.WHITE, *CORRELATED, noise.T3, noise.DRIFT, noise.QUANTISED)


@pytest.mark.parametrize("model", COVERING, ids=lambda model: model.name)
def test_intervals_cover(model: Noise, capsys: pytest.CaptureFixture[str]) -> None:
    """By number of blocks and CV, of a change of 2 %."""
    rng = generator("cover", model)
    blocks, rows = (4, 8, 16, 32), []
    for cv in (0.002, 0.005, 0.02):
        row = []
        for number in blocks:
            ratios = block_ratios(blocks_of(model, rng, 20_000, number, cv, 0.02))
            low, high = over_blocks(ratios, model.tick).interval()
            row.append(float(np.mean((low <= np.log(1.02)) & (np.log(1.02) <= high))))
        rows.append(row)
    table(
        capsys,
        [(model.name, percent(cv), *map(percent, row)) for cv, row in zip((0.002, 0.005, 0.02), rows, strict=True)],
    )
    assert np.min(rows) >= COVERAGE


@pytest.mark.parametrize("cv", CVS)
def test_two_modes_are_unstable(cv: float, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether B is worse by 2 % or not."""
    rng = generator(f"unstable {cv}", noise.BIMODAL)
    doses = np.zeros((CELLS, METRICS))
    doses[::2] = 0.02
    outcomes = {False: Counter[Outcome](), True: Counter[Outcome]()}
    for _ in range(max(NIGHTS // 100, 1)):
        night = session(noise.BIMODAL, rng, (cv,), doses)
        for cell, _, verdict in night.verdicts():
            outcomes[int(cell) % 2 == 0][verdict.outcome] += 1
    rows = []
    for dosed, count in outcomes.items():
        others = {outcome.value: number for outcome, number in count.items() if outcome is not Outcome.UNSTABLE}
        share = count[Outcome.UNSTABLE] / sum(count.values())
        rows.append((percent(cv), "2 %" if dosed else "0", percent(share, 2), others or "none"))
    table(capsys, rows)
    for count in outcomes.values():
        assert count[Outcome.UNSTABLE] >= UNSTABLE * sum(count.values())


@pytest.mark.parametrize(
    ("model", "cv"),
    [(noise.BIMODAL, cv) for cv in (0.005, 0.01, 0.015, 0.02)]
    + [(one, 0.02) for one in (noise.WHITE, *CORRELATED, noise.T3, noise.SKEWED, noise.EVEN)],
    ids=lambda value: getattr(value, "name", None),
)
def test_how_many_processes_show_two_modes(model: Noise, cv: float, capsys: pytest.CaptureFixture[str]) -> None:
    """Of cells with one metric, by the number of blocks after a screening; in brackets by hints of as much."""
    rng = generator(f"processes {cv}", model)
    shares, row = [], []
    for later in (0, 2, 4, 8, 12):
        batches = [blocks_of(model, rng, 20_000, blocks, cv) for blocks in (4, later) if blocks]
        found = groups(*batches, tick=model.tick)
        alone = replace(found, evidence=found.hint)
        shares.append(float(np.mean(found.clear(GAP))))
        row.append(f"{percent(shares[-1], 2)} ({percent(float(np.mean(alone.clear(GAP))), 2)})")
    table(capsys, [(model.name, percent(cv), *row)])
    if model is noise.BIMODAL and cv <= 0.01:
        assert shares[2] >= UNSTABLE
    if model in (noise.WHITE, noise.T3, *CORRELATED[:2]):
        assert max(shares) <= FALSELY
    if model in (noise.SKEWED, noise.EVEN):
        assert max(shares) <= SHAPED


@pytest.mark.parametrize("model", [noise.SKEWED, noise.EVEN], ids=lambda model: model.name)
def test_noise_of_another_shape_is_seldom_unstable(model: Noise, capsys: pytest.CaptureFixture[str]) -> None:
    """In whole nights, however many steps they take, and what they cost."""
    rng = generator("shaped", model)
    nights = [session(model, rng) for _ in range(max(NIGHTS // 100, 1))]
    share, pairs = (float(np.mean(each)) for each in ([n.unstable for n in nights], [n.pairs for n in nights]))
    table(capsys, [(model.name, percent(share, 2), f"{pairs:.2f}")])
    assert share <= SHAPED


def test_a_step_of_the_host_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """HOST_CHANGED for every cell, at the step of `noise.SWAP` and beyond; smaller ones are told, not judged."""
    rng = np.random.default_rng(1)
    times = max(NIGHTS // 3, 1)
    shares = {}
    for step in (0.0, *DOSES):
        model = Noise(f"swap of {step}", swap=float(np.log1p(step)))
        nights = (Night(model, np.full(2, 0.005), np.zeros((2, 1)), rng) for _ in range(times))
        shares[step] = sum(bool(run(n.cells, n.metrics, n, n.canaries).host_changed) for n in nights) / times
    table(capsys, [("step", *(percent(step) for step in shares)), ("told", *map(percent, shares.values()))])
    full = session(noise.HOST_SWAP, rng)
    assert {verdict.outcome for *_, verdict in full.verdicts()} == {Outcome.HOST_CHANGED}
    assert shares[0.0] <= 0.002  # what two canaries at `canary.SURE` may take for nothing
    assert all(share >= MOVED for step, share in shares.items() if step >= noise.SWAP)


def test_the_floor_follows_the_cells_own_noise(capsys: pytest.CaptureFixture[str]) -> None:
    """It is half of what its usual blocks can show, and a change of the smallest visible size is seen as told."""
    rng = np.random.default_rng(2)
    rows, seen = [], []
    for cv in CVS:
        row = []
        for blocks in (4, 8, 16, 32):
            dose = float(visible(cv, blocks, floor=LEAST, multiple=multiple()))
            change = over_blocks(block_ratios(blocks_of(noise.WHITE, rng, 20_000, blocks, cv, np.expm1(dose))))
            power = float(np.mean((change.p_worse < LEVEL) & (change.mean >= floor(change.spread))))
            row.append(f"{percent(np.expm1(dose), 2)} ({percent(power)})")
            seen.append(power)
        rows.append((percent(cv), percent(float(np.expm1(floor(cv))), 2), *row))
    table(capsys, rows)
    assert floor(np.array(CVS)) == pytest.approx(visible(np.array(CVS), 4) / 2)
    assert min(seen) >= POWER


WITHIN = 0.002  # deviation of single samples in a process, of their median
RULES = ("this project", "pytest-benchmark", "asv", "asv, factor 1", "Otava", "5 %")
PEER_CV = 0.01


@by_noise
def test_beside_other_tools(model: Noise, capsys: pytest.CaptureFixture[str]) -> None:
    """False alarms a night, and what is found of 2 % and of 5 %, every cell of a CV of 1 %, by the same data.

    30 cells are worse by 2 %, 30 by 5 %, in one metric. Saved runs and histories are of nights before, when the
    host had not swapped; a history has one process a night, of which the last three are of B.
    """
    rng = generator("peers", model)
    doses = np.zeros((CELLS, METRICS))
    doses[:30, 0], doses[30:60, 0] = 0.02, 0.05
    nights = max(NIGHTS // 30, 1)
    alarms: dict[str, list[npt.NDArray[np.bool_]]] = {rule: [] for rule in RULES}
    for number in range(nights):
        night = session(model, rng, (PEER_CV,), doses)
        screened = night.screened
        ours = np.zeros(doses.shape, bool)
        for cell, metric, _ in night.regressions:
            ours[int(cell), night.metrics.index(metric)] = True
        saved = model.read(model.logs(rng, (CELLS, METRICS, 1), PEER_CV)[..., 0])
        alarms["this project"].append(ours)
        alarms["pytest-benchmark"].append(peers.saved_run(saved, screened[..., 0, 1, 0]))
        alarms["asv"].append(peers.asv(screened, rng, WITHIN))
        alarms["asv, factor 1"].append(peers.asv(screened, rng, WITHIN, factor=1.0))
        alarms["5 %"].append(peers.plain(screened))
        if number % 5 == 0:  # since it takes the longest
            history = model.logs(rng, (CELLS, METRICS, peers.WINDOW), PEER_CV)
            history[..., -3:] += (np.log1p(doses) + model.swap)[..., None]
            flags = [peers.otava(series) for series in model.read(history).reshape(HYPOTHESES, -1)]
            alarms["Otava"].append(np.reshape(flags, doses.shape))
    rows = []
    for rule, every in alarms.items():
        false, small, large = (float(np.mean([night[doses == dose] for night in every])) for dose in (0.0, 0.02, 0.05))
        rows.append((model.name, rule, f"{HYPOTHESES * false:.2f}", percent(small, 0), percent(large, 0)))
    table(capsys, rows)
    bad = int(np.any(np.array(alarms["this project"])[:, doses == 0], axis=1).sum())
    assert fewest(bad, nights) <= BAD_NIGHTS
