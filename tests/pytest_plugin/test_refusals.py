"""What is asked of a refusal, one breach at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.errors import ComparisonFailure, DeserializeError, RunError
from harness.spec import Example, Interface, Profile, TensorSpec, Values
from harness.spec.space import Space
from suites.shapes.refusals import Refusals, beyond, of_other_rank, resized
from suites.shapes.test_data_dependent import Limit

VALID = {"x": np.ones((2, 3), np.float32)}


class Session:
    """Gives back its inputs; refuses what is not valid with ``error``, or gives ``None`` for an answer."""

    def __init__(self, error: Exception | None, after: float = 0.0) -> None:
        self.error, self.after, self.off, self.limits = error, after, 0.0, []

    def run(self, inputs: Any, *, omit: str = "") -> Any:
        if inputs is VALID and not omit:
            return {"y": inputs["x"] + self.off}
        self.off = self.after
        if self.error is not None:
            raise self.error
        return {}

    def limit(self, tensor: str, nbytes: int | None) -> None:
        self.limits.append((tensor, nbytes))


class Relation:
    def require_same_bits(self, got: Any, want: Any, other: str, inputs: Any) -> None:
        assert inputs is VALID
        if not np.array_equal(got["y"], want["y"]):
            raise ComparisonFailure(f"not as {other}")


def problems(error: Exception | None, *, logged: bool = True, after: float = 0.0, **how: Any) -> list[str]:
    session = Session(error, after)
    refusals = Refusals(lambda _profile: session, Relation(), 0, VALID, logged)  # type: ignore[arg-type]
    refusals.refused("x", {}, **how)
    assert refusals.asked == 1
    return refusals.problems


def test_a_refusal_as_it_should_be():
    assert not problems(RunError("no", log=("[E] out of range",)))
    assert not problems(RunError("no"), logged=False)
    assert not problems(RunError("no"), ours=True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (None, "x: it ran"),
        (RunError("no", crash="signal 11"), "x: not refused: signal 11"),
        (RunError("illegal access", log=("[E]",), detail={"replace_host": True}), "x: not refused: illegal access"),
        (DeserializeError("no", log=("[E]",)), "x: refused as DeserializeError"),
        (RunError("no"), "x: refused without a word of the runtime's"),
        (RunError(" ", log=("[E]",)), "x: refused without a word of the runtime's"),
        (RunError("no", log=("[E]",), detail={"touched": ("y",)}), "x: refused, and yet written to: y"),
    ],
)
def test_a_refusal_that_is_none(error: Exception | None, words: str):
    (problem,) = problems(error)
    assert problem.startswith(words)


def test_a_refusal_within_the_run_may_have_written_other_outputs():
    for touched, lift, wrong in ((("z",), "y", ""), (("y", "z"), "y", "x: refused, and yet written to: y")):
        error = RunError("no", log=("[E]",), detail={"touched": touched})
        assert "".join(problems(error, lift=lift, late=True)) == wrong
        assert problems(error, lift=lift) == [f"x: refused, and yet written to: {', '.join(touched)}"]


def test_the_next_valid_run_is_as_before():
    (problem,) = problems(RunError("no", log=("[E]",)), after=1.0)
    assert problem.startswith("x: the next valid run is not as before: not as")


def test_every_size_and_every_value_is_exceeded_both_ways():
    space = Space(Profile.of({"n": (1, 2, 4), "past": (0, 2, 3)}, {"s": Values((-2,), (1,), (5,))}))
    assert dict(beyond(space)) == {
        "n=0, one below its least": {"n": 0, "past": 0, "s[0]": -2},
        "n=5, one above its largest": {"n": 5, "past": 3, "s[0]": 5},
        "past=4, one above its largest": {"n": 4, "past": 4, "s[0]": 5},
        "s[0]=-3, one below its least": {"n": 1, "past": 0, "s[0]": -3},
        "s[0]=6, one above its largest": {"n": 4, "past": 3, "s[0]": 6},
    }
    assert not [what for what, _ in beyond(space, ["s"]) if what.startswith("s")]
    assert len(list(beyond(space, ["s"]))) == 3


def test_enough_memory_is_that_of_the_most_and_no_granule_more():
    limit, found = Limit("y", 1, lambda sizes: 16 * sizes["rows"]), np.zeros((2, 3), np.int32)
    for rows, exact, whole in ((1, 128, 512), (4, 512, 512), (5, 640, 1024)):
        assert limit.bytes(found, Example.of({"rows": rows})) == exact
        assert limit.bytes(found, Example.of({"rows": rows}), 512) == whole


def test_inputs_in_other_shapes():
    face = Interface((TensorSpec("x", "float32", ("n", 3)), TensorSpec("s", "int64", (2,))), ())
    inputs = {**VALID, "s": np.array([7, 8])}
    changed = resized(inputs, face, {"n": 5, "s[0]": 1, "s[1]": -1})
    assert changed["x"].shape == (5, 3)
    assert changed["s"].tolist() == [1, -1]
    assert resized(inputs, face, {"n": 0})["x"].shape == (0, 3)
    assert [array["x"].shape for _, array in of_other_rank(VALID, "x")] == [(1, 2, 3), (3,)]
    vector = {"x": np.ones(3, np.int64)}
    others = [array["x"] for _, array in of_other_rank(vector, "x")]
    assert [array.shape for array in others] == [(1, 3), ()]
    assert all(isinstance(array, np.ndarray) for array in others), "and no scalar"
