"""The two stages, on machines of which the truth is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from harness.measure.metric import Metric
from harness.measure.modes import groups
from harness.measure.protocol import Session, Stages, run, suspects
from harness.measure.stats import LEVEL, block_ratios, over_blocks, over_processes
from harness.measure.verdict import Outcome, floor, judge
from tests.measure.simulated import Array, biased, exact, medians

LATENCY = Metric("latency")
STEADY = {"arithmetic": np.array([1.0, 1.001, 0.999, 1.0]), "memory": np.array([5.0, 5.01, 4.99, 5.0])}
ONE_LOOK = Stages(looks=(4,), shares=(1.0,), alpha=0.01)


def steady() -> dict[str, Array]:
    return STEADY


@dataclass
class Machine:
    """``cells`` say what each call measures: of a cell, the number of the call and the blocks asked for."""

    cells: dict[str, Callable[[int, int], Array]]
    calls: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, cell: str, blocks: int) -> Array:
        self.asked.append((cell, blocks))
        self.calls[cell] += 1
        return self.cells[cell](self.calls[cell] - 1, blocks)[None]

    def session(self, stages: Stages | None = None, metric: Metric = LATENCY) -> Session:
        return run(list(self.cells), [metric], self, steady, stages)


def noisy(change: float, cv: float = 0.002, seed: int = 0, first: float | None = None) -> Callable[[int, int], Array]:
    """B is worse by ``change``, in the screening by ``first``."""
    return lambda call, blocks: medians(blocks, cv, change if call or first is None else first, seed=100 * seed + call)


def outcomes(session: Session) -> dict[str, Outcome]:
    return {cell: verdict.outcome for cell, _, verdict in session.verdicts()}


def test_what_is_what() -> None:
    def bimodal(call: int, blocks: int) -> Array:
        slow = np.random.default_rng(call).random((blocks, 2, 2)) < 0.4
        return medians(blocks, 0.002, seed=call) * np.where(slow, 1.11, 1.0)

    machine = Machine(
        {
            "same": noisy(0.0, seed=1),
            "slower": noisy(0.02, seed=2),
            "faster": noisy(-0.02, seed=3),
            "noisy": noisy(0.0, cv=0.03, seed=4),
            "lottery": bimodal,
        }
    )
    session = machine.session()
    assert outcomes(session) == {
        "same": Outcome.PASS,
        "slower": Outcome.REGRESSION,
        "faster": Outcome.IMPROVEMENT,
        "noisy": Outcome.INCONCLUSIVE,
        "lottery": Outcome.UNSTABLE,
    }
    ((cell, metric, verdict),) = session.regressions
    assert (cell, metric) == ("slower", LATENCY)
    assert str(verdict) == ("REGRESSION: slower by 2.2 % (1.8 to 2.5), smallest visible change 0.5 %")


def test_a_suspect_is_judged_by_fresh_blocks_alone() -> None:
    """What raised the suspicion, however clear, is no evidence of it."""
    machine = Machine({"chance": noisy(0.0, first=0.05)})
    session = machine.session()
    (verdict,) = session.confirmed.values()
    fresh = medians(4, 0.002, seed=1)
    assert (verdict.blocks, verdict.estimate) == (4, pytest.approx(float(block_ratios(fresh).mean())))
    assert verdict.outcome is Outcome.PASS
    assert machine.asked == [("chance", 4), ("chance", 4)]


def test_screening_alone_finds_no_regression() -> None:
    """Not even a cell that it does not suspect and whose own four blocks would say so."""
    stages = Stages(suspect=0.0, hopeful=0.0)
    session = Machine({"slower": noisy(0.05), "little": noisy(0.01)}).session(stages)
    assert judge(session.screened[0, 0], LATENCY).outcome is Outcome.REGRESSION
    assert outcomes(session) == {"slower": Outcome.INCONCLUSIVE, "little": Outcome.PASS}
    assert not session.confirmed


def test_only_suspects_cost_more() -> None:
    machine = Machine({"same": noisy(0.0, seed=1), "slower": noisy(0.02, seed=2), "chance": noisy(0.0, first=0.02)})
    session = machine.session()
    assert [cell for cell, _ in machine.asked[:3]] == ["same", "slower", "chance"]
    assert session.pairs[0] == 8
    assert session.pairs[2] == 16  # cleared at the first look
    assert session.pairs[1] == 2 * sum(blocks for cell, blocks in machine.asked if cell == "slower") > 16


def test_looks_add_blocks_until_it_is_sure() -> None:
    machine = Machine({"hard": noisy(0.02, cv=0.01, seed=5)})
    session = machine.session()
    (verdict,) = session.confirmed.values()
    assert verdict.outcome is Outcome.REGRESSION
    looks = [blocks for _, blocks in machine.asked[1:]]
    assert looks == [4, 4, 8, 16][: len(looks)]
    assert len(looks) > 1
    assert verdict.blocks == sum(looks)


def _p(ratios: tuple[float, ...]) -> float:
    return float(over_blocks(block_ratios(exact(*ratios))).p_worse)


SHOWN = (0.0198, 0.02, 0.0202, 0.0204)
WIDE = (0.014, 0.023, 0.014, 0.023)


@pytest.mark.parametrize("others", [0, 40])
def test_the_level_is_shared_by_all_suspects(others: int) -> None:
    """Holm: what is proof in a family of one is none in a family of forty that came to nothing."""
    alpha = _p(SHOWN) * 4
    stages = replace(ONE_LOOK, alpha=alpha)
    none = exact(-0.001, 0.001, -0.001, 0.001)

    def chance(call: int, _: int) -> Array:
        return none if call else exact(0.02, 0.02, 0.021, 0.021)

    cells = {f"chance {number}": chance for number in range(others)}
    session = Machine({"shown": lambda *_: exact(*SHOWN), **cells}).session(stages)
    assert len(session.confirmed) == 1 + others
    assert len(session.regressions) == (0 if others else 1)


@pytest.mark.parametrize("worse", [False, True])
def test_what_is_shown_leaves_0_out_of_its_interval(worse: bool) -> None:
    """One look, one suspect: all of the rate is spent at once, and would be twice the level of the interval."""
    sign = 1 if worse else -1
    doubtful = exact(*(sign * one for one in (0.003, 0.011, 0.014, 0.028)))
    change = over_blocks(block_ratios(doubtful))
    p = float(change.p_worse if worse else change.p_better)
    assert LEVEL < p < 0.05
    assert abs(change.mean) > floor(change.spread)
    clear = exact(*(sign * one for one in (0.02, 0.02, 0.021, 0.021)))
    machine = Machine({"a": lambda call, _: doubtful if call else clear})
    (verdict,) = machine.session(ONE_LOOK).confirmed.values()
    assert verdict.low < 0 < verdict.high
    assert verdict.outcome not in (Outcome.IMPROVEMENT, Outcome.REGRESSION)


def test_what_is_shown_lightens_the_level_for_the_others() -> None:
    """The last of two is tested as if it were alone; Bonferroni would halve its level."""
    alpha = _p(SHOWN) * 1.5
    clear = exact(0.03, 0.03001, 0.03, 0.03001)
    machine = Machine({"shown": lambda *_: exact(*SHOWN), "clear": lambda *_: clear})
    assert len(machine.session(replace(ONE_LOOK, alpha=alpha)).regressions) == 2


def test_what_an_earlier_look_showed_lightens_the_level_too() -> None:
    """``late`` takes a second one. A suspect that the first one cleared stays in the family, and lightens nothing."""
    clear = exact(0.03, 0.03001, 0.03, 0.03001)

    def late(call: int, _: int) -> Array:
        return exact(*SHOWN) if call != 1 else exact(*WIDE)

    def chance(call: int, _: int) -> Array:
        return exact(-0.001, 0.001, -0.001, 0.001) if call else exact(*SHOWN)

    p = _p((*WIDE, *SHOWN))
    stages = Stages(looks=(4, 8), shares=(0.5, 0.5), alpha=3 * p)
    for other, found in ((lambda *_: clear, {"late", "clear"}), (chance, set())):
        session = Machine({"late": late, "clear": other}).session(stages)
        assert {cell for cell, _, _ in session.regressions} == found


def test_what_is_below_its_floor_lightens_nothing() -> None:
    for ratios, found in (((0.03, 0.03001, 0.03, 0.03001), 2), ((0.0009, 0.00090001, 0.0009, 0.00090001), 0)):
        machine = Machine({"shown": lambda *_: exact(*SHOWN), "other": lambda *_, r=ratios: exact(*r)})
        assert len(machine.session(replace(ONE_LOOK, alpha=_p(SHOWN) * 1.5)).regressions) == found


def test_a_look_spends_its_share_only() -> None:
    def shown(*_: int) -> Array:
        return exact(*SHOWN)

    for share, found in ((0.9, 1), (0.1, 0)):
        stages = Stages(looks=(4,), shares=(share,), alpha=_p(SHOWN) * 2)
        assert len(Machine({"shown": shown}).session(stages).regressions) == found


def test_a_metric_that_is_not_suspected_is_not_tested() -> None:
    """Fresh blocks come with all metrics of a cell; those that nothing pointed at keep the verdict of the screening."""

    def measure(_: str, blocks: int, calls: Counter[str] = Counter()) -> Array:  # noqa: B006 - a count of the calls
        calls["all"] += 1
        return np.stack([medians(blocks, 0.002, 0.02), medians(blocks, 0.002, 0.05 * (calls["all"] > 1), seed=1)])

    session = run(["cell"], [LATENCY, Metric("memory")], measure, steady)
    assert list(session.confirmed) == [(0, 0)]
    assert [verdict.outcome for *_, verdict in session.verdicts()] == [Outcome.REGRESSION, Outcome.PASS]


def test_a_change_below_the_cells_floor_is_not_confirmed() -> None:
    stages = Stages(suspect=0.5, futile=0.1, looks=(4, 200), shares=(0.1, 0.9))
    session = Machine({"biased": lambda _, blocks: biased(blocks)}).session(stages)
    (verdict,) = session.confirmed.values()
    assert (verdict.blocks, verdict.outcome) == (200, Outcome.PASS)
    assert verdict.p < 1e-8


@pytest.mark.parametrize("moved", ["arithmetic", "memory"])
def test_a_canary_that_moves_takes_every_verdict_back(moved: str) -> None:
    calls: list[str] = []

    def canaries() -> dict[str, Array]:
        calls.append("canaries")
        return STEADY | ({moved: STEADY[moved] * 1.04} if len(calls) > 1 else {})

    machine = Machine({"slower": noisy(0.05), "same": noisy(0.0, seed=1)})
    session = run(list(machine.cells), [LATENCY], machine, canaries)
    assert set(outcomes(session).values()) == {Outcome.HOST_CHANGED}
    assert session.regressions == ()
    assert [v.outcome for v in session.confirmed.values()] == [Outcome.REGRESSION]
    told = [str(verdict) for *_, verdict in session.verdicts()]
    assert all(f"canary {moved}: +4.0 % (" in one and "smallest visible change" in one for one in told)


def test_canaries_are_measured_before_everything_and_after() -> None:
    order: list[str] = []
    machine = Machine({"slower": noisy(0.05)})

    def canaries() -> dict[str, Array]:
        order.append(f"canaries after {len(machine.asked)} calls")
        return STEADY

    run(["slower"], [LATENCY], machine, canaries)
    assert order == ["canaries after 0 calls", f"canaries after {len(machine.asked)} calls"]
    assert len(machine.asked) > 1


def test_a_session_without_canaries_is_refused() -> None:
    with pytest.raises(ValueError, match="canaries"):
        run(["same"], [LATENCY], Machine({"same": noisy(0.0)}), dict)


def test_modes_that_screening_shows_are_not_measured_again() -> None:
    """Nor is a change that it shows beside them."""

    def lottery(_: int, blocks: int) -> Array:
        slow = np.random.default_rng(1).random((blocks, 2, 2)) < 0.3
        return medians(blocks, 0.002, 0.05) * np.where(slow, 1.11, 1.0)

    machine = Machine({"lottery": lottery})
    session = machine.session()
    assert over_processes(session.screened[0, 0]).p_worse < 0.1
    assert outcomes(session) == {"lottery": Outcome.UNSTABLE}
    assert (machine.asked, session.confirmed) == ([("lottery", 4)], {})


def lone(later: int) -> Callable[[int, int], Array]:
    """One slow process in the screening, and so many in what is measured next."""

    def measure(call: int, blocks: int) -> Array:
        one = medians(blocks, 0.002, seed=call)
        one[: later if call else 1, 1, 0] *= 1.11
        return one

    return measure


@pytest.mark.parametrize(("later", "outcome"), [(0, Outcome.INCONCLUSIVE), (1, Outcome.UNSTABLE)])
def test_one_slow_process_is_looked_at_again(later: int, outcome: Outcome) -> None:
    """It may be a mode with few processes, shown by another one of eight, or an outlier, which widens the interval."""
    machine = Machine({"odd": lone(later)})
    session = machine.session()
    assert [verdict.outcome for verdict in session.confirmed.values()] == [outcome]
    assert [verdict.blocks for verdict in session.confirmed.values()] == [6]
    assert (machine.asked, session.pairs) == ([("odd", 4), ("odd", 2)], (12,))


def test_a_change_is_not_confirmed_by_what_was_measured_for_modes() -> None:
    """Nothing had pointed at it, so it is no member of the family that shares the errors."""
    machine = Machine({"odd": lambda call, blocks: lone(0)(call, blocks) * np.array([[1.0], [1.05]])})
    session = machine.session(Stages(suspect=0.0, hopeful=0.0))
    (verdict,) = session.confirmed.values()
    assert verdict.p < LEVEL
    assert (verdict.outcome, session.regressions) == (Outcome.INCONCLUSIVE, ())


def blurred(seed: int, blocks: int, change: float = 0.0) -> Array:
    """Modes that noise hides: 5 deviations apart."""
    slow = np.random.default_rng(1000 + seed).random((blocks, 2, 2)) < 0.3
    return medians(blocks, 0.02, change, seed=seed) * np.where(slow, 1.11, 1.0)


def two_metrics(second: Array, slow: Sequence[int], stages: Stages) -> tuple[list[Outcome], Session]:
    """Of the first metric so many processes are ``slow`` in each call; ``second`` is all that there is of the other."""
    asked = 0
    left = iter(slow)

    def measure(_: str, blocks: int) -> Array:
        nonlocal asked
        first = medians(blocks, 0.002)
        first[: next(left), 1, 0] *= 1.11
        asked += blocks
        return np.stack([first, second[asked - blocks : asked]])

    session = run(["cell"], [LATENCY, Metric("memory")], measure, steady, stages)
    return [verdict.outcome for *_, verdict in session.verdicts()], session


ONLY_MODES = Stages(suspect=0.0, hopeful=0.0)


@pytest.mark.parametrize(
    ("slow", "beside", "measured"),
    [((3, 0), True, [1]), ((1, 1), True, [0, 1]), ((1, 0), False, [0, 1]), ((0,), False, [])],
)
def test_modes_of_one_metric_are_looked_for_in_the_others(
    slow: tuple[int, ...], beside: bool, measured: list[int]
) -> None:
    """Screening shows nothing of those of the second; less is enough of them where the first one has some."""
    every = blurred(4, 6)
    found = groups(every[:4], every[4:])
    assert not groups(every[:4]).akin(LATENCY.harmless_gap)
    assert found.akin(LATENCY.harmless_gap)
    assert not found.clear(LATENCY.harmless_gap)
    got, session = two_metrics(every, slow, ONLY_MODES)
    assert [outcome is Outcome.UNSTABLE for outcome in got] == [beside, beside]
    assert list(session.confirmed) == [(0, metric) for metric in measured]
    assert session.pairs == (12 if measured else 8,)


def test_hints_are_enough_beside_modes_in_the_screening_too() -> None:
    every = blurred(2, 4)
    assert groups(every).akin(LATENCY.harmless_gap)
    assert not groups(every).clear(LATENCY.harmless_gap)
    got, session = two_metrics(every, [2], ONLY_MODES)
    assert got == [Outcome.UNSTABLE, Outcome.UNSTABLE]
    assert not session.confirmed


def test_so_is_a_single_slow_process() -> None:
    got, session = two_metrics(lone(0)(0, 4), [2], ONLY_MODES)
    assert got == [Outcome.UNSTABLE, Outcome.UNSTABLE]
    assert not session.confirmed
    (_, _, verdict) = list(session.verdicts())[1]
    assert "1 of 8 of A and 0 of 8 of B" in verdict.reason or "0 of 8 of A and 1 of 8 of B" in verdict.reason


def hinting_beside_a_change(stages: Stages) -> tuple[Session, list[int]]:
    """Of two metrics one hints at modes in the screening alone, and the other is worse; and the blocks asked for."""
    asked: list[int] = []

    def measure(_: str, blocks: int) -> Array:
        asked.append(blocks)
        odd = medians(blocks, 0.002, seed=len(asked))
        odd[0, 0, 0] *= 1.0 if asked[1:] else 1.11
        return np.stack([odd, medians(blocks, 0.002, 0.05, seed=len(asked))])

    return run(["cell"], [LATENCY, Metric("memory")], measure, steady, stages), asked


def test_a_look_asks_for_what_steps_have_not_measured() -> None:
    for step, calls in ((2, [4, 2, 2]), (4, [4, 4])):
        session, asked = hinting_beside_a_change(Stages(step=step))
        assert [metric.name for _, metric, _ in session.regressions] == ["memory"]
        assert asked == calls


def test_a_look_judges_no_more_than_it_would_without_steps() -> None:
    """How many there were depended on the data."""
    session, asked = hinting_beside_a_change(Stages(step=6))
    assert asked == [4, 6]
    assert session.confirmed[0, 1].outcome is Outcome.REGRESSION
    assert session.confirmed[0, 1].blocks == 4


def stepwise(every: Array) -> Machine:
    """A cell of which ``every`` is all that there is."""
    machine = Machine({})

    def measure(_: int, blocks: int) -> Array:
        asked = sum(number for _, number in machine.asked)
        return every[asked - blocks : asked]

    machine.cells["cell"] = measure
    return machine


@pytest.mark.parametrize(("steps", "outcome"), [(7, Outcome.UNSTABLE), (2, Outcome.INCONCLUSIVE)])
def test_near_modes_are_measured_until_they_show(steps: int, outcome: Outcome) -> None:
    """Or there are no more steps: 40 processes show these, 32 hint at them."""
    every = blurred(33, 12)
    assert not groups(every[:4], every[4:8]).clear(LATENCY.harmless_gap)
    machine = stepwise(every)
    assert outcomes(machine.session(replace(ONLY_MODES, steps=steps))) == {"cell": outcome}
    assert [blocks for _, blocks in machine.asked] == [4, *[2] * min(steps, 3)]


def test_metrics_hint_at_modes_together() -> None:
    """Neither by itself, which would be one in twenty-five of all."""
    first, second = blurred(8, 4), blurred(9, 4)
    for one in (first, second):
        assert not suspects(one[None, None], [LATENCY], ONLY_MODES).places
    both = np.stack([first, second])[None]
    assert suspects(both, [LATENCY, Metric("memory")], ONLY_MODES).places == [(0, 0), (0, 1)]


def test_no_modes_beside_some_are_given_up() -> None:
    """The second metric has none, and is looked for no longer than it takes to know."""
    got, session = two_metrics(medians(18, 0.02, seed=3), [2, *[0] * 7], ONLY_MODES)
    assert got == [Outcome.UNSTABLE, Outcome.INCONCLUSIVE]
    assert 12 <= session.pairs[0] < 8 + 4 * ONLY_MODES.steps


def test_what_has_modes_is_looked_at_for_no_change() -> None:
    """Though it was suspected of one."""
    every = blurred(5, 20, 0.08)
    machine = stepwise(every)
    session = machine.session()
    assert suspects(session.screened, [LATENCY], Stages()).worse.all()
    assert outcomes(session) == {"cell": Outcome.UNSTABLE}
    assert [blocks for _, blocks in machine.asked] == [4, 2]


def test_of_modes_a_look_knows_the_screening_as_well() -> None:
    """A change is suspected; neither half of what is measured shows modes, the whole does."""
    every = blurred(11, 8, 0.08)
    for half in (every[:4], every[4:]):
        assert not groups(half).clear(LATENCY.harmless_gap)
    machine = Machine({"lottery": lambda call, _: every[4:] if call else every[:4]})
    session = machine.session(Stages(steps=0))
    assert suspects(session.screened, [LATENCY], Stages()).worse.all()
    assert outcomes(session) == {"lottery": Outcome.UNSTABLE}
    assert machine.asked == [("lottery", 4), ("lottery", 4)]


def test_a_step_of_the_machine_after_the_screening_is_no_mode() -> None:
    """Nobody watches it: the suspect is slower by a tenth in all that is measured of it later, and both arms alike."""
    measure = noisy(0.02)
    machine = Machine({"slower": lambda call, blocks: measure(call, blocks) * (1.1 if call else 1.0)})
    assert outcomes(machine.session()) == {"slower": Outcome.REGRESSION}


def test_nor_is_one_between_looks() -> None:
    measure = noisy(0.02)
    machine = Machine({"slower": lambda call, blocks: measure(call, blocks) * (1.1 if call > 1 else 1.0)})
    assert outcomes(machine.session(Stages(looks=(4, 8), shares=(0.0, 1.0)))) == {"slower": Outcome.REGRESSION}
    assert machine.asked == [("slower", 4)] * 3


def far_off(calls: set[int]) -> Callable[[int, int], Array]:
    """B is worse by 2 %, which in these calls one process of A hides, that is slower by 20 %."""

    def measure(call: int, blocks: int) -> Array:
        one = medians(blocks, 0.004, 0.02, seed=call)
        one[1, 0, 0] *= 1.2 if call in calls else 1.0
        return one

    return measure


@pytest.mark.parametrize("calls", [{0}, {1}])
def test_one_process_far_off_hides_no_change(calls: set[int]) -> None:
    """Neither from the screening, which suspects, nor from a look, which would clear it; later looks outnumber it."""
    machine = Machine({"slower": far_off(calls)})
    session = machine.session()
    assert suspects(session.screened, [LATENCY], Stages()).worse.all()
    assert len(machine.asked) > 2
    assert outcomes(session) == {"slower": Outcome.REGRESSION}


def test_where_the_two_means_differ_it_is_suspected_of_the_worse() -> None:
    """Some of A are so far off that by the mean of all B is better; by the others it is worse."""
    one = medians(16, 0.001, 0.01, seed=1)
    one[:4, 0, 0] *= 1.3
    stages = Stages(screening=16, hopeful=0.2)
    found = suspects(one[None, None], [LATENCY], stages)
    assert over_processes(one).p_better < stages.hopeful
    assert (found.worse.tolist(), found.better.tolist()) == ([True], [False])


def test_a_hint_of_modes_is_looked_at_again() -> None:
    """Too little for a verdict, enough for a suspicion."""
    hinted = blurred(0, 4)
    assert groups(hinted).hinted(LATENCY.harmless_gap)
    assert not groups(hinted).clear(LATENCY.harmless_gap)
    found = suspects(hinted[None, None], [LATENCY], ONLY_MODES)
    assert found.places == [(0, 0)]
    assert not (found.worse | found.better).any()


def test_of_more_is_better_less_is_worse() -> None:
    throughput = Metric("throughput", "lower", "higher", more_is_better=True)
    session = Machine({"lower": noisy(-0.02), "higher": noisy(0.02, seed=1)}).session(metric=throughput)
    assert outcomes(session) == {"lower": Outcome.REGRESSION, "higher": Outcome.IMPROVEMENT}


def test_no_more_than_its_share_is_suspected() -> None:
    screened = medians(4, 0.01, cells=(4000, 1))
    found = suspects(screened, [LATENCY], Stages())
    assert 0.03 < found.worse.sum() / 4000 < 0.05
    assert 0.0005 < found.better.sum() / 4000 < 0.005
    assert not np.any(found.worse & found.better)


def test_screening_finds_what_it_has_to() -> None:
    for cv, change, least in ((0.005, 0.02, 0.999), (0.01, 0.02, 0.94), (0.02, 0.05, 0.993)):
        assert suspects(medians(4, cv, change, cells=(2000, 1)), [LATENCY], Stages()).worse.sum() >= 2000 * least


def test_false_alarms_are_rare_and_real_ones_are_not() -> None:
    """A small session at alpha of a fifth, where nothing changed but one cell."""
    nights, rng = 60, np.random.default_rng(0)
    stages = Stages(alpha=0.2, suspect=0.2)
    false = found = 0
    for _ in range(nights):
        seeds = rng.integers(0, 2**31, 20)
        cells = {str(n): noisy(0.02 if n == 0 else 0.0, cv=0.005, seed=int(seed)) for n, seed in enumerate(seeds)}
        hit = {cell for cell, _, _ in Machine(cells).session(stages).regressions}
        found += "0" in hit
        false += bool(hit - {"0"})
    assert found == nights
    assert false / nights <= 0.2


def test_what_measures_has_to_give_what_was_asked_for() -> None:
    with pytest.raises(ValueError, match=r"medians of cell have shape \(1, 3, 2, 2\), expected \(1, 4, 2, 2\)"):
        run(["cell"], [LATENCY], lambda _, blocks: np.ones((1, blocks - 1, 2, 2)), steady)


@pytest.mark.parametrize(
    "wrong",
    [
        {"screening": 1},
        {"looks": (4, 4, 8, 16)},
        {"looks": (1, 4, 8, 16)},
        {"looks": (4, 8)},
        {"shares": (0.5, 0.5, 0.5, 0.5)},
        {"shares": (1.5, -0.5, 0.0, 0.0)},
        {"step": 1},
        {"steps": -1},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"screening|shares|step"):
        Stages(**wrong)
