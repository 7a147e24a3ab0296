"""A model file that can't be read: one failure among the cells, and the other models still run."""

from __future__ import annotations

import time

import pytest

from harness.errors import SpecError
from harness.ledger.records import Record
from harness.pytest_plugin.run import run_of
from harness.spec.catalog import Problem
from harness.spec.cell import Cell


class ModelFile(pytest.Item):
    """Stands for a file of ``--trt-models`` that gave no model."""

    def __init__(self, *, problem: Problem, **arguments: object) -> None:
        super().__init__(**arguments)  # type: ignore[arg-type]
        self.problem = problem

    def runtest(self) -> None:
        record = Record(
            cell=Cell("models", self.problem.file.name),
            node=self.nodeid,
            verdict="failed",
            stage="spec",
            message=self.problem.message,
            started=time.time(),
        )
        run_of(self.config).log.append(record)
        raise SpecError(self.problem.message)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:  # noqa: ARG002
        return str(excinfo.value)

    def reportinfo(self) -> tuple[str, int | None, str]:
        return str(self.problem.file), None, self.name
