"""Exploring: what is found, what it shrinks to, what is told, what passes through, and that nothing is built."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from unittest import SkipTest

import pytest
from hypothesis import currently_in_test_context, given, note, reject, reproduce_failure, settings
from hypothesis import strategies as st
from hypothesis.errors import FailedHealthCheck

from harness.errors import SpecError, UnsupportedError
from harness.spec import Example, Profile
from harness.strategies import EFFORTS, EXAMPLES, Effort, examples, explore, settings_of

WIDE = (Profile.of({"batch": (1, 8, 32), "seq": (4, 64, 512)}), Profile.of({"batch": (1, 1, 1), "seq": (4, 600, 1000)}))


class Wrong(AssertionError):
    """What a check finds."""


def fails_where(wrong: Callable[[Example], bool]) -> Callable[[Example], None]:
    def check(example: Example) -> None:
        if wrong(example):
            raise Wrong(f"at {example.binding}")

    return check


def right(example: Example) -> None:
    """Nothing is wrong."""


@pytest.mark.parametrize("effort", EFFORTS)
def test_all_examples_are_tried(effort: Effort) -> None:
    seen: list[Example] = []
    found = explore(examples(WIDE), seen.append, effort=effort, examples=40, seed=0)
    assert found.failure is None
    assert found.tried == len(seen) == 40
    assert 0 <= found.seconds < found.drawing


@pytest.mark.parametrize(("effort", "number"), [("dev", 10), ("ci", 25), ("nightly", 500)])
def test_efforts(effort: Effort, number: int) -> None:
    chosen = settings_of(effort)
    assert chosen.max_examples == EXAMPLES[effort] == number
    assert chosen.deadline is None
    assert not chosen.suppress_health_check
    assert chosen.derandomize == (effort == "ci")
    assert chosen.print_blob == (effort != "dev")
    assert settings.get_profile(f"trt-{effort}") == chosen


def test_a_users_profile_stays_and_changes_nothing() -> None:
    """Loaded or registered: neither the defaults here nor the user's are touched."""
    before = settings.get_current_profile_name()
    settings.register_profile("mine", max_examples=3, deadline=1)
    settings.load_profile("mine")
    try:
        assert explore(examples(WIDE), right, effort="dev").tried == 10
        assert settings().max_examples == 3
    finally:
        settings.load_profile(before)


def test_ci_draws_the_same_each_time_and_nightly_does_not() -> None:
    def seen(effort: Effort, seed: int | None = None) -> list[Example]:
        tried: list[Example] = []
        explore(examples(WIDE), tried.append, effort=effort, examples=20, seed=seed)
        return tried

    assert seen("ci") == seen("ci")
    assert seen("nightly") != seen("nightly")
    assert seen("nightly", 3) == seen("nightly", 3) != seen("nightly", 4)
    assert seen("ci", 3) == seen("ci", 3) != seen("ci")


@pytest.mark.parametrize("number", [None, 3, 60])
def test_what_ci_draws_is_what_hypothesis_draws(number: int | None) -> None:
    """As many, in the same order: drawn for the first check, replayed for the second, by Hypothesis for the third."""
    strategy = examples(WIDE)
    seen: list[list[Example]] = [[], [], []]

    def to_hypothesis(example: Example) -> None:
        note("a check that only Hypothesis may call")
        seen[2].append(example)

    for check in (seen[0].append, seen[1].append, to_hypothesis):
        assert explore(strategy, check, effort="ci", examples=number).failure is None
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == (number or EXAMPLES["ci"])


def test_what_ci_draws_is_drawn_once_for_a_strategy() -> None:
    made: list[Example] = []
    strategy = examples(WIDE).map(lambda example: made.append(example) or example)
    for _ in range(3):
        assert explore(strategy, right, effort="ci").tried == EXAMPLES["ci"]
    assert len(made) == EXAMPLES["ci"]
    explore(strategy, right, effort="ci", examples=7)
    explore(strategy, right, effort="ci", seed=0)
    assert len(made) == EXAMPLES["ci"] + 7 + EXAMPLES["ci"]


def test_what_fails_of_those_that_are_replayed_goes_to_hypothesis() -> None:
    strategy = examples(WIDE)
    assert explore(strategy, right, effort="ci").failure is None
    found = explore(strategy, fails_where(lambda e: e.binding["batch"] > 4), effort="ci")
    assert found.failure is not None
    assert str(found.failure.example) == "profile 0 batch=5 seq=4 seed=0"
    assert found.failure.blob.startswith("@reproduce_failure(")
    assert not found.failure.flaky


@pytest.mark.parametrize("comes_again", [False, True])
def test_what_fails_among_those_and_not_with_hypothesis(comes_again: bool) -> None:
    """It is told all the same, and that it passed when it does."""
    strategy = examples(WIDE)
    by_hypothesis: list[bool] = []

    def check(example: Example) -> None:
        by_hypothesis.append(currently_in_test_context())
        if example.seed == 0 and not by_hypothesis[-1] and (comes_again or True not in by_hypothesis):
            raise Wrong("alone")

    found = explore(strategy, check, effort="ci")
    assert sum(by_hypothesis) == EXAMPLES["ci"]
    assert found.failure is not None
    assert found.failure.example.seed == 0
    assert str(found.failure.error) == "alone"
    assert found.failure.flaky is not comes_again


def test_a_failure_is_the_smallest_and_is_given_back() -> None:
    found = explore(examples(WIDE), fails_where(lambda e: e.binding["seq"] >= 200), effort="ci", seed=1)
    assert found.failure is not None
    assert str(found.failure.example) == "profile 0 batch=1 seq=200 seed=0"
    assert isinstance(found.failure.error, Wrong)
    assert not found.failure.flaky
    notes = "\n".join(found.failure.error.__notes__)
    assert "smallest example: profile 0 batch=1 seq=200 seed=0" in notes
    assert str(found.failure).startswith("fails at profile 0 batch=1 seq=200 seed=0: Wrong: at {")


def test_the_blob_repeats_it() -> None:
    strategy = examples(WIDE)
    found = explore(strategy, fails_where(lambda e: e.binding["batch"] > 4), effort="ci", seed=1)
    assert found.failure is not None
    assert found.failure.blob.startswith("@reproduce_failure(")
    again: list[Example] = []

    def repeat(example: Example) -> None:
        again.append(example)
        raise Wrong

    decorate = eval(found.failure.blob.removeprefix("@"), {"reproduce_failure": reproduce_failure})
    with pytest.raises(Wrong):
        settings(database=None)(decorate(given(strategy)(repeat)))()
    assert set(again) == {found.failure.example}


def test_with_profiles_what_hypothesis_left_is_minimized() -> None:
    """Data that show it at times get Hypothesis stuck; a few seeds more find the boundary."""

    def wrong(example: Example) -> bool:
        return example.binding["seq"] >= 6 and example.seed % 4 != 0

    for seed in range(10):
        found = explore(examples(WIDE), fails_where(wrong), effort="ci", seed=seed, profiles=WIDE)
        assert found.failure is not None
        assert str(found.failure.example) == "profile 0 batch=1 seq=6 seed=1"


def test_first_comes_first_and_is_minimized() -> None:
    kept = Example.of({"batch": 31, "seq": 499}, seed=12)
    tried: list[Example] = []

    def check(example: Example) -> None:
        tried.append(example)
        fails_where(lambda e: e.binding == {"batch": 31, "seq": 499})(example)

    found = explore(examples(WIDE), check, effort="ci", first=(Example.of({"batch": 1, "seq": 4}), kept))
    assert tried[1] == kept
    assert found.tried == 2
    assert found.failure is not None
    assert (found.failure.example, found.failure.blob) == (kept, "")
    found = explore(examples(WIDE), fails_where(lambda e: e.seed == 12), effort="ci", first=(kept,), profiles=WIDE)
    assert found.failure is not None
    assert str(found.failure.example) == "profile 0 batch=1 seq=4 seed=12"
    assert isinstance(found.failure.error, Wrong)


def test_a_check_that_fails_once_is_flaky() -> None:
    state = {"left": 1}

    def check(example: Example) -> None:
        if example.binding["seq"] > 100 and state["left"]:
            state["left"] -= 1
            raise Wrong("once")

    found = explore(examples(WIDE), check, effort="ci", seed=0, profiles=WIDE)
    assert found.failure is not None
    assert found.failure.flaky
    assert isinstance(found.failure.error, Wrong)
    assert found.failure.example.binding["seq"] > 100
    assert "asked again, it passed" in str(found.failure)


@pytest.mark.parametrize("error", [UnsupportedError("cuda_graph", "none"), SkipTest("no"), KeyboardInterrupt()])
@pytest.mark.parametrize("first", [(), (Example.of({"batch": 1, "seq": 4}),)], ids=["drawn", "first"])
def test_what_passes_straight_through(error: BaseException, first: tuple[Example, ...]) -> None:
    asked = []

    def check(example: Example) -> None:
        asked.append(example)
        raise error

    with pytest.raises(type(error)) as caught:
        explore(examples(WIDE), check, effort="ci", first=first)
    assert caught.value is error
    assert len(asked) == 1


def test_skips_and_failures_of_pytest() -> None:
    def skipping(_: Example) -> None:
        pytest.skip("not here")

    def failing(example: Example) -> None:
        if example.binding["batch"] > 2:
            pytest.fail("wrong")

    with pytest.raises(pytest.skip.Exception):
        explore(examples(WIDE), skipping, effort="ci")
    found = explore(examples(WIDE), failing, effort="ci", profiles=WIDE)
    assert found.failure is not None
    assert str(found.failure.example) == "profile 0 batch=3 seq=4 seed=0"


def test_a_capability_missing_on_the_way_down_is_no_smaller_failure() -> None:
    def check(example: Example) -> None:
        if example.binding["batch"] < 8:
            raise UnsupportedError("small", "no")
        raise Wrong

    kept = Example.of({"batch": 31, "seq": 499})
    found = explore(examples(WIDE), check, effort="ci", first=(kept,), profiles=WIDE[:1])
    assert found.failure is not None
    assert found.failure.example.binding["batch"] == 8


def test_a_check_may_want_another_example() -> None:
    tried: list[Example] = []

    def check(example: Example) -> None:
        if example.binding["batch"] == 1:
            reject()
        tried.append(example)

    found = explore(examples(WIDE[:1]), check, effort="ci")
    assert found.failure is None
    assert len(tried) == 25


def test_a_strategy_at_fault_is_not_taken_for_the_check() -> None:
    with pytest.raises(SpecError, match="no shape meets"):
        explore(st.deferred(lambda: examples(WIDE, relations=("batch > 99",))), right, effort="ci")
    with pytest.raises(FailedHealthCheck):
        explore(examples(WIDE).filter(lambda _: False), right, effort="ci")


def test_shrinking_ends() -> None:
    """A hang that a timeout ends costs its minutes again for each smaller example: patience says how long."""

    def check(example: Example) -> None:
        if example.binding["seq"] > 4:
            time.sleep(0.02)
            raise Wrong

    found = explore(examples(WIDE), check, effort="ci", seed=2, patience=0.05)
    assert found.failure is not None
    assert not found.failure.flaky
    assert found.failure.example.binding["seq"] > 4
    assert found.seconds < 0.5


def test_a_database_brings_failures_back(tmp_path: Path) -> None:
    check = fails_where(lambda e: e.binding["seq"] == 512)
    strategy = examples(WIDE)
    kept = explore(strategy, check, effort="nightly", examples=200, database=tmp_path)
    assert kept.failure is not None
    again = explore(strategy, check, effort="nightly", examples=1, database=tmp_path)
    assert again.failure is not None
    assert again.failure.example == kept.failure.example


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"effort": "nigthly"}, "effort: 'nigthly': did you mean 'nightly'"),
        ({"examples": 0}, "examples: expected a number above 0"),
        ({"strategy": WIDE}, "strategy: expected a strategy"),
        ({"check": None}, "check: expected a function"),
        ({"first": ("batch=3",)}, "first: expected examples"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, object], says: str) -> None:
    usual = {"strategy": examples(WIDE), "check": right, "effort": "ci"}
    with pytest.raises(SpecError, match=says):
        explore(**{**usual, **arguments})  # type: ignore[arg-type]
