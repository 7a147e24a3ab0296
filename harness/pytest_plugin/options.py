"""The plugin's options: the table in `harness.settings`, as pytest knows options."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from harness.errors import SpecError
from harness.settings import Setting, Settings

SETTINGS = pytest.StashKey[Settings]()


def add_options(parser: pytest.Parser) -> None:
    """Every row of the table as an option and as its twin in the configuration file."""
    group = parser.getgroup("trt", "TensorRT harness")
    for row in Settings.table():
        text = f"{row.help}{_default(row)} [ini: {row.key}; environment: {row.variable}]".replace("%", "%%")
        if row.flag:
            group.addoption(row.option, dest=row.key, action="store_const", const="true", default=None, help=text)
        else:
            action = "append" if row.many else "store"
            group.addoption(row.option, dest=row.key, action=action, default=None, metavar=row.metavar, help=text)
        kind = "linelist" if row.many else "bool" if row.flag else "string"
        parser.addini(row.key, row.help, type=kind, default=None)  # type: ignore[arg-type]


def settings_of(config: pytest.Config) -> Settings:
    """The settings of this run; pytest.UsageError for one that is not understood."""
    if SETTINGS not in config.stash:
        rows = Settings.table()
        try:
            config.stash[SETTINGS] = Settings.read(
                {row.name: config.getoption(row.key) for row in rows},
                {row.name: config.getini(row.key) for row in rows},
                folder=config.rootpath,
            )
        except SpecError as error:
            raise pytest.UsageError(str(error)) from None
    return config.stash[SETTINGS]


def given(config: pytest.Config, names: Collection[str]) -> list[str]:
    """The options among ``names`` that were given, as they would be typed again."""
    words = []
    for row in Settings.table():
        value = config.getoption(row.key)
        if row.name in names and value is not None:
            for text in value if isinstance(value, list) else [value]:
                words += [row.option] if row.flag else [row.option, str(text)]
    return words


def _default(row: Setting) -> str:
    if row.default is None or row.default == () or row.flag:
        return ""
    values = row.default if isinstance(row.default, tuple) else (row.default,)
    return f" (default: {','.join(map(str, values))})"
