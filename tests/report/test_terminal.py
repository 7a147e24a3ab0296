"""The end of a run, to the letter."""

from __future__ import annotations

import re
from typing import Any

from harness.ledger.records import Record, Verdict
from harness.report.terminal import engines, summary_lines, tried
from harness.spec.cell import Cell

ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "tensorrt": {"version": "8.6.1", "gpu": "NVIDIA H200"},
    "tensorrt_rtx": {"version": "1.7.1", "gpu": ""},
}


def record(cell: str, verdict: Verdict, test: str = "test_matches_oracle", **fields: Any) -> Record:
    """A record of ``"model precision point backend"``."""
    model, precision, point, backend = cell.split()
    return Record(
        Cell(test, model, precision.strip("-"), "", point, backend),
        verdict,
        environment=ENVIRONMENTS.get(backend, {}) if verdict != "not_covered" else {},
        **fields,
    )


RECORDS = [
    record("mlp fp16 opt tensorrt", "passed"),
    *(record(f"mlp fp32 {point} tensorrt", "passed") for point in ("min", "opt", "max")),
    record("bert fp32 opt tensorrt", "passed"),
    record("bert fp16 opt tensorrt", "failed", stage="compare", message="\ny: max abs error 0.3\nworst at [0, 1]"),
    record("bert fp16 max tensorrt", "failed", stage="run", message="run: illegal address"),
    record("bert fp16 min tensorrt", "passed"),
    record("nms fp32 opt tensorrt", "failed", stage="parse", message="parse: node 7: no plugin creator for NMS"),
    record("gru fp32 opt tensorrt", "known_failure", stage="build", message="...", cause="Myelin, see TRT#123"),
    record("gru fp32 max tensorrt", "known_failure", stage="build", message="...", cause="Myelin, see TRT#123"),
    record("gru fp32 min tensorrt", "unexpected_pass", message="tensorrt.toml, failure 1 says that it fails"),
    record("gru fp16 min tensorrt", "error", message="KeyError: 'x'"),
    record("mlp fp32 opt tensorrt_rtx", "passed", test="test_builds"),
    *(
        record(f"mlp fp32 {point} tensorrt_rtx", "not_covered", message="tensorrt_rtx run: no GPU", fix="an RTX GPU")
        for point in ("min", "opt", "max")
    ),
    record("mlp -tf32 opt tensorrt_rtx", "not_covered", message="tensorrt_rtx tf32: absent"),
]

TEXT = """\
tensorrt 8.6.1 on NVIDIA H200
  model   fp32                         fp16
  bert    1 ok                         1 ok, 2 FAILED (run, compare)
  gru     1 UNEXPECTED PASS, 2 known   1 ERROR
  mlp     3 ok                         1 ok
  nms     1 FAILED (parse)             -
  known: known failure

tensorrt_rtx 1.7.1
  model   fp32          tf32
  mlp     1 ok, 3 n/c   1 n/c
  n/c: not covered

failed at parse: 1 cell
  test_matches_oracle[nms-fp32-opt-tensorrt]: parse: node 7: no plugin creator for NMS

failed at run: 1 cell
  test_matches_oracle[bert-fp16-max-tensorrt]: run: illegal address

failed at compare: 1 cell
  test_matches_oracle[bert-fp16-opt-tensorrt]: y: max abs error 0.3

unexpected pass: 1 cell
  test_matches_oracle[gru-fp32-min-tensorrt]: tensorrt.toml, failure 1 says that it fails

error: 1 cell
  test_matches_oracle[gru-fp16-min-tensorrt]: KeyError: 'x'

known failure: 2 cells
  2: Myelin, see TRT#123

not covered here: 4 cells
  3: tensorrt_rtx run: no GPU
      to cover: an RTX GPU
  1: tensorrt_rtx tf32: absent

18 cells: 7 passed, 3 failed, 1 unexpected pass, 1 error, 2 known failures, 4 not covered"""


def test_the_summary_is_this() -> None:
    assert "\n".join(summary_lines(RECORDS, width=100)) == TEXT


def test_the_order_of_the_records_does_not_matter() -> None:
    assert summary_lines(reversed(RECORDS), width=100) == summary_lines(RECORDS, width=100)


def test_colour_adds_nothing_but_colour() -> None:
    coloured = summary_lines(RECORDS, width=100, color=True)
    assert any("\x1b[1;31m" in line for line in coloured)
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in coloured]
    assert "\n".join(plain) == TEXT


def test_a_narrow_terminal_wraps_and_cuts_no_word() -> None:
    lines = summary_lines(RECORDS, width=50)
    assert max(map(len, lines)) <= 50
    words = {word for line in lines for word in line.split()}
    assert set(TEXT.split()) <= words


def test_a_name_is_never_cut() -> None:
    name = "test_matches_oracle[mlp-fp32-opt-tensorrt]:"
    assert f"  {name}" in summary_lines([record("mlp fp32 opt tensorrt", "failed")], width=20)


def test_nothing_run_is_nothing_told() -> None:
    assert summary_lines([]) == []


def test_a_backend_that_covers_nothing_takes_one_line() -> None:
    lines = summary_lines([record(f"{m} fp32 opt tensorrt", "not_covered", message="absent") for m in ("a", "b")])
    assert lines == [
        "tensorrt",
        "  2 cells, none covered here",
        "",
        "not covered here: 2 cells",
        "  2: absent",
        "",
        "2 cells: 2 not covered",
    ]


def test_the_best_backend_is_the_one_that_it_came_to() -> None:
    cell = Cell("test_parses", "mlp", "fp32", "", "", "best")
    lines = summary_lines([Record(cell, "passed", environment={"backend": "onnxruntime", "version": "1.32.0"})])
    assert lines[:3] == ["onnxruntime 1.32.0", "  model   fp32", "  mlp     1 ok"]


def test_cells_of_no_precision_and_no_reason_are_shown() -> None:
    bare = Record(Cell("test_parses", "light_vgg", "", "", "", "tensorrt"), "failed")
    assert summary_lines([bare]) == [
        "tensorrt",
        "  model       any precision",
        "  light_vgg   1 FAILED",
        "",
        "failed at no stage: 1 cell",
        "  test_parses[light_vgg-tensorrt]: no reason was recorded",
        "",
        "1 cell: 1 failed",
    ]


def test_models_of_a_family_that_fared_alike_share_a_row() -> None:
    alike = [record(f"onnx_{name} fp32 opt tensorrt", "passed") for name in ("abs", "exp", "log", "relu", "tanh")]
    other = record("onnx_tan fp32 opt tensorrt", "failed", stage="compare", message="off near its poles")
    text = "\n".join(summary_lines([*alike, other], width=100))
    assert "onnx_* (5 models)   1 ok" in text
    assert "onnx_tan            1 FAILED (compare)" in text
    assert "onnx_abs" in "\n".join(summary_lines(alike[:4], width=100))


def test_what_was_tried_inside_the_cells() -> None:
    looked = [
        record("mlp fp32 - tensorrt", "passed", facts={"examples": 25}),
        record("bert fp32 - tensorrt", "failed", facts={"examples": 7}),
        record("mlp fp16 - tensorrt", "passed", facts={"sequences": 20, "steps": {"open": 30, "run": 12}}),
    ]
    assert tried(looked) == [
        "examples inside the profiles: 32 tried, in 2 cells",
        "sequences of steps: 20 tried, of 42 steps together, in 1 cell",
    ]
    assert tried(RECORDS) == []


def test_what_was_built() -> None:
    looked = [
        record("mlp fp32 opt tensorrt", "passed", plan_key="a", facts={"builds": 1}),
        record("mlp fp32 max tensorrt", "passed", plan_key="a"),
        record("bert fp32 opt tensorrt", "failed", plan_key="b", facts={"rebuilds": 2}),
    ]
    assert engines(looked) == ["engines built in this run: 1, and 2 once more for tests that ask for it"]
    assert engines(looked[:2]) == ["engines built in this run: 1"]
    assert engines(RECORDS) == []


def test_what_is_cached_is_neither_passed_nor_failed() -> None:
    why = "built before; here nothing but its SHA-256 can be verified: no GPU"
    cached = [record(f"{model} fp32 - tensorrt_rtx", "cached", "test_builds", message=why) for model in ("mlp", "bert")]
    lines = summary_lines([*cached, record("mlp fp32 opt tensorrt", "passed")])
    assert "  bert    1 cached" in lines
    assert lines[-4:] == ["cached: 2 cells", f"  2: {why}", "", "3 cells: 1 passed, 2 cached"]
