"""Where the nodes of a graph that onnxruntime optimized come from.

onnxruntime names no origins, but what a fused node gives is the same tensor as what the last of the nodes that it
replaces gave. So the tensors of the optimized graph are traced to those of the model, and what a node was made from
is all that leads to its outputs without passing a tensor that another node gives. Most keep their names; what is kept
in the layout of the CPU's convolutions gets new ones, and is told by the nodes that take it and by those that give it.
"""

from __future__ import annotations

from collections import defaultdict

import onnx

from harness.runtime.backend.onnx_layers import at_optimum, constants, name_of
from harness.runtime.backend.protocol import Shape

REARRANGING = ("ReorderInput", "ReorderOutput")  # between a tensor's own layout and that of the CPU's convolutions
_CAST = "InsertedPrecisionFreeCast_"  # before the name of a float16 tensor that is kept as float32
_BLOCKED = "_nchwc"  # behind that of a tensor: the name of the node that gives it in the CPU's layout


class Ancestry:
    """``optimized`` as onnxruntime made it of ``model``; ``shapes`` are those of the model's inputs.

    ``known`` holds type and shape of every tensor of either, as far as anything tells them.
    """

    def __init__(self, model: onnx.ModelProto, optimized: onnx.GraphProto, shapes: dict[str, Shape]) -> None:
        self._nodes = list(model.graph.node)
        self._producer = {name: number for number, node in enumerate(self._nodes) for name in node.output if name}
        self._named = {node.name: node for node in self._nodes if node.name}
        self._constant = constants(model.graph)
        self._consumers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)  # in the optimized graph
        for node in optimized.node:
            for index, name in enumerate(node.input):
                self._consumers[name].append((node, index))
        self._traced: dict[str, str] = {}  # tensor of the optimized graph to that of the model
        self._given = {value.name for value in model.graph.input}  # tensors of the model that there still are
        self.known: dict[str, tuple[str, Shape | None]] = dict(at_optimum(model, shapes))
        for node in optimized.node:
            self._trace(node)

    def origins(self, node: onnx.NodeProto) -> list[str]:
        """Names of the model's nodes that ``node`` does the work of, in the model's order; not of constants."""
        if node.op_type in REARRANGING:
            return []
        found: set[int] = set()
        ends = [self._traced[name] for name in node.output if name in self._traced]
        while ends:
            number = self._producer.get(ends.pop())
            if number is None or number in found:
                continue
            found.add(number)
            wanted = (name for name in self._nodes[number].input if name and name not in self._given)
            ends += [name for name in wanted if name not in self._constant]
        return [name_of(self._nodes[number]) for number in sorted(found)]

    def _trace(self, node: onnx.NodeProto) -> None:
        """Find out what the outputs of ``node`` stand for."""
        for index, name in enumerate(node.output):
            source = self._source(node, index) if name else None
            if source is None:
                continue
            self._traced[name] = source
            self._given.add(source)
            if name != source:
                kind, shape = self.known.get(source, ("", None))
                # float16 is kept as float32 wherever it gets a name of its own: the CPU's kernels compute in that.
                self.known[name] = ("Float" if kind == "Half" else kind, shape)

    def _source(self, node: onnx.NodeProto, index: int) -> str | None:
        """The tensor of the model that output ``index`` of ``node`` is."""
        name: str = node.output[index]
        bare = name.removeprefix(_CAST)
        if bare in self._producer:
            return bare
        if node.op_type == "ReorderInput":
            return str(node.input[0])
        for consumer, place in self._consumers[name]:
            taken = self._taken(consumer, place)
            if taken is not None:
                return taken
        same = self._named.get(node.name)
        given = [_blocked(node)] if same is None else list(same.output)
        return given[index] if index < len(given) and given[index] in self._producer else None

    def _taken(self, node: onnx.NodeProto, place: int) -> str | None:
        """The tensor of the model that ``node`` takes at ``place``, where that can be told."""
        if node.op_type == "ReorderOutput":
            return str(node.output[0]) if node.output[0] in self._producer else None
        end = _blocked(node)
        if place > 0:
            return None
        while end in self._producer:  # from what a convolution gives, after all that is fused with it, back to itself
            origin = self._nodes[self._producer[end]]
            if not origin.input:
                return None
            end = str(origin.input[0])
            if origin.op_type == node.op_type:
                return end
        return None


def _blocked(node: onnx.NodeProto) -> str:
    """The tensor that a node in the CPU's layout is named after; "" for another node."""
    name: str = node.name
    return name.removesuffix(_BLOCKED).removeprefix(_CAST) if name.endswith(_BLOCKED) else ""
