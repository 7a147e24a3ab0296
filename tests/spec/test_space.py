"""What is left of ranges by relations, against the list of every shape there is."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest

from harness.errors import SpecError
from harness.spec import Profile, Values
from harness.spec.space import Relation, Space, spaces

PLAIN = Profile.of({"kv": (1, 8, 40), "q": (1, 4, 20)})
RELATIONS = [
    ("kv >= q",),
    ("q == kv",),
    ("kv + q <= 32",),
    ("kv % 8 == 0", "q % 3 == 1"),
    ("kv * q == 24",),
    ("kv == 2 * q + 1",),
    ("2 <= q < kv",),
    ("q != 1", "kv != 40"),
    ("kv // 4 == q",),
    ("-kv + q > -3",),
]


def legal(relations: tuple[str, ...]) -> list[tuple[int, int]]:
    """Every (kv, q), by Python's own reading of the relations."""
    text = " and ".join(relations)
    return [(kv, q) for kv in range(1, 41) for q in range(1, 21) if eval(text, {}, {"kv": kv, "q": q})]


@pytest.mark.parametrize("relations", RELATIONS, ids=" and ".join)
def test_ranges_are_as_narrow_as_can_be(relations: tuple[str, ...]) -> None:
    """Each bound of a range can be had, whatever was chosen before, and so can what is nearest to a size."""
    space, allowed = Space(PLAIN, relations), legal(relations)
    outer = space.range_of(())
    assert (outer.min, outer.max) == (allowed[0][0], allowed[-1][0])
    for kv, group in itertools.groupby(allowed, key=lambda pair: pair[0]):
        qs = [q for _, q in group]
        inner = space.range_of((kv,))
        assert (inner.min, inner.max) == (min(qs), max(qs))
        assert inner.min <= inner.opt <= inner.max
        for size in range(inner.min, inner.max + 1):
            assert space.nearest((kv,), size) == max(q for q in qs if q <= size)


@pytest.mark.parametrize("relations", RELATIONS, ids=" and ".join)
def test_it_admits_what_is_legal(relations: tuple[str, ...]) -> None:
    space = Space(PLAIN, relations)
    admitted = [(kv, q) for kv in range(42) for q in range(22) if space.admits({"kv": kv, "q": q})]
    assert admitted == legal(relations)
    assert not space.admits({"kv": 8})


def test_ends() -> None:
    space = Space(PLAIN, ("kv >= q", "kv % 8 == 0"))
    assert space.least() == {"kv": 8, "q": 1}
    assert space.greatest() == {"kv": 40, "q": 20}
    assert space.largest("q") == 20
    assert space.least({"q": 20}) == {"kv": 24, "q": 20}
    assert space.least({"q": 21, "kv": 8}) is None
    assert space.fitted("kv", 1, 20, {"kv": 40, "q": 20}) == {"kv": 16, "q": 16}  # q follows it down
    assert space.fitted("kv", 17, 23, {"kv": 40, "q": 20}) is None


def test_elements_of_shape_tensors_are_related_too() -> None:
    profile = Profile.of(
        {"batch": (1, 2, 4)}, {"shape": Values((1, 1), (4, 6), (24, 24)), "axes": Values((-2,), (-1,), (1,))}
    )
    space = Space(profile, ("shape[0] * shape[1] == 24", "shape[0] >= batch"))
    assert space.variables == ("batch", "axes[0]", "shape[0]", "shape[1]")
    assert space.range_of((3, -2)).min == 3
    assert space.range_of((3, -2, 6)) == space.range_of((3, -1, 6))
    example = space.example({"batch": 3, "axes[0]": -2, "shape[0]": 6, "shape[1]": 4}, seed=7)
    assert str(example) == "profile 0 batch=3 axes=[-2] shape=[6, 4] seed=7"
    assert space.admits(space.sizes_of(example))


def test_what_is_affordable_narrows_too() -> None:
    """The smallest of the rest leaves a symbol its room; a bound that is not linear is met exactly."""

    def affordable(binding: Mapping[str, int]) -> bool:
        return binding["kv"] * binding["q"] <= 60

    space = Space(PLAIN, ("kv >= q",), affordable)
    for kv in range(1, 41):
        assert space.range_of((kv,)).max == min(kv, 60 // kv, 20)
    assert space.range_of(()).max == 40
    assert space.greatest() == {"kv": 40, "q": 1}


def test_large_ranges_take_few_steps() -> None:
    profile = Profile.of({"a": (1, 512, 1 << 20), "b": (1, 512, 1 << 20), "c": (1, 1, 64)})
    space = Space(profile, ("a >= b", "a + b + c <= 65536", "b % 128 == 0"))
    assert (space.range_of(()).min, space.range_of(()).max) == (128, 65536 - 128 - 1)
    assert space.range_of((65407,)).max == 128


def test_impossible_relations_end() -> None:
    profile = Profile.of(dict.fromkeys("abc", (1, 512, 1 << 20)))
    with pytest.raises(SpecError, match="write simpler relations"):
        Space(profile, ("a * a + b * b == c * c", "a % 7 == 3", "b % 7 == 3", "c % 7 == 3"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kv", "compares nothing"),
        ("kv => q", "can't be read"),
        ("", "can't be read"),
        ("kv in q", "can't be read"),
        ("kv is q", "can't be read"),
        ("kv % q == 1", "must be a number above 0"),
        ("kv % 0 == 1", "must be a number above 0"),
        ("kv / 2 > q", "profile 0 has no 'kv/2'|its sides are|compares"),
        ("kv ** 2 > q", "its sides are"),
        ("len(kv) > 1", "its sides are"),
        ("kv > 1.5", "its sides are"),
        ("kv > True", "no 'True'"),
        ("keys >= q", "no 'keys': it has kv, q"),
        ("kvs >= q", "did you mean 'kv'"),
        ("kv > 40", "no shape meets 'kv > 40'"),
    ],
)
def test_wrong_relations_are_named(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        Space(PLAIN, (text,))


def test_names_as_onnx_has_them() -> None:
    relation = Relation("x:0 >= batch_size/2.q")
    assert relation.names == {"x:0", "batch_size/2.q"}
    assert relation.possible({"x:0": (3, 3), "batch_size/2.q": (1, 3)})
    assert not relation.possible({"x:0": (3, 3), "batch_size/2.q": (4, 9)})


@pytest.mark.parametrize(
    ("profiles", "relations", "says"),
    [
        ((), (), "there is none"),
        (PLAIN, (), "a sequence of Profile"),
        ((PLAIN,), "kv >= q", "expected several texts"),
        ((PLAIN,), (3,), "expected text"),
        ((Profile.of({"a": (1, 9, 8)}),), (), "a: 1:9:8 is no range"),
        ((Profile.of({"a": (-1, 2, 8)}),), (), "0 <= min"),
        ((Profile.of({}, {"s": Values((1,), (2,), (3, 4))}),), (), "different counts"),
        ((Profile.of({}, {"s": Values((5,), (2,), (3,))}),), (), r"s\[0\]: 5:2:3 is no range"),
    ],
)
def test_wrong_profiles_are_named(profiles: object, relations: object, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        spaces(profiles, relations)  # type: ignore[arg-type]
