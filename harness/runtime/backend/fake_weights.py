"""The weights of the fake backend's engines: what can be replaced, under which names, and what hangs together.

As TensorRT's parsers do it, a batch normalization becomes one scale and one shift, under names of the
parser's own, and hangs together with the convolution before it: the engine has them in one piece.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import RefitError
from harness.runtime.backend.protocol import Array, LayerWeights, Refittable, Weights

if TYPE_CHECKING:
    import onnx

Place = tuple[str, str]  # layer and role
CONVOLUTIONS = ("Conv", "ConvTranspose")
ROLES = {**dict.fromkeys(CONVOLUTIONS, ("KERNEL", "BIAS")), "BatchNormalization": ("SCALE", "SHIFT")}
FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))


def parsed(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with every batch normalization of constants as one scale and one shift, in float32.

    They take the places of its scale and bias, with mean 0, variance 1 and no epsilon.
    """
    from onnx import ModelProto, helper, numpy_helper

    changed = ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in model.graph.node:
        if node.op_type != "BatchNormalization" or not all(name in held for name in node.input[1:]):
            nodes.append(node)
            continue
        epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
        scale, bias, mean, variance = (np.asarray(held[name], np.float32) for name in node.input[1:])
        factor = scale / np.sqrt(variance + np.float32(epsilon))
        names = [_temporary(count), _temporary(count + 1)]
        for name, array in zip(names, (factor, bias - mean * factor), strict=True):
            graph.initializer.append(numpy_helper.from_array(array, name))
        rest = [f"{node.name} mean", f"{node.name} variance"]
        for name, array, old in zip(rest, (np.zeros_like(mean), np.ones_like(mean)), node.input[3:], strict=True):
            graph.initializer.append(numpy_helper.from_array(array.astype(held[old].dtype), name))
        used = []
        for name, old in zip(names, node.input[1:3], strict=True):
            kind = helper.np_dtype_to_tensor_dtype(held[old].dtype)
            nodes.append(helper.make_node("Cast", [name], [f"{name} as it is used"], to=kind))
            used.append(f"{name} as it is used")
        inputs = [node.input[0], *used, *rest]
        nodes.append(helper.make_node(node.op_type, inputs, list(node.output), node.name, epsilon=0.0))
        count += 2
    if count:
        del graph.node[:]
        graph.node.extend(nodes)
    return changed


def _temporary(number: int) -> str:
    return "tmp_weight" if number == 0 else f"tmp_weight_{number - 1}"


class FakeWeights:
    """Those of one model, as `parsed` left it. ``marked`` are the only ones that can be replaced, unless empty."""

    def __init__(self, model: onnx.ModelProto, marked: Collection[str] = ()) -> None:
        from onnx import helper

        self.kinds: dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]] = {}
        used = {name for node in _nodes(model.graph) for name in node.input} | {v.name for v in model.graph.output}
        constants = {f"{node.name} {part}" for node in model.graph.node for part in ("mean", "variance")}
        for tensor in model.graph.initializer:
            kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
            free = tensor.name in used and tensor.name not in constants
            if kind in FLOATS and free and (not marked or tensor.name in marked):
                self.kinds[tensor.name] = tuple(tensor.dims), kind
        self.places = {place: name for place, name in _places(model) if name in self.kinds}
        placed = set(self.places.values())
        self.places |= {(name, "CONSTANT"): name for name in self.kinds if name not in placed}
        self._groups = [group & self.kinds.keys() for group in _groups(model)]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.kinds)

    def asked(self, given: Weights, layers: LayerWeights) -> dict[str, Array]:
        """By name what is given in either way. RefitError for what is unknown or does not fit, and says which."""
        asked = dict(given)
        unknown = tuple(name for name in given if name not in self.kinds)
        if unknown:
            known = ", ".join(self.kinds) or "none"
            raise RefitError(
                f"there are no weights {unknown[0]!r}: the engine has {known}", detail={"unknown": unknown}
            )
        for layer, roles in layers.items():
            for role, array in roles.items():
                if (layer, role) not in self.places:
                    known = ", ".join(f"{part} of {name!r}" for name, part in self.places) or "none"
                    raise RefitError(f"layer {layer!r} has no weights in the role {role!r}: there are {known}")
                asked[self.places[layer, role]] = array
        for name, array in asked.items():
            shape, kind = self.kinds[name]
            if (array.shape, array.dtype) != (shape, kind):
                where = "".join(f" ({role} of layer {layer!r})" for layer, role in self._where(name, layers))
                raise RefitError(
                    f"weights {name!r}{where} are {array.dtype}{array.shape}, the engine has {kind}{shape}"
                )
        return asked

    def missing(self, given: Collection[str]) -> tuple[str, ...]:
        """What has to be given together with ``given``."""
        needed = {name for group in self._groups if group & set(given) for name in group}
        return tuple(name for name in self.kinds if name in needed and name not in given)

    def lists(self, missing: Collection[str] = ()) -> Refittable:
        places = tuple(place for place, name in self.places.items() if name in missing)
        return Refittable(self.names, tuple(self.places), tuple(missing), places)

    def _where(self, name: str, layers: LayerWeights) -> Iterator[Place]:
        return (place for place, held in self.places.items() if held == name and place[1] in layers.get(place[0], ()))


def replaced(model: onnx.ModelProto, arrays: Mapping[str, Array]) -> None:
    """Put ``arrays`` into the initializers of their names."""
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All of them, in subgraphs too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _weights_of(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, list[str]]]:
    """Convolutions and normalizations, with the names of what they hold."""
    casts = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    for node in model.graph.node:
        if node.op_type in ROLES:
            yield node, [casts.get(name, name) for name in list(node.input)[1:3]]


def _places(model: onnx.ModelProto) -> Iterator[tuple[Place, str]]:
    for node, names in _weights_of(model):
        for role, name in zip(ROLES[node.op_type], names, strict=False):
            yield (node.name or f"node_of_{node.output[0]}", role), name


def _groups(model: onnx.ModelProto) -> Iterator[set[str]]:
    """A normalization's scale and shift, with the weights of the convolution before it."""
    held = {node.output[0]: (node.op_type, set(names)) for node, names in _weights_of(model)}
    for node, names in _weights_of(model):
        if node.op_type == "BatchNormalization":
            before, weights = held.get(node.input[0], ("", set()))
            yield {*names, *(weights if before in CONVOLUTIONS else ())}
