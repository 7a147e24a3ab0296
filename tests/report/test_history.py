from __future__ import annotations

import numpy as np
import pytest

from harness.measure.history import history
from harness.measure.metric import Metric
from harness.report.history import ABOVE, BAND, BASELINE, BELOW, CUT, LEAST_WIDTH, LEVEL, VALUE, history_lines
from tests.measure.nights import flat, nights

GPU = Metric("gpu")
TIME = np.arange(120)
LOGS = flat(3) + 0.03 * (TIME >= 30) + 0.02 * (TIME >= 60) - 0.03 * (TIME >= 90)
ALL = history(nights(LOGS, environment={60: {"driver": "580"}}), GPU)


def rows(lines: list[str]) -> list[str]:
    """The drawing without its labels."""
    return [line.partition("┤")[2] for line in lines if "┤" in line]


def test_all_of_it_is_told() -> None:
    lines = history_lines(ALL, "mlp fp16, gpu", unit="ms", baseline=1.01, verdict="PASS", width=200)
    assert lines[0] == "mlp fp16, gpu"
    drawn = rows(lines)
    assert len(drawn) == 12
    assert sum(row.count(VALUE) for row in drawn) == 120
    assert all(any(mark in row for row in drawn) for mark in (BAND, LEVEL, BASELINE, CUT))
    assert {row[60] for row in drawn} <= {CUT, VALUE}
    words = "\n".join(lines)
    assert f"{BASELINE} baseline 1.01 ms" in words
    first, shift, second = ALL.changes
    assert f"A: since night 2026-03-02 with driver not recorded -> 580: {shift.size(GPU)}" in lines
    assert f"1: {first.proposal(GPU)}" in lines
    assert f"2: {second.proposal(GPU)}" in lines
    assert "a change point is a proposal: a fresh comparison decides" in lines
    last = ALL.nights[-1]
    assert lines[-1].startswith(f"last night 2026-04-30 at c119: {last.value:.5g} ms ({last.low:.5g} to ")
    assert lines[-1].endswith(": PASS")


def test_marks_are_under_their_nights() -> None:
    lines = history_lines(ALL, "", width=200)
    axis = next(number for number, line in enumerate(lines) if "└" in line)
    origin = lines[axis].index("└") + 1
    assert [(lines[axis + 1].index("A") - origin), len(lines[axis + 1]) - origin] == [60, 61]
    assert [lines[axis + 2].index(name) - origin for name in "12"] == [30, 90]
    assert lines[axis + 3].split() == ["2026-01-01", "2026-04-30"]


def test_a_value_is_in_the_row_of_its_size() -> None:
    drawn = rows(history_lines(history(nights(np.linspace(0, 0.5, 12)), GPU), "", height=12))
    first, last = ([row[column : column + 1] == VALUE for row in drawn].index(True) for column in (0, 11))
    assert (first, last) == (10, 1)  # which leaves a row free on either side


@pytest.mark.parametrize("width", [1, 40, 60, 100])
@pytest.mark.parametrize("size", [1, 2, 50, 1000])
def test_it_keeps_to_its_width(width: int, size: int) -> None:
    lines = history_lines(history(nights(flat(1, size)), GPU), "cell", unit="ms", width=width)
    last = next(number for number, line in enumerate(lines) if line.startswith(VALUE))
    assert max(len(line) for line in lines[:last]) <= max(width, LEAST_WIDTH)
    assert any(VALUE in row for row in rows(lines))


def test_a_flaky_night_does_not_flatten_the_others() -> None:
    logs = flat(1)
    logs[50], logs[70] = 3.0, -3.0
    drawn = rows(history_lines(history(nights(logs), GPU), "", width=200))
    assert drawn[0][50] == ABOVE
    assert drawn[-1][70] == BELOW
    assert sum(VALUE in row for row in drawn) >= 8


def test_noise_of_a_thousandth_looks_flat() -> None:
    drawn = rows(history_lines(history(nights(0.1 * flat(1)), GPU), "", width=200))
    assert sum(VALUE in row for row in drawn) <= 4


def test_nothing_changed() -> None:
    lines = history_lines(history(nights(flat(1), environment={60: {"gpu": "b"}}), GPU), "")
    assert "A: since night 2026-03-02 with gpu not recorded -> b: no other level was shown" in lines
    assert "no change point inside an epoch" in lines
    assert lines[-1].endswith("not judged")


def test_no_night() -> None:
    assert history_lines(history([], GPU), "cell") == ["cell", "no night has been measured"]
