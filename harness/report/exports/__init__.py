"""Measurements as other tools read them: one format a module, each a function of measurements that gives the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.exports import (
    bencher,
    csv_file,
    github_action,
    junit,
    openmetrics,
    parquet,
    pytest_benchmark,
)
from harness.report.measurement import Measurement


@dataclass(frozen=True)
class Format:
    """``write`` gives all of the file, which is called ``file`` where nobody says otherwise."""

    file: str
    write: Callable[[Sequence[Measurement]], bytes]


FORMATS: Mapping[str, Format] = {
    "pytest-benchmark": Format("pytest-benchmark.json", pytest_benchmark.export),
    "github-action-smaller": Format("github-action-smaller.json", github_action.smaller_is_better),
    "github-action-bigger": Format("github-action-bigger.json", github_action.bigger_is_better),
    "bencher": Format("bencher.json", bencher.export),
    "openmetrics": Format("openmetrics.txt", openmetrics.export),
    "junit": Format("junit.xml", junit.export),
    "csv": Format("measurements.csv", csv_file.export),
    "parquet": Format("measurements.parquet", parquet.export),
}


def write(measured: Sequence[Measurement], folder: Path) -> list[Path]:
    """``measured`` in every format, as files in ``folder``, which is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for one in FORMATS.values():
        files.append(folder / one.file)
        files[-1].write_bytes(one.write(measured))
    return files
