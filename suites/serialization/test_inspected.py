"""What an engine tells of its layers is whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import UnsupportedError
from harness.report.layers import DETAILED, Layers, read
from suites.numerics.which import explored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.pytest_plugin.types import Engines, Handle
    from harness.spec import EngineSpec, ModelSpec


def drawn(model: ModelSpec) -> bool:
    """One whose nodes are known."""
    return model.source.kind == "onnx" and explored(model)


NAMELESS = "(Unnamed Layer*"  # in the name of a layer that TensorRT's parser made for a node and did not register

# At fp32 the model is built as it is, so that its nodes are those of its file.
pytestmark = pytest.mark.trt(models=drawn, precisions="fp32", over=("model", "precision", "backend"))


@pytest.fixture
def engine(trt_engines: Engines, trt_spec: EngineSpec) -> Handle:
    """One for both tests, built to tell all."""
    return trt_engines(config=replace(trt_spec.config, profiling_verbosity=DETAILED))


def test_layers(engine: Handle, trt_record: dict[str, Any]) -> None:
    """As many layers as the engine says that it has, and of each its name, its kind, and its tensors by name."""
    told = engine.inspect()
    found = read(told)
    trt_record.update(layers=len(found.layers), fused=len(found.fused), reformats=len(found.reformats))
    assert found.layers, f"the inspector tells of no layer: its keys are {sorted(told)}"
    assert found.detailed, f"built with profiling_verbosity={DETAILED}, and no more than names is told"
    count = engine.info.facts.get("layers")
    assert count in (None, len(found.layers)), (
        f"the inspector tells of {len(found.layers)} layers, the engine of {count}"
    )
    mute = [
        f"{number}: {told['Layers'][number]}"
        for number, layer in enumerate(found.layers)
        if not (layer.name and layer.kind and all(tensor.name for tensor in (*layer.inputs, *layer.outputs)))
    ]
    assert not mute, "layers without a name or a kind, or with nameless tensors:\n" + "\n".join(mute)
    bound = {tensor.name for tensor in found.tensors}
    assert {tensor.name for tensor in engine.info.tensors} <= bound, (
        f"inputs and outputs that are told: {sorted(bound)}"
    )


def test_origins(engine: Handle, trt_spec: EngineSpec, trt_record: dict[str, Any]) -> None:
    """Every node of the model that computes anything has a layer that came from it."""
    from harness.report.origins import unaccounted
    from harness.spec.onnx_model import load

    found = read(engine.inspect())
    missing = unaccounted(load(trt_spec.model.source.path()), found.layers)
    trt_record["nodes_without_layer"] = missing
    told_of(found, missing)
    assert not missing, f"nodes that no layer came from: {', '.join(missing)}"


def told_of(found: Layers, missing: Sequence[str]) -> None:
    """UnsupportedError where no origins are told, or not of a layer that what is ``missing`` may have become."""
    if not any(layer.traced for layer in found.layers):
        raise UnsupportedError("origins: no layer names any", f"{len(found.layers)} layers without metadata")
    silent = [layer.name for layer in found.layers if NAMELESS in layer.name or (layer.opaque and not layer.traced)]
    if missing and silent:
        raise UnsupportedError(f"origins of {', '.join(missing)}: some layers name none", ", ".join(silent))
