"""Known failures: read, checked, matched strictly."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from harness.ledger.expectations import Expectations, load
from harness.spec.cell import Cell

TODAY = datetime.date(2026, 6, 1)
H200 = {"backend": "tensorrt", "version": "8.6.1", "gpu": "NVIDIA H200"}
CELL = Cell("test_matches_oracle", "bert", "fp16", "", "opt", "tensorrt")
GOOD = """
stage = "compare"
message = "max abs"
cause = "LayerNorm overflows"
owner = "ada"
expires = 2026-12-31
"""


def read(folder: Path, *tables: str, backend: str = "tensorrt", models: tuple[str, ...] | None = None) -> Expectations:
    (folder / f"{backend}.toml").write_text("".join(f"[[failure]]\n{table}\n" for table in tables))
    return load(folder, models, TODAY)


def only(folder: Path, *tables: str, models: tuple[str, ...] | None = None) -> Expectations:
    found = read(folder, *tables, models=models)
    assert found.problems == ()
    return found


def test_a_folder_that_does_not_exist_expects_nothing(tmp_path: Path) -> None:
    assert load(tmp_path / "nowhere") == Expectations()


def test_an_entry_excuses_the_failure_it_describes(tmp_path: Path) -> None:
    found = only(tmp_path, f'model = "be*"\nprecision = "fp16"\n{GOOD}')
    entry = found.match(CELL, "compare", "y: max abs error 0.3", H200)
    assert entry is not None
    assert (entry.cause, entry.owner, entry.expires) == ("LayerNorm overflows", "ada", datetime.date(2026, 12, 31))
    assert entry.place == "tensorrt.toml, failure 1"


@pytest.mark.parametrize(
    ("cell", "stage", "message"),
    [
        (CELL, "run", "y: max abs error 0.3"),
        (CELL, "compare", "y: not finite"),
        (Cell("test_matches_oracle", "vit", "fp16", "", "opt", "tensorrt"), "compare", "max abs"),
        (Cell("test_matches_oracle", "bert", "fp16-weak", "", "opt", "tensorrt"), "compare", "max abs"),
        (Cell("test_matches_oracle", "bert", "fp16", "", "min", "tensorrt"), "compare", "max abs"),
        (Cell("test_special", "bert", "fp16", "", "opt", "tensorrt"), "compare", "max abs"),
        (Cell("test_matches_oracle", "bert", "fp16", "zeros", "opt", "tensorrt"), "compare", "max abs"),
        (Cell("test_matches_oracle", "bert", "fp16", "", "opt", "tensorrt_rtx"), "compare", "max abs"),
    ],
)
def test_it_excuses_nothing_else(tmp_path: Path, cell: Cell, stage: str, message: str) -> None:
    table = f'test = "test_matches*"\nmodel = "bert"\nprecision = "fp16"\nvariant = ""\npoint = "opt"\n{GOOD}'
    found = only(tmp_path, table)
    assert found.match(CELL, "compare", "max abs", H200) is not None
    assert found.match(cell, stage, message, H200) is None


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('version = "8.6.*"', True),
        ('version = "10.*"', False),
        ("gpu = true", True),
        ("gpu = false", False),
        ('version = "8.6.*"\ngpu = false', False),
    ],
)
def test_an_entry_may_be_for_a_version_and_for_a_gpu(tmp_path: Path, condition: str, holds: bool) -> None:
    found = only(tmp_path, f"{condition}\n{GOOD}")
    assert (found.match(CELL, "compare", "max abs", H200) is not None) is holds
    assert bool(found.covering(CELL, H200)) is holds


def test_the_first_entry_that_explains_a_failure_is_taken(tmp_path: Path) -> None:
    other = GOOD.replace("max abs", "not finite")
    found = only(tmp_path, other, GOOD, GOOD)
    entry = found.match(CELL, "compare", "max abs", H200)
    assert entry is not None
    assert entry.place == "tensorrt.toml, failure 2"
    assert [each.place[-1] for each in found.covering(CELL, H200)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("table", "kind", "text"),
    [
        (f'models = "bert"\n{GOOD}', "unknown key", "'models': known are test, model, precision"),
        (GOOD.replace('cause = "LayerNorm overflows"', ""), "missing", "no cause"),
        (GOOD.replace("LayerNorm overflows", " "), "missing", "an empty cause: say why it fails"),
        (GOOD.replace('owner = "ada"', ""), "missing", "no owner"),
        (GOOD.replace("expires = 2026-12-31", ""), "missing", "no expires"),
        (GOOD.replace("max abs", ""), "missing", "an empty message"),
        (GOOD.replace("2026-12-31", '"2026-12-31"'), "wrong type", "a date without quotes"),
        (GOOD.replace("2026-12-31", "2026-12-31T00:00:00"), "wrong type", "a date without quotes"),
        (f"gpu = 1\n{GOOD}", "wrong type", "gpu = 1 is not a bool"),
        (GOOD.replace("2026-12-31", "2026-05-31"), "expired", "it held until 2026-05-31"),
        (GOOD.replace('"compare"', '"judging"'), "unknown stage", "'judging': known are parse, build"),
        (GOOD.replace("max abs", "max (abs"), "bad message", "no regular expression"),
        (f'model = "brt*"\n{GOOD}', "unknown model", "no model of the catalog matches 'brt*'"),
    ],
)
def test_what_is_wrong_with_an_entry_has_a_name_and_keeps_it_from_counting(
    tmp_path: Path, table: str, kind: str, text: str
) -> None:
    found = read(tmp_path, GOOD, table, models=("bert", "mlp"))
    assert [(problem.kind, problem.place) for problem in found.problems] == [(kind, "tensorrt.toml, failure 2")]
    assert text in str(found.problems[0])
    assert len(found.entries) == 1


def test_an_entry_holds_through_its_last_day(tmp_path: Path) -> None:
    assert len(only(tmp_path, GOOD.replace("2026-12-31", "2026-06-01")).entries) == 1


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("tensorrt.toml", "[[failure]\n", "unreadable"),
        ("tensorrt.toml", "\xff", "unreadable"),
        ("tensorrt.toml", "failure = 1\n", "unreadable"),
        ("tensorrt.toml", "[failure]\nstage = 'run'\n", "unreadable"),
        ("tensorrt.toml", "[[failures]]\n", "unreadable"),
        ("tensorflow.toml", "", "unknown backend"),
    ],
)
def test_a_bad_file_is_a_problem_and_the_others_count(tmp_path: Path, name: str, text: str, kind: str) -> None:
    read(tmp_path, GOOD, backend="onnxruntime")
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    found = load(tmp_path, today=TODAY)
    assert [(problem.kind, problem.place) for problem in found.problems] == [(kind, name)]
    assert len(found.entries) == 1


CELLS = [
    Cell("test_matches_oracle", model, precision, "", point, "tensorrt")
    for model in ("bert", "mlp")
    for precision in ("fp32", "fp16")
    for point in ("min", "opt")
]


@pytest.mark.parametrize(
    ("globs", "narrowed", "unmatched"),
    [
        ('model = "bert"', (), False),
        ('model = "vit"', (), True),
        ('model = "vit"', ("model",), False),  # perhaps one that was not chosen
        ('test = "test_matchs_oracle"', ("model", "point"), True),
        ('point = "max"', ("point",), False),
        ('point = "max"', (), True),
        ('model = "vit"\npoint = "opt"', ("point",), True),
        ('version = "10.*"\nmodel = "vit"', (), False),  # not for this version
    ],
)
def test_an_entry_that_describes_no_cell_is_unmatched(
    tmp_path: Path, globs: str, narrowed: tuple[str, ...], unmatched: bool
) -> None:
    found = only(tmp_path, f"{globs}\n{GOOD}").unmatched(CELLS, {"tensorrt": H200}, narrowed)
    assert [(problem.kind, problem.place) for problem in found] == (
        [("unmatched", "tensorrt.toml, failure 1")] if unmatched else []
    )


def test_entries_of_a_backend_that_did_not_run_are_left_alone(tmp_path: Path) -> None:
    found = only(tmp_path, f'model = "vit"\n{GOOD}')
    assert found.unmatched(CELLS, {"onnxruntime": {"version": "1.32"}}) == ()
    assert found.unmatched([], {"tensorrt": H200}) == ()
