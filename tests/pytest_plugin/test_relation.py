"""Relations between rows are judged where there are rows to relate, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.ledger.records import Record

pytest_plugins = ("pytester",)
Records = Callable[[], list[Record]]

ROWS = """
import pytest

@pytest.mark.trt(models="mlp", points=("min", "max"), variants=("duplicated", "permuted"))
def test_rows(trt_relation, trt_inputs, trt_variant):
    assert getattr(trt_relation, trt_variant)(trt_inputs)
"""


def test_one_row_alone_shows_nothing(project: pytest.Pytester, records: Records) -> None:
    project.makepyfile(ROWS)
    project.runpytest_inprocess("--trt-backend=fake", "--trt-in-process", "--trt-precision=fp32")
    found = {(record.cell.variant, record.cell.point): record for record in records()}
    assert {place: record.verdict for place, record in found.items()} == {
        ("duplicated", "min"): "not_covered",
        ("permuted", "min"): "not_covered",
        ("duplicated", "max"): "passed",
        ("permuted", "max"): "passed",
    }
    assert found["permuted", "min"].message == "the inputs hold one row: batch is 1 here"
