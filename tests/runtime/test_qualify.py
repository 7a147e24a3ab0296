"""What a model is asked: generated inputs at every point, or what its owner gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.errors import SpecError
from harness.judge.oracle import Oracle
from harness.runtime.backend.onnxruntime import reference_name, reference_runner
from harness.runtime.backend.protocol import EngineInfo, IOTensor
from harness.runtime.qualify import interface_of, questions
from harness.spec import Interface, ModelSpec, OnnxFile, PlanFile, Profile, TensorSpec, interface
from harness.spec.profile import GIVEN, POINTS, places
from tests.spec.onnx_files import linear

TWO = (Profile.of({"batch": (1, 2, 4)}), Profile.of({"x:0": 8}))


@pytest.fixture
def oracle() -> Oracle:
    return Oracle(reference_runner(), reference_name())


def asked(model: ModelSpec, oracle: Oracle, *, seed: int = 0) -> list:  # type: ignore[type-arg]
    return list(questions(model, interface(model.source.path()), POINTS, seed, oracle))


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_every_point_of_every_profile(tmp_path: Path, oracle: Oracle) -> None:
    found = asked(ModelSpec("m", OnnxFile(linear(tmp_path / "m.onnx")), TWO), oracle)
    assert [(q.place, q.profile, q.binding["batch"]) for q in found] == [
        ("min", 0, 1), ("opt", 0, 2), ("max", 0, 4), ("opt_p1", 1, 8),
    ]  # fmt: skip
    assert oracle.runs == 0  # a reference costs nothing before it is asked for
    for question in found:
        assert question.inputs["x"].shape == (question.binding["batch"], 4)
        assert question.reference().outputs["y"].shape == (question.binding["batch"], 3)


def test_the_users_own_inputs(tmp_path: Path, oracle: Oracle) -> None:
    own = npz(tmp_path / "in.npz", x=np.full((8, 4), 2, np.float32))
    (question,) = asked(ModelSpec("m", OnnxFile(linear(tmp_path / "m.onnx")), TWO, data=own), oracle)
    assert (question.place, question.profile, question.binding) == (GIVEN, 1, {"batch": 8})
    assert question.inputs["x"].tolist() == np.full((8, 4), 2).tolist()
    assert "optimizations off" in question.reference().oracle


def test_golden_outputs(tmp_path: Path, oracle: Oracle) -> None:
    golden = (
        npz(tmp_path / "in.npz", x=np.ones((2, 4), np.float32)),
        npz(tmp_path / "out.npz", y=np.ones((2, 3), np.float32)),
    )
    (question,) = asked(ModelSpec("m", OnnxFile(linear(tmp_path / "m.onnx")), TWO, golden=golden), oracle)
    assert question.reference().outputs["y"].tolist() == np.ones((2, 3)).tolist()


def test_inputs_that_no_profile_admits(tmp_path: Path, oracle: Oracle) -> None:
    own = npz(tmp_path / "in.npz", x=np.ones((5, 4), np.float32))
    with pytest.raises(SpecError, match=r"m: the given inputs have batch 5, .* \(batch=1:2:4 \| batch=8:8:8\): widen"):
        asked(ModelSpec("m", OnnxFile(linear(tmp_path / "m.onnx")), TWO, data=own), oracle)


def test_a_plan_is_asked_what_its_owner_gave(tmp_path: Path, oracle: Oracle) -> None:
    golden = (
        npz(tmp_path / "in.npz", x=np.ones((2, 4), np.float32)),
        npz(tmp_path / "out.npz", y=np.ones((2, 3), np.float32)),
    )
    (tmp_path / "m.plan").touch()
    model = ModelSpec("m", PlanFile(tmp_path / "m.plan"), golden=golden)
    info = EngineInfo((IOTensor("x", "input", "float32", (-1, 4)), IOTensor("y", "output", "float32", (-1, 3))), 1)
    assert interface_of(info) == Interface(
        (TensorSpec("x", "float32", ("x:0", 4)),), (TensorSpec("y", "float32", ("y:0", 3)),)
    )
    (question,) = questions(model, interface_of(info), POINTS, 0, oracle)
    assert (question.profile, question.binding) == (0, {"x:0": 2})
    assert oracle.runs == 0


def test_places() -> None:
    assert list(places(TWO, ("min", "max"))) == [("min", 0, "min"), ("max", 0, "max"), ("opt_p1", 1, "opt")]
    assert list(places(TWO, ())) == []
