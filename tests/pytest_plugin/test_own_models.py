"""A user's own models, as files: inputs of one's own, golden outputs, a plan."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.ledger.records import Record
from harness.runtime.backend.fake import FakeBackend
from harness.runtime.request import resolve
from harness.spec import RECIPES, EngineSpec, Profile
from harness.spec.catalog import load
from tests.pytest_plugin.parts import SUITE

pytest_plugins = ("pytester",)
Records = Callable[[], list[Record]]
TOML = """
{source}
data = "inputs.npz"
{golden}

[[profiles]]
dims = {{ {first} = 1 }}

[[profiles]]
dims = {{ {first} = "2:4:8" }}
"""


@pytest.fixture
def folder(project: pytest.Pytester) -> Path:
    """``mine.onnx``, ``mine.plan``, three rows of inputs, and the outputs that they give."""
    model = load()["mlp"]
    profiles = (Profile.of({"batch": 1}), Profile.of({"batch": (2, 4, 8)}))
    spec = EngineSpec(model, RECIPES["fp32"], profiles, model.config)
    shutil.copy(spec.model.source.path(), project.path / "mine.onnx")
    backend = FakeBackend()
    plan = backend.build(resolve(spec)).data
    plan.tofile(project.path / "mine.plan")
    engine = backend.load(plan)
    inputs = {"x": np.linspace(-1, 1, 3 * 64, dtype=np.float32).reshape(3, 64)}
    np.savez(project.path / "inputs.npz", **inputs)
    np.savez(project.path / "outputs.npz", **engine.session(1).run(inputs))
    return project.path


def run(project: pytest.Pytester, backend: str, test: str, *more: str) -> pytest.RunResult:
    place = (f"--rootdir={project.path}", "-c", "tox.ini", "--trt-in-process")
    asked = ("--trt-models=mine.toml", "--trt-model=mine", "--trt-precision=fp32", f"--trt-backend={backend}")
    return project.runpytest_inprocess(SUITE, *place, *asked, "-k", test, *more)


def write(folder: Path, source: str, first: str, golden: str = "") -> None:
    (folder / "mine.toml").write_text(TOML.format(source=source, first=first, golden=golden))


def test_inputs_of_ones_own_are_one_cell_on_the_profile_that_admits_them(
    project: pytest.Pytester, folder: Path, records: Records
):
    write(folder, 'model = "mine.onnx"', "batch")
    run(project, "fake", "test_matches_oracle").assert_outcomes(passed=1)
    (record,) = records()
    assert record.cell.id == "test_matches_oracle[mine-fp32-given-fake]"
    assert record.comparison is not None
    assert record.comparison["worst"]["got"] == "float32 [3, 10]"


@pytest.mark.parametrize(("backend", "verdict"), [("fake", "passed"), ("fake:imprecise", "failed")])
def test_golden_outputs_judge(project: pytest.Pytester, folder: Path, records: Records, backend: str, verdict: str):
    write(folder, 'model = "mine.onnx"', "batch", 'golden = { outputs = "outputs.npz" }')
    run(project, backend, "test_matches_golden_outputs")
    (record,) = records()
    assert (record.verdict, record.stage) == (verdict, "compare")
    assert record.comparison is not None
    assert "outputs.npz" in record.comparison["oracle"]


def test_a_plan_is_judged_by_its_golden_outputs_and_has_no_oracle(
    project: pytest.Pytester, folder: Path, records: Records
):
    write(folder, 'plan = "mine.plan"', '"x:0"', 'golden = { outputs = "outputs.npz" }')
    result = run(project, "fake", "test_matches", "--trt-trust=mine.plan")
    assert result.ret == 0
    found = {record.cell.test: (record.verdict, record.message) for record in records()}
    assert found["test_matches_golden_outputs"] == ("passed", "")
    verdict, message = found["test_matches_oracle"]
    assert verdict == "not_covered"
    assert "no ONNX that another runtime could run" in message
