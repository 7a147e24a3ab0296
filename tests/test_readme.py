"""What the README shows of a user's own model works as it stands there: files, test and commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytestmark = pytest.mark.runs

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = {"pytest": ("pytest", "-p", "harness.pytest_plugin"), "trt-harness": ("harness.cli",)}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def detector() -> onnx.ModelProto:
    """A model that does what the example's name says, as far as the example looks: four numbers a row."""
    weights = np.linspace(-1, 1, 64, dtype=np.float32).reshape(16, 4)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "weights"], ["boxes"])],
        "detector",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The user's, with the files that the README shows."""
    for name in ("model", "detector"):
        onnx.save(detector(), tmp_path / f"{name}.onnx")
    (tmp_path / "detector.toml").write_text(*blocks("toml"))
    (tmp_path / "test_detector.py").write_text(*blocks("python"))
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [line for block in blocks("sh") for line in block.splitlines() if re.search(r"model\.onnx|detector", line)],
)
def test_commands_on_a_users_model(repository: Path, command: str) -> None:
    program, *arguments = shlex.split(command, comments=True)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "TRT_HARNESS_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", *PROGRAMS[program], *arguments],
        cwd=repository,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b[1-9]\d* passed, [1-9]\d* not covered|\bpassed +boxes\b", done.stdout), done.stdout


def test_tox_without_a_python_says_what_is_needed(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "tools" / "tox", "-e", "unit"],
        env={**os.environ, "PYTHON": str(tmp_path / "python")},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = f"trt-harness needs Python 3.11 or later; there is no {tmp_path / 'python'}: set PYTHON to one\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_the_commands_are_there() -> None:
    commands = " ".join(blocks("sh"))
    assert commands.startswith("tools/tox -e suites")
    for command in ("tools/tox -e unit,runs", "trt-harness check", "trt-harness doctor", "pytest --pyargs suites"):
        assert command in commands


@pytest.mark.parametrize("file", ["README.md", "docs/reference.md", "docs/store.md"])
def test_links_lead_somewhere(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, heading = target.partition("#")
        assert (ROOT / file).parent.joinpath(path).exists(), f"{file}: {target}"
        assert path or heading in headings, f"{file}: {target}"
