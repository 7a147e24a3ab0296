"""`docs/reference.md` names everything that there is, and its tables are those of the code.

``python -m tests.test_reference`` writes the tables anew.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from harness.cli import exits
from harness.cli.bench import bench
from harness.cli.compare import compare
from harness.cli.soak import soak
from harness.ledger.expectations import _TYPES as FAILURE_KEYS
from harness.ledger.records import VERDICTS, Record
from harness.measure.finding import Said
from harness.pytest_plugin import fixtures
from harness.pytest_plugin.cells import Ask
from harness.settings import Setting, Settings
from harness.spec import RECIPES, BuildConfig
from harness.spec.catalog_file import read_file
from harness.spec.data import Kind

FILE = Path(__file__).parents[1] / "docs" / "reference.md"


def options() -> Iterator[str]:
    yield "| option | what it says | default |"
    yield "|---|---|---|"
    for row in Settings.table():
        option = row.option if row.flag else f"{row.option} {row.metavar}"
        help, _, said = row.help.partition(" (default: ")
        yield f"| `{option}` | {help} | {said.removesuffix(')') or default(row)} |".replace("<", "&lt;")


def default(row: Setting) -> str:
    if row.flag or row.default is None:
        return ""
    if row.metavar == "SIZE":
        return f"`{row.default >> 30} GiB`"
    values = row.default if isinstance(row.default, tuple) else (row.default,)
    return ", ".join(f"`{value:g}`" if isinstance(value, float) else f"`{value}`" for value in values)


def public_fixtures() -> Iterator[str]:
    yield "| fixture | what it gives |"
    yield "|---|---|"
    for name in sorted(dir(fixtures)):
        found = getattr(fixtures, name)
        if name.startswith("trt_"):
            paragraph = (inspect.getdoc(found.__wrapped__) or "").partition("\n\n")[0]
            yield f"| `{name}` | {' '.join(paragraph.split()).replace('``', '`')} |"


def own_options() -> list[str]:
    """What ``bench``, ``compare`` and ``soak`` have beside the settings that they share with others."""
    shared = {row.name for row in Settings.table()} | {"json", "profile"}
    names = {name for command in (compare, bench, soak) for name in inspect.signature(command).parameters} - shared
    return sorted(name.replace("_", "-") for name in names - {"a", "b", "target"})


TABLES = {"options": options, "fixtures": public_fixtures}


def with_tables(text: str) -> str:
    """``text`` with every table between its marks as the code says it now."""
    for name, table in TABLES.items():
        marks = (f"<!-- {name} -->\n", f"<!-- end of {name} -->")
        before, _, rest = text.partition(marks[0])
        _, _, after = rest.partition(marks[1])
        text = before + marks[0] + "\n".join(table()) + "\n" + marks[1] + after
    return text


@pytest.fixture(scope="module")
def text() -> str:
    return FILE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def code(text: str) -> set[str]:
    """Every word that the reference sets as code."""
    blocks = re.findall(r"```.*?```", text, re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return {word for piece in [*blocks, *spans] for word in re.findall(r"[\w-]+", piece)}


def test_the_tables_are_those_of_the_code(text: str) -> None:
    assert with_tables(text) == text, "write them anew with: python -m tests.test_reference"
    assert all(row.option in text for row in Settings.table())


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("keywords of the mark", [field.name for field in dataclasses.fields(Ask)]),
        ("precisions", RECIPES),
        ("fields of a record", [field.name for field in dataclasses.fields(Record)]),
        ("verdicts", VERDICTS),
        ("keys of a known failure", FAILURE_KEYS),
        ("build options", [field.name for field in dataclasses.fields(BuildConfig)]),
        ("kinds of inputs", get_args(Kind)),
        ("outcomes of a comparison", [said.value for said in Said]),
        ("options of bench, compare and soak", [f"--{name}" for name in own_options()]),
    ],
)
def test_every_name_is_there(code: set[str], what: str, names: list[str]) -> None:
    assert set(names) <= code, f"{what} that are missing: {sorted(set(names) - code)}"


def test_every_exit_code_is_there(text: str) -> None:
    table = re.search(r"## Exit codes\n(.*?)\n## ", text, re.DOTALL)
    assert table is not None
    for name in (name for name in vars(exits) if name.isupper()):
        assert re.search(rf"^\| {getattr(exits, name)} \|", table[1], re.MULTILINE), name
    for status in pytest.ExitCode.__members__.values():
        if status.name == "MAX_WARNINGS_ERROR":  # an option of pytest's alone
            continue
        assert re.search(rf"\| {status.value} \|$", table[1], re.MULTILINE), status


def test_the_model_files_key_by_key(text: str, tmp_path: Path) -> None:
    """The example is one that is read, and has every key that is known."""
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    example = next(block for block in blocks if "[[profiles]]" in block)
    for name in ("bert.onnx", "inputs.npz", "outputs.npz", "libmine.so"):
        (tmp_path / name).touch()
    (tmp_path / "bert.toml").write_text(example)
    assert read_file(tmp_path / "bert.toml").tags == ("nlp",)
    written = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", example, flags=re.MULTILINE))
    (tmp_path / "wrong.toml").write_text('model = "bert.onnx"\nnonsense = 1\n')
    with pytest.raises(ValueError, match="known keys: ") as error:
        read_file(tmp_path / "wrong.toml")
    assert set(str(error.value).partition("known keys: ")[2].split(", ")) == set(written)


def test_the_example_of_a_known_failure_is_whole(text: str) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (entry,) = tomllib.loads(next(block for block in blocks if "[[failure]]" in block))["failure"]
    assert set(entry) == set(FAILURE_KEYS)


if __name__ == "__main__":
    FILE.write_text(with_tables(FILE.read_text(encoding="utf-8")), encoding="utf-8")
