"""Models that nobody here wrote: the cases of the onnx package, judged against the outputs shipped beside them.

They are listed from the package's folder, without importing it; those that one side refuses by its
nature are left out, each with the reason.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.spec import ModelSpec, OnnxFile, Profile, Values, interface
from harness.spec.canonical import digest_files
from harness.spec.source import export_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.spec import TensorSpec

GROUPS = ("simple", "pytorch-converted", "pytorch-operator")

SEQUENCES = "TensorRT has no sequences"
STRINGS = "TensorRT has no strings"
TRAINING = "neither side has the operators of training"
DILATION = "TensorRT's pooling has no dilation"
BROADCASTING = "broadcasts as before opset 7, which neither side reads any more"
RETIRED = "onnxruntime has no kernel for the operator as it was before opset 7"

REFUSED: dict[str, str] = {
    "test_gradient_*": TRAINING,
    "test_sequence_*": SEQUENCES,
    "test_strnorm_*": STRINGS,
    "test_MaxPool?d_stride_padding_dilation": DILATION,
    "test_AvgPool*": RETIRED,
    "test_BatchNorm*": RETIRED,
    "test_GLU*": BROADCASTING,
    "test_Linear": BROADCASTING,
    "test_PReLU_*": BROADCASTING,
    "test_PoissonNLLLLoss_no_reduce": BROADCASTING,
    "test_Softsign": BROADCASTING,
    "test_operator_add*": BROADCASTING,
    "test_operator_basic": BROADCASTING,
    "test_operator_max": BROADCASTING,
    "test_operator_min": BROADCASTING,
    "test_operator_mm": BROADCASTING,
    "test_operator_non_float_params": BROADCASTING,
    "test_operator_params": BROADCASTING,
    "test_operator_pow": BROADCASTING,
    "test_operator_symbolic_override_nested": BROADCASTING,
}

# Inputs that are shapes: what the shipped input holds is the one value that its profile has.
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "test_expand_shape_model1": {"shape": (3, 1)},
    "test_expand_shape_model2": {"shape": (1, 3)},
    "test_expand_shape_model3": {"shape": (3, 1, 3)},
    "test_expand_shape_model4": {"shape": (3, 3, 1, 3)},
}

# Cases whose data is one number throughout: whatever moved or came twice, the same would come out.
# The oracle judges these, on inputs made up.
UNIFORM = (
    "test_expand_shape_model1",
    "test_expand_shape_model2",
    "test_expand_shape_model3",
    "test_expand_shape_model4",
    "test_operator_index",
    "test_operator_permute2",
    "test_operator_view",
)

WEAK: dict[str, str] = {"test_operator_sqrt": "1"}  # an output with NaN in it: roots of negative numbers


def data_folder() -> Path:
    """Where the onnx package keeps the models that it ships; found without importing it."""
    found = importlib.util.find_spec("onnx")
    places = list(found.submodule_search_locations or ()) if found else []
    return Path(places[0], "backend", "test", "data") if places else Path("onnx-is-not-installed")


def refusal(case: str) -> str | None:
    """Why a case is left out; None when it is in."""
    return next((reason for pattern, reason in REFUSED.items() if fnmatchcase(case, pattern)), None)


def cases() -> list[Path]:
    """The folder of every shipped case, in order, those left out too."""
    folders = [data_folder() / group for group in GROUPS]
    return [case for folder in folders if folder.is_dir() for case in sorted(folder.iterdir())]


@dataclass(frozen=True)
class DataSet:
    """Inputs and outputs that lie beside a model as ``input_0.pb`` and so on, in the order of its own."""

    name: str
    case: Path

    def __call__(self) -> tuple[Path, Path]:
        """Both as .npz under the model's names, made once in the export folder."""
        takes = interface(self.case / "model.onnx")
        return self._converted("input", takes.inputs), self._converted("output", takes.outputs)

    def _converted(self, what: str, tensors: Sequence[TensorSpec]) -> Path:
        import numpy as np
        import onnx

        files = [self.case / "test_data_set_0" / f"{what}_{place}.pb" for place in range(len(tensors))]
        path = export_folder() / f"{self.name}.{what}s-{digest_files(files)[:16]}.npz"
        if not path.exists():
            arrays = [onnx.numpy_helper.to_array(onnx.load_tensor(str(file))) for file in files]
            named: dict[str, Any] = dict(zip((tensor.name for tensor in tensors), arrays, strict=True))
            handle, work = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **named)
            Path(work).rename(path)  # whole or not at all, whoever else makes it
        return path


def shipped(case: Path) -> ModelSpec:
    name = "onnx_" + case.name.removeprefix("test_")
    values = {tensor: Values(held, held, held) for tensor, held in SHAPES.get(case.name, {}).items()}
    weak = (f"weak:{WEAK[case.name]}",) if case.name in WEAK else ()
    return ModelSpec(
        name=name,
        source=OnnxFile(case / "model.onnx"),
        profiles=(Profile.of(values=values),),
        family="shipped",
        tags=("shipped", *(("shape_tensor",) if values else ()), *weak),
        golden=None if case.name in UNIFORM else DataSet(name, case),
        origin=str(case),
    )


MODELS = tuple(shipped(case) for case in cases() if refusal(case.name) is None)
