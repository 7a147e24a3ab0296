"""A failure as a folder that shows it without this project.

::

    model.onnx              what the engine was built from, at the cell's precision, with its external data
    inputs.npz              of the run that failed; before_1.npz, ... of those before it on the same context
    expected.npz            what it should have given, as far as that can be said
    found.npz               what it gave, if it gave anything
    example.json            the sizes, by name, and the seed; model, backend, precision, and the message
    show.py                 runs all that with the plain runtime, and compares
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.report.shown import script
from harness.runtime.backend.protocol import Array, BuildRequest
from harness.spec.example import Example
from harness.spec.onnx_model import files_of

Arrays = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Reproduction:
    """What failed. ``runs`` are the inputs given to one context, in order; the last is the one that failed.

    ``tolerances`` has (atol, rtol) by output; an output without one must be what is expected.
    """

    request: BuildRequest
    backend: str
    example: Example
    message: str
    runs: Sequence[Arrays]
    expected: Arrays | None = None
    found: Arrays | None = None
    tolerances: Mapping[str, tuple[float, float]] | None = None

    def write(self, folder: Path) -> Path:
        """Write it into ``folder``, which is made anew."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        source = Path(self.request.model)
        for file in files_of(source):  # the model refers to the others by name
            shutil.copyfile(file, folder / ("model.onnx" if file == source else file.name))
        names = [*(f"before_{number}.npz" for number in range(1, len(self.runs))), "inputs.npz"]
        arrays = dict(zip(names, self.runs, strict=True)) | {"expected.npz": self.expected, "found.npz": self.found}
        for name, held in arrays.items():
            if held is not None:
                np.savez(folder / name, **held)  # type: ignore[arg-type]
        told = {
            "model": self.request.name,
            "precision": self.request.recipe.name,
            "backend": self.backend,
            "key": self.example.key,
            "example": json.loads(self.example.json()),
            "message": self.message,
        }
        (folder / "example.json").write_text(json.dumps(told, indent=1) + "\n")
        text = script(
            self.request,
            self.backend,
            self.example,
            self.message,
            names,
            self.tolerances or {},
            compared=self.expected is not None,
        )
        (folder / "show.py").write_text(text)
        return folder
