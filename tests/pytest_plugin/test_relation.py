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


TIES = """
import numpy as np
import pytest

@pytest.mark.trt(models="detection", points="min", variants=("same", "order", "box", "alone"))
def test_ties(trt_session, trt_inputs, trt_relation, trt_variant):
    first = trt_session.run(trt_inputs)
    order = np.arange(len(first["kept"]))[::1 if trt_variant == "same" else -1]
    again = {**first, "kept": first["kept"][order], "kept_boxes": first["kept_boxes"][order]}
    if trt_variant == "box":
        again["kept"] = again["kept"].copy()
        again["kept"][0, 2] = (again["kept"][:, 2].max() + 1) % 128
    trt_relation.require_same_bits(again, first, "before", None if trt_variant == "alone" else trt_inputs)
"""


def test_equal_scores_may_change_their_order_on_one_plan(project: pytest.Pytester, records: Records) -> None:
    """With the inputs, by which the oracle can say what is equal; and only their order."""
    project.makepyfile(TIES)
    project.runpytest_inprocess("--trt-backend=onnxruntime", "--trt-in-process", "--trt-precision=fp32")
    found = {record.cell.variant: (record.verdict, record.stage) for record in records()}
    assert found == {
        "same": ("passed", "compare"),
        "order": ("passed", "compare"),
        "box": ("failed", "compare"),
        "alone": ("failed", "compare"),
    }
