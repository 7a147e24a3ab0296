"""A project of its own for each test, in a pytest of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest

from harness.ledger.records import Record, read_run
from tests.pytest_plugin.parts import ROOT

# pytester forgets the modules that a run imports. These are slow to import, and numpy can't be twice.
for module in (
    "harness.judge.metamorphic",
    "harness.report.terminal",
    "harness.runtime.backend.fake",
    "harness.runtime.backend.onnxruntime",
    "harness.runtime.pool",
    "harness.runtime.qualify",
    "models.authoring",
    "onnx.reference.ops._op_list",
):
    importlib.import_module(module)


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
