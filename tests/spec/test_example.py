"""An example says one thing, however it is written."""

from __future__ import annotations

import pytest

from harness.errors import SpecError
from harness.spec.example import Example

DRAWN = Example.of({"seq": 7, "batch": 3}, {"shape": (2, 3)}, profile=1, seed=5)


def test_it_is_told_in_one_line() -> None:
    assert str(DRAWN) == "profile 1 batch=3 seq=7 shape=[2, 3] seed=5"
    assert DRAWN.binding == {"batch": 3, "seq": 7}
    assert DRAWN.contents == {"shape": (2, 3)}


def test_it_reads_what_it_wrote() -> None:
    assert Example.parse(DRAWN.json()) == DRAWN
    assert Example.parse(Example().json()) == Example() == Example.parse("{}")


def test_its_key_is_its_own() -> None:
    others = [
        Example.of({"seq": 7, "batch": 3}, {"shape": (2, 3)}, profile=0, seed=5),
        Example.of({"seq": 7, "batch": 3}, {"shape": (2, 3)}, profile=1, seed=6),
        Example.of({"seq": 3, "batch": 7}, {"shape": (2, 3)}, profile=1, seed=5),
        Example.of({"seq": 7, "batch": 3}, {"shape": (3, 2)}, profile=1, seed=5),
    ]
    assert len({example.key for example in (DRAWN, *others)}) == 5
    assert Example.of({"batch": 3, "seq": 7}, {"shape": (2, 3)}, profile=1, seed=5).key == DRAWN.key
    assert len(DRAWN.key) == 16


@pytest.mark.parametrize("text", ["", "[]", "{", '{"sizes": 3}', '{"sizes": {"batch": "x"}}', '{"shape": {}}'])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="example"):
        Example.parse(text)
