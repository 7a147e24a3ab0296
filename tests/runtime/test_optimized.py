"""The nodes of an optimized graph are traced to those of the model, over the zoo and in the forms that are odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import pytest

import models
from harness.report.layers import Layer, read
from harness.report.origins import unaccounted
from harness.runtime.backend.onnx_layers import constants, name_of
from harness.runtime.backend.onnxruntime import OnnxRuntimeBackend
from harness.runtime.backend.optimized import Ancestry
from harness.runtime.request import resolve
from harness.spec import EngineSpec, recipe
from harness.spec.catalog import load
from tests.judge.graphs import body, graph, node, value, weight

CHOSEN = (
    "mlp",
    "resnet",
    "depthwise",
    "detection",
    "bert",
    "lstm",
    "qdq_conv",
    "if_flag",
    "activations",
    "onnx_Conv2d",
)


@pytest.fixture(scope="module")
def zoo() -> Any:
    return load()


@pytest.fixture
def backend() -> Iterator[OnnxRuntimeBackend]:
    made = OnnxRuntimeBackend()
    yield made
    made.close()


def inspected(backend: OnnxRuntimeBackend, spec: EngineSpec) -> tuple[tuple[Layer, ...], onnx.ModelProto]:
    asked = resolve(spec)
    engine = backend.load(backend.build(asked).data)
    return read(engine.inspect()).layers, onnx.load(asked.model, load_external_data=False)


@pytest.mark.parametrize("name", CHOSEN)
def test_every_node_is_accounted_for_once(zoo: Any, backend: OnnxRuntimeBackend, name: str) -> None:
    layers, model = inspected(backend, EngineSpec.of(zoo[name], recipe("fp32")))
    assert unaccounted(model, layers) == []
    known = {name_of(one) for one in model.graph.node}
    counted = Counter(origin for layer in layers for origin in layer.origins)
    assert counted.keys() <= known
    assert not [origin for origin, count in counted.items() if count > 1]


def test_convolutions_in_the_layout_of_the_cpu(zoo: Any, backend: OnnxRuntimeBackend) -> None:
    """The names of their tensors say nothing of the model's; a sum and what follows it are fused, too."""
    layers, _ = inspected(backend, EngineSpec.of(zoo["resnet"], recipe("fp32")))
    fused = [layer for layer in layers if layer.fused and layer.kind == "Conv"]
    assert len(fused) == 20
    assert ("Conv_3", "BatchNormalization_3", "Add_0", "Relu_3") in [layer.origins for layer in fused]
    assert all(None not in (tensor.shape, *(tensor.shape or ())) for layer in fused for tensor in layer.outputs)
    assert all(tensor.dtype == "float32" for layer in layers for tensor in (*layer.inputs, *layer.outputs))
    (back,) = [layer for layer in layers if layer.reformat]
    assert (back.name, back.origins) == ("ReorderOutput", ())


def test_half_precision_is_told_as_it_is_computed(zoo: Any, backend: OnnxRuntimeBackend) -> None:
    layers, _ = inspected(backend, EngineSpec.of(zoo["mlp"], recipe("fp16")))
    assert layers[0].origins == ("x_float16", "MatMul_0", "Add_0", "Relu_0")
    assert {layer.precision for layer in layers} == {"float32"}, "the CPU's kernels round to float16 and no more"


def test_half_precision_in_the_layout_of_the_cpu(zoo: Any, backend: OnnxRuntimeBackend) -> None:
    layers, _ = inspected(backend, EngineSpec.of(zoo["conv"], recipe("fp16")))
    assert ("Conv_2",) in [layer.origins for layer in layers], "LeakyRelu is a function of its own there"
    (back,) = [layer for layer in layers if layer.reformat]
    assert [str(tensor) for tensor in back.inputs] == ["float32[2, 64, 6, 8]"]


def test_a_zoo_of_shapes_is_known_at_the_optimum(backend: OnnxRuntimeBackend) -> None:
    mlp = next(model for model in models.ZOO if model.id == "mlp")
    layers, _ = inspected(backend, EngineSpec.of(mlp, recipe("fp32")))
    batch = dict(mlp.profiles[0].ranges)["batch"].opt
    assert [layer.outputs[0].shape for layer in layers] == [(batch, 128)] * 4 + [(batch, 10)]


# What onnxruntime was not seen to do with a model of the zoo.


def traced(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> list[list[str]]:
    """Origins of ``nodes``, as if they were the graph that ``model`` was optimized to."""
    optimized = onnx.helper.make_graph(list(nodes), "g", model.graph.input, model.graph.output)
    ancestry = Ancestry(model, optimized, {"x": (2, 4)})
    return [ancestry.origins(one) for one in nodes]


@pytest.fixture
def chain() -> onnx.ModelProto:
    """A convolution, a sum, an activation."""
    return graph(
        [
            node("Conv", ["x", "w"], ["c"], name="conv"),
            node("Add", ["c", "x"], ["s"], name="sum"),
            node("Relu", ["s"], ["y"], name="relu"),
        ],
        [value("x", [1, 1, 4, 4])],
        [value("y", [1, 1, 4, 4])],
        [weight("w", np.ones((1, 1, 1, 1), np.float32))],
    )


def test_a_node_under_its_own_name_that_gives_another_tensor(chain: onnx.ModelProto) -> None:
    assert traced(chain, node("Conv", ["x", "w"], ["token"], name="conv"), node("Add", ["token", "x"], ["y"])) == [
        ["conv"],
        ["sum", "relu"],
    ]


def test_what_nothing_is_known_of_came_from_nothing(chain: onnx.ModelProto) -> None:
    assert traced(chain, node("Mystery", ["x"], ["token"], name="m"), node("Other", ["token"], ["y"], name="o")) == [
        [],
        ["conv", "sum", "relu"],
    ]


def test_a_tensor_is_told_by_who_takes_it(chain: onnx.ModelProto) -> None:
    given = node("Conv", ["x", "w"], ["token"], name="c_nchwc")
    back = node("ReorderOutput", ["token"], ["s"], name="ReorderOutput")
    assert traced(chain, given, back, node("Relu", ["s"], ["y"], name="relu")) == [["conv", "sum"], [], ["relu"]]


def test_constants_are_those_that_no_input_has_a_part_in() -> None:
    then = body([node("Identity", ["x"], ["t"])], [], [value("t")])
    made = graph(
        [
            node("Add", ["w", "w"], ["a"]),
            node("Mul", ["a", "x"], ["b"]),
            node("If", ["flag"], ["c"], then_branch=then, else_branch=then),
            node("Add", ["b", "c"], ["y"]),
        ],
        [value("x", [4])],
        [value("y", [4])],
        [weight("w", np.ones(4, np.float32)), weight("flag", np.array(True))],
    )
    assert constants(made.graph) == {"w", "flag", "a"}, "a body may take an input that is none of its node's"
