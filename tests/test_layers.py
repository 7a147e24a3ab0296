"""The layers of the design, enforced: `pyproject.toml` states the contracts, import-linter checks them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINT = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        LINT, cwd=folder, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(folder)}
    )


def test_contracts_are_kept() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("harness/judge/bad.py", "import harness.ledger", "imports go down only"),
        ("harness/runtime/bad.py", "import models", "the harness knows no particular models or suites"),
        ("models/bad.py", "import harness.runtime", "models know specs, and nothing that runs them"),
        ("harness/measure/stats.py", "import harness.runtime.wire", "statistics know arrays"),
        ("harness/judge/bad.py", "import onnxruntime", "only runtime/backend imports a vendor's runtime"),
        ("harness/judge/bad.py", "def f():\n    import tensorrt", "only runtime/backend imports a vendor's runtime"),
        ("harness/judge/bad.py", "import cuda.bindings", "only runtime/device imports CUDA"),
        ("harness/runtime/bad.py", "import pytest", "only the plugin and the suites import pytest"),
        ("harness/judge/bad.py", "import sqlalchemy", "only the ledger imports databases"),
        ("harness/cli/bad.py", "import pyarrow.parquet", "only the ledger and reports import Parquet"),
        ("suites/bad.py", "import hypothesis", "only strategies import hypothesis"),
    ],
)
def test_a_broken_contract_is_found(tmp_path: Path, module: str, line: str, contract: str) -> None:
    for package in ("harness", "models", "suites"):
        copy_sources(ROOT / package, tmp_path / package)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / module).write_text(line + "\n")
    result = lint(tmp_path)
    assert result.returncode != 0
    assert re.search(rf"{re.escape(contract)}\s+BROKEN", result.stdout), result.stdout


def copy_sources(source: Path, target: Path) -> None:
    for file in source.rglob("*.py"):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())


def test_every_package_has_a_layer() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in settings if contract["id"] == "layers")
    named = {part.strip() for layer in layers for part in layer.split("|")}
    modules = (path for path in (ROOT / "harness").iterdir() if path.is_dir() or path.suffix == ".py")
    found = {f"harness.{path.stem}" for path in modules if path.name[0] not in "_."}
    assert found <= named
