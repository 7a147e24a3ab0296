"""What several tests of the judge need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.judge.oracle import Oracle
from harness.runtime.backend.onnxruntime import reference_name, reference_runner
from harness.spec.source import EXPORT_VARIABLE, export_folder


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An export folder of the test's own."""
    monkeypatch.setenv(EXPORT_VARIABLE, str(tmp_path / "exports"))
    export_folder.cache_clear()
    yield tmp_path / "exports"
    export_folder.cache_clear()


@pytest.fixture
def oracle() -> Oracle:
    return Oracle(reference_runner(), reference_name())
