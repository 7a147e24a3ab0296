"""Other interpreters, for tests of what runs under them."""

from __future__ import annotations

import sys
from pathlib import Path


def interpreter(folder: Path, hidden: tuple[str, ...] = ()) -> Path:
    """This Python by another path, from which packages are ``hidden``, as if they were not installed."""
    folder.mkdir()
    for name in hidden:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError(\"No module named '{name}'\", name={name!r})\n")
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nexport PYTHONPATH={folder}\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return path
