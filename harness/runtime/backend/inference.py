"""Shapes of a model's outputs, by ONNX's own shape inference: for backends whose runtime infers none before a run."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.errors import RunError
from harness.runtime.backend.protocol import Array, Shape

if TYPE_CHECKING:
    import onnx

_SMALL = 1024  # elements of a constant that may decide a shape; larger ones are weights
_KEPT = 256  # inferences that are remembered


class ShapeInference:
    """The outputs' shapes for given inputs. Weights' values are dropped: they decide no shape."""

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnx
        from onnx import helper

        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        graph = self._model.graph
        small: list[onnx.TensorProto] = []
        weights: list[onnx.TensorProto] = []
        for tensor in graph.initializer:
            elements = 1
            for size in tensor.dims:
                elements *= size
            (small if elements <= _SMALL and not tensor.external_data else weights).append(tensor)
        known = {tensor.name for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in known]
        weights_as_inputs = [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in weights]
        self._declared = {value.name: _sizes(value) for value in graph.output}
        for field, kept in (("initializer", small), ("input", [*inputs, *weights_as_inputs]), ("value_info", [])):
            copies = [type(item).FromString(item.SerializeToString()) for item in kept]
            graph.ClearField(field)
            getattr(graph, field).extend(copies)
        given = {value.name for value in inputs}
        for value in graph.output:  # what is declared may claim what is not so
            if value.name not in given:
                value.type.tensor_type.ClearField("shape")
        self._inferred = functools.lru_cache(_KEPT)(self._infer)

    def __call__(self, shapes: Mapping[str, Shape], contents: Mapping[str, Array]) -> dict[str, Shape]:
        """Shapes by output, for the inputs' ``shapes`` and what the shape tensors hold; -1 where it can't tell.

        RunError, with onnx's words, where it sees that they contradict the model; it does not see all that a run
        refuses, as a Reshape to another number of elements.
        """
        held = tuple((name, array.tobytes(), array.dtype.str, array.shape) for name, array in sorted(contents.items()))
        return dict(self._inferred(tuple(sorted(shapes.items())), held))

    def _infer(
        self, shapes: tuple[tuple[str, Shape], ...], contents: tuple[tuple[str, bytes, str, Shape], ...]
    ) -> dict[str, Shape]:
        import numpy as np
        import onnx
        from onnx import numpy_helper

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        sizes = dict(shapes)
        for value in (*model.graph.input, *model.graph.output):  # an input may be an output
            for dim, size in zip(value.type.tensor_type.shape.dim, sizes.get(value.name, ()), strict=False):
                dim.dim_value = size
        for name, data, kind, shape in contents:
            model.graph.initializer.append(numpy_helper.from_array(np.frombuffer(data, kind).reshape(shape), name))
        try:
            done = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            raise RunError(f"shapes can't be inferred: {error}") from None
        return {value.name: _merged(_sizes(value), self._declared[value.name]) for value in done.graph.output}


def _sizes(value: onnx.ValueInfoProto) -> Shape | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)


def _merged(inferred: Shape | None, declared: Shape | None) -> Shape:
    if inferred is None:
        return declared or ()
    if declared is None or len(declared) != len(inferred):
        return inferred
    return tuple(own if size < 0 else size for size, own in zip(inferred, declared, strict=True))
