"""Strategies stay inside and reach every bound; and a strategy that does not is found out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from harness.errors import SpecError
from harness.spec import Example, Interface, ModelSpec, OnnxFile, PlanFile, Profile, Range, TensorSpec, Values
from harness.spec.space import spaces
from harness.strategies import bindings, contents, examples, examples_of, seeds, settings_of, shapes, sizes
from harness.strategies.affordable import Bounds, cost
from tests.spec.onnx_files import linear
from tests.strategies.reached import DRAWS, PAIRS, drawn, missing

ROOT = Path(__file__).parents[2]
SEEDS = range(4)
TWO = (
    Profile.of({"batch": (1, 8, 32), "seq": (4, 64, 512)}),
    Profile.of({"batch": (1, 1, 1), "seq": (0, 700, 1000)}),
)
ZERO = (Profile.of({"past": (0, 16, 300), "seq": (1, 4, 8)}),)
VALUED = (
    Profile.of({"batch": (1, 2, 4)}, {"shape": Values((1, 0), (3, 4), (4, 60)), "at": Values((-3,), (0,), (5,))}),
)
CASES: dict[str, tuple[tuple[Profile, ...], tuple[str, ...]]] = {
    "two profiles": (TWO, ()),
    "zero": (ZERO, ()),
    "values": (VALUED, ()),
    "kv >= q": ((Profile.of({"kv": (1, 64, 512), "q": (1, 8, 128)}),), ("kv >= q",)),
    "q == kv": ((Profile.of({"kv": (1, 64, 512), "q": (1, 64, 512)}),), ("q == kv",)),
    "past + seq <= 32": ((Profile.of({"past": (0, 8, 31), "seq": (1, 4, 32)}),), ("past + seq <= 32",)),
    "width % 8 == 0": ((Profile.of({"height": (1, 3, 9), "width": (8, 64, 256)}),), ("width % 8 == 0",)),
    "linked contents": (VALUED, ("shape[0] >= batch",)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("start", SEEDS)
def test_everything_is_reached(name: str, start: int) -> None:
    profiles, relations = CASES[name]
    found = drawn(examples(profiles, relations=relations), DRAWS, start)
    assert missing(found, spaces(profiles, relations)) == []


@pytest.mark.parametrize("profiles", [TWO, ZERO, VALUED], ids=["two", "zero", "values"])
@pytest.mark.parametrize("start", range(2))
def test_bounds_come_together(profiles: tuple[Profile, ...], start: int) -> None:
    found = drawn(examples(profiles), PAIRS * len(profiles), start)
    assert missing(found, spaces(profiles), pairs=True) == []


def capped(change: Callable[[Example], Example]) -> SearchStrategy[Example]:
    return examples(TWO).map(change)


def at_most(example: Example, **limits: int) -> Example:
    held = {symbol: min(size, limits.get(symbol, size)) for symbol, size in example.binding.items()}
    return Example.of(held, profile=example.profile, seed=example.seed)


@pytest.mark.parametrize(
    ("mutant", "says"),
    [
        (capped(lambda e: at_most(e, batch=31, seq=1000)), "batch at max"),
        (capped(lambda e: at_most(e, seq=999) if e.profile else e), "seq at max"),
        (capped(lambda e: replace(e, profile=0)), "profile 1"),
        (capped(lambda e: Example.of({**e.binding, "seq": max(e.binding["seq"], 1)}, profile=e.profile)), "seq at 0"),
        (capped(lambda e: Example.of({**e.binding, "batch": 2 * e.binding["batch"]}, profile=e.profile)), "outside"),
        (capped(lambda e: replace(e, seed=0)), "seeds"),
    ],
    ids=["batch below max", "seq below max", "one profile", "never zero", "outside", "one seed"],
)
def test_a_strategy_that_leaves_something_out_is_found(mutant: SearchStrategy[Example], says: str) -> None:
    assert any(says in one for one in missing(drawn(mutant, DRAWS, 0), spaces(TWO)))


def test_a_size_strategy_that_never_draws_its_maximum_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_sizes", lambda r: st.integers(r.min, max(r.min, r.max - 1)))
    assert "seq at max" in missing(drawn(examples(TWO), DRAWS, 0), spaces(TWO))


def test_plain_integers_leave_pairs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What bounds drawn often are for."""
    monkeypatch.setattr(shapes, "_sizes", lambda r: st.integers(r.min, r.max))
    assert missing(drawn(examples(TWO), PAIRS, 0), spaces(TWO), pairs=True)


@pytest.mark.parametrize("start", SEEDS)
def test_sizes(start: int) -> None:
    found = set(drawn(sizes(Range(0, 8, 200)), 100, start))
    assert {0, 1, 8, 200} <= found
    assert len(found) > 20
    assert all(0 <= size <= 200 for size in found)


def test_sizes_shrink_to_the_boundary() -> None:
    quick = settings(settings_of("dev"), max_examples=1000)
    assert find(sizes(Range(1, 256, 512)), lambda _: True, settings=quick) == 1
    for boundary in (2, 200, 256, 257, 512):
        assert find(sizes(Range(1, 256, 512)), lambda size: size >= boundary, settings=quick) == boundary  # noqa: B023


def test_bindings_and_contents_of_their_own() -> None:
    profile = VALUED[0]
    assert {frozenset(one) for one in drawn(bindings(profile), 20, 0)} == {frozenset({"batch"})}
    held = drawn(contents(profile.values[1][1]), DRAWS, 0)
    assert {(1, 0), (4, 60)} <= set(held)
    assert all(1 <= a <= 4 and 0 <= b <= 60 for a, b in held)
    linked = drawn(bindings(CASES["kv >= q"][0][0], relations=("kv >= q",)), DRAWS, 0)
    assert all(one["kv"] >= one["q"] for one in linked)
    assert 0 in drawn(seeds(), 50, 0)


def test_examples_shrink_to_the_smallest() -> None:
    quick = settings(settings_of("dev"), max_examples=1000)
    assert str(find(examples(TWO), lambda _: True, settings=quick)) == "profile 0 batch=1 seq=4 seed=0"
    second = find(examples(TWO), lambda e: e.profile == 1 and e.binding["seq"] >= 10, settings=quick)
    assert str(second) == "profile 1 batch=1 seq=10 seed=0"
    related, relation = CASES["past + seq <= 32"]  # past=31 leaves seq one size, and is none the smaller for it
    summed = find(examples(related, relations=relation), lambda e: e.binding["past"] >= 9, settings=quick)
    assert str(summed) == "profile 0 past=9 seq=1 seed=0"
    related, relation = CASES["kv >= q"]
    linked = find(examples(related, relations=relation), lambda e: e.binding["q"] >= 50, settings=quick)
    assert str(linked) == "profile 0 kv=50 q=50 seed=0"


def test_nothing_is_thrown_away() -> None:
    """By construction: as many examples are drawn as are asked for, under every health check."""
    seen = []

    @settings(settings_of("ci"), max_examples=200)
    @given(examples((Profile.of({"a": (1, 9, 4096), "b": (1, 9, 4096)}),), relations=("a * b == 4096",)))
    def collect(example: Example) -> None:
        seen.append(example)

    collect()
    assert len(seen) == 200
    assert all(e.binding["a"] * e.binding["b"] == 4096 for e in seen)


# A model's own ----------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    """x [batch, 4] to y [batch, 4]."""
    return ModelSpec("own", OnnxFile(linear(tmp_path / "own.onnx")), (Profile.of({"x:0": (1, 8, 64)}),))


def test_a_model_in_two_lines(model: ModelSpec) -> None:
    found = drawn(examples_of(model), DRAWS, 0)
    (symbol,) = found[0].binding
    assert {1, 8, 64} <= {example.binding[symbol] for example in found}


def test_nothing_is_read_before_the_first_draw() -> None:
    absent = examples_of(ModelSpec("absent", OnnxFile(Path("absent.onnx"))))
    with pytest.raises(SpecError, match=r"absent\.onnx: no such file"):
        drawn(absent, 1, 0)


def test_the_models_own_relations_hold_unless_others_are_given(model: ModelSpec) -> None:
    (symbol,) = drawn(examples_of(model), 1, 0)[0].binding
    even = replace(model, relations=(f"{symbol} % 2 == 0",))
    assert {e.binding[symbol] % 2 for e in drawn(examples_of(even), 50, 0)} == {0}
    assert {e.binding[symbol] % 2 for e in drawn(examples_of(even, relations=()), 50, 0)} == {0, 1}
    assert {e.binding[symbol] % 5 for e in drawn(examples_of(even, relations=[f"{symbol} % 5 == 1"]), 50, 0)} == {1}


INTERFACE = Interface(
    (TensorSpec("x", "float16", ("batch", "seq", 8)), TensorSpec("mask", "bool", ("batch", "past+seq"))),
    (TensorSpec("y", "float32", ("batch", "seq", "found")), TensorSpec("n", "bfloat16", ())),
)


def test_cost() -> None:
    """Of `found`, which data decide, nothing is known, so it counts once."""
    assert cost(INTERFACE, {"batch": 2, "seq": 3, "past": 4}) == (48 + 14 + 6 + 1, 96 + 14 + 24 + 2)


@pytest.mark.parametrize(("bounds", "most"), [({"elements": 5000}, 5000), ({"elements": None, "memory": 3000}, 3000)])
def test_examples_are_affordable(bounds: dict[str, int | None], most: int) -> None:
    profile = Profile.of({"batch": (1, 8, 64), "seq": (1, 64, 512), "past": (0, 64, 512)})
    plan = ModelSpec("plan", PlanFile(Path("x.plan")), (profile,))
    found = drawn(examples_of(plan, interface=INTERFACE, **bounds), DRAWS, 0)
    costs = [cost(INTERFACE, example.binding)[bounds["elements"] is None] for example in found]
    assert 0.9 * most < max(costs) <= most
    assert len({example.binding["batch"] for example in found}) > 10
    assert not Bounds(INTERFACE, 10)({"batch": 1, "seq": 1, "past": 1})


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda _: sizes((1, 2, 3)), "range: expected a Range"),
        (lambda _: sizes(Range(3, 2, 9)), "range: 3:2:9 is no range"),
        (lambda _: bindings({"batch": 3}), "profile: expected a Profile"),
        (lambda _: contents((1, 2)), "values: expected Values"),
        (lambda _: examples(()), "profiles: there is none"),
        (lambda _: examples(TWO, relations="batch >= seq"), "relations: expected several texts"),
        (lambda _: examples(TWO, relations=("batch >= sequence",)), "profile 0 has no 'sequence'"),
        (lambda _: examples(TWO, affordable=lambda binding: not binding), "no shape is affordable"),
        (lambda _: examples_of("bert"), "model: expected a ModelSpec"),
        (lambda own: examples_of(own, elements=0), "elements: expected a number above 0"),
        (lambda own: examples_of(own, memory="1 GiB"), "memory: expected a number above 0"),
        (lambda own: examples_of(replace(own, data=Path("d.npz"))), r"model: own brings its own inputs \(d.npz\)"),
        (lambda _: examples_of(ModelSpec("p", PlanFile(Path("x")))), "interface: p is a plan"),
    ],
)
def test_a_wrong_argument_is_named(call: Callable[[ModelSpec], object], says: str, model: ModelSpec) -> None:
    with pytest.raises(SpecError, match=says):
        call(model)


def test_importing_needs_no_pytest() -> None:
    code = "import sys, harness.strategies; print(sorted({'pytest', 'numpy', 'onnx'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
