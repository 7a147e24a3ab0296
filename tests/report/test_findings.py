"""Figures of what was measured, for people."""

from __future__ import annotations

import pytest

from harness.report.findings import figure


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1.2444e-4, "s", "124.4 us"),
        (3.0, "s", "3 s"),
        (5e-9, "s", "5 ns"),
        (0.0123, "J", "12.3 mJ"),
        (2.5, "J", "2.5 J"),
        (129704.0, "bytes", "129,704 bytes"),
        (8064.0, "runs/s", "8,064 runs/s"),
        (1.6789, "times", "1.68 times"),
        (None, "s", ""),
    ],
)
def test_a_figure_has_its_unit(value: float | None, unit: str, shown: str) -> None:
    assert figure(value, unit) == shown
