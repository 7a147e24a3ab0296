"""The graph that a model is written into: spox, with named weights from a seed.

A model comes out byte for byte the same on every machine. Weights are made from the raw output of
a bit generator, whose stream numpy keeps, by integer sums and one product; each tensor has a stream
of its own, seeded by its name, so that adding a layer changes no other.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import spox
import spox.opset.ai.onnx.v17 as op
from spox import Tensor, Var
from spox._attributes import AttrFloat32, AttrInt64
from spox._fields import BaseOutputs
from spox._graph import initializer
from spox._var import _VarInfo

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

OPSET = 17  # what TensorRT 8.6 reads
IR_VERSION = 8  # the version that came with opset 17

# A sum of four uniform 16-bit integers is bell-shaped: mean 2 (2^16 - 1), variance (2^32 - 1) / 3.
LANES = 4
CENTRE = 2 * (2**16 - 1)
SPREAD = math.sqrt((2**32 - 1) / 3)


def stream(seed: str, count: int) -> NDArray[np.uint64]:
    """``count`` raw numbers of 64 bits, the same everywhere for one ``seed``."""
    bits = np.random.PCG64(int.from_bytes(hashlib.sha256(seed.encode()).digest(), "big"))
    raw: NDArray[np.uint64] = bits.random_raw(count)
    return raw


def noise(seed: str, shape: tuple[int, ...], level: tuple[int, ...] = ()) -> NDArray[np.float32]:
    """float32 of ``shape``, bell-shaped, mean 0 and variance 1, the same everywhere for one ``seed``.

    Along the axes in ``level`` the numbers sum to zero, but for a step of 2**-15 each.
    """
    lanes = stream(seed, math.prod(shape)).view(np.uint16).reshape(-1, LANES)
    sums = lanes[:, 0].astype(np.int32)
    for lane in range(1, LANES):  # the order of bytes cancels out
        sums += lanes[:, lane]
    sums = sums.reshape(shape) - CENTRE
    if level:
        sums -= (
            sums.sum(axis=level, keepdims=True, dtype=np.int64) // math.prod(shape[axis] for axis in level)
        ).astype(np.int32)
    values: NDArray[np.float32] = sums.astype(np.float32)
    values *= np.float32(1 / SPREAD)
    return values


class _BatchNormalization(op._BatchNormalization):
    """With the one output of inference: onnx refuses the three that spox gives it."""

    @dataclass
    class Outputs(BaseOutputs):
        Y: _VarInfo


class Graph:
    """One model in the making: inputs, weights and outputs by name, operators from ``op`` (opset 17).

    Weights become initializers, so that they can be refitted by name; `constant` becomes a Constant
    node.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._prefix = ""
        self._inputs: dict[str, Var] = {}
        self._outputs: dict[str, Var] = {}
        self._shapes: dict[str, tuple[int | str, ...]] = {}
        self._weights: set[str] = set()
        self._passed: list[str] = []

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Weights named inside get ``name.`` before their names."""
        outer = self._prefix
        self._prefix = f"{outer}{name}."
        try:
            yield
        finally:
            self._prefix = outer

    def input(self, name: str, shape: tuple[int | str, ...], dtype: str = "float32") -> Var:
        """An input; a dimension is a number, a symbol, or a sum such as ``past+seq``."""
        self._inputs[name] = spox.argument(Tensor(np.dtype(dtype), shape))
        return self._inputs[name]

    def output(self, name: str, value: Var, shape: tuple[int | str, ...] | None = None) -> None:
        """An output, with ``shape`` where inference does not find the symbols."""
        self._outputs[name] = value
        if shape is not None:
            self._shapes[name] = shape

    def pass_through(self, name: str) -> None:
        """Lists the input called ``name`` among the outputs, with no operator between."""
        self._passed.append(name)

    def weight(
        self, name: str, shape: tuple[int, ...], std: float, mean: float = 0.0, level: tuple[int, ...] = ()
    ) -> Var:
        """A float32 initializer drawn from the model's seed, bell-shaped around ``mean``.

        Along the axes in ``level`` it sums to zero, so that what all inputs have in common, such as
        the mean that a ReLU leaves, does not come through: it would soon drown what differs.
        """
        values = noise(f"{self.name}/{self._prefix}{name}", shape, level) * np.float32(std)
        return self.initializer(name, values + np.float32(mean) if mean else values)

    def integers(self, name: str, shape: tuple[int, ...], low: int, high: int) -> Var:
        """An int8 initializer drawn from the model's seed, spread evenly from ``low`` to ``high``, both inclusive."""
        raw = stream(f"{self.name}/{self._prefix}{name}", math.prod(shape)) % (high - low + 1)
        return self.initializer(name, (raw.astype(np.int64) + low).astype(np.int8).reshape(shape))

    def initializer(self, name: str, values: Any, dtype: str | None = None) -> Var:
        """An initializer called ``name`` (after the scope's names) that holds ``values``."""
        name = self._prefix + name
        if name in self._weights:
            raise ValueError(f"{self.name}: two weights are called {name!r}; put one into a scope of its own")
        self._weights.add(name)
        made = initializer(np.asarray(values, dtype))
        made._rename(name)
        # A Var without the value: spox would copy it into every inference of a shape.
        return Var(made._var_info)

    def constant(self, value: Any, dtype: str = "float32") -> Var:
        """A Constant node."""
        return op.const(np.array(value, np.dtype(dtype)))

    def ints(self, *values: int) -> Var:
        """An int64 vector, as shapes, axes, starts and ends are given."""
        return self.constant(values, "int64")

    def size(self, x: Var, axis: int) -> Var:
        """The size of ``x`` along ``axis``, an int64 vector of one element."""
        return op.gather(op.shape(x), self.ints(axis))

    def batch_normalization(self, x: Var, scale: Var, bias: Var, mean: Var, var: Var, epsilon: float = 1e-5) -> Var:
        """The operator as inference uses it; spox's own can't be built outside training."""
        node = _BatchNormalization(
            _BatchNormalization.Attributes(
                epsilon=AttrFloat32(epsilon, name="epsilon"),
                momentum=AttrFloat32(0.9, name="momentum"),
                training_mode=AttrInt64(0, name="training_mode"),
            ),
            _BatchNormalization.Inputs(*(each._var_info for each in (x, scale, bias, mean, var))),
        )
        node.get_output_vars()
        return Var(node.outputs.Y)

    def model(self) -> onnx.ModelProto:
        """The finished model."""
        made = spox.build(self._inputs, self._outputs)
        made.ir_version = IR_VERSION
        made.producer_name = "trt-harness"
        made.graph.name = self.name
        for opset in made.opset_import:
            opset.version = OPSET  # every operator is of `op`; spox states the lowest version that has them all
        _drop_unused_outputs(made.graph)
        for value in made.graph.output:
            if value.name in self._shapes:
                del value.type.tensor_type.shape.dim[:]
                for size in self._shapes[value.name]:
                    dim = value.type.tensor_type.shape.dim.add()
                    if isinstance(size, int):
                        dim.dim_value = size
                    else:
                        dim.dim_param = size
        made.graph.output.extend(value for value in made.graph.input if value.name in self._passed)
        return made


def _drop_unused_outputs(graph: onnx.GraphProto) -> None:
    """Unname the optional outputs that nothing reads; spox names them all, and a parser may refuse one."""
    import onnx

    used = {value.name for value in graph.output} | _names_read(graph)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _drop_unused_outputs(attribute.g)
        formal = onnx.defs.get_schema(node.op_type, OPSET).outputs
        for place, name in enumerate(node.output):
            option = formal[min(place, len(formal) - 1)].option
            if name not in used and option == onnx.defs.OpSchema.FormalParameterOption.Optional:
                node.output[place] = ""
        while node.output and not node.output[-1]:
            node.output.pop()


def _names_read(graph: onnx.GraphProto) -> set[str]:
    """Every name that a node of ``graph``, or of a graph inside it, reads or gives out."""
    names: set[str] = set()
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names |= _names_read(attribute.g) | {value.name for value in attribute.g.output}
    return names
