"""The smallest example, without drawing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.errors import SpecError
from harness.spec import Example, Profile, Values
from harness.spec.corners import corners
from harness.spec.space import spaces
from harness.strategies import minimize

WIDE = Profile.of({"batch": (1, 8, 32), "seq": (4, 64, 512)})
SECOND = Profile.of({"batch": (1, 1, 64), "seq": (100, 700, 1000)})
LARGEST = Example.of({"batch": 64, "seq": 1000}, profile=1, seed=77)


class Asked:
    """A fault, and how often it was looked for."""

    def __init__(self, wrong: Callable[[Example], bool]) -> None:
        self.wrong, self.examples = wrong, list[Example]()

    def __call__(self, example: Example) -> bool:
        self.examples.append(example)
        return self.wrong(example)


@pytest.mark.parametrize(
    ("wrong", "smallest"),
    [
        (lambda _: True, "profile 0 batch=1 seq=4 seed=0"),
        (lambda e: e.binding["seq"] >= 200, "profile 0 batch=1 seq=200 seed=0"),
        (lambda e: e.binding["seq"] > 511, "profile 0 batch=1 seq=512 seed=0"),
        (lambda e: e.binding["seq"] > 512, "profile 1 batch=1 seq=513 seed=0"),
        (lambda e: e.binding["batch"] > 4 and e.binding["seq"] >= 6, "profile 0 batch=5 seq=6 seed=0"),
        (lambda e: e.binding["batch"] * e.binding["seq"] >= 64, "profile 0 batch=1 seq=64 seed=0"),
        (lambda e: e.profile == 1, "profile 1 batch=1 seq=100 seed=0"),
        (lambda e: e.binding["seq"] == 1000, "profile 1 batch=1 seq=1000 seed=0"),
        (lambda e: e.binding == {"batch": 64, "seq": 1000}, "profile 1 batch=64 seq=1000 seed=0"),
        (lambda e: e.seed != 0, "profile 0 batch=1 seq=4 seed=1"),
        (lambda e: e.seed == 77, "profile 0 batch=1 seq=4 seed=77"),
        (lambda e: e == LARGEST, "profile 1 batch=64 seq=1000 seed=77"),
    ],
)
def test_the_true_boundary(wrong: Callable[[Example], bool], smallest: str) -> None:
    asked = Asked(wrong)
    found = minimize(LARGEST, asked, (WIDE, SECOND))
    assert str(found) == smallest
    assert found == LARGEST or wrong(found)
    assert len(set(asked.examples)) == len(asked.examples)
    inside = spaces((WIDE, SECOND))
    assert all(inside[e.profile].admits(e.binding) for e in asked.examples)


def test_odd_sizes_have_a_smallest_too() -> None:
    odd = Profile.of({"batch": (2, 8, 32), "seq": (4, 64, 512)})
    start = Example.of({"batch": 31, "seq": 511})
    found = minimize(start, lambda e: all(size % 2 for size in e.binding.values()), (odd,))
    assert found.binding == {"batch": 3, "seq": 5}


def test_data_that_show_it_only_at_times() -> None:
    """A mask hides something in three of four seeds: the boundary is that of any of them."""
    profile = Profile.of({"seq": (4, 16, 64)})

    def wrong(example: Example) -> bool:
        return example.binding["seq"] >= 6 and example.seed % 4 != 0

    assert str(minimize(Example.of({"seq": 64}, seed=1203), wrong, (profile,))) == "profile 0 seq=6 seed=1"


def test_it_takes_few_runs() -> None:
    large = Profile.of(dict.fromkeys("abc", (1, 64, 1 << 20)))
    asked = Asked(lambda e: e.binding["b"] >= 12345)
    found = minimize(Example.of(dict.fromkeys("abc", 1 << 20)), asked, (large,))
    assert found.binding == {"a": 1, "b": 12345, "c": 1}
    assert len(asked.examples) <= 160  # 20 halvings, some with other data, and the few that come first


def test_relations_hold_on_the_way() -> None:
    relations = ("kv >= q", "kv % 8 == 0", "q % 2 == 0")
    profile = Profile.of({"kv": (8, 64, 512), "q": (2, 8, 512)})
    asked = Asked(lambda e: e.binding["q"] >= 50)
    found = minimize(Example.of({"kv": 512, "q": 512}), asked, (profile,), relations=relations)
    assert found.binding == {"kv": 56, "q": 50}
    (space,) = spaces((profile,), relations)
    assert all(space.admits(e.binding) for e in asked.examples)


def test_linked_sizes_go_down_together() -> None:
    profile = Profile.of({"kv": (1, 64, 512), "q": (1, 64, 512)})
    start = Example.of({"kv": 400, "q": 400})
    found = minimize(start, lambda e: e.binding["q"] >= 37, (profile,), relations=("q == kv",))
    assert found.binding == {"kv": 37, "q": 37}


def test_contents_of_shape_tensors() -> None:
    profile = Profile.of({"batch": (1, 2, 4)}, {"shape": Values((1, -2), (3, 4), (40, 60))})
    (corner,) = (example for name, example in corners((profile,)) if name == "max")
    found = minimize(corner, lambda e: e.contents["shape"][1] >= 7, (profile,))
    assert str(found) == "profile 0 batch=1 shape=[1, 7] seed=0"


def test_what_lies_outside_stays() -> None:
    outside = Example.of({"batch": 99, "seq": 8})
    assert minimize(outside, lambda _: True, (WIDE,)) == outside


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(SpecError, match="example: profile 1 of 1"):
        minimize(LARGEST, lambda _: True, (WIDE,))
    with pytest.raises(SpecError, match="profile 0 has no 'kv'"):
        minimize(LARGEST, lambda _: True, (WIDE, SECOND), relations=("kv > 1",))
