"""A simulated year through the real store and the real gate: what is found, when, by which verdict, and what is not.

The same nights through two other tools' rules, beside it (`benchmarks/year.py` has both).
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.year import (
    DRIVER,
    FIRST_BASELINE,
    NIGHTS,
    PROCESSES,
    RELEASE,
    START,
    STEPS,
    SWAP,
    Cell,
    Ledger,
    Ruled,
    Year,
    after_a_flaky_session,
    against_a_saved_run,
    cells,
    rebuilt,
    releases,
    rolling,
)
from harness.ledger.baseline_file import read
from harness.ledger.candidate import USUAL
from harness.ledger.gate import Question
from harness.ledger.store import Store
from harness.measure.builders import LOTTERY
from harness.measure.finding import Said

EACH = int(os.environ.get("TRT_HARNESS_CELLS", "4"))  # of every scenario and noise
BACK = START + 100
DRAWN = 0.01  # of nights: one of three builds draws more than the tolerance, of a lottery and what the night adds
FALSE = LOTTERY / 10  # of nights of a rebuilt cell: history suspects few of those that `LOTTERY` grants (4 of 11,456)


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Year:
    return passed(cells(EACH), tmp_path_factory.mktemp("year"), asked=PROCESSES)


def passed(cells: list[Cell], folder: Path, pinned: str = "", asked: int = USUAL) -> Year:
    """The year of ``cells``, in ``folder``."""
    with Store(folder / "store.sqlite") as store:
        made = Year(cells, Ledger(store, folder / "trt-baselines.toml"), pinned=pinned, asked=asked)
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
    made = passed(after_a_flaky_session(EACH), tmp_path, asked=PROCESSES)
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


def asked(rulings: list[Ruled], question: Question) -> list[Ruled]:
    return [one for one in rulings if one.ruling.question is question]


def test_year_of_a_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Eight steps of .7 %, each accepted: with the fifth it is 3.5 %, and 3 % are allowed since the release.

    Four are 2.8 %, which noise takes for more on some nights where processes differ by more than .2 %; three are not.
    """
    made = passed(releases(EACH), tmp_path, RELEASE)
    held = read(made.ledger.file)
    over = STEPS[4]
    for cell in made.cells:
        rulings = [one for one in made.rulings if one.cell is cell]
        drifted = asked(rulings, Question.DRIFT)
        nights = failing(drifted)
        early = len([night for night in nights if night < over])
        since_over = [night for night in nights if night >= over]
        with capsys.disabled():
            print(f"\n{cell.name}: {early} before {over}, {len(since_over)} from {since_over[:1]} on")
        if cell.plan(NIGHTS) == 0:
            assert failing(rulings) == [], cell.name
            continue
        assert held.releases[cell.name].sessions == tuple(f"night-{night:03}" for night in range(FIRST_BASELINE))
        assert held.active[cell.name].plans == (f"{cell.name}/{len(STEPS)}",), "the last step was accepted, too"
        assert [night for night in nights if night < STEPS[4 if cell.cv == 0.002 else 3]] == [], cell.name
        assert since_over[0] < over + 2, cell.name
        assert len(since_over) >= (0.9 if cell.cv == 0.01 else 0.97) * len(since(rulings, over)), cell.name
        assert all(f"3 % allowed since release {RELEASE}" in one.ruling.finding.words for one in drifted), cell.name
        accepted = [one for one in rulings if one.ruling.question is not Question.DRIFT and one.ruling.fails]
        assert all((one.night - STEPS[0]) % 30 < FIRST_BASELINE for one in accepted), "then somebody accepts it"


def test_year_of_rebuilt_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three builds a night, which a lottery sets apart by .3 %.

    One slow build of each night is named until the owner accepts what has one in each of its sessions: the other GPU.
    """
    made = passed(rebuilt(EACH), tmp_path)
    nights = len({one.night for one in made.rulings})
    with capsys.disabled():
        print(f"\n{len(made.cells)} rebuilt cells, {made.pairs / len(made.cells) / nights:.1f} pairs a cell")
    false = honest = drawn = ruled = 0
    for cell in made.cells:
        rulings = asked([one for one in made.rulings if one.cell is cell], Question.REBUILT)
        late = since(rulings, START)
        fails = failing(rulings)
        named = [one for one in rulings if "1 of 3 builds gave plan" in one.ruling.finding.words]
        told = since([one for one in named if one.ruling.finding.open], START)
        with capsys.disabled():
            said = dict(Counter(one.ruling.finding.said.value for one in rulings))
            print(f"{cell.name}: fails {fails[:1]}, {len(fails)}; names a build in {len(told)} of {len(late)} | {said}")
        equal = NIGHTS if "steady" in cell.scenario else START
        false += len([night for night in fails if night < equal])
        honest += len({one.night for one in rulings if one.night < equal})
        fails = since([one for one in rulings if one.ruling.fails], START)
        if "that stays" in cell.scenario:
            assert fails[0] < START + 3, cell.name
            assert len(set(fails)) >= 0.85 * len(late), cell.name
        elif "one build" in cell.scenario:
            held = SWAP + made.settling - START
            # Two processes of CV .5 % seldom show 2 % beyond the baseline's: from .18 to .75 of the nights, by cell.
            least = 0.1 if "+2 %" in cell.scenario and cell.cv == 0.005 else 0.9
            assert len([night for night in {*told, *fails} if night < START + held]) >= least * held, cell.name
        else:
            assert "steady" in cell.scenario
            drawn, ruled = drawn + len(told), ruled + len(late)
    assert drawn <= stats.binom.ppf(0.999, ruled, DRAWN)
    assert false <= stats.binom.ppf(0.999, honest, FALSE), "by chance once in a thousand such years"


def test_year_by_other_rules(year: Year) -> None:
    """What stays drifts into a rolling baseline; what is below 5 % is not seen by either."""
    for name in of(year, "+5 % that stays", 0.002):
        found = rolling(year.values[name])
        assert not found or max(found) < START + 100
    for name in of(year, "+2 % that stays"):
        assert [night for night in rolling(year.values[name]) if night < SWAP] == []
        assert [night for night in against_a_saved_run(year.values[name]) if night < SWAP] == []
    assert NIGHTS == 365
