"""Baselines: their life, their file, what is proposed, and that nothing loosens unseen."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import SpecError
from harness.ledger.baseline_file import read, text_of, write
from harness.ledger.baselines import Baseline, Baselines, Known, Quarantine
from harness.ledger.policy import BUILDING, DEFAULTS, LATENCY, Policy, shown_by_one_more
from harness.ledger.proposals import Proposal, Seen, Value, difference, proposed
from harness.measure.quantity import PLAN_SIZE, QUANTITIES
from harness.measure.stats import usual

GRAPH = "gpu, graph"
KNOWN_QUANTITIES = {one.name: one for one in (*QUANTITIES, PLAN_SIZE)}
HERE = {"library": "8.6.1", "driver": "580"}
AT = datetime.datetime(2026, 2, 2, 9, tzinfo=datetime.timezone.utc)
EMPTY = Baselines(DEFAULTS)
LATENCY_KNOWN = Known("s", (0.0001442, 0.0001443), 0.0012, 0.01)
BERT = Baseline("5f", "bert", ("a1",), ("s1", "s2"), {GRAPH: LATENCY_KNOWN}, HERE, "release 3.2", "ada", AT)


def session(
    name: str, value: float = 1e-3, plan: str = "a1", environment: Mapping[str, str] = HERE, spread: float = 0.001
) -> Seen:
    return Seen(name, (plan,), environment, {GRAPH: Value(value, spread, "s")})


def proposal(*seen: Seen, baselines: Baselines = EMPTY) -> Proposal:
    made = proposed("5f", "bert", seen, baselines, KNOWN_QUANTITIES)
    assert isinstance(made, Proposal), made
    return made


# Life --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reason", "actor"), [("", "ada"), ("  ", "ada"), ("faster", ""), ("faster", " ")])
def test_accepting_takes_a_reason_and_somebody(reason: str, actor: str) -> None:
    with pytest.raises(SpecError, match="--reason, --actor"):
        BERT.accepted(reason, actor, AT)


def test_accepted_is_what_was_proposed_with_who_and_why() -> None:
    made = BERT.accepted("faster", "eve", AT)
    assert replace(made, reason=BERT.reason, actor=BERT.actor) == BERT
    assert (made.reason, made.actor, made.at) == ("faster", "eve", AT)


def test_a_new_baseline_leaves_the_release_where_it_is() -> None:
    pinned = EMPTY.with_accepted(BERT).with_release("5f", "3.2")
    moved = pinned.with_accepted(replace(BERT, plans=("b2",)))
    assert moved.active["5f"].plans == ("b2",)
    assert moved.releases["5f"].plans == ("a1",)
    assert moved.releases["5f"].pinned


def test_a_namesake_is_the_last_accepted_of_another_key() -> None:
    later = replace(BERT, key="6a", at=AT + datetime.timedelta(days=1))
    held = EMPTY.with_accepted(later).with_accepted(BERT).with_accepted(replace(BERT, key="7b", cell="gpt"))
    assert held.namesake("new", "bert") == later
    assert held.namesake("new", "detector") is None
    assert held.namesake("5f", "bert") is None, "it has a baseline of its own"


def test_what_is_not_there_cant_be_pinned() -> None:
    with pytest.raises(SpecError, match="accept one"):
        EMPTY.with_release("5f", "3.2")
    with pytest.raises(SpecError, match="name"):
        EMPTY.with_accepted(BERT).with_release("5f", " ")


# Tolerance ---------------------------------------------------------------------------------------------


def test_one_session_is_no_baseline() -> None:
    with pytest.raises(SpecError, match="accident"):
        Known.of("s", [1e-3], 0.001, DEFAULTS[LATENCY])


@pytest.mark.parametrize("values", [(), (1.0,), (1.0, 0.0), (1.0, float("nan")), (float("inf"), 1.0)])
def test_values_that_are_none(values: tuple[float, ...]) -> None:
    with pytest.raises(SpecError, match="above 0"):
        Known("s", values, 0.001, 0.01)


def test_a_tolerance_is_what_one_more_session_could_show() -> None:
    """A change of that size is seen in nine of ten; by simulation."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(400):
        history = np.exp(rng.normal(0, 0.004, 12))
        size = shown_by_one_more(history)
        logs = np.log(history)
        more = rng.normal(size, 0.004)
        bound = 2.201 * logs.std(ddof=1) * (1 + 1 / 12) ** 0.5  # t of 11 degrees, 97.5 %
        found.append(more - logs.mean() > bound)
    assert 0.85 < np.mean(found) < 0.97


def test_a_tolerance_has_limits() -> None:
    policy = Policy(0.01, 0.05, 0.03)
    assert policy.tolerated([1.0, 1.0, 1.0]) == 0.01
    assert policy.tolerated([1.0, 1.3, 0.8]) == 0.05
    assert policy.tolerated([1.0]) == 0.05
    middle = policy.tolerated(np.exp(np.random.default_rng(1).normal(0, 0.006, 30)).tolist())
    assert 0.01 < middle < 0.05


@pytest.mark.parametrize("given_", [(0, 0.05, 0.03), (0.06, 0.05, 0.03), (0.01, 0.05, 0)])
def test_policies_that_make_no_sense(given_: tuple[float, float, float]) -> None:
    with pytest.raises(SpecError, match="expected"):
        Policy(*given_)


# Proposals ---------------------------------------------------------------------------------------------


def test_two_sessions_are_needed() -> None:
    assert "2 are needed" in str(proposed("5f", "bert", [session("s1")], EMPTY, KNOWN_QUANTITIES))
    assert proposed("5f", "bert", [], EMPTY, KNOWN_QUANTITIES) == "no session measured it"


def test_sessions_of_another_environment_or_plan_dont_count() -> None:
    old = session("s0", environment={**HERE, "driver": "1"})
    assert "2 are needed" in str(proposed("5f", "bert", [old, session("s1")], EMPTY, KNOWN_QUANTITIES))
    made = proposal(old, session("s1"), session("s2"))
    assert made.baseline.sessions == ("s1", "s2")
    mixed = proposal(session("s1", plan="z"), session("s2"), session("s3"))
    assert mixed.baseline.sessions == ("s2", "s3")
    assert mixed.baseline.plans == ("a1",)


DAY = 86400.0


def test_what_stood_back_behind_a_rejected_session_is_not_proposed_either() -> None:
    """Of a day the last session was proposed: rejecting it puts no earlier one in its place."""
    days = [replace(session(f"{day}{hour}"), at=DAY * day + 3600 * hour) for day in (1, 2) for hour in (1, 2)]
    assert proposal(*days).baseline.sessions == ("12", "22")
    told = proposed("5f", "bert", days, EMPTY, KNOWN_QUANTITIES, {"12", "22"})
    assert told == "0 sessions in this environment since those that were rejected: 2 are needed"
    later = [replace(session(f"{day}1"), at=DAY * day) for day in (3, 4)]
    made = proposed("5f", "bert", [*days, *later], EMPTY, KNOWN_QUANTITIES, {"12", "22"})
    assert isinstance(made, Proposal)
    assert made.baseline.sessions == ("31", "41")


def test_one_session_a_day_counts() -> None:
    """Those of an hour are apart by less than nights are: the last of each day stands for it."""
    hour = [replace(session(f"a{number}", 1e-3 * (1 + number / 100)), at=DAY + 600.0 * number) for number in range(3)]
    made = proposal(*hour, replace(session("b", 1.1e-3), at=2 * DAY))
    assert made.baseline.sessions == ("a2", "b")
    assert made.baseline.metrics[GRAPH].values == (1.02e-3, 1.1e-3)
    assert made.baseline.days == 2
    assert "of 2 days, the last of each" in made.markdown


def test_sessions_of_one_day_make_a_baseline_that_says_so() -> None:
    made = proposal(*(replace(session(f"a{number}"), at=DAY + 600.0 * number) for number in range(3)))
    assert (made.baseline.sessions, made.baseline.days) == (("a0", "a1", "a2"), 1)
    assert "all of one day" in made.markdown


def test_sessions_without_a_day_count_each() -> None:
    made = proposal(*(session(f"s{number}") for number in range(6)), replace(session("t"), at=DAY))
    assert (len(made.baseline.sessions), made.baseline.days) == (7, 0)
    assert "days that were not recorded" in made.markdown


def test_sessions_that_built_anew_give_their_builds() -> None:
    """No more than are kept, the latest first."""
    made = proposal(*(session(f"s{number}", plan=f"p{number}") for number in range(5)))
    assert made.baseline.plans == ("p4", "p3", "p2")
    assert len(made.baseline.sessions) == 5


def test_nothing_new_is_no_proposal() -> None:
    accepted = EMPTY.with_accepted(BERT)
    seen = [session("s1"), session("s2")]
    assert "already" in str(proposed("5f", "bert", seen, accepted, KNOWN_QUANTITIES))


def test_it_names_the_model_that_was_measured_last() -> None:
    made = proposal(session("s1"), replace(session("s2"), model="3d"))
    assert made.baseline.model == "3d"


def test_a_metric_that_a_session_lacks_is_left_out() -> None:
    more = session("s2")
    more = replace(more, values={**more.values, "plan size": Value(5e6, 0.0, "bytes")})
    assert proposal(session("s1"), more).baseline.metrics.keys() == {GRAPH}


@pytest.mark.parametrize(("value", "loosens"), [(1e-3, False), (0.97e-3, False), (1.03e-3, True)])
def test_a_proposal_says_whether_it_loosens(value: float, loosens: bool) -> None:
    before = EMPTY.with_accepted(replace(BERT, metrics={GRAPH: Known("s", (1e-3, 1e-3), 0.001, 0.01)}))
    seen = [session("s8", value, "b2"), session("s9", value, "b2")]
    made = proposal(*seen, baselines=before)
    assert made.loosens is loosens
    assert ("loosens" in made.markdown) is loosens


def test_small_steps_that_sessions_show_loosen_too() -> None:
    """A baseline must not creep by accepting half a tolerance again and again; what chance brings is no step."""
    steady = [session(f"s{n}", 1e-3 * (1 + 0.0002 * (n % 3))) for n in range(6)]
    held = EMPTY.with_accepted(proposal(*steady).baseline.accepted("the first", "ada", AT))
    same = [session(f"t{n}", 1e-3 * (1.0001 + 0.0002 * (n % 3)), "b2") for n in range(6)]
    assert not proposal(*same, baselines=held).loosens
    slower = [session(f"u{n}", 1.004e-3 * (1 + 0.0002 * (n % 3)), "b2") for n in range(6)]
    assert proposal(*slower, baselines=held).loosens


def test_a_flaky_session_is_named_and_counts_for_nothing() -> None:
    values = (1e-3, 1.0005e-3, 1.0002e-3, 1.1e-3, 1.0003e-3, 1.0004e-3)
    made = proposal(*(session(f"s{n}", value) for n, value in enumerate(values)))
    known = made.baseline.metrics[GRAPH]
    assert known.values == values
    assert known.usual.tolist() == pytest.approx([value for value in values if value != 1.1e-3])
    assert known.tolerance == DEFAULTS[LATENCY].tolerance
    assert "0.00100028 s, but for 1 flaky of 6 sessions" in made.markdown


@pytest.mark.parametrize(
    ("off", "left"),
    [
        ((0, 1, 2, 40), 4),  # of four nobody knows which is odd
        ((0, 1, 2, 3, 9), 5),  # less than 1 % off
        ((0, 1, 2, 3, 40), 4),
        ((0, 1, 2, 3, -40), 4),
        ((0, 20, 40, 60, 80), 5),  # noise
        ((0, 1, 2, 3, 4, 5, 40, 60), 6),
        ((0, 1, 2, 3, 4, 60, 50, 40), 6),  # one in four at most
    ],
)
def test_which_sessions_are_flaky(off: tuple[int, ...], left: int) -> None:
    """Thousandths off."""
    logs = 0.001 * np.array(off)
    assert usual(logs).tolist() == [one for one in logs if one in usual(logs)]
    assert usual(logs).size == left


def test_a_metric_that_is_held_no_longer_loosens() -> None:
    size = Known("bytes", (5e6, 5e6), 0.0, 0.02)
    held = {GRAPH: Known("s", (1e-3, 1e-3), 0.001, 0.01), "plan size": size}
    made = proposal(
        session("s8", 1e-3, "b2"), session("s9", 1e-3, "b2"),
        baselines=EMPTY.with_accepted(replace(BERT, metrics=held)),
    )  # fmt: skip
    assert made.lost == ("plan size",)
    assert made.loosens
    assert "| plan size | held |" in made.markdown


def test_a_wider_tolerance_loosens() -> None:
    before = EMPTY.with_accepted(replace(BERT, metrics={GRAPH: Known("s", (1e-3, 1e-3), 0.001, 0.01)}))
    made = proposal(session("s8", 1e-3, "b2"), session("s9", 1.001e-3, "b2"), baselines=before)
    assert made.moved[0].after.tolerance > 0.01
    assert made.loosens


def test_the_first_loosens_nothing() -> None:
    made = proposal(session("s1"), session("s2"))
    assert not made.loosens
    assert "is the first" in made.markdown


def test_the_difference_is_of_the_file() -> None:
    made = proposal(session("s1"), session("s2"))
    text = difference(EMPTY, [made], "trt-baselines.toml")
    assert text.startswith("--- a/trt-baselines.toml\n+++ b/trt-baselines.toml\n")
    added = "".join(line[1:] + "\n" for line in text.splitlines()[3:] if not line.startswith("-"))
    assert added == text_of(EMPTY.with_accepted(made.baseline))


# The file ----------------------------------------------------------------------------------------------

FULL = Baselines(
    {**DEFAULTS, BUILDING: Policy(0.3, 1.5, 2.0, gated=False)},
    {"5f": BERT, "6a": replace(BERT, key="6a", cell="albert")},
    {"5f": replace(BERT, release="3.2")},
    (Quarantine("bert*", "ada", "two kernels take turns", datetime.date(2026, 12, 31)),),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "trt-baselines.toml"
    write(file, FULL)
    assert read(file) == FULL
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_no_file_is_no_baseline(tmp_path: Path) -> None:
    assert read(tmp_path / "none.toml") == EMPTY


def test_cells_are_in_order_whatever_came_first() -> None:
    turned = replace(FULL, active=dict(reversed(FULL.active.items())))
    assert text_of(turned) == text_of(FULL)
    assert text_of(FULL).index('cell = "albert"') < text_of(FULL).index('cell = "bert"')


@given(
    st.floats(1e-9, 1e12),
    st.floats(0, 1),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip),
)
def test_any_values_and_words(value: float, spread: float, words: str) -> None:
    known = Known("s", (value, value), spread, 0.01)
    with TemporaryDirectory() as folder:
        file = Path(folder, "b.toml")
        write(file, EMPTY.with_accepted(replace(BERT, metrics={GRAPH: known}, cell=words, reason=words)))
        (found,) = read(file).active.values()
    assert (found.cell, found.reason) == (words, words)
    assert found.metrics[GRAPH].values == pytest.approx(known.values, rel=1e-5)


HELD = """schema = 1
[[baseline]]
key = "5f"
cell = "bert"
plans = ["a1"]
sessions = ["s1", "s2"]
[baseline.metrics."gpu, graph"]
unit = "s"
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema = 2", "schema: expected 1"),
        ("", "schema: expected 1"),
        ("schema =", "not TOML"),
        ("schema = 1\nfoo = 1", "unknown key 'foo'"),
        ("schema = 1\n[policy.speed]\ntolerance = 0.1", "policy.speed: unknown"),
        ("schema = 1\n[policy.latency]\ntolerance = 0.1", "expected 0 < tolerance <= cap"),
        ("schema = 1\n[policy.latency]\nlimit = 0.1", "limit"),
        ("schema = 1\n[policy.latency]\ngated = 'no'", "true or false"),
        ("schema = 1\n[policy.latency]\ndrift = nan", "policy.latency: drift = nan: expected a number"),
        ("schema = 1\n[policy.latency]\ntolerance = inf\ncap = inf", "policy.latency: tolerance = inf: expected"),
        ("schema = 1\n[policy.latency]\ncap = '1'", "policy.latency: cap = '1': expected a number"),
        ('schema = 1\n[[baseline]]\nkey = "5f"\ncell = 5\nmetrics = {}', "cell = 5: expected text"),
        (HELD + "values = [1.0, nan]\nspread = 0.0\ntolerance = 0.01", "values above 0"),
        (HELD + "values = [1.0, 1.0]\nspread = nan\ntolerance = 0.01", "spread nan"),
        (HELD + "values = [1.0, 1.0]\nspread = 0.0\ntolerance = nan", "tolerance nan"),
        ('schema = 1\n[[quarantine]]\ncell = 5\nowner = "a"\nreason = "x"\nuntil = 2026-01-01', "quarantine of 5: exp"),
        ('schema = 1\n[[quarantine]]\ncell = "b"\nowner = 5\nreason = "x"\nuntil = 2026-01-01', "owner and reason in"),
        ('schema = 1\n[[baseline]]\nkey = "5f"\ncell = "bert"', "baseline of bert: no 'plans'"),
        (HELD.replace("sessions", "sesions"), "unknown key 'sesions': did you mean 'sessions'? known are key, cell"),
        (HELD + "tolernce = 0.05", "gpu, graph: unknown key 'tolernce': did you mean 'tolerance'? known are unit"),
        (HELD + "spread = 0.0\ntolerance = 0.01", "gpu, graph: no 'values'"),
        ('schema = 1\n[[quarantine]]\ncel = "b"', "quarantine of ?: unknown key 'cel': did you mean 'cell'?"),
        ('schema = 1\n[[quarantine]]\ncell = "b"', "quarantine of b: no 'owner'"),
        (
            'schema = 1\n[[quarantine]]\ncell = "b"\nowner = ""\nreason = "x"\nuntil = 2026-01-01',
            "owner, reason and until",
        ),
        (
            'schema = 1\n[[quarantine]]\ncell = "b"\nowner = "a"\nreason = "x"\nuntil = "2026-01-01"',
            "a date without quotes",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "b.toml"
    file.write_text(text)
    with pytest.raises(SpecError, match=r"b\.toml") as raised:
        read(file)
    assert words in str(raised.value)


def test_a_cell_is_there_once(tmp_path: Path) -> None:
    file = tmp_path / "b.toml"
    text = text_of(EMPTY.with_accepted(BERT))
    table = text[text.index("[[baseline]]") :]
    file.write_text(text + "\n" + table)
    with pytest.raises(SpecError, match="there twice"):
        read(file)
