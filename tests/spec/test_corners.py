"""Corners by name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness.spec import Profile, Values
from harness.spec.corners import corners

ROOT = Path(__file__).parents[2]
WIDE = Profile.of({"batch": (1, 2, 4), "seq": (0, 16, 32)})


def told(*profiles: Profile, relations: tuple[str, ...] = ()) -> dict[str, str]:
    return {name: str(example) for name, example in corners(profiles, relations=relations)}


def test_names() -> None:
    assert told(WIDE) == {
        "min": "profile 0 batch=1 seq=0 seed=0",
        "max": "profile 0 batch=4 seq=32 seed=0",
        "batch_max": "profile 0 batch=4 seq=0 seed=0",
        "seq_max": "profile 0 batch=1 seq=32 seed=0",
    }


def test_each_profile_has_its_own() -> None:
    fixed = Profile.of({"batch": 8, "seq": 64})
    assert set(told(WIDE, fixed, WIDE)) == {
        *("min", "max", "batch_max", "seq_max", "opt_p1"),
        *("min_p2", "max_p2", "batch_max_p2", "seq_max_p2"),
    }
    assert told(WIDE, fixed)["opt_p1"] == "profile 1 batch=8 seq=64 seed=0"


def test_a_shape_comes_once() -> None:
    assert set(told(Profile.of({"batch": (1, 2, 4), "width": 8}))) == {"min", "max"}
    assert told(Profile()) == {"opt": "profile 0 seed=0"}


def test_elements_of_a_shape_tensor_go_together() -> None:
    assert told(Profile.of({"batch": (1, 2, 4)}, {"shape": Values((1, 1), (3, 4), (4, 6))})) == {
        "min": "profile 0 batch=1 shape=[1, 1] seed=0",
        "max": "profile 0 batch=4 shape=[4, 6] seed=0",
        "batch_max": "profile 0 batch=4 shape=[1, 1] seed=0",
        "shape_max": "profile 0 batch=1 shape=[4, 6] seed=0",
    }


def test_relations_hold() -> None:
    wide = Profile.of({"past": (0, 8, 32), "seq": (1, 4, 16)})
    assert told(wide, relations=("past + seq <= 32", "past >= seq")) == {
        "min": "profile 0 past=1 seq=1 seed=0",
        "max": "profile 0 past=31 seq=1 seed=0",
        "seq_max": "profile 0 past=16 seq=16 seed=0",
    }


def test_collecting_needs_no_hypothesis() -> None:
    code = "import sys, harness.spec.corners; print(sorted({'hypothesis', 'numpy', 'onnx'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
