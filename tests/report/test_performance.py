"""What performance came to, on the terminal."""

from __future__ import annotations

from harness.measure.finding import Said
from harness.report.performance import LONGEST, SHOWN, performance_lines
from tests.report.measured import LATENCY, perf, record
from tests.report.test_night import cell, ruled, ruling

WIDE = 1000


def test_every_metric_is_told_with_what_was_said_the_worst_first() -> None:
    records = [
        ruled("mlp", ruling("mlp", Said.PASS, b=0.00101)),
        ruled("conv", ruling("conv", Said.INCONCLUSIVE, b=0.0011, words="suspected")),
        ruled("swap", ruling("swap", Said.NOTED, b=0.006, words="another model", held=False)),
        ruled("new", ruling("new", Said.NOTED, None, 0.002, words="no baseline", held=False)),
        ruled("nms", ruling("nms", Said.REGRESSION, b=0.0011, words="slower", excuse="quarantined by ann")),
        ruled("bert", ruling("bert", Said.REGRESSION, b=0.0015, words="slower by 50 %")),
        ruled("old", ruling("old", Said.NOT_COVERED, None, None, "environment", "it is gone", "", held=False)),  # type: ignore[arg-type]
    ]
    assert performance_lines(records, width=WIDE) == [
        "performance: 7 cells, 7 metrics: 2 REGRESSION, 1 INCONCLUSIVE, 2 NOTED, 1 PASS, 1 NOT COVERED",
        f"  {cell('bert')}: gpu, graph: 1.5 ms (baseline 1 ms, +50.00 %): REGRESSION: slower by 50 %",
        f"  {cell('nms')}: gpu, graph: 1.1 ms (baseline 1 ms, +10.00 %): REGRESSION (quarantined by ann): slower",
        f"  {cell('conv')}: gpu, graph: 1.1 ms (baseline 1 ms, +10.00 %): INCONCLUSIVE: suspected",
        f"  {cell('swap')}: gpu, graph: 6 ms (baseline 1 ms): NOTED: another model",
        f"  {cell('new')}: gpu, graph: 2 ms: NOTED: no baseline",
        f"  {cell('mlp')}: gpu, graph: 1.01 ms (baseline 1 ms, +1.00 %): PASS",
        f"  {cell('old')}: environment: NOT COVERED: it is gone",
        "",
    ]


def test_it_stays_short_and_says_how_much_it_leaves_out() -> None:
    records = [ruled(f"m{n:02}", ruling(f"m{n:02}", Said.PASS), node=f"a.py::{n}") for n in range(SHOWN + 3)]
    records.append(ruled("last", ruling("last", Said.REGRESSION, b=0.0011, words="x" * 2 * LONGEST)))
    heading, worst, *_, rest, _ = performance_lines(records, width=WIDE)
    assert heading == f"performance: {SHOWN + 4} cells, {SHOWN + 4} metrics: 1 REGRESSION, {SHOWN + 3} PASS"
    assert worst.endswith("x" * 9 + "...")
    assert len(worst) < LONGEST + 150
    assert rest == "  and 4 more: trt-harness report --markdown FILE has more"
    assert len(performance_lines(records, width=WIDE)) == SHOWN + 3


def test_colour_adds_nothing_but_colour() -> None:
    (_, line, _) = performance_lines([ruled("bert", ruling("bert", Said.REGRESSION, b=0.0015))], width=WIDE, color=True)
    assert "\x1b[1;31m" in line


def test_a_cell_without_a_ruling_has_its_values_still() -> None:
    _, *lines, _ = performance_lines([record("bert", facts={"perf": perf()})], width=WIDE)
    assert any(line.startswith(f"  {cell('bert')}: throughput: 81") for line in lines)


def test_nothing_measured_is_nothing_told() -> None:
    assert performance_lines([record("rnn", facts={}), record("lat", facts=LATENCY)]) == []
