"""What is shipped works as the checkout does: the wheel, installed, and a checkout that is not.

Both run in an environment of their own that sees this one's packages, except this project.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.runs

ROOT = Path(__file__).parents[1]
PACKAGES = ("harness", "models", "suites")
CELL = re.compile(r"(\w+\.py)::(\S+\[\S+\])$", re.MULTILINE)
FEW = ("--trt-model", "mlp", "--trt-backend", "onnxruntime", "-k", "oracle or builds or mine", "-p", "no:cacheprovider")


@dataclass(frozen=True)
class Environment:
    """A virtual environment, by its interpreter."""

    python: Path

    def run(self, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
        """``python`` with ``arguments`` in ``folder``, untouched by the run that this test is part of."""
        ours = ("PYTEST_", "PYTHON", "TRT_HARNESS_", "COV_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return subprocess.run(
            [self.python, *map(str, arguments)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def pytest(self, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "pytest", *arguments, folder=folder)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of this environment without this project, wherever it is installed."""
    folder = tmp_path_factory.mktemp("packages")
    for source in dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib")):
        for entry in Path(source).iterdir():
            if "trt_harness" not in entry.name and entry.suffix != ".pth":
                (folder / entry.name).symlink_to(entry)
    return folder


def new_environment(folder: Path, packages: Path) -> Path:
    """The interpreter of an empty virtual environment in ``folder`` that sees ``packages``."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "shared.pth").write_text(f"{packages}\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def installed(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel, built from this checkout and installed with pip."""
    folder = tmp_path_factory.mktemp("installed")
    call([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist"], ROOT)
    python = new_environment(folder / "env", packages)
    (wheel,) = (folder / "dist").iterdir()
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--python", python]
    call([*pip, "install", "--no-deps", "--no-index", wheel], folder)
    return Environment(python)


@pytest.fixture(scope="module")
def bare(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """No distribution of this project anywhere."""
    return Environment(new_environment(tmp_path_factory.mktemp("bare") / "env", packages))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's own, with a ``models`` package and a ``conftest.py`` that have nothing to do with ours."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef mine():\n    import models\n    return models.MINE\n"
    )
    (tmp_path / "test_mine.py").write_text("import models\n\ndef test_mine(mine):\n    assert mine and models.MINE\n")
    return tmp_path


def call(command: Sequence[object], folder: Path) -> None:
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def cells(done: subprocess.CompletedProcess[str]) -> list[tuple[str, ...]]:
    assert done.returncode == 0, done.stdout + done.stderr
    return [match.groups() for match in CELL.finditer(done.stdout)]


def test_the_wheel_holds_every_file(installed: Environment) -> None:
    (site,) = installed.python.parents[1].glob("lib/python*/site-packages")

    def files(root: Path) -> set[Path]:
        found = (file for package in PACKAGES for file in (root / package).rglob("*.*"))
        return {file.relative_to(root) for file in found if file.is_file() and file.suffix != ".pyc"}

    assert Path("suites/expectations/onnxruntime.toml") in files(ROOT)
    assert files(site) == files(ROOT)


def test_the_wheel_has_the_cells_of_the_checkout(installed: Environment, bare: Environment, tmp_path: Path) -> None:
    listed = ("--collect-only", "-q", "-p", "no:cacheprovider")
    checkout = cells(bare.pytest("suites", *listed, folder=ROOT))
    assert len(checkout) > 10_000
    assert cells(installed.pytest("--pyargs", "suites", *listed, folder=tmp_path)) == checkout


def test_the_wheel_qualifies_models(installed: Environment, repository: Path) -> None:
    """In a repository that has a ``models`` of its own, on two workers."""
    done = installed.pytest("--pyargs", "suites", *FEW, "-n", "2", folder=repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* passed, [1-9]\d* not covered", done.stdout), done.stdout


def test_the_wheel_and_a_users_own_tests(installed: Environment, repository: Path) -> None:
    """In one run: what ``models`` means does not depend on who imports it first."""
    done = installed.pytest("--pyargs", "suites", "test_mine.py", "--import-mode=importlib", *FEW, folder=repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_mine.py ." in done.stdout


@pytest.mark.parametrize(
    "argument", ["suites", "suites.numerics.test_oracle::test_matches_oracle[mlp-fp32-opt-fake:nan]"]
)
def test_the_wheel_tells_how_to_repeat_a_failure(installed: Environment, repository: Path, argument: str) -> None:
    asked = ("--trt-model", "mlp", "--trt-backend", "fake:nan", "-k", "test_matches_oracle and fp32-opt")
    done = installed.pytest("--pyargs", argument, *asked, folder=repository)
    assert done.returncode == 1, done.stdout + done.stderr
    # pytest's summary says it again, in full where a variable CI is set.
    (command,) = set(re.findall(r"repeat +python (.*)", done.stdout))
    again = installed.run(*shlex.split(command), folder=repository)
    assert again.returncode == 1, again.stdout + again.stderr
    assert "1 failed" in again.stdout


def test_a_checkout_that_is_not_installed(bare: Environment, tmp_path: Path) -> None:
    """By ``pytest suites``, which has neither the current folder nor PYTHONPATH on its import path."""
    assert bare.run("-c", "import importlib.metadata as m; m.version('trt-harness')", folder=tmp_path).returncode != 0
    kept = ("--trt-output", tmp_path, "--trt-cache", tmp_path)
    done = bare.run("-P", "-m", "pytest", "suites", *FEW, *kept, "-n", "2", folder=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* passed, [1-9]\d* not covered", done.stdout), done.stdout
