"""Known failures kept by what a run recorded."""

from __future__ import annotations

import datetime
import itertools
import re
from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.judge.comparison import Comparison
from harness.ledger.expectations import GATE, NO_ENTRY, load
from harness.ledger.records import Record, Verdict
from harness.ledger.upkeep import update
from harness.spec.cell import Cell

TODAY = datetime.date(2026, 6, 1)
UNTIL = datetime.date(2026, 12, 31)
H200 = {"version": "8.6.1", "gpu": "NVIDIA H200"}
MESSAGE = "y: max abs error 3.1e-01 above 0.01 (fp16)\n  worst at [0, 1]"


def cells(
    model: str, precisions: str = "fp32 fp16", points: str = "min opt max", tests: str = "test_a test_b"
) -> list[Cell]:
    every = itertools.product(tests.split(), precisions.split(), points.split())
    return [Cell(test, model, precision, "", point, "tensorrt") for test, precision, point in every]


def record(cell: Cell, verdict: Verdict = "passed", stage: str = "compare", message: str = MESSAGE) -> Record:
    fine = verdict in ("passed", "unexpected_pass")
    return Record(cell, verdict, stage="" if fine else stage, message="" if fine else message, environment=H200)


def run(folder: Path, records: list[Record]) -> list[str]:
    return [str(change) for change in update(folder, records, "ada", UNTIL)]


def text(folder: Path) -> str:
    return (folder / "tensorrt.toml").read_text()


def test_a_failure_becomes_an_entry_whose_cause_a_human_must_write(tmp_path: Path) -> None:
    bad = Cell("test_a", "bert", "fp16", "", "opt", "tensorrt")
    everything = cells("bert") + cells("mlp")
    changes = run(tmp_path, [record(cell, "failed" if cell == bad else "passed") for cell in everything])
    assert changes == [
        "tensorrt.toml: added: test test_a, model bert, precision fp16, point opt, compare: write its cause"
    ]
    found = load(tmp_path, today=TODAY)
    assert [problem.kind for problem in found.problems] == ["missing"]
    assert "an empty cause" in str(found.problems[0])

    (tmp_path / "tensorrt.toml").write_text(text(tmp_path).replace('cause = ""', 'cause = "overflow"'))
    found = load(tmp_path, today=TODAY)
    assert found.problems == ()
    (entry,) = found.entries
    assert (entry.owner, entry.expires, entry.version, entry.gpu) == ("ada", UNTIL, "8.6.*", True)
    matched = [cell for cell in everything if found.match(cell, "compare", MESSAGE, H200)]
    assert matched == [bad]
    other_numbers = MESSAGE.replace("3.1e-01", "2.9").replace("0.01", "1e-05")
    assert entry.explains("compare", other_numbers)
    assert not entry.explains("compare", MESSAGE.replace("fp16", "fp32"))


@pytest.mark.parametrize(
    ("fails", "expected"),
    [
        (lambda _: True, ["model bert"]),
        (lambda cell: cell.precision == "fp16", ["model bert, precision fp16"]),
        (lambda cell: cell.point == "max", ["model bert, point max"]),
        (lambda cell: cell.precision == "fp16" and cell.point != "opt", [
            "model bert, precision fp16, point max",
            "model bert, precision fp16, point min",
        ]),
        (lambda cell: cell.test == "test_a" and cell.precision == "fp32", ["test test_a, model bert, precision fp32"]),
    ],
)  # fmt: skip
def test_entries_are_as_wide_as_the_records_allow(tmp_path: Path, fails, expected: list[str]) -> None:
    everything = [record(cell, "failed" if fails(cell) else "passed") for cell in cells("bert")]
    everything += [record(cell) for cell in cells("mlp")]
    assert [change.split(": ")[2].removesuffix(", compare") for change in run(tmp_path, everything)] == expected


def test_what_was_tried_in_one_way_only_says_nothing_of_others(tmp_path: Path) -> None:
    assert run(tmp_path, [record(cell, "failed") for cell in cells("bert", precisions="fp16", tests="test_a")]) == [
        "tensorrt.toml: added: test test_a, model bert, precision fp16, compare: write its cause"
    ]


def test_a_comparison_that_fails_alike_in_every_cell_is_one_entry(tmp_path: Path) -> None:
    def message(cell: Cell) -> str:
        return Comparison(cell.model, cell.precision, "oracle", ()).message(cell, "pytest ...")

    everything = cells("bert")
    assert len({message(cell).splitlines()[0] for cell in everything}) > 1  # each names its cell
    changes = run(tmp_path, [record(cell, "failed", message=message(cell)) for cell in everything])
    assert changes == ["tensorrt.toml: added: model bert, compare: write its cause"]
    (tmp_path / "tensorrt.toml").write_text(text(tmp_path).replace('cause = ""', 'cause = "known"'))
    found = load(tmp_path, today=TODAY)
    assert all(found.match(cell, "compare", message(cell), H200) for cell in everything)


def test_two_ways_to_fail_are_two_entries(tmp_path: Path) -> None:
    low, opt, high = cells("bert", precisions="fp16", tests="test_a")
    changes = run(
        tmp_path,
        [record(low, "failed"), record(opt, "failed", "parse", "no such operator"), record(high, "failed")],
    )
    assert len(changes) == 3
    assert 'message = "no such operator"' in text(tmp_path)


def test_known_failures_and_what_was_not_covered_change_nothing(tmp_path: Path) -> None:
    records = [record(cell, "known_failure") for cell in cells("bert")]
    records += [record(cell, "not_covered") for cell in cells("mlp")]
    assert run(tmp_path, records) == []
    assert not (tmp_path / "tensorrt.toml").exists()


KEPT = """# Known failures of TensorRT. Ask Ada.

# about bert
[[failure]]
model = "bert"
stage = "compare"
message = 'max \\w+ error'   # a comment
cause = "overflow"
owner = "grace"
expires = 2026-08-01

# about vit
[[failure]]
model = "vit"
stage = "build"
message = "no tactic"
cause = "unknown"
owner = "grace"
expires = 2026-08-01
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tensorrt.toml").write_text(KEPT)
    return tmp_path


def test_an_entry_whose_cells_pass_goes_and_the_rest_stays_to_the_letter(folder: Path) -> None:
    changes = run(folder, [record(cell, "unexpected_pass") for cell in cells("bert")])
    assert changes == ["tensorrt.toml: removed: model bert, compare: 12 of 12 cells pass"]
    assert text(folder) == KEPT[: KEPT.index("# about bert")] + KEPT[KEPT.index("# about vit") :]


def test_an_entry_some_of_whose_cells_pass_is_narrowed(folder: Path) -> None:
    everything = [record(c, "known_failure" if c.precision == "fp16" else "unexpected_pass") for c in cells("bert")]
    assert run(folder, everything) == ["tensorrt.toml: narrowed: model bert, compare: 6 of 12 cells pass"]
    found = load(folder, today=TODAY)
    assert found.problems == ()
    narrowed, vit = found.entries
    assert (narrowed.model, narrowed.precision, narrowed.point) == ("bert", "fp16", "*")
    assert (narrowed.cause, narrowed.owner, narrowed.expires) == ("overflow", "grace", datetime.date(2026, 8, 1))
    assert narrowed.message == r"max \w+ error"
    assert vit.model == "vit"
    assert run(folder, everything) == []  # and that is all there is to say


def test_a_failure_that_an_entry_explains_adds_none_even_when_it_has_expired(folder: Path) -> None:
    (folder / "tensorrt.toml").write_text(KEPT.replace("2026-08-01", "2020-01-01"))
    assert run(folder, [record(cell, "failed") for cell in cells("bert")]) == []


def test_a_failure_in_another_way_is_added_behind_the_others(folder: Path) -> None:
    run(folder, [record(cell, "failed", "run", "illegal address") for cell in cells("bert")])
    assert text(folder).startswith(KEPT)
    assert [entry.stage for entry in load(folder, today=TODAY).entries] == ["compare", "build"]
    assert re.findall("^stage = .*", text(folder), re.MULTILINE)[2:] == ['stage = "run"']


def test_of_a_cell_s_records_the_last_counts(folder: Path) -> None:
    (cell,) = cells("bert", "fp16", "opt", "test_a")
    assert run(folder, [record(cell, "unexpected_pass"), record(cell, "known_failure")]) == []


def test_entries_that_cannot_be_understood_stay(folder: Path) -> None:
    (folder / "tensorrt.toml").write_text(KEPT.replace("stage", "stag", 1))
    run(folder, [record(cell, "unexpected_pass") for cell in cells("bert")])
    assert "stag =" in text(folder)


def test_a_failure_at_no_known_stage_is_named_and_left(tmp_path: Path) -> None:
    (change,) = run(tmp_path, [record(cell, "failed", stage="setup") for cell in cells("bert")])
    assert change == "tensorrt.toml: left: any cell, setup: 12 cells fail where no failure can be expected"
    assert not (tmp_path / "tensorrt.toml").exists()


def test_a_regression_gets_no_entry(tmp_path: Path) -> None:
    """Whatever its size: it would excuse all that the cell measures, however slow it becomes."""
    words = "bert on NVIDIA H200: gpu, graph: REGRESSION: slower by {} %"
    some = zip(cells("bert"), (3.1, 70), strict=False)
    changes = run(tmp_path, [record(cell, "failed", GATE, words.format(by)) for cell, by in some])
    assert changes == [f"tensorrt.toml: left: any cell, gate: 2 cells got worse: {NO_ENTRY}"]
    assert not (tmp_path / "tensorrt.toml").exists()


def test_an_entry_for_a_regression_is_refused(tmp_path: Path) -> None:
    text = '[[failure]]\nstage = "gate"\nmessage = "slower"\ncause = "c"\nowner = "ada"\nexpires = 2099-12-31\n'
    (tmp_path / "tensorrt.toml").write_text(text)
    found = load(tmp_path, today=TODAY)
    assert not found.entries
    assert [str(problem) for problem in found.problems] == [
        f"tensorrt.toml, failure 1: unknown stage: 'gate': {NO_ENTRY}"
    ]


@pytest.mark.parametrize(
    "message", ['it\'s \\ "quoted" [0.5] at C:\\x', "tabs\tand \x7f control", "ünïcode (½)", "'''", ""]
)
def test_any_message_survives_the_file(tmp_path: Path, message: str) -> None:
    (cell,) = cells("bert", "fp16", "opt", "test_a")
    run(tmp_path, [record(cell, "failed", message=message)])
    (tmp_path / "tensorrt.toml").write_text(text(tmp_path).replace('cause = ""', 'cause = "known"'))
    if message:
        assert load(tmp_path, today=TODAY).match(cell, "compare", message, H200) is not None
    else:
        assert ["an empty message" in str(p) for p in load(tmp_path, today=TODAY).problems] == [True]


def test_a_cell_that_asked_for_the_best_backend_counts_for_the_one_it_got(tmp_path: Path) -> None:
    cell = Cell("test_a", "bert", "fp16", "", "opt", "best")
    environment = {**H200, "backend": "tensorrt"}
    failed = Record(cell, "failed", stage="compare", message=MESSAGE, environment=environment)
    assert [str(change).split(":")[0] for change in update(tmp_path, [failed], "ada", UNTIL)] == ["tensorrt.toml"]


def test_addresses_and_paths_of_one_run_are_no_part_of_a_message(tmp_path: Path) -> None:
    (cell,) = cells("bert", "fp16", "opt", "test_a")
    run(tmp_path, [record(cell, "failed", message="at 0x7f3a: can't read /tmp/tmp_ab12/bert-fp16/model.onnx: and/or")])
    (tmp_path / "tensorrt.toml").write_text(text(tmp_path).replace('cause = ""', 'cause = "known"'))
    found = load(tmp_path, today=TODAY)
    other = "at 0x55b0: can't read /home/ada/bert-fp16/model.onnx: and/or"
    assert found.match(cell, "compare", other, H200) is not None
    assert found.match(cell, "compare", other.replace("and/or", "or"), H200) is None


@pytest.mark.parametrize(
    "content",
    ["[[failure]\n", "failure = [{stage = 'run'}]\n", '[[failure]]\nmessage = """\n[[failure]]\n"""\n'],
)
def test_a_file_that_cannot_be_kept_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "tensorrt.toml").write_text(content)
    with pytest.raises(SpecError, match=r"tensorrt\.toml: "):
        run(tmp_path, [record(cell, "failed") for cell in cells("bert")])
    assert text(tmp_path) == content


def test_what_is_cached_says_nothing_of_an_entry(tmp_path: Path) -> None:
    """It neither passed nor failed: the run that built it has said what there was to say."""
    run(tmp_path, [record(cell, "failed") for cell in cells("bert")])
    before = text(tmp_path)
    assert run(tmp_path, [record(cell, "cached") for cell in cells("bert")]) == []
    assert text(tmp_path) == before
