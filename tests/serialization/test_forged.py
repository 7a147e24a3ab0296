"""Plans that are none: what is forged of a plan, and that each is another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.errors import RunError
from suites.serialization.forged import HEADER, Forged, Trial, forgeries

# As TensorRT-RTX 1.7.1.116 writes it: tag, format, four bytes whatever, size of the plan, version.
BEGINNING = b"vtrt" + bytes(4) + bytes.fromhex("0200000000000000 9417040000000000 01070174")
WEIGHTS = bytes(range(100, 164))


def plan(beginning: bytes = BEGINNING) -> np.ndarray:
    body = np.random.default_rng(0).integers(0, 256, 500, np.uint8).tobytes()
    return np.frombuffer(beginning.ljust(HEADER, b"\0") + body + WEIGHTS + body, np.uint8)


def forged(tmp_path: Path, good: np.ndarray, version: str) -> list[Forged]:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"\x08\x08")
    return list(forgeries(good, 0, model, tmp_path, (WEIGHTS, b"too short"), version))


def places(found: list[Forged], kind: str, good: np.ndarray) -> list[list[int]]:
    """Which bytes differ, of each of a kind that has as many."""
    arrays = [one.plan for one in found if one.kind == kind and isinstance(one.plan, np.ndarray)]
    return [np.flatnonzero(array != good).tolist() for array in arrays]


def test_none_is_the_plan_itself(tmp_path: Path) -> None:
    good = plan()
    for one in forged(tmp_path, good, "1.7.1"):
        if isinstance(one.plan, np.ndarray):
            assert one.plan.tobytes() != good.tobytes(), one.what
        else:
            assert one.plan.stat().st_size == 1 << 30


def test_only_what_has_changed_weights_alone_is_run(tmp_path: Path) -> None:
    good = plan()
    found = forged(tmp_path, good, "1.7.1")
    assert [one.kind for one in found if one.runs] == ["weights"]
    ((at,),) = places(found, "weights", good)
    start = good.tobytes().index(WEIGHTS)
    assert start <= at < start + len(WEIGHTS)


def test_every_byte_of_the_header_is_changed(tmp_path: Path) -> None:
    good = plan()
    assert places(forged(tmp_path, good, "1.7.1"), "header", good) == [[at] for at in range(HEADER)]


def test_a_plan_is_cut_short_everywhere(tmp_path: Path) -> None:
    good = plan()
    cut = [one.plan for one in forged(tmp_path, good, "1.7.1") if one.kind == "truncated"]
    lengths = [len(one) for one in cut if isinstance(one, np.ndarray)]
    assert {1, HEADER - 1, HEADER, HEADER + 1, good.nbytes - 1} <= set(lengths)
    assert max(b - a for a, b in zip(lengths, [*lengths[1:], good.nbytes], strict=True)) <= good.nbytes // 24 + 1


@pytest.mark.parametrize("version", ["1.7.1.116", "1.7.0"])
def test_numbers_that_tell_who_can_read_it_are_one_more(tmp_path: Path, version: str) -> None:
    """Whatever the patch: the bindings' is not always that of the library."""
    good = plan()
    found = forged(tmp_path, good, version)
    assert places(found, "format", good) == [[4], [5], [6], [7]]
    assert places(found, "version", good) == [[24], [25], [26]]
    versions = [one.plan[24:27].tolist() for one in found if one.kind == "version" and isinstance(one.plan, np.ndarray)]
    assert versions == [[2, 7, 1], [1, 8, 1], [1, 7, 2]]


@pytest.mark.parametrize(
    ("beginning", "version", "kinds"),
    [
        (BEGINNING, "8.6.1", {"format"}),  # it is not where it was looked for
        (BEGINNING, "", {"format"}),
        (b"ftrt" + BEGINNING[4:], "1.7.1", {"format", "version"}),
        (b"FAKEPLAN" + BEGINNING[8:], "1.7.1", set()),
    ],
)
def test_what_is_not_there_is_not_said_to_be_forged(
    tmp_path: Path, beginning: bytes, version: str, kinds: set[str]
) -> None:
    found = {one.kind for one in forged(tmp_path, plan(beginning), version)}
    assert found & {"format", "version"} == kinds


@pytest.mark.parametrize(("beginning", "count"), [(BEGINNING, 3), (b"ftrt", 3), (b"FAKEPLAN", 3), (b"other", 4)])
def test_the_plans_of_all_other_backends(tmp_path: Path, beginning: bytes, count: int) -> None:
    good = plan(beginning)
    others = [one for one in forged(tmp_path, good, "") if one.kind == "another backend's"]
    assert len(others) == count
    assert all(isinstance(one.plan, np.ndarray) and one.plan[:4].tobytes() != good[:4].tobytes() for one in others)


# What becomes of them ----------------------------------------------------------------------------


class Host:
    """Takes every plan, and counts what is run."""

    def __init__(self) -> None:
        self.runs, self.generation, self.facts = 0, 1, {"pid": 0}
        self.client = self

    def alive(self, generation: int) -> bool:
        return generation == self.generation

    def load(self, *_: object) -> Host:
        return self

    session = load

    def run(self, _: object) -> None:
        self.runs += 1
        raise RunError("no matter")

    def close(self) -> None: ...


def test_a_forged_plan_that_is_taken_is_not_run_unless_it_may_be() -> None:
    host = Host()
    trial = Trial(host, plan(), {})  # type: ignore[arg-type]
    trial(Forged("bit", "one", plan()))
    assert host.runs == 0
    trial(Forged("weights", "one", plan(), runs=True))
    assert host.runs == 1
    assert trial.table == {kind: {"tried": 1, "accepted": 1, "words": []} for kind in ("bit", "weights")}
    assert not trial.problems
