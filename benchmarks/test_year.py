"""A simulated year through the real store and the real gate: what is found, when, by which verdict, and what is not.

The same nights through two other tools' rules, beside it (`benchmarks/year.py` has both).
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.year import (
    DRIVER,
    FIRST_BASELINE,
    NIGHTS,
    START,
    SWAP,
    Ledger,
    Ruled,
    Year,
    after_a_flaky_session,
    against_a_saved_run,
    cells,
    rolling,
)
from harness.ledger.baseline_file import read
from harness.ledger.gate import Question
from harness.ledger.store import Store
from harness.measure.finding import Said

EACH = int(os.environ.get("TRT_HARNESS_CELLS", "4"))  # of every scenario and noise
BACK = START + 100


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Year:
    folder = tmp_path_factory.mktemp("year")
    with Store(folder / "store.sqlite") as store:
        made = Year(cells(EACH), Ledger(store, folder / "trt-baselines.toml"))
        made.run()
    return made


def of(year: Year, scenario: str, *noises: float) -> dict[str, list[Ruled]]:
    """Rulings by cell."""
    found: dict[str, list[Ruled]] = {}
    for one in year.rulings:
        if one.cell.scenario == scenario and (not noises or one.cell.cv in noises):
            found.setdefault(one.cell.name, []).append(one)
    return found


def failing(rulings: list[Ruled]) -> list[int]:
    """Nights."""
    return sorted({one.night for one in rulings if one.ruling.fails})


def since(rulings: list[Ruled], night: int) -> list[int]:
    """Nights."""
    return sorted({one.night for one in rulings if one.night >= night})


def test_year_told(year: Year, capsys: pytest.CaptureFixture[str]) -> None:
    """For the record: one line a scenario and noise, and the same by the peers' rules."""
    nights = len({one.night for one in year.rulings})
    with capsys.disabled():
        print(f"\n{len(year.cells)} cells, {nights} nights, {year.pairs / len(year.cells) / nights:.1f} pairs a cell")
        for scenario in dict.fromkeys(cell.scenario for cell in year.cells):
            for cv in (0.002, 0.005, 0.01):
                rows = of(year, scenario, cv)
                first = [min(failing(one), default=None) for one in rows.values()]
                fails = [len(failing(one)) for one in rows.values()]
                said = Counter(one.ruling.finding.said.value for many in rows.values() for one in many)
                saved = [against_a_saved_run(year.values[name]) for name in rows]
                rolled = [rolling(year.values[name]) for name in rows]
                print(
                    f"{scenario} | {100 * cv:g} % | first {first} | nights that fail {fails} | {dict(said)} | "
                    f"pytest-benchmark {[len(one) for one in saved]} | TensorRT-LLM {[len(one) for one in rolled]}"
                )
    assert year.rulings


def test_year_has_no_false_alarm(year: Year) -> None:
    """Where the plan is as fast as the baseline's, whatever the machine and the night do, nothing fails."""
    honest = ("steady", "steady, one plan", "-3 % that stays", "one flaky night", "one flaky night of another plan")
    assert [
        (one.night, one.cell.name) for one in year.rulings if one.cell.scenario in honest and one.ruling.fails
    ] == []
    for scenario in ("+1 % that stays", "+2 % that stays", "+5 % that stays", "+.3 % a night, ten nights"):
        for rulings in of(year, scenario).values():
            assert min(failing(rulings), default=START) >= START


@pytest.mark.parametrize(
    ("percent", "noises", "within"), [(1, (0.002,), 2), (2, (0.002, 0.005), 2), (5, (0.002, 0.005, 0.01), 2)]
)
def test_year_finds_what_stays_and_never_clears_it(
    year: Year, percent: int, noises: tuple[float, ...], within: int
) -> None:
    for name, rulings in of(year, f"+{percent} % that stays", *noises).items():
        nights = failing(rulings)
        assert nights[0] < START + within, name
        # A night may leave it open; none says that it is gone.
        assert len(nights) >= 0.97 * len(since(rulings, nights[0])), name
        passed = [one for one in rulings if one.night > nights[0] and one.ruling.finding.said is Said.IMPROVEMENT]
        assert passed == [], name


def test_year_is_not_disarmed_by_a_flaky_session_of_the_baseline(tmp_path: Path) -> None:
    """Neither the level nor the tolerance has any of it."""
    with Store(tmp_path / "store.sqlite") as store:
        made = Year(after_a_flaky_session(EACH), Ledger(store, tmp_path / "trt-baselines.toml"))
        made.run()
    for name, rulings in of(made, made.cells[0].scenario).items():
        nights = failing(rulings)
        assert START <= nights[0] < START + 2, name
        assert len(nights) >= 0.97 * len(since(rulings, nights[0])), name


def test_year_finds_what_creeps(year: Year) -> None:
    """By the tenth night it is 3 %: found before, and never cleared by creeping baselines."""
    for name, rulings in of(year, "+.3 % a night, ten nights").items():
        nights = failing(rulings)
        assert START <= nights[0] <= START + 12, name
        assert len(nights) >= 0.97 * len(since(rulings, nights[0])), name


@pytest.mark.parametrize("percent", [2, 5])
def test_year_sees_what_vanishes(year: Year, percent: int) -> None:
    for name, rulings in of(year, f"+{percent} % for 20 nights", 0.002, 0.005).items():
        nights = failing(rulings)
        assert nights[0] < START + 2, name
        assert len(nights) >= 18, name
        assert max(nights) < START + 20, name


def test_year_takes_an_improvement_and_holds_it(year: Year) -> None:
    """Promoted after two sessions; back at the old speed it is a regression."""
    for name, rulings in of(year, "-3 %, back after 100 nights").items():
        told = [one.night for one in rulings if one.ruling.finding.said is Said.IMPROVEMENT]
        # By history alone, which five sessions of noisy processes make wide.
        assert told[0] < START + (20 if rulings[0].cell.cv == 0.01 else 5), name
        nights = failing(rulings)
        assert BACK <= nights[0] < BACK + 3, name
        assert len(nights) >= 0.97 * len(since(rulings, nights[0])), name


def test_year_blames_the_driver(year: Year) -> None:
    """The same plan is slower under a new driver, and the canaries are not: a regression of the environment.

    History alone decides, and where the five sessions of a baseline happen to lie far apart it leaves that open.
    """
    for name, rulings in of(year, "driver costs 2 %", 0.002, 0.005).items():
        told = [one for one in rulings if DRIVER <= one.night < DRIVER + 3]
        assert all("driver 590 (was 580)" in one.ruling.finding.words for one in told), name
        regressions = [one for one in rulings if one.ruling.fails]
        if rulings[0].cell.cv > 0.002 and not regressions:
            assert {one.ruling.finding.said for one in told} == {Said.INCONCLUSIVE}, name
            continue
        assert DRIVER <= regressions[0].night < DRIVER + 3, name
        assert {one.ruling.question for one in regressions} == {Question.ENVIRONMENT}, name
        assert max(one.night for one in regressions) < DRIVER + year.settling, name  # then somebody accepted it


def test_year_calls_a_swap_of_the_gpu_by_its_name(year: Year) -> None:
    """Canaries and cells move alike: the host changed, and nothing fails."""
    for name, rulings in of(year, "steady, one plan").items():
        meanwhile = [one for one in rulings if SWAP <= one.night < SWAP + year.settling]
        assert sum(one.ruling.finding.said is Said.HOST_CHANGED for one in meanwhile) >= 7, name
        after = [one for one in rulings if one.night >= SWAP + year.settling]
        assert np.mean([one.ruling.finding.said is Said.PASS for one in after]) > 0.9, name


def test_year_keeps_its_tolerances(year: Year) -> None:
    """What nobody accepted anew is as it was in the first week, until another GPU has all accepted anew."""
    held = read(year.ledger.file)
    old = [one for one in year.before_swap.active.values() if one.reason == "the first"]
    assert len(old) > len(year.cells) / 2
    for one in old:
        assert len(one.sessions) == FIRST_BASELINE
        (known,) = one.metrics.values()
        assert 0.01 <= known.tolerance <= 0.05
    for one in held.active.values():
        assert all(0.01 <= known.tolerance <= 0.05 for known in one.metrics.values())
    assert {one.reason for one in held.active.values()} == {
        "the first",
        "a known cost of the new environment",
        "faster in two sessions",
    }


def test_year_by_other_rules(year: Year) -> None:
    """What stays drifts into a rolling baseline; what is below 5 % is not seen by either."""
    for name in of(year, "+5 % that stays", 0.002):
        found = rolling(year.values[name])
        assert not found or max(found) < START + 100
    for name in of(year, "+2 % that stays"):
        assert [night for night in rolling(year.values[name]) if night < SWAP] == []
        assert [night for night in against_a_saved_run(year.values[name]) if night < SWAP] == []
    assert NIGHTS == 365
