"""Whether an engine accounts for all that its model computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.report.layers import Layer
from harness.runtime.backend.onnx_layers import at_optimum, constants, name_of, opens

if TYPE_CHECKING:
    import onnx

# What only moves elements, or nothing at all: where a compiler puts the result in its place, no layer is left of it.
MOVING = frozenset(
    {
        *("Identity", "Dropout", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Tile"),
        *("Slice", "Split", "Concat", "Pad", "Gather", "DepthToSpace", "SpaceToDepth"),
    }
)
_WHOLE = ("Int", "UInt", "Bool")  # shapes, indices and masks: computed wherever they are used


def unaccounted(model: onnx.ModelProto, layers: Iterable[Layer]) -> list[str]:
    """The nodes of the main graph that no layer came from, though there must be one, by name.

    None need be left of what is constant, of what only moves elements, of whole numbers, of an operator with
    a body, and of one that computes what another one computes already.
    """
    named = {name for layer in layers for name in (layer.name, *layer.origins)}
    constant, known = constants(model.graph), at_optimum(model, {})
    same: dict[str, str] = {}  # tensor to the first that is computed alike
    first: dict[object, tuple[str, ...]] = {}  # by what is computed: the outputs of the first that does
    accounted: dict[tuple[str, ...], bool] = {}
    missing: dict[tuple[str, ...], str] = {}
    for node in model.graph.node:
        attributes = tuple(sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute))
        inputs = tuple(same.get(name, name) for name in node.input)
        outputs = first.setdefault((node.domain, node.op_type, inputs, attributes), tuple(node.output))
        same.update(zip(node.output, outputs, strict=False))
        kinds = [known.get(name, ("", None))[0] for name in node.output if name]
        accounted[outputs] = accounted.get(outputs, False) or (
            name_of(node) in named
            or node.op_type in MOVING
            or constant.issuperset(node.output)
            or all(kind.startswith(_WHOLE) for kind in kinds)
            or opens(node)
        )
        missing.setdefault(outputs, name_of(node))
    return [name for outputs, name in missing.items() if not accounted[outputs]]
