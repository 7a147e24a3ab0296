"""A project of its own for each test, in a pytest of its own."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

import pytest

import harness
from harness.ledger.records import Record, read_run
from tests.pytest_plugin.parts import ROOT

# pytester forgets what a run imports, and each would import the whole harness anew; numpy and scipy can't be twice.
BESIDE = ("models.authoring", "onnx.reference.ops._op_list", "scipy.special")
UNUSED = ("harness.cli.", "harness.ledger.migrations.")
for name in (*BESIDE, *(module.name for module in pkgutil.walk_packages(harness.__path__, "harness."))):
    if not name.startswith(UNUSED):
        importlib.import_module(name)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty repository whose user has installed the plugin."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini(
        """
        [pytest]
        addopts = -p harness.pytest_plugin --import-mode=importlib --strict-markers
            -p no:cacheprovider -p no:benchmark -p no:hypothesispytest
        filterwarnings =
            error
            ignore:Module already imported so cannot be rewritten:pytest.PytestAssertRewriteWarning
        """
    )
    return pytester


@pytest.fixture
def records(project: pytest.Pytester) -> Callable[[], list[Record]]:
    """The records of the last run."""

    def read() -> list[Record]:
        run = max((project.path / ".trt-harness" / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)
        found = read_run(run)
        assert not found.problems
        return list(found.records)

    return read
