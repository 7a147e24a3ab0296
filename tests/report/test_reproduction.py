"""A failure's folder, and its script: run as a reader would, without this project."""

from __future__ import annotations

import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.judge.inputs import make_inputs
from harness.judge.oracle import Oracle
from harness.report.reproduction import Reproduction
from harness.runtime.backend.onnxruntime import reference_name, reference_runner
from harness.runtime.request import resolve
from harness.spec import BuildConfig, EngineSpec, Example, ModelSpec, OnnxFile, interface, recipe
from harness.spec.catalog import load
from tests.doubles.install import installed

ZOO = load()
EXAMPLE = Example.of({"batch": 3}, seed=4)
VERSIONS = ("8.6.1", "10.16.1", "11.4.0", "rtx_1.7.1")


def reproduction(model: ModelSpec, backend: str, example: Example = EXAMPLE, precision: str = "fp32") -> Reproduction:
    """Of a run whose outputs are right."""
    declared = interface(model.source.path())
    inputs = make_inputs(model, declared, example.binding, example.contents, example.seed)
    expected = Oracle(reference_runner(), reference_name()).reference(model, inputs).outputs
    return Reproduction(
        request=resolve(EngineSpec.of(model, recipe(precision))),
        backend=backend,
        example=example,
        message=f"{model.id}: values differ\n  and more",
        runs=[inputs],
        expected=expected,
        found=expected,
        tolerances=dict.fromkeys(expected, (0.02, 0.02)),  # of float16, with room
    )


def off(right: Reproduction) -> Reproduction:
    """The same, of an engine that was expected to give something else."""
    assert right.expected is not None
    return replace(right, expected={name: array + array.dtype.type(1) for name, array in right.expected.items()})


def shown(folder: Path) -> subprocess.CompletedProcess[str]:
    """The script, in a process that knows nothing of this project."""
    return subprocess.run(
        [sys.executable, "-I", "-W", "error", "show.py"], cwd=folder, text=True, capture_output=True, check=False
    )


def test_a_folder_holds_all_that_the_failure_needs(tmp_path: Path):
    folder = reproduction(ZOO["mlp"], "onnxruntime").write(tmp_path / "a" / "b")
    assert {path.name for path in folder.iterdir()} == {
        "model.onnx", "inputs.npz", "expected.npz", "found.npz", "example.json", "show.py",
    }  # fmt: skip
    script = (folder / "show.py").read_text()
    assert "harness" not in script
    assert '"""mlp at fp32 on onnxruntime, profile 0 batch=3 seed=4\n\nmlp: values differ\n' in script


def test_the_script_shows_what_differs_and_exits_with_1(tmp_path: Path):
    right = reproduction(ZOO["mlp"], "onnxruntime")
    done = shown(right.write(tmp_path / "right"))
    assert (done.returncode, done.stdout) == (0, "logits: 0 of 30 elements differ\n"), done.stderr
    done = shown(off(right).write(tmp_path / "wrong"))
    assert done.returncode == 1
    assert done.stdout.startswith("logits: 30 of 30 elements differ\n  [0, 0]: got ")
    assert len(done.stdout.splitlines()) == 6


def test_another_shape_is_shown(tmp_path: Path):
    right = reproduction(ZOO["mlp"], "onnxruntime")
    done = shown(replace(right, expected={"logits": np.zeros((2, 10), np.float32)}).write(tmp_path / "x"))
    assert (done.returncode, done.stdout) == (1, "logits: got [3, 10], expected [2, 10]\n")


def test_integers_are_compared_in_full(tmp_path: Path):
    right = reproduction(ZOO["integers"], "onnxruntime")
    assert shown(right.write(tmp_path / "right")).returncode == 0
    assert shown(off(replace(right, tolerances={})).write(tmp_path / "wrong")).returncode == 1


def test_what_came_before_is_run_before(tmp_path: Path):
    right = reproduction(ZOO["mlp"], "onnxruntime")
    other = {"x": np.zeros((1, *right.runs[0]["x"].shape[1:]), np.float32)}
    folder = replace(right, runs=[other, other, right.runs[0]]).write(tmp_path / "x")
    assert (folder / "before_2.npz").exists()
    assert "RUNS = ['before_1.npz', 'before_2.npz', 'inputs.npz']" in (folder / "show.py").read_text()
    assert shown(folder).returncode == 0


def test_where_nothing_is_expected_what_comes_out_is_printed(tmp_path: Path):
    right = reproduction(ZOO["mlp"], "onnxruntime")
    done = shown(replace(right, expected=None, found=None).write(tmp_path / "x"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("logits (3, 10) float32 [")


def test_external_data_come_along(tmp_path: Path):
    import onnx

    file = tmp_path / "big.onnx"
    onnx.save_model(
        onnx.load(ZOO["mlp"].source.path()), str(file), save_as_external_data=True, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip
    model = replace(ZOO["mlp"], name="big", source=OnnxFile(file))
    folder = reproduction(model, "onnxruntime").write(tmp_path / "x")
    assert (folder / "weights.bin").exists()
    assert shown(folder).returncode == 0


def test_a_folder_is_made_anew(tmp_path: Path):
    right = reproduction(ZOO["mlp"], "onnxruntime")
    replace(right, runs=[right.runs[0]] * 3).write(tmp_path / "x")
    assert not (right.write(tmp_path / "x") / "before_1.npz").exists()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("model", "example", "precision"),
    [
        ("mlp", EXAMPLE, "fp32"),
        ("mlp", EXAMPLE, "fp16"),
        ("llama", Example.of({"batch": 9, "seq": 2}, profile=1), "fp32"),
        ("expand_values", Example.of({"batch": 2}, {"copies": (4,)}), "fp32"),
        ("nonzero", Example.of({"rows": 3}), "fp32"),
        ("passthrough", Example.of({"batch": 2}), "fp32"),
    ],
)
def test_the_script_for_tensorrt_is_right_of_every_version(
    tmp_path: Path, version: str, model: str, example: Example, precision: str
):
    """On doubles that refuse every call which that version does not have, or not so."""
    with installed(version) as stage:
        right = reproduction(ZOO[model], stage.backend, example, precision)
        folder = right.write(tmp_path / "x")
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(folder / "show.py"), run_name="__main__")
        assert not exit.value.code
        assert not stage.refusals
        if model != "nonzero":  # its places are exact, and so is one more
            folder = off(right).write(tmp_path / "wrong")
            with pytest.raises(SystemExit) as exit:
                runpy.run_path(str(folder / "show.py"), run_name="__main__")
            assert exit.value.code


def test_a_quantized_model_may_be_built_with_int8(tmp_path: Path):
    folder = reproduction(ZOO["qdq_stored"], "tensorrt", Example.of({"batch": 2})).write(tmp_path / "x")
    assert "STRONG, FLAGS = False, ['INT8']" in (folder / "show.py").read_text()


def test_build_options_are_told_to_the_builder(tmp_path: Path):
    config = BuildConfig(
        workspace=1 << 20, optimization_level=2, flags=("REFIT",), tactic_sources=("CUBLAS",), aux_streams=1,
        hardware_compatibility="AMPERE_PLUS",
    )  # fmt: skip
    with installed("8.6.1") as stage:
        right = reproduction(ZOO["mlp"], stage.backend)
        folder = replace(right, request=replace(right.request, config=config)).write(tmp_path / "x")
        script = (folder / "show.py").read_text()
        for line in (
            "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1048576)",
            "config.builder_optimization_level = 2",
            "config.max_aux_streams = 1",
            "config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS",
            "config.set_tactic_sources(1 << int(trt.TacticSource.CUBLAS))",
            "config.set_flag(trt.BuilderFlag.REFIT)",
        ):
            assert f"    {line}\n" in script
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(folder / "show.py"), run_name="__main__")
        assert not exit.value.code
        assert not stage.refusals
